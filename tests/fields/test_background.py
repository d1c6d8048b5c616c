"""Truth of the estimated background: known levels are recovered, with and without sources, gaps and structure."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.stats import SigmaClip
from astropy.table import QTable
from astropy.wcs import WCS
from photutils.background import Background2D, MedianBackground
from scipy.ndimage import gaussian_filter

from astroclassify.exceptions import GeometryError, ImageWarning
from astroclassify.images import pixel_scale, read_image
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_field
from astroclassify.survey import KingPsf, combine_fields, estimate_background, inject_sources, read_field

N, PIXEL = 200, 4.0  # pixels along a side, arcsec
NOWHERE = np.zeros((N, N), bool)
FLAT = np.full((N, N), 1e4)
Y, X = np.mgrid[:N, :N]
RADIUS = np.hypot(X - (N - 1) / 2, Y - (N - 1) / 2)
VIGNETTED = 1e4 / (1 + (RADIUS * PIXEL / 60 / 7) ** 2)  # down to 0.36 in the corners
SHARE = VIGNETTED / VIGNETTED.max()


def add_source(counts, rng, x, y, number, core=None):
    """Add photons of a point (King PSF of EPIC-pn) or of a beta model (beta = 2/3, core radius in arcsec)."""
    share = rng.random(number)
    # A beta model of 2/3 holds 1 - (1 + (r/core)^2)^-1/2 of its photons within r.
    radius = KingPsf().radius(share) if core is None else core * np.sqrt((1 - share) ** -2 - 1)
    angle = 2 * np.pi * rng.random(number)
    edges = np.arange(N + 1) - 0.5
    rows, columns = y + radius * np.sin(angle) / PIXEL, x + radius * np.cos(angle) / PIXEL
    return counts + np.histogram2d(rows, columns, bins=[edges, edges])[0]


def crowded_field(seed):
    """Sky and particles, nine points of 20 to 1000 counts and a cluster of 800: counts, truth."""
    rng = np.random.default_rng(seed)
    true = 0.1 * SHARE + 0.1
    counts = rng.poisson(true).astype(float)
    for number in (20, 30, 40, 60, 80, 100, 200, 400, 1000):
        x, y = rng.uniform(10, N - 10, 2)
        counts = add_source(counts, rng, x, y, number)
    return add_source(counts, rng, 120, 80, 800, core=20.0), true


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2, 2.0, 20.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_uniform_level_is_recovered(level, seed):
    counts = np.random.default_rng(seed).poisson(level, (N, N))
    background = estimate_background(counts, FLAT, NOWHERE, PIXEL)
    noise = 1 / np.sqrt(level * N * N)
    assert background.mean() == pytest.approx(level, rel=4 * noise + 0.01)
    assert np.ptp(background) < 1e-9 * level
    # No more than noise peaks are taken for sources.
    assert background.mean() == pytest.approx(counts.mean(), rel=0.02)


@pytest.mark.parametrize(("sky", "particles"), [(0.2, 0.2), (0.3, 0.0), (0.0, 0.3), (0.05, 0.1), (2.0, 1.0)])
def test_vignetted_and_flat_parts_are_told_separated(sky, particles):
    true = sky * SHARE + particles
    counts = np.random.default_rng(2).poisson(true)
    background = estimate_background(counts, VIGNETTED, NOWHERE, PIXEL)
    assert background.sum() == pytest.approx(true.sum(), rel=0.035)
    for part in (RADIUS < 40, RADIUS > 90):
        noise = 1 / np.sqrt(true[part].sum())
        assert background[part].sum() == pytest.approx(true[part].sum(), rel=0.03 + 2 * noise)
    ratio = background[RADIUS > 120].mean() / background[RADIUS < 20].mean()
    expected = true[RADIUS > 120].mean() / true[RADIUS < 20].mean()
    assert ratio == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_points_and_a_cluster_leave_it_as_it_is(seed):
    """They add 40 % of the counts; the background moves by less than 4 %, under the cluster by less than 8 %."""
    counts, true = crowded_field(seed)
    assert counts.sum() > 1.35 * true.sum()
    background = estimate_background(counts, VIGNETTED, NOWHERE, PIXEL)
    assert background.sum() == pytest.approx(true.sum(), rel=0.04)
    assert background[80, 120] == pytest.approx(true[80, 120], rel=0.08)


def test_nearer_the_truth_than_a_clipped_median():
    """photutils on the same field: its median of few counts per pixel is no mean."""
    counts, true = crowded_field(0)
    clipped = Background2D(counts, (50, 50), sigma_clip=SigmaClip(3.0), bkg_estimator=MedianBackground()).background
    ours = estimate_background(counts, VIGNETTED, NOWHERE, PIXEL)
    assert abs(ours / true - 1).mean() < 0.2 * abs(clipped / true - 1).mean()


def test_bright_background_as_photutils_has_it():
    """At 50 counts per pixel the sigma-clipped mean of photutils is good to a percent: so are we."""
    rng = np.random.default_rng(4)
    counts = rng.poisson(50.0, (N, N)).astype(float)
    for place in ((50, 60), (140, 90), (100, 150)):
        counts = add_source(counts, rng, *place, 3000)
    theirs = Background2D(counts, (40, 40), sigma_clip=SigmaClip(3.0)).background_median
    ours = estimate_background(counts, FLAT, NOWHERE, PIXEL)
    assert ours.mean() == pytest.approx(50.0, rel=0.01)
    assert ours.mean() == pytest.approx(theirs, rel=0.01)


@pytest.mark.parametrize("core", [60.0, 200.0, 400.0])
def test_source_that_fills_the_field(core):
    """Nothing is left to tell it from background: finite, below the counts, near them at the edges, not in the core."""
    rng = np.random.default_rng(1)
    counts = add_source(rng.poisson(0.1 * SHARE + 0.1).astype(float), rng, 100, 100, 40000, core=core)
    background = estimate_background(counts, VIGNETTED, NOWHERE, PIXEL)
    assert np.all(np.isfinite(background)) and background.min() > 0
    assert background.sum() <= 1.02 * counts.sum()
    assert background[:20].mean() == pytest.approx(counts[:20].mean(), rel=0.2)
    core_pixels = RADIUS < core / PIXEL / 2
    assert background[core_pixels].mean() < counts[core_pixels].mean()


def test_a_cluster_over_most_of_the_field_is_not_followed():
    """What three quarters of the field show is no background: the level is that of its faint corner."""
    distance = np.hypot(X - 0.8 * N, Y - 0.8 * N)
    true = 0.3 + 5.0 / (1 + (distance / 60) ** 2) ** 2
    background = estimate_background(np.random.default_rng(4).poisson(true), FLAT, NOWHERE, PIXEL)
    assert np.mean(true > 1.3 * 0.3) > 0.7
    assert np.ptp(background) < 1e-6
    assert 0.3 < background.mean() < np.percentile(true, 25)


def test_plain_noise_is_not_followed():
    """Without structure the model has two numbers, so it is the exposure's shape plus a constant to rounding."""
    counts = np.random.default_rng(5).poisson(0.3 * SHARE + 0.2)
    background = estimate_background(counts, VIGNETTED, NOWHERE, PIXEL)
    design = np.column_stack([SHARE.ravel(), np.ones(N * N)])
    residual = np.linalg.lstsq(design, background.ravel(), rcond=None)[1]
    assert np.all(residual < 1e-12 * N * N)  # single precision


