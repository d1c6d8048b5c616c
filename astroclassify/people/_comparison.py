"""Who is right: volunteers, experts and networks against the same truth, cluster or not."""

from collections import Counter

import numpy as np
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import CANDIDATE, CLUSTER

from ._encode import label_pairs, texts_of
from ._workflow import load_workflow

__all__ = ["compare_labels", "judge_roc", "who_was_right"]

#: Labels that mean a cluster of galaxies, in any of the class schemes and outcomes of the package.
CLUSTER_LABELS = ("cluster", "low_z", "high_z", "nearby_cluster", "distant_cluster")
_TRUTH_COLUMNS = ("decision", "label", "outcome")
_JUDGE_COLUMNS = ("outcome", "decision", "label_pred", "label")


def compare_labels(truth, judges, *, positive=CLUSTER_LABELS):
    """
    Compare labels with a truth, cluster or not.

    Parameters
    ----------
    truth : `~astropy.table.Table` or mapping
        Source -> label, or a table with ``source_id`` and ``decision``, ``label`` or ``outcome``: experts' decisions, a
        sample, simulated truth.
    judges : dict
        Name -> labels to be judged, each a table with ``source_id`` and ``outcome`` (of `volunteer_consensus`),
        ``decision`` (of `expert_decisions`), ``label_pred`` (of a classifier) or ``label``, or a mapping.
    positive : sequence of str, optional
        Labels that mean a cluster; by default those of all schemes and workflows of the package, whose other labels
        mean none, and any further label is refused.

    Returns
    -------
    `~astropy.table.QTable`
        One row per judge: ``judge``; ``n``, sources with a label in both; ``tp``, ``tn``, ``fp``, ``fn``;
        ``accuracy`` = (TP + TN) / n, ``precision`` = TP / (TP + FP), ``recall`` = TP / (TP + FN), ``fpr`` =
        FP / (FP + TN), NaN where the denominator is zero; ``auc``, the area under `judge_roc`, NaN where the judge
        has no numbers; ``n_open``, sources of the truth that the judge has not decided or seen, which count nowhere
        else.

    Raises
    ------
    SchemaError
        If labels are unknown or a table is not one.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, volunteers against experts. Its printed formula of the false-positive rate is
    not the one above, which is the usual one.

    Examples
    --------
    >>> from astroclassify.people import compare_labels
    >>> truth = {"a": "low_z", "b": "point", "c": "high_z"}
    >>> table = compare_labels(truth, {"us": {"a": "cluster", "b": "cluster"}})
    >>> print(table["judge", "tp", "fp", "n_open", "precision"])
    judge  tp  fp n_open precision
    ----- --- --- ------ ---------
       us   1   1      1       0.5
    """
    is_true = _binary(truth, "truth", positive, _TRUTH_COLUMNS)
    rows = []
    for name, judge in _judges(judges):
        judged = _binary(judge, f"judges[{name!r}]", positive, _JUDGE_COLUMNS)
        both = [source for source in is_true if source in judged]
        a, b = (np.array([labels[source] for source in both], dtype=bool) for labels in (is_true, judged))
        tp, tn, fp, fn = (int(np.sum(each)) for each in (a & b, ~a & ~b, ~a & b, a & ~b))
        rates = (_rate(tp + tn, len(both)), _rate(tp, tp + fp), _rate(tp, tp + fn), _rate(fp, fp + tn))
        numbers = _numbers(judge, positive) or {}
        kinds = {truth_of for source, truth_of in is_true.items() if np.isfinite(numbers.get(source, np.nan))}
        auc = judge_roc(truth, judge, positive=positive).meta["auc"] if len(kinds) == 2 else np.nan
        rows.append((str(name), len(both), tp, tn, fp, fn, *rates, auc, len(is_true) - len(both)))
    names = ("judge", "n", "tp", "tn", "fp", "fn", "accuracy", "precision", "recall", "fpr", "auc", "n_open")
    table = QTable(rows=rows or None, names=names, dtype=None if rows else ["U1", *["f8"] * (len(names) - 1)])
    table.meta = tables.provenance(positive=list(positive), n_truth=len(is_true))
    return table


