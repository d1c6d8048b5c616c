"""Scores of predictions, one class against the others, with intervals from a bootstrap over groups."""

import warnings

import numpy as np
from astropy.table import QTable
from sklearn.metrics import roc_curve

from ..batch import derive_rng, master_seed
from ..exceptions import AstroclassifyWarning, SchemaError
from ..schemes import ClassScheme, get_scheme
from ..tables import PREDICTIONS, SCORES, provenance, validate

__all__ = ["roc", "score"]

_NAMES = ("precision", "recall", "f1", "bacc", "accuracy", "auc")
_CHUNK = 256


def _divide(a, b, empty):
    """a / b, and ``empty`` where b is zero."""
    return np.where(b > 0, a / np.where(b > 0, b, 1), empty)


def _rates(tp, fp, fn, tn):
    """
    The five scores from counts (arrays of any shape), stacked along a new first axis.

    Nothing predicted to be of the class: precision 0. Class absent from the truth: precision, recall, F1 and BAcc NaN.
    Nothing but the class in the truth: BAcc NaN.
    """
    positive, negative = tp + fn, fp + tn
    absent = positive == 0
    precision = np.where(absent, np.nan, _divide(tp, tp + fp, 0.0))
    recall = _divide(tp, positive, np.nan)
    f1 = _divide(2 * tp, 2 * tp + fp + fn, np.nan)
    f1 = np.where(absent, np.nan, f1)
    bacc = (recall + _divide(tn, negative, np.nan)) / 2
    return np.stack([precision, recall, f1, bacc, _divide(tp + tn, positive + negative, np.nan)])