def test_no_counts_give_no_background():
    background = estimate_background(np.zeros((N, N)), VIGNETTED, NOWHERE, PIXEL)
    assert background.shape == (N, N) and np.all(background == 0)


def test_a_single_count():
    counts = np.zeros((N, N))
    counts[50, 60] = 1
    background = estimate_background(counts, FLAT, NOWHERE, PIXEL)
    assert np.all(background >= 0) and background.sum() <= 1.0 + 1e-9


def test_gaps_are_empty_and_change_nothing_beside():
    rng = np.random.default_rng(6)
    exposure = VIGNETTED.copy()
    exposure[:, 60:66] = 0
    exposure[130:134] = 0
    exposure[RADIUS > 95] = 0
    true = np.where(exposure > 0, 0.2 * SHARE + 0.1, 0)
    background = estimate_background(rng.poisson(true), exposure, NOWHERE, PIXEL)
    assert np.all(background[exposure == 0] == 0)
    assert background.sum() == pytest.approx(true.sum(), rel=0.03)
    beside = (abs(X - 62.5) < 6) & (exposure > 0)
    assert background[beside].sum() == pytest.approx(true[beside].sum(), rel=0.04)


def test_masked_pixels_are_not_read_but_filled():
    rng = np.random.default_rng(7)
    counts = rng.poisson(0.3, (N, N)).astype(float)
    mask = RADIUS < 30
    plain = estimate_background(counts, FLAT, mask, PIXEL)
    loud = estimate_background(np.where(mask, 1e3, counts), FLAT, mask, PIXEL)
    np.testing.assert_array_equal(loud, plain)
    assert plain[mask].mean() == pytest.approx(0.3, rel=0.03)


