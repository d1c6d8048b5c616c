"""Fits of one source on its pixels: minima beside scipy's, derivatives, nesting, starts, bounds, and a free level."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from scipy.optimize import minimize, minimize_scalar

from astroclassify.survey import GaussianPsf, KingPsf
from astroclassify.survey.extents import _kernels
from astroclassify.survey.extents._expected import Camera, cut_patch, join, join_pixels, set_neighbours
from astroclassify.survey.extents._models import fit_composite, fit_source
from astroclassify.survey.extents._profile import profile_table

PSF = KingPsf("EPN")
PIXEL, OFF_AXIS, SHIFT, LARGEST = 2.5, 4.0, 12.0, 100.0  # arcsec, arcmin, arcsec, arcsec
HALF = float(PSF.radius(0.5, OFF_AXIS))
TABLE = profile_table(PSF, OFF_AXIS, PIXEL, 400.0)
NESTED = (("NULL", "PNT"), ("PNT", "EXT"), ("EXT", "EPN"), ("PNT", "DBL"))


def cash(counts, expected):
    return 2 * np.sum(expected - counts * np.log(expected))


def window(radius, background, *, gap=None, matrix=None):
    """Patch of expected background about the middle of an image; ``gap``: first used column from the middle."""
    half = int(radius / PIXEL) + 2
    shape = (2 * half + 1, 2 * half + 1)
    exposure = 1e4 * np.linspace(1.2, 0.8, shape[1]) * np.ones((shape[0], 1))
    good = np.ones(shape, bool)
    if gap is not None:
        good[:, : half + gap] = False
    camera = Camera(np.zeros(shape), exposure, background * exposure / 1e4, good, PIXEL, PSF)
    return cut_patch(camera, half, half, radius, np.eye(2) * PIXEL if matrix is None else matrix, TABLE, 1e4)


def observe(patch, sources, rng):
    """The patch with counts drawn from its base and sources (x, y, ext, counts)."""
    expected = patch.base + sum(counts * patch.image(x, y, ext) for x, y, ext, counts in sources)
    return dataclasses.replace(patch, counts=rng.poisson(expected).astype(float))


def fit(patches, **options):
    fits = fit_source(patches, shift=SHIFT, largest=LARGEST, **options)
    return fits | fit_composite(patches, fits, shift=SHIFT, half=HALF, largest=LARGEST, **options)


def random_patch(seed):
    """A point or extended source, faint to very bright, some on an edge, some with free neighbours."""
    rng = np.random.default_rng(seed)
    gap = [None, None, None, -3, 1][seed % 5]
    patch = window(rng.choice([35.0, 35.0, 110.0]), 10 ** rng.uniform(-2, -0.3), gap=gap)
    ext = rng.choice([0.0, rng.uniform(3, 10), rng.uniform(10, 40)])
    counts = 1e5 if seed % 7 == 0 else 10 ** rng.uniform(0.8, 3.3)
    sources = [(*rng.uniform(-2.5, 2.5, 2), ext, counts)]
    near = [(*rng.uniform(-30, 30, 2), 0.0, 10 ** rng.uniform(0.8, 2.5)) for _ in range(rng.integers(0, 3))]
    patch = observe(patch, sources + near, rng)
    set_neighbours([patch], [[rng.uniform(0.7, 1.3) * counts * patch.image(x, y, 0)] for x, y, _, counts in near])
    return patch


@pytest.fixture(scope="module")
def pair():
    """Two cameras of different pixels and sharpness about one position, with two neighbours, on turned axes."""
    rng, made = np.random.default_rng(1), []
    for pixel, psf, level in ((2.5, KingPsf("EPN"), 0.2), (4.0, GaussianPsf(9 * u.arcsec), 0.1)):
        shape = (90, 80)
        exposure = 1e4 * (1 + np.add.outer(np.arange(90), np.arange(80)) / 300)
        counts = rng.poisson(2 * level, shape).astype(float)
        camera = Camera(counts, exposure, np.full(shape, level), exposure > 0, pixel, psf)
        table = profile_table(psf, 0.0, pixel, 60.0)
        matrix = pixel * np.array([[-0.8, 0.6], [0.6, 0.8]])
        made.append(cut_patch(camera, 40.2, 44.7, 70.0, matrix, table, 1.2e4))
    set_neighbours(made, [[patch.image(*place) for patch in made] for place in ((20, 5, 0), (-50, 30, 25))])
    return made


MODELS = {
    "NULL": ([], []),
    "PNT": ([(0, 1, -1, 2)], [2.0, -3.0, 40, 25]),
    "EXT": ([(0, 1, 2, 3)], [2.0, -3.0, 1.7, 140, 90]),
    "EPN": ([(0, 1, 2, 3), (0, 1, -1, 5)], [-4.0, 2.0, 2.2, 150, 80, 20, 9]),
    "DBL": ([(0, 1, -1, 4), (2, 3, -1, 6)], [-4.0, 2.0, 6.0, -5.0, 50, 20, 30, 40]),
}
LEVEL_ERROR = 0.2


def evaluate(patches, components, n_source, parameters):
    """C, half its gradient, Fisher matrix and sums from the compiled loop."""
    n = len(parameters)
    gradient, fisher, sums = np.empty(n), np.empty((n, n)), np.empty(n)
    scene = join(patches, LEVEL_ERROR, 50.0)
    components = np.array(components, np.int64).reshape(-1, 4)
    return _kernels.evaluate(scene, components, n_source, parameters, gradient, fisher, sums), gradient, fisher, sums


def by_hand(patches, components, n_source, parameters):
    """Expected counts of all pixels from images of the patches."""
    expected, first = [], patches[0].table
    for camera, patch in enumerate(patches):
        total = patch.base + (parameters[-1] - 1) * patch.background
        for x, y, at_u, counts in components:
            ext = 0.0 if at_u < 0 else first.to_ext(parameters[at_u])
            total = total + parameters[counts + camera] * patch.image(parameters[x], parameters[y], ext)
        for number, image in enumerate(patch.neighbours):
            total += parameters[n_source + 2 * number + camera] * image
        expected.append(total)
    return np.concatenate(expected)


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_are_those_of_finite_differences(pair, name):
    """Two cameras, the free counts of two neighbours and the level; Fisher matrix from slopes of expected counts."""
    components, source = MODELS[name]
    start = np.array([*source, 12.0, 7.0, 60.0, 30.0, 1.1])
    statistic, gradient, fisher, sums = evaluate(pair, components, len(source), start)
    counts, middle = np.concatenate([patch.counts for patch in pair]), by_hand(pair, components, len(source), start)
    assert statistic == pytest.approx(cash(counts, middle) + (0.1 / LEVEL_ERROR) ** 2, rel=1e-10)
    slopes = []
    for step in 1e-4 * np.eye(len(start)):
        up, down = (by_hand(pair, components, len(source), start + sign * step) for sign in (1, -1))
        slopes.append((up - down) / 2e-4)
    slopes, scale = np.array(slopes), np.sqrt(np.diag(fisher))
    prior = np.zeros(len(start))
    prior[-1] = LEVEL_ERROR**-2
    np.testing.assert_allclose(gradient, slopes @ (1 - counts / middle) + 0.1 * prior, atol=1e-4 * scale.max())
    np.testing.assert_allclose(sums, slopes.sum(axis=1), rtol=1e-4, atol=1e-4 * scale.max())
    wanted = (slopes / middle) @ slopes.T + np.diag(prior)
    np.testing.assert_allclose(fisher / scale / scale[:, np.newaxis], wanted / scale / scale[:, np.newaxis], atol=1e-4)


@pytest.mark.parametrize(("seed", "ext", "counts"), [(1, 0.0, 300), (2, 12.0, 500), (3, 25.0, 200)])
def test_minimum_is_that_of_scipy(seed, ext, counts):
    patch = observe(window(60.0, 0.05), [(1.7, -2.2, ext, counts)], np.random.default_rng(seed))
    fits = fit_source([patch], shift=SHIFT, largest=LARGEST)

    def statistic(p):
        return cash(patch.counts, patch.base + 100 * p[3] * patch.image(p[0], p[1], max(10 * p[2], 0)))

    limits = [(-SHIFT, SHIFT)] * 2 + [(0, LARGEST / 10), (0, None)]
    settings = {"maxiter": 4000, "xatol": 1e-6, "fatol": 1e-7}
    start = [2, -2, max(ext, 1) / 10, counts / 100]
    theirs = minimize(statistic, start, method="Nelder-Mead", bounds=limits, options=settings)
    extended = fits["EXT"]
    assert extended.solution.converged
    assert extended.statistic == pytest.approx(theirs.fun, abs=5e-3)
    x, y, found, total = extended.parts[0]
    assert statistic([x, y, found / 10, total[0] / 100]) == pytest.approx(extended.statistic, abs=1e-6)
    assert extended.share == pytest.approx(patch.image(x, y, found).sum(), rel=1e-6)


def test_simpler_models_are_never_better():
    """Each model holds the simpler ones within it: C(NULL) >= C(PNT) >= C(EXT) >= C(EPN), and C(PNT) >= C(DBL)."""
    for seed in range(150):
        fits = fit([random_patch(seed)])
        for simple, rich in NESTED:
            assert fits[simple].statistic > fits[rich].statistic - 0.01, (seed, simple, rich)
        assert all(each.solution.converged for each in fits.values()), seed


def test_central_point_without_counts_is_the_beta_model():
    """Where the point has no counts, its beta model is that of EXT."""
    n = 0
    for seed in range(80):
        fits = fit([random_patch(seed)])
        if fits["EPN"].parts[1][3].sum() < 0.01:
            assert fits["EXT"].statistic == pytest.approx(fits["EPN"].statistic, abs=0.01), seed
            n += 1
    assert n > 10


def test_fits_do_not_depend_on_their_start():
    """The same pixels about a position a fiftieth of a pixel away; not where the limits of the position hold it."""
    n = 0
    for seed in range(150):
        patch = random_patch(seed)
        angle = 2.4 * seed
        moved = dataclasses.replace(patch, x=patch.x - 0.05 * np.cos(angle), y=patch.y - 0.05 * np.sin(angle))
        first, second = fit([patch]), fit([moved])
        for name in ("NULL", "PNT", "EXT", "EPN"):
            places = [each[name].parts[0][:2] if each[name].parts else (0, 0) for each in (first, second)]
            if np.abs(places).max() < SHIFT - 0.1:
                assert first[name].statistic == pytest.approx(second[name].statistic, abs=0.02), (seed, name)
                n += 1
    assert n > 450


def test_joined_pixels_lose_nothing():
    """Sums over blocks are those over pixels; the middle and the surroundings of neighbours stay as they are."""
    patch = window(200.0, 0.1)
    patch = observe(patch, [(3.0, 2.0, 20.0, 500)], np.random.default_rng(1))
    set_neighbours([patch], [[30 * patch.image(90.0, -60.0, 0)]])
    scene = join([patch], 0.0, 20.0)
    joined = join_pixels(scene)
    assert len(joined.x) < len(scene.x) / 10 and joined.edges[-1] == len(joined.x)
    for name in ("counts", "base", "background", "ratio"):
        assert getattr(joined, name).sum() == pytest.approx(getattr(scene, name).sum(), rel=1e-12)
    assert joined.neighbours.sum() == pytest.approx(scene.neighbours.sum(), rel=1e-12)
    for x, y in ((0, 0), (90, -60)):
        near, whole = (np.hypot(each.x - x, each.y - y) < 8 for each in (joined, scene))
        assert near.sum() == whole.sum()
    small = join([window(35.0, 0.1)], 0.0, 20.0)
    assert join_pixels(small) is small


# ---- level


def test_level_follows_the_data_within_its_prior():
    """A background that is a fifth too low: fixed, it becomes a wide source; free, it is found, pulled towards one."""
    found = []
    for seed in range(6):
        patch = observe(window(110.0, 0.12), [(0.0, 0.0, 0.0, 60)], np.random.default_rng(seed))
        patch = dataclasses.replace(patch, base=patch.base / 1.2, background=None)
        fixed, free, tight = fit([patch]), fit([patch], level_error=0.5), fit([patch], level_error=0.02)
        assert {each.level for each in fixed.values()} == {1.0}
        assert all(free[name].n_parameters == fixed[name].n_parameters for name in fixed)
        assert all(1.0 < each.level < 1.08 for each in (tight["NULL"], tight["PNT"]))
        for simple, rich in NESTED:
            assert free[simple].statistic > free[rich].statistic - 0.01
        found.append((free["PNT"].level, free["PNT"].counts[0], fixed["PNT"].counts[0]))
    level, counts, held = np.mean(found, axis=0)
    assert level == pytest.approx(1.2, abs=0.03)
    assert counts == pytest.approx(60, abs=12) and held > counts + 5


def test_level_is_a_part_of_the_base():
    """Only the background is scaled, not the neighbours in the base."""
    patch = window(60.0, 0.1)
    steady = 400 * patch.image(30.0, 0.0, 0.0)
    patch = dataclasses.replace(patch, base=patch.base + steady, background=patch.background)
    patch.counts = np.random.default_rng(1).poisson(1.5 * patch.background + steady).astype(float)
    null = fit_source([patch], shift=SHIFT, largest=LARGEST, level_error=5.0)["NULL"]
    assert null.level == pytest.approx(1.5, abs=0.15)
    bright = patch.base + (null.level - 1) * patch.background
    prior = ((null.level - 1) / 5.0) ** 2
    assert null.statistic == pytest.approx(cash(patch.counts, bright) + prior, rel=1e-9)


# ---- amplitudes


def test_counts_are_bounded_by_what_the_window_shows():
    """Light just outside a gap or the window asks for sources of any number of counts inside it."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        patch = window(35.0, 0.05, gap=int(rng.integers(-6, 6)))
        patch = observe(patch, [(-20.0, rng.uniform(-20, 20), 0.0, 1000), (60.0, 0.0, 0.0, 3000)], rng)
        set_neighbours([patch], [[1e-6 * patch.image(-25.0, 0.0, 0)]])
        seen = patch.counts.sum()
        most = seen + 5 * np.sqrt(seen) + 10
        for name, each in fit([patch]).items():
            assert all(part[3].max() <= 10.001 * most for part in each.parts), (seed, name)
            assert (each.neighbours * patch.neighbours.sum(axis=1)).max() <= 1.001 * most
            assert name == "NULL" or np.isnan(each.share) or 0 <= each.share <= 1.001


