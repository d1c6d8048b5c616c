"""Data flow B on the command line: field to candidates, cutouts, classes beside the catalogue; and what is refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.images import Cutout, Geometry, read_image, write_image
from astroclassify.nn import CutoutClassifier
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


def other_pointing(files, path):
    """The same field, three degrees away."""
    image = read_image(files / "field.fits")
    image.wcs.wcs.crval = image.wcs.wcs.crval + [3.0, 0.0]
    image.meta["RA_PNT"] += 3.0
    write_image(image, path)


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
    classify = ["classify", str(tmp_path / "cutouts"), "--model", "cluster-xmm", "--binary"]
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
    assert f"{len(table)} of them are C1" in err and "columns; files have all" in err


HEADER = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 32.5, "CRPIX2": 32.5, "CRVAL1": 150.0, "CRVAL2": 2.0,
          "CDELT1": -4 / 3600, "CDELT2": 4 / 3600}  # fmt: skip
EPN = {"TELESCOP": "XMM", "INSTRUME": "EPN"}


def point_counts(seed=1):
    """Counts of a bright point on a faint background, shape (64, 64)."""
    y, x = np.mgrid[:64, :64]
    expected = 0.05 + 30 * np.exp(-((x - 31) ** 2 + (y - 31) ** 2) / (2 * 1.5**2))
    return np.random.default_rng(seed).poisson(expected).astype(np.int16)


def write_point(path, **header):
    """The same as a file; instrument, band and so on as the header says."""
    header = fits.Header({**HEADER, "BUNIT": "count", "EXPOSURE": 1e4, **header})
    fits.PrimaryHDU(point_counts(), header).writeto(path)
    return str(path)


def write_list(path, energies):
    """The same as an event list of Chandra, an event of each energy [keV] for each count."""
    counts = np.tile(point_counts().ravel(), len(energies))
    y, x = (np.repeat(np.tile(place.ravel() + 1.0, len(energies)), counts) for place in np.mgrid[:64, :64])
    energy = np.repeat(energies, len(x) // len(energies)) * 1e3
    columns = [fits.Column("X", "E", array=x), fits.Column("Y", "E", array=y)]
    table = fits.BinTableHDU.from_columns(
        [*columns, fits.Column("ENERGY", "E", unit="eV", array=energy)], name="EVENTS"
    )
    for n in (1, 2):
        words = {"TCTYP": f"CTYPE{n}", "TCRVL": f"CRVAL{n}", "TCRPX": f"CRPIX{n}", "TCDLT": f"CDELT{n}"}
        table.header.update({f"{key}{n}": HEADER[name] for key, name in words.items()})
        table.header.update({f"TLMIN{n}": 0.5, f"TLMAX{n}": 64.5})
    table.header.update({"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "EXPOSURE": 1e4})
    table.writeto(path)
    return str(path)


@pytest.mark.parametrize("psf", ["EPN:1.5keV", "epn", "15arcsec", "psf.fits"])
def test_psf_is_that_of_an_instrument_a_width_or_an_image(psf, tmp_path, monkeypatch):
    """The image names no instrument, so without --psf it is refused; the point fits each of these."""
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[-20:21, -20:21]
    fits.PrimaryHDU(np.exp(-(x**2 + y**2) / (2 * 1.5**2)), fits.Header(HEADER)).writeto("psf.fits")
    detect = ["detect", write_point("point.fits"), "--out", "found.ecsv"]
    assert main(detect) == 2
    assert main([*detect, "--psf", psf]) == 0
    found = tables.read("found.ecsv", tables.CANDIDATES)
    assert found["det_like"][0] > 100 and found["counts"][0].value == pytest.approx(30 * 2 * np.pi * 1.5**2, rel=0.5)


def test_an_image_of_no_known_instrument_is_told_what_to_give(tmp_path, capsys):
    assert main(["detect", write_point(tmp_path / "point.fits", TELESCOP="HUBBLE")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "TELESCOP HUBBLE" in line and "--psf" in line and "EPN:1.5keV" in line and "15arcsec" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--psf", "nothing.fits"], "'nothing.fits' is none of them, and no file"),
        (["--psf", "OM:1keV"], "instrument must be one of"),
        (["--psf", "EPN:99"], "energy must lie between 0.1 and 10 keV"),
        (["--psf", "15keV"], "--psf 15keV: fwhm must have a unit like arcsec"),
        (["--psf", "EPN", "--psf", "EPN"], "--psf goes once for all images or once for each of the 1, got 2"),
        (["--energy", "2", "0.5"], "--energy must be two energies in keV that rise"),
        (["--energy", "0.5", "2"], "the image holds 0.5 to 12 keV"),
        (["--plot", "picture.txt"], "--plot 'picture.txt' must end as one of"),
        (["--plot", "nowhere/picture.png"], "there is no folder 'nowhere'"),
        (["--plot", "point.fits"], "exists already"),
        (["--plot", "a.png", "--regions", "a.png"], "must be different files"),
    ],
)
def test_wrong_options_of_detect_end_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main(["detect", write_point("point.fits", **EPN, E_MIN=0.5, E_MAX=12.0), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["point.fits"]


@pytest.mark.parametrize("text", ["0", "-3", "nan", "wide"])
def test_off_axis_angles_that_are_none_are_refused(text, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["detect", "point.fits", f"--max-off-axis={text}"])
    assert "must be an angle in arcmin above zero, or none" in capsys.readouterr().err


@pytest.mark.filterwarnings("always:none of the:astroclassify.exceptions.EmptyResultWarning")
def test_largest_off_axis_angle_is_that_of_the_instrument(tmp_path, capsys, caplog):
    """The axis lies 14 arcmin from the source: beyond what surveys use of EPIC."""
    image = write_point(tmp_path / "point.fits", **EPN, RA_PNT=150.0, DEC_PNT=2.0 + 14 / 60)
    assert main(["detect", image]) == 0
    assert "lies within 13.0 arcmin" in caplog.text
    err = capsys.readouterr().err
    assert "within 13 arcmin of the optical axis, the default for EPN" in err and "0 candidates: 0 C1" in err
    assert main(["detect", image, "--max-off-axis", "none"]) == 0
    assert len(printed_table(capsys.readouterr().out)) > 0


def test_event_lists_are_read_in_a_band(tmp_path, capsys):
    events, counts = write_list(tmp_path / "events.fits", (1.0, 5.0)), point_counts().sum()
    for band, factor in ((["--energy", "0.5", "2"], 1), ([], 2)):
        assert main(["detect", events, *band]) == 0
        assert f"{factor * counts} counts in 10 ks" in capsys.readouterr().err


def test_several_classes_regions_and_picture(files, tmp_path, capsys, caplog):
    pytest.importorskip("matplotlib")
    picture, regions, table = (tmp_path / name for name in ("field.png", "field.reg", "field.ecsv"))
    detect = ["detect", str(files / "field.fits"), "--exposure", str(files / "exposure.fits"), "--out", str(table)]
    assert main([*detect, "--select", "C1", "--select", "P1", "--plot", str(picture), "--regions", str(regions)]) == 0
    found = tables.read(table, tables.CANDIDATES)
    assert set(found["x_class"]) == {"C1", "P1"}
    assert sum(line.startswith("circle") for line in regions.read_text().splitlines()) == len(found)
    assert picture.read_bytes().startswith(b"\x89PNG")
    err = capsys.readouterr().err
    assert f"{len(found)} of them are C1 or P1" in err and "flags: masked, no_background" in err
    assert "search: " in caplog.text


def test_a_model_of_two_bands_is_refused_before_work_on_cutouts_of_one(candidates, files, tmp_path, capsys):
    pytest.importorskip("torch")
    images, labels = np.random.default_rng(1).poisson(2.0, (8, 2, 32, 32)), ["cluster", "other"] * 4
    model = CutoutClassifier("kosiba2020", scheme="cluster", bands=("xray", "optical"), n_filters=2, epochs=1,
                             geometry=Geometry(4 * u.arcmin, (32, 32)), random_state=1)  # fmt: skip
    model.fit(images, labels).save(tmp_path / "model")
    one, both = str(tmp_path / "one"), str(tmp_path / "both")
    cut = ["cutouts", str(candidates), "--image", str(files / "field.fits"), "--select", "C1", "--out"]
    assert main([*cut, one]) == 0 and main([*cut, both, "--optical", str(files / "plate.fits")]) == 0
    capsys.readouterr()
    classify = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "classes.ecsv")]
    for images in ([one], [str(path) for path in sorted((tmp_path / "one").glob("**/*.fits"))]):
        assert main(["classify", *images, *classify]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "needs xray and optical, here is xray only" in line and "--hips" in line
    assert not list(tmp_path.glob("classes*"))
    # One with both bands among them: the rows of the others fail, and say why.
    images = [str(path) for folder in ("one", "both") for path in sorted((tmp_path / folder).glob("**/*.fits"))]
    assert main(["classify", *images, *classify]) == 1


@pytest.mark.real_data
@pytest.mark.filterwarnings("always:.*exceeds the good time")
def test_a_real_event_list(shared_data, tmp_path, capsys, caplog):
    pytest.importorskip("matplotlib")
    events = str(shared_data / "events" / "chandra_aciss_10027_m82_evt2.fits")
    arguments = ["--energy", "0.5", "7", "--out", str(tmp_path / "m82.ecsv"), "--plot", str(tmp_path / "m82.png")]
    assert main(["detect", events, *arguments]) == 0
    assert "exceeds the good time" in caplog.text
    assert "ACIS, 0.5 to 7 keV" in capsys.readouterr().err
    brightest = tables.read(tmp_path / "m82.ecsv", tables.CANDIDATES)[0]
    assert brightest["sky_position"].separation(SkyCoord("09h55m50.2s +69d40m47s")) < 2 * u.arcsec


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
    other_pointing(files, tmp_path / "other.fits")
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
    # Samples on disk are in steps of a thousandth of a count.
    assert np.allclose(both.bands["xray"].data, 2 * single.bands["xray"].data, rtol=1e-6, atol=0.003)


def test_fields_of_two_pointings_are_refused_by_detect(files, tmp_path, capsys):
    other_pointing(files, tmp_path / "other.fits")
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
        (["classify", "{field}", "--model", "coolcore", "--annotate", "nothing.ecsv"], "nothing.ecsv"),
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