def test_pixels_of_little_time_have_little_of_both_parts():
    """Where the exposure falls to a percent (edges of a mosaic), particles fall with it."""
    exposure = np.where(X < 150, 1e4, 100.0)
    true = 0.4 * exposure / 1e4
    background = estimate_background(np.random.default_rng(8).poisson(true), exposure, NOWHERE, PIXEL)
    assert background[:, 150:].mean() < 0.1 * background[:, :150].mean()
    assert background[:, :150].mean() == pytest.approx(0.4, rel=0.02)


def test_unit_of_the_exposure_is_of_no_account():
    counts, _ = crowded_field(1)
    seconds = estimate_background(counts, VIGNETTED, NOWHERE, PIXEL)
    other = estimate_background(counts, VIGNETTED * 600.0, NOWHERE, PIXEL)
    np.testing.assert_allclose(other, seconds, rtol=3e-5)


@pytest.mark.parametrize("turn", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.T], ids=["up", "left", "turn"])
def test_a_mirrored_field_has_a_mirrored_background(turn):
    """On 208 pixels, which the search bins by 16 without a rest."""
    side = 208
    y, x = np.mgrid[:side, :side]
    exposure = 1e4 / (1 + (np.hypot(x - 90, y - 110) * PIXEL / 60 / 7) ** 2)
    counts = np.random.default_rng(9).poisson(0.2 * exposure / 1e4 + 0.05)
    nowhere = np.zeros((side, side), bool)
    plain = estimate_background(counts, exposure, nowhere, PIXEL)
    np.testing.assert_allclose(
        estimate_background(turn(counts), turn(exposure), nowhere, PIXEL), turn(plain), rtol=1e-6
    )


def test_arguments_stay_as_they_are():
    counts, _ = crowded_field(2)
    copies = counts.copy(), VIGNETTED.copy(), (RADIUS > 98).copy()
    arguments = counts, VIGNETTED.copy(), RADIUS > 98
    estimate_background(*arguments, PIXEL)
    for before, after in zip(copies, arguments, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (17, 5)])
def test_any_size_of_image(shape):
    background = estimate_background(np.ones(shape), np.full(shape, 1e4), np.zeros(shape, bool), PIXEL)
    np.testing.assert_allclose(background, 1.0)


