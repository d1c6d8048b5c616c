"""Images as observatories and tools write them: what is read, converted, refused or flagged."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.utils import minversion
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError, ImageWarning
from astroclassify.images import (
    Cutout,
    Geometry,
    SkyImage,
    as_image,
    cut,
    pixel_scale,
    read_image,
    standardise,
    write_image,
)
from astroclassify.nn import load_classifier
from astroclassify.schemes import flag_names
from astroclassify.sim import EmbeddedPopulation, Observation, observe

N = 64
TAN = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 32.5, "CRPIX2": 32.5, "CRVAL1": 150.0, "CRVAL2": 2.0}
TABLE = {"CRPIX": 1.0, "CRVAL": 1.0, "CDELT": 9.0}
FIRST = np.broadcast_to(np.arange(N) < 5, (N, N))
SCALE = {"CDELT1": -4 / 3600, "CDELT2": 4 / 3600}


def header(**more):
    return fits.Header({**TAN, **SCALE, **more})


def counts():
    return np.random.default_rng(1).poisson(3.0, (N, N)).astype(float)


def image(**options):
    exposure = np.linspace(1e4, 5e3, N) * np.ones((N, 1))
    background = np.full((N, N), 0.5)
    options = {"exposure": exposure, "background": background, "mask": counts() > 7, **options}
    meta = {"TELESCOP": "XMM", "REDSHIFT": 0.05, "HISTORY": "one\ntwo", "a longer key": 3.5}
    return SkyImage(counts(), unit=u.ct, wcs=WCS(header()), meta=meta, **options)


def same(found, expected, part=np.s_[:, :]):
    """Whether an image is this part of another, with its maps, mask, header and places."""
    assert type(found) is SkyImage and isinstance(found.meta, fits.Header)
    for name in ("data", "mask", "exposure", "background"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name)[part], rtol=1e-6, err_msg=name)
    for name in ("exposure", "background"):
        assert getattr(found, name).dtype == np.float64
    assert found.meta["A LONGER KEY"] == 3.5 and list(found.meta["HISTORY"]) == ["one", "two"]
    x, y = expected.wcs.world_to_pixel(found.wcs.pixel_to_world(0, 0))
    assert (round(float(y)), round(float(x))) == (part[0].start or 0, part[1].start or 0)


# An image and its maps


def trimmed(whole):
    return whole[10:20, 5:9].copy()  # as ccdproc.trim_image does


def test_maps_follow_their_pixels():
    whole = image()
    part = np.s_[10:20, 5:9]
    same(whole[part], whole, part)
    same(trimmed(whole), whole, part)
    for made in (
        whole.copy(),
        copy.deepcopy(whole),
        pickle.loads(pickle.dumps(whole)),
        SkyImage(whole),
        as_image(whole),
    ):
        same(made, whole)
    made = whole.copy()
    made.exposure[:], made.background[:], made.meta["REDSHIFT"] = 1.0, 2.0, 0.9
    assert whole.exposure.min() == 5e3 and whole.background.max() == 0.5 and whole.meta["REDSHIFT"] == 0.05
    place = whole.wcs.pixel_to_world(10, 20)
    same(cut(whole, place, 40 * u.arcsec), whole, np.s_[15:25, 5:15])
    assert Cutout("a", {"xray": whole}).bands["xray"].background.shape == (N, N)


@pytest.mark.parametrize("write", [lambda made, path: made.write(path), write_image], ids=["write", "write_image"])
def test_maps_are_in_the_file(tmp_path, write):
    whole = image()
    write(trimmed(whole), tmp_path / "part.fits")
    same(read_image(tmp_path / "part.fits"), whole, np.s_[10:20, 5:9])
    write(whole, tmp_path / "a.fits")
    same(read_image(tmp_path / "a.fits"), whole)
    same(SkyImage.read(tmp_path / "a.fits"), whole)
    with fits.open(tmp_path / "a.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASK", "EXPMAP", "BKGMAP"]
        assert [hdu.header.get("BUNIT") for hdu in hdus[2:]] == ["s", "count"]
    plain = CCDData.read(tmp_path / "a.fits")
    np.testing.assert_array_equal(plain.data, whole.data)
    np.testing.assert_array_equal(plain.mask, whole.mask)
    assert (
        plain.unit == u.ct and plain.wcs.pixel_to_world(3, 4).separation(whole.wcs.pixel_to_world(3, 4)).arcsec < 1e-6
    )


def test_cutouts_keep_backgrounds(tmp_path):
    back = Cutout.read(Cutout("a", {"xray": image(), "soft": image(background=None)}).write(tmp_path / "a.fits"))
    assert np.all(back.bands["xray"].background == 0.5) and back.bands["soft"].background is None


@pytest.mark.parametrize("operation", [lambda i: i.multiply(2), lambda i: i.add(i), lambda i: i.divide(3 * u.s)])
def test_arithmetic_drops_maps_as_it_drops_meta(operation):
    result = operation(image())
    assert type(result) is SkyImage and result.exposure is None and result.background is None and not result.meta


@pytest.mark.parametrize(
    "exposure",
    [
        np.full((N, N), 1e4),
        np.full((N, N), 10.0) * u.ks,
        10 * u.ks,
        np.ma.array(np.full((N, N), 1e4), mask=FIRST),
        Masked(np.full((N, N), 1e4) * u.s, mask=FIRST),
        CCDData(np.full((N, N), 1e4), unit=u.s, mask=FIRST),
        np.where(np.arange(N) < 5, np.nan, 1e4) * np.ones((N, 1)),
    ],
    ids=["array", "quantity", "one time", "masked array", "masked quantity", "image", "NaN"],
)
@pytest.mark.parametrize("given", ["argument", "meta", "attribute"])
def test_exposures_are_seconds(exposure, given):
    plain = CCDData(counts(), unit=u.ct)
    if given == "meta":
        plain.meta["exposure_map"] = exposure
        found = as_image(plain)
        assert "exposure_map" not in found.meta
    else:
        found = SkyImage(plain, exposure=exposure if given == "argument" else None)
        found.exposure = exposure
    assert type(found.exposure) is np.ndarray and found.exposure.dtype == np.float64 and found.exposure.shape == (N, N)
    assert set(np.unique(found.exposure)) <= {0.0, 1e4} and np.all(found.exposure[:, 5:] == 1e4)


@pytest.mark.parametrize(
    ("maps", "match"),
    [
        ({"exposure": np.ones((3, 4))}, r"exposure must have the image's shape \(64, 64\), got \(3, 4\)"),
        ({"exposure": 5.0}, "exposure must have the image's shape"),
        ({"exposure": 5 * u.cm}, "exposure must be in s, got cm"),
        ({"background": np.ones(N)}, "background must have the image's shape"),
        ({"background": np.ones((N, N)) * u.ct / u.s}, "background must be in ct, got ct / s"),
    ],
)
def test_maps_that_do_not_fit_are_refused(maps, match):
    with pytest.raises(GeometryError, match=match):
        SkyImage(counts(), unit=u.ct, **maps)


def test_background_on_a_grid_is_conserved_and_unknown_where_it_was():
    """Of 60 pixels across, the first eight are unknown: of 64 of the grid 8.53, and the ninth is known by half."""
    known = np.where(np.arange(N) < 10, np.nan, 0.5) * np.ones((N, 1))
    result = standardise(image(background=known, mask=None), Geometry(4 * u.arcmin, (N, N)))
    unknown = np.isnan(result.background)
    assert unknown[:, :8].all() and not unknown[:, 9:].any()
    assert result.background[:, 9:].sum() == pytest.approx(0.5 * 60 * (60 * 55 / 64), rel=1e-3)


NASTY = {
    "TEXT": "Türkis\nline\ttab",
    "NAN": np.nan,
    "NOTHING": None,
    "LONG": "x" * 300,
    "a very long keyword with blanks": "y" * 30,
    "a very long keyword with more blanks": "z" * 300,
    "ARRAY": np.arange(5),
    "LISTED": [1, 2],
    "QUANTITY": 5 * u.km,
    "NUMBER": np.float32(0.5),
    "TRUE": np.True_,
    "HISTORY": "ü" * 200,
    "SIMPLE": False,
    "CTYPE1": "GLON-CAR",
    "END": 1,
    "PAIR": (3, "with a comment"),
}


def test_any_meta_can_be_written(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        made = SkyImage(counts(), unit=u.ct, wcs=WCS(header()), meta=NASTY)
    made.write(tmp_path / "a.fits")
    back = read_image(tmp_path / "a.fits")
    assert back.meta["LONG"] == "x" * 300 and back.meta["NUMBER"] == 0.5 and back.meta["TRUE"] is True
    assert back.meta["PAIR"] == 3 and back.meta["QUANTITY"] == "5.0 km" and "NAN" not in back.meta
    assert back.wcs.wcs.ctype[0] == "RA---TAN"


def test_a_card_that_is_not_fits_is_left_out(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(counts(), header(BUNIT="count", ABCDEF=1.25)).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"ABCDEF  =                 1.25", b"ABCDEF  =             1.2.3 'x"))
    with pytest.warns(ImageWarning, match="ABCDEF.* is not FITS and is left out"):
        assert "ABCDEF" not in read_image(path).meta


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["xmm", "xmm/real", "rosat", "chandra", "optical"])
def test_real_images_are_written_by_astropy(shared_data, folder, tmp_path):
    for path in sorted((shared_data / folder).glob("*.fits*"))[:6]:
        if "detxy" in path.name:
            continue
        found = read_image(path)
        found.write(tmp_path / "a.fits", overwrite=True)
        plain, back = CCDData.read(tmp_path / "a.fits"), read_image(tmp_path / "a.fits")
        assert np.array_equal(plain.data, found.data) and np.array_equal(back.data, found.data)
        assert plain.unit == found.unit == back.unit
        for each in (plain, back):
            assert each.wcs.pixel_to_world(3, 7).separation(found.wcs.pixel_to_world(3, 7)).arcsec < 1e-5


# Pixels and coordinates


@pytest.mark.parametrize(
    ("stored", "zero"),
    [("u1", None), ("u1", -128), ("i2", None), ("i2", 2**15), ("i4", None), ("i4", 2**31), ("i8", None), ("i8", 2**63)],
)
def test_undefined_integers_are_masked(stored, zero, tmp_path):
    """FITS 4.0, section 4.4.2.5: BLANK is a stored value, whatever the offset (BZERO)."""
    raw = np.full((20, 20), 3, stored)
    raw[5:8, 5:8] = 100
    cards = fits.PrimaryHDU(raw).header
    cards.update({"BLANK": 100, "BUNIT": "count", **({} if zero is None else {"BZERO": zero, "BSCALE": 1})})
    packed = raw.astype(raw.dtype.newbyteorder(">")).tobytes()
    path = tmp_path / "a.fits"
    path.write_bytes(cards.tostring().encode() + packed + bytes(-len(packed) % 2880))
    found = read_image(path)
    assert found.mask.sum() == 9 and found.mask[5:8, 5:8].all() and "non_finite" in flag_names(found.meta["FLAGS"])
    assert np.all(found.data[~found.mask] == 3 + (zero or 0))


@pytest.mark.skipif(not minversion("astropy", "7.0"), reason="astropy 6 cannot read them: an error says so")
def test_undefined_pixels_of_compressed_integers_are_masked(tmp_path):
    raw = np.full((20, 20), 3 + 2**15, np.uint16)
    raw[5:8, 5:8] = 100 + 2**15
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(raw)]).writeto(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", disable_image_compression=True) as hdus:
        hdus[1].header["ZBLANK"] = 100
        hdus.writeto(tmp_path / "b.fits")
    found = read_image(tmp_path / "b.fits")
    assert found.mask.sum() == 9 and np.all(found.data[~found.mask] == 3 + 2**15)


@pytest.mark.parametrize(
    "extra",
    [
        {"CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CRPIX3": 1.0, "CDELT3": 1e6},
        {"WCSAXES": 3, "CTYPE3": "PI"},
        {"CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": 1.0},
        {"WCSAXES": 4, "CTYPE3": "FREQ", "CTYPE4": "STOKES"},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(N, N), (1, N, N)])
def test_leftover_axes_do_not_matter(extra, shape, tmp_path):
    fits.PrimaryHDU(np.ones(shape, np.int16), header(BUNIT="count", **extra)).writeto(tmp_path / "a.fits")
    found = read_image(tmp_path / "a.fits")
    assert found.wcs.naxis == 2
    assert found.wcs.pixel_to_world(31.5, 31.5).separation(SkyCoord(150, 2, unit="deg")).arcsec < 1e-6
    assert standardise(found, Geometry(6 * u.arcmin, (N, N))).data.sum() == pytest.approx(N * N, rel=1e-6)


def test_lookup_tables_are_read_and_said_not_to_be_written(tmp_path):
    """Half a pixel in x and y everywhere: 2 arcsec."""
    hdus = fits.HDUList([fits.PrimaryHDU(counts(), header(BUNIT="count"))])
    for axis in (1, 2):
        hdus[0].header[f"CPDIS{axis}"] = "Lookup"
        for text in (f"EXTVER: {axis}.0", "NAXES: 2.0", "AXIS.1: 1.0", "AXIS.2: 2.0"):
            hdus[0].header.append((f"DP{axis}", text))
        hdus.append(fits.ImageHDU(np.full((8, 8), 0.5, np.float32), name="WCSDVARR", ver=axis))
        hdus[-1].header.update({f"{key}{n}": value for n in (1, 2) for key, value in TABLE.items()})
    hdus.writeto(tmp_path / "a.fits")
    found = read_image(tmp_path / "a.fits")
    place = found.wcs.pixel_to_world(31.5, 31.5)
    assert place.separation(SkyCoord(150, 2, unit="deg")).arcsec == pytest.approx(2 * np.sqrt(2), abs=0.05)
    with pytest.warns(ImageWarning, match="lookup tables of the distortion"):
        found.write(tmp_path / "b.fits")


# Units


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        *((text, u.ct) for text in ("count", "counts", "Counts", "COUNT", "cts", "CNTS", "photons", "counts/pixel")),
        *((text, u.adu) for text in ("ADU", "adu")),
        *((text, u.electron) for text in ("ELECTRONS", "electron", "e-")),
        *(
            (text, u.ct / u.s)
            for text in ("cps", "counts per second", "counts/sec", "COUNTS/S", "count s-1", "cts_per_s")
        ),
        ("photon/cm**2/s", u.photon / u.cm**2 / u.s),
        ("PH/CM2/S", u.photon / u.cm**2 / u.s),
        ("cts/s/arcmin^2", u.ct / u.s / u.arcmin**2),
        ("e-/s", u.electron / u.s),
        ("hours", u.h),
        ("KSEC", u.ks),
    ],
)
def test_words_for_units(text, unit, tmp_path):
    fits.PrimaryHDU(counts(), header(BUNIT=text)).writeto(tmp_path / "a.fits")
    found = read_image(tmp_path / "a.fits")
    assert found.unit == unit and "FLAGS" not in found.meta
    if unit not in (u.ct, u.adu):
        with pytest.raises(GeometryError, match="image must be in counts"):
            standardise(found, Geometry(3 * u.arcmin, (N, N)))


@pytest.mark.parametrize("text", ["rate", "cts per sq. arcmin per s", "log10(ct/s)", "Flux", "intensity", "kcps/beam"])
def test_words_for_rates_that_are_not_understood_are_refused(text, tmp_path):
    fits.PrimaryHDU(counts(), header(BUNIT=text)).writeto(tmp_path / "a.fits")
    with pytest.raises(GeometryError, match="is not understood and is not a word for counts"):
        read_image(tmp_path / "a.fits")


def test_other_words_are_flagged(tmp_path):
    fits.PrimaryHDU(counts().astype(np.int16), header(BUNIT="colour index", TELESCOP="CHANDRA")).writeto(
        tmp_path / "a.fits"
    )
    with pytest.warns(ImageWarning, match="'colour index' is not a unit; counts are assumed"):
        found = read_image(tmp_path / "a.fits")
    assert found.unit == u.ct and flag_names(found.meta["FLAGS"]) == ("no_unit",)


def test_a_rate_says_what_to_do():
    rate = image(mask=None)
    rate = SkyImage(rate.data / rate.exposure, unit="ct/s", wcs=rate.wcs, exposure=rate.exposure)
    with pytest.raises(GeometryError, match="multiply a rate by its exposure: SkyImage"):
        standardise(rate, Geometry(3 * u.arcmin, (N, N)))


EVENTS = {
    "CIAO dmcopy": (
        {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "HDUCLAS1": "EVENTS", "CONTENT": "EVT2"},
        np.int16,
        True,
    ),
    "CIAO, filled": ({"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "HDUCLAS1": "EVENTS"}, np.float64, True),
    "SAS evselect": ({"TELESCOP": "XMM", "HDUCLAS1": "IMAGE", "HDUCLAS2": "TOTAL"}, np.int32, True),
    "eSASS evtool": ({"TELESCOP": "eROSITA", "INSTRUME": "TM1"}, np.int32, True),
    "ROSAT": ({"TELESCOP": "ROSAT", "INSTRUME": "PSPCB", "CONTENT": "IMAGE"}, np.int16, True),
    "mask": ({"TELESCOP": "XMM"}, np.uint8, False),
    "background": ({"TELESCOP": "XMM"}, np.float32, False),
    "camera": ({"TELESCOP": "VLT"}, np.int16, False),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_whole_numbers_of_x_ray_telescopes_are_counts(kind, tmp_path):
    keys, dtype, known = EVENTS[kind]
    fits.PrimaryHDU(counts().astype(dtype), header(**keys)).writeto(tmp_path / "a.fits")
    found = read_image(tmp_path / "a.fits")
    assert found.unit == u.ct and ("FLAGS" not in found.meta) is known
    fits.PrimaryHDU(counts() * 1.1, header(**keys)).writeto(tmp_path / "b.fits")
    assert flag_names(read_image(tmp_path / "b.fits").meta["FLAGS"]) == ("no_unit",)


def test_a_perfect_acis_image_as_ciao_writes_it_has_no_flag(tmp_path):
    """A mock of the model's own population: no BUNIT, int16, chips in DETNAM, band in ENERGYLO and the filters."""
    halo = EmbeddedPopulation(1, rng=3, real_share=0, log_mass=(13.9, 14.3), max_cells=40_000).read_halo(0)
    settings = {"exposure": 100 * u.ks, "redshift": 0.05, "width": 1 * u.Mpc, "shape": (256, 256)}
    mock = observe(halo, Observation(energy_range=(0.5, 7.0) * u.keV, **settings), engine="direct", rng=1)
    cards = mock.wcs.to_header()
    cards.update(
        {
            "TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "DETNAM": "ACIS-0123", "SIM_Z": -233.587, "EXPOSURE": 1e5,
            "HDUCLASS": "OGIP", "HDUCLAS1": "EVENTS", "HDUCLAS2": "ACCEPTED", "CONTENT": "EVT2",
            "CREATOR": "dmcopy - Version CIAO 4.15", "DSTYP1": "energy", "DSVAL1": "500:7000", "DSUNIT1": "eV",
            "ENERGYLO": 0.5, "ENERGYHI": 7.0, "LTV1": -3830.0, "LTM1_1": 0.125, "LTV2": -3851.0, "LTM2_2": 0.125,
            "OBJECT": "mock",
        }
    )  # fmt: skip
    fits.PrimaryHDU(mock.data.astype(np.int16), cards).writeto(tmp_path / "broad_thresh.img")
    row = load_classifier("coolcore").classify(tmp_path / "broad_thresh.img", redshift=0.05)[0]
    assert flag_names(row["flags"]) == ()


