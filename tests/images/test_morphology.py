"""Morphology of images against closed forms, direct sums over photons, symmetries and repeated observations."""

import re

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify import morphology
from astroclassify.exceptions import GeometryError
from astroclassify.images import DEFAULT_COSMOLOGY, read_image
from astroclassify.morphology import (
    COLUMNS,
    centroid_shift,
    image_measures,
    photon_asymmetry,
    power_ratios,
    scaled_concentration,
)

SCALE = 4.0  # arcsec per pixel
RADIUS = 100  # pixels
R_500 = RADIUS * SCALE * u.arcsec
REDSHIFT = 0.1
KPC = float(DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(REDSHIFT).to_value(u.kpc / u.arcsec)) * RADIUS * SCALE
HUGE = 1e12  # counts of an image that has practically no noise


def as_ccd(data, **meta):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [194.9, 27.95]
    wcs.wcs.crpix = [(data.shape[1] + 1) / 2, (data.shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    return CCDData(np.asarray(data, float), unit=u.ct, wcs=wcs, meta={"REDSHIFT": REDSHIFT, **meta})


def grid(n=256, shift=(0.0, 0.0)):
    """x and y of the pixels in units of R500 from the middle."""
    y, x = (np.indices((n, n)) - (n - 1) / 2) / RADIUS
    return x - shift[0], y - shift[1]


def beta_model(core=0.1, n=256, shift=(0.0, 0.0), ellipticity=0.0):
    x, y = grid(n, shift)
    return (1 + (x**2 + (y / (1 - ellipticity)) ** 2) / core**2) ** -1.5


def gaussian(sigma_x, sigma_y=None, at=(0.0, 0.0), angle=0.0):
    x, y = grid(shift=at)
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = x * cos + y * sin, y * cos - x * sin
    sigma_y = sigma_x if sigma_y is None else sigma_y
    return np.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2)) / (sigma_x * sigma_y)


def disc(radius, at=(0.0, 0.0)):
    """Uniform disc of unit flux, each pixel with its covered part (10 x 10 points)."""
    points = (np.arange(2560) - 1279.5) / 10 / RADIUS
    inside = (points - at[0]) ** 2 + (points[:, None] - at[1]) ** 2 < radius**2
    image = inside.reshape(256, 10, 256, 10).sum(axis=(1, 3)).astype(float)
    return image / image.sum()


def scaled(model, counts=HUGE):
    return as_ccd(model * counts / model.sum())


def noisy(model, counts, seed):
    return as_ccd(np.random.default_rng(seed).poisson(model * counts / model.sum()))


def middle(image):
    return image.wcs.pixel_to_world(*((np.array(image.shape[::-1]) - 1) / 2))


# Closed forms


@pytest.mark.parametrize("core", [0.05, 0.1, 0.3])
def test_concentration_of_a_beta_model(core):
    """Counts of (1 + r^2/rc^2)^(-3/2) within R go as 1 - (1 + R^2/rc^2)^(-1/2)."""
    within = [1 - (1 + (r / core) ** 2) ** -0.5 for r in (0.15, 1.0)]
    assert scaled_concentration(scaled(beta_model(core)), r_500=R_500) == pytest.approx(within[0] / within[1], rel=1e-3)


def test_concentration_of_a_uniform_image():
    """The ratio of the areas; with a background of half the counts still."""
    image = as_ccd(np.full((256, 256), 1e6))
    for background in (0.0, 5e5, np.full((256, 256), 5e5)):
        value = scaled_concentration(image, r_500=R_500, background=background, centre=middle(image))
        assert value == pytest.approx(0.15**2, rel=2e-3)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4])
