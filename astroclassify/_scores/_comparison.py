"""Two classifiers on the same images: is one better than the other by more than chance?"""

from dataclasses import replace

import numpy as np
from astropy.table import QTable
from scipy.stats import binomtest, chi2

from astroclassify.batch import master_seed
from astroclassify.exceptions import SchemaError
from astroclassify.tables import readable

from ._labelled import unpack
from ._scores import evaluate, resample, score_table, take

__all__ = ["mcnemar", "score_difference"]

_FEW = 25
# Work of the exact test over groups (groups x rows that differ); beyond it the normal limit is as good.
_MAX_EXACT = 20_000_000
_WRONG = "are counted as wrong"


def _unpack_pair(predictions_a, predictions_b, scheme):
    """The rows with a true label of two tables, those of the second in the order of the first."""
    first = unpack(predictions_a, scheme, name="predictions_a", failed=_WRONG, stacklevel=4)
    second = unpack(predictions_b, scheme, name="predictions_b", failed=_WRONG, stacklevel=4)
    if first.scheme != second.scheme:
        raise SchemaError(f"both predictions must have one scheme, got {first.scheme.name!r}, {second.scheme.name!r}")
    for name, labelled in (("predictions_a", first), ("predictions_b", second)):
        if len(set(labelled.source_ids)) != len(labelled.source_ids):
            raise SchemaError(f"{name} must have each source_id once, to be compared row by row")
    odd = sorted(map(str, set(first.source_ids) ^ set(second.source_ids)))
    if odd:
        raise SchemaError(f"both predictions must be of the same labelled images, got {odd[:3]} in one only")
    place = {name: row for row, name in enumerate(second.source_ids)}
    rows = np.array([place[name] for name in first.source_ids])
    second = take(second, rows)
    if np.any(first.truth != second.truth):
        raise SchemaError("both predictions must have the same true labels")
    if first.has_groups and second.has_groups and np.any(first.groups != second.groups):
        raise SchemaError("both predictions must have the same group_id")
    groups = first.groups if first.has_groups or not second.has_groups else second.groups
    return replace(first, groups=groups), replace(second, groups=groups)


def _mcnemar(only_a, only_b):
    """Method, statistic (NaN if exact) and two-sided p-value of the rows that one alone has right."""
    n = only_a + only_b
    if n < _FEW:
        return "exact", np.nan, 1.0 if n == 0 else float(binomtest(only_a, n, 0.5).pvalue)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / n
    return "chi2", statistic, float(chi2.sf(statistic, 1))


def _swap_test(differences):
    """Two-sided p-value of a sum of whole numbers under random signs: exact by convolution, or the normal limit."""
    sizes = np.abs(differences[differences != 0]).astype(np.int64)
    if not len(sizes):
        return 1.0
    total, seen = int(sizes.sum()), abs(int(differences.sum()))
    if len(sizes) * total > _MAX_EXACT:
        return float(chi2.sf(seen**2 / np.sum(sizes**2), 1))
    chance = np.zeros(total + 1)  # of the sum of the positive ones
    chance[0] = 1.0
    for size in sizes:
        chance[size:] = (chance[size:] + chance[:-size]) / 2
        chance[:size] /= 2
    sums = 2 * np.arange(total + 1) - total
    return float(min(1.0, chance[np.abs(sums) >= seen].sum()))