def _weighted_auc(truth, scores, weights):
    """
    Area under the ROC curve: the chance that a member outranks another, ties half.

    ``truth`` (n,) bool, ``scores`` (n,), ``weights`` (m, n) -> (m,); NaN where a side is empty.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) != 0]))
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _divide(
        np.sum(positive * below, axis=1), positive.sum(axis=1) * negative.sum(axis=1), np.nan
    )


def _mean_present(values):
    """Mean over the first axis of what is not NaN; NaN where nothing is left."""
    good = ~np.isnan(values)
    return _divide(np.where(good, values, 0).sum(axis=0), good.sum(axis=0), np.nan)


def _evaluate(truth, predicted, probabilities, weights):
    """Scores of weighted rows: (m, n) weights -> (m, n_classes + 1, 6); the last class is the mean."""
    n_classes = probabilities.shape[1]
    total = weights.sum(axis=1)
    good = np.isfinite(probabilities).all(axis=1)
    rows = []
    for index in range(n_classes):
        is_true, is_said = truth == index, predicted == index
        masks = (is_true & is_said, ~is_true & is_said, is_true & ~is_said)
        tp, fp, fn = (weights @ mask.astype(float) for mask in masks)
        auc = np.full(len(weights), np.nan)
        if good.any():
            auc = _weighted_auc(is_true[good], probabilities[good, index], weights[:, good])
        rows.append(np.concatenate([_rates(tp, fp, fn, total - tp - fp - fn), auc[None]]))
    rows = np.stack(rows)
    return np.moveaxis(np.concatenate([rows, _mean_present(rows)[None]]), 2, 0)


def _unpack(predictions, scheme):
    """Truth, predicted index (-1: failed), probabilities and groups of the rows that have a label."""
    if scheme is None and "scheme" in predictions.meta:
        scheme = ClassScheme.from_dict(dict(predictions.meta["scheme"]))
    if scheme is None:
        raise SchemaError("scheme must be given: the predictions do not carry one in meta['scheme']")
    scheme = get_scheme(scheme)
    predictions = validate(predictions, PREDICTIONS, scheme=scheme)
    if "label" not in predictions.colnames:
        raise SchemaError("predictions must have a column 'label' with the true classes")
    labels = np.array([str(label) for label in predictions["label"]])
    known = labels != ""
    if not known.any():
        raise ValueError("predictions must have a true label in at least one row")
    truth = np.array([scheme.index(label) for label in labels[known]])
    names = {name: index for index, name in enumerate(scheme.classes)}
    predicted = np.array([names.get(str(label), -1) for label in predictions["label_pred"][known]])
    probabilities = np.stack([np.asarray(predictions[f"p_{name}"], float)[known] for name in scheme.classes], axis=1)
    if "group_id" in predictions.colnames:
        groups = np.array([str(group) for group in predictions["group_id"]])[known]
    else:
        groups = np.arange(known.sum())
    return scheme, truth, predicted, probabilities, groups, int(np.sum(~known))


def score(predictions, *, scheme=None, n_bootstrap=1000, rng=0):
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
        Seed of the resampling.

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

        ``meta`` also holds ``n_images``, ``n_groups``, ``n_failed``, ``n_unlabelled``.

    Raises
    ------
    SchemaError
        If it is not a PREDICTIONS table with labels of the scheme.
    ValueError
        If no row has a label, or ``n_bootstrap`` is negative.

    Notes
    -----
    A row that failed counts as wrong (never found), not for the AUC. Rows without a true label are not scored. What
    cannot be computed: precision is 0 where nothing was predicted to be of the class (F1 too); a class that is absent
    from the truth has NaN for precision, recall, F1, BAcc and AUC, and the mean is over the others. Resamplings where
    a score is NaN are left out of its interval.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 4 (precision, recall, F1, BAcc).

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
    if isinstance(n_bootstrap, bool) or not isinstance(n_bootstrap, (int, np.integer)) or n_bootstrap < 0:
        raise ValueError(f"n_bootstrap must be a whole number from 0, got {n_bootstrap!r}")
    scheme, truth, predicted, probabilities, groups, n_unlabelled = _unpack(predictions, scheme)
    n_failed = int(np.sum(predicted < 0))
    if n_failed:
        warnings.warn(f"{n_failed} rows without prediction are counted as wrong", AstroclassifyWarning, stacklevel=2)
    values = _evaluate(truth, predicted, probabilities, np.ones((1, len(truth))))[0]
    _, membership = np.unique(groups, return_inverse=True)
    n_groups = int(membership.max()) + 1
    generator = derive_rng(master_seed(rng), "score")
    resampled = [np.full((1, *values.shape), np.nan)]
    for start in range(0, n_bootstrap, _CHUNK):
        n = min(_CHUNK, n_bootstrap - start)
        draws = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n)
        resampled.append(_evaluate(truth, predicted, probabilities, draws[:, membership].astype(float)))
    low, high = _percentiles(np.concatenate(resampled))
    table = QTable({"class": [*scheme.classes, "mean"]})
    for index, name in enumerate(_NAMES):
        table[name], table[f"{name}_lo"], table[f"{name}_hi"] = values[:, index], low[:, index], high[:, index]
    table.meta = {
        "scheme": scheme.to_dict(),
        **provenance(
            n_images=len(truth),
            n_groups=n_groups,
            n_failed=n_failed,
            n_unlabelled=n_unlabelled,
            n_bootstrap=int(n_bootstrap),
            accuracy=float(np.mean(truth == predicted)),
        ),
    }
    return validate(table, SCORES)


def _percentiles(resampled):
    """2.5 and 97.5 percentiles over the first axis of what is not NaN."""
    empty = np.isnan(resampled).all(axis=0)
    filled = np.where(empty, 0.0, resampled)
    low, high = np.nanpercentile(filled, [2.5, 97.5], axis=0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def roc(predictions, *, scheme=None):
    """
    ROC curve of each class against the others.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table with the true ``label``.
    scheme : ClassScheme or str, optional
        The classes; by default that in ``meta``.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``class``, ``threshold`` (a row is of the class where p is at least this; the first is infinite),
        ``fpr`` = FP/(FP+TN) and ``tpr`` = TP/(TP+FN), from (0, 0) to (1, 1). Rows without label or prediction are left
        out; a class that is absent from the truth, or alone in it, has no curve.

    Raises
    ------
    SchemaError, ValueError
        As in `score`.
    """
    scheme, truth, _, probabilities, _, _ = _unpack(predictions, scheme)
    good = np.isfinite(probabilities).all(axis=1)
    names, thresholds, fprs, tprs = [], [], [], []
    for index, name in enumerate(scheme.classes):
        members = truth[good] == index
        if not members.any() or members.all():
            continue
        fpr, tpr, threshold = roc_curve(members, probabilities[good, index])
        names += [name] * len(fpr)
        thresholds.append(threshold)
        fprs.append(fpr)
        tprs.append(tpr)
    columns = [np.concatenate([np.zeros(0), *part]) for part in (thresholds, fprs, tprs)]
    table = QTable([np.array(names, dtype=str), *columns], names=("class", "threshold", "fpr", "tpr"))
    table.meta = {"scheme": scheme.to_dict(), **provenance()}
    return table
