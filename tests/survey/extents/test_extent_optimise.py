"""Poisson likelihoods: minima beside those of scipy, errors beside scatter, chances beside the chi2 distribution."""

import numpy as np
import pytest
from astropy import units as u
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_ndtr
from scipy.stats import chi2

from astroclassify.survey import GaussianPsf, KingPsf
from astroclassify.survey.extents._expected import Camera, Component, Model, best_amplitude, cut_patch
from astroclassify.survey.extents._optimise import chance_like, covariance
from astroclassify.survey.extents._profile import profile_table
from astroclassify.survey.extents._sources import set_neighbours

X = np.linspace(-10, 10, 201)
TRUTH = np.array([40.0, 1.0, 1.7, 2.0])  # height, place, width, ground


def line(parameters):
    """A Gaussian line on a flat ground, and its derivatives."""
    height, place, width, ground = parameters
    shape = np.exp(-0.5 * ((X - place) / width) ** 2)
    slopes = [shape, height * shape * (X - place) / width**2, height * shape * (X - place) ** 2 / width**3]
    return height * shape + ground, np.array([*slopes, np.ones_like(X)])


def cash(model, counts):
    """As `minimise` wants it."""

    def evaluate(parameters):
        expected, slopes = model(parameters)
        statistic = 2 * (expected.sum() - np.sum(counts * np.log(expected)))
        return statistic, slopes @ (1 - counts / expected), (slopes / expected) @ slopes.T

    return evaluate


def by_scipy(evaluate, start, lower, upper):
    """Minimum by a simplex, polished by a quasi-Newton method that uses no gradient of ours."""
    bounds = list(zip(lower, upper, strict=True))
    settings = {"maxiter": 4000, "xatol": 1e-7, "fatol": 1e-9, "adaptive": True}
    first = minimize(lambda p: evaluate(p)[0], start, method="Nelder-Mead", bounds=bounds, options=settings)
    return min(
        first,
        minimize(lambda p: evaluate(p)[0], first.x, method="L-BFGS-B", bounds=bounds),
        key=lambda found: found.fun,
    )


@pytest.mark.parametrize("seed", range(4))
def test_minimum_is_that_of_scipy(seed):
    counts = np.random.default_rng(seed).poisson(line(TRUTH)[0])
    evaluate = cash(line, counts)
    limits = np.array([0.0, -5.0, 0.3, 1e-3]), np.array([np.inf, 5.0, 8.0, np.inf])
    start = [20.0, 0.0, 3.0, 4.0]
    found, theirs = minimise(evaluate, start, *limits), by_scipy(evaluate, start, *limits)
    assert found.converged
    assert found.statistic == pytest.approx(theirs.fun, abs=2e-3)
    errors = np.sqrt(np.diag(covariance(found.fisher)))
    assert np.all(np.abs(found.parameters - theirs.x) < 0.03 * errors)
    assert found.statistic == evaluate(found.parameters)[0]
    np.testing.assert_array_equal(found.fisher, evaluate(found.parameters)[2])


@pytest.mark.parametrize("seed", range(3))
def test_parameters_are_held_at_their_bounds(seed):
    """The best place and ground lie beyond the bounds; scipy stops at the same edges."""
    counts = np.random.default_rng(seed).poisson(line(TRUTH)[0])
    evaluate = cash(line, counts)
    limits = np.array([0.0, -5.0, 0.3, 3.5]), np.array([np.inf, 0.2, 8.0, np.inf])
    start = [20.0, -1.0, 3.0, 4.0]
    found, theirs = minimise(evaluate, start, *limits), by_scipy(evaluate, start, *limits)
    assert found.converged and found.parameters[1] == 0.2 and found.parameters[3] == 3.5
    assert found.statistic == pytest.approx(theirs.fun, abs=2e-3)
    np.testing.assert_allclose(found.parameters, theirs.x, rtol=0.01)
    _, gradient, _ = evaluate(found.parameters)
    assert gradient[1] < 0 < gradient[3]  # both would like to go on


def test_bound_is_left_again():
    """A parameter that starts at its edge and should not be there moves; a start outside is put on the edge first."""
    counts = line(TRUTH)[0]
    lower, upper = np.array([0.0, -5.0, 0.3, 0.5]), np.array([100.0, 5.0, 8.0, 50.0])
    for start in ([0.0, 0.0, 3.0, 0.5], [-7.0, 0.5, 3.0, 400.0], [100.0, 2.0, 8.0, 50.0]):
        found = minimise(cash(line, counts), start, lower, upper)
        assert found.converged
        np.testing.assert_allclose(found.parameters, TRUTH, rtol=0.02)