def judge_roc(truth, judge, *, positive=CLUSTER_LABELS):
    """
    ROC curve of the vote fraction of a consensus, or of the probabilities of a classifier.

    Parameters
    ----------
    truth : `~astropy.table.Table` or mapping
        As in `compare_labels`.
    judge : `~astropy.table.QTable`
        A consensus with ``f_<outcome>`` (for Dawid & Skene ``p_<outcome>``), or PREDICTIONS with ``p_<class>``: those
        of the positive labels are added up.
    positive : sequence of str, optional
        Labels that mean a cluster.

    Returns
    -------
    `~astropy.table.QTable`
        ``threshold`` (a source is called a cluster where the number is at least this; the first is infinite), ``fpr`` =
        FP / (FP + TN) and ``tpr`` = TP / (TP + FN), from (0, 0) to (1, 1). ``meta`` has ``auc``, and the numbers of
        sources with (``n``) and without (``n_open``) number.

    Raises
    ------
    SchemaError
        If the judge has no numbers, or the sources with a number are all of one kind.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.people import judge_roc
    >>> judge = QTable({"source_id": ["a", "b", "c"], "p_cluster": [0.9, 0.6, 0.4]})
    >>> curve = judge_roc({"a": "cluster", "b": "other", "c": "cluster"}, judge)
    >>> curve["fpr"].tolist(), curve["tpr"].tolist(), curve.meta["auc"]
    ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0], 0.5)
    """
    is_true = _binary(truth, "truth", positive, _TRUTH_COLUMNS)
    numbers = _numbers(judge, positive)
    if numbers is None:
        raise SchemaError(f"judge must be a table with f_<label> or p_<label> for some label of {tuple(positive)}")
    both = [source for source in is_true if np.isfinite(numbers.get(source, np.nan))]
    members = np.array([is_true[source] for source in both], dtype=bool)
    values = np.array([numbers[source] for source in both])
    if members.all() or not members.any():
        raise SchemaError(f"truth must have clusters and others among the {len(both)} sources with a number")
    from sklearn.metrics import auc, roc_curve

    fpr, tpr, threshold = roc_curve(members, values, drop_intermediate=False)
    table = QTable({"threshold": threshold, "fpr": fpr, "tpr": tpr})
    table.meta = tables.provenance(auc=float(auc(fpr, tpr)), n=len(both), n_open=len(is_true) - len(both))
    return table


def who_was_right(truth, judges, *, candidates=None, positive=CLUSTER_LABELS):
    """
    For each source, which judges were right, for a plot of the extent-likelihood plane.

    Parameters
    ----------
    truth, judges, positive
        As in `compare_labels`.
    candidates : `~astropy.table.Table`, optional
        A CANDIDATES table, whose ``ext``, ``ext_err``, ``ext_like``, ``det_like`` and ``x_class`` are added.

    Returns
    -------
    `~astropy.table.QTable`
        One row per source of the truth: ``source_id``, ``label`` (the truth), ``is_cluster``; for each judge
        ``said_<judge>`` and ``verdict_<judge>``: ``TP``, ``TN``, ``FP``, ``FN``, or ``open`` without a label; then the
        columns of the candidates, NaN or empty for a source that is none of them.

    Raises
    ------
    SchemaError
        If labels are unknown or a table is not one.

    Examples
    --------
    >>> from astroclassify.people import who_was_right
    >>> print(who_was_right({"a": "low_z", "b": "point"}, {"we": {"a": "cluster", "b": "cluster"}}))
    source_id label is_cluster said_we verdict_we
    --------- ----- ---------- ------- ----------
            a low_z       True cluster         TP
            b point      False cluster         FP
    """
    labels = label_pairs(truth, "truth", _TRUTH_COLUMNS)
    is_true = _binary(labels, "truth", positive)
    sources = list(labels)
    table = QTable({"source_id": np.array(sources, dtype=str), "label": np.array(list(labels.values()), dtype=str)})
    table["is_cluster"] = np.array(list(is_true.values()), dtype=bool)
    for name, judge in _judges(judges):
        pairs = label_pairs(judge, f"judges[{name!r}]", _JUDGE_COLUMNS)
        judged = _binary(pairs, f"judges[{name!r}]", positive)
        table[f"said_{name}"] = np.array([pairs.get(source, "") for source in sources], dtype=str)
        verdicts = [_verdict(is_true[source], judged.get(source)) for source in sources]
        table[f"verdict_{name}"] = np.array(verdicts, dtype=str)
    if candidates is not None:
        _add_candidates(table, candidates)
    table.meta = tables.provenance(positive=list(positive))
    return table