@pytest.mark.parametrize("seed", [4, 14, 28, 84, 120, 133])
def test_second_point_is_not_put_where_nothing_is_seen(seed):
    """In gaps and outside the window its wings would make up for what another model misses: of these windows, with
    60 to 40,000 counts, some would have one of three million."""
    patch = random_patch(seed)
    double = fit([patch])["DBL"]
    x, y, _, counts = double.parts[1]
    assert counts[0] == 0 or patch.image(x, y, 0).sum() > 0.1
    assert double.counts[0] < 11 * patch.counts.sum()


@pytest.mark.parametrize("level", [1e-7, 0.05, 0.3])
def test_best_counts_of_a_given_shape(pair, level):
    """The counts at which the derivative vanishes, and the gain; scipy searches the statistic itself."""
    patch = dataclasses.replace(pair[0], neighbours=None)
    scene = join([patch], 0.0, 20.0)
    shape, ground = patch.image(0, 0, 10.0), np.full(len(patch.counts), level)
    gains, counts = _kernels.shape_gains(scene, ground, np.array([[0.0, 0.0, patch.table.to_u(10.0)]]))

    def cost(a):
        return cash(patch.counts, ground + a * shape)

    found = minimize_scalar(cost, bounds=(0, 5000), method="bounded", options={"xatol": 1e-3})
    assert counts[0, 0] == pytest.approx(found.x, rel=1e-3)
    assert gains[0] == pytest.approx(cost(0) - found.fun, abs=1e-3)
    gains, counts = _kernels.shape_gains(scene, ground + 50, np.array([[0.0, 0.0, -1.0]]))
    assert gains[0] == counts[0, 0] == 0  # where a source would do harm
