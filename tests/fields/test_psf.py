"""Truth of the point spread functions: quadrature, printed formulas and printed encircled energies."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS
from scipy.integrate import quad

from astroclassify.survey import GaussianPsf, ImagePsf, KingPsf, MixedPsf, default_psf

CAMERAS = ("EPN", "EMOS1", "EMOS2")
# XRT3_XPSF as printed by Saxton (2002, XMM-CCF-REL-116); the two MOS cameras in the same form.
PRINTED = {
    "EPN": ((6.636, -0.305, -0.175, -0.0067), (1.525, -0.015, -0.012, -0.0010)),
    "EMOS1": ((5.074, -0.236, 0.002, -0.0180), (1.472, -0.010, -0.001, -0.0016)),
    "EMOS2": ((4.759, -0.203, 0.014, -0.0229), (1.411, -0.005, -0.001, -0.0002)),
}
GAUSSIANS = [GaussianPsf(6 * u.arcsec), GaussianPsf(8 * u.arcsec, growth=0.1 * u.arcsec / u.arcmin**2)]


def wcs(step=2.0):
    """Header of an image of 61 by 61 pixels, ``step`` arcsec each."""
    step = step / 3600
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 31, "CRPIX2": 31, "CRVAL1": 10.0, "CRVAL2": 5.0}
    return WCS({**header, "CDELT1": -step, "CDELT2": step})


def gaussian_image(sigma, shape=(61, 61)):
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return np.exp(-(y[:, np.newaxis] ** 2 + x**2) / (2 * sigma**2))


def every_psf():
    mixed = MixedPsf([KingPsf("EPN"), GaussianPsf(6 * u.arcsec)], [1.0, 3.0])
    return [
        *(KingPsf(camera, energy * u.keV) for camera in CAMERAS for energy in (0.3, 2.0, 10.0)),
        *GAUSSIANS,
        *(default_psf(name) for name in ("EPN", "EMOS1", "EMOS2", "EPIC", "ACIS", "PSPC", "EROSITA", "XRT", "FXT")),
        mixed,
        ImagePsf(gaussian_image(5.0), 1 * u.arcsec),
    ]


@pytest.mark.parametrize("psf", every_psf(), ids=repr)
@pytest.mark.parametrize("off_axis", [0.0, 12.0])
def test_profile_integrates_to_the_encircled_share(psf, off_axis):
    """Quadrature of the surface density gives the encircled share at any radius, and one at the limit."""

    def ring(radius):
        return 2 * np.pi * radius * float(psf.profile(radius, off_axis))

    edges = np.geomspace(psf.limit / 2000, psf.limit, 30)
    pieces = [quad(ring, low, high, epsabs=1e-10, limit=100)[0] for low, high in zip([0, *edges], edges, strict=False)]
    within = np.cumsum(pieces)
    # An image's profile is the slope of an interpolated curve: quadrature is good to its kinks.
    tolerance = 1e-4 if isinstance(psf, ImagePsf) else 1e-6
    np.testing.assert_allclose(within[-1], 1.0, atol=tolerance)
    np.testing.assert_allclose(psf.encircled(edges, off_axis), within, atol=tolerance)


@pytest.mark.parametrize("psf", every_psf(), ids=repr)
@pytest.mark.parametrize("off_axis", [0.0, 12.0])
def test_radius_is_the_inverse_of_encircled(psf, off_axis):
    share = np.array([0.01, 0.25, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(psf.encircled(psf.radius(share, off_axis), off_axis), share, atol=1e-9)
    assert psf.radius(0.0, off_axis) == pytest.approx(0.0, abs=1e-9)
    assert psf.radius(1.0, off_axis) <= psf.limit
    assert psf.encircled(psf.radius(1.0, off_axis), off_axis) == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("psf", every_psf(), ids=repr)
def test_nothing_beyond_the_limit_and_never_negative(psf):
    radius = np.linspace(0, 1.5 * psf.limit, 400)
    profile = psf.profile(radius, 5.0)
    assert np.all(profile[radius > psf.limit] == 0)
    assert np.all(profile >= 0)
    encircled = psf.encircled(radius, 5.0)
    assert np.all(np.diff(encircled) >= 0)
    assert np.allclose(encircled[radius >= psf.limit], 1.0)


@pytest.mark.parametrize("psf", every_psf(), ids=repr)
def test_arrays_of_radius_and_angle_broadcast(psf):
    radius, off_axis = np.array([[1.0], [8.0]]), np.array([0.0, 6.0, 14.0])
    for method in (psf.profile, psf.encircled):
        values = method(radius, off_axis)
        assert values.shape == (2, 3)
        assert values[1, 2] == pytest.approx(method(8.0, 14.0), rel=1e-12)
    radii = psf.radius(np.array([[0.3], [0.8]]), off_axis)
    assert radii.shape == (2, 3)
    assert radii[0, 1] == pytest.approx(psf.radius(0.3, 6.0), rel=1e-9)
    assert isinstance(psf.profile(1.0, 0.0), float) and isinstance(psf.radius(0.5, 0.0), float)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize(("energy", "off_axis"), [(0.5, 0.0), (1.0, 6.0), (1.5, 12.0), (4.0, 9.0)])
def test_king_parameters_are_the_printed_ones(camera, energy, off_axis):
    core, slope = (a + b * energy + c * off_axis + d * energy * off_axis for a, b, c, d in PRINTED[camera])
    psf = KingPsf(camera, energy * u.keV)
    np.testing.assert_allclose(psf.parameters(off_axis), (core, slope), rtol=1e-12)
    ratio = psf.profile(2 * core, off_axis) / psf.profile(0.0, off_axis)
    assert ratio == pytest.approx(5.0**-slope, rel=1e-12)


def test_king_at_the_edges_of_the_formula():
    """Beyond 17 arcmin the values at 17 are used; the core never shrinks below one arcsec."""
    psf = KingPsf("EPN")
    assert psf.parameters(30.0) == psf.parameters(17.0)
    core, _ = KingPsf("EMOS2", 10 * u.keV).parameters(np.array([0.0, 17.0]))
    assert core[0] > 2 and core[1] == 1.0
    assert KingPsf("EPN", 1000 * u.eV).parameters() == psf.parameters()


@pytest.mark.parametrize(
    ("camera", "printed", "tolerance"),
    [
        # SAS eupper's table of 2001, "accurate to about 5%".
        ("EMOS1", (0.68, 0.83, 0.89, 0.92), 0.01),
        ("EMOS2", (0.69, 0.83, 0.89, 0.93), 0.04),
        # Older than XRT3_XPSF_0004, whose King profile is wider than the on-axis one before it.
        ("EPN", (0.71, 0.88, 0.93, 0.95), 0.08),
    ],
)
def test_encircled_energy_near_the_table_of_eupper(camera, printed, tolerance):
    shares = KingPsf(camera, 1.5 * u.keV).encircled(np.array([15.0, 30.0, 45.0, 60.0]), 0.0)
    np.testing.assert_allclose(shares, printed, atol=tolerance)


@pytest.mark.parametrize("camera", CAMERAS)
def test_half_energy_width_near_the_handbook(camera):
    """On axis 14 to 15 arcsec are printed (mirrors alone); the King profile with its wings has 17 to 21."""
    width = 2 * KingPsf(camera, 1.5 * u.keV).radius(0.5)
    assert 13.5 < width < 21.5


@pytest.mark.parametrize("psf", GAUSSIANS, ids=repr)
@pytest.mark.parametrize("off_axis", [0.0, 10.0])
def test_gaussian_in_closed_form(psf, off_axis):
    fwhm = np.hypot(psf.fwhm.value, psf.growth.value * off_axis**2)
    sigma = fwhm / 2.3548200450309493
    assert psf.sigma(off_axis) == pytest.approx(sigma, rel=1e-12)
    assert psf.profile(0.0, off_axis) == pytest.approx(1 / (2 * np.pi * sigma**2), rel=1e-6)
    assert psf.profile(fwhm / 2, off_axis) == pytest.approx(psf.profile(0.0, off_axis) / 2, rel=1e-12)
    assert 2 * psf.radius(0.5, off_axis) == pytest.approx(fwhm, rel=1e-6)
    assert psf.encircled(sigma, off_axis) == pytest.approx(1 - np.exp(-0.5), rel=1e-6)


def test_gaussian_takes_any_angle_unit():
    assert GaussianPsf(0.1 * u.arcmin).sigma() == pytest.approx(GaussianPsf(6 * u.arcsec).sigma())


@pytest.mark.parametrize("shape", [(61, 61), (60, 60), (61, 81)])
def test_image_of_a_gaussian_is_a_gaussian(shape):
    """Odd or even, square or not: the middle is the middle of the array, the pixel has its size."""
    sigma, side = 5.0, 2.0
    psf = ImagePsf(gaussian_image(sigma, shape), side * u.arcsec)
    assert psf.limit == side * min(shape) / 2
    radius = np.array([2.0, 5.0, 10.0, 15.0, 20.0, 30.0])
    # A pixel is uniform inside, which widens sigma^2 by 1/12.
    wide = side * np.sqrt(sigma**2 + 1 / 12)
    np.testing.assert_allclose(psf.encircled(radius), 1 - np.exp(-(radius**2) / (2 * wide**2)), atol=2e-3)
    np.testing.assert_allclose(psf.profile(np.array([4.0, 12.0, 20.0])), psf.profile(np.array([4.0, 12.0, 20.0]), 9.0))
    true = np.exp(-(radius**2) / (2 * wide**2)) / (2 * np.pi * wide**2)
    np.testing.assert_allclose(psf.profile(radius), true, atol=0.03 * true.max())


def test_image_with_a_wcs_knows_its_pixel():
    data = gaussian_image(4.0)
    plain = ImagePsf(data, 2 * u.arcsec)
    ccd = ImagePsf(CCDData(data, unit=u.one, wcs=wcs(2.0)))
    assert ccd.limit == pytest.approx(plain.limit, rel=1e-6)
    assert ccd.radius(0.5) == pytest.approx(plain.radius(0.5), rel=1e-6)


def test_image_keeps_what_is_not_round_as_a_mean():
    """Only the share within circles is kept: a pair of spots counts at their distance."""
    data = np.zeros((41, 41))
    data[20, 10] = data[20, 30] = 1.0
    psf = ImagePsf(data, 1 * u.arcsec)
    assert psf.encircled(9.0) == 0.0
    assert psf.encircled(12.0) == pytest.approx(1.0)
    assert 9.4 < psf.radius(0.5) < 10.6


def test_mixture_is_the_weighted_mean():
    a, b = KingPsf("EPN"), GaussianPsf(6 * u.arcsec)
    mixed = MixedPsf([a, b], [2.0, 6.0])
    radius = np.array([0.0, 3.0, 10.0, 40.0, 299.0])
    for method in ("profile", "encircled"):
        expected = 0.25 * getattr(a, method)(radius, 5.0) + 0.75 * getattr(b, method)(radius, 5.0)
        np.testing.assert_allclose(getattr(mixed, method)(radius, 5.0), expected, rtol=1e-12)
    assert mixed.limit == a.limit
    assert a.radius(0.5, 5.0) > mixed.radius(0.5, 5.0) > b.radius(0.5, 5.0)


def test_mixture_of_one_is_that_one():
    psf = KingPsf("EMOS1")
    mixed = MixedPsf([psf], [7.0])
    assert mixed.radius(0.7, 3.0) == pytest.approx(psf.radius(0.7, 3.0), rel=1e-9)


@pytest.mark.parametrize(("energy", "off_axis"), [(0.25, 0.0), (1.0, 0.0), (1.0, 10.0), (1.0, 20.0), (2.0, 15.0)])
def test_pspc_is_the_printed_formula(energy, off_axis):
    """ROSAT Guest Observer Facility (1994): detector and mirror in quadrature, both full widths at half maximum."""
    detector = np.sqrt(409.65 / energy + 69.28 * energy**2.88 + 66.29)
    fwhm = np.hypot(detector, 0.29 * off_axis**1.74)
    psf = default_psf("PSPC", energy * u.keV)
    assert 2 * psf.radius(0.5, off_axis) == pytest.approx(fwhm, rel=2e-4)  # cut off at six sigma of 15 arcmin
    assert psf.profile(fwhm / 2, off_axis) == pytest.approx(psf.profile(0.0, off_axis) / 2, rel=1e-9)


@pytest.mark.parametrize(("off_axis", "width"), [(0.0, 23), (10.0, 28), (20.0, 58)])
def test_pspc_widths_in_the_docstring(off_axis, width):
    assert round(2 * default_psf("PSPC").radius(0.5, off_axis)) == width


def test_pspc_energy_outside_its_band_is_clipped():
    assert default_psf("PSPC", 7 * u.keV).sigma() == default_psf("PSPC", 2.4 * u.keV).sigma()


@pytest.mark.parametrize(("off_axis", "radius"), [(0.0, 1.0), (5.0, 3.5), (10.0, 11.0)])
def test_chandra_encircles_ninety_percent_within_the_rule(off_axis, radius):
    """1 arcsec + 10 arcsec (theta / 10')^2, at any energy."""
    assert default_psf("ACIS").encircled(radius, off_axis) == pytest.approx(0.9, abs=1e-4)
    assert default_psf("ACIS", 5 * u.keV).encircled(radius, off_axis) == pytest.approx(0.9, abs=1e-4)


def test_erosita_half_energy_width_of_the_survey():
    """26 arcsec (Predehl et al. 2021); neither angle nor energy changes it."""
    psf = default_psf("EROSITA")
    assert 2 * psf.radius(0.5) == pytest.approx(26.0, abs=0.25)
    assert psf.radius(0.5, 25.0) == psf.radius(0.5, 0.0)
    assert psf.parameters(np.array([0.0, 10.0]))[1] == pytest.approx([1.75, 1.75])


@pytest.mark.parametrize(("name", "width"), [("XRT", 18.4), ("FXT", 24.0)])
def test_half_energy_widths_of_swift_and_einstein_probe(name, width):
    """Moretti et al. 2005: King of 5.8 arcsec and 1.55; FXT as published, with the cut at 300 arcsec."""
    psf = default_psf(name)
    assert 2 * psf.radius(0.5) == pytest.approx(width, abs=0.5)
    if name == "XRT":
        assert psf.parameters() == pytest.approx((5.8, 1.55), abs=0.02)


def test_cameras_of_epic_are_averaged():
    """By effective area: pn 2.5 times a MOS."""
    parts = [default_psf(name).encircled(10.0) for name in CAMERAS]
    assert CAMERAS == ("EPN", "EMOS1", "EMOS2")
    assert default_psf("EPIC").encircled(10.0) == pytest.approx(np.average(parts, weights=[2.5, 1, 1]))
    assert default_psf("EMOS1+EMOS2").encircled(10.0) == pytest.approx(np.mean(parts[1:]))


@pytest.mark.parametrize("camera", CAMERAS)
def test_default_of_xmm_is_king(camera):
    psf = default_psf(camera, 2 * u.keV)
    assert type(psf) is KingPsf
    assert psf.radius(0.5, 3.0) == KingPsf(camera, 2 * u.keV).radius(0.5, 3.0)


def test_unknown_instrument_is_named():
    with pytest.raises(ValueError, match="instrument must be one of .*'EPN'.*'EROSITA'.*got 'HRC'"):
        default_psf("HRC")


@pytest.mark.parametrize(
    ("energy", "error", "match"),
    [
        (1.0, TypeError, "energy"),
        (1 * u.m, ValueError, "energy"),
        (0.05 * u.keV, ValueError, "between 0.1 and 10 keV"),
        (12 * u.keV, ValueError, "between 0.1 and 10 keV"),
        (-1 * u.keV, ValueError, "energy"),
        ([1, 2] * u.keV, ValueError, "energy"),
        (np.nan * u.keV, ValueError, "energy"),
    ],
)
def test_king_refuses_energies(energy, error, match):
    with pytest.raises(error, match=match):
        KingPsf("EPN", energy)


def test_king_refuses_cameras():
    with pytest.raises(ValueError, match="camera must be one of .*got 'PN'"):
        KingPsf("PN")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((6.0,), TypeError, "fwhm"),
        ((0 * u.arcsec,), ValueError, "fwhm"),
        ((6 * u.s,), ValueError, "fwhm"),
        (([6, 7] * u.arcsec,), ValueError, "fwhm"),
        ((6 * u.arcsec, 0.1), TypeError, "growth"),
        ((6 * u.arcsec, -0.1 * u.arcsec / u.arcmin**2), ValueError, "growth must not be negative"),
    ],
)
def test_gaussian_refuses(arguments, error, match):
    with pytest.raises(error, match=match):
        GaussianPsf(*arguments)