# Exposure maps in files of their own


@pytest.mark.parametrize(
    ("values", "changes", "match"),
    [
        (9e3, {"CRVAL1": 160.0, "BUNIT": "s"}, "lie on the pixels .*: survey.read_field regrids maps"),
        (9e3, {"CDELT1": -8 / 3600, "CDELT2": 8 / 3600, "BUNIT": "s"}, "survey.read_field"),
        (9e3, {"CRVAL1": 160.0, "BUNIT": "s", "CTYPE3": "ENERGY", "CRPIX3": 1.0}, "survey.read_field"),
        (3.6e6, {}, "has no unit and cannot be in seconds: its largest value is 3.6e.06, .* 1e.04 s"),
        (1.0, {}, "has no unit and cannot be in seconds"),
        (500.0, {"BUNIT": "cm**2 count/photon"}, "exposure must be in seconds .or area times time., got cm2"),
        (9e3, {"BUNIT": "erg"}, "exposure must be in seconds"),
    ],
)
def test_exposure_maps_that_are_not_this_image_s(values, changes, match, tmp_path):
    fits.PrimaryHDU(counts(), header(BUNIT="count", EXPOSURE=1e4)).writeto(tmp_path / "a.fits")
    fits.PrimaryHDU(np.full((N, N), values), header(**changes)).writeto(tmp_path / "e.fits")
    with pytest.raises(GeometryError, match=match):
        read_image(tmp_path / "a.fits", exposure=tmp_path / "e.fits")


