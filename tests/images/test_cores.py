"""Cores of clusters on images: profiles, deprojected density, errors, against beta models and ACCEPT's shells."""

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter
from scipy.special import gamma

from astroclassify.exceptions import GeometryError
from astroclassify.fields import KingPsf
from astroclassify.images import DEFAULT_COSMOLOGY, SkyImage, concentration
from astroclassify.morphology import CORE_COLUMNS, core_measures, deproject, surface_brightness_profile

PER_EMISSION = 2e-67  # ct cm3 / s, about that of ACIS-I at z = 0.05
CM3 = (u.kpc**3).to(u.cm**3)
EXPOSURE = 1e5
R_500 = 1000.0
CENTRE = SkyCoord(150 * u.deg, 2 * u.deg)
NON_COOL = ((0.004, 120.0, 0.67),)
COOL = ((0.05, 25.0, 0.6), (0.004, 150.0, 0.67))  # central density [cm-3], core radius [kpc], beta


def kpc_per_arcsec(z):
    return DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(z).to_value(u.kpc / u.arcsec)


def squared(parts, r):
    """n_e^2 of a sum of beta models."""
    return sum(n**2 * (1 + (r / core) ** 2) ** (-3 * beta) for n, core, beta in parts)


def emission_per_area(parts, r):
    """Integral of n_e n_H along the line of sight [cm-6 kpc], n_H = n_e / 1.2: in closed form."""
    return sum(
        n**2 / 1.2 * np.sqrt(np.pi) * gamma(3 * beta - 0.5) / gamma(3 * beta) * core
        * (1 + (r / core) ** 2) ** (0.5 - 3 * beta)
        for n, core, beta in parts
    )  # fmt: skip


def wcs_of(n, arcsec):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [CENTRE.ra.deg, CENTRE.dec.deg]
    wcs.wcs.crpix, wcs.wcs.cdelt = [(n + 1) / 2] * 2, [-arcsec / 3600, arcsec / 3600]
    return wcs


def expected(parts, *, z=0.05, width=1000.0, n=200, fwhm=0.0, at=(0.0, 0.0), blur=None, per_emission=PER_EMISSION):
    """Count rate of each pixel [ct/s]; lengths in kpc, the PSF in arcsec (or a function that blurs)."""
    finer, pixel = 5, width / n
    axis = (np.arange(n * finer) - (n * finer - 1) / 2) * pixel / finer
    fine = emission_per_area(parts, np.hypot(axis - at[0], axis[:, None] - at[1])) * (pixel / finer) ** 2
    if fwhm:
        fine = gaussian_filter(fine, fwhm / 2.35482 * kpc_per_arcsec(z) / pixel * finer, truncate=6)
    return fine.reshape(n, finer, n, finer).sum(axis=(1, 3)) * CM3 * per_emission


def as_image(rate, *, z=0.05, width=1000.0, exposure=None, background=0.0, seed=None, seconds=EXPOSURE):
    """Image of a rate; noisy where there is a seed. ``background`` in counts per pixel."""
    exposure = np.full(rate.shape, float(seconds)) if exposure is None else exposure
    counts = rate * exposure + background * exposure / seconds
    if seed is not None:
        counts = np.random.default_rng(seed).poisson(counts).astype(float)
    n = rate.shape[0]
    arcsec = width / n / kpc_per_arcsec(z)
    return SkyImage(counts, unit="ct", wcs=wcs_of(n, arcsec), meta={"REDSHIFT": z}, exposure=exposure)


GIVEN = {"counts_per_emission": PER_EMISSION * u.ct * u.cm**3 / u.s, "centre": CENTRE}


def true_measures(parts):
    """C_SB, mass-weighted density within 0.012 R500, cuspiness at 0.04 R500."""
    r = np.linspace(0, 400, 40001)[1:] - 0.005
    light = emission_per_area(parts, r) * r
    inside = np.linspace(0, 0.012 * R_500, 4001)[1:]
    n = np.sqrt(squared(parts, inside))
    x, h = 0.04 * R_500, 1e-4
    slope = -0.25 / h * np.log(squared(parts, x * (1 + h)) / squared(parts, x * (1 - h)))
    return light[r < 40].sum() / light.sum(), (n**2 * inside**2).sum() / (n * inside**2).sum(), slope


# Truth without noise


