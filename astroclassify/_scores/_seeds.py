"""Scores and ROC curves over several trainings on one test set."""

import warnings

import numpy as np
from astropy.table import QTable, vstack

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.schemes import get_scheme
from astroclassify.tables import plain_column, provenance, readable

from ._labelled import scheme_in, unpack
from ._scores import SCORE_NAMES, evaluate, roc

__all__ = ["mean_and_std", "roc_seeds", "score_seeds", "seed_scores", "warn_failed"]


def seed_scores(predictions, scheme):
    """Scores of each seed (n_seeds, n_classes + 1, 6), NaN where the seed failed; failed seeds and failed rows."""
    numbers = plain_column(predictions["seed"])
    values, n_seeds_failed, n_failed = [], 0, 0
    for number in np.unique(numbers):
        labelled = unpack(predictions[numbers == number], scheme)
        if labelled.n_failed == len(labelled.truth):
            n_seeds_failed += 1
            continue
        n_failed += labelled.n_failed
        values.append(evaluate(labelled, np.ones((1, len(labelled.truth))))[0])
    shape = (0, get_scheme(scheme).n_classes + 1, len(SCORE_NAMES))
    return np.array(values).reshape(-1, *shape[1:]), n_seeds_failed, n_failed


def mean_and_std(values, scheme):
    """Table of mean and standard deviation (n - 1) over the first axis; NaN where there are too few."""
    table = QTable({"class": [*scheme.classes, "mean"]})
    for index, name in enumerate(SCORE_NAMES):
        column = values[:, :, index]
        nan = np.full(column.shape[1], np.nan)
        table[name] = column.mean(axis=0) if len(column) else nan
        table[f"{name}_std"] = column.std(axis=0, ddof=1) if len(column) > 1 else nan
    return table


def score_seeds(predictions, *, scheme=None):
    """
    Mean and standard deviation over seeds of the scores on one test set.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        What `repeat_seeds` gives: PREDICTIONS with ``label`` and ``seed``.
    scheme : ClassScheme or str, optional
        The classes; by default that in ``meta``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per class and a last one ``mean``, as in SCORES: ``class``, and each score with ``_std``, the standard
        deviation over seeds (n - 1 in the denominator; NaN for one seed). ``meta`` has ``n_seeds``,
        ``n_seeds_failed``, ``n_failed``.

    Raises
    ------
    SchemaError, ValueError
        As in `score`, or if there is no column ``seed``.

    Notes
    -----
    A row that failed is counted as wrong, as in `score`. A seed without any prediction (its training failed) says
    nothing about the classifier and is left out of mean and scatter. A warning gives both numbers.

    The scatter over seeds is not the uncertainty of the mean: the test set, and the training set, are the same for all
    of them. `score` with its bootstrap over groups says what another test set could give.
    """
    if "seed" not in predictions.colnames:
        raise SchemaError(f"predictions must have a column 'seed', got {predictions.colnames}")
    scheme = scheme_in(predictions, scheme)
    values, n_seeds_failed, n_failed = seed_scores(predictions, scheme)
    warn_failed(n_seeds_failed, n_failed)
    table = mean_and_std(values, scheme)
    numbers = {"n_seeds": len(values), "n_seeds_failed": n_seeds_failed, "n_failed": n_failed}
    table.meta = {"scheme": scheme.to_dict(), **provenance(**numbers)}
    return readable(table)


def warn_failed(n_seeds_failed, n_failed):
    if n_seeds_failed or n_failed:
        left_out = f"{n_seeds_failed} seeds without predictions are left out"
        text = f"{left_out}, {n_failed} rows without prediction of the others are counted as wrong"
        warnings.warn(text, AstroclassifyWarning, stacklevel=3)


def roc_seeds(predictions, *, scheme=None):
    """
    Mean ROC curve over seeds, and its scatter.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        What `repeat_seeds` gives: PREDICTIONS with ``label`` and ``seed``.
    scheme : ClassScheme or str, optional
        The classes; by default that in ``meta``.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``class``, ``fpr``, ``tpr`` (mean over seeds) and ``tpr_std`` (standard deviation, n - 1 in the
        denominator; NaN for one seed). At every rate of false positives that any seed has, the curve has two points,
        the lower and the upper end of its step there: the area under it is the mean of the areas of `score_seeds`.

    Raises
    ------
    SchemaError, ValueError
        As in `roc`, or if there is no column ``seed``.

    References
    ----------
    Fawcett 2006, Pattern Recognition Letters 27, 861, section 8.1 (vertical averaging).

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import roc_seeds
    >>> table = QTable({"source_id": list("abcabc"), "label_pred": ["cluster"] * 6,
    ...                 "p_cluster": [0.9, 0.6, 0.8, 0.9, 0.7, 0.6], "p_other": [0.1, 0.4, 0.2, 0.1, 0.3, 0.4],
    ...                 "flags": [0] * 6, "label": ["cluster", "other", "cluster"] * 2, "seed": [0, 0, 0, 1, 1, 1]})
    >>> curve = roc_seeds(table, scheme="cluster")
    >>> curve["fpr", "tpr"][curve["class"] == "cluster"].as_array().tolist()
    [(0.0, 0.0), (0.0, 0.75), (1.0, 0.75), (1.0, 1.0)]
    """
    if "seed" not in predictions.colnames:
        raise SchemaError(f"predictions must have a column 'seed', got {predictions.colnames}")
    scheme = scheme_in(predictions, scheme)
    numbers = plain_column(predictions["seed"])
    curves = [roc(predictions[numbers == number], scheme=scheme) for number in np.unique(numbers)]
    parts = [QTable({"class": np.zeros(0, "U1"), "fpr": [], "tpr": [], "tpr_std": []})]
    for label in scheme.classes:
        steps = [np.stack([curve[name][curve["class"] == label] for name in ("fpr", "tpr")]) for curve in curves]
        steps = [each for each in steps if each.size]
        if steps:
            parts.append(_mean_curve(label, steps))
    table = vstack(parts, metadata_conflicts="silent")
    table.meta = {"scheme": scheme.to_dict(), **provenance(n_seeds=len(curves))}
    return readable(table)


def _mean_curve(label, steps):
    """Mean of curves (2, n) of fpr and tpr."""
    grid = np.unique(np.concatenate([fpr for fpr, _ in steps]))
    ends = np.array([_ends(fpr, tpr, grid) for fpr, tpr in steps]).reshape(len(steps), -1)
    std = ends.std(axis=0, ddof=1) if len(steps) > 1 else np.full(ends.shape[1], np.nan)
    columns = {"fpr": np.repeat(grid, 2), "tpr": ends.mean(axis=0), "tpr_std": std}
    return QTable({"class": np.full(2 * len(grid), label), **columns})


def _ends(fpr, tpr, grid):
    """Lower and upper end (n, 2) of a curve's step at each place of a grid; equal where it has no step."""
    rates, first = np.unique(fpr, return_index=True)
    last = np.append(first[1:], len(fpr)) - 1
    place = np.searchsorted(rates, grid)
    known = rates[place] == grid
    # Between two rates the curve goes from the upper end at one to the lower end at the next.
    before, after = last[np.maximum(place - 1, 0)], first[place]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (grid - fpr[before]) / (fpr[after] - fpr[before])
    between = tpr[before] + share * (tpr[after] - tpr[before])
    return np.stack([np.where(known, tpr[first[place]], between), np.where(known, tpr[last[place]], between)], axis=1)
