"""Experts: two classifications of each subject, and moderators who decide where the two differ."""

from collections import Counter

import numpy as np
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import Flag

from ._agreement import cohen_kappa
from ._encode import checked_votes, encode, subject_names, texts_of, time_key
from ._workflow import load_workflow

__all__ = ["expert_decisions", "known_labels"]

_STATUS = ("agreed", "moderated", "conflict", "moderators_tied", "one_expert", "no_votes")
_COLUMNS = ("source_id", "decision", "status", "reason", "expert_1", "answer_1", "expert_2", "answer_2", "n_experts")
_COLUMNS += ("decided_by", "moderation")


def expert_decisions(votes, *, moderators=(), workflow="candidate", subjects=None):
    """
    Decide on each subject from two experts and, where they differ, the moderators.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table.
    moderators : sequence of str, optional
        Names of the voters who decide where experts differ. A moderator's vote counts as that of an expert where fewer
        than two others have voted.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions; by default the one question ``class`` with the classes of `~astroclassify.schemes.CANDIDATE`.
    subjects : sequence of str or `~astropy.table.Table`, optional
        Subjects (or a table with ``source_id``) that have a row whether anybody voted on them or not; they come first.

    Returns
    -------
    `~astropy.table.QTable`
        One row per subject: ``source_id``, ``decision`` (empty where it is open), ``status``, ``reason`` in words,
        ``expert_1``, ``answer_1``, ``expert_2``, ``answer_2`` (the experts by time), ``n_experts``, ``decided_by``
        (names), ``moderation`` (every moderator's vote) and ``flags`` (``FAILED`` where it is open). The status is

        - ``agreed``: all experts (two or more) give the same class, whatever a moderator answers;
        - ``moderated``: they differ, and more moderators chose the decision than any other class;
        - ``conflict``: they differ, and no moderator has voted yet;
        - ``moderators_tied``: the moderators chose several classes equally often;
        - ``one_expert``, ``no_votes``: votes are missing.

        ``meta`` has the number of each status, ``cohen_kappa`` of first against second expert over ``n_pairs``
        subjects, and ``not_counted``, the votes that do not count (`check_votes`).

    Raises
    ------
    SchemaError
        If ``votes`` is no VOTES table, ``moderators`` are not names, or there is no such workflow.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141: two experts per object, three moderators where the two differ.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.people import expert_decisions
    >>> votes = QTable({"source_id": ["a", "a", "b", "b", "b"], "voter_id": ["ann", "bob", "ann", "bob", "mia"],
    ...                 "question": ["class"] * 5, "answer": ["low_z", "low_z", "low_z", "point", "point"],
    ...                 "time": ["1", "2", "3", "4", "5"]})
    >>> print(expert_decisions(votes, moderators=["mia"])["source_id", "decision", "status", "decided_by"])
    source_id decision   status  decided_by
    --------- -------- --------- ----------
            a    low_z    agreed  ann, bob
            b    point moderated        mia
    """
    if isinstance(moderators, str) or not all(isinstance(name, str) for name in moderators):
        raise SchemaError(f"moderators must be a sequence of names, got {moderators!r}")
    workflow, votes = load_workflow(workflow), checked_votes(votes)
    ballots, _ = encode(votes, workflow, subject_names(subjects))
    cast = _votes_by_subject(votes, ballots)
    rows = [_decide(name, cast[number], set(moderators)) for number, name in enumerate(ballots.subjects.tolist())]
    table = QTable()
    for name in _COLUMNS:
        table[name] = np.array([row[name] for row in rows], dtype=np.int64 if name == "n_experts" else str)
    table["flags"] = np.array([0 if row["decision"] else Flag.FAILED.value for row in rows], dtype=np.int64)
    pairs = [(row["answer_1"], row["answer_2"]) for row in rows if row["answer_2"]]
    counts = Counter(row["status"] for row in rows)
    kappa = cohen_kappa(*zip(*pairs, strict=True)) if pairs else np.nan
    table.meta = tables.provenance(
        workflow=workflow.name,
        moderators=sorted(moderators),
        status={name: counts[name] for name in _STATUS if counts[name]},
        cohen_kappa=kappa,
        n_pairs=len(pairs),
        not_counted=dict(ballots.counts),
    )
    return table


