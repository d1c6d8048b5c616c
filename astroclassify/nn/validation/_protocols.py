"""Training protocols with a fixed test set: several seeds, and ever more training groups."""

from functools import partial

import numpy as np
from astropy.table import vstack
from sklearn.base import clone

from astroclassify import batch
from astroclassify._checks import check_integer
from astroclassify._scores._seeds import mean_and_std, seed_scores, warn_failed
from astroclassify.exceptions import SchemaError
from astroclassify.tables import provenance, readable
from astroclassify.tables._plain import column_values, group_names

from ._folds import check_sample, collect, fit_and_classify, scheme_of, validation_split

__all__ = ["learning_curve", "repeat_seeds", "split_sample"]


def split_sample(sample, *, test_fraction=0.2, groups="group_id", rng=None):
    """
    Set a test set apart, once and for all: whole groups, the same share of the groups of each class.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table. Rows without a label stay with the training set, unless their group is in the test set.
    test_fraction : float, optional
        Share of the groups of each class, at most one half; at least one group of every class that has two or more.
    groups : str, optional
        Column that names what must not be split.
    rng : int or `~numpy.random.Generator`, optional
        Seed of the choice; by default a new one, which is in ``meta["seed"]`` of both.

    Returns
    -------
    train, test : `~astropy.table.QTable`
        Together all rows, each in the order of the sample.

    Raises
    ------
    SchemaError
        If a column is missing.
    ValueError
        If the fraction is out of range, or no class has two groups.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import split_sample
    >>> sample = QTable({"source_id": list("abcdef"), "group_id": list("uuvvww"), "label": ["CC"] * 6})
    >>> train, test = split_sample(sample, test_fraction=0.3, rng=0)
    >>> len(train), len(test), len(set(train["group_id"]) & set(test["group_id"]))
    (4, 2, 0)
    """
    for name in ("source_id", "label", groups):
        if name not in sample.colnames:
            raise SchemaError(f"sample must have a column {name!r}, got {sample.colnames}")
    labels = np.array([str(label) for label in column_values(sample, "label", "")])
    names = group_names(sample[groups])
    known = labels != ""
    master = batch.master_seed(rng)
    seed = int(batch.derive_rng(master, "split").integers(2**31))
    held = validation_split(labels[known], names[known], fraction=test_fraction, seed=seed, name="test_fraction")
    chosen = np.isin(names, names[known][held])
    train, test = sample[~chosen], sample[chosen]
    train.meta["seed"] = test.meta["seed"] = master
    return train, test


def _check_disjoint(**groups):
    """No group may be in two of the sets."""
    names = list(groups)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            shared = sorted(map(str, set(groups[first]) & set(groups[second])))
            if shared:
                found = f"{len(shared)} in both, such as {shared[:3]}"
                raise ValueError(f"{first} and {second} must not share groups, got {found}")


def _check_sets(classifier, train, test, validation, groups):
    """Scheme, and labels and groups of the training and the test set."""
    scheme = scheme_of(classifier)
    labels, train_groups = check_sample(train, groups, scheme, name="train")
    if len(set(labels)) < 2:
        raise ValueError(f"train must have at least two classes, got {sorted(map(str, set(labels)))}")
    test_labels, test_groups = check_sample(test, groups, scheme, name="test")
    sets = {"train": train_groups, "test": test_groups}
    if validation is not None:
        sets["validation"] = check_sample(validation, groups, scheme, name="validation")[1]
    _check_disjoint(**sets)
    return scheme, labels, train_groups, test_labels, test_groups


def _run_job(classifier, job, *, train, groups, validation, test):
    """One training: the rows of the training set to use, and the seed."""
    rows, random_state = job
    return fit_and_classify(classifier, train[rows], groups[rows], validation, test, random_state=random_state)


def _stack(parts, labels, groups):
    """Predictions of one test set by several trainings in one table, numbered by ``seed``."""
    table = vstack(parts)
    table["label"], table["group_id"] = np.tile(labels, len(parts)), np.tile(groups, len(parts))
    table["seed"] = np.repeat(np.arange(len(parts)), len(labels))
    return table


def _random_state(seed, number):
    return int(batch.derive_rng(seed, "seed", number).integers(2**31))


