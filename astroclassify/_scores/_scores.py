"""Scores of predictions, one class against the others, with intervals from a bootstrap over groups."""

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
from astropy.table import QTable
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from astroclassify._checks import check_choice, check_integer
from astroclassify.batch import derive_rng, master_seed
from astroclassify.exceptions import AstroclassifyWarning
from astroclassify.tables import SCORES, readable, validate

from ._labelled import unpack

__all__ = ["confusion", "one_vs_all", "precision_recall", "roc", "score"]

SCORE_NAMES = ("precision", "recall", "f1", "bacc", "accuracy", "auc")
_CHUNK = 256
# Resampled rows held at a time: 8 bytes each, a few arrays of them.
_MAX_CELLS = 4_000_000
_WRONG = "are counted as wrong"


def _divide(a, b, empty):
    """a / b, and ``empty`` where b is zero."""
    return np.where(b > 0, a / np.where(b > 0, b, 1), empty)


def _rates(tp, fp, fn, tn, lost=0):
    """
    The five scores from counts (any shape), along a new first axis; undefined ones as in `score`.

    ``lost`` are rows of other classes without prediction, which are no true negatives.
    """
    positive, negative = tp + fn, fp + tn + lost
    absent = positive == 0
    precision = np.where(absent, np.nan, _divide(tp, tp + fp, 0.0))
    recall = _divide(tp, positive, np.nan)
    f1 = _divide(2 * tp, 2 * tp + fp + fn, np.nan)
    f1 = np.where(absent, np.nan, f1)
    bacc = (recall + _divide(tn, negative, np.nan)) / 2
    return np.stack([precision, recall, f1, bacc, _divide(tp + tn, positive + negative, np.nan)])


