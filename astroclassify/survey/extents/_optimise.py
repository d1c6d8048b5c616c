"""Maximum likelihood of Poisson counts: Fisher scoring within bounds, covariance, and likelihood ratios."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc, gammaln

__all__ = ["Solution", "chance_like", "covariance", "minimise"]

MAX_STEPS = 80
TOLERANCE = 1e-3  # in the Cash statistic: no step promises more


@dataclass(frozen=True)
class Solution:
    """Best parameters, their Cash statistic C and Fisher matrix, and whether the search converged."""

    parameters: np.ndarray
    statistic: float
    fisher: np.ndarray
    converged: bool


def minimise(evaluate, start, lower, upper):
    """Minimise a Cash statistic within bounds; ``evaluate(parameters)`` gives C, half its gradient and the Fisher
    matrix. Fisher scoring, scaled and damped (Levenberg 1944; Marquardt 1963); a parameter stays at its bound while
    the gradient holds it there."""
    best = np.clip(np.asarray(start, float), lower, upper)
    statistic, gradient, fisher = evaluate(best)
    damping = 1e-3
    for _ in range(MAX_STEPS):
        free = ~(((best <= lower) & (gradient >= 0)) | ((best >= upper) & (gradient <= 0)))
        free &= np.diag(fisher) > 0
        if not free.any():
            return Solution(best, statistic, fisher, True)
        scale = np.sqrt(np.diag(fisher)[free])
        matrix = fisher[np.ix_(free, free)] / scale / scale[:, np.newaxis]
        matrix[np.diag_indices_from(matrix)] += damping
        step = np.zeros_like(best)
        step[free] = -np.linalg.solve(matrix, gradient[free] / scale) / scale
        trial = np.clip(best + step, lower, upper)
        moved = trial - best
        promise = -(2 * gradient @ moved + moved @ fisher @ moved)
        outcome = evaluate(trial)
        gain = statistic - outcome[0]
        if gain > 0:
            best, (statistic, gradient, fisher) = trial, outcome
            damping = max(damping * 0.2, 1e-9)
        else:
            damping *= 10
        if abs(promise) < TOLERANCE and abs(gain) < TOLERANCE:
            return Solution(best, statistic, fisher, True)
        if damping > 1e9:
            break
    return Solution(best, statistic, fisher, damping > 1e9)


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
