"""Errors of maximum likelihood, and chances of likelihood ratios."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc, gammaln

__all__ = ["Solution", "chance_like", "covariance"]


@dataclass(frozen=True)
class Solution:
    """Best parameters, their Cash statistic C and Fisher matrix, and whether the search converged."""

    parameters: np.ndarray
    statistic: float
    fisher: np.ndarray
    sums: np.ndarray  # of the derivatives of the expected counts over all pixels
    converged: bool


def covariance(fisher):
    """Inverse of the Fisher matrix (n, n); NaN in rows and columns of parameters without information."""
    known = np.diag(fisher) > 0
    scale = np.sqrt(np.diag(fisher)[known])
    matrix = fisher[np.ix_(known, known)] / scale / scale[:, np.newaxis]
    result = np.full(fisher.shape, np.nan)
    result[np.ix_(known, known)] = np.linalg.pinv(matrix, rcond=1e-10, hermitian=True) / scale / scale[:, np.newaxis]
    return result


def chance_like(gain, extra):
    """-ln P(chi^2 with ``extra`` degrees of freedom > ``gain`` in C), elementwise; zero without a gain (Wilks 1938,
    Ann. Math. Stat. 9, 60; Cash 1979, ApJ 228, 939)."""
    gain, extra = np.broadcast_arrays(np.maximum(gain, 0.0), np.asarray(extra, float))
    half, order = gain / 2, extra / 2
    far = half > 300
    with np.errstate(invalid="ignore"):
        near_result = -np.log(gammaincc(order, np.where(far, 0.0, half)))
        # Asymptotic series of the incomplete gamma function, two terms: exact to 1e-5 here.
        x = np.where(far, half, 1.0)
        series = 1 + (order - 1) / x * (1 + (order - 2) / x)
        far_result = x - (order - 1) * np.log(x) + gammaln(order) - np.log(np.where(far, series, 1.0))
    return np.where(far, far_result, near_result + 0.0)[()]