def test_power_ratios_of_an_elliptical_gaussian(angle):
    """x + iy of a Gaussian has E z^2 = sx^2 - sy^2, E z^3 = 0 and E z^4 = 3 (E z^2)^2."""
    second = 0.18**2 - 0.12**2
    p_2, p_3, p_4 = power_ratios(scaled(gaussian(0.18, 0.12, angle=angle)), r_500=R_500)
    log = np.log(KPC) ** 2
    assert p_2 == pytest.approx(second**2 / 8 / log, rel=2e-3)
    assert p_4 == pytest.approx((3 * second**2) ** 2 / 32 / log, rel=0.02)
    assert abs(p_3) < 1e-4 * p_2


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_power_ratios_of_a_double_source(share):
    """Round sources at x1, x2 with fluxes f1, f2 have moments f1 x1^m + f2 x2^m about their centroid."""
    x = np.array([-0.5 * (1 - share), 0.5 * share])
    f = np.array([share, 1 - share])
    shift = 0.5 * (1 - share)  # the brighter one sits near the middle of the image
    model = sum(flux * gaussian(0.05, at=(place + shift, 0.1)) for flux, place in zip(f, x, strict=True))
    measured = power_ratios(scaled(model), r_500=R_500)
    expected = [np.sum(f * x**m) ** 2 / (2 * m**2 * np.log(KPC) ** 2) for m in (2, 3, 4)]
    np.testing.assert_allclose(measured, expected, rtol=5e-3, atol=1e-9)
    assert (expected[1] == 0) == (share == 0.5)


def test_radius_of_p0_is_in_kpc_whatever_the_unit_of_r_500():
    image = scaled(gaussian(0.18, 0.12))
    by_angle = power_ratios(image, r_500=R_500)
    np.testing.assert_allclose(power_ratios(image, r_500=KPC * u.kpc), by_angle, rtol=1e-6)
    del image.meta["REDSHIFT"]
    np.testing.assert_allclose(power_ratios(image, r_500=KPC * u.kpc, redshift=REDSHIFT), by_angle, rtol=1e-6)
    with pytest.raises(GeometryError, match="P0 depends, is not known: give redshift"):
        power_ratios(image, r_500=R_500)
    measures = image_measures(image, r_500=R_500, rng=1)
    assert set(measures.reasons) == {"power_ratio_2", "power_ratio_3", "power_ratio_4"}
    assert np.isfinite(measures["c_sb_500"]).all()


def test_centroid_shift_of_two_discs():
    """A second disc at 0.55 R500 is outside five apertures and inside five: offsets 0 (5 times) and f D (5 times)."""
    flux, distance = 0.2, 0.55
    model = (1 - flux) * disc(0.04) + flux * disc(0.04, at=(0.33, 0.44))
    image = scaled(model)
    expected = flux * distance * np.std([0.0] * 5 + [1.0] * 5, ddof=1)
    assert centroid_shift(image, r_500=R_500) == pytest.approx(expected, rel=1e-3)
    # Apertures of 0.1 ... 0.5 do not see it
    assert centroid_shift(image, r_500=R_500, outer=0.5) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("amplitude", "order"), [(0.3, 1), (0.3, 2), (1.0, 1), (0.5, 3)])
def test_asymmetry_of_one_harmonic(amplitude, order):
    """Brightness 1 + a cos(m phi): d = a^2 / (8 pi^2 m^2) in every annulus."""
    x, y = grid()
    image = scaled(1 + amplitude * np.cos(order * np.arctan2(y, x)))
    value = photon_asymmetry(image, r_500=R_500, centre=middle(image))
    assert value == pytest.approx(100 * amplitude**2 / (8 * np.pi**2 * order**2), rel=5e-3)


def test_asymmetry_of_half_a_disc():
    """Photons only at 0 < phi < pi: mean of h over pairs, d = 1/48; a background as bright as the mean leaves it."""
    _, y = grid()
    half = scaled(np.where(y > 0, 1.0, 1e-12))
    assert photon_asymmetry(half, r_500=R_500, centre=middle(half)) == pytest.approx(100 / 48, rel=0.01)
    level = half.data.mean()
    raised = as_ccd(half.data + level)
    value = photon_asymmetry(raised, r_500=R_500, centre=middle(half), background=level)
    assert value == pytest.approx(100 / 48, rel=0.01)


# Against a direct evaluation, photon by photon


def watson(fraction):
    """U^2 of values in [0, 1) against uniform (Watson 1961)."""
    f, n = np.sort(fraction), len(fraction)
    w_squared = np.sum(((np.arange(n) + 0.5) / n - f) ** 2) + 1 / (12 * n)
    return w_squared - n * (np.mean(f) - 0.5) ** 2


