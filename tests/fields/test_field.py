"""Fields: what is read, estimated, refused and flagged, for every instrument; cameras added."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError, ImageWarning
from astroclassify.images import as_image, read_image, write_image
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_field
from astroclassify.survey import Field, GaussianPsf, KingPsf, MixedPsf, combine_fields, default_psf, read_field

N = 120
HEADERS = {
    "EPN": {"TELESCOP": "XMM", "INSTRUME": "EPN", "EXPOSURE": 1e4},
    "EMOS1": {"TELESCOP": "XMM", "INSTRUME": "EMOS1", "EXPOSURE": 1e4},
    "EMOS2": {"TELESCOP": "XMM", "INSTRUME": "EMOS2", "EXPOSURE": 1e4},
    "ACIS": {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "LIVETIME": 1e4, "EXPTIME": 3.2},
    "PSPC": {"TELESCOP": "ROSAT", "INSTRUME": "PSPCB", "ONTIME": 1e4},
    "EROSITA": {"TELESCOP": "eROSITA", "INSTRUME": "merged", "EXPTIME": 1e4},
    "XRT": {"TELESCOP": "SWIFT", "INSTRUME": "XRT", "EXPOSURE": 1e4},
    "FXT": {"TELESCOP": "EP", "INSTRUME": "FXTA", "EXPOSURE": 1e4},
    "EPIC": {"TELESCOP": "XMM", "INSTRUME": "EPIC", "EXPOSURE": 1e4},
    "EMOS1+EMOS2": {"TELESCOP": "XMM", "INSTRUME": "EMOS1+EMOS2", "EXPOSURE": 1e4},
}
NO_EXPOSURE, NO_BACKGROUND = Flag.NO_EXPOSURE, Flag.NO_BACKGROUND


def wcs(n=N, step=4.0, ra=150.0, dec=2.0):
    """Grid of n by n pixels of ``step`` arcsec."""
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": (n + 1) / 2, "CRPIX2": (n + 1) / 2}
    return WCS({**header, "CRVAL1": ra, "CRVAL2": dec, "CDELT1": -step / 3600, "CDELT2": step / 3600})


def poisson(level=0.3, seed=0, n=N):
    return np.random.default_rng(seed).poisson(level, (n, n)).astype(float)


def image(counts=None, grid=None, unit=u.ct, instrument="EPN", **meta):
    counts = poisson() if counts is None else counts
    header = {key: value for key, value in {**HEADERS[instrument], **meta}.items() if value is not None}
    return CCDData(counts, unit=unit, wcs=grid or wcs(), meta=header)


def seconds(values, grid=None, unit=u.s):
    return CCDData(np.asarray(values, float), unit=unit, wcs=grid or wcs())


def hdu(counts, grid=None, instrument="EPN", **cards):
    header = (grid or wcs()).to_header()
    header.update({**HEADERS[instrument], **cards})
    return fits.PrimaryHDU(counts, header=header)


@pytest.mark.parametrize("instrument", HEADERS)
def test_every_instrument_is_known_by_its_header(instrument):
    """The time of the header, the instrument's PSF, and flags for the two maps that did not come."""
    field = read_field(image(instrument=instrument))
    assert field.instrument == instrument
    assert field.shape == (N, N) and field.pixel == pytest.approx(4.0)
    assert field.flags == NO_EXPOSURE | NO_BACKGROUND
    assert not field.mask.any()
    assert field.livetime == pytest.approx(1e4, rel=1e-3)
    np.testing.assert_array_equal(field.counts, poisson())
    assert field.background.mean() == pytest.approx(0.3, rel=0.03)
    expected = default_psf(instrument)
    assert type(field.psf) is type(expected)
    assert field.psf.radius(0.5, 3.0) == pytest.approx(expected.radius(0.5, 3.0))
    assert instrument in repr(field) and "4346 counts" in repr(field)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ({"TELESCOP": "SRG", "INSTRUME": "TM1"}, "EROSITA"),
        ({"TELESCOP": "CHANDRA", "INSTRUME": " acis-i "}, "ACIS"),
        ({"TELESCOP": "ROSAT", "INSTRUME": "PSPC"}, "PSPC"),
        ({"TELESCOP": None, "INSTRUME": "TM8"}, "EROSITA"),
        ({"TELESCOP": "EINSTEIN PROBE", "INSTRUME": "FXT-B"}, "FXT"),
        ({"TELESCOP": "XMM", "INSTRUME": "EMOS1, EPN"}, "EMOS1+EPN"),
        ({"TELESCOP": "XMM", "INSTRUME": "EMOS1+RGS1"}, "UNKNOWN"),
        ({"TELESCOP": "CHANDRA", "INSTRUME": "HRC"}, "UNKNOWN"),
        ({"TELESCOP": None, "INSTRUME": None}, "UNKNOWN"),
    ],
)
def test_names_of_instruments(header, name):
    field = read_field(image(**header), psf=GaussianPsf(10 * u.arcsec), exposure=1 * u.ks)
    assert field.instrument == name


def test_unknown_instrument_needs_a_psf():
    with pytest.raises(ValueError, match="psf must be .*--psf.*TELESCOP CHANDRA and INSTRUME HRC, known are EPN"):
        read_field(image(INSTRUME="HRC", TELESCOP="CHANDRA"))
    with pytest.raises(ValueError, match=r"neither TELESCOP \(or MISSION\) nor INSTRUME; set them if .* is EPN, EMOS1"):
        read_field(image(INSTRUME=None, TELESCOP=None))


