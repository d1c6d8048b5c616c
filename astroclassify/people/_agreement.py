"""Agreement of voters beyond chance: the kappas of Fleiss and of Cohen."""

import numpy as np
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import SchemaError

from ._encode import encode
from ._workflow import load_workflow

__all__ = ["cohen_kappa", "expert_agreement", "fleiss_kappa"]


def fleiss_kappa(votes, *, workflow="hunt"):
    """
    Agreement of many voters beyond chance, for each question and for the outcome.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `load_workflow`.

    Returns
    -------
    `~astropy.table.QTable`
        One row per question and one, ``outcome``, for the ends of the answers: ``question``, ``kappa``,
        ``agreement`` (mean share of the pairs of voters who agree), ``chance`` (that share by chance), ``n_subjects``
        and ``n_votes`` of subjects with two votes or more. NaN where there are none or all votes are the same.

    Raises
    ------
    SchemaError
        If ``votes`` is no VOTES table or there is no such workflow.

    Notes
    -----
    Where subjects have different numbers of votes, each counts the same in the agreement, and every vote the same in
    the shares of the answers.

    References
    ----------
    Fleiss 1971, Psychological Bulletin 76, 378.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.people import fleiss_kappa
    >>> votes = QTable({"source_id": ["a", "a", "b", "b"], "voter_id": ["v", "w", "v", "w"], "time": [""] * 4,
    ...                 "question": ["class"] * 4, "answer": ["cluster", "cluster", "other", "other"]})
    >>> fleiss_kappa(votes, workflow="cluster")["kappa"].tolist()
    [1.0, 1.0]
    """
    workflow = load_workflow(workflow)
    ballots, _ = encode(votes, workflow)
    tallies = [ballots.tally(number) for number in range(len(workflow.questions))] + [ballots.tally_outcomes()]
    rows = [_fleiss(tally) for tally in tallies]
    kappa, agreement, chance, n_subjects, n_votes = (np.array(column) for column in zip(*rows, strict=True))
    table = QTable({"question": [*workflow.question_names, "outcome"], "kappa": kappa, "agreement": agreement})
    table["chance"], table["n_subjects"], table["n_votes"] = chance, n_subjects, n_votes
    table.meta = tables.provenance(workflow=workflow.name, not_counted=dict(ballots.counts))
    return table


def _fleiss(tally):
    """Kappa, agreement, chance, subjects and votes of counts (n_subjects, n_answers)."""
    tally = tally[tally.sum(axis=1) >= 2]
    n = tally.sum(axis=1)
    if not len(tally):
        return np.nan, np.nan, np.nan, 0, 0
    agreement = float(np.mean(np.sum(tally * (tally - 1), axis=1) / (n * (n - 1))))
    chance = float(np.sum((tally.sum(axis=0) / n.sum()) ** 2))
    kappa = (agreement - chance) / (1 - chance) if chance < 1 else np.nan
    return kappa, agreement, chance, len(tally), int(n.sum())


def cohen_kappa(first, second):
    """
    Agreement of two voters beyond chance.

    Parameters
    ----------
    first, second : sequence of str
        Their labels of the same subjects.

    Returns
    -------
    float
        Kappa; NaN without subjects, or where both give one and the same label throughout.

    Raises
    ------
    SchemaError
        If they are not equally many.

    References
    ----------
    Cohen 1960, Educational and Psychological Measurement 20, 37.

    Examples
    --------
    >>> from astroclassify.people import cohen_kappa
    >>> round(cohen_kappa(["a", "a", "b", "b"], ["a", "b", "b", "b"]), 6)
    0.5
    """
    first, second = np.array(list(first), dtype=str), np.array(list(second), dtype=str)
    if len(first) != len(second):
        raise SchemaError(f"first and second must be equally long, got {len(first)} and {len(second)} labels")
    if len(np.union1d(first, second)) < 2:
        return np.nan
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(first, second))


def expert_agreement(votes, *, workflow="candidate"):
    """
    Agreement of every two voters on the subjects that both have seen.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions; by default the classes of `~astroclassify.schemes.CANDIDATE`.

    Returns
    -------
    `~astropy.table.QTable`
        One row per pair with subjects in common: ``voter_1``, ``voter_2``, ``n``, ``agreement`` (share) and ``kappa``
        (`cohen_kappa`), in order of the names.

    Raises
    ------
    SchemaError
        If ``votes`` is no VOTES table or there is no such workflow.
    """
    workflow = load_workflow(workflow)
    ballots, _ = encode(votes, workflow)
    names, done = np.array(workflow.outcome_names), ballots.outcome >= 0
    label = np.full((len(ballots.voters), len(ballots.subjects)), -1)
    label[ballots.voter[done], ballots.subject[done]] = ballots.outcome[done]
    order = np.argsort(ballots.voters)
    rows = []
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            both = (label[first] >= 0) & (label[second] >= 0)
            if both.any():
                kappa = cohen_kappa(names[label[first, both]], names[label[second, both]])
                same = float(np.mean(label[first, both] == label[second, both]))
                rows.append((ballots.voters[first], ballots.voters[second], int(both.sum()), same, kappa))
    columns = ("voter_1", "voter_2", "n", "agreement", "kappa")
    name = ballots.voters.dtype
    table = QTable(rows=rows or None, names=columns, dtype=(name, name, "i8", "f8", "f8"))
    table.meta = tables.provenance(workflow=workflow.name)
    return table