def direct_asymmetry(image, background, rng):
    """Nurgaliev et al. 2013: photons spread over their pixels at random, the formula as printed."""
    counts = image.data.astype(int).ravel()
    x, y = (np.repeat(axis.ravel(), counts) for axis in grid())
    x, y = (axis + (rng.random(len(axis)) - 0.5) / RADIUS for axis in (x, y))
    r, fraction = np.hypot(x, y), np.arctan2(y, x) / (2 * np.pi) + 0.5
    total, weight = 0.0, 0.0
    edges = (0.05, 0.12, 0.2, 0.3, 1.0)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        chosen = fraction[(r >= low) & (r < high)]
        n, c = len(chosen), len(chosen) - background * np.pi * (high**2 - low**2) * RADIUS**2
        total += c * n / c**2 * (watson(chosen) - 1 / 12)
        weight += c
    return 100 * total / weight


@pytest.mark.parametrize(("background", "shift"), [(0.0, 0.03), (0.0, 0.1), (0.2, 0.05)])
def test_asymmetry_of_a_lopsided_poisson_image_is_its_formula(background, shift):
    model = beta_model(0.1) + beta_model(0.15, shift=(shift, 0.5 * shift))
    image = as_ccd(np.random.default_rng(5).poisson(model * 3e4 / model.sum() + background))
    centre = middle(image)
    ours = photon_asymmetry(image, r_500=R_500, background=background, centre=centre)
    rng = np.random.default_rng(6)
    theirs = np.mean([direct_asymmetry(image, background, rng) for _ in range(20)])
    assert theirs > 0.02
    assert ours == pytest.approx(theirs, rel=0.04, abs=2e-3)


def test_round_poisson_images_have_no_asymmetry():
    """The mean over 30 images is zero within its error, which is small, and the bootstrap's error is the scatter."""
    values = np.array(
        [photon_asymmetry(image, r_500=R_500, centre=middle(image))
         for image in (noisy(beta_model(), 5e3, seed) for seed in range(30))]
    )  # fmt: skip
    error = np.std(values, ddof=1) / np.sqrt(30)
    assert error < 4e-3
    assert abs(np.mean(values)) < 3 * error


def test_noise_adds_nothing_to_power_ratios():
    """P3/P0 of round Poisson images is zero on average, with the correction, and would not be without."""
    images = [noisy(beta_model(), 2e3, seed) for seed in range(40)]
    values = np.array([power_ratios(image, r_500=R_500) for image in images])
    error = np.std(values, axis=0, ddof=1) / np.sqrt(len(images))
    assert np.all(np.abs(values.mean(axis=0)) < 3 * error)
    # sum n r^6 / (18 N^2 ln^2 R): what the correction takes off
    x, y = grid()
    r = np.hypot(x, y)
    model = beta_model() * (r < 1)
    taken = np.sum(model * r**6) / np.sum(model) / (18 * np.sum([im.data[r < 1].sum() for im in images]) / 40)
    assert taken / np.log(KPC) ** 2 > 5 * error[1]


def test_power_ratios_of_an_ellipse_are_right_at_few_counts():
    truth = power_ratios(scaled(beta_model(ellipticity=0.4)), r_500=R_500)
    values = np.array([power_ratios(noisy(beta_model(ellipticity=0.4), 2e3, seed), r_500=R_500) for seed in range(40)])
    error = np.std(values, axis=0, ddof=1) / np.sqrt(40)
    assert np.all(np.abs(values.mean(axis=0) - truth) < 3 * error)
    assert truth[0] > 10 * error[0]


# Symmetries


def lumpy():
    return beta_model() + 0.3 * beta_model(0.15, shift=(0.25, 0.1)) + 0.1 * beta_model(0.03, shift=(-0.3, 0.4))


def everything(image, **keywords):
    keywords = {"r_500": R_500, **keywords}
    return np.array([
        scaled_concentration(image, **keywords),
        centroid_shift(image, **keywords),
        *power_ratios(image, **keywords),
        photon_asymmetry(image, **keywords),
    ])  # fmt: skip


@pytest.mark.parametrize(
    "turn", [np.rot90, np.transpose, np.flipud, lambda a: np.rot90(a, 2)], ids=["90", "transpose", "flip", "180"]
)
def test_turning_the_image_changes_nothing(turn):
    image = noisy(lumpy(), 1e5, 3)
    np.testing.assert_allclose(everything(as_ccd(turn(image.data))), everything(image), rtol=2e-3)