def test_far_starts_go_downhill_only():
    """The damping takes over where Fisher scoring alone would go uphill: every step that is kept is a gain."""
    counts = np.random.default_rng(1).poisson(line(TRUTH)[0])
    evaluate, kept = cash(line, counts), []

    def watched(parameters):
        outcome = evaluate(parameters)
        if not kept or outcome[0] < kept[-1]:
            kept.append(outcome[0])
        return outcome

    lower, upper = np.array([0.0, -9.0, 0.3, 1e-3]), np.array([np.inf, 9.0, 8.0, np.inf])
    best = minimise(evaluate, TRUTH, lower, upper).statistic
    found = minimise(watched, [5000.0, 6.0, 7.9, 90.0], lower, upper)
    assert found.statistic == kept[-1] == pytest.approx(best, abs=2e-3)


def test_nothing_to_fit():
    found = minimise(cash(lambda p: (np.full(5, 2.0), np.zeros((0, 5))), np.ones(5)), [], [], [])
    assert found.converged and found.parameters.size == 0
    assert found.statistic == pytest.approx(2 * (10 - 5 * np.log(2.0)))


def test_parameter_without_influence_stays():
    """The data say nothing about it: no step, and no error."""

    def model(parameters):
        expected, slopes = line([parameters[0], 1.0, 1.7, 2.0])
        return expected, np.array([slopes[0], np.zeros_like(X)])

    found = minimise(cash(model, line(TRUTH)[0]), [10.0, 3.3], [0.0, 0.0], [np.inf, 9.0])
    assert found.converged and found.parameters[1] == 3.3
    assert found.parameters[0] == pytest.approx(40.0, rel=0.01)
    matrix = covariance(found.fisher)
    assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all() and matrix[0, 0] > 0


def test_search_that_does_not_end_says_so():
    """A statistic that falls for ever by what is more than the tolerance."""

    def slope(parameters):
        return -parameters[0], np.array([-0.5]), np.array([[1.0]])

    found = minimise(slope, [0.0], [-np.inf], [np.inf])
    assert not found.converged and found.statistic < 0


def test_covariance_is_the_inverse():
    square = np.random.default_rng(5).normal(size=(5, 5))
    # Parameters in units that differ by ten orders of magnitude.
    units = np.array([1e-5, 1.0, 1e5, 3.0, 1e-2])
    fisher = (square @ square.T + np.eye(5)) * units * units[:, np.newaxis]
    np.testing.assert_allclose(covariance(fisher), np.linalg.inv(fisher), rtol=1e-6)
    twins = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert np.isfinite(covariance(twins)).all()  # two parameters of which only the sum is known


def test_errors_are_the_scatter_of_repeated_fits():
    """Pulls of 300 fits: mean zero, width one (standard errors 0.06 and 0.04)."""
    rng, pulls = np.random.default_rng(6), []
    lower, upper = np.array([0.0, -5.0, 0.3, 1e-3]), np.array([np.inf, 5.0, 8.0, np.inf])
    for _ in range(300):
        found = minimise(cash(line, rng.poisson(line(TRUTH)[0])), TRUTH, lower, upper)
        pulls.append((found.parameters - TRUTH) / np.sqrt(np.diag(covariance(found.fisher))))
    np.testing.assert_allclose(np.mean(pulls, axis=0), 0, atol=0.2)
    np.testing.assert_allclose(np.std(pulls, axis=0), 1, atol=0.15)


@pytest.mark.parametrize("extra", [1, 2, 3, 4, 5, 7])
def test_chance_is_that_of_the_chi2_distribution(extra):
    gain = np.array([1e-3, 0.5, 1.0, 5.0, 30.0, 200.0, 590.0, 599.9, 600.1, 700.0, 2e3, 1e5])
    expected = -chi2.logsf(gain, extra)
    # scipy gives infinity where the probability is no number any more.
    known = np.isfinite(expected)
    np.testing.assert_allclose(chance_like(gain, extra)[known], expected[known], rtol=2e-6, atol=1e-15)
    assert known[:9].all() and np.isfinite(chance_like(gain, extra)).all()
    assert np.all(np.diff(chance_like(gain, extra)) > 0)