@pytest.mark.parametrize(
    ("image", "pixel", "error", "match"),
    [
        (np.ones((4, 9)), 1 * u.arcsec, ValueError, "at least 5 by 5"),
        (np.ones((3, 9, 9)), 1 * u.arcsec, ValueError, "two-dimensional"),
        (np.zeros((9, 9)), 1 * u.arcsec, ValueError, "not only zeros"),
        (np.full((9, 9), -1.0), 1 * u.arcsec, ValueError, "from zero up"),
        (np.full((9, 9), np.nan), 1 * u.arcsec, ValueError, "finite"),
        (np.ones((9, 9)), None, TypeError, "pixel must be given"),
        (np.ones((9, 9)), 1.0, TypeError, "pixel"),
        (np.ones((9, 9)), -1 * u.arcsec, ValueError, "pixel"),
    ],
)
def test_image_refuses(image, pixel, error, match):
    with pytest.raises(error, match=match):
        ImagePsf(image, pixel)


@pytest.mark.parametrize(
    ("psfs", "weights", "match"),
    [
        ([], [], "weights must be one per PSF"),
        ([KingPsf()], [1.0, 2.0], "weights must be one per PSF"),
        ([KingPsf()], [0.0], "larger than zero"),
        ([KingPsf()], [np.nan], "finite"),
        ([KingPsf(), KingPsf()], [1.0, -1.0], "larger than zero"),
    ],
)
def test_mixture_refuses(psfs, weights, match):
    with pytest.raises(ValueError, match=match):
        MixedPsf(psfs, weights)