@pytest.mark.parametrize(
    ("instrument", "cards", "band"),
    [
        # PI in eV in the data subspace of XMM's SAS; keV of CIAO.
        ("EPN", {"DSTYP1": "CCDNR", "DSVAL1": "1", "DSTYP4": "PI", "DSVAL4": "500:2000"}, (0.5, 2.0)),
        ("EPN", {"DSTYP1": "PI", "DSVAL1": ":4"}, None),
        ("EPN", {"DSTYP1": "PI"}, None),
        ("ACIS", {"ENERGYLO": 0.5, "ENERGYHI": 7.0}, (0.5, 7.0)),
        ("ACIS", {"ENERGYLO": 7.0, "ENERGYHI": 0.5}, None),
        ("ACIS", {"ENERGYLO": 0.5}, None),
        ("PSPC", {"DSTYP1": "PI", "DSVAL1": "52:201"}, (0.52, 2.01)),
    ],
)
def test_energy_range_of_the_header(instrument, cards, band):
    found = read_field(image(instrument=instrument, **cards)).energy_range
    assert (found is None) if band is None else found.to_value(u.keV) == pytest.approx(band)


def test_energy_range_sets_the_energy_of_the_psf():
    """At the geometric mean of the band."""
    field = read_field(image(), energy_range=[500, 8000] * u.eV)
    assert field.energy_range.unit == u.keV and field.energy_range.value == pytest.approx([0.5, 8])
    assert field.psf.radius(0.5) == pytest.approx(KingPsf("EPN", 2 * u.keV).radius(0.5))
    assert read_field(image()).psf.radius(0.5) == pytest.approx(KingPsf("EPN", 1 * u.keV).radius(0.5))


@pytest.mark.parametrize(
    ("band", "error", "match"),
    [
        ((0.5, 2.0), TypeError, "energy_range must be a Quantity"),
        ([2, 0.5] * u.keV, ValueError, "energy_range must rise"),
        ([0.5, 1, 2] * u.keV, ValueError, r"energy_range must have shape \(2,\)"),
        ([0, 2] * u.keV, ValueError, "energy_range must be larger than zero"),
        ([20, 100] * u.arcsec, ValueError, "energy_range must have a unit like keV"),
    ],
)
def test_energy_ranges_that_are_refused(band, error, match):
    with pytest.raises(error, match=match):
        read_field(image(), energy_range=band)


def test_own_psf_is_kept_and_checked():
    psf = GaussianPsf(8 * u.arcsec)
    assert read_field(image(), psf=psf).psf is psf
    with pytest.raises(TypeError, match="psf must be a PSF object .*got str without"):
        read_field(image(), psf="EPN")


def test_axis_is_where_the_telescope_points():
    middle = read_field(image()).axis
    assert middle.separation(SkyCoord(150, 2, unit="deg")) < 0.01 * u.arcsec
    pointed = read_field(image(RA_NOM=150.0, DEC_NOM=2.0, RA_PNT=150.05, DEC_PNT=2.0))
    assert pointed.axis.ra.deg == 150.05
    nominal = read_field(image(RA_NOM=150.05, DEC_NOM=2.0, RA_PNT="none"))
    assert nominal.axis.ra.deg == 150.05
    # Three arcmin to the east, which is to the left.
    assert pointed.off_axis(*np.array([[59.5], [59.5]])) == pytest.approx(3.0, rel=2e-3)
    assert pointed.off_axis(59.5 - 45, 59.5) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    "cards",
    [{"RA_PNT": np.nan, "DEC_PNT": 2.0}, {"RA_PNT": 330.0, "DEC_PNT": -2.0}, {"RA_PNT": 150.0, "DEC_PNT": 99.0}],
)
def test_axis_that_cannot_be_is_not_believed(cards):
    field = read_field(image(**cards))
    assert field.axis.separation(SkyCoord(150, 2, unit="deg")) < 0.01 * u.arcsec
    assert field.livetime == pytest.approx(1e4, rel=1e-3)


# Exposure


def test_estimated_exposure_is_time_times_vignetting():
    field = read_field(image(poisson(0.5), wcs(step=8.0)))
    y, x = np.mgrid[:N, :N]
    off_axis = np.hypot(x - 59.5, y - 59.5) * 8 / 60
    np.testing.assert_allclose(field.exposure, 1e4 / (1 + (off_axis / 11.8) ** 2), rtol=1e-6)


def test_estimated_field_of_view_is_where_counts_can_be():
    """A disc with a gap wider than the squares: found within their size; a stray count outside is not in it."""
    n = 200
    y, x = np.mgrid[:n, :n]
    true = np.hypot(x - 99.5, y - 99.5) < 75
    true[:, 120:140] = False
    counts = np.where(true, poisson(1.0, n=n), 0.0)
    counts[3, 3] = 1
    field = read_field(image(counts, wcs(n)))
    assert field.flags & NO_EXPOSURE
    assert (~field.mask & true).sum() > 0.99 * true.sum()
    assert (~field.mask & ~true).sum() < 0.06 * true.sum()
    assert field.mask[3, 3] and field.counts[3, 3] == 0 and field.mask[100, 130]
    np.testing.assert_array_equal(field.mask, field.exposure == 0)
    assert np.all(field.background[field.mask] == 0)