def _weighted_auc(truth, scores, weights):
    """
    Area under the ROC curve, ties counted half, for all resamplings at once; NaN without members or without others.

    ``truth`` (n,) bool, ``scores`` (n,), ``weights`` (m, n) -> (m,).
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) != 0]))
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _divide(np.sum(positive * below, axis=1), positive.sum(axis=1) * negative.sum(axis=1), np.nan)


def _mean_present(values):
    """Mean over the first axis of what is not NaN; NaN where nothing is left."""
    good = ~np.isnan(values)
    return _divide(np.where(good, values, 0).sum(axis=0), good.sum(axis=0), np.nan)


def _counts(truth, predicted, index):
    """Rows of one class against the others: true and false positives, false and true negatives, lost others."""
    true, chosen, failed = truth == index, predicted == index, predicted < 0
    return true & chosen, ~true & chosen, true & ~chosen, ~true & ~chosen & ~failed, ~true & failed


def evaluate(labelled, weights):
    """Scores (m, n_classes + 1, 6), the mean last, in the order of `SCORE_NAMES`, for row weights (m, n)."""
    good = labelled.has_p
    rows = []
    for index in range(labelled.scheme.n_classes):
        counts = [weights @ mask.astype(float) for mask in _counts(labelled.truth, labelled.predicted, index)]
        auc = np.full(len(weights), np.nan)
        if good.any():
            members, p = labelled.truth[good] == index, labelled.probabilities[good, index]
            auc = _weighted_auc(members, p, weights[:, good])
        rows.append(np.concatenate([_rates(*counts), auc[None]]))
    rows = np.stack(rows)
    return np.moveaxis(np.concatenate([rows, _mean_present(rows)[None]]), 2, 0)


def resample(labelled, function, *, n_bootstrap, seed, name):
    """
    95% intervals (percentiles without NaN) over samples of groups drawn with replacement; NaN for a single group.

    ``function`` of weights (m, n) gives an array with m along the first axis; ``name`` is the purpose of the seed.
    """
    n_bootstrap = check_integer("n_bootstrap", n_bootstrap, 0)
    generator = derive_rng(seed, name)
    membership, n_groups = labelled.membership, labelled.n_groups
    if n_bootstrap and n_groups < 2:
        warnings.warn("intervals need at least two groups, got one", AstroclassifyWarning, stacklevel=3)
        n_bootstrap = 0
    n_rows = len(membership)
    chunk = max(1, min(_CHUNK, _MAX_CELLS // n_rows))
    parts = [np.full_like(function(np.ones((1, n_rows))), np.nan)]
    for start in range(0, n_bootstrap, chunk):
        n = min(chunk, n_bootstrap - start)
        draws = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n)
        parts.append(function(draws[:, membership].astype(float)))
    return _percentiles(np.concatenate(parts))


def take(labelled, rows):
    """Some of the labelled rows, by number or mask."""
    names = ("truth", "predicted", "probabilities", "groups", "source_ids")
    return replace(labelled, **{name: getattr(labelled, name)[rows] for name in names})


def _percentiles(resampled):
    """2.5 and 97.5 percentiles over the first axis of what is not NaN."""
    empty = np.isnan(resampled).all(axis=0)
    filled = np.where(empty, 0.0, resampled)
    low, high = np.nanpercentile(filled, [2.5, 97.5], axis=0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def score_table(scheme, values, low, high):
    """SCORES without ``meta`` from values and intervals, each (n_classes + 1, 6)."""
    table = QTable({"class": [*scheme.classes, "mean"]})
    for index, name in enumerate(SCORE_NAMES):
        table[name], table[f"{name}_lo"], table[f"{name}_hi"] = values[:, index], low[:, index], high[:, index]
    return validate(table, SCORES)


def score(predictions, *, scheme=None, n_bootstrap=1000, rng=None):
    """
    Score predictions against the truth, each class against the others.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table with the true ``label``, and ``group_id`` where rows belong together.
    scheme : ClassScheme or str, optional
        The classes; by default that in ``meta``.
    n_bootstrap : int, optional
        Number of resamplings; 0 gives no intervals (NaN).
    rng : int or `~numpy.random.Generator`, optional
        Seed of the resampling; by default a fresh one. It is recorded in ``meta["seed"]``.

    Returns
    -------
    `~astropy.table.QTable`
        SCORES: one row per class and a last one ``mean`` (mean over classes), with

        - ``precision`` TP/(TP+FP), ``recall`` TP/(TP+FN), ``f1`` their harmonic mean;
        - ``bacc`` = (TPR + TNR)/2 with TNR = TN/(FP+TN);
        - ``accuracy`` (TP+TN)/n of one class against the others (the fraction of rows with the right class is in
          ``meta["accuracy"]``);
        - ``auc``, the area under the ROC curve of ``p_<class>``, ties counted half;
        - ``_lo`` and ``_hi`` of each: the 2.5 and 97.5 percentiles over samples of groups drawn with replacement.

        ``meta`` also holds ``n_images``, ``n_groups``, ``n_failed``, ``n_without_p``, ``n_unlabelled``.

    Raises
    ------
    SchemaError
        If it is not a PREDICTIONS table with labels of the scheme.
    ValueError
        If no row has a label, or ``n_bootstrap`` is negative.

    Notes
    -----
    A failed row counts as wrong: it lowers recall, F1, BAcc and accuracy of its own class, and BAcc and accuracy of the
    others, but no precision. The AUC is that of the rows with probabilities. A warning gives the number of failed rows.
    Rows without a true label are not scored.

    Precision and F1 are 0 where no row was predicted to be of the class. A class absent from the truth has NaN for
    precision, recall, F1, BAcc and AUC, and the mean is over the others. Resamplings where a score is NaN are left out
    of its interval; with one group there are no intervals.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 4 (precision, recall, F1, BAcc). Kosiba et al. 2020, MNRAS 496, 4141
    (accuracy, precision, recall, AUC).

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import score
    >>> table = QTable({"source_id": ["a", "b", "c", "d"], "label_pred": ["cluster", "cluster", "other", "other"],
    ...                 "p_cluster": [0.9, 0.6, 0.4, 0.1], "p_other": [0.1, 0.4, 0.6, 0.9], "flags": [0, 0, 0, 0],
    ...                 "label": ["cluster", "other", "cluster", "other"]})
    >>> scores = score(table, scheme="cluster", n_bootstrap=0)
    >>> float(scores["bacc"][0]), float(scores["auc"][0])
    (0.5, 0.75)
    """
    labelled, seed = unpack(predictions, scheme, failed=_WRONG), master_seed(rng)
    low, high = resample(labelled, partial(evaluate, labelled), n_bootstrap=n_bootstrap, seed=seed, name="score")
    values = evaluate(labelled, np.ones((1, len(labelled.truth))))[0]
    table = score_table(labelled.scheme, values, low, high)
    accuracy = float(np.mean(labelled.truth == labelled.predicted))
    table.meta = labelled.meta(n_bootstrap=int(n_bootstrap), accuracy=accuracy, seed=seed)
    return table


def one_vs_all(predictions, *, scheme=None):
    """
    Count right and wrong answers, each class against the others.

    Parameters
    ----------
    predictions, scheme
        As for `score`. The predicted class is ``label_pred``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per class: ``class``, ``tp``, ``fp``, ``fn``, ``tn``, ``failed`` (rows of other classes without
        prediction; those of the class itself are in ``fn``), which add up to all rows; ``tpr`` = TP/(TP+FN) and
        ``fpr`` = FP/(FP+TN), NaN where there is nothing to divide by.

    Raises
    ------
    SchemaError, ValueError
        As in `score`.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, whose printed formula of the FPR is wrong: it is FP/(FP+TN).

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import one_vs_all
    >>> table = QTable({"source_id": ["a", "b", "c", "d"], "label_pred": ["cluster", "cluster", "other", "other"],
    ...                 "p_cluster": [0.9, 0.6, 0.4, 0.1], "p_other": [0.1, 0.4, 0.6, 0.9], "flags": [0, 0, 0, 0],
    ...                 "label": ["cluster", "other", "other", "other"]})
    >>> counts = one_vs_all(table, scheme="cluster")
    >>> [int(counts[name][0]) for name in ("tp", "fp", "fn", "tn")], round(float(counts["fpr"][0]), 3)
    ([1, 1, 0, 2], 0.333)
    """
    labelled = unpack(predictions, scheme, failed=_WRONG)
    masks = [_counts(labelled.truth, labelled.predicted, index) for index in range(labelled.scheme.n_classes)]
    tp, fp, fn, tn, failed = np.sum(masks, axis=2).T
    table = QTable({"class": list(labelled.scheme.classes), "tp": tp, "fp": fp, "fn": fn, "tn": tn, "failed": failed})
    table["tpr"], table["fpr"] = _divide(tp, tp + fn, np.nan), _divide(fp, fp + tn, np.nan)
    table.meta = labelled.meta()
    return readable(table)


def confusion(predictions, *, scheme=None, normalise=None):
    """
    Confusion matrix as a table: true classes down, predicted classes across.

    Parameters
    ----------
    predictions, scheme
        As for `score`.
    normalise : None, "true" or "predicted", optional
        Counts, fractions of each true class (rows add up to 1, recall on the diagonal), or fractions of each
        predicted class (columns add up to 1, precision on the diagonal).

    Returns
    -------
    `~astropy.table.QTable`
        One row per true class: ``class``, ``pred_<class>`` in scheme order, and ``failed`` for the rows of the class
        without prediction. Fractions of nothing are NaN. ``meta`` has the numbers of rows, as in `score`.

    Raises
    ------
    SchemaError, ValueError
        As in `score`, or if ``normalise`` is something else.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import confusion
    >>> table = QTable({"source_id": ["a", "b", "c", "d"], "label_pred": ["cluster", "cluster", "other", "other"],
    ...                 "p_cluster": [0.9, 0.6, 0.4, 0.1], "p_other": [0.1, 0.4, 0.6, 0.9], "flags": [0, 0, 0, 0],
    ...                 "label": ["cluster", "other", "other", "other"]})
    >>> print(confusion(table, scheme="cluster"))
     class  pred_cluster pred_other failed
    ------- ------------ ---------- ------
    cluster            1          0      0
      other            1          2      0
    """
    if normalise is not None:
        check_choice("normalise", normalise, ("true", "predicted"))
    labelled = unpack(predictions, scheme, failed="are in the column 'failed'")
    n_classes = labelled.scheme.n_classes
    # A row that failed has the class -1, here the last column.
    matrix = confusion_matrix(labelled.truth, labelled.predicted, labels=[*range(n_classes), -1])[:n_classes]
    if normalise:
        matrix = _divide(matrix, matrix.sum(axis=int(normalise == "true"), keepdims=True), np.nan)
    names = [f"pred_{name}" for name in labelled.scheme.classes]
    table = QTable([list(labelled.scheme.classes), *matrix.T], names=["class", *names, "failed"])
    table.meta = labelled.meta(normalise=normalise or "")
    return readable(table)


def roc(predictions, *, scheme=None):
    """
    ROC curve of each class against the others.

    Parameters
    ----------
    predictions, scheme
        As for `score`.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``class``, ``threshold`` (a row is of the class where p is at least this; the first is infinite),
        ``fpr`` = FP/(FP+TN) and ``tpr`` = TP/(TP+FN), from (0, 0) to (1, 1). Rows without label or prediction are left
        out, with a warning and their number in ``meta``; a class that is absent from the truth, or alone in it, has no
        curve.

    Raises
    ------
    SchemaError, ValueError
        As in `score`.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import roc
    >>> table = QTable({"source_id": ["a", "b", "c"], "label_pred": ["cluster", "cluster", "other"],
    ...                 "p_cluster": [0.9, 0.6, 0.4], "p_other": [0.1, 0.4, 0.6], "flags": [0, 0, 0],
    ...                 "label": ["cluster", "other", "cluster"]})
    >>> curve = roc(table, scheme="cluster")[:4]
    >>> curve["fpr"].tolist(), curve["tpr"].tolist()
    ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])
    """
    return _curves(unpack(predictions, scheme), ("fpr", "tpr", "threshold"), roc_curve)


def precision_recall(predictions, *, scheme=None):
    """
    Precision against recall of each class against the others.

    Parameters
    ----------
    predictions, scheme
        As for `score`.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``class``, ``threshold`` (a row is of the class where p is at least this), ``precision`` = TP/(TP+FP)
        and ``recall`` = TP/(TP+FN), by rising threshold from recall 1 down to 0. The last row of a class has an
        infinite threshold and precision 1 by convention. What is left out is as in `roc`.

    Raises
    ------
    SchemaError, ValueError
        As in `score`.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import precision_recall
    >>> table = QTable({"source_id": ["a", "b", "c"], "label_pred": ["cluster", "cluster", "other"],
    ...                 "p_cluster": [0.9, 0.6, 0.4], "p_other": [0.1, 0.4, 0.6], "flags": [0, 0, 0],
    ...                 "label": ["cluster", "other", "cluster"]})
    >>> curve = precision_recall(table, scheme="cluster")[:4]
    >>> curve["recall"].tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    return _curves(unpack(predictions, scheme), ("precision", "recall", "threshold"), precision_recall_curve)


def _curves(labelled, names, curve):
    """
    Curves of scikit-learn for each class that has members and others among the rows with p, in one table.

    ``names`` are those of the results of ``curve``, the threshold last; where it is one short, infinity is added.
    """
    good = labelled.has_p
    if not good.all():
        text = f"{np.sum(~good)} rows without probabilities are left out of the curves, of {len(good)}"
        warnings.warn(text, AstroclassifyWarning, stacklevel=3)
    labels, parts = [], [np.zeros((3, 0))]
    for index, name in enumerate(labelled.scheme.classes):
        members = labelled.truth[good] == index
        if members.any() and not members.all():
            *rates, threshold = curve(members, labelled.probabilities[good, index])
            threshold = np.append(threshold, np.full(len(rates[0]) - len(threshold), np.inf))
            parts.append(np.stack([threshold, *rates]))
            labels += [name] * len(threshold)
    columns = np.concatenate(parts, axis=1)
    table = QTable([np.array(labels, dtype=str), *columns], names=("class", names[-1], *names[:-1]))
    table.meta = labelled.meta()
    return readable(table)