@pytest.mark.parametrize("parts", [COOL, NON_COOL], ids=["cool", "non-cool"])
@pytest.mark.parametrize(("z", "fwhm"), [(0.05, 0.0), (0.05, 4.0), (0.15, 2.0), (0.3, 1.0)])
def test_a_beta_model_behind_a_psf(parts, z, fwhm):
    """Every measure is that of the formula, at any redshift and behind any PSF that leaves the core to be seen."""
    image = as_image(expected(parts, z=z, fwhm=fwhm) * 100, z=z)
    given = GIVEN | {"counts_per_emission": 100 * GIVEN["counts_per_emission"]}
    profile = deproject(image, psf=fwhm * u.arcsec, **given)
    r = np.array([20.0, 40, 100, 300]) * u.kpc
    density, error = profile.density(r)
    truth = np.sqrt(squared(parts, r.value))
    np.testing.assert_allclose(density.value, truth, rtol=0.02)
    assert density.unit == error.unit == u.cm**-3
    c_sb, n_e, slope = true_measures(parts)
    assert profile.concentration()[0] == pytest.approx(c_sb, rel=0.01)
    assert profile.mean_density(0.012 * R_500 * u.kpc)[0].value == pytest.approx(n_e, rel=0.04)
    assert profile.slope(0.04 * R_500 * u.kpc)[0] == pytest.approx(slope, abs=0.05)
    seen = np.linspace(0, 12, 2001)[1:]
    mean = np.average(emission_per_area(parts, seen), weights=seen) * PER_EMISSION * 100 * CM3 * kpc_per_arcsec(z) ** 2
    assert profile.brightness(12 * u.kpc)[0].value == pytest.approx(mean, rel=0.05)
    shells = np.linspace(100, 400, 3001)[1:] - 0.05
    whole = np.sum(4 * np.pi * shells**2 * squared(parts, shells) / 1.2) * 0.1 * CM3
    assert profile.emission_measure(100 * u.kpc, 400 * u.kpc)[0].value == pytest.approx(whole, rel=0.02)


def test_a_king_psf_has_wings_that_are_taken_out():
    """What EPIC pn scatters out of a core is put back: an object with ``encircled`` is a PSF."""
    psf, z, n, width = KingPsf("EPN"), 0.1, 200, 800.0
    pixel = width / n / kpc_per_arcsec(z)
    rate = expected(COOL, z=z, width=width, n=n) * 50
    axis = (np.arange(2 * n - 1) - (n - 1)) * pixel
    kernel = psf.profile(np.hypot(axis, axis[:, None])) * pixel**2
    # The innermost pixel holds what no sampling of the profile would give.
    kernel[n - 1, n - 1] += 1 - kernel.sum()
    blurred = np.fft.irfft2(np.fft.rfft2(rate, (4 * n, 4 * n)) * np.fft.rfft2(kernel, (4 * n, 4 * n)))
    blurred = np.maximum(blurred[n - 1 : 2 * n - 1, n - 1 : 2 * n - 1], 0)
    image = as_image(blurred, z=z, width=width)
    given = GIVEN | {"counts_per_emission": 50 * GIVEN["counts_per_emission"]}
    with_psf, without = (deproject(image, psf=each, **given) for each in (psf, None))
    truth = np.sqrt(squared(COOL, 20.0))
    assert with_psf.density(20 * u.kpc)[0].value == pytest.approx(truth, rel=0.04)
    assert without.density(20 * u.kpc)[0].value < 0.9 * truth
    c_sb = true_measures(COOL)[0]
    assert with_psf.concentration(40 * u.kpc, 380 * u.kpc)[0] > without.concentration(40 * u.kpc, 380 * u.kpc)[0]
    assert with_psf.concentration()[0] == pytest.approx(c_sb, rel=0.03)


def test_the_profile_is_the_brightness():
    image = as_image(expected(NON_COOL))
    table = surface_brightness_profile(image, centre=CENTRE)
    middle = np.sqrt(0.5 * (table["radius_lo"] ** 2 + table["radius_hi"] ** 2)).to_value(u.kpc)
    truth = emission_per_area(NON_COOL, middle) * PER_EMISSION * CM3 * kpc_per_arcsec(0.05) ** 2
    assert table["brightness"].unit == u.ct / u.s / u.arcsec**2
    whole = table["radius_hi"] < 490 * u.kpc
    np.testing.assert_allclose(table["brightness"].value[whole], truth[whole], rtol=0.01)
    assert {40.0, 400.0} <= set(table["radius_hi"].to_value(u.kpc).round(6))
    np.testing.assert_allclose((table["angle_hi"] * table.meta["kpc_per_arcsec"]).value, table["radius_hi"].value)
    np.testing.assert_allclose(table["coverage"][whole][3:], 1, atol=0.2)
    given = surface_brightness_profile(image, centre=CENTRE, edges=np.arange(7) * 50 * u.kpc)
    near = np.hypot(*((np.indices(image.shape) - 99.5) * 5)) < 300
    assert len(given) == 6 and given["counts"].sum().value == pytest.approx(image.data[near].sum())