@pytest.mark.parametrize(
    ("counts", "exposure", "mask", "match"),
    [
        (np.ones((4, 5)), np.ones((5, 4)), np.zeros((4, 5), bool), r"images of one shape, got \(4, 5\), \(5, 4\)"),
        (np.ones((4, 5)), np.ones((4, 5)), np.zeros((4, 4), bool), "images of one shape"),
        (np.ones(5), np.ones(5), np.zeros(5, bool), "images of one shape"),
        (np.ones((4, 5)), np.zeros((4, 5)), np.zeros((4, 5), bool), "leave no pixel"),
        (np.ones((4, 5)), np.ones((4, 5)), np.ones((4, 5), bool), "leave no pixel"),
    ],
)
def test_what_is_refused(counts, exposure, mask, match):
    with pytest.raises(GeometryError, match=match):
        estimate_background(counts, exposure, mask, PIXEL)


def counts_of_faint_nuclei(field, faintest):
    """Counts of the AGN that leave less than a number each: N(>S) of Moretti et al. 2003, ApJ 588, 696 (per deg2)."""
    flux = np.geomspace(1e-16, 2e-12, 4000)
    number = 6150 * 2e-15**1.82 / (flux**1.82 + 1.48e-14**1.22 * flux**0.6)
    light = np.concatenate([[0.0], np.cumsum(np.sqrt(flux[1:] * flux[:-1]) * -np.diff(number))])
    per_flux = 6e11 * field.exposure[~field.mask]  # counts per second and erg s-1 cm-2, of the simulated camera
    return float(np.sum(np.interp(faintest / per_flux, flux, light) * per_flux)) * (field.pixel / 3600) ** 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_sky_is_high_by_the_sources_too_faint_to_find(seed):
    """Sky and particles are exceeded by 4 to 7 %: the light of nuclei with less than ten counts or so."""
    field = simulate_field(rng=seed, exposure=10 * u.ks).field
    used = ~field.mask
    background = estimate_background(field.counts, field.exposure, field.mask, field.pixel)
    true, estimated = field.meta["true_background"][used].sum(), background[used].sum()
    assert 1.02 < estimated / true < 1.09
    assert estimated == pytest.approx(true + counts_of_faint_nuclei(field, 10.0), rel=0.025)


def test_simulated_sky_without_sources():
    nothing = dict.fromkeys(("agn", "star", "cluster", "galaxy", "bright", "hot", "arc"), 0)
    field = simulate_field(rng=10, exposure=20 * u.ks, density=nothing, pixel=5 * u.arcsec, shape=(324, 324)).field
    used = ~field.mask
    noise = 1 / np.sqrt(field.meta["true_background"][used].sum())
    assert field.background[used].sum() == pytest.approx(field.meta["true_background"][used].sum(), rel=4 * noise)


# The error of a background, and maps that come from elsewhere


SIDE = 400
WIDE = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 200.5, "CRPIX2": 200.5, "CRVAL1": 150.0,
            "CRVAL2": 2.0, "CDELT1": -PIXEL / 3600, "CDELT2": PIXEL / 3600})  # fmt: skip
_y, _x = np.mgrid[:SIDE, :SIDE]
WIDE_RADIUS = np.hypot(_x - 199.5, _y - 199.5) * PIXEL / 60  # arcmin
WIDE_SHARE = 1 / (1 + (WIDE_RADIUS / 10) ** 2)


def read(counts, **maps):
    image = CCDData(counts.astype(float), unit=u.ct, wcs=WIDE, meta={"TELESCOP": "XMM", "INSTRUME": "EPN"})
    maps.setdefault("exposure", 1e4 * WIDE_SHARE * u.s)
    return read_field(image, **maps)


def ripples(seed, sigma=30.0):
    """Smooth structure of unit scatter, on a scale [pixel] of 2 arcmin (sigma) by default."""
    pattern = gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), sigma, mode="wrap")
    return pattern / pattern.std()


@pytest.mark.parametrize(("level", "least", "most"), [(0.0, 0.003, 0.02), (0.05, 0.03, 0.06), (0.1, 0.035, 0.14)])
def test_error_is_that_of_the_map(level, least, most):
    """Ripples of 0, 5 and 10 % in the sky are missing from the map that is given; of 10 %, some are sources."""
    true = 0.6 * WIDE_SHARE + 0.4
    for seed in range(3):
        counts = np.random.default_rng(seed).poisson(true * (1 + level * ripples(seed)))
        assert least < read(counts, background=true).background_error < most


