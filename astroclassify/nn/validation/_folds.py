"""Folds that never split a group, and out-of-fold predictions."""

import warnings
from functools import partial

import numpy as np
from astropy.table import QTable, Table, vstack
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from astroclassify import batch
from astroclassify._checks import check_integer, check_number
from astroclassify.exceptions import AstroclassifyError, AstroclassifyWarning, SchemaError
from astroclassify.schemes import COOL_CORE, Flag, get_scheme
from astroclassify.tables import provenance
from astroclassify.tables._plain import column_values, group_names

from ..inputs._predictions import prediction_table

__all__ = [
    "check_sample", "collect", "cross_validate", "fit_and_classify", "group_folds", "scheme_of", "validation_split",
]  # fmt: skip


def group_folds(labels, groups, *, n_folds, seed):
    """Fold of each row, from 0: a group is never split, the classes are spread evenly; ``seed`` of the order."""
    labels, groups = np.asarray(labels, dtype=str), np.asarray(groups, dtype=str)
    n_groups, classes = len(np.unique(groups)), np.unique(labels)
    check_integer("n_folds", n_folds, 2)
    if len(classes) < 2:
        raise ValueError(f"sample must have at least two classes, got {list(map(str, classes))}")
    if n_groups < n_folds:
        raise ValueError(f"n_folds must be at most the number of groups ({n_groups}), got {n_folds}")
    per_class = {str(label): len(np.unique(groups[labels == label])) for label in classes}
    if max(per_class.values()) < n_folds:
        raise ValueError(f"n_folds must be at most the groups of the commonest class, got {n_folds} for {per_class}")
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed % 2**32)
    fold = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # scikit-learn warns of classes with fewer rows than folds; cross_validate says it better, by groups.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            fold[rows] = number
    if len(np.unique(fold)) < n_folds:
        raise ValueError(f"n_folds {n_folds} leaves a fold empty, since some groups are very large: choose fewer")
    return fold


def validation_split(labels, groups, *, fraction, seed, name="validation_fraction"):
    """
    Rows for validation (bool): whole groups, about ``fraction`` of those of each class, at least one of two or more.

    The class of a group is the most common of its labels; ``name`` is that of the fraction in messages.
    """
    check_number(name, fraction, 0, 0.5, open_low=True)
    labels, groups = np.asarray(labels, dtype=str), np.asarray(groups, dtype=str)
    members = {}
    for group in np.unique(groups):
        names, counts = np.unique(labels[groups == group], return_counts=True)
        members.setdefault(names[np.argmax(counts)], []).append(group)
    rng = batch.derive_rng(seed, "validation")
    held = []
    for label in sorted(members):
        names = rng.permutation(members[label])
        held += list(names[: max(1, round(fraction * len(names)))]) if len(names) > 1 else []
    if not held:
        n_groups = {str(label): len(names) for label, names in members.items()}
        raise ValueError(f"{name} {fraction} needs a class with two groups, got {n_groups}")
    return np.isin(groups, held)


def _run_fold(number, *, sample, fold, n_folds, groups, classifier, seed):
    """Train without folds k and k+1, choose the epoch on fold k+1, predict fold k."""
    test = fold == number
    validation = fold == (number + 1) % n_folds
    training = ~test & ~validation
    state = int(batch.derive_rng(seed, "fold", number).integers(2**31))
    parts = sample[training], groups[training], sample[validation], sample[test]
    return fit_and_classify(classifier, *parts, random_state=state)


def fit_and_classify(classifier, training, groups, validation, test, *, random_state):
    """PREDICTIONS of ``test`` by a trained copy of a classifier; ``groups`` (n,) of the training rows."""
    model = clone(classifier)
    if "random_state" in model.get_params():
        model.set_params(random_state=random_state)
    model.fit(training, groups=groups, validation=validation)
    return model.classify(test)


def scheme_of(classifier):
    """Classes that an estimator gives: a regressor, which has no scheme, those by the cooling time."""
    return get_scheme(getattr(classifier, "scheme", COOL_CORE))


def check_sample(sample, groups, scheme, *, name="sample"):
    """Labels and groups as text, of a sample that can be trained on or tested with; else an error calls it ``name``."""
    if not isinstance(sample, Table):
        raise TypeError(f"{name} must be a SAMPLE table, got {type(sample).__name__}")
    if len(sample) == 0:
        raise ValueError(f"{name} must have at least one row")
    for column in ("source_id", "label", groups):
        if column not in sample.colnames:
            raise SchemaError(f"{name} must have a column {column!r}, got {sample.colnames}")
    labels = np.array([str(label) for label in column_values(sample, "label", "")])
    unknown = sorted(map(str, set(labels) - set(scheme.classes)))
    if unknown:
        hint = "; take rows without a label out first" if "" in unknown else ""
        raise SchemaError(f"label must be one of {scheme.classes} in every row of {name}, got {unknown[:3]}{hint}")
    return labels, group_names(sample[groups])