def test_c_sb_is_that_of_the_images_room():
    image = as_image(expected(COOL), background=0.3, seed=1)
    value, error = core_measures(image, background=0.3, centre=CENTRE)["c_sb"]
    assert value == pytest.approx(concentration(image, background=0.3), rel=0.02)
    assert 0 < error < 0.01


def test_exposure_gaps_masks_and_place_change_nothing():
    """A gap in the middle of an annulus, a masked half, vignetting, a centre off the middle: the same answers."""
    at = (60.0, -35.0)
    rate = expected(COOL, at=at, fwhm=2.0) * 20
    x = (np.arange(200) - 99.5) * 5.0
    exposure = EXPOSURE / (1 + ((x - 200) ** 2 + x[:, None] ** 2) / 600.0**2) * np.ones((200, 200))
    exposure[:, np.abs(x - 95) < 8] = 0
    image = as_image(rate, exposure=exposure)
    image.mask = np.hypot(x + 120, x[:, None] - 60) < 50
    image.data[image.mask] = 1e6
    given = {"psf": 2 * u.arcsec, "r_500": R_500 * u.kpc, "counts_per_emission": 20 * GIVEN["counts_per_emission"]}
    place = image.wcs.pixel_to_world(99.5 + at[0] / 5, 99.5 + at[1] / 5)
    # The gap, 35 kpc away, moves a peak under 20 kpc by a pixel.
    assert surface_brightness_profile(image).meta["centre"].separation(place) < 7 * u.arcsec
    found = core_measures(image, centre=place, **given)
    whole = core_measures(as_image(expected(COOL, fwhm=2.0) * 20), centre=CENTRE, **given)
    assert found.reasons == whole.reasons == {}
    for name in CORE_COLUMNS:
        value, truth = (float(getattr(each[name][0], "value", each[name][0])) for each in (found, whole))
        assert value == pytest.approx(truth, rel=0.03), name


def test_without_a_conversion_the_shape_is_right():
    image = as_image(expected(COOL) * 50)
    relative = deproject(image, centre=CENTRE)
    absolute = deproject(image, **GIVEN)
    r = [10, 50, 200] * u.kpc
    shape, density = relative.density(r)[0], absolute.density(r)[0]
    assert not relative.absolute and absolute.absolute
    assert shape.unit == u.ct**0.5 / u.s**0.5 / u.kpc**1.5
    np.testing.assert_allclose((shape / shape[1]).value, (density / density[1]).value)
    np.testing.assert_allclose(relative.slope(r), absolute.slope(r))
    assert np.isnan(relative.emission_measure(100 * u.kpc, 400 * u.kpc)[0])


# Noise


@pytest.mark.parametrize(
    ("parts", "z", "fwhm", "background", "scale"),
    [(COOL, 0.05, 1.0, 0.1, 0.1), (COOL, 0.3, 1.0, 0.3, 0.3), (NON_COOL, 0.15, 2.0, 0.1, 1.0)],
    ids=["cool, near", "cool, far", "non-cool, background"],
)
def test_errors_are_right(parts, z, fwhm, background, scale):
    """
    Pulls over 30 observations: their rms is about one, and no error is more than twice too small.

    Below the resolution the prior gives an error for what it does not know of all clusters, which one cluster's noise
    does not show: widths below one are expected there.
    """
    rate = expected(parts, z=z, fwhm=fwhm, n=160) * scale
    given = GIVEN | {"counts_per_emission": scale * GIVEN["counts_per_emission"], "psf": fwhm * u.arcsec}
    c_sb, n_e, slope = true_measures(parts)
    truth, pulls = np.array([c_sb, c_sb, n_e, slope]), []
    for seed in range(30):
        image = as_image(rate, z=z, background=background, seed=seed)
        found = core_measures(image, r_500=R_500 * u.kpc, background=background, **given)
        assert found.reasons == {}
        pair = [found[name] for name in ("c_sb", "c_sb_corrected", "n_e_image", "cuspiness_image")]
        value, error = np.array([[float(getattr(each, "value", each)) for each in one] for one in pair]).T
        pulls.append((value - truth) / error)
    rms = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert np.all(rms[1:] < 1.4) and np.all(rms[1:] > 0.3), rms
    # What is not corrected for the PSF misses the truth, but scatters as its error says.
    assert 0.7 < np.std(pulls, axis=0)[0] < 1.35
    assert 0.7 < np.std(pulls, axis=0)[1] < 1.35