def known_labels(votes, *, workflow="hunt"):
    """
    Labels that are known from the votes marked as gold standard.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table with the column ``gold_standard`` of `read_votes`: on Zooniverse members of a project's team can
        mark their own classifications as the truth.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `load_workflow`.

    Returns
    -------
    `~astropy.table.QTable`
        One row per subject with such votes: ``source_id``, ``outcome`` (empty where they differ or reach none),
        ``n_votes`` (that reach an outcome), ``flags`` (``FAILED`` where it is empty) and ``message``. It can be the
        ``gold`` of `volunteer_consensus`, which passes over empty outcomes.

    Raises
    ------
    SchemaError
        If ``votes`` is no VOTES table, does not say which are gold standard, or there is no such workflow.

    Notes
    -----
    Who is an expert is in the column ``expert`` of `read_votes` (``expert``, ``owner``, or empty):
    ``expert_decisions(votes[votes["expert"] != ""], workflow=...)`` decides by their votes alone.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.people import known_labels
    >>> votes = QTable({"source_id": ["a", "a", "b"], "voter_id": ["ann", "bob", "ann"], "question": ["class"] * 3,
    ...                 "answer": ["low_z", "point", "point"], "gold_standard": [True, False, False]})
    >>> print(known_labels(votes, workflow="candidate")["source_id", "outcome", "n_votes"])
    source_id outcome n_votes
    --------- ------- -------
            a   low_z       1
    """
    workflow = load_workflow(workflow)
    if "gold_standard" not in getattr(votes, "colnames", ()):
        raise SchemaError("votes must have the column gold_standard, which read_votes takes from an export")
    marked = [text.lower() in ("true", "1") for text in texts_of(votes["gold_standard"])]
    ballots, _ = encode(votes[np.array(marked, dtype=bool)], workflow)
    tally = ballots.tally_outcomes()
    given, different = tally.sum(axis=1), np.count_nonzero(tally, axis=1)
    names = np.array(workflow.outcome_names)
    table = QTable({"source_id": ballots.subjects})
    table["outcome"] = np.where(different == 1, names[tally.argmax(axis=1)], "")
    table["n_votes"] = given.astype(np.int64)
    table["flags"] = np.where(different == 1, 0, Flag.FAILED.value)
    reasons = np.array(["the votes reach no outcome", "", "the votes differ"])
    table["message"] = reasons[np.minimum(different, 2)]
    table.meta = tables.provenance(workflow=workflow.name, not_counted=dict(ballots.counts))
    return table


def _votes_by_subject(votes, ballots):
    """(voter, outcome) of all complete votes of each subject, by time, then by row."""
    first = {}
    for row, (source, voter, time) in enumerate(
        zip(*(texts_of(votes[name]) for name in ("source_id", "voter_id", "time")), strict=True)
    ):
        when = (time_key(time), row)
        first[source, voter] = min(first.get((source, voter), when), when)
    cast = [[] for _ in ballots.subjects]
    names = ballots.workflow.outcome_names
    for subject, voter, outcome in zip(ballots.subject, ballots.voter, ballots.outcome, strict=True):
        if outcome >= 0:
            name = str(ballots.voters[voter])
            cast[subject].append((first[str(ballots.subjects[subject]), name], name, names[outcome]))
    return [[(name, answer) for _, name, answer in sorted(each)] for each in cast]


def _decide(source, cast, moderators):
    """Row of one subject."""
    experts = [vote for vote in cast if vote[0] not in moderators]
    moderation = [vote for vote in cast if vote[0] in moderators]
    while len(experts) < 2 and moderation:
        experts.append(moderation.pop(0))
    experts.sort(key=cast.index)
    votes = Counter(answer for _, answer in moderation).most_common()
    top = [answer for answer, number in votes if number == votes[0][1]]
    answers = [answer for _, answer in experts]
    listed = ", ".join(f"{name}: {answer}" for name, answer in experts)
    decision, decided_by = "", []
    if not experts:
        status, reason = "no_votes", "nobody has voted"
    elif len(experts) == 1:
        status, reason = "one_expert", f"a second vote is missing ({listed})"
    elif len(set(answers)) == 1:
        status, decision, decided_by = "agreed", answers[0], [name for name, _ in experts]
        reason = f"{len(experts)} experts agree"
        if any(answer != decision for _, answer in moderation):
            reason += ", a moderator does not"
    elif not moderation:
        status, reason = "conflict", f"the experts differ ({listed})"
    elif len(top) > 1:
        status, reason = "moderators_tied", f"the experts differ ({listed}), the moderators chose {', '.join(top)}"
    else:
        status, decision = "moderated", top[0]
        decided_by = [name for name, answer in moderation if answer == decision]
        reason = f"the experts differ ({listed}), {len(decided_by)} of {len(moderation)} moderators chose {decision}"
    first, second, *_ = [*experts, ("", ""), ("", "")]
    return {
        "source_id": source,
        "decision": decision,
        "status": status,
        "reason": reason,
        "expert_1": first[0],
        "answer_1": first[1],
        "expert_2": second[0],
        "answer_2": second[1],
        "n_experts": len(experts),
        "decided_by": ", ".join(decided_by),
        "moderation": ", ".join(f"{name}: {answer}" for name, answer in moderation),
    }