@pytest.mark.parametrize(
    ("values", "unit", "seconds"),
    [
        (9e3, "s", 9e3),
        (9.0, "ksec", 9e3),
        (2.5, "hours", 9e3),
        (9e3, "", 9e3),
        (4e6, "cm**2 s", 1e4),
        (4e6, "cm**2 s count/photon", 1e4),
    ],
)
@pytest.mark.parametrize("coordinates", [True, False])
def test_exposure_maps_in_seconds(values, unit, seconds, coordinates, tmp_path):
    fits.PrimaryHDU(counts(), header(BUNIT="count", EXPOSURE=1e4)).writeto(tmp_path / "a.fits")
    cards = header(BUNIT=unit) if coordinates else fits.Header({"BUNIT": unit})
    fits.PrimaryHDU(np.full((N, N), values), cards).writeto(tmp_path / "e.fits")
    found = read_image(tmp_path / "a.fits", exposure=tmp_path / "e.fits")
    np.testing.assert_allclose(found.exposure, seconds)


def test_nddata_and_uncertainties():
    plain = NDData(counts(), unit=u.ct, uncertainty=StdDevUncertainty(np.ones((N, N))), wcs=WCS(header()))
    found = as_image(plain)
    assert isinstance(found.uncertainty, StdDevUncertainty) and found[2:4, 5:9].uncertainty.array.shape == (2, 4)
    buffer = io.BytesIO()
    found.to_hdu().writeto(buffer)
    assert buffer.tell() % 2880 == 0