def test_a_background_three_times_as_high_makes_errors_larger_not_answers_other():
    rate = expected(COOL, fwhm=1.0)
    found = []
    for level in (0.3, 0.9):
        image = as_image(rate, background=level, seed=3, seconds=1e4)
        found.append(core_measures(image, r_500=R_500 * u.kpc, background=level, psf=1 * u.arcsec, **GIVEN))
    for name in ("c_sb", "n_e_image", "cuspiness_image"):
        (low, low_err), (high, high_err) = (each[name] for each in found)
        assert abs(high - low) < 3 * np.hypot(low_err, high_err)
    assert found[1]["c_sb"][1] > found[0]["c_sb"][1]


def test_the_level_of_the_background_can_be_fitted():
    """One that is given 20 per cent too low is found, to some of its error, where it is allowed to be."""
    image = as_image(expected(NON_COOL, n=160, width=1600.0), width=1600.0, background=2.0, seed=1)
    given = {"background": 1.6, "outer": 800 * u.kpc, **GIVEN}
    fixed, free = deproject(image, **given), deproject(image, background_error=0.3, **given)
    assert fixed.background_level == 1 and free.background_level > 1.05
    truth = np.sqrt(squared(NON_COOL, 600.0))
    off = [abs(each.density(600 * u.kpc)[0].value / truth - 1) for each in (fixed, free)]
    assert off[1] < off[0]
    assert free.density(600 * u.kpc)[1] > fixed.density(600 * u.kpc)[1]


# What cannot be had


def test_reasons():
    image = as_image(expected(COOL), seed=1)
    found = core_measures(image, centre=CENTRE)
    assert list(found) == list(CORE_COLUMNS)
    assert set(found.reasons) == {"central_brightness", "n_e_image", "cuspiness_image"}
    assert "r_500, which is not given" in found.reasons["cuspiness_image"]
    found = core_measures(image, r_500=R_500 * u.kpc, centre=CENTRE)
    assert found.reasons == {"n_e_image": "counts_per_emission is not given"}
    assert np.isnan(found["n_e_image"][0]) and found["n_e_image"][0].unit == u.cm**-3
    hole = SkyImage(image, mask=np.hypot(*(np.indices(image.shape) - 99.5)) < 4)
    found = core_measures(hole, r_500=R_500 * u.kpc, **GIVEN)
    assert "the core, within 0.012 R500, is masked" in found.reasons["n_e_image"]
    assert "masked, not exposed or off" in found.reasons["c_sb"] and np.isnan(found["c_sb"][0])
    narrow = as_image(expected(COOL, width=500.0), width=500.0, seed=1)
    found = core_measures(narrow, r_500=R_500 * u.kpc, **GIVEN)
    assert set(found.reasons) == {"c_sb", "c_sb_corrected"}
    dark = as_image(np.zeros((100, 100)), background=1.0, seed=1)
    found = core_measures(dark, r_500=R_500 * u.kpc, background=1.0, **GIVEN)
    assert found.reasons["n_e_image"].startswith("no source above the background")
    assert set(found.reasons) >= {"c_sb_corrected", "central_brightness", "n_e_image", "cuspiness_image"}
    angle = R_500 / kpc_per_arcsec(0.05) * u.arcsec
    by_angle, by_length = (core_measures(image, r_500=each, **GIVEN) for each in (angle, R_500 * u.kpc))
    assert by_angle["cuspiness_image"] == pytest.approx(by_length["cuspiness_image"])