def test_chance_where_there_is_no_gain():
    assert chance_like(0.0, 3) == 0 and chance_like(-2.0, 1) == 0
    assert np.isnan(chance_like(np.nan, 2))
    assert np.shape(chance_like([1.0, 2.0], [1, 2])) == (2,)
    assert np.ndim(chance_like(1e4, 1)) == 0


def test_chance_of_very_large_gains():
    """Closed forms where the probability itself is no number: normal tail for one, finite sums for even ones."""
    gain = np.array([500.0, 1e3, 2e4, 1e6])
    half = gain / 2
    np.testing.assert_allclose(chance_like(gain, 1), -np.log(2) - log_ndtr(-np.sqrt(gain)), rtol=1e-7)
    np.testing.assert_allclose(chance_like(gain, 2), half, rtol=1e-12)
    np.testing.assert_allclose(chance_like(gain, 4), half - np.log1p(half), rtol=1e-7)
    np.testing.assert_allclose(chance_like(gain, 6), half - np.log1p(half + half**2 / 2), rtol=1e-6)


@pytest.fixture(scope="module")
def patches():
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


BETA = (Component(0, 1, 2, 3),)


@pytest.mark.parametrize(
    ("components", "parameters"),
    [
        ((), []),
        ((Component(0, 1, None, 2),), [2.0, -3.0, 40, 25]),
        (BETA, [2.0, -3.0, 1.7, 140, 90]),
        (BETA, [1.0, 1.0, 0.0, 40, 30]),
        ((Component(0, 1, 2, 3), Component(0, 1, None, 5)), [-4.0, 2.0, 2.2, 150, 80, 20, 9]),
        ((Component(0, 1, None, 4), Component(2, 3, None, 6)), [-4.0, 2.0, 6.0, -5.0, 50, 20, 30, 40]),
    ],
    ids=["NULL", "PNT", "EXT", "EXT at its edge", "EPN", "DBL"],
)
def test_derivatives_are_those_of_finite_differences(patches, components, parameters):
    """Two cameras and the free counts of two neighbours; the Fisher matrix from the slopes of the expected counts."""
    start = np.array([*parameters, 12.0, 7.0, 60.0, 30.0])
    model = Model(patches, components, len(parameters))
    statistic, gradient, fisher = model.evaluate(start)

    def expected(p):
        return np.concatenate([model._expected(p, camera, patch)[0] for camera, patch in enumerate(patches)])

    counts, middle = np.concatenate([patch.counts for patch in patches]), expected(start)
    assert statistic == pytest.approx(2 * np.sum(middle - counts * np.log(middle)), rel=1e-12)
    slopes = []
    for index, step in enumerate(0.03 * np.eye(len(start))):
        if components is BETA and start[index] == 0.0:  # an edge: upwards alone, to second order
            slopes.append((4 * expected(start + step) - expected(start + 2 * step) - 3 * middle) / 0.06)
        else:
            slopes.append((expected(start + step) - expected(start - step)) / 0.06)
    slopes = np.array(slopes)
    scale = np.sqrt(np.diag(fisher))
    np.testing.assert_allclose(gradient / scale, slopes @ (1 - counts / middle) / scale, atol=0.02)
    by_hand = (slopes / middle) @ slopes.T
    np.testing.assert_allclose(fisher / scale / scale[:, np.newaxis], by_hand / scale / scale[:, np.newaxis], atol=0.01)


@pytest.mark.parametrize("level", [1e-7, 0.05, 0.3])
def test_best_counts_of_a_given_shape(patches, level):
    """The counts at which the derivative vanishes, and the gain; scipy searches the statistic itself."""
    patch = patches[0]
    image, base = patch.image(0, 0, 10.0), np.full(len(patch.counts), level)
    counts, gain = best_amplitude(patch, image, base)

    def cost(a):
        return 2 * (a * image.sum() - patch.counts @ np.log(base + a * image))

    found = minimize_scalar(cost, bounds=(0, 5000), method="bounded", options={"xatol": 1e-3})
    assert counts == pytest.approx(found.x, rel=1e-3)
    assert gain == pytest.approx(cost(0) - found.fun, abs=1e-3)


def test_no_counts_where_a_source_would_do_harm(patches):
    image = patches[0].image(0, 0, 10.0)
    assert best_amplitude(patches[0], image, np.full(len(image), 50.0)) == (0.0, 0.0)
    assert best_amplitude(patches[0], np.zeros_like(image)) == (0.0, 0.0)