def repeat_seeds(
    classifier, train, test, *, n_seeds=10, validation=None, groups="group_id", rng=None, executor=None, progress=None
):
    """
    Train with several seeds on one training set and predict one test set with each.

    Parameters
    ----------
    classifier : `CutoutClassifier`, `ThresholdClassifier`, `RankClassifier`
        What to train; cloned for each seed and left as it is.
    train, test : `~astropy.table.QTable`
        SAMPLE tables with a label in every row and no group in common; `split_sample` makes two of one.
    n_seeds : int, optional
        Number of trainings; 1 is plain evaluation on a fixed test set.
    validation : `~astropy.table.QTable`, optional
        Fixed set to choose the epoch on. By default the classifier sets a share of ``train`` apart, another for each
        seed.
    groups : str, optional
        Column that names what must not be in two sets: all projections of one halo.
    rng : int or `~numpy.random.Generator`, optional
        Master seed, from which that of each training is derived; by default a new one, which is in ``meta["seed"]``.
    executor : `~concurrent.futures.Executor`, optional
        Where the trainings run, as for `cross_validate`. Each worker holds the images of one training.
    progress : bool, optional
        Whether to show a bar on standard error; by default on a terminal only.

    Returns
    -------
    `~astropy.table.QTable`
        PREDICTIONS: the rows of ``test`` once for each seed, with ``label``, ``group_id`` and ``seed`` (from 0);
        `score_seeds` makes mean and scatter of it. Networks are not kept. If a training fails its rows are flagged
        ``failed`` with the message.

    Raises
    ------
    SchemaError
        If a column or a label is missing, or a label is not in the scheme.
    ValueError
        If sets share groups, ``train`` has one class only, or a number is out of range.
    AstroclassifyError
        If every training fails.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141 (fixed sets, mean and standard deviation over 10 seeds).

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import ThresholdClassifier, repeat_seeds, score_seeds
    >>> sample = QTable({"source_id": list("abcdef"), "group_id": list("uvwxyz"),
    ...                  "label": ["CC", "WCC", "NCC"] * 2, "c_sb": [0.3, 0.1, 0.05, 0.2, 0.1, 0.04]})
    >>> table = repeat_seeds(ThresholdClassifier("c_sb"), sample[:3], sample[3:], n_seeds=2)
    >>> score_seeds(table)["f1", "f1_std"][-1].as_void().tolist()
    (1.0, 0.0)
    """
    n_seeds = check_integer("n_seeds", n_seeds, 1)
    scheme, _, train_groups, test_labels, test_groups = _check_sets(classifier, train, test, validation, groups)
    seed = batch.master_seed(rng)
    every = np.arange(len(train))
    jobs = [(every, _random_state(seed, number)) for number in range(n_seeds)]
    sets = {"train": train, "groups": train_groups, "validation": validation, "test": test}
    keys, function = [f"seed {number}" for number in range(n_seeds)], partial(_run_job, clone(classifier), **sets)
    outcomes = batch.run(function, jobs, keys=keys, executor=executor, progress=progress, description="seeds")
    table = _stack(collect([test] * n_seeds, list(outcomes), scheme, what="seed"), test_labels, test_groups)
    table.meta = {"scheme": scheme.to_dict(), **provenance(seed=seed, n_seeds=n_seeds)}
    return table


def _ranked_groups(labels, groups, rng):
    """Groups in random order such that the first m, for any m, have each class in its proportion, at least one each."""
    places = {}
    for group in np.unique(groups):
        names, counts = np.unique(labels[groups == group], return_counts=True)
        places.setdefault(names[np.argmax(counts)], []).append(group)
    ranked = []
    for label in sorted(places):
        members = rng.permutation(places[label])
        ranked += [(index / len(members), str(name)) for index, name in enumerate(members)]
    ties = rng.random(len(ranked))
    order = sorted(range(len(ranked)), key=lambda index: (ranked[index][0], ties[index]))
    return np.array([ranked[index][1] for index in order])


def _check_sizes(sizes, n_groups, n_classes):
    if sizes is None:
        sizes = {max(n_classes, round(n_groups * share)) for share in (0.125, 0.25, 0.5, 1.0)}
    sizes = sorted({check_integer("sizes", size, 1) for size in sizes})
    if not sizes or sizes[0] < n_classes or sizes[-1] > n_groups:
        limits = f"the number of classes ({n_classes}) and that of the groups of train ({n_groups})"
        raise ValueError(f"sizes must lie between {limits}, got {sizes}")
    return sizes