def test_an_image_without_exposure():
    rate = expected(COOL)
    image = CCDData(rate * EXPOSURE, unit="ct", wcs=wcs_of(200, 5 / kpc_per_arcsec(0.05)), meta={"REDSHIFT": 0.05})
    table = surface_brightness_profile(image)
    assert table["brightness"].unit == u.ct / u.arcsec**2
    found = core_measures(image, r_500=R_500 * u.kpc)
    assert found.reasons["central_brightness"] == "the exposure is not known"
    assert np.isfinite(found["cuspiness_image"][0]) and np.isfinite(found["c_sb"][0])
    with pytest.raises(GeometryError, match="must have an exposure map"):
        deproject(image, **GIVEN)
    image.meta["EXPOSURE"] = EXPOSURE
    assert deproject(image, **GIVEN).density(50 * u.kpc)[0].value == pytest.approx(np.sqrt(squared(COOL, 50)), rel=0.03)


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"psf": 2.0}, TypeError, "psf must be a Quantity"),
        ({"psf": -1 * u.arcsec}, ValueError, "psf must not be negative"),
        ({"counts_per_emission": 1.0}, TypeError, "counts_per_emission must be a Quantity"),
        ({"counts_per_emission": 1 * u.ct / u.s}, ValueError, "counts_per_emission must have a unit like"),
        ({"background": -1.0}, ValueError, "background must be finite and not negative"),
        ({"background": np.zeros(3)}, ValueError, r"a map of shape \(200, 200\)"),
        ({"background_error": -0.1}, ValueError, "background_error must be a finite number from 0"),
        ({"edges": [0, 10] * u.kpc}, ValueError, "edges must be at least 6 rising radii"),
        ({"centre": "middle"}, TypeError, "centre must be one SkyCoord"),
        ({"centre": SkyCoord(10 * u.deg, 2 * u.deg)}, GeometryError, "lies off the image"),
        ({"outer": 3.0}, TypeError, "outer must be a Quantity"),
        ({"redshift": -1}, GeometryError, "redshift must lie"),
    ],
)
def test_arguments_that_are_refused(keywords, error, text):
    with pytest.raises(error, match=text):
        deproject(as_image(expected(COOL)), **keywords)


# ACCEPT


def accept_shells(path):
    """Shells of the clusters that may be looked at: edges [kpc] and density [cm-3] from the centre out."""
    rows = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if not line.startswith("#"):
                name, *numbers = line.split()
                rows.setdefault(name, []).append([float(number) for number in numbers[:3]])
    for index, name in enumerate(sorted(rows)):
        shells = np.array(rows[name])
        shells = shells[np.argsort(shells[:, 0])]
        if index % 3 and len(shells) > 30 and shells[0, 0] == 0 and shells[-1, 1] > 0.5 and np.all(shells[:, 2] > 0):
            yield np.append(0, shells[:, 1]) * 1e3, shells[:, 2]


@pytest.mark.real_data
def test_accept_densities_come_back(shared_data):
    """Real profiles, shell by shell projected: density within 12 kpc and at 100 kpc, 2e4 to 1e6 counts."""
    ratios, n, width = [], 160, 1000.0
    for seed, (edges, density) in enumerate(accept_shells(shared_data / "profiles" / "accept_main_table.txt.gz")):
        if len(ratios) == 15:
            break
        axis = (np.arange(n * 4) - (n * 4 - 1) / 2) * width / n / 4
        r = np.append(0, np.geomspace(0.5, 720, 300))
        chords = np.sqrt(np.maximum(edges**2 - r[:, None] ** 2, 0))
        column = 2 * np.diff(chords, axis=1) @ (density**2 / 1.2)
        fine = np.interp(np.hypot(axis, axis[:, None]), r, column) * (width / n / 4) ** 2
        rate = fine.reshape(n, 4, n, 4).sum(axis=(1, 3)) * CM3 * PER_EMISSION
        image = as_image(rate, background=0.2, seed=seed)
        profile = deproject(image, background=0.2, outer=0.9 * edges[-1] * u.kpc, psf=0 * u.arcsec,
                            counts_per_emission=GIVEN["counts_per_emission"])  # fmt: skip
        inner = np.diff(np.minimum(edges, 12) ** 3)
        ours = profile.mean_density(12 * u.kpc)[0].value, profile.density(100 * u.kpc)[0].value
        theirs = (inner * density**2).sum() / (inner * density).sum(), np.interp(100, edges[:-1], density)
        ratios.append(np.log10(np.divide(ours, theirs)))
    assert len(ratios) == 15
    assert np.all(np.abs(np.median(ratios, axis=0)) < 0.03)
    assert np.all(np.std(ratios, axis=0) < 0.08)