def test_estimated_field_of_view_of_epic_pn_is_that_of_its_chips():
    """Round, with gaps, as the header's PA_PNT turns it; where the counts show no gaps, there are none."""
    true = simulate_field(rng=3, exposure=20 * u.ks, pixel=4 * u.arcsec, shape=(405, 405)).field
    cards = {key: value for key, value in true.meta.items() if not isinstance(value, np.ndarray)}
    field = read_field(CCDData(true.counts, unit=u.ct, wcs=true.wcs, meta=cards))
    assert field.flags & NO_EXPOSURE
    assert np.mean(field.mask & ~true.mask) < 0.01
    assert np.mean(~field.mask & true.mask) < 0.06  # columns that are dead are not known
    both = ~field.mask & ~true.mask
    np.testing.assert_allclose(field.exposure[both], true.exposure[both], rtol=0.1)
    filled = np.random.default_rng(1).poisson(0.5, true.shape).astype(float)
    without = read_field(CCDData(filled, unit=u.ct, wcs=true.wcs, meta=cards))
    assert (~without.mask).sum() > 1.04 * (~field.mask).sum() and without.mask.any()


@pytest.mark.parametrize("counts", [np.zeros((90, 90)), np.eye(90) * (np.arange(90) < 9)], ids=["none", "few"])
def test_field_of_view_of_too_few_counts_is_everything(counts):
    assert not read_field(image(counts)).mask.any()


