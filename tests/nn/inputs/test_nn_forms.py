"""One image in every form that astronomers hold it in: one answer; and names that tell images apart."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.cosmology import units as cosmology_units
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, NDData
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from astroclassify.exceptions import AstroclassifyWarning, EmptyResultWarning, GeometryError, SchemaError
from astroclassify.images import Cutout, read_events, read_image
from astroclassify.nn import load_classifier
from astroclassify.schemes import Flag
from astroclassify.survey import annotate

Z = 0.05
Y, X = np.mgrid[:256, :256] - 127.5
COUNTS = np.random.default_rng(1).poisson(10 * (1 + (np.hypot(X, Y) / 5) ** 2) ** -1.2 + 0.05)


def sky(shape=(256, 256), ra=150.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, 2.0], [(side + 1) / 2 for side in shape[::-1]]
    wcs.wcs.cdelt = [-3.9 / 3600, 3.9 / 3600]
    return wcs


def ccd(counts=COUNTS, **meta):
    return CCDData(np.asarray(counts, dtype=float), unit=u.ct, wcs=sky(np.shape(counts)), meta=meta)


def hdu(kind=fits.PrimaryHDU, **header):
    return kind(COUNTS.astype(np.int16), fits.Header({**sky().to_header(), "BUNIT": "count", **header}))


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("coolcore")


@pytest.fixture(scope="module")
def right(classifier):
    """Probability of the image in counts with its WCS."""
    return classifier.classify(ccd(), redshift=Z)["p_CC"][0]


@pytest.fixture
def path(tmp_path):
    hdu().writeto(tmp_path / "a.fits")
    return tmp_path / "a.fits"


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "u2", ">i4", "u4", "i8", "u8", "f2", ">f8"])
def test_counts_of_every_number_type(classifier, right, dtype):
    image = CCDData(COUNTS.astype(dtype), unit=u.ct, wcs=sky())
    assert classifier.classify(image, redshift=Z)["p_CC"][0] == pytest.approx(right, abs=1e-6)
    assert classifier.predict_proba([CCDData(COUNTS.astype(dtype), unit=u.ct, wcs=sky(), meta={"REDSHIFT": Z})])[
        0, 0
    ] == pytest.approx(right, abs=1e-6)
    assert classifier.activation_map(image, "CC", redshift=Z).meta["PROB"] == pytest.approx(right, abs=1e-6)


FORMS = {
    "NDData": lambda path: NDData(COUNTS, unit=u.ct, wcs=sky()),
    "Cutout2D": lambda path: Cutout2D(COUNTS, (127.5, 127.5), (256, 256), wcs=sky()),
    "Cutout2D of Quantity": lambda path: Cutout2D(COUNTS * u.ct, (127.5, 127.5), (256, 256), wcs=sky()),
    "Cutout": lambda path: Cutout("a", {"xray": ccd()}),
    "PrimaryHDU": lambda path: hdu(),
    "ImageHDU": lambda path: hdu(fits.ImageHDU),
    "CompImageHDU": lambda path: hdu(fits.CompImageHDU),
    "HDUList": lambda path: fits.HDUList([fits.PrimaryHDU(), hdu(fits.ImageHDU)]),
    "HDUList of a file": lambda path: fits.open(path, memmap=False),
    "path": lambda path: path,
    "text": str,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_image(classifier, right, form, path):
    value = FORMS[form](path)
    row = classifier.classify(value, redshift=Z)[0]
    assert row["p_CC"] == pytest.approx(right, abs=1e-6)
    assert bool(row["flags"] & Flag.NO_UNIT) == (form == "Cutout2D")
    table = classifier.classify([value, value], redshift=Z)
    assert table["p_CC"].tolist() == [row["p_CC"]] * 2 and len(set(table["source_id"])) == 2
    assert classifier.activation_map(value, "CC", redshift=Z).meta["PROB"] == pytest.approx(right, abs=1e-6)
    if isinstance(value, fits.HDUList):
        value.close()


ARRAYS = {
    "array": COUNTS,
    "Quantity": COUNTS * u.ct,
    "photons": COUNTS * u.photon,
    "Masked": Masked(COUNTS * u.ct, mask=False),
    "numpy mask": np.ma.array(COUNTS, mask=COUNTS < 0),
    "big endian": COUNTS.astype(">i4"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_with_a_pixel_scale(classifier, right, name):
    row = classifier.classify(ARRAYS[name], redshift=Z, pixel_scale=3.9 * u.arcsec)[0]
    assert row["p_CC"] == pytest.approx(right, abs=1e-6)
    assert bool(row["flags"] & Flag.NO_UNIT) == (getattr(ARRAYS[name], "unit", None) is None)


def test_what_a_pixel_scale_means(classifier, right):
    """The same as a WCS with pixels of that size; per pixel or not, in any unit of angles."""
    for scale in (3.9 / 3600 * u.deg, 3.9 * u.arcsec / u.pix):
        assert classifier.classify(COUNTS, redshift=Z, pixel_scale=scale)["p_CC"][0] == pytest.approx(right, abs=1e-6)
    wide = ccd(np.pad(COUNTS, 40))
    same = classifier.classify(wide, redshift=0.1)["p_CC"][0]
    assert classifier.classify(wide.data, redshift=0.1, pixel_scale=3.9 * u.arcsec)["p_CC"][0] == pytest.approx(same)
    stack = classifier.classify(np.stack([COUNTS] * 2), redshift=[Z, 0.1], pixel_scale=3.9 * u.arcsec)
    assert stack["p_CC"][0] == pytest.approx(right, abs=1e-6) and stack["p_CC"][1] != stack["p_CC"][0]
    mixed = classifier.classify([ccd(), COUNTS], redshift=Z, pixel_scale=3.9 * u.arcsec)
    assert mixed["p_CC"].tolist() == pytest.approx([right] * 2, abs=1e-6)
    on_grid = classifier.classify(COUNTS)
    assert len(on_grid) == 1 and on_grid["p_CC"][0] == classifier.classify(COUNTS[None])["p_CC"][0]
    result = classifier.activation_map(COUNTS, "CC", redshift=Z, pixel_scale=3.9 * u.arcsec)
    assert result.meta["PROB"] == pytest.approx(right, abs=1e-6) and result.wcs is None


@pytest.mark.parametrize(
    ("images", "settings", "error", "text"),
    [
        (np.ones((100, 100)), {}, GeometryError, "say pixel_scale"),
        (np.ones((2, 100, 100)), {}, GeometryError, "say pixel_scale"),
        (COUNTS, {"pixel_scale": 4}, TypeError, "pixel_scale must be a Quantity"),
        (COUNTS, {"pixel_scale": 4 * u.kpc}, ValueError, "pixel_scale must have a unit like deg"),
        (COUNTS, {"pixel_scale": -4 * u.arcsec}, ValueError, "pixel_scale must be larger than zero"),
        (ccd(), {"pixel_scale": 4 * u.arcsec}, GeometryError, "pixel_scale is for arrays"),
        (COUNTS, {"pixel_scale": 4 * u.arcsec, "centre": SkyCoord("10d 10d")}, GeometryError, "centre is for images"),
        (COUNTS * u.erg, {"pixel_scale": 4 * u.arcsec}, GeometryError, "must be in counts"),
        (COUNTS.astype(complex), {"pixel_scale": 4 * u.arcsec}, GeometryError, "array of numbers"),
        (NDData(COUNTS[None], wcs=None), {}, GeometryError, "two-dimensional"),
        (Cutout2D(COUNTS, (9, 9), 9), {}, GeometryError, "celestial WCS"),
        (fits.HDUList([fits.PrimaryHDU()]), {}, GeometryError, "no two-dimensional image"),
        (fits.BinTableHDU(), {}, TypeError, "images must be a path"),
        ({"a": 1}, {}, TypeError, "got dict"),
        ([ccd(), None], {}, TypeError, "got NoneType in it"),
        (ccd(), {"redshift": "near"}, ValueError, "redshift must be numbers"),
        ([ccd()], {"centre": SkyCoord([1, 2] * u.deg, [1, 2] * u.deg)}, ValueError, "centre must be one position or"),
    ],
)
def test_what_cannot_be_used_is_named(classifier, images, settings, error, text):
    with pytest.raises(error, match=text):
        classifier.classify(images, **{"redshift": Z, **settings})


def test_one_of_a_list_that_cannot_be_used_keeps_its_row(classifier, right):
    bad = [Cutout2D(COUNTS, (9, 9), 9), fits.HDUList([fits.PrimaryHDU()]), np.ones((9, 9)), NDData(COUNTS[None])]
    table = classifier.classify([ccd(), *bad], redshift=Z)
    assert table["p_CC"][0] == pytest.approx(right, abs=1e-6) and np.all(table["message"][1:] != "")
    assert (table["flags"] & Flag.FAILED != 0).tolist() == [False, True, True, True, True]


def test_iterators_and_arrays_of_paths(classifier, right, tmp_path):
    for name in ("b", "a"):
        hdu().writeto(tmp_path / f"{name}.fits")
    paths = [tmp_path / "a.fits", tmp_path / "b.fits"]
    names = [str(path) for path in paths]
    for images in (
        sorted(tmp_path.glob("*.fits")), iter(paths), (path for path in paths), map(read_image, paths),
        np.array(names), np.array(paths, dtype=object), Column(names), tmp_path, Table({"path": names}),
    ):  # fmt: skip
        table = classifier.classify(images, redshift=Z)
        assert table["p_CC"].tolist() == pytest.approx([right] * 2, abs=1e-6)
    assert sorted(classifier.classify(tmp_path.glob("*.fits"), redshift=Z)["source_id"]) == ["a", "b"]
    assert classifier.predict_proba(ccd(COUNTS, REDSHIFT=Z) for _ in range(2))[:, 0] == pytest.approx([right] * 2)
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "below").mkdir()
    hdu().writeto(tmp_path / "above" / "below" / "c.fits")
    with pytest.warns(EmptyResultWarning, match="folders in it are not searched"):
        assert len(classifier.classify(tmp_path / "above")) == 0


REDSHIFTS = {
    "floats": Column([Z, 0.1, np.nan]),
    "float32": Column(np.float32([Z, 0.1, np.nan])),
    "masked": MaskedColumn([Z, 0.1, 9.0], mask=[False, False, True]),
    "Quantity": [Z, 0.1, np.nan] * cosmology_units.redshift,
    "percent": [100 * Z, 10, np.nan] * u.percent,
    "Masked": Masked([Z, 0.1, 9.0] * u.one, mask=[False, False, True]),
}


@pytest.mark.parametrize("name", REDSHIFTS)
@pytest.mark.parametrize("kind", [Table, QTable])
def test_table_of_paths_and_redshifts(classifier, right, path, name, kind):
    other = path.with_name("b.fits")
    hdu(REDSHIFT=Z).writeto(other)
    table = kind({"path": [path, path, other], "redshift": REDSHIFTS[name], "source_id": ["A 1", "A 2", "A 3"]})
    found = classifier.classify(table)
    assert found["source_id"].tolist() == ["A 1", "A 2", "A 3"] and np.all(found["message"] == "")
    far = classifier.classify(path, redshift=0.1)["p_CC"][0]
    assert found["p_CC"].tolist() == pytest.approx([right, far, right], abs=1e-6)
    # What the call says goes first.
    assert classifier.classify(table, redshift=Z)["p_CC"].tolist() == pytest.approx([right] * 3, abs=1e-6)


POSITIONS = {
    "SkyCoord": lambda ra, dec: {"sky_position": SkyCoord(ra, dec)},
    "galactic": lambda ra, dec: {"sky_position": SkyCoord(ra, dec).galactic},
    "FK4": lambda ra, dec: {"sky_position": SkyCoord(ra, dec).transform_to("fk4")},
    "deg": lambda ra, dec: {"ra": ra, "dec": dec},
    "radian": lambda ra, dec: {"ra": ra.to(u.rad), "dec": dec.to(u.rad)},
    "hourangle": lambda ra, dec: {"ra": ra.to(u.hourangle), "dec": dec.to(u.arcmin)},
    "no unit": lambda ra, dec: {"ra": ra.value, "dec": dec.value},
    "masked": lambda ra, dec: {"ra": Masked(np.nan_to_num(ra, nan=9 * u.deg), np.isnan(ra)), "dec": dec},
}


@pytest.mark.parametrize("name", POSITIONS)
def test_table_with_positions(classifier, path, name):
    """A row without a position is centred on its image."""
    ra, dec = [150.01, 150.0, np.nan] * u.deg, [2.01, 2.0, np.nan] * u.deg
    table = QTable({"path": [str(path)] * 3, **POSITIONS[name](ra, dec)})
    found = classifier.classify(table, redshift=Z)["p_CC"]
    there = classifier.classify(path, redshift=Z, centre=SkyCoord(ra[0], dec[0]))["p_CC"][0]
    middle = classifier.classify(path, redshift=Z)["p_CC"][0]
    assert found.tolist() == pytest.approx([there, middle, middle], abs=2e-5) and abs(there - middle) > 1e-3
    each = SkyCoord(ra, dec)
    assert classifier.classify([path] * 3, redshift=Z, centre=each)["p_CC"] == pytest.approx(found, abs=2e-5)


def test_tables_that_cannot_be_used(classifier, path):
    for columns, text in (
        ({"file": ["a"]}, "column path"),
        ({"path": ["a"], "sky_position": ["here"]}, "column of SkyCoord"),
        ({"path": ["a"], "ra": ["10h"], "dec": ["1d"]}, "column of angles"),
        ({"path": ["a"], "ra": [1] * u.kpc, "dec": [1] * u.deg}, "column of angles"),
        ({"path": ["a"], "ra": [1.0], "dec": [100.0]}, "dec must lie"),
    ):
        with pytest.raises(SchemaError, match=text):
            classifier.classify(Table(columns))
    with pytest.raises(SchemaError, match="table's EQUINOX is '1950.0'"):
        classifier.classify(Table({"path": ["a"], "ra": [1.0], "dec": [1.0]}, meta={"EQUINOX": 1950.0}))
    with pytest.raises(ValueError, match="redshift must have no unit, got km / s"):
        classifier.classify(QTable({"path": ["a"], "redshift": [100] * u.km / u.s}))
    rows = Table({"path": MaskedColumn([str(path), "--", "none.fits"], mask=[False, True, False])})
    messages = classifier.classify(rows, redshift=Z)["message"].tolist()
    assert messages[0] == "" and "names no file" in messages[1] and "none.fits" in messages[2]


def test_paths_of_a_table_are_relative_to_its_folder(classifier, right, path, monkeypatch):
    table = Table({"path": [path.name]}, meta={"folder": str(path.parent)})
    assert classifier.classify(table, redshift=Z)["p_CC"][0] == pytest.approx(right, abs=1e-6)
    monkeypatch.chdir(path.parent)
    assert classifier.classify(Table({"path": [path.name]}), redshift=Z)["p_CC"][0] == pytest.approx(right, abs=1e-6)


def test_redshifts_by_name(classifier, right, path):
    other = path.with_name("b.fits")
    hdu(REDSHIFT=Z).writeto(other)
    with pytest.warns(AstroclassifyWarning, match="for 1 of 2 images .e.g. 'b'."):
        found = classifier.classify([path, other], redshift={"a": Z, "c": 0.2})
    assert found["p_CC"].tolist() == pytest.approx([right] * 2, abs=1e-6)
    with pytest.raises(ValueError, match="for none of the 2 images, whose source_id are such as 'a'"):
        classifier.classify([path, other], redshift={"A": Z})


def test_names_that_are_different_stay(classifier, tmp_path):
    values = ["x/abell.fits", "y/field.img.gz", ccd(), ccd(OBJECT=" A 1 "), Cutout("c", {"xray": ccd()})]
    table = classifier.classify(values, redshift=Z)
    assert table["source_id"].tolist() == ["abell", "field", "image-0003", "A 1", "c"]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["1/b.img", "2/b.img", "c.img"], ["1/b", "2/b", "c"]),
        (["1/o/b.img", "2/o/b.img"], ["1/o/b", "2/o/b"]),
        (["1/b.img", "1/b.fits"], ["b.img", "b.fits"]),
        (["1/b.img", "1/b.fits", "2/b.img"], ["1/b.img", "1/b.fits", "2/b.img"]),
        (["1/b.img", "1/b.img"], ["b", "b (2)"]),
        (["b.img", Path("b.img"), "b (2).img"], ["b", "b (3)", "b (2)"]),
        ([ccd(OBJECT="A 1"), ccd(OBJECT="A 1"), ccd(OBJECT="A 1 (2)")], ["A 1", "A 1 (3)", "A 1 (2)"]),
        ([ccd(HALO_ID=5, AXIS=axis) for axis in "xyz"], ["5 x", "5 y", "5 z"]),
        ([ccd(HALO_ID=5, AXIS="x")], ["5"]),
        ([Cutout("a", {"xray": ccd()})] * 2, ["a", "a (2)"]),
        ([hdu(OBJECT="A 1"), ccd(OBJECT="A 1")], ["A 1", "A 1 (2)"]),
    ],
)
def test_names_that_are_the_same_are_told_apart(classifier, values, names):
    table = classifier.classify(values, redshift=Z)
    got = table["source_id"].tolist()
    assert got == names
    assert len(annotate(QTable({"source_id": table["source_id"]}), table)) == len(values)


def test_images_of_one_object_stay_in_one_group():
    from astroclassify.nn.inputs._items import as_items

    rule = {"bands": ("xray",), "shape": (256, 256)}
    items, _ = as_items([ccd(HALO_ID=5, AXIS=axis) for axis in "xy"], **rule)
    assert [item.group_id for item in items] == ["5", "5"]


def test_event_lists_are_classified_in_the_band_of_the_model(classifier, tmp_path):
    y, x = np.nonzero(COUNTS)
    x, y = (np.repeat(values, COUNTS[y, x]) for values in (x, y))
    energy = np.random.default_rng(2).uniform(300, 9000, x.size)  # eV; a fifth lies outside 0.5 to 7 keV
    columns = [fits.Column("x", "D", array=x + 1.0), fits.Column("y", "D", array=y + 1.0),
               fits.Column("energy", "D", unit="eV", array=energy)]  # fmt: skip
    events = fits.BinTableHDU.from_columns(columns, name="EVENTS")
    header = sky().to_header()
    for axis in (1, 2):
        names = {"TCTYP": "CTYPE", "TCRVL": "CRVAL", "TCRPX": "CRPIX", "TCDLT": "CDELT"}
        events.header.update({f"{own}{axis}": header[f"{key}{axis}"] for own, key in names.items()})
        events.header.update({f"TLMIN{axis}": 0.5, f"TLMAX{axis}": 256.5})
    events.header.update(TELESCOP="CHANDRA", INSTRUME="ACIS", DETNAM="ACIS-0123", EXPOSURE=1e5)
    events.writeto(tmp_path / "events_evt2.evt")
    table = classifier.classify(tmp_path, redshift=Z)
    whole, band = (read_events(tmp_path / "events_evt2.evt", energy=each) for each in (None, [0.5, 7] * u.keV))
    right, of_all = (classifier.classify(image, redshift=Z)["p_CC"][0] for image in (band, whole))
    assert table["source_id"][0] == "events_evt2"
    assert table["p_CC"][0] == pytest.approx(right, abs=1e-6) and abs(right - of_all) > 1e-4
    assert not Flag(int(table["flags"][0])) & (Flag.OTHER_BAND | Flag.OTHER_INSTRUMENT | Flag.FAILED)


def test_what_is_no_file_is_a_failed_row(classifier, tmp_path, path):
    os.mkfifo(tmp_path / "pipe.fits")
    table = classifier.classify([tmp_path / "pipe.fits", path, "/dev/zero"], redshift=Z)
    assert (table["flags"] & Flag.FAILED != 0).tolist() == [True, False, True]
    assert "is a FIFO" in table["message"][0] and "is a device" in table["message"][2]
