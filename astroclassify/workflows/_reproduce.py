"""The tables of the two papers by their protocols, on any sample."""

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from astroclassify import batch, tables
from astroclassify._checks import check_choice, check_integer
from astroclassify.exceptions import ArgumentError, OutputError, SchemaError
from astroclassify.images import Geometry
from astroclassify.schemes import CANDIDATE, CLUSTER, COOL_CORE, ClassScheme, Flag, get_scheme

from ._crowd import crowd_labels, is_simulated

__all__ = ["PAPERS", "reproduce"]

log = logging.getLogger(__name__)

# Test set of Kosiba et al. 2020, section 3: this many clusters and this many others.
_TEST_IMAGES = 85
_SPLITS = ("train", "validation", "test")
# Clusters and others, as volunteers see them, that train and validate (section 3).
_OF_VOLUNTEERS = {"train": {"cluster": 320, "other": 880}, "validation": {"cluster": 130, "other": 100}}
_VOLUNTEERS = "label_volunteers"
_CLUSTERS = ("cluster", "low_z", "high_z")
# Parameters that tables and protocols set.
_SET = ("random_state", "scheme")


@dataclass(frozen=True)
class _Row:
    """One row of a paper's table: a recipe and the changes to it."""

    table: str
    method: str
    recipe: str
    changes: dict = field(default_factory=dict)
    by_volunteers: bool = False


# The network of the packaged ``coolcore`` and how it was trained (tools/train_coolcore.py).
_PROFILE = {
    "architecture": "profile",
    "stretch": "profile",
    "augmentation": ("depth",),
    "class_weight": None,
    "n_filters": 192,
    "dropout": 0.3,
    "batch_size": 64,
    "epochs": 60,
    "patience": 20,
}

PAPERS = {
    "su2020": {
        "resnet18": _Row("su2020", "ResNet-18", "su2020"),
        "attention": _Row("su2020", "attention (ours)", "su2020", {"architecture": "attention"}),
        "profile": _Row("su2020", "profile (ours)", "su2020", _PROFILE),
        "mobilenet": _Row("su2020", "MobileNet", "su2020", {"architecture": "mobilenet"}),
        "kosiba2020": _Row("su2020", "CN of Kosiba et al.", "su2020", {"architecture": "kosiba2020"}),
    },
    "kosiba2020": {
        "cn": _Row("kosiba2020-table5", "CN, expert labels", "kosiba2020-cn"),
        "mn": _Row("kosiba2020-table5", "MN, expert labels", "kosiba2020-mn"),
        "cn-optical": _Row(
            "kosiba2020-table5", "CN, optical only", "kosiba2020-cn", {"bands": ("optical",), "count_bands": ()}
        ),
        "cn-xray": _Row("kosiba2020-table5", "CN, X-ray only", "kosiba2020-cn", {"bands": ("xray",)}),
        "cn-volunteers": _Row("kosiba2020-table5", "CN, volunteer labels", "kosiba2020-cn", by_volunteers=True),
        "mn-volunteers": _Row("kosiba2020-table5", "MN, volunteer labels", "kosiba2020-mn", by_volunteers=True),
        "cn-no-augmentation": _Row("kosiba2020-table5", "CN, no augmentation", "kosiba2020-cn", {"augmentation": ()}),
        "mn-no-augmentation": _Row("kosiba2020-table5", "MN, no augmentation", "kosiba2020-mn", {"augmentation": ()}),
        "cn-five": _Row("kosiba2020-table6", "CN", "kosiba2020-cn", {"scheme": CANDIDATE}),
        "mn-five": _Row("kosiba2020-table6", "MN", "kosiba2020-mn", {"scheme": CANDIDATE}),
    },
}


