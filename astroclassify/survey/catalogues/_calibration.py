"""Cuts on EXT_LIKE calibrated on candidates whose truth is known."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.stats import binom_conf_interval

from astroclassify import batch
from astroclassify._checks import check_number, check_quantity
from astroclassify._x_classes import X_CLASS_BOUNDS
from astroclassify.exceptions import ArgumentError
from astroclassify.tables import numbers, plain_column, plain_table

from ._classes import NOT_EXTENDED, Cuts

__all__ = ["INTERVAL", "Calibration", "calibrate_cuts"]

INTERVAL = 0.6827  # probability of the confidence intervals, as one sigma of a Gaussian
_RESAMPLED = 500
_ORIGIN = (
    "EXT_LIKE threshold for a purity of {purity:g} among {n} candidates of known truth "
    "({lo:.3g} to {hi:.3g} at 68% confidence)"
)
(_C1,) = X_CLASS_BOUNDS["C1"]


@dataclass(frozen=True)
class Calibration:
    """
    Result of `calibrate_cuts`.

    Parameters
    ----------
    cuts : Cuts
        The cuts, to be used with `select` and `classify_extent`.
    ext_like : float
        The threshold.
    ext_like_interval : tuple of float
        Its 68% confidence interval, from resampled candidates; the upper end is infinite where so many of the samples
        reach the purity with no threshold.
    purity : float
        Share of clusters above the threshold, in these candidates.
    purity_interval : tuple of float
        Its 68% binomial (Wilson) interval.
    completeness : float
        Share of those clusters that pass the other bounds which also pass the threshold.
    n : int
        Candidates that pass the cuts.
    seed : int
        Seed of the resampling.
    """

    cuts: Cuts
    ext_like: float
    ext_like_interval: tuple
    purity: float
    purity_interval: tuple
    completeness: float
    n: int
    seed: int


def calibrate_cuts(
    candidates,
    is_cluster,
    *,
    purity=0.95,
    name="calibrated",
    ext=_C1["ext"][0] * u.arcsec,
    det_like=_C1["det_like"][0],
    groups=None,
    rng=None,
):
    """
    Find the EXT_LIKE threshold that gives a sample of a wanted purity, on simulated candidates whose truth is known.

    Parameters
    ----------
    candidates : `~astropy.table.QTable`
        CANDIDATES tables of simulated fields, stacked.
    is_cluster : array-like of bool
        Truth, one per row.
    purity : float, optional
        Wanted share of clusters, above 0 and at most 1.
    name : str, optional
        Name of the class.
    ext : `~astropy.units.Quantity`, optional
        Smallest EXT, an angle.
    det_like : float, optional
        Smallest DET_LIKE. Both are those of C1 by default.
    groups : array-like, optional
        Group of each candidate, such as its field: groups are resampled as a whole for the uncertainty. By default each
        candidate is a group of its own.
    rng : int or `~numpy.random.Generator`, optional
        Seed or generator of the resampling; by default a fresh seed. The result holds the seed used.

    Returns
    -------
    Calibration
        The cuts, with the threshold and its uncertainty.

    Raises
    ------
    ValueError
        If no threshold reaches the purity, or an argument is not allowed.
    SchemaError
        If a column is missing.

    Notes
    -----
    Of all thresholds for which the candidates above have at least the wanted purity, the lowest one is taken (half-way
    to the next candidate below): the largest sample that is pure enough. Because the same candidates set and judge the
    threshold, the purity is somewhat optimistic, by less than its interval. The threshold holds for candidates like
    these: exposure, background, PSF, and what is mixed with the clusters.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.survey import calibrate_cuts
    >>> table = QTable({"ext": np.full(6, 9) * u.arcsec, "det_like": np.full(6, 90.0)})
    >>> table["ext_like"] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    >>> found = calibrate_cuts(table, [False, True, False, True, True, True], purity=0.9)
    >>> found.ext_like, found.n
    (35.0, 3)
    """
    candidates = plain_table(candidates)
    is_cluster, groups = _check_truth(candidates, is_cluster, groups)
    check_number("purity", purity, 0, 1, open_low=True)
    check_quantity("ext", ext, u.arcsec, shape=())
    convention = candidates.meta.get("likelihood")
    bounds = {"ext": (ext, None), "det_like": (check_number("det_like", det_like), None), "ext_like": (None, None)}
    like = numbers(candidates, "ext_like", what="candidates")
    rows = np.flatnonzero(Cuts(name, bounds, without=NOT_EXTENDED).passed(candidates))
    rows = rows[np.argsort(-like[rows], kind="stable")]
    values, true, groups = like[rows], is_cluster[rows], groups[rows]
    threshold = _threshold(values, true, purity, np.ones(len(rows)))
    if not np.isfinite(threshold):
        raise ArgumentError(
            f"no EXT_LIKE threshold gives a purity of {purity:g}: of {len(rows)} candidates with EXT > {ext} and "
            f"DET_LIKE > {det_like:g}, {true.sum()} are clusters, and the one with the highest EXT_LIKE is none"
        )
    seed = batch.master_seed(rng)
    resampled = _resampled(values, true, groups, purity, batch.derive_rng(seed, "calibrate"))
    # The k-th smallest: a quantile between a number and infinity would not be one.
    ranks = np.round(np.array([1 - INTERVAL, 1 + INTERVAL]) / 2 * (_RESAMPLED - 1)).astype(int)
    low, high = (float(value) for value in np.sort(resampled)[ranks])
    above = values > threshold
    hits, number = int(np.sum(true & above)), int(above.sum())
    origin = _ORIGIN.format(purity=purity, n=len(candidates), lo=low, hi=high)
    return Calibration(
        Cuts(name, {**bounds, "ext_like": (threshold, None)}, origin, convention, NOT_EXTENDED),
        threshold,
        (low, high),
        hits / number,
        tuple(float(end) for end in binom_conf_interval(hits, number, INTERVAL, interval="wilson")),
        hits / int(true.sum()),
        number,
        seed,
    )


def _check_truth(candidates, is_cluster, groups):
    is_cluster = plain_column(is_cluster)
    if is_cluster.shape != (len(candidates),) or is_cluster.dtype != bool:
        raise ArgumentError(
            f"is_cluster must be one true or false per candidate ({len(candidates)}), "
            f"got {is_cluster.dtype} of shape {is_cluster.shape}"
        )
    groups = np.arange(len(candidates)) if groups is None else plain_column(groups)
    if groups.shape != (len(candidates),):
        raise ArgumentError(f"groups must be one per candidate ({len(candidates)}), got shape {groups.shape}")
    return is_cluster, groups


def _threshold(values, true, purity, weights):
    """Lowest threshold with at least that purity above it, infinite if there is none; values fall."""
    number, hits = np.cumsum(weights), np.cumsum(weights * true)
    # Equal values pass together or not at all.
    last = np.append(values[1:] < values[:-1], True)[: len(values)]
    good = np.flatnonzero(last & (number > 0) & (hits >= purity * number - 1e-9))
    if not len(good):
        return np.inf
    lowest = values[good[-1]]
    below = values[good[-1] + 1] if good[-1] + 1 < len(values) else min(0.0, lowest - 1.0)
    return float((lowest + below) / 2)


def _resampled(values, true, groups, purity, rng):
    """Thresholds of samples of whole groups, drawn with replacement."""
    names, member = np.unique(groups, return_inverse=True)
    thresholds = np.empty(_RESAMPLED)
    for number in range(_RESAMPLED):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        thresholds[number] = _threshold(values, true, purity, times[member])
    return thresholds