def _verdict(is_true, judged):
    if judged is None:
        return "open"
    return ("T" if is_true == judged else "F") + ("P" if judged else "N")


def _add_candidates(table, candidates):
    columns = [name for name in ("ext", "ext_err", "ext_like", "det_like", "x_class") if name in candidates.colnames]
    if "source_id" not in candidates.colnames or not columns:
        raise SchemaError(f"candidates must have source_id and columns such as ext_like, got {candidates.colnames}")
    place = {name: number for number, name in enumerate(_different_sources("candidates", candidates))}
    rows = np.array([place.get(name, -1) for name in table["source_id"].tolist()], dtype=np.int64)
    for name in columns:
        values = tables.plain_column(candidates[name])
        unit, values = getattr(values, "unit", None), np.asarray(values)
        values = values if values.dtype.kind == "U" else values.astype(float)
        found = np.append(values, "" if values.dtype.kind == "U" else np.nan)[rows]  # the last where the row is -1
        table[name] = found if unit is None else found * unit


def _judges(judges):
    if not hasattr(judges, "items") or hasattr(judges, "colnames"):
        raise SchemaError(f"judges must be a dict of name -> table or mapping, got {type(judges).__name__}")
    return judges.items()


def _binary(labels, name, positive, columns=()):
    """Source -> whether its label means a cluster."""
    if isinstance(positive, str):
        raise SchemaError(f"positive must be a sequence of labels, got {positive!r}")
    pairs = label_pairs(labels, name, columns)
    if tuple(positive) == CLUSTER_LABELS:
        known = {*CLUSTER_LABELS, *CLUSTER.classes, *CANDIDATE.classes, *load_workflow("hunt").outcome_names}
        wrong = sorted(set(pairs.values()) - known)
        if wrong:
            raise SchemaError(
                f"{name} has labels that are not known to be clusters or not: {wrong[:5]}; give positive="
            )
    return {source: label in positive for source, label in pairs.items()}


def _numbers(judge, positive):
    """Source -> number that increases with the confidence of a judge in a cluster; None without such numbers."""
    colnames = getattr(judge, "colnames", ())
    kinds = ("p_",) if getattr(judge, "meta", {}).get("method") == "dawid-skene" else ("f_", "p_")
    for kind in kinds:
        columns = [f"{kind}{label}" for label in positive if f"{kind}{label}" in colnames]
        if columns:
            break
    if not columns:
        return None
    total = np.sum([tables.plain_column(judge[name]).astype(float) for name in columns], axis=0)
    return dict(zip(_different_sources("judge", judge), total.tolist(), strict=True))


def _different_sources(name, table):
    """The sources of a table, of which none may come twice: one of two rows would be lost."""
    sources = texts_of(table["source_id"])
    twice = [source for source, times in Counter(sources).items() if times > 1]
    if twice:
        raise SchemaError(f"{name} must have one row per source_id, got several of {twice[:3]}")
    return sources


def _rate(a, b):
    return a / b if b else np.nan