def reproduce(paper, path, out, *, rows=None, n_runs=10, pixels=None, changes=None, seed=0, executor=None):
    """
    Train and score the rows of a paper's tables by its protocol, and write the tables with the printed numbers beside.

    Parameters
    ----------
    paper : str
        ``"su2020"`` (group-wise cross-validation, and the conventional measures) or ``"kosiba2020"`` (fixed test set,
        several seeds).
    path : str or path-like
        A sample folder; for ``"kosiba2020"`` also the unpacked public archive, see
        `~astroclassify.survey.read_kosiba2020`. There a column ``split`` says which rows are to ``train``, to choose
        the epoch (``validation``; without such rows each seed sets a share of those to train apart) and to ``test``.
        Without the column the test set is drawn from the sample, always the same: 85 images of clusters and 85 others,
        or a tenth of all if that is fewer. A column ``label_volunteers`` has the classes that volunteers gave, of
        either scheme, empty where they gave none.
    out : str or path-like
        Folder for the predictions of each row and the tables. Rows that are there already are not trained again.
    rows : sequence of str, optional
        Which rows (keys of ``PAPERS[paper]``); by default all. Those with volunteers' labels need the column
        ``label_volunteers`` or a simulated sample, on which a crowd is simulated
        (`~astroclassify.people.simulate_votes`); else they are left out.
    n_runs : int, optional
        Folds (three or more), or seeds.
    pixels : int, optional
        Side of the grid on which the paper's field is put; by default as in the recipes.
    changes : dict, optional
        Parameters of `~astroclassify.nn.CutoutClassifier` that differ from the recipes in these rows, except those that
        define a row. They are written with the predictions.
    seed : int, optional
        Seed of folds and trainings.
    executor : `~concurrent.futures.Executor`, optional
        Where trainings run.

    Returns
    -------
    dict
        Name of a table -> `~astroclassify.nn.paper_table` with all rows that the folder now holds. Where predictions
        failed, ``meta["failed"]`` says in which files and how many.

    Raises
    ------
    ValueError, TypeError
        If the paper, a row or a parameter is not known, or the value of a parameter or ``n_runs`` is not allowed.
    FileNotFoundError
        If there is no such sample.
    OutputError
        If the folder holds a row that was made with other settings or of another sample, or cannot be written.
    SchemaError
        If the sample has not the classes of the paper, a ``split`` or a volunteers' label is not known, or there are no
        volunteers' labels for a row that is asked for.

    Notes
    -----
    Volunteers' labels train on at most 320 clusters and 880 others, and choose the epoch on 130 and 100, as in the
    paper; which they call clusters is theirs. The test set always has the labels of the sample.
    """
    check_choice("paper", paper, sorted(PAPERS))
    asked, rows = rows is not None, _check_rows(PAPERS[paper], rows, changes or {})
    check_integer("n_runs", n_runs, 1)
    if paper == "su2020" and n_runs < 3:
        raise ArgumentError(f"n_runs must be at least 3 folds for su2020 (training, validation, test), got {n_runs}")
    out = Path(out)
    sample, defaults = _read(paper, Path(path), out)
    rows = _possible_rows(PAPERS[paper], rows, sample, asked=asked)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"out: cannot make the folder {str(out)!r}: {error.strerror}") from error
    settings = {"sample": _digest(sample), "n_runs": n_runs, "seed": seed}
    _check_folder(paper, out, settings)
    missing = []
    for name in rows:
        classifier = _classifier(PAPERS[paper][name], defaults, changes or {}, pixels)
        target, how = _target(out, name), {**settings, "parameters": _plain(classifier.get_params())}
        if not _is_made(target, how):
            classifier.build_network()  # a wrong parameter must fail now, not after the training of other rows
            missing.append((PAPERS[paper][name], target, classifier, how))
    for row, target, classifier, how in missing:
        _train_row(row, target, sample, classifier, how, executor)
    return _write_tables(paper, sample, out)


def _check_rows(known, rows, changes):
    """Names of the rows, each once; refuses ``changes`` of parameters that define a row."""
    from astroclassify.nn import CutoutClassifier

    rows = list(known) if rows is None else list(dict.fromkeys(rows))
    for name in rows:
        check_choice("rows", name, sorted(known))
    allowed = set(CutoutClassifier().get_params()) - set(_SET)
    for parameter in changes:
        if parameter not in allowed:
            raise ArgumentError(
                f"a classifier has no parameter {parameter!r} that can be changed here; allowed are {sorted(allowed)}"
            )
        for name in rows:
            if parameter in {"architecture", *known[name].changes}:
                raise ArgumentError(f"changes: {parameter!r} defines the row {name!r} and cannot be changed in it")
    return rows


def _possible_rows(known, rows, sample, *, asked):
    """The rows for which the sample has labels; a row that was asked for by name must be one of them."""
    if _VOLUNTEERS in sample.colnames or is_simulated(sample):
        return rows
    without = [name for name in rows if known[name].by_volunteers]
    if without and asked:
        raise SchemaError(f"the sample must have a column {_VOLUNTEERS!r} for the rows {without}")
    if without:
        log.info("left out for want of a column %r: %s", _VOLUNTEERS, ", ".join(without))
    return [name for name in rows if name not in without]


def _target(out, name):
    return out / f"predictions-{name}.ecsv"


