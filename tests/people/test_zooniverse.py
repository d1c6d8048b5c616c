"""Subjects for Zooniverse: pictures and manifest, and back through an export."""

import csv
import json

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

from astroclassify import tables
from astroclassify.exceptions import OutputError, SchemaError
from astroclassify.images import Cutout
from astroclassify.people import export_subjects, read_votes
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_candidates

Image = pytest.importorskip("PIL.Image")


def blob(name="s", *, optical=True, shape=(60, 80)):
    """A bright spot right of and above the middle of a faint field, on both bands."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [40.5, 30.5]
    wcs.wcs.cdelt = [-5 / 3600, 5 / 3600]
    y, x = np.mgrid[: shape[0], : shape[1]]
    counts = np.random.default_rng(1).poisson(0.3 + 30 * np.exp(-((x - 60) ** 2 + (y - 45) ** 2) / 18))
    bands = {"xray": CCDData(counts.astype(float), unit=u.ct, wcs=wcs)}
    if optical:
        plate = 100 + 50 * np.exp(-((x - 20) ** 2 + (y - 10) ** 2) / 8)
        bands["optical"] = CCDData(plate, unit=u.adu, wcs=wcs)
    return Cutout(name, bands)


def test_four_pictures_and_the_manifest(tmp_path):
    table = export_subjects([blob("a"), blob("b+1.x", optical=False)], tmp_path / "up", progress=False)
    assert table["flags"].tolist() == [0, Flag.NO_OPTICAL.value] and table["message"].tolist() == ["", ""]
    with open(tmp_path / "up" / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_1", "image_2", "image_3", "image_4", "#source_id", "#ra", "#dec"]
    assert [row["#source_id"] for row in rows] == ["a", "b+1.x"]
    assert np.isclose(float(rows[0]["#ra"]), 150, atol=1e-5) and np.isclose(float(rows[0]["#dec"]), 2, atol=1e-5)
    for row in rows:
        for number in range(1, 5):
            path = tmp_path / "up" / row[f"image_{number}"]
            with Image.open(path) as picture:
                assert picture.size == (640, 480) and picture.mode == "RGB"
            assert path.stat().st_size < 1_000_000  # what Zooniverse takes
    assert sorted(path.name for path in (tmp_path / "up").iterdir()) == sorted(
        ["manifest.csv", *(row[f"image_{k}"] for row in rows for k in range(1, 5))]
    )
    with pytest.raises(OutputError, match="exists already"):
        export_subjects([blob("a")], tmp_path / "up", progress=False)
    export_subjects([blob("a")], tmp_path / "up", overwrite=True, progress=False)


def brightest(picture):
    """Mean place of the brightest pixels."""
    light = picture.sum(axis=2)
    return np.mean(np.nonzero(light == light.max()), axis=1)


def test_pictures_show_what_is_there(tmp_path):
    export_subjects([blob()], tmp_path, progress=False)
    kinds = ("xray", "xray_contours", "optical", "optical_contours")
    pictures = {kind: np.asarray(Image.open(tmp_path / f"s_{kind}.png")).astype(int) for kind in kinds}
    y, x = brightest(pictures["xray"])
    assert abs(x - 8 * 60.5) < 16 and abs(y - (480 - 8 * 45.5)) < 16  # up in the image is up in the picture
    y, x = brightest(pictures["optical"])
    assert abs(x - 8 * 20.5) < 16 and abs(y - (480 - 8 * 10.5)) < 16
    drawn = np.any(pictures["xray_contours"] != pictures["xray"], axis=2)
    same = np.any(pictures["optical_contours"] != pictures["optical"], axis=2)
    assert drawn.any() and np.array_equal(drawn, same)
    rows, columns = np.nonzero(drawn)
    # Contours lie around the source, on both sides of it, and nowhere in the noise far away.
    assert columns.min() < 8 * 60 < columns.max() and np.hypot(columns - 484, rows - 116).max() < 120


@pytest.mark.parametrize("counts", [0.0, 3.0])
def test_flat_images_are_drawn(counts, tmp_path):
    flat = CCDData(np.full((40, 40), counts), unit=u.ct, mask=np.eye(40, dtype=bool))
    cutout = Cutout("s", {"xray": flat, "optical": CCDData(np.full((40, 40), counts), unit=u.adu)})
    table = export_subjects([cutout], tmp_path / "up", progress=False)
    assert table["flags"].tolist() == [Flag.NO_OPTICAL.value]
    assert np.asarray(Image.open(tmp_path / "up" / table["image_1"][0])).shape == (680, 680, 3)
    assert np.ptp(np.asarray(Image.open(tmp_path / "up" / table["image_3"][0]))) == 0


def test_from_a_sample_to_votes(tmp_path):
    sample = simulate_candidates(5, rng=1, shape=(64, 64), out=tmp_path / "sample", progress=False)
    (tmp_path / "sample" / str(sample["path"][2])).write_bytes(b"no image")
    table = export_subjects(tables.read_sample(tmp_path / "sample"), tmp_path / "up", progress=False)
    assert table["source_id"].tolist() == sample["source_id"].tolist()
    assert (table["flags"] == Flag.FAILED.value).tolist() == [False, False, True, False, False]
    assert "GeometryError" in table["message"][2] and table["image_1"][2] == ""
    with open(tmp_path / "up" / "manifest.csv", newline="", encoding="utf-8") as file:
        manifest = list(csv.DictReader(file))
    assert len(manifest) == 4 and not any(label in str(manifest) for label in ("low_z", "high_z", "galaxy"))
    # Zooniverse gives each subject a number and puts the manifest's line into the export.
    header = ["user_name", "annotations", "subject_data", "subject_ids"]
    lines = [
        ["ann", json.dumps([{"task": "T0", "value": "No"}]), json.dumps({str(k): {"retired": None, **row}}), str(k)]
        for k, row in enumerate(manifest, 100)
    ]
    with open(tmp_path / "export.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])
    votes, report = read_votes(tmp_path / "export.csv")
    assert votes["source_id"].tolist() == [row["#source_id"] for row in manifest] and len(report) == 0


def test_bad_input(tmp_path):
    table = export_subjects([blob("../evil"), blob("fine")], tmp_path / "up", progress=False)
    assert "source_id must be letters" in table["message"][0] and table["image_1"][1] == "fine_xray.png"
    assert [path.name for path in tmp_path.iterdir()] == ["up"]
    with pytest.raises(SchemaError, match="one row per source_id"):
        export_subjects([blob("a"), blob("a")], tmp_path / "two", progress=False)
    with pytest.raises(SchemaError, match="sample must be the table of a sample folder or a sequence of Cutout"):
        export_subjects(["a"], tmp_path / "two", progress=False)
    with pytest.raises(SchemaError, match="no meta\\['folder'\\]"):
        export_subjects(QTable({"source_id": ["a"]}), tmp_path / "two", progress=False)
    assert len(export_subjects([], tmp_path / "none", progress=False)) == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="out: cannot make the folder"):
        export_subjects([blob()], tmp_path / "file", progress=False)