def learning_curve(
    classifier, train, test, *, sizes=None, n_seeds=3, validation=None, groups="group_id", rng=None, executor=None,
    progress=None,
):  # fmt: skip
    """
    Scores on a fixed test set against the number of training groups.

    Parameters
    ----------
    classifier, train, test, groups, rng, executor, progress
        As for `repeat_seeds`.
    sizes : sequence of int, optional
        Numbers of groups to train on; by default an eighth, a quarter, half and all of those of ``train``.
    n_seeds : int, optional
        Trainings for each size. Each draws its own groups (whole, each class in its proportion and at least once); for
        one seed the smaller sets are part of the larger ones.
    validation : `~astropy.table.QTable`, optional
        Fixed set to choose the epoch on. By default the classifier sets a share of its training groups apart.

    Returns
    -------
    `~astropy.table.QTable`
        For each size the rows of `score_seeds`, with ``n_groups``, ``n_images`` (mean number of training images) and
        ``n_seeds`` (trainings that did not fail). At the largest size, all groups, only the seed differs.

    Raises
    ------
    SchemaError, ValueError, AstroclassifyError
        As in `repeat_seeds`, or if a size is smaller than the number of classes or larger than that of groups.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import RankClassifier, learning_curve
    >>> sample = QTable({"source_id": list("abcdefghi"), "group_id": list("abcdefghi"),
    ...                  "label": ["CC", "WCC", "NCC"] * 3, "c_sb": [0.3, 0.1, 0.05] * 3})
    >>> curve = learning_curve(RankClassifier("c_sb"), sample[:6], sample[6:], sizes=[3, 6], n_seeds=2)
    >>> curve[curve["class"] == "mean"]["n_groups"].tolist()
    [3, 6]
    """
    n_seeds = check_integer("n_seeds", n_seeds, 1)
    scheme, labels, train_groups, test_labels, test_groups = _check_sets(classifier, train, test, validation, groups)
    sizes = _check_sizes(sizes, len(np.unique(train_groups)), len(np.unique(labels)))
    seed = batch.master_seed(rng)
    orders = [_ranked_groups(labels, train_groups, batch.derive_rng(seed, "order", k)) for k in range(n_seeds)]
    plan = [(size, number) for size in sizes for number in range(n_seeds)]
    rows = [np.flatnonzero(np.isin(train_groups, orders[number][:size])) for size, number in plan]
    jobs = [(part, _random_state(seed, number)) for part, (_, number) in zip(rows, plan, strict=True)]
    sets = {"train": train, "groups": train_groups, "validation": validation, "test": test}
    keys = [f"{size} groups, seed {number}" for size, number in plan]
    function = partial(_run_job, clone(classifier), **sets)
    outcomes = batch.run(function, jobs, keys=keys, executor=executor, progress=progress, description="learning curve")
    parts = collect([test] * len(plan), list(outcomes), scheme, what="training")
    tables, n_seeds_failed, n_failed = [], 0, 0
    for start, size in zip(range(0, len(plan), n_seeds), sizes, strict=True):
        chosen = slice(start, start + n_seeds)
        values, n_lost, n_wrong = seed_scores(_stack(parts[chosen], test_labels, test_groups), scheme)
        n_seeds_failed, n_failed = n_seeds_failed + n_lost, n_failed + n_wrong
        part = mean_and_std(values, scheme)
        n_images = float(np.mean([len(each) for each in rows[chosen]]))
        for index, (name, value) in enumerate((("n_groups", size), ("n_images", n_images), ("n_seeds", len(values)))):
            part.add_column([value] * len(part), name=name, index=index)
        tables.append(part)
    warn_failed(n_seeds_failed, n_failed)
    curve = vstack(tables)
    numbers = {"n_seeds": n_seeds, "n_seeds_failed": n_seeds_failed, "n_failed": n_failed}
    curve.meta = {"scheme": scheme.to_dict(), **provenance(seed=seed, **numbers)}
    return readable(curve)