def mcnemar(predictions_a, predictions_b, *, scheme=None, n_bootstrap=1000, rng=None):
    """
    Compare two classifiers by the images that only one of them has right (McNemar's test).

    Parameters
    ----------
    predictions_a, predictions_b : `~astropy.table.QTable`
        PREDICTIONS of the same images with the true ``label``, in any order: rows are matched by ``source_id``.
    scheme : ClassScheme or str, optional
        The classes; by default those in ``meta``.
    n_bootstrap : int, optional
        Number of resamplings of groups for the interval of the difference; 0 gives none (NaN).
    rng : int or `~numpy.random.Generator`, optional
        Seed of the resampling; by default a fresh one. It is recorded in ``meta["seed"]``.

    Returns
    -------
    `~astropy.table.QTable`
        One row:

        - ``n_images``, ``n_groups``; ``both_right``, ``only_a``, ``only_b``, ``both_wrong``: numbers of images;
        - ``accuracy_a``, ``accuracy_b``, and ``difference`` = a - b with ``difference_lo`` and ``difference_hi``, its
          95% interval by bootstrap over groups;
        - ``p_value`` of McNemar's test, two-sided, and its ``method``: ``"exact"`` (binomial) if fewer than 25 images
          are right for one only, else ``"chi2"`` with ``statistic``, (abs(only_a - only_b) - 1)^2 / (only_a + only_b);
        - ``p_groups``: the same question with whole groups. **Use this one where groups have several rows.**

    Raises
    ------
    SchemaError
        If the tables are not of the same images with the same labels, or an image is there twice.
    ValueError
        If no row has a label, or ``n_bootstrap`` is negative.

    Notes
    -----
    McNemar's test assumes independent rows. Projections of one halo are not: its ``p_value`` is then too small.
    ``p_groups`` is the chance of a difference as large as observed if the two classifiers were exchanged at random in
    each group: the sum over groups of d = (right for a only - right for b only) over all choices of signs. It is exact
    for any correlation inside groups and equals the exact McNemar test where each row is its own group; for very many
    groups the normal limit is used, z^2 = (sum d)^2 / sum d^2.

    A row without prediction is wrong, as in `score`; a row in one table only is an error.

    References
    ----------
    McNemar 1947, Psychometrika 12, 153; Edwards 1948, Psychometrika 13, 185 (continuity); Durkalski et al. 2003,
    Statistics in Medicine 22, 2417 (groups).

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import ThresholdClassifier, mcnemar
    >>> sample = QTable({"source_id": list("abcd"), "label": ["CC", "CC", "WCC", "NCC"], "c_sb": [0.3, 0.2, 0.1, 0.2]})
    >>> a, b = (ThresholdClassifier("c_sb", thresholds=cuts).classify(sample) for cuts in [(0.15, 0.08), (0.25, 0.08)])
    >>> test = mcnemar(a, b)
    >>> int(test["only_a"][0]), int(test["only_b"][0]), float(test["p_value"][0])
    (1, 0, 1.0)
    """
    (first, second), seed = _unpack_pair(predictions_a, predictions_b, scheme), master_seed(rng)
    right_a, right_b = first.predicted == first.truth, second.predicted == second.truth
    difference = right_a.astype(np.int64) - right_b

    def mean(weights):
        return (weights @ difference) / weights.sum(axis=1)

    low, high = resample(first, mean, n_bootstrap=n_bootstrap, seed=seed, name="comparison")
    only_a, only_b = int(np.sum(difference > 0)), int(np.sum(difference < 0))
    method, statistic, p_value = _mcnemar(only_a, only_b)
    row = {"n_images": len(difference), "n_groups": first.n_groups, "both_right": int(np.sum(right_a & right_b))}
    row |= {"only_a": only_a, "only_b": only_b, "both_wrong": int(np.sum(~right_a & ~right_b))}
    row |= {"accuracy_a": float(right_a.mean()), "accuracy_b": float(right_b.mean())}
    row |= {"difference": float(difference.mean()), "difference_lo": float(low), "difference_hi": float(high)}
    row |= {"method": method, "statistic": float(statistic), "p_value": p_value}
    row["p_groups"] = _swap_test(np.bincount(first.membership, weights=difference))
    table = QTable({name: [value] for name, value in row.items()})
    table.meta = first.meta(n_failed_b=second.n_failed, n_bootstrap=int(n_bootstrap), seed=seed)
    return readable(table)


def score_difference(predictions_a, predictions_b, *, scheme=None, n_bootstrap=1000, rng=None):
    """
    Difference of every score of two classifiers on the same images, with intervals by bootstrap over groups.

    Parameters
    ----------
    predictions_a, predictions_b, scheme, n_bootstrap, rng
        As for `mcnemar`.

    Returns
    -------
    `~astropy.table.QTable`
        Laid out like SCORES, a minus b. Both are scored on the same groups in every resampling, so the interval is
        narrower than those of the two scores suggest. Where it holds no zero the difference is significant at 5%.

    Raises
    ------
    SchemaError, ValueError
        As in `mcnemar`.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import ThresholdClassifier, score_difference
    >>> sample = QTable({"source_id": list("abcd"), "label": ["CC", "CC", "WCC", "NCC"], "c_sb": [0.3, 0.2, 0.1, 0.2]})
    >>> a, b = (ThresholdClassifier("c_sb", thresholds=cuts).classify(sample) for cuts in [(0.15, 0.08), (0.25, 0.08)])
    >>> score_difference(a, b, n_bootstrap=0)["recall"][:3].tolist()
    [0.5, 0.0, 0.0]
    """
    (first, second), seed = _unpack_pair(predictions_a, predictions_b, scheme), master_seed(rng)

    def difference(weights):
        return evaluate(first, weights) - evaluate(second, weights)

    low, high = resample(first, difference, n_bootstrap=n_bootstrap, seed=seed, name="comparison")
    values = difference(np.ones((1, len(first.truth))))[0]
    table = score_table(first.scheme, values, low, high)
    table.meta = first.meta(n_failed_b=second.n_failed, n_bootstrap=int(n_bootstrap), seed=seed)
    return table