def test_a_turn_by_any_angle_changes_little():
    def turned(angle):
        cos, sin = np.cos(angle), np.sin(angle)
        shift = [(cos * a - sin * b, sin * a + cos * b) for a, b in ((0.25, 0.1), (-0.3, 0.4))]
        return beta_model() + 0.3 * beta_model(0.15, shift=shift[0]) + 0.1 * beta_model(0.03, shift=shift[1])

    first = everything(scaled(turned(0.0)))
    for angle in (0.4, 1.1):
        np.testing.assert_allclose(everything(scaled(turned(angle))), first, rtol=0.01)


def test_pixels_of_twice_the_side_change_little():
    image = scaled(lumpy())
    coarse = CCDData(image.data.reshape(128, 2, 128, 2).sum(axis=(1, 3)), unit=u.ct, wcs=image.wcs[::2, ::2])
    coarse.meta["REDSHIFT"] = REDSHIFT
    coarse.wcs.wcs.crpix = [64.5, 64.5]
    np.testing.assert_allclose(everything(coarse), everything(image), rtol=0.03)


def test_exposure_and_its_unit_change_nothing():
    """Ten times the exposure scales counts; an exposure map is divided out, whatever its unit."""
    image = scaled(lumpy())
    plain = everything(image)
    np.testing.assert_allclose(everything(as_ccd(image.data * 10)), plain, rtol=1e-6)
    flat = as_ccd(image.data, exposure_map=np.full(image.shape, 2e4))
    np.testing.assert_allclose(everything(flat), plain, rtol=1e-12)
    x, y = grid()
    vignetting = 1 / (1 + ((x - 0.5) ** 2 + y**2))
    dimmed = as_ccd(image.data * vignetting, exposure_map=1e5 * vignetting)
    np.testing.assert_allclose(everything(dimmed)[:-1], plain[:-1], rtol=2e-3)
    # The asymmetry compares with the exposure of a whole annulus, as published: near, not the same
    assert everything(dimmed)[-1] == pytest.approx(plain[-1], rel=0.1)


def test_background_is_taken_off():
    image, x = scaled(lumpy()), grid()[0]
    plain = everything(image)
    level = image.data.mean()
    uniform = everything(as_ccd(image.data + level), background=level)
    np.testing.assert_allclose(uniform, plain, rtol=1e-6)
    slope = level * (1 + 0.5 * x)
    np.testing.assert_allclose(everything(as_ccd(image.data + slope), background=slope), plain, rtol=1e-6)


def test_masked_pixels_and_chip_gaps_do_not_make_structure():
    """A round source behind gaps and masked circles stays round, and keeps its concentration."""
    model = beta_model(0.1)
    x, y = grid()
    exposure = np.full(model.shape, 1e5)
    exposure[np.abs(x - 0.15) < 0.015] = 0.0
    exposure[np.abs(y + 0.4) < 0.02] *= 0.3
    mask = np.hypot(x - 0.5, y - 0.4) < 0.08
    image = scaled(model * exposure / 1e5)
    image.mask, image.meta["exposure_map"] = mask, exposure
    image.data[mask] = 1e9  # a point source
    whole, holed = everything(scaled(model)), everything(image)
    assert holed[0] == pytest.approx(whole[0], rel=0.01)
    assert holed[1] < 2e-3
    assert np.all(np.abs(holed[2:5]) < 3e-9)
    assert abs(holed[5]) < 5e-3


def test_the_peak_is_found_off_the_middle():
    """A source off the middle has the measures of one in the middle."""
    there = scaled(beta_model(0.1, n=320, shift=(0.21, -0.13)))
    here = scaled(beta_model(0.1, n=320))
    np.testing.assert_allclose(everything(there), everything(here), rtol=2e-3, atol=2e-4)


# Errors


@pytest.mark.parametrize(("counts", "background"), [(2e4, 0.0), (3e3, 0.1)])
@pytest.mark.slow
def test_errors_are_the_scatter_of_repeated_observations(counts, background):
    """Over 40 observations; where the value is far from zero within 35 per cent, else up to 1.7 times too large."""
    model = lumpy()
    model = model * counts / model.sum() + background
    found = []
    for seed in range(40):
        image = as_ccd(np.random.default_rng(seed).poisson(model))
        measures = image_measures(image, r_500=R_500, background=background, rng=seed, n_draws=40)
        assert measures.reasons == {}
        found.append([measures[name] for name in COLUMNS])
    values, errors = np.moveaxis(np.array(found), 2, 0)
    ratio = np.median(errors, axis=0) / np.std(values, axis=0, ddof=1)
    assert np.all(ratio > 0.65) and np.all(ratio < 2.0)
    assert ratio[0] == pytest.approx(1.0, abs=0.35)


