"""Errors of the fits, and chances beside the chi2 distribution."""

import numpy as np
import pytest
from scipy.special import log_ndtr
from scipy.stats import chi2

from astroclassify.survey.extents._optimise import chance_like, covariance


def test_covariance_is_the_inverse():
    square = np.random.default_rng(5).normal(size=(5, 5))
    # Parameters in units that differ by ten orders of magnitude.
    units = np.array([1e-5, 1.0, 1e5, 3.0, 1e-2])
    fisher = (square @ square.T + np.eye(5)) * units * units[:, np.newaxis]
    np.testing.assert_allclose(covariance(fisher), np.linalg.inv(fisher), rtol=1e-6)
    twins = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert np.isfinite(covariance(twins)).all()  # two parameters of which only the sum is known


def test_parameter_without_information_has_no_error():
    matrix = covariance(np.diag([4.0, 0.0]))
    assert matrix[0, 0] == 0.25
    assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all()


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