def test_error_is_what_the_number_of_counts_allows():
    """Fewer counts show less; an estimate has an error as well."""
    errors = [read(np.random.default_rng(4).poisson(level * WIDE_SHARE)).background_error for level in (0.01, 0.1, 1.0)]
    assert errors[0] > errors[1] > errors[2]
    assert 0.02 < errors[0] < 0.12 and errors[2] < 0.015


def test_simulated_fields_know_the_error_of_their_background():
    field = simulate_field(rng=1, exposure=10 * u.ks).field
    assert 0.008 < field.background_error < 0.05
    row, column = np.argwhere(field.exposure > 0.9 * field.livetime)[0]
    source = QTable({"x": [column] * u.pix, "y": [row] * u.pix, "counts": [50] * u.ct, "core_radius": [0] * u.arcsec})
    assert inject_sources(field, source, rng=1).background_error == field.background_error


def test_error_of_cameras_that_are_added_is_their_mean():
    cameras = [read(np.random.default_rng(seed).poisson(level, (SIDE, SIDE))) for seed, level in ((1, 0.02), (2, 0.5))]
    errors = sorted(camera.background_error for camera in cameras)
    assert errors[0] < combine_fields(cameras).background_error < sum(errors) / 2
    assert combine_fields([cameras[0], cameras[0]]).background_error == pytest.approx(cameras[0].background_error)


def test_error_that_cannot_be_measured_is_all():
    counts = np.zeros((SIDE, SIDE))
    counts[200, 200] = 500
    assert read(counts).background_error == 1.0


def crowded(seed):
    """Counts and true background of a field of 20 ks with a cluster and some points."""
    rng = np.random.default_rng(seed)
    true = 0.2 * WIDE_SHARE + 0.1
    light = 1.5 / (1 + np.hypot(_x - 250, _y - 180) ** 2 / 8**2) ** 1.5
    for x, y in rng.uniform(20, 380, (15, 2)):
        light += 2.0 * np.exp(-(np.hypot(_x - x, _y - y) ** 2) / 8)
    return rng.poisson(true + light), true


@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_a_map_is_scaled_if_the_counts_say_so(factor):
    counts, true = crowded(1)
    field = read(counts, background=true * factor)
    assert field.meta["BKGSCALE"] * factor == pytest.approx(1.0, abs=0.04)
    np.testing.assert_allclose(field.background, true * factor * field.meta["BKGSCALE"])
    assert not field.flags


def test_a_map_that_fits_stays_as_it_is():
    counts, true = crowded(2)
    field = read(counts, background=true)
    np.testing.assert_array_equal(field.background, true)
    assert not {"BKGSCALE", "BKGADDED"} & set(field.meta) and not field.flags


def test_to_a_map_of_particles_the_sky_is_added():
    counts, true = crowded(3)
    field = read(counts, background=np.full((SIDE, SIDE), 0.1))
    sky = 1 - 0.1 * SIDE**2 / true.sum()
    assert field.meta["BKGADDED"] == pytest.approx(sky, abs=0.04) and "BKGSCALE" not in field.meta
    np.testing.assert_allclose(field.background, true, rtol=0.06)


def test_a_strange_factor_is_warned_of():
    counts, true = crowded(4)
    with pytest.warns(ImageWarning, match="background was multiplied by 0.1.* is it in counts per pixel"):
        read(counts, background=10 * true)


@pytest.mark.parametrize("sigma", [4.0, 15.0])
def test_a_map_that_holds_the_sources_is_noticed(sigma):
    """As a spline through all of the image is."""
    counts, _ = crowded(5)
    with pytest.warns(ImageWarning, match=r"background holds about \d+% of the light of the sources.* or none"):
        field = read(counts, background=gaussian_filter(counts.astype(float), sigma))
    assert field.flags == Flag.SOURCE_IN_BACKGROUND