def cross_validate(sample, classifier, *, n_folds=10, groups="group_id", rng=None, executor=None, progress=None):
    """
    Predict every row of a sample by a classifier that has not seen its group.

    Fold k is the test set, fold k + 1 the validation set (on which the network's epoch is chosen), the others the
    training set: with ten folds the 8/1/1 roles of Su et al. (2020).

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table with a label in every row.
    classifier : `CutoutClassifier`, `ThresholdClassifier`, `RankClassifier`
        What to train; cloned for each fold and left as it is.
    n_folds : int, optional
        Number of folds, at least 3.
    groups : str, optional
        Column that names what must not be split over folds: all projections of one halo.
    rng : int or `~numpy.random.Generator`, optional
        Seed of the folds; fold k trains with a seed derived from it and k. By default a new one, which is in
        ``meta["seed"]``.
    executor : `~concurrent.futures.Executor`, optional
        Where the folds run. The result is the same (for networks: with the same number of torch threads). Processes
        must be started with the "spawn" method, since torch's threads do not survive a fork.
    progress : bool, optional
        Whether to show a bar on standard error; by default on a terminal only.

    Returns
    -------
    `~astropy.table.QTable`
        PREDICTIONS in the order of the sample, with ``label``, ``group_id`` and ``fold``. If a fold fails its rows
        are flagged ``failed`` with the message.

    Raises
    ------
    ValueError
        If the folds are not possible: fewer groups than folds, one class only, fewer than 3 folds.
    SchemaError
        If the sample lacks a column or a label.
    AstroclassifyError
        If every fold fails.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 3 (10 folds, 8/1/1).

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import ThresholdClassifier, cross_validate
    >>> sample = QTable({"source_id": list("abcdef"), "group_id": list("uvwxyz"),
    ...                  "label": ["CC", "CC", "CC", "NCC", "NCC", "NCC"], "c_sb": [0.3, 0.2, 0.1, 0.05, 0.04, 0.03]})
    >>> table = cross_validate(sample, ThresholdClassifier("c_sb"), n_folds=3, rng=1)
    >>> table["label_pred"].tolist()
    ['CC', 'CC', 'WCC', 'NCC', 'NCC', 'NCC']
    """
    check_integer("n_folds", n_folds, 3)  # training, validation, test
    scheme = scheme_of(classifier)
    labels, group_ids = check_sample(sample, groups, scheme)
    seed = batch.master_seed(rng)
    fold_seed = int(batch.derive_rng(seed, "folds").integers(2**31))
    fold = group_folds(labels, group_ids, n_folds=n_folds, seed=fold_seed)
    for label in sorted(set(labels)):
        n_groups = len(set(group_ids[labels == label]))
        if n_groups < n_folds:
            text = f"class {label} has only {n_groups} groups for {n_folds} folds: some folds lack it"
            warnings.warn(text, AstroclassifyWarning, stacklevel=2)
    data = {"sample": sample, "fold": fold, "groups": group_ids}
    function = partial(_run_fold, **data, n_folds=n_folds, classifier=clone(classifier), seed=seed)
    how = {"executor": executor, "progress": progress, "description": "cross-validation"}
    outcomes = list(batch.run(function, range(n_folds), keys=[f"fold {number}" for number in range(n_folds)], **how))
    parts = collect([sample[fold == number] for number in range(n_folds)], outcomes, scheme, what="fold")
    table = vstack(parts)[np.argsort(np.argsort(fold, kind="stable"), kind="stable")]
    table["label"], table["group_id"], table["fold"] = labels, group_ids, fold
    table.meta = {"scheme": scheme.to_dict(), **provenance(seed=seed, n_folds=n_folds)}
    return table


def collect(tests, outcomes, scheme, *, what, stacklevel=3):
    """
    PREDICTIONS, without ``meta``, ``label`` and ``group_id``, of several trainings; failed ones as rows with a flag.

    ``tests`` are the test sets, ``outcomes`` those of `fit_and_classify`. AstroclassifyError if all failed.
    """
    if all(outcome.error for outcome in outcomes):
        raise AstroclassifyError(f"every {what} failed, the first with {outcomes[0].error}")
    parts = []
    for test, outcome in zip(tests, outcomes, strict=True):
        part = outcome.value
        if outcome.error:
            warnings.warn(f"{outcome.key} failed: {outcome.error}", AstroclassifyWarning, stacklevel=stacklevel)
            names, nan = [str(value) for value in test["source_id"]], np.full((len(test), scheme.n_classes), np.nan)
            flags = np.full(len(test), int(Flag.FAILED))
            part = prediction_table(names, nan, flags, [outcome.error] * len(test), scheme)
        part = QTable(part, copy=False)
        part.meta = {}
        part.remove_columns([name for name in ("label", "group_id", "fold", "seed") if name in part.colnames])
        parts.append(part)
    return parts