def test_places_on_the_earth_are_no_sky(tmp_path):
    fits.PrimaryHDU(counts(), header(CTYPE1="TLON-CAR", CTYPE2="TLAT-CAR")).writeto(tmp_path / "image.fits")
    assert read_image(tmp_path / "image.fits").wcs is None
    with pytest.raises(GeometryError, match="celestial WCS"):
        pixel_scale(CCDData(counts(), unit=u.ct, wcs=WCS({"CTYPE1": "TLON-CAR", "CTYPE2": "TLAT-CAR"})))


def test_a_mask_of_another_shape_is_refused(tmp_path):
    mask = fits.ImageHDU(np.zeros((3, 3), np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(counts(), header()), mask]).writeto(tmp_path / "image.fits")
    with pytest.raises(GeometryError, match="MASK .* must have the image's shape"):
        read_image(tmp_path / "image.fits")


@pytest.mark.parametrize("key", ["WCSAXES", "WCSAXESB"])
@pytest.mark.parametrize("distorted", [True, False])
def test_axes_beyond_any_number_are_refused(tmp_path, key, distorted):
    more = {"PV1_1": 0.0} if distorted else {}
    fits.PrimaryHDU(counts(), header(**{key: 65536}, **more)).writeto(tmp_path / "image.fits")
    with pytest.raises(GeometryError, match=f"{key} must be a whole number of axes up to 15, got 65536"):
        read_image(tmp_path / "image.fits")
