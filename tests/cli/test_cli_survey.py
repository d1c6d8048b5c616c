"""Data flow B on the command line: field to candidates, cutouts, classes beside the catalogue; and what is refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.images import Cutout, read_image, write_image
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_field
from astroclassify.survey import read_catalogue


def printed_table(text):
    """The rows that a verb has printed; below the names are units, and dashes."""
    lines = text.splitlines()
    rule = next(number for number, line in enumerate(lines) if line.startswith("---") or line.lstrip().startswith("--"))
    return QTable.read([lines[0], *lines[rule:]], format="ascii.fixed_width_two_line")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Image, exposure map and plate of a small field with many clusters."""
    folder = tmp_path_factory.mktemp("field")
    density = {"cluster": 15, "bright": 0, "arc": 0, "hot": 0}
    simulated = simulate_field(rng=4, shape=(220, 220), density=density, optical=True)
    image = simulated.field.to_ccd()
    exposure, image.exposure, image.background = image.exposure, None, None
    write_image(image, folder / "field.fits")
    write_image(simulated.plate, folder / "plate.fits")
    fits.PrimaryHDU(exposure, image.wcs.to_header()).writeto(folder / "exposure.fits")
    return folder


@pytest.fixture(scope="module")
def candidates(files):
    """Candidates of the field, from the verb."""
    arguments = ["detect", str(files / "field.fits"), "--exposure", str(files / "exposure.fits")]
    arguments += ["--regions", str(files / "found.reg"), "--out", str(files / "found.ecsv")]
    assert main(arguments) == 0
    return files / "found.ecsv"


def test_field_to_annotated_catalogue(files, candidates, tmp_path, capsys):
    found = tables.read(candidates, tables.CANDIDATES)
    assert len(found) > 5
    extended = found[np.isin(found["x_class"], ["C1", "C2"])]
    assert len(extended) > 0
    assert (files / "found.reg").read_text().startswith("# Region file format: DS9")
    cut = ["cutouts", str(candidates), "--image", str(files / "field.fits"), "--exposure", str(files / "exposure.fits")]
    cut += ["--optical", str(files / "plate.fits"), "--size", "4", "--pixels", "64", "--out", str(tmp_path / "cutouts")]
    assert main(cut) == 0
    assert f"{len(found)} cutouts in" in capsys.readouterr().err
    sample = tables.read_sample(tmp_path / "cutouts")
    assert list(sample["source_id"]) == list(found["source_id"])
    assert all(path.is_file() for path in tables.image_paths(sample))
    # The same call finds everything done; the classes then stand beside every row, in the catalogue's order.
    assert main(cut) == 0
    classify = ["classify", str(tmp_path / "cutouts"), "--model", "cluster-embedded"]
    classify += ["--annotate", str(candidates), "--out", str(tmp_path / "annotated.ecsv")]
    assert main(classify) in (0, 1)
    annotated = read_catalogue(tmp_path / "annotated.ecsv")
    assert list(annotated["source_id"]) == list(found["source_id"])
    # 4 arcmin are less than the model was made for: every row says so, none is lost.
    assert np.all(annotated["flags"] & Flag.FAILED.value) or np.isfinite(annotated["p_cluster"]).any()


def test_detect_prints_the_table_where_no_file_is_named(files, capsys):
    arguments = ["detect", str(files / "field.fits"), "--exposure", str(files / "exposure.fits")]
    assert main([*arguments, "--select", "C1"]) == 0
    out, err = capsys.readouterr()
    table = printed_table(out)
    assert table.colnames == ["source_id", "ra", "dec", "ext", "ext_like", "det_like", "counts", "x_class", "flags"]
    assert len(table) > 0 and set(table["x_class"]) == {"C1"} and max(map(len, out.splitlines())) <= 80
    assert f"sources: {len(table)} C1, 0 C2, 0 P1" in err and "--out FILE writes all" in err


@pytest.mark.slow
def test_two_cameras_are_added(files, tmp_path):
    names = [str(files / "field.fits"), str(files / "field.fits")]
    maps = [str(files / "exposure.fits"), str(files / "exposure.fits")]
    arguments = ["detect", *names, "--exposure", *maps, "--max-off-axis", "4", "--out", str(tmp_path / "both.ecsv")]
    assert main(arguments) == 0
    both = tables.read(tmp_path / "both.ecsv", tables.CANDIDATES)
    assert np.all(both["off_axis"] <= 4 * u.arcmin)


@pytest.mark.filterwarnings("always:plate not used")
def test_cutouts_of_several_fields_and_a_folder_of_plates(files, candidates, tmp_path, caplog):
    """Cameras on one grid are added, another pointing is a field of its own; a bad plate is left out, with its name."""
    image = read_image(files / "field.fits")
    image.wcs.wcs.crval = image.wcs.wcs.crval + [3.0, 0.0]
    write_image(image, tmp_path / "other.fits")
    plates = tmp_path / "plates"
    plates.mkdir()
    (plates / "plate.fits").write_bytes((files / "plate.fits").read_bytes())
    (plates / "damaged.fits").write_bytes((files / "plate.fits").read_bytes()[:9000])
    names = [str(each) for each in (files / "field.fits", tmp_path / "other.fits", files / "field.fits")]
    cut = ["cutouts", str(candidates), "--image", *names, "--size", "2", "--pixels", "32"]
    assert main([*cut, "--optical", str(plates), "--out", str(tmp_path / "out")]) == 0
    (text,) = [record.getMessage() for record in caplog.records if "plate not used" in record.getMessage()]
    assert "damaged.fits" in text and "\n" not in text
    sample, one = tables.read_sample(tmp_path / "out"), str(tmp_path / "one")
    assert not np.any(sample["flags"] & (Flag.NO_OPTICAL | Flag.FAILED).value)
    assert main(["cutouts", str(candidates), "--image", names[0], *cut[-4:], "--out", one]) == 0
    both, single = (Cutout.read(tables.image_paths(each)[0]) for each in (sample, tables.read_sample(one)))
    assert "optical" in both.bands
    assert np.allclose(both.bands["xray"].data, 2 * single.bands["xray"].data, rtol=1e-6)


def test_fields_of_two_pointings_are_refused_by_detect(files, tmp_path, capsys):
    image = read_image(files / "field.fits")
    image.wcs.wcs.crval = image.wcs.wcs.crval + [3.0, 0.0]
    write_image(image, tmp_path / "other.fits")
    assert main(["detect", str(files / "field.fits"), str(tmp_path / "other.fits")]) == 2
    assert "run detect for each field" in capsys.readouterr().err


def test_existing_files_are_not_replaced(candidates, files, capsys):
    arguments = ["detect", str(files / "field.fits"), "--out", str(candidates)]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "nothing.fits"], "nothing.fits"),
        (["detect", "{field}", "--exposure", "{field}", "{field}"], "--exposure takes one file for each of the 1"),
        (["detect", "{field}", "--exposure", "{plate}"], "field.fits: exposure"),
        (["detect", "{plate}"], "image"),
        (["cutouts", "{field}", "--image", "{field}", "--out", "cutouts"], "field.fits"),
        (["cutouts", "nothing.ecsv", "--image", "{field}", "--out", "cutouts"], "nothing.ecsv"),
        (["classify", "{field}", "--model", "coolcore-embedded", "--annotate", "nothing.ecsv"], "nothing.ecsv"),
    ],
)
def test_bad_input_ends_in_one_line(arguments, message, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [each.format(field=files / "field.fits", plate=files / "plate.fits") for each in arguments]
    assert main(arguments) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not (tmp_path / "cutouts").exists()
