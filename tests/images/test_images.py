"""Reading, cutting, resampling and measuring images."""

import pickle
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reproject import reproject_exact

from astroclassify import images
from astroclassify.exceptions import GeometryError, ImageWarning, OutputError
from astroclassify.images import (
    DEFAULT_COSMOLOGY,
    Cutout,
    Geometry,
    as_image,
    concentration,
    cut,
    pixel_scale,
    read_image,
    standardise,
    write_image,
)
from astroclassify.schemes import Flag, flag_names

COMA = SkyCoord(194.9 * u.deg, 27.95 * u.deg)
MODEL = Geometry(1 * u.Mpc, (256, 256))
SMALL = Geometry(1 * u.Mpc, (64, 64))


def tan_wcs(shape, scale, *, angle=0.0, offset=(0.0, 0.0), centre=COMA):
    """TAN projection with ``centre`` in the middle of the image, but for an offset in pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [centre.ra.deg, centre.dec.deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2 + offset[0], (shape[0] + 1) / 2 + offset[1]]
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * scale / 3600
    return wcs


def blob(shape=(200, 200), scale=4.0, *, sigma=60.0, shift=(0.0, 0.0), angle=0.0, offset=(0.0, 0.0), peak=40.0, **meta):
    """Gaussian of ``sigma`` arcsec at ``shift`` arcsec from the middle, not noisy, in counts."""
    y, x = np.indices(shape, dtype=float)
    x0 = (shape[1] - 1) / 2 + shift[0] / scale
    y0 = (shape[0] - 1) / 2 + shift[1] / scale
    data = peak * (scale / 4) ** 2 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) * scale**2 / (2 * sigma**2))
    wcs = tan_wcs(shape, scale, angle=angle, offset=offset)
    return CCDData(data, unit=u.ct, wcs=wcs, meta={"EXPOSURE": 1e4, **meta})


def flags_of(image):
    return set(flag_names(image.meta.get("FLAGS", 0)))


def exact(image, target, shape):
    """Counts on another grid by an independent program: counts per solid angle, exact overlap on the sphere."""
    area = (pixel_scale(image).to_value(u.deg) ** 2) / np.abs(np.linalg.det(target.pixel_scale_matrix))
    density, covered = reproject_exact((image.data / area, image.wcs), target, shape_out=shape)
    return np.nan_to_num(density) * covered, covered


# Reading


def header_of(shape=(20, 30), **more):
    header = tan_wcs(shape, 4.0).to_header()
    header.update(more)
    return header


def test_read_big_endian_integers_without_unit_and_with_radecsys(tmp_path):
    data = np.arange(600).reshape(20, 30)
    header = header_of(RADECSYS="FK5", EQUINOX=2000.0, TELESCOP="VLT", EXPOSURE=2e4)
    header.remove("RADESYS", ignore_missing=True)
    fits.PrimaryHDU(data.astype(">i4"), header).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.data.dtype == np.float64 and image.data.dtype.isnative and image.unit == u.ct and image.mask is None
    np.testing.assert_array_equal(image.data, data)
    assert flags_of(image) == {"no_unit"}
    assert image.meta["TELESCOP"] == "VLT" and image.meta["EXPOSURE"] == 2e4
    assert image.wcs.has_celestial and pixel_scale(image).to_value(u.arcsec) == pytest.approx(4.0)
    assert not {"NAXIS1", "CTYPE1", "RADECSYS", "CRVAL1"} & set(image.meta)


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">i8", "u1", ">f4", ">f8", "u2", "u4"])
def test_read_every_number_type(dtype, tmp_path):
    data = np.arange(120).reshape(10, 12).astype(dtype)
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    np.testing.assert_array_equal(image.data, np.arange(120).reshape(10, 12))
    assert image.wcs is None


@pytest.mark.parametrize(
    ("text", "unit", "assumed"),
    [
        ("", u.ct, True),
        ("count", u.ct, False),
        ("counts", u.ct, False),
        ("Counts/pixel", u.ct, False),
        ("photons", u.ct, False),
        ("ct", u.ct, False),
        ("cts/s", u.ct / u.s, False),
        ("counts/sec", u.ct / u.s, False),
        ("adu", u.adu, False),
        ("photon/cm**2/s", u.photon / u.cm**2 / u.s, False),
    ],
)
def test_read_unit(text, unit, assumed, tmp_path):
    fits.PrimaryHDU(np.ones((10, 10)), fits.Header({"BUNIT": text})).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.unit == unit and flags_of(image) == ({"no_unit"} if assumed else set())


def test_read_unit_that_is_none(tmp_path):
    fits.PrimaryHDU(np.ones((10, 10)), fits.Header({"BUNIT": "bananas"})).writeto(tmp_path / "a.fits")
    with pytest.warns(ImageWarning, match="BUNIT 'bananas' is not a unit; counts are assumed"):
        image = read_image(tmp_path / "a.fits")
    assert image.unit == u.ct and flags_of(image) == {"no_unit"}


def test_read_nan(tmp_path):
    data = np.ones((10, 10), ">f4")
    data[2, 3], data[4, 5] = np.nan, np.inf
    fits.PrimaryHDU(data, fits.Header({"BUNIT": "ct"})).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert list(zip(*np.nonzero(image.mask), strict=True)) == [(2, 3), (4, 5)] and flags_of(image) == {"non_finite"}
    assert np.isfinite(image.data).all()


def test_read_blank_integers(tmp_path):
    data = np.ones((10, 10), np.int16)
    data[2, 3] = -99
    fits.PrimaryHDU(data, fits.Header({"BUNIT": "ct", "BLANK": -99})).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.mask[2, 3] and image.mask.sum() == 1 and flags_of(image) == {"non_finite"}


def test_read_a_later_hdu_with_axes_of_length_one(tmp_path):
    header = header_of()
    header["WCSAXES"] = 4
    for axis, kind in ((3, "FREQ"), (4, "STOKES")):
        header.update({f"CTYPE{axis}": kind, f"CRPIX{axis}": 1.0, f"CRVAL{axis}": 1.0, f"CDELT{axis}": 1.0})
    events = fits.BinTableHDU(Table({"x": [1, 2]}), name="EVENTS")
    image = fits.ImageHDU(np.arange(600.0).reshape(1, 1, 20, 30), header, name="SKY")
    fits.HDUList([fits.PrimaryHDU(), events, image]).writeto(tmp_path / "a.fits")
    for hdu in (None, 2, "SKY"):
        read = read_image(tmp_path / "a.fits", hdu=hdu)
        assert read.shape == (20, 30) and read.wcs.naxis == 2
        assert read.wcs.pixel_to_world(14.5, 9.5).separation(COMA) < 1e-6 * u.arcsec
    with pytest.raises(GeometryError, match="hdu: .* has no HDU 7, only "):
        read_image(tmp_path / "a.fits", hdu=7)
    with pytest.raises(GeometryError, match="has no HDU 'IMAGE'.*'EVENTS', 'SKY'"):
        read_image(tmp_path / "a.fits", hdu="IMAGE")
    with pytest.raises(GeometryError, match="no image, only BinTableHDU"):
        read_image(tmp_path / "a.fits", hdu="EVENTS")


def test_read_swapped_sky_axes(tmp_path):
    header = header_of(shape=(30, 20))
    for key in ("CTYPE", "CRPIX", "CRVAL", "CDELT", "CUNIT"):
        header[f"{key}1"], header[f"{key}2"] = header[f"{key}2"], header[f"{key}1"]
    for old in [key for key in header if key.startswith("PC")]:
        del header[old]
    fits.PrimaryHDU(np.ones((20, 30)), header).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.wcs.wcs.lng == 1 and image.wcs.pixel_to_world(14.5, 9.5).separation(COMA) < 10 * u.arcsec


def test_read_sky_axes_that_are_not_those_of_the_image(tmp_path):
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "FREQ", "CDELT3": 1.0})
    fits.PrimaryHDU(np.ones((12, 1, 30)), header).writeto(tmp_path / "a.fits")
    assert read_image(tmp_path / "a.fits").wcs is None


def test_read_linear_coordinates(tmp_path):
    header = fits.Header({"CTYPE1": "DETX", "CTYPE2": "DETY", "CDELT1": 1.0, "CDELT2": 1.0})
    fits.PrimaryHDU(np.ones((12, 30)), header).writeto(tmp_path / "a.fits")
    assert read_image(tmp_path / "a.fits").wcs is None


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_2"])
def test_read_compressed(kind, tmp_path):
    data = np.arange(2000, dtype=np.int32).reshape(40, 50)
    hdu = fits.CompImageHDU(data, header_of((40, 50)), compression_type=kind)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    np.testing.assert_array_equal(image.data, data)
    assert image.wcs.has_celestial and not any(key.startswith("Z") for key in image.meta)


@pytest.mark.parametrize("ending", [".fits", ".fits.gz"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_read_truncated(ending, keep, tmp_path):
    path = tmp_path / f"a{ending}"
    fits.PrimaryHDU(np.random.default_rng(0).random((100, 100))).writeto(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(GeometryError, match="cannot be read as FITS") as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not FITS at all", b"\x1f\x8b\x08 broken gzip", b"SIMPLE  = " + b"x" * 5000])
def test_read_what_is_not_fits(content, tmp_path):
    path = tmp_path / "a.fits.gz"
    path.write_bytes(content)
    with pytest.raises(GeometryError, match="cannot be read as FITS|no two-dimensional image"):
        read_image(path)


def test_read_no_image(tmp_path):
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(Table({"x": [1]}), name="SOURCES")]).writeto(tmp_path / "a.fits")
    with pytest.raises(GeometryError, match="it holds no image, only BinTableHDU, PrimaryHDU"):
        read_image(tmp_path / "a.fits")
    fits.PrimaryHDU(np.ones(5)).writeto(tmp_path / "b.fits")
    with pytest.raises(GeometryError, match=r"no two-dimensional image: it holds arrays of shape \[\(5,\)\]"):
        read_image(tmp_path / "b.fits")
    fits.PrimaryHDU(np.ones((3, 4, 5))).writeto(tmp_path / "c.fits")
    with pytest.raises(GeometryError, match=r"\(3, 4, 5\)"):
        read_image(tmp_path / "c.fits")
    fits.PrimaryHDU(np.full((5, 5), np.nan)).writeto(tmp_path / "d.fits")
    with pytest.raises(GeometryError, match="no valid pixel"):
        read_image(tmp_path / "d.fits")
    for name in ("none.fits", "."):
        with pytest.raises(FileNotFoundError, match="no file"):
            read_image(tmp_path / name)


def test_read_exposure_in_a_file_of_its_own(tmp_path):
    write_image(blob((20, 30)), tmp_path / "image.fits")
    exposure = np.full((1, 20, 30), 12.0, ">f4")
    exposure[0, 3, 4] = np.nan
    fits.PrimaryHDU(exposure, fits.Header({"BUNIT": "ks"})).writeto(tmp_path / "exposure.fits")
    image = read_image(tmp_path / "image.fits", exposure=tmp_path / "exposure.fits")
    assert image.exposure[0, 0] == 12e3 and image.exposure[3, 4] == 0
    write_image(blob((20, 20)), tmp_path / "small.fits")
    with pytest.raises(GeometryError, match=r"exposure must .* shape \(20, 20\), got \(20, 30\): survey.read_field"):
        read_image(tmp_path / "small.fits", exposure=tmp_path / "exposure.fits")


@pytest.mark.parametrize(
    ("unit", "seconds"), [("ksec", 12e3), ("s", 12.0), ("sec", 12.0), ("", 12.0), ("min", 720.0), ("cm2 s", None)]
)
def test_exposure_maps_are_times(tmp_path, unit, seconds):
    fits.PrimaryHDU(np.ones((20, 30), ">f4")).writeto(tmp_path / "image.fits")
    header = fits.Header({"BUNIT": unit} if unit else {})
    fits.PrimaryHDU(np.full((20, 30), 12.0), header).writeto(tmp_path / "exposure.fits")
    if seconds is None:
        with pytest.raises(GeometryError, match="exposure must be given"):
            read_image(tmp_path / "image.fits", exposure=tmp_path / "exposure.fits")
    else:
        image = read_image(tmp_path / "image.fits", exposure=tmp_path / "exposure.fits")
        assert np.all(image.exposure == seconds)


def test_read_does_not_take_a_table_for_a_mask(tmp_path):
    table = fits.BinTableHDU(Table({"x": [1]}), name="MASK")
    fits.HDUList([fits.PrimaryHDU(np.ones((5, 6))), table, fits.ImageHDU(name="EXPMAP")]).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert image.mask is None and image.exposure is None


def test_read_ignores_a_foreign_flags_keyword(tmp_path):
    fits.PrimaryHDU(np.ones((30, 30)), header_of((30, 30), FLAGS="good", BUNIT="ct")).writeto(tmp_path / "a.fits")
    image = read_image(tmp_path / "a.fits")
    assert flags_of(standardise(image, Geometry(1.6 * u.arcmin, (16, 16)))) == {"no_exposure"}


# Writing


def test_image_round_trip(tmp_path):
    image = blob(
        (30, 40), REDSHIFT=0.05, HALO_ID=12, OBJECT="A 1656", M500=np.float64(1e14), T_COOL=np.nan, LONGER_NAME=1
    )
    image.meta.update({"note": "Türkis\nline", "HISTORY": "one\ntwo", "SEED": (5, "of the noise"), "FLAGS": 5})
    image.mask = np.zeros((30, 40), bool)
    image.mask[3, 4] = True
    image.meta["exposure_map"] = np.full((30, 40), 1234.5)
    path = write_image(image, tmp_path / "a.fits")
    back = read_image(path)
    np.testing.assert_array_equal(back.data, image.data)
    np.testing.assert_array_equal(back.mask, image.mask)
    np.testing.assert_array_equal(back.exposure, image.meta["exposure_map"])
    assert back.unit == u.ct and back.meta["FLAGS"] == 5
    expected = {"REDSHIFT": 0.05, "HALO_ID": 12, "OBJECT": "A 1656", "M500": 1e14, "LONGER_NAME": 1, "SEED": 5}
    assert {key: back.meta[key] for key in expected} == expected
    assert list(back.meta["HISTORY"]) == ["one", "two"] and "T_COOL" not in back.meta
    assert back.wcs.pixel_to_world(0, 0).separation(image.wcs.pixel_to_world(0, 0)) < 1e-6 * u.arcsec
    again = read_image(write_image(back, tmp_path / "b.fits"))
    assert set(again.meta) == set(back.meta)


def test_write_drops_the_old_coordinate_system(tmp_path):
    image = blob((20, 20), CTYPE1="GLON-CAR", CD1_1=5.0, BSCALE=3.0, BZERO=7.0, NAXIS1=1, PV2_1=3.0)
    back = read_image(write_image(image, tmp_path / "a.fits"))
    np.testing.assert_array_equal(back.data, image.data)
    assert back.wcs.pixel_to_world(0, 19).separation(image.wcs.pixel_to_world(0, 19)) < 1e-6 * u.arcsec


def test_write_refuses(tmp_path):
    path = write_image(blob((10, 10)), tmp_path / "a.fits")
    with pytest.raises(OutputError, match="exists already"):
        write_image(blob((10, 10)), path)
    write_image(blob((12, 10)), path, overwrite=True)
    assert read_image(path).shape == (12, 10)
    with pytest.raises(OutputError, match="cannot write in"):
        write_image(blob((10, 10)), tmp_path / "no" / "a.fits")
    with pytest.raises(TypeError, match="image must be CCDData"):
        write_image(np.ones((4, 4)), tmp_path / "b.fits")
    assert [each.name for each in tmp_path.iterdir()] == ["a.fits"]


def test_cutout_round_trip(tmp_path):
    xray, optical = blob((30, 40), REDSHIFT=0.05), blob((30, 40))
    xray.mask = xray.data < 25
    assert 0 < xray.mask.sum() < xray.mask.size
    xray.meta["exposure_map"] = np.full((30, 40), 5e3)
    cutout = Cutout("XCLASS 0020", {"xray": xray, "optical": CCDData(optical.data, unit=u.adu, wcs=optical.wcs)})
    back = Cutout.read(cutout.write(tmp_path / "a.fits"))
    assert back.source_id == "XCLASS 0020" and list(back.bands) == ["xray", "optical"]
    for name, image in cutout.bands.items():
        np.testing.assert_array_equal(back.bands[name].data, image.data)
        assert back.bands[name].unit == image.unit
        assert back.bands[name].wcs.pixel_to_world(0, 0).separation(image.wcs.pixel_to_world(0, 0)) < 1e-6 * u.arcsec
    np.testing.assert_array_equal(back.bands["xray"].mask, xray.mask)
    assert back.bands["optical"].mask is None and back.bands["optical"].exposure is None
    assert back.bands["xray"].exposure[0, 0] == 5e3 and back.bands["xray"].meta["REDSHIFT"] == 0.05
    with pytest.raises(OutputError, match="exists already"):
        cutout.write(tmp_path / "a.fits")


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ({}, "at least one image"),
        ({"xray": blob((8, 9)), "optical": blob((9, 8))}, "one common shape"),
        ({"X-ray": blob((8, 9))}, "must be named by"),
        ({"a,b": blob((8, 9))}, "must be named by"),
        ({3: blob((8, 9))}, "must be named by"),
    ],
)
def test_bad_cutout(bands, words):
    with pytest.raises(GeometryError, match=words):
        Cutout("a", bands)


def test_cutout_read_errors(tmp_path):
    write_image(blob((20, 20)), tmp_path / "image.fits")
    with pytest.raises(GeometryError, match="not a cutout file: it has no keyword SOURCEID"):
        Cutout.read(tmp_path / "image.fits")
    with pytest.raises(FileNotFoundError, match="no file"):
        Cutout.read(tmp_path / "none.fits")
    path = Cutout("a", {"xray": blob((60, 60))}).write(tmp_path / "cutout.fits")
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(GeometryError, match="cannot be read as FITS"):
        Cutout.read(path)
    with pytest.raises(GeometryError, match="source_id must be printable ASCII"):
        Cutout("\N{SNOWMAN}", {"xray": blob((8, 8))}).write(tmp_path / "snowman.fits")


# Checks and cuts


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (np.ones((5, 5)), TypeError, "image must be CCDData or NDData, got ndarray"),
        (None, TypeError, "got NoneType"),
        (CCDData(np.ones(5), unit=u.ct), GeometryError, "two-dimensional"),
        (CCDData(np.ones((2, 5, 5)), unit=u.ct), GeometryError, "two-dimensional"),
        (CCDData(np.ones((0, 5)), unit=u.ct), GeometryError, "not empty"),
        (NDData(np.ones((5, 5))), GeometryError, "must have a unit"),
        (CCDData(np.full((5, 5), np.nan), unit=u.ct), GeometryError, "no valid pixel"),
        (CCDData(np.ones((5, 5)), unit=u.ct, mask=np.ones((5, 5), bool)), GeometryError, "no valid pixel"),
        (
            CCDData(np.ones((5, 5)), unit=u.ct, meta={"exposure_map": np.ones((4, 5))}),
            GeometryError,
            "exposure must have the image's shape",
        ),
    ],
)
def test_as_image_errors(image, error, words):
    with pytest.raises(error, match=words):
        as_image(image)
    with pytest.raises(error, match=words):
        standardise(image, MODEL, redshift=0.1)


def test_as_image_leaves_the_input_alone():
    data = np.array([[1.0, np.nan], [3.0, 4.0]])
    image = CCDData(data.astype(">f4"), unit=u.ct, meta={"A": 1})
    result = as_image(image)
    assert np.isnan(image.data[0, 1]) and image.mask is None and "FLAGS" not in image.meta
    assert result.mask.tolist() == [[False, True], [False, False]] and flags_of(result) == {"non_finite"}


def test_cut():
    image = blob((60, 80), 4.0)
    image.mask = image.data < 1
    image.meta["exposure_map"] = np.arange(4800.0).reshape(60, 80)
    part = cut(image, image.wcs.pixel_to_world(40, 20), u.Quantity([40, 80], u.arcsec))
    assert part.shape == (10, 20) and flags_of(part) == set() and isinstance(part.wcs, WCS)
    y, x = (int(round(float(each))) for each in image.wcs.world_to_pixel(part.wcs.pixel_to_world(0, 0))[::-1])
    window = (slice(y, y + 10), slice(x, x + 20))
    np.testing.assert_array_equal(part.data, image.data[window])
    np.testing.assert_array_equal(part.mask, image.mask[window])
    np.testing.assert_array_equal(part.exposure, image.meta["exposure_map"][window])
    edge = cut(image, image.wcs.pixel_to_world(0, 0), 40 * u.arcsec)
    assert flags_of(edge) == {"off_edge"} and edge.shape[0] < 10
    far = SkyCoord(COMA.ra + 180 * u.deg, -COMA.dec)
    for position in (far, SkyCoord(10 * u.deg, 0 * u.deg)):
        with pytest.raises(GeometryError, match="lies off the image"):
            cut(image, position, 40 * u.arcsec)
    for position in ((3, 4), SkyCoord([1, 2] * u.deg, [3, 4] * u.deg)):
        with pytest.raises(TypeError, match="position must be one SkyCoord"):
            cut(image, position, 40 * u.arcsec)
    with pytest.raises(TypeError, match="size must be a Quantity"):
        cut(image, COMA, 40)


def oblong_wcs(shape, sides, angle=0.0, *, latitude_first=False, skew=0.0):
    """Pixels of these sides (x, y) [arcsec], turned by an angle [deg], perhaps with latitude as the first axis."""
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = np.array([[-cos, sin], [sin, cos]]) @ np.array([[1, skew], [0, 1]]) @ np.diag(sides) / 3600
    wcs = WCS(naxis=2)
    kinds, values = ["RA---TAN", "DEC--TAN"], [COMA.ra.deg, COMA.dec.deg]
    order = slice(None, None, -1 if latitude_first else 1)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cd = kinds[order], values[order], matrix[order]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    return wcs


@pytest.mark.parametrize("latitude_first", [False, True])
@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0])
def test_cut_takes_each_side_in_pixels_of_its_axis(angle, latitude_first):
    """astropy issues 11362, 4976 and 10468: the scale of the wrong axis, and x and y exchanged."""
    wcs = oblong_wcs((100, 120), (8.0, 4.0), angle, latitude_first=latitude_first)
    data = np.zeros((100, 120))
    data[40, 70] = 100.0
    image = CCDData(data, unit=u.ct, wcs=wcs, meta={"EXPOSURE": 1.0})
    part = cut(image, wcs.pixel_to_world(70, 40), 40 * u.arcsec)
    assert part.shape == (10, 5) and part.data.sum() == 100.0
    row, column = (int(each[0]) for each in np.nonzero(part.data))
    assert part.wcs.pixel_to_world(column, row).separation(wcs.pixel_to_world(70, 40)) < 1e-6 * u.arcsec
    assert cut(image, wcs.pixel_to_world(70, 40), [20, 80] * u.arcsec).shape == (5, 10)
    assert flags_of(cut(image, wcs.pixel_to_world(1, 40), 40 * u.arcsec)) == {"off_edge"}
    with pytest.raises(ValueError, match="size must be one angle or two"):
        cut(image, wcs.pixel_to_world(70, 40), [20, 80, 3] * u.arcsec)


@pytest.mark.parametrize("latitude_first", [False, True])
def test_standardise_of_oblong_turned_pixels(latitude_first):
    """A source of known place and counts, and a flat sky, on pixels of 3 by 7 arcsec turned by 25 degrees."""
    wcs = oblong_wcs((140, 320), (3.0, 7.0), 25.0, latitude_first=latitude_first)
    geometry = Geometry(8 * u.arcmin, (96, 96))
    data = np.ones((140, 320))
    flat = standardise(CCDData(data, unit=u.ct, wcs=wcs), geometry, centre=COMA)
    np.testing.assert_allclose(flat.data[20:-20, 20:-20], 25.0 / 21.0, rtol=1e-6)
    data = np.zeros((140, 320))
    data[80, 170] = 1000.0
    point = standardise(CCDData(data, unit=u.ct, wcs=wcs), geometry, centre=COMA)
    y, x = np.indices(geometry.shape)
    place = point.wcs.pixel_to_world(*(np.average(each, weights=point.data) for each in (x, y)))
    assert point.data.sum() == pytest.approx(1000.0, rel=1e-11)
    assert place.separation(wcs.pixel_to_world(170, 80)) < 0.1 * u.arcsec


def test_pixel_scale_is_the_root_of_the_area():
    for skew in (0.0, 0.5):
        image = CCDData(np.ones((9, 9)), unit=u.ct, wcs=oblong_wcs((9, 9), (2.0, 8.0), 40.0, skew=skew))
        assert pixel_scale(image).to_value(u.arcsec) == pytest.approx(4.0, rel=1e-9)


def test_concentration_on_oblong_pixels_is_that_on_square_ones():
    """The circle of the sky is an ellipse of pixels: a Gaussian on pixels of 2 by 4 arcsec, turned."""

    def gaussian(sides, angle):
        shape = tuple(int(2 * 450 / 0.98 / side) for side in sides[::-1])
        y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
        square = (x * sides[0]) ** 2 + (y[:, None] * sides[1]) ** 2
        data = np.exp(-square / (2 * 80**2))
        return CCDData(data, unit=u.ct, wcs=oblong_wcs(shape, sides, angle), meta={"REDSHIFT": 0.05})

    expected = concentration(gaussian((2.0, 2.0), 0.0))
    assert concentration(gaussian((2.0, 4.0), 30.0)) == pytest.approx(expected, rel=3e-3)
    assert concentration(gaussian((4.0, 2.0), 0.0)) == pytest.approx(expected, rel=3e-3)


def test_geometry():
    # DA(z = 0.05) by Hubble's law with the first-order deceleration term, to 1%.
    distance = 299792.458 / 67.74 * 0.05 * (1 - 0.05 * (1 + (1.5 * 0.3089 - 1)) / 2) / 1.05**1 / 1.0
    angle = np.rad2deg(1 / 256 / distance) * 3600
    assert MODEL.pixel_width(0.05).to_value(u.arcsec) == pytest.approx(angle, rel=0.03)
    da = DEFAULT_COSMOLOGY.angular_diameter_distance(0.05).to_value(u.Mpc)
    assert MODEL.pixel_width(0.05).to_value(u.rad) == pytest.approx(1 / 256 / da, rel=1e-12)
    assert Geometry(7 * u.arcmin, (356, 356)).pixel_width().to_value(u.arcsec) == pytest.approx(420 / 356)
    assert Geometry.from_dict(MODEL.to_dict()) == MODEL == pickle.loads(pickle.dumps(MODEL))
    with pytest.raises(GeometryError, match="redshift is needed"):
        MODEL.pixel_width()
    for bad in (0, -1, 25, np.nan, "far", [0.1, 0.2]):
        with pytest.raises(GeometryError, match="redshift must"):
            MODEL.pixel_width(bad)
    for width, shape in (
        (1, (64, 64)),
        (0 * u.kpc, (64, 64)),
        (1 * u.s, (64, 64)),
        (1 * u.Mpc, (4, 4)),
        (1 * u.Mpc, (64,)),
    ):
        with pytest.raises((TypeError, ValueError)):
            Geometry(width, shape)
    for mapping in ({}, {"width": 1, "unit": "s", "shape": [64, 64]}, {"width": "x", "unit": "kpc", "shape": [64, 64]}):
        with pytest.raises(GeometryError, match="a geometry needs"):
            Geometry.from_dict(mapping)


# Resampling


CASES = [
    (2.0, 400),
    (4.0, 200),
    (9.0, 90),
    (15.0, 64),
]  # arcsec per pixel and pixels; the model's pixel has 3.87 arcsec


@pytest.mark.parametrize("angle", [0, 30])
@pytest.mark.parametrize(("scale", "n"), CASES)
def test_standardise_against_reproject_exact(scale, n, angle):
    image = blob((n, n), scale, angle=angle, offset=(0.3, -0.2), shift=(40, -30))
    result = standardise(image, MODEL, redshift=0.05, centre=COMA)
    counts, covered = exact(image, result.wcs, MODEL.shape)
    inside = covered > 1 - 1e-7
    # reproject 0.14 itself is right to 2e-5 only, 0.21 to 1e-9; flat images, below, are held to 1e-6.
    assert np.abs(result.data - counts)[inside].max() < 5e-5 * counts.max()
    assert result.data.sum() == pytest.approx(counts.sum(), rel=1e-5)


@pytest.mark.parametrize("angle", [0, 20, 30, 45])
@pytest.mark.parametrize(("scale", "n"), CASES)
def test_a_flat_image_stays_flat(scale, n, angle):
    image = CCDData(np.ones((n, n)), unit=u.ct, wcs=tan_wcs((n, n), scale, angle=angle))
    result = standardise(image, MODEL, redshift=0.05)
    _, covered = exact(image, result.wcs, MODEL.shape)
    ratio = result.data[covered > 1 - 1e-7] * (scale / MODEL.pixel_width(0.05).to_value(u.arcsec)) ** 2
    assert np.abs(ratio - 1).max() < 1e-6


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    scale=st.floats(0.5, 30),
    angle=st.floats(-180, 180),
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
    redshift=st.floats(0.03, 0.3),
    flip=st.booleans(),
)
def test_counts_are_conserved(scale, angle, dx, dy, redshift, flip):
    pixel = SMALL.pixel_width(redshift).to_value(u.arcsec)
    n = int(np.clip(60 * pixel / scale, 8, 120))
    data = np.zeros((n, n))
    inner = slice(int(0.3 * n), max(int(0.7 * n), int(0.3 * n) + 1))
    data[inner, inner] = np.random.default_rng(0).poisson(5, data[inner, inner].shape) + 1
    wcs = tan_wcs((n, n), scale, angle=angle, offset=(dx, dy))
    if flip:
        wcs.wcs.cd = wcs.wcs.cd * [[-1, 1], [-1, 1]]
    image = CCDData(data, unit=u.ct, wcs=wcs)
    assume((0.2 * n + 2) * scale * np.sqrt(2) < 31 * pixel)  # the source lies inside
    assume((n * scale) ** 2 > 0.06 * (64 * pixel) ** 2)  # the image is not too small
    result = standardise(image, SMALL, redshift=redshift)
    assert result.data.sum() == pytest.approx(data.sum(), rel=1e-6)
    assert result.data.min() >= 0


@pytest.mark.parametrize("angle", [0, 30, 137])
@pytest.mark.parametrize(("scale", "n"), CASES)
def test_positions_and_scale_are_kept(scale, n, angle):
    image = blob((n, n), scale, angle=angle, shift=(60, 25), sigma=40)
    result = standardise(image, MODEL, redshift=0.05)
    y, x = np.indices(MODEL.shape)
    found = [np.average(each, weights=result.data) for each in (x, y)]
    y, x = np.indices((n, n))
    there = image.wcs.pixel_to_world(*(np.average(each, weights=image.data) for each in (x, y)))
    assert np.hypot(*(np.array(result.wcs.world_to_pixel(there)) - found)) < 0.05
    # Physical scale: the width of the Gaussian, less that of the two pixels it was binned in.
    pixel = MODEL.pixel_width(0.05).to_value(u.arcsec)
    y, x = np.indices(MODEL.shape)
    variance = np.mean([np.average((e - f) ** 2, weights=result.data) for e, f in zip((x, y), found, strict=True)])
    sigma = np.sqrt(variance * pixel**2 - pixel**2 / 12 - scale**2 / 12)
    assert sigma == pytest.approx(40, rel=2e-3)
    middle = result.wcs.pixel_to_world(127.5, 127.5)
    edge = result.wcs.pixel_to_world(127.5 + 64, 127.5)
    kpc = middle.separation(edge).rad * DEFAULT_COSMOLOGY.angular_diameter_distance(0.05).to_value(u.kpc)
    assert kpc == pytest.approx(250, rel=1e-3)
    assert result.wcs.pixel_to_world(127.5, 200).dec > middle.dec  # north up
    assert edge.ra < middle.ra  # east left
    assert middle.separation(COMA) < 0.01 * u.arcsec


def test_pixels_that_are_not_square():
    image = blob((100, 200), 8.0)
    wcs = tan_wcs((100, 200), 8.0)
    wcs.wcs.cd = wcs.wcs.cd * [[0.5, 1], [0.5, 1]]
    flat = CCDData(np.ones((100, 200)), unit=u.ct, wcs=wcs)
    result = standardise(flat, Geometry(12 * u.arcmin, (180, 180)), centre=COMA)
    assert np.allclose(result.data[20:-20, 20:-20], 4 * 4 / (4 * 8), rtol=1e-4)
    assert image.shape == flat.shape


def test_pixels_that_change_their_size():
    # A plate carree map 60 degrees from its equator: pixels there are half as wide as at the reference point.
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (
        ["RA---CAR", "DEC--CAR"],
        [150, 0],
        [100, -14300],
        [-1 / 240] * 2,
    )
    wcs.wcs.cdelt = [-1 / 240, 1 / 240]
    image = CCDData(np.ones((200, 200)), unit=u.ct, wcs=wcs)
    result = standardise(image, Geometry(10 * u.arcmin, (40, 40)))
    area = result.data[5:-5, 5:-5]
    true = 1 / np.cos(np.deg2rad(result.wcs.pixel_to_world(20, 20).dec.deg))
    assert area.mean() == pytest.approx(true, rel=0.01) and result.mask is None and "off_edge" not in flags_of(result)


def test_an_image_on_the_grid_already_is_not_resampled():
    image = blob((300, 300), 3.0)
    once = standardise(image, MODEL, redshift=0.05)
    twice = standardise(once, MODEL)
    np.testing.assert_array_equal(twice.data[~once.mask], once.data[~once.mask])
    np.testing.assert_array_equal(twice.mask, once.mask)
    assert twice.wcs.pixel_to_world(0, 0).separation(once.wcs.pixel_to_world(0, 0)) < 1e-9 * u.arcsec
    assert twice.meta["REDSHIFT"] == 0.05


def test_a_pixel_of_which_half_is_valid_is_not_masked():
    """Two by two pixels each: whether rounding leaves 0.5 or a little less must not decide."""
    grid = Geometry(64 * u.arcmin, (64, 64))
    mask = np.zeros((128, 128), bool)
    mask[:, 41] = True  # half of column 20
    mask[:, 80:82] = mask[:, 83] = True  # all of column 40, half of column 41
    image = CCDData(np.ones((128, 128)), unit=u.ct, mask=mask, wcs=tan_wcs((128, 128), 30.0), meta={"EXPOSURE": 1e4})
    result = standardise(image, grid)
    assert np.array_equal(np.flatnonzero(result.mask.any(axis=0)), [40]) and result.mask[:, 40].all()
    assert result.data[:, [20, 41]] == pytest.approx(2) and result.data[:, 21] == pytest.approx(4)


def test_mask_and_exposure_are_carried():
    image = blob((200, 200), 8.0, shift=(0, 0))
    image.mask = np.zeros((200, 200), bool)
    image.mask[100:110, 90:110] = True
    image.data[image.mask] = 1e9
    exposure = np.full((200, 200), 5e3)
    exposure[:, 120:] = 0
    image.meta["exposure_map"] = exposure
    result = standardise(image, MODEL, redshift=0.05)
    assert flags_of(result) == {"masked", "coarse_pixels"}
    place = image.wcs.pixel_to_world(100, 105)
    x, y = (int(round(float(each))) for each in result.wcs.world_to_pixel(place))
    assert result.mask[y, x] and result.data.max() < 1e3
    assert result.exposure.shape == MODEL.shape and result.exposure[y, x] == pytest.approx(5e3)
    x, y = (int(round(float(each))) for each in result.wcs.world_to_pixel(image.wcs.pixel_to_world(125, 100)))
    assert result.mask[y, x] and result.exposure[y, x] == 0
    masked_area = result.mask.sum() * MODEL.pixel_width(0.05).to_value(u.arcsec) ** 2
    field = MODEL.pixel_width(0.05).to_value(u.arcsec) * 256
    true = 10 * 20 * 64 + field * (field / 2 - 20 * 8)
    assert masked_area == pytest.approx(true, rel=0.02)


def test_every_image_flag_has_its_case():
    def run(image, geometry=SMALL, **options):
        return flags_of(standardise(image, geometry, redshift=0.05, **options))

    good = blob((300, 300), 4.0)
    assert run(good) == set()
    assert run(good, centre=good.wcs.pixel_to_world(30, 150)) == {"off_edge"}
    masked = blob((300, 300), 4.0)
    masked.mask = np.zeros((300, 300), bool)
    masked.mask[150, 150] = True  # one pixel, smaller than those of the grid
    assert run(masked) == {"masked"}
    for exposure in ({}, {"EXPOSURE": 0.0}, {"EXPOSURE": "unknown"}, {"EXPOSURE": np.nan}):
        bare = CCDData(good.data, unit=u.ct, wcs=good.wcs, meta=exposure)
        assert run(bare) == {"no_exposure"}
    for key in ("EXPOSURE", "LIVETIME", "ONTIME", "EXPTIME"):
        assert run(CCDData(good.data, unit=u.ct, wcs=good.wcs, meta={key: (5e3, "seconds")})) == set()
    nan = blob((300, 300), 4.0)
    nan.data[150, 150] = np.nan
    assert run(nan) == {"non_finite", "masked"}
    assert run(blob((300, 300), 4.0, peak=1e-3)) == {"low_counts"}
    negative = blob((300, 300), 4.0)
    negative.data[150, 150] = -1
    assert run(negative) == {"negative"}
    assert run(blob((300, 300), 4.0, FLAGS=int(Flag.NO_UNIT))) == {"no_unit"}
    assert run(good, MODEL.__class__(1 * u.Mpc, (512, 512))) == {"coarse_pixels"}


def test_units_that_are_counts():
    image = blob((100, 100), 8.0)
    total = standardise(image, SMALL, redshift=0.05).data.sum()
    for unit, factor in ((u.photon, 1), (u.Unit(1000 * u.ct), 1000)):
        other = CCDData(image.data, unit=unit, wcs=image.wcs)
        assert standardise(other, SMALL, redshift=0.05).data.sum() == pytest.approx(factor * total)


def test_uncertainty_is_dropped_with_a_warning():
    image = blob((100, 100), 8.0)
    image.uncertainty = StdDevUncertainty(np.ones((100, 100)))
    with pytest.warns(ImageWarning, match="uncertainty"):
        assert standardise(image, SMALL, redshift=0.05).uncertainty is None


def test_standardise_errors():
    image = blob((100, 100), 8.0)
    with pytest.raises(GeometryError, match="redshift is needed"):
        standardise(image, SMALL)
    with pytest.raises(GeometryError, match="redshift must"):
        standardise(image, SMALL, redshift=-0.1)
    with pytest.raises(GeometryError, match="redshift must"):
        standardise(image, Geometry(5 * u.arcmin, (64, 64)), redshift="x")
    with pytest.raises(GeometryError, match="must have a celestial WCS"):
        standardise(CCDData(image.data, unit=u.ct), SMALL, redshift=0.05)
    for unit in (u.ct / u.s, u.Jy, u.dimensionless_unscaled):
        with pytest.raises(GeometryError, match="image must be in counts"):
            standardise(CCDData(image.data, unit=unit, wcs=image.wcs), SMALL, redshift=0.05)
    opposite = SkyCoord(COMA.ra + 180 * u.deg, -COMA.dec)
    for centre in (SkyCoord(195.9 * u.deg, 27.95 * u.deg), opposite):
        with pytest.raises(GeometryError, match="off the image|valid pixels in only 0.0%"):
            standardise(image, SMALL, redshift=0.05, centre=centre)
    with pytest.raises(TypeError, match="centre must be one SkyCoord"):
        standardise(image, SMALL, redshift=0.05, centre=(194.9, 27.95))
    with pytest.raises(GeometryError, match=r"valid pixels in only .* of the model's field \(10.0 deg"):
        standardise(image, Geometry(10 * u.deg, (64, 64)))
    with pytest.raises(GeometryError, match="less than two pixels across"):
        standardise(image, Geometry(5 * u.arcsec, (64, 64)))


# Concentration


def kpc_image(function, *, n=601, scale=2.0, redshift=0.05):
    """Image of a surface brightness per kpc2 as a function of the radius in kpc, over-sampled five times."""
    kpc = np.deg2rad(scale / 3600) * DEFAULT_COSMOLOGY.angular_diameter_distance(redshift).to_value(u.kpc)
    steps = (np.arange(5 * n) + 0.5) / 5 - n / 2
    radius = np.hypot(*np.meshgrid(steps, steps)) * kpc
    data = function(radius).reshape(n, 5, n, 5).mean(axis=(1, 3)) * kpc**2
    return CCDData(data, unit=u.ct, wcs=tan_wcs((n, n), scale), meta={"REDSHIFT": redshift})


def beta_counts(radius, beta=2 / 3, core=60.0):
    return 1 - (1 + (radius / core) ** 2) ** (1.5 - 3 * beta)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda r: np.ones_like(r), (40 / 400) ** 2),
        (lambda r: np.exp(-(r**2) / (2 * 80**2)), (1 - np.exp(-(40**2) / 12800)) / (1 - np.exp(-(400**2) / 12800))),
        (lambda r: (1 + (r / 60) ** 2) ** (0.5 - 2.0), beta_counts(40.0) / beta_counts(400.0)),
    ],
    ids=["flat disc", "Gaussian", "beta model"],
)
def test_concentration_is_the_analytic_one(function, expected):
    assert concentration(kpc_image(function)) == pytest.approx(expected, rel=2e-3)


def test_concentration_background_and_mask():
    image = kpc_image(lambda r: np.exp(-(r**2) / (2 * 80**2)), n=600)
    plain = concentration(image)
    offset = CCDData(image.data + 3.5, unit=u.ct, wcs=image.wcs, meta=image.meta)
    assert concentration(offset) < plain
    assert concentration(offset, background=3.5) == pytest.approx(plain, rel=1e-9)
    offset.mask = np.zeros(image.shape, bool)
    offset.mask[:, :300] = True  # half of the source, and of the background
    assert concentration(offset, background=3.5) == pytest.approx(plain, rel=1e-9)
    narrow = (1 - np.exp(-(20**2) / 12800)) / (1 - np.exp(-(200**2) / 12800))
    assert concentration(image, inner=20 * u.kpc, outer=0.2 * u.Mpc) == pytest.approx(narrow, rel=5e-3)


def test_concentration_errors():
    image = kpc_image(lambda r: np.ones_like(r), n=301, scale=4.0)
    for options, error, words in (
        ({"outer": 1 * u.Mpc}, GeometryError, "does not fit on the image"),
        ({"inner": 500 * u.kpc}, ValueError, "inner must be smaller"),
        ({"inner": 40}, TypeError, "inner must be a Quantity"),
        ({"background": 1e9}, GeometryError, "no counts above the background"),
        ({"background": np.nan}, ValueError, "background must be a finite number"),
        ({"redshift": 0}, GeometryError, "redshift must"),
    ):
        with pytest.raises(error, match=words):
            concentration(image, **options)
    with pytest.raises(GeometryError, match="redshift is needed"):
        concentration(CCDData(image.data, unit=u.ct, wcs=image.wcs))
    with pytest.raises(GeometryError, match="celestial WCS"):
        concentration(CCDData(image.data, unit=u.ct), redshift=0.05)


# Real observations


@pytest.mark.real_data
def test_rosat(shared_data):
    folder = shared_data / "rosat"
    image = read_image(folder / "pyproffit_b_37.fits.gz")
    assert image.shape == (512, 512) and image.unit == u.ct
    result = standardise(image, MODEL, redshift=0.0597)
    assert flags_of(result) == {"no_exposure", "coarse_pixels"}  # integers of an X-ray telescope are counts
    # The same field by hand: whole pixels and, along the edge, their parts.
    target = result.wcs
    y, x = np.mgrid[:512, :512]
    steps = (np.arange(20) + 0.5) / 20 - 0.5
    expected = 0.0
    for dy in steps:
        for dx in steps[::4]:
            px, py = target.all_world2pix(
                *image.wcs.all_pix2world(x[200:312, 200:312] + dx, y[200:312, 200:312] + dy, 0), 0
            )
            inside = (np.abs(px - 127.5) < 128) & (np.abs(py - 127.5) < 128)
            expected += image.data[200:312, 200:312][inside].sum() / (20 * 5)
    assert result.data.sum() == pytest.approx(expected, rel=5e-3)
    with_map = read_image(folder / "pyproffit_b_37.fits.gz", exposure=folder / "pyproffit_expose_mask_37.fits.gz")
    assert "no_exposure" not in flags_of(standardise(with_map, MODEL, redshift=0.0597))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "geometry", "scale", "flags"),
    [
        ("xmm/0124710801_PN_image_500-12000.fits", Geometry(20 * u.arcmin, (256, 256)), 4.0, set()),
        ("chandra/NGC4649_merged_counts.fits", Geometry(4 * u.arcmin, (256, 256)), 0.492, {"no_unit"}),
        ("optical/DSS1_M67.fits", Geometry(20 * u.arcmin, (256, 256)), 1.70, {"no_unit"}),
    ],
)
def test_observatories(shared_data, name, geometry, scale, flags, tmp_path):
    image = read_image(shared_data / name)
    assert pixel_scale(image).to_value(u.arcsec) == pytest.approx(scale, rel=2e-3)
    result = standardise(image, geometry)
    assert flags <= flags_of(result) <= flags | {"no_exposure", "masked"}
    counts, _ = exact(image, result.wcs, geometry.shape)
    # exact() takes one pixel size for the whole image; a photographic plate has some distortion.
    assert result.data.sum() == pytest.approx(counts.sum(), rel=3e-3)
    back = read_image(write_image(result, tmp_path / "a.fits"))
    np.testing.assert_array_equal(back.data, result.data)
    assert back.wcs.pixel_to_world(0, 255).separation(result.wcs.pixel_to_world(0, 255)) < 1e-6 * u.arcsec


@pytest.mark.real_data
def test_a_catalogue_is_not_an_image(shared_data):
    with pytest.raises(GeometryError, match="no image, only PrimaryHDU, TableHDU"):
        read_image(shared_data / "catalogues" / "mcxc.fits")


def test_nothing_warns(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(write_image(blob((60, 60), 20.0, REDSHIFT=0.05), tmp_path / "a.fits"))
        standardise(image, SMALL)


def test_densities_of_a_plate_are_averaged():
    """A flat plate stays flat on a coarser, turned grid, and nothing asks for its exposure."""
    plate = CCDData(np.full((200, 200), 5600.0), unit=u.adu, wcs=tan_wcs((200, 200), 1.0, angle=30.0))
    plate.data[:20] = np.nan
    on_grid = images.standardise(plate, images.Geometry(100 * u.arcsec, (32, 32)))
    assert on_grid.unit == u.adu
    np.testing.assert_allclose(on_grid.data, 5600.0, rtol=1e-9)
    assert Flag(on_grid.meta["FLAGS"]) & (Flag.NO_EXPOSURE | Flag.LOW_COUNTS) == 0