def _classifier(row, defaults, changes, pixels):
    from astroclassify.nn import CutoutClassifier

    classifier = CutoutClassifier.from_recipe(row.recipe, **{**defaults, **row.changes, **changes})
    if pixels is not None:
        classifier.set_params(geometry=Geometry(classifier.geometry.width, (pixels, pixels)))
    return classifier


def _read(paper, path, out):
    """The sample, and the parameters that depend on the content of its images."""
    if paper == "su2020":
        sample = tables.read_sample(path)
        _check_scheme(sample, COOL_CORE)
        return _usable(sample), {}
    if any((path / part / f"{split}.csv").is_file() for part in ("", "Kosiba2020") for split in ("train", "test")):
        from astroclassify.survey import read_kosiba2020

        return _usable(read_kosiba2020(path, out=out / "sample")), {}
    sample = _usable(tables.read_sample(path))
    _check_scheme(sample, CANDIDATE)
    if "split" not in sample.colnames:
        sample["split"] = _splits(sample)
    unknown = sorted({str(name) for name in sample["split"]} - set(_SPLITS))
    if unknown:
        raise SchemaError(f"split must be one of {_SPLITS} in every row of the sample, got {unknown[:3]}")
    # Images of a sample are counts, where the archive has grey levels that are compressed already.
    return sample, {"stretch": "log", "count_bands": ("xray",)}


def _digest(sample):
    """Digest of all columns of a sample, because samples of other seeds have the same names and labels."""
    columns = {name: np.asarray(column).tolist() for name, column in sample.columns.items()
               if getattr(getattr(column, "dtype", None), "kind", "") in tuple("Ubiuf")}  # fmt: skip
    return hashlib.blake2b(json.dumps(columns, sort_keys=True).encode(), digest_size=8).hexdigest()


def _check_scheme(sample, scheme):
    found = sample.meta.get("scheme")
    if found is None or ClassScheme.from_dict(dict(found)) != scheme:
        raise SchemaError(f"the sample must have the scheme {scheme.name!r}, got {found and dict(found).get('name')!r}")


def _usable(sample):
    """Rows that have a label and an image; logs how many have not."""
    good = np.array([bool(label) and bool(path) for label, path in zip(sample["label"], sample["path"], strict=True)])
    good &= (np.asarray(sample["flags"]) & Flag.FAILED.value) == 0
    if not good.all():
        log.warning("%d of %d rows have no label or no image and are left out", np.sum(~good), len(good))
    return sample[good]