@pytest.mark.parametrize(
    ("instrument", "angle"), [("EPN", 11.8), ("EMOS1", 11.8), ("EMOS2", 11.8), ("ACIS", 25.0), ("PSPC", 52.0)]
)
def test_vignetting_is_half_at_the_angle_it_is_known_for(instrument, angle):
    field = read_field(image(poisson(0.5), wcs(step=60.0), instrument=instrument))
    falling = field.exposure[N // 2, N // 2 :] / 1e4  # from the axis to 60 arcmin from it
    off_axis = field.off_axis(np.arange(N // 2, N), N // 2)
    assert falling[0] == pytest.approx(1, abs=0.01)
    assert np.interp(angle, off_axis, falling) == pytest.approx(0.5, abs=1e-3)
    assert np.all(np.diff(falling) < 0) and falling.min() > 0


def test_no_vignetting_where_none_is_known():
    assert np.all(read_field(image(poisson(0.5), wcs(step=60.0), instrument="EROSITA")).exposure == 1e4)


@pytest.mark.parametrize(
    ("meta", "time"),
    [
        ({"EXPOSURE": 5.0, "ONTIME": 7.0}, 5.0),
        ({"EXPOSURE": 0, "LIVETIME": "x", "ONTIME": 7.0}, 7.0),
        ({"EXPOSURE": np.inf, "EXPTIME": (3.2, "frame")}, 3.2),
    ],
)
def test_time_of_a_header(meta, time):
    assert read_field(image(**meta)).livetime == pytest.approx(time, rel=1e-3)


def test_frame_time_of_chandra_is_no_exposure():
    """EXPTIME of ACIS is the time of one frame."""
    with pytest.raises(GeometryError, match="exposure must be given"):
        read_field(image(instrument="ACIS", LIVETIME=None))


def test_pointing_in_an_old_frame():
    """RA_PNT and DEC_PNT are in the frame of the image's coordinates, here FK4 (EQUINOX = 1950 alone)."""
    header = wcs().to_header()
    header.update({"EQUINOX": 1950.0, "RADESYS": "FK4", "RA_PNT": 150.0, "DEC_PNT": 2.0, **HEADERS["PSPC"]})
    field = read_field(fits.PrimaryHDU(poisson(), header=header))
    assert field.off_axis((N - 1) / 2, (N - 1) / 2) < 0.01


def test_contradicting_header_warns():
    filters = {"DSTYP1": "energy", "DSVAL1": "500:2000", "DSUNIT1": "eV", "ENERGYLO": 2.0, "ENERGYHI": 7.0}
    with pytest.warns(ImageWarning, match="the band 2 to 7 keV .* not within the filters"):
        assert read_field(image(instrument="ACIS", **filters)).energy_range is None


@pytest.mark.parametrize(("masked", "unit"), [(np.ma.array, None), (Masked, None), (Masked, u.ks)])
def test_masked_pixels_of_an_exposure_array_are_not_used(masked, unit):
    """What lies behind the mask is no exposure."""
    gaps = np.zeros((N, N), bool)
    gaps[:, :20] = True
    exposure = masked(np.full((N, N), 1e4) if unit is None else np.full((N, N), 10.0) * unit, mask=gaps)
    assert read_field(image(), exposure=exposure).mask.sum() == 20 * N


@pytest.mark.parametrize("top", [360e4, 1.2e4, 50.0])
@pytest.mark.parametrize("form", ["file", "array", "image"])
def test_an_exposure_map_without_a_unit_must_be_one_in_seconds(form, top, tmp_path):
    """The header says 1e4 s: area times time, or a map relative to one, is not believed; with a unit all is."""
    hdu(np.full((N, N), top)).writeto(tmp_path / "e.fits")
    given = {
        "file": tmp_path / "e.fits",
        "array": np.full((N, N), top),
        "image": CCDData(np.full((N, N), top), unit=u.one),
    }[form]
    with pytest.raises(GeometryError, match=r"exposure has no unit and cannot be in seconds.* 1e\+04 s. Give the map"):
        read_field(image(), exposure=given)
    assert read_field(image(), exposure=np.full((N, N), top) * u.s).livetime == top
    assert read_field(image(EXPOSURE=None), exposure=given).livetime == top  # nothing says otherwise


def test_leftover_axes_of_a_map_do_not_hide_where_it_lies(tmp_path):
    cards = wcs(ra=160.0).to_header()
    cards.update({"CTYPE3": "ENERGY", "CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 1.0, "BUNIT": "s"})
    fits.PrimaryHDU(np.full((N, N), 9e3), cards).writeto(tmp_path / "e.fits")
    with pytest.raises(GeometryError, match="exposure does not overlap the image"):
        read_field(image(), exposure=tmp_path / "e.fits")


def test_a_background_that_came_with_the_image_is_used(tmp_path):
    first = read_field(image(), exposure=10 * u.ks, background=np.full((N, N), 0.3))
    assert Flag.NO_BACKGROUND not in first.flags
    first.to_ccd().write(tmp_path / "a.fits")
    again = read_field(tmp_path / "a.fits")
    np.testing.assert_allclose(again.background, 0.3, rtol=1e-6)
    assert again.flags == first.flags
    estimated = read_field(read_field(image()).to_ccd())  # the estimates are kept, and said to be such
    assert estimated.flags == NO_EXPOSURE | NO_BACKGROUND


def test_band_that_starts_at_zero():
    """A band from zero has no geometric mean; its PSF is that of the middle."""
    field = read_field(image(E_MIN=0.0, E_MAX=2.0))
    assert field.psf.radius(0.5, 3.0) == pytest.approx(KingPsf("EPN", 1 * u.keV).radius(0.5, 3.0))


def test_no_exposure_at_all():
    with pytest.raises(GeometryError, match="exposure must be given .*EXPOSURE, LIVETIME, ONTIME, EXPTIME"):
        read_field(image(EXPOSURE=None))


@pytest.mark.parametrize("exposure", [10 * u.ks, np.full((N, N), 1e4), np.full((N, N), 10.0) * u.ks], ids=str)
def test_exposure_as_time_array_or_quantity(exposure):
    field = read_field(image(EXPOSURE=None), exposure=exposure)
    np.testing.assert_allclose(field.exposure, 1e4)
    assert field.flags == NO_BACKGROUND


def test_exposure_that_came_with_the_image():
    came = np.full((N, N), 5e3)
    came[:10] = 0
    field = read_field(image(exposure_map=came))
    np.testing.assert_array_equal(field.exposure, came)
    assert field.flags == NO_BACKGROUND and field.mask[:10].all() and not field.mask[10:].any()
    assert "exposure_map" not in field.meta and field.meta["TELESCOP"] == "XMM"
    # What is given goes before what came.
    assert read_field(image(exposure_map=came), exposure=2 * u.ks).livetime == 2000


def test_exposure_on_another_grid_is_interpolated():
    """A plane of twice the pixels' size, turned by nothing, is a plane on the image's grid."""
    coarse = wcs(80, 8.0)
    x = (np.arange(80) - 39.5) * 8
    field = read_field(image(), exposure=seconds(np.broadcast_to(1e4 + 10 * x, (80, 80)), coarse))
    expected = 1e4 + 10 * (np.arange(N) - 59.5) * 4
    np.testing.assert_allclose(field.exposure, np.broadcast_to(expected, (N, N)), rtol=1e-5)


def test_exposure_that_covers_a_part_masks_the_rest():
    field = read_field(image(), exposure=seconds(np.full((N, N), 1e4), wcs(ra=150.05)))
    # 180 arcsec to the left: 45 pixels on the right have none.
    assert field.mask[:, -44:].all() and not field.mask[:, : N - 46].any()
    assert np.all(field.counts[field.mask] == 0) and np.all(field.exposure[field.mask] == 0)


@pytest.mark.parametrize("unit", [u.cm**2 * u.s, u.cm**2 * u.s * u.ct / u.photon, u.cm**2 * u.s * u.ct, u.m**2 * u.h])
def test_exposure_of_area_and_time_is_scaled_to_the_header_s_time(unit):
    shape = np.broadcast_to(np.linspace(0.5, 1.0, N), (N, N))
    field = read_field(image(), exposure=seconds(400e4 * shape, unit=unit))
    np.testing.assert_allclose(field.exposure, 1e4 * shape)


def test_exposure_of_area_and_time_needs_the_header_s_time():
    with pytest.raises(GeometryError, match="EXPOSURE, LIVETIME"):
        read_field(image(EXPOSURE=None), exposure=seconds(np.ones((N, N)), unit=u.cm**2 * u.s))


def test_exposure_with_holes_and_rounding():
    """NaN and what lies a rounding below zero (splines of a resampled map) count as not observed."""
    exposure = np.full((N, N), 1e4)
    exposure[0], exposure[1] = np.nan, -1e-3
    field = read_field(image(), exposure=exposure)
    assert field.mask[:2].all() and not field.mask[2:].any()
    assert field.exposure.min() == 0


@pytest.mark.parametrize(
    ("exposure", "error", "match"),
    [
        (np.ones((10, 10)), GeometryError, r"exposure must have a celestial WCS or the image's shape \(120, 120\)"),
        (seconds(np.ones((N, N)), wcs(ra=20.0)), GeometryError, "exposure does not overlap the image"),
        (seconds(np.ones((30, 30)), wcs(30, ra=20.0)), GeometryError, "exposure does not overlap the image"),
        (seconds(np.ones((N, N)), unit=u.keV), GeometryError, "exposure must be in seconds .*got keV"),
        (np.ones((N, N)) * u.m, GeometryError, "exposure must be in seconds .*got m"),
        (-np.ones((N, N)), GeometryError, "exposure must not be negative, got values from -1"),
        (np.zeros((N, N)), GeometryError, "exposure and mask leave no usable pixel"),
        (np.full((N, N), np.nan), GeometryError, "exposure: .*no valid pixel"),
        (np.ones((2, N, N)), GeometryError, "exposure: .*two-dimensional"),
        (-10 * u.ks, ValueError, "exposure must be larger than zero"),
        (10 * u.m, ValueError, "exposure must have a unit like s"),
        (1e4, TypeError, "exposure must be a path, CCDData, FITS HDU, array or Quantity, got float"),
    ],
)
def test_exposures_that_are_refused(exposure, error, match):
    with pytest.raises(error, match=match):
        read_field(image(), exposure=exposure)


def test_counts_where_the_exposure_is_zero_are_warned_of():
    exposure = np.where(np.arange(N) < 90, 0.0, 1e4) * np.ones((N, 1))
    with pytest.warns(ImageWarning, match=r"\d+ of 4346 counts lie where the exposure map is zero"):
        field = read_field(image(), exposure=exposure)
    assert field.mask[:, :90].all() and field.counts.sum() < 0.3 * 4346


# Background


def test_background_is_taken_as_it_is():
    given = np.broadcast_to(np.linspace(0.1, 0.5, N), (N, N)).copy()
    field = read_field(image(), exposure=10 * u.ks, background=given)
    np.testing.assert_array_equal(field.background, given)
    assert field.flags == Flag(0)


def test_background_on_another_grid_keeps_its_counts_per_area():
    """1.2 counts in pixels of 8 arcsec are 0.3 in pixels of 4."""
    coarse = CCDData(np.full((80, 80), 1.2), unit=u.ct, wcs=wcs(80, 8.0))
    field = read_field(image(), exposure=10 * u.ks, background=coarse)
    np.testing.assert_allclose(field.background, 0.3, rtol=1e-6)


@pytest.mark.parametrize(
    ("background", "error", "match"),
    [
        (np.ones((10, 10)), GeometryError, "background must have a celestial WCS or the image's shape"),
        (CCDData(np.ones((N, N)), unit=u.ct, wcs=wcs(ra=20.0)), GeometryError, "background does not overlap"),
        (-np.ones((N, N)), GeometryError, "background must not be negative"),
        (seconds(np.ones((N, N))), GeometryError, "background: .*in counts"),
        (np.full((N, N), np.nan), GeometryError, "background: .*no valid pixel"),
        (0.3, TypeError, "background must be a path, CCDData, FITS HDU or array, got float"),
    ],
)
def test_backgrounds_that_are_refused(background, error, match):
    with pytest.raises(error, match=match):
        read_field(image(), background=background)


# Images


def test_where_the_background_is_not_known_nothing_is():
    """Zero would make a source of the first photon."""
    level = np.full((N, N), 0.3)
    level[:40] = np.nan
    known = read_field(image(), exposure=1e4 * u.s, background=level)
    assert known.mask[:40].all() and not known.mask[40:].any() and known.counts[:40].sum() == 0
    part = seconds(np.full((60, 60), 0.3), wcs(60), unit=u.ct)
    known = read_field(image(), exposure=1e4 * u.s, background=part)
    assert known.mask[:25].all() and not known.mask[35:85, 35:85].any()
    with pytest.raises(GeometryError, match="background: image has no valid pixel"):
        read_field(image(), exposure=1e4 * u.s, background=np.full((N, N), np.nan))
    with pytest.raises(GeometryError, match="background has no value in any usable pixel"):
        read_field(image(), exposure=1e4 * u.s, background=level, mask=np.isfinite(level))


def test_pixels_must_be_square():
    grid = wcs()
    grid.wcs.cdelt = [-4 / 3600, 2 / 3600]
    with pytest.raises(GeometryError, match="image must have square pixels, got 4 by 2 arcsec"):
        read_field(image(grid=grid), exposure=1e4 * u.s)


def test_nan_borders_are_masked_and_flagged():
    counts = np.pad(poisson()[10:-10, 10:-10], 10, constant_values=np.nan)
    field = read_field(image(counts))
    assert field.flags == NO_EXPOSURE | NO_BACKGROUND | Flag.NON_FINITE | Flag.MASKED
    assert field.mask[:10].all() and field.mask[:, -10:].all()
    assert not field.mask[10:-10, 10:-10].any()  # the field of view ends where the mask does
    assert np.all(np.isfinite(field.counts)) and np.all(field.counts[field.mask] == 0)
    assert np.isfinite(field.background).all()
    assert field.background[~field.mask].mean() == pytest.approx(field.counts[~field.mask].mean(), rel=0.01)


def test_blank_field():
    field = read_field(image(np.zeros((N, N))))
    assert field.flags == NO_EXPOSURE | NO_BACKGROUND | Flag.LOW_COUNTS
    assert not field.mask.any() and np.all(field.background == 0)
    assert field.livetime == pytest.approx(1e4, rel=1e-3)


@pytest.mark.parametrize(("number", "low"), [(99, True), (100, False)])
def test_low_counts_are_flagged(number, low):
    counts = np.zeros(N * N)
    counts[np.random.default_rng(3).choice(N * N, number, replace=False)] = 1
    assert bool(read_field(image(counts.reshape(N, N))).flags & Flag.LOW_COUNTS) is low


def test_source_that_fills_the_field():
    y, x = np.mgrid[:N, :N]
    bright = 30 / (1 + np.hypot(x - 59.5, y - 59.5) ** 2 / 40**2) ** 1.5
    field = read_field(image(np.random.default_rng(5).poisson(bright + 0.2)))
    assert not field.mask.any()
    assert np.all(np.isfinite(field.background)) and field.background.min() > 0
    assert field.background.sum() < field.counts.sum()


def test_one_bright_pixel_on_a_blank_field():
    counts = np.zeros((N, N))
    counts[60, 60] = 1e6
    field = read_field(image(counts))
    assert not field.mask.any() and field.counts.sum() == 1e6


@pytest.mark.parametrize("dtype", ["int16", "uint8", ">f4", ">i4", "float32"])
def test_any_type_of_number(dtype):
    field = read_field(image(poisson().astype(dtype)))
    np.testing.assert_array_equal(field.counts, poisson())
    assert field.counts.dtype == np.float64


def test_rounding_of_counts_is_forgiven():
    field = read_field(image(poisson() * (1 + 1e-6)))
    np.testing.assert_array_equal(field.counts, poisson())


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        (poisson() - 1, "image must hold counts from zero up, got 10594 negative pixels .*raw counts .*exposure="),
        (poisson() * 1.3, r"image must hold whole counts, got 3806 pixels of 3806 above zero .*raw counts"),
        (poisson() * 1e-8, "image must hold whole counts"),
        (poisson() * np.nan, "image has no valid pixel"),
        (np.ones((3, 4, 5)), "image must be two-dimensional"),
    ],
)
def test_images_that_are_not_raw_counts(counts, match):
    with pytest.raises(GeometryError, match=match):
        read_field(image(counts))


def test_images_of_a_wrong_kind():
    with pytest.raises(GeometryError, match="image must be in counts .*got ct / s"):
        read_field(image(unit=u.ct / u.s))
    with pytest.raises(GeometryError, match="image must have a celestial WCS"):
        read_field(CCDData(poisson(), unit=u.ct, meta=HEADERS["EPN"]))
    with pytest.raises(TypeError, match="image must be a path, CCDData, FITS HDU, got ndarray"):
        read_field(poisson())
    with pytest.raises(FileNotFoundError, match="nothing.fits"):
        read_field("nothing.fits")


def test_the_caller_s_image_is_left_alone():
    given = image(np.pad(poisson()[5:-5, 5:-5], 5, constant_values=np.nan))
    before, meta = given.data.copy(), dict(given.meta)
    field = read_field(given, mask=np.eye(N, dtype=bool), exposure=np.full((N, N), 1e4))
    field.counts[...] = -1
    np.testing.assert_array_equal(given.data, before)
    assert dict(given.meta) == meta and given.mask is None


# Masks


def test_array_is_true_where_a_pixel_is_not_to_be_used():
    mask = np.zeros((N, N), bool)
    mask[:, :30] = True
    field = read_field(image(), exposure=10 * u.ks, mask=mask)
    np.testing.assert_array_equal(field.mask, mask)
    assert field.flags == NO_BACKGROUND | Flag.MASKED
    assert field.counts[:, :30].sum() == 0 and np.all(field.exposure == 1e4)


def test_emask_is_above_zero_where_a_pixel_is_to_be_used(tmp_path):
    usable = np.ones((N, N), np.uint8)
    usable[:, :30] = 0
    path = tmp_path / "emask.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(usable, wcs().to_header())]).writeto(path)
    for given in (path, str(path), CCDData(usable, unit=u.one, wcs=wcs()), fits.PrimaryHDU(usable, wcs().to_header())):
        field = read_field(image(), exposure=10 * u.ks, mask=given)
        np.testing.assert_array_equal(field.mask, usable == 0)


def test_emask_on_another_grid_stays_sharp():
    usable = np.zeros((80, 80))
    usable[:, :40] = 1
    field = read_field(image(), exposure=10 * u.ks, mask=CCDData(usable, unit=u.one, wcs=wcs(80, 8.0)))
    np.testing.assert_array_equal(field.mask, np.broadcast_to(np.arange(N) >= 60, (N, N)))


def test_mask_of_the_image_and_the_argument_add_up():
    given = image()
    given.mask = np.zeros((N, N), bool)
    given.mask[:5] = True
    mask = np.zeros((N, N), bool)
    mask[-5:] = True
    field = read_field(given, exposure=10 * u.ks, mask=mask)
    np.testing.assert_array_equal(field.mask, given.mask | mask)
    assert field.flags & Flag.MASKED


@pytest.mark.parametrize(
    ("mask", "error", "match"),
    [
        (np.zeros((N, N), int), GeometryError, r"mask must be a bool array of the image's shape .*got int64"),
        (np.zeros((3, 3), bool), GeometryError, r"mask must be a bool array .*got bool \(3, 3\)"),
        (np.ones((N, N), bool), GeometryError, "exposure and mask leave no usable pixel"),
        (CCDData(np.ones((N, N)), unit=u.one, wcs=wcs(ra=20.0)), GeometryError, "mask does not overlap the image"),
        (True, TypeError, "mask must be a path, CCDData, FITS HDU or bool array, got bool"),
    ],
)
def test_masks_that_are_refused(mask, error, match):
    with pytest.raises(error, match=match):
        read_field(image(), mask=mask)


# Files


def test_path_hdu_and_ccd_are_the_same_field(tmp_path):
    path = write_image(image(exposure_map=np.full((N, N), 5e3)), tmp_path / "image.fits")
    for given in (path, str(path), as_image(read_image(path))):
        field = read_field(given)
        assert field.livetime == 5000 and field.instrument == "EPN"
        np.testing.assert_array_equal(field.counts, poisson())
    whole = hdu(poisson())
    for given in (whole, fits.HDUList([whole]), fits.ImageHDU(whole.data, whole.header)):
        field = read_field(given)
        np.testing.assert_array_equal(field.counts, poisson())
        assert field.flags == NO_EXPOSURE | NO_BACKGROUND | Flag.NO_UNIT  # no BUNIT


def test_maps_from_files(tmp_path):
    exposure, background = tmp_path / "exposure.fits", tmp_path / "background.fits"
    hdu(np.full((N, N), 7e3), BUNIT="s").writeto(exposure)
    hdu(np.full((N, N), 0.3)).writeto(background)
    field = read_field(image(), exposure=exposure, background=str(background))
    assert field.livetime == 7000 and np.all(field.background == 0.3)
    assert field.flags == Flag(0)


def test_exposure_without_a_unit_is_in_seconds():
    assert read_field(image(), exposure=hdu(np.full((N, N), 7e3))).livetime == 7000


# The field itself


def test_field_as_image_reads_back():
    mask = np.zeros((N, N), bool)
    mask[:4] = True
    field = read_field(image(RA_PNT=150.01, DEC_PNT=2.0), exposure=5 * u.ks, mask=mask)
    ccd = field.to_ccd()
    assert ccd.unit == u.ct and ccd.meta["FLAGS"] == int(field.flags)
    again = read_field(ccd)
    np.testing.assert_array_equal(again.counts, field.counts)
    np.testing.assert_array_equal(again.exposure, field.exposure)
    np.testing.assert_array_equal(again.mask, field.mask)
    np.testing.assert_allclose(again.background, field.background)
    assert again.axis.separation(field.axis) < 1e-6 * u.arcsec
    assert again.flags == field.flags


def test_off_axis_angle_is_that_on_the_sky():
    field = read_field(image(grid=wcs(step=20.0)))
    x, y = np.array([0.0, 30.0, 100.0]), np.array([119.0, 60.0, 7.0])
    true = field.axis.separation(field.wcs.pixel_to_world(x, y)).arcmin
    np.testing.assert_allclose(field.off_axis(x, y), true, rtol=1e-4)


def test_field_of_arrays_that_do_not_fit():
    grid, psf = np.zeros((5, 6)), KingPsf()
    axis = SkyCoord(150, 2, unit="deg")
    with pytest.raises(GeometryError, match=r"counts, exposure, background and mask must be images of one shape"):
        Field(grid, grid, np.zeros((6, 5)), grid > 0, wcs(), psf, axis)
    with pytest.raises(GeometryError, match="images of one shape"):
        Field(*[np.zeros(5)] * 4, wcs(), psf, axis)


# Several cameras


def camera(name, seed, exposure=10 * u.ks, grid=None, mask=None, **meta):
    return read_field(
        image(poisson(0.3, seed), grid, instrument=name, **meta),
        exposure=exposure,
        mask=mask,
        background=np.full((N, N), 0.3),
    )


def test_cameras_add_up():
    masks = [np.zeros((N, N), bool) for _ in range(3)]
    masks[0][:10], masks[1][:10], masks[2][:10] = True, True, True
    masks[1][:, :20] = True
    fields = [
        camera(name, seed, exposure * u.ks, mask=mask, RA_PNT=ra, DEC_PNT=2.0)
        for name, seed, exposure, mask, ra in zip(
            ("EPN", "EMOS1", "EMOS2"), (1, 2, 3), (8, 10, 12), masks, (150.0, 150.02, 150.02), strict=True
        )
    ]
    both = combine_fields(iter(fields))
    np.testing.assert_array_equal(both.counts, sum(field.counts for field in fields))
    np.testing.assert_array_equal(both.mask, masks[0])
    assert both.instrument == "EPN+EMOS1+EMOS2"
    assert both.livetime == 30e3
    # A camera adds nothing where it is masked.
    assert np.all(both.exposure[10:, :20] == 20e3) and np.all(both.exposure[:10] == 0)
    np.testing.assert_allclose(both.background[10:, :20], 0.6)
    np.testing.assert_allclose(both.background[10:, 20:], 0.9)
    assert both.flags == Flag.MASKED
    # Weights are exposure times the pixels used.
    used = np.array([8.0 * 110 * 120, 10.0 * 110 * 100, 12.0 * 110 * 120])
    assert isinstance(both.psf, MixedPsf)
    np.testing.assert_allclose(both.psf.weights, used / used.sum())
    share = sum(w * field.psf.encircled(12.0, 4.0) for w, field in zip(used / used.sum(), fields, strict=True))
    assert both.psf.encircled(12.0, 4.0) == pytest.approx(share)
    assert both.axis.ra.deg == pytest.approx(np.average([150.0, 150.02, 150.02], weights=used), abs=1e-6)


def test_flags_of_all_cameras_are_kept():
    estimated = read_field(image(), background=np.full((N, N), 0.3))
    both = combine_fields([camera("EPN", 1), estimated])
    assert both.flags == NO_EXPOSURE
    assert both.instrument == "EPN"


@pytest.mark.parametrize(
    ("bands", "kept"),
    [(([0.5, 2], [500, 2000]), True), (([0.5, 2], [0.5, 7]), False), (([0.5, 2], None), False), ((None, None), False)],
)
def test_band_is_kept_where_all_have_it(bands, kept):
    units = (u.keV, u.eV if bands[1] == [500, 2000] else u.keV)
    fields = [
        read_field(image(), exposure=1 * u.ks, energy_range=None if band is None else band * unit)
        for band, unit in zip(bands, units, strict=True)
    ]
    band = combine_fields(fields).energy_range
    assert (band.to_value(u.keV) == pytest.approx([0.5, 2])) if kept else band is None


def test_one_field_is_itself():
    field = camera("EPN", 1)
    assert combine_fields([field]) is field


@pytest.mark.parametrize("grid", [wcs(ra=150.01), wcs(step=4.1)], ids=["moved", "scaled"])
def test_fields_on_other_grids_are_refused(grid):
    with pytest.raises(GeometryError, match=r"fields must be on one grid: number 1 .*bin the events"):
        combine_fields([camera("EPN", 1), camera("EMOS1", 2, grid=grid)])


def test_fields_of_other_shape_are_refused():
    small = read_field(image(poisson(n=100), wcs(100)))
    with pytest.raises(GeometryError, match=r"number 1 \(\(100, 100\)\) differs from number 0 \(\(120, 120\)\)"):
        combine_fields([camera("EPN", 1), small])


def test_what_is_no_field_is_refused():
    with pytest.raises(GeometryError, match="at least one field"):
        combine_fields([])
    with pytest.raises(TypeError, match="fields must be Field objects .*got CCDData"):
        combine_fields([camera("EPN", 1), image()])


@pytest.mark.parametrize(
    ("instrument", "step", "angle"),
    [("EPN", 4.0, 13.0), ("ACIS", 4.0, 10.0), ("PSPC", 15.0, 20.0), ("EROSITA", 15.0, 30.0), ("EROSITA", 60.0, None)],
)
def test_largest_off_axis_angle_is_that_of_the_instrument_unless_it_is_a_mosaic(instrument, step, angle):
    assert read_field(image(grid=wcs(step=step), instrument=instrument)).max_off_axis == angle


def test_largest_off_axis_angle_of_several_and_of_what_is_not_known():
    assert combine_fields([camera("EPN", 1), camera("EMOS1", 2)]).max_off_axis == 13.0
    unknown = read_field(image(TELESCOP="CHANDRA", INSTRUME="HRC"), psf=GaussianPsf(10 * u.arcsec))
    assert unknown.max_off_axis is None


# Real observations


@pytest.mark.real_data
def test_xmm_coma(shared_data):
    """EPIC-pn without any map: field of view as large as the chips in their round field, Coma left in the counts."""
    field = read_field(shared_data / "xmm" / "0124710801_PN_image_500-12000.fits")
    assert field.instrument == "EPN" and field.pixel == pytest.approx(4.0, rel=1e-3)
    assert field.flags == NO_EXPOSURE | NO_BACKGROUND | Flag.LARGE_STRUCTURE
    assert field.energy_range.to_value(u.keV) == pytest.approx([0.5, 12])
    assert field.livetime == pytest.approx(21649.4, rel=1e-3)
    assert field.axis.separation(SkyCoord(195.3617083, 27.7594167, unit="deg", frame="fk5")) < 0.01 * u.arcsec
    # Twelve chips of 64 x 200 pixels of 4.1 arcsec, without their corners, where no photon of the sky comes.
    chips = 12 * 64 * 200 * 4.1**2
    assert (~field.mask).sum() * field.pixel**2 == pytest.approx(0.85 * chips, rel=0.03)
    assert 0.9 * 243961 < field.counts.sum() < 243961
    used = ~field.mask
    assert 0.2 < field.background[used].sum() / field.counts.sum() < 0.6
    assert field.background[used].min() > 0 and np.all(field.background[field.mask] == 0)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["PN", "MOS1", "MOS2"])
def test_real_detection_mask(shared_data, name):
    """The mask of XMM's emask, on a grid five times coarser."""
    path = shared_data / "xmm" / f"0827340901_{name}_detmask.fits.gz"
    detector = read_image(path)
    grid = detector.wcs[::5, ::5]
    n = 180
    field = read_field(image(poisson(1.0, n=n), grid), exposure=10 * u.ks, mask=path, background=np.ones((n, n)))
    assert field.pixel == pytest.approx(12.5, rel=1e-3)
    assert field.flags == Flag.MASKED
    assert (~field.mask).mean() == pytest.approx((detector.data > 0).mean(), rel=0.02)
    assert np.mean(~field.mask == (detector.data[2::5, 2::5] > 0)) > 0.99


@pytest.mark.real_data
def test_rosat_abell_3158(shared_data):
    """All three maps came; the header has no time, so a missing map is an error."""
    folder = shared_data / "rosat"
    counts, exposure, background = (folder / f"pyproffit_{name}_37.fits.gz" for name in ("b", "expose_mask", "back"))
    field = read_field(counts, exposure=exposure, background=background)
    assert field.instrument == "PSPC" and field.pixel == pytest.approx(14.95, abs=0.01)
    assert field.flags == Flag(0)
    assert field.livetime == pytest.approx(3123, abs=1)
    np.testing.assert_array_equal(field.mask, read_image(exposure).data == 0)
    assert 2 * field.psf.radius(0.5) == pytest.approx(23.3, abs=0.1)
    # The cluster of MCXC (03 42 53.9 -53 38 07) is where the counts are.
    x, y = field.wcs.world_to_pixel(SkyCoord("03h42m53.9s -53d38m07s"))
    rows, columns = np.mgrid[: field.shape[0], : field.shape[1]]
    near = np.hypot(columns - x, rows - y) * field.pixel < 300
    assert field.counts[near].sum() > 0.3 * field.counts.sum()
    with pytest.raises(GeometryError, match="exposure must be given"):
        read_field(counts)


@pytest.mark.real_data
def test_chandra_source_image(shared_data):
    """A point source of COSMOS 7 arcmin off axis, in an image that is nearly empty besides."""
    (path,) = (shared_data / "chandra").glob("sherpatest*srcimg.fits")
    field = read_field(path)
    assert field.instrument == "ACIS" and field.pixel == pytest.approx(0.492, rel=1e-3)
    assert field.flags == NO_EXPOSURE | NO_BACKGROUND
    assert field.counts.sum() == 1022 and not field.mask.any()
    assert 0.85 * 29661 < field.livetime < 29661
    middle = field.off_axis((field.shape[1] - 1) / 2, (field.shape[0] - 1) / 2)
    assert 6 < middle < 9
    assert 0.85 < field.background.sum() / field.counts.sum() < 1


@pytest.mark.real_data
def test_chandra_merged_image_is_no_raw_counts(shared_data):
    """NGC 4649: merged by weights, so most pixels are not whole."""
    with pytest.raises(GeometryError, match="whole counts, got 97566 pixels of 104402 above zero .*raw counts"):
        read_field(shared_data / "chandra" / "NGC4649_merged_counts.fits")