def test_a_map_says_nothing_of_a_field_without_counts():
    field = read(np.zeros((SIDE, SIDE)), background=np.full((SIDE, SIDE), 0.02))
    assert np.all(field.background == 0.02) and field.flags == Flag.LOW_COUNTS


def test_structure_over_most_of_the_field_is_flagged():
    light = 20.0 / (1 + (WIDE_RADIUS / 3) ** 2) ** 1.5
    field = read(np.random.default_rng(6).poisson(0.2 * WIDE_SHARE + 0.1 + light))
    assert Flag.LARGE_STRUCTURE in field.flags and field.background_error >= 0.15
    corner = WIDE_RADIUS > 17
    assert 0.5 < field.background[corner].mean() / field.counts[corner].mean() < 1.3
    assert field.background[200, 200] < 0.1 * light[200, 200]
    assert not read(crowded(1)[0]).flags & Flag.LARGE_STRUCTURE


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "large", "least", "most"),
    [
        ("A3667_20ks", True, 0.1, 0.4),
        ("M87_Virgo_20ks", True, 0.1, 2.5),
        ("NGC1399_Fornax_20ks", True, 0.1, 0.6),
        ("RCW103_SNR_20ks", True, 0.1, 0.6),
        ("M51_galaxy_20ks", False, 0.14, 0.25),
        ("W49B_SNR_20ks", False, 0.2, 0.3),
    ],
)
def test_background_of_fields_with_structure(shared_data, name, large, least, most):
    """
    Counts per pixel in 20 ks: between that of the chips' corners outside the round field, where only particles are
    (0.09 to 0.2), and that of the faint side of the field.
    """
    field = read_field(shared_data / "xmm" / "real" / f"{name}.fits.gz")
    assert bool(field.flags & Flag.LARGE_STRUCTURE) is large
    assert least < np.median(field.background[~field.mask]) < most
    assert 0.03 < field.background_error < 0.25
    # Chips within 898 arcsec of their middle, without the gaps; the particles in the corners are left out.
    assert (~field.mask).mean() == pytest.approx(0.80, abs=0.03)


@pytest.mark.real_data
def test_rosat_particles_are_completed(shared_data):
    """The map of the archive is a quarter of what is seen far from the cluster."""
    folder = shared_data / "rosat"
    counts, exposure, particles = (folder / f"pyproffit_{name}_37.fits.gz" for name in ("b", "expose_mask", "back"))
    given = read_field(counts, exposure=exposure, background=particles)
    estimated = read_field(counts, exposure=exposure)
    assert given.meta["BKGADDED"] == pytest.approx(0.77, abs=0.03)
    assert given.background.sum() == pytest.approx(estimated.background.sum(), rel=0.03)
    assert not given.flags


@pytest.mark.real_data
def test_rosat_background_far_from_the_cluster(shared_data):
    """Abell 3158: beyond 30 arcmin nearly all counts are background; the particles of the archive are a part of it."""
    folder = shared_data / "rosat"
    image = read_image(folder / "pyproffit_b_37.fits.gz")
    exposure = read_image(folder / "pyproffit_expose_mask_37.fits.gz").data
    particles = read_image(folder / "pyproffit_back_37.fits.gz").data
    side = pixel_scale(image).to_value(u.arcsec)
    background = estimate_background(image.data, exposure, np.zeros(image.shape, bool), side)
    assert np.all(background[exposure == 0] == 0)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(x - 271, y - 280) * side / 60
    for low, high in ((30, 40), (40, 55)):
        ring = (exposure > 0) & (distance > low) & (distance < high)
        assert 0.9 < background[ring].sum() / image.data[ring].sum() < 1.0
    assert np.all(background[exposure > 0] > particles[exposure > 0])
    assert background[distance < 5].sum() < 0.03 * image.data[distance < 5].sum()