def _splits(sample):
    """Role of each row, one per group. Test set: 85 clusters and 85 others as in the paper, or a tenth of the sample if
    that is fewer (at least one of each, at most half of a class)."""
    from astroclassify.sim import to_binary

    labels = np.array([str(label) for label in to_binary(sample)["label"]])
    roles = np.full(len(labels), "train", dtype="U5")
    rng = batch.derive_rng(0, "split")
    for label in CLUSTER.classes:
        members = np.flatnonzero(labels == label)
        chosen = max(1, min(_TEST_IMAGES, len(labels) // 20, len(members) // 2))
        roles[rng.permutation(members)[:chosen]] = "test"
    groups = np.array([str(group) for group in sample["group_id"]])
    roles[np.isin(groups, groups[roles == "test"])] = "test"
    return roles


def _check_folder(paper, out, settings):
    """Refuse a folder with rows of another sample, also rows that are not asked for now: a table has one sample."""
    for name in PAPERS[paper]:
        path = _target(out, name)
        if path.is_file() and _settings_of(path).get("sample") != settings["sample"]:
            raise OutputError(f"{str(path)!r} was made of another sample: choose another folder")


def _settings_of(path):
    """Settings that the table of a row records."""
    try:
        made = json.loads(tables.read(path).meta.get("reproduce", "{}"))
    except ValueError as error:
        raise OutputError(f"{str(path)!r} cannot be read as a finished row: {error}") from error
    return made if isinstance(made, dict) else {}


def _is_made(path, settings):
    """Whether a row exists already; refuse one that was made with other settings."""
    if not path.is_file():
        return False
    made, now = _settings_of(path), dict(settings)
    made.update(made.pop("parameters", {}))
    now.update(now.pop("parameters"))
    differing = [
        f"{key} is {made.get(key)!r} there and {now.get(key)!r} now"
        for key in sorted(made.keys() | now.keys())
        if made.get(key) != now.get(key)
    ]
    if differing:
        raise OutputError(f"{str(path)!r} was made with other settings ({'; '.join(differing)}): choose another folder")
    log.info("%s exists already", path)
    return True


def _train_row(row, path, sample, classifier, settings, executor):
    """Train a row and write its predictions."""
    from astroclassify.nn import cross_validate, repeat_seeds
    from astroclassify.sim import to_binary

    log.info("%s: %d trainings", path, settings["n_runs"])
    how = {"rng": settings["seed"], "executor": executor, "progress": True}
    if row.table == "su2020":
        predictions = cross_validate(sample, classifier, n_folds=settings["n_runs"], **how)
    else:
        split = np.asarray(sample["split"])
        labelled = sample if get_scheme(classifier.scheme) == CANDIDATE else to_binary(sample)
        train, validation, test = (labelled[split == name] for name in _SPLITS)
        if row.by_volunteers:
            train, validation = _label_as_volunteers(sample, train, validation, settings["seed"])
        validation = validation if len(validation) else None
        predictions = repeat_seeds(classifier, train, test, n_seeds=settings["n_runs"], validation=validation, **how)
    predictions.meta["reproduce"] = json.dumps(settings, sort_keys=True)
    tables.write(predictions, path)


def _label_as_volunteers(sample, train, validation, seed):
    """Both sets with the classes that volunteers give, without the rest, no larger than the paper's."""
    said = _volunteers_say(sample) if _VOLUNTEERS in sample.colnames else crowd_labels(sample, seed)
    labels = dict(zip(sample["source_id"].tolist(), said.tolist(), strict=True))
    wanted = dict(_OF_VOLUNTEERS)
    if not len(validation):  # each seed sets its own apart
        wanted["train"] = {label: sum(part[label] for part in wanted.values()) for label in CLUSTER.classes}
    rng = batch.derive_rng(seed, "volunteers' sets")
    sets = []
    for name, part in (("train", train), ("validation", validation)):
        part["label"] = np.array([labels[source] for source in part["source_id"].tolist()], dtype="U16")
        rows = [
            rng.permutation(np.flatnonzero(part["label"] == label))[: wanted[name][label]] for label in CLUSTER.classes
        ]
        sets.append(part[np.sort(np.concatenate(rows))])
        numbers = {label: len(chosen) for label, chosen in zip(CLUSTER.classes, rows, strict=True)}
        log.info("volunteers' labels, %s: %s", name, numbers)
    return sets


def _volunteers_say(sample):
    """The column of volunteers' labels in the scheme cluster."""
    column = [str(label) for label in tables.plain_column(sample[_VOLUNTEERS], "")]
    known = (*CLUSTER.classes, *CANDIDATE.classes)
    unknown = sorted(set(column) - {"", *known})
    if unknown:
        raise SchemaError(f"{_VOLUNTEERS} must be empty or one of {known}, got {unknown[:3]}")
    return np.array([label and CLUSTER.classes[label not in _CLUSTERS] for label in column], dtype="U8")


def _plain(parameters):
    """Parameters as plain types, as JSON would give them back."""
    plain = {}
    for name, value in parameters.items():
        if isinstance(value, Geometry):
            value = value.to_dict()
        plain[name] = value.name if isinstance(value, ClassScheme) else value
    return json.loads(json.dumps(plain, sort_keys=True))


def _write_tables(paper, sample, out):
    from astroclassify import nn

    scores = {row.table: {} for row in PAPERS[paper].values()}
    failed = {table: {} for table in scores}
    for name, row in PAPERS[paper].items():
        path = _target(out, name)
        if path.is_file():
            predictions = tables.read(path)
            n_failed = int(np.sum((np.asarray(predictions["flags"]) & Flag.FAILED.value) != 0))
            if n_failed:
                failed[row.table][path.name] = n_failed
            of_paper = nn.score(predictions, rng=0) if paper == "su2020" else nn.score_seeds(predictions)
            scores[row.table][row.method] = of_paper
    if paper == "su2020":
        conventional = nn.classify_conventional(sample)
        scores["su2020"] |= {name: nn.score(table, rng=0) for name, table in conventional.items()}
    results = {}
    for name, ours in scores.items():
        results[name] = nn.paper_table(name, ours)
        if failed[name]:
            results[name].meta["failed"] = failed[name]
        tables.write(results[name], out / f"{name}.ecsv", overwrite=True)
        text = nn.paper_table(name, ours, as_text=True)
        tables.write_beside(
            out / f"{name}.csv",
            lambda path, text=text: text.write(path, format="ascii.csv", overwrite=True),
            overwrite=True,
        )
    return results