def test_image_measures_are_those_of_the_functions():
    image = noisy(lumpy(), 1e5, 1)
    measures = image_measures(image, r_500=R_500, rng=1)
    assert list(measures) == list(COLUMNS) and measures.outer == 1.0
    np.testing.assert_array_equal([value for value, _ in measures.values()], everything(image))
    assert all(isinstance(number, float) for pair in measures.values() for number in pair)
    assert all(error > 0 for _, error in measures.values())
    again = image_measures(image, r_500=R_500, rng=np.random.default_rng(1))
    assert again == measures
    fresh = image_measures(image, r_500=R_500)
    assert fresh["c_sb_500"][1] != measures["c_sb_500"][1]
    assert image_measures(image, r_500=R_500, rng=fresh.seed) == fresh


# What cannot be measured


def test_a_radius_that_does_not_fit():
    image = noisy(beta_model(0.1, n=120), 1e5, 1)
    measures = image_measures(image, r_500=R_500, rng=1)
    assert np.isnan(list(measures.values())).all() and np.isnan(measures.outer)
    reason = r"R500 \(400 arcsec\) does not fit: \d\d% of the circle is on the image .* reaches 0\.(59|60) R500"
    assert set(measures.reasons) == set(COLUMNS) and re.search(reason, measures.reasons["power_ratio_3"])
    with pytest.raises(GeometryError, match=reason):
        scaled_concentration(image, r_500=R_500)
    part = image_measures(image, r_500=R_500, rng=1, outer=0.5)
    assert part.outer == 0.5 and np.isfinite(list(part.values())).all()
    within = [1 - (1 + (r / 0.1) ** 2) ** -0.5 for r in (0.15, 0.5)]
    assert part["c_sb_500"][0] == pytest.approx(within[0] / within[1], abs=4 * part["c_sb_500"][1])
    fit = image_measures(image, r_500=R_500, rng=1, outer="fit")
    assert 0.58 < fit.outer < 0.61 and np.isfinite(list(fit.values())).all()
    assert image_measures(scaled(beta_model()), r_500=R_500, rng=1, outer="fit").outer == 1.0
    tiny = image_measures(noisy(beta_model(0.1, n=50), 1e5, 1), r_500=R_500, rng=1, outer="fit")
    assert "the least that is measured, does not fit" in tiny.reasons["c_sb_500"]


def test_a_centroid_near_the_edge():
    """The circle about the peak fits, that about the centroid does not: no power ratios, everything else."""
    x, y = grid(230)
    model = beta_model(0.1, n=230) + 0.9 * beta_model(0.1, n=230, shift=(0.6, 0.0))
    image = noisy(model, 1e5, 1)
    image.mask = x > 0.9
    measures = image_measures(image, r_500=R_500, rng=1)
    assert set(measures.reasons) == {"power_ratio_2", "power_ratio_3", "power_ratio_4"}
    assert "of the circle about the centroid is on the image" in measures.reasons["power_ratio_3"]
    with pytest.raises(GeometryError, match="about the centroid"):
        power_ratios(image, r_500=R_500)


def test_no_counts():
    empty = image_measures(as_ccd(np.zeros((256, 256))), r_500=R_500, rng=1)
    assert np.isnan(list(empty.values())).all() and set(empty.reasons) == set(COLUMNS)
    assert "no counts above the background" in empty.reasons["centroid_shift"]
    few = image_measures(noisy(beta_model(), 20, 1), r_500=R_500, rng=1)  # some apertures or annuli are empty
    assert set(few) == set(COLUMNS)
    for name, (value, _) in few.items():
        assert np.isfinite(value) != (name in few.reasons)
    dark = image_measures(as_ccd(np.ones((256, 256))), r_500=R_500, rng=1, background=2.0)
    assert "in the annulus of 0.05-0.12, 0.12-0.2, 0.2-0.3, 0.3-1 R500" in dark.reasons["photon_asymmetry"]


def test_pixels_too_coarse_and_no_exposure():
    image = scaled(beta_model())
    measures = image_measures(image, r_500=19 * SCALE * u.arcsec, rng=1)
    assert "r_500 must be at least 20 pixels, got 19.0" in measures.reasons["c_sb_500"]
    image.meta["exposure_map"] = np.zeros(image.shape)
    assert image_measures(image, r_500=R_500, rng=1).reasons["c_sb_500"] == "image has no exposed pixel"


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"r_500": 1.0}, TypeError, "r_500 must be a Quantity"),
        ({"r_500": 1 * u.keV}, ValueError, "r_500 must have a unit like kpc"),
        ({"r_500": -1 * u.kpc}, ValueError, "r_500 must be larger than zero"),
        ({"background": np.nan}, ValueError, "background must be finite"),
        ({"background": np.zeros(3)}, ValueError, r"a map of shape \(256, 256\), got ndarray of shape \(3,\)"),
        ({"background": "none"}, ValueError, "background must be a number"),
        ({"outer": 0.2}, ValueError, "outer must be a number from 0.3 to 1"),
        ({"outer": "all"}, ValueError, "outer must be a number from 0.3 to 1 .* or 'fit', got 'all'"),
        ({"centre": (1, 2)}, TypeError, r"centre must be one SkyCoord, got \(1, 2\)"),
        ({"rng": "1"}, TypeError, "rng must be a seed from 0 or a numpy Generator"),
        ({"n_draws": 1}, ValueError, "n_draws must be a whole number from 2"),
    ],
)
def test_arguments_that_are_refused(keywords, error, text):
    with pytest.raises(error, match=text):
        image_measures(scaled(beta_model()), **{"r_500": R_500, "rng": 1, **keywords})


def test_images_that_are_refused():
    image = scaled(beta_model())
    with pytest.raises(GeometryError, match="must be in counts"):
        centroid_shift(CCDData(image.data, unit=u.ct / u.s, wcs=image.wcs), r_500=R_500)
    with pytest.raises(GeometryError, match="celestial WCS"):
        centroid_shift(CCDData(image.data, unit=u.ct), r_500=R_500)
    with pytest.raises(GeometryError, match="redshift is needed"):
        image_measures(CCDData(image.data, unit=u.ct, wcs=image.wcs), r_500=1 * u.Mpc, rng=1)
    with pytest.raises(GeometryError, match="negative ones"):
        centroid_shift(as_ccd(image.data - 2 * image.data.mean()), r_500=R_500)
    with pytest.raises(GeometryError, match="lies off the image"):
        centroid_shift(image, r_500=R_500, centre=middle(image).directional_offset_by(0 * u.deg, 1 * u.deg))
    with pytest.raises(TypeError, match="image must be CCDData"):
        centroid_shift(image.data, r_500=R_500)


def test_columns_are_what_is_measured():
    assert all(unit == u.dimensionless_unscaled for unit in COLUMNS.values())
    assert set(morphology.__all__) >= {"image_measures", "COLUMNS"}


@pytest.mark.real_data
def test_abell_3158(shared_data):
    """
    ROSAT counts with exposure and background maps; R500 of the MCXC. 90 arcmin across, chip shadow and edges masked.

    A cluster without a cool core and without a strong merger: Buote & Tsai (1996, ApJ 458, 27, figure 1) have P2/P0
    from 1e-7 to 1e-5 for clusters. Measured: c 0.227, w 0.025, P2/P0 2.5e-6, P3/P0 consistent with 0, A_phot 0.33 about
    the peak of this shallow image and 0.07 about the catalogued position.
    """
    image = read_image(shared_data / "rosat" / "pyproffit_b_37.fits.gz")
    with fits.open(shared_data / "rosat" / "pyproffit_expose_mask_37.fits.gz") as hdus:
        image.exposure = hdus[0].data.astype(float)
    with fits.open(shared_data / "rosat" / "pyproffit_back_37.fits.gz") as hdus:
        background = hdus[0].data.astype(float)
    keywords = {"r_500": 1.067 * u.Mpc, "redshift": 0.059, "background": background}
    measures = image_measures(image, rng=1, **keywords)
    assert measures.reasons == {}
    assert 0.18 < measures["c_sb_500"][0] < 0.28
    assert measures["centroid_shift"][0] < 0.05
    assert 1e-7 < measures["power_ratio_2"][0] < 1e-5
    assert abs(measures["power_ratio_3"][0]) < 3 * measures["power_ratio_3"][1]
    catalogued = image_measures(image, rng=1, centre=SkyCoord(55.72 * u.deg, -53.63 * u.deg), **keywords)
    assert 0 < catalogued["photon_asymmetry"][0] < measures["photon_asymmetry"][0] < 0.6
