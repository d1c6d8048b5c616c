"""Online work: whose vote on which subject tells most, and when a subject needs no more of them."""

import numpy as np
from astropy.table import QTable
from scipy.special import entr

from astroclassify import tables
from astroclassify._checks import check_integer, check_number
from astroclassify.exceptions import SchemaError

from ._encode import texts_of
from ._weights import solve

__all__ = ["next_subject", "voting_queue"]

# Votes that the mean confusion of all voters is expected to count, as by default in volunteer_consensus.
_SMOOTHING = 4.0
# No classifier is trusted further than this when it excludes a class: votes must be able to overrule it.
_LEAST = 1e-3


def voting_queue(
    votes,
    *,
    voter_id="",
    subjects=None,
    predictions=None,
    gold=None,
    workflow="hunt",
    p_retire=0.95,
    min_votes=3,
    max_votes=30,
):
    """
    Subjects in the order in which votes on them tell most, and those that need no more votes.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table, which may be empty.
    voter_id : str, optional
        Who votes next: the gain is that of a vote of this voter, and what the voter has seen comes after the open
        subjects. By default, and for a voter without votes, it is anybody: the mean confusion of all voters counts.
    subjects : sequence of str or `~astropy.table.Table`, optional
        Subjects (or a table with ``source_id``) that have a row whether anybody voted on them or not; they come first.
    predictions : `~astropy.table.Table`, optional
        Probabilities of a classifier, ``source_id`` and ``p_<class>`` for the outcomes of the workflow or the classes
        of the scheme ``candidate`` or ``cluster`` that they stand for. They are the prior of the subject's outcome.
        Rows that are missing or NaN leave it to the votes.
    gold : mapping or `~astropy.table.Table`, optional
        Subjects whose outcome is known, as in `volunteer_consensus`: they need no votes, and teach how voters err.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `load_workflow`.
    p_retire : float, optional
        A subject with ``min_votes`` votes is retired when its outcome has this probability.
    min_votes, max_votes : int, optional
        Votes that each subject gets at least and at most; 0 at least lets the classifier alone retire a subject.

    Returns
    -------
    `~astropy.table.QTable`
        One row per subject. Open subjects come first, the largest gain before the others, and those of equal gain in
        the order of ``subjects`` and the votes:

        - ``source_id``; ``outcome``, the most probable one, and ``p``, its probability (empty and NaN where there is
          neither a vote nor a prediction),
        - ``n_votes``, votes that reached an outcome,
        - ``entropy`` of the outcome [bit], and ``gain``, by how much a vote reduces it on average [bit],
        - ``status``: ``"open"``, ``"voted"`` (open, but not for this voter), ``"sure"`` and ``"enough_votes"``
          (retired), ``"gold"``.

    Raises
    ------
    SchemaError
        If ``votes`` is no VOTES table, or ``subjects``, ``predictions``, ``gold`` or ``workflow`` cannot be used.
    ValueError
        If a number is not allowed, or probabilities are negative or do not add up to one.

    Notes
    -----
    With p_k the probability of outcome k of a subject, and t_kl that the voter says l where k is true, both means of
    the model of Dawid & Skene (`volunteer_consensus`), the gain is the mutual information of outcome and vote,

    H(p) - sum_l q_l H(p_k t_kl / q_l), q_l = sum_k p_k t_kl,

    which is large where the outcome is open and the voter can tell; a subject on which voters cannot tell gains little
    and comes late. A classifier that is too sure retires subjects too early: calibrate it first
    (`~astroclassify.nn.CutoutClassifier.calibrate`). No class is taken to be less probable than 0.001.

    Each call fits the model anew. Take the table for some votes, not for each vote.

    References
    ----------
    MacKay 1992, Neural Computation 4, 590 (gain of information). Branson, Van Horn & Perona 2017, CVPR, 6109 (voters
    and a classifier together).

    Examples
    --------
    >>> from astroclassify.people import simulate_votes, voting_queue
    >>> votes = simulate_votes({"a": "edge"}, votes_per_subject=20, n_voters=25, hesitation=0, rng=1)
    >>> print(voting_queue(votes, subjects=["a", "b"])["source_id", "outcome", "n_votes", "status"])
    source_id outcome n_votes status
    --------- ------- ------- ------
            b               0   open
            a    edge      20   sure
    """
    p_retire = check_number("p_retire", p_retire, 0, 1)
    min_votes = check_integer("min_votes", min_votes, 0)
    max_votes = check_integer("max_votes", max_votes, max(min_votes, 1))
    hints = None
    if predictions is not None:
        hints = _Hints(predictions)
    solution = solve(votes, "dawid-skene", gold, workflow, subjects, _SMOOTHING, hints)
    ballots, fitted, names = solution.ballots, solution.fitted, solution.ballots.workflow.outcome_names
    posterior = fitted.posterior
    voter = np.flatnonzero(ballots.voters == str(voter_id))
    confusion = fitted.confusion[voter[0]] if len(voter) else fitted.crowd
    n_votes = ballots.tally_outcomes().sum(axis=1)
    number, p = posterior.argmax(axis=1), posterior.max(axis=1)
    is_gold = np.zeros(len(p), bool)
    is_gold[list(solution.gold)] = True
    unknown = (n_votes == 0) & ~is_gold
    if hints is not None:
        unknown &= ~hints.found
    seen = np.zeros(len(p), bool)
    seen[ballots.subject[np.isin(ballots.voter, voter)]] = True
    status = np.full(len(p), "open", dtype="U12")
    status[seen] = "voted"
    status[n_votes >= max_votes] = "enough_votes"
    status[(p >= p_retire) & (n_votes >= min_votes) & ~unknown] = "sure"
    status[is_gold] = "gold"
    outcome = np.where(unknown, "", np.array(names)[number])
    table = QTable({"source_id": ballots.subjects, "outcome": outcome, "p": np.where(unknown, np.nan, p)})
    table["n_votes"], table["entropy"] = n_votes, _entropy(posterior)
    table["gain"], table["status"] = _gain(posterior, confusion), status
    for name in ("p", "entropy", "gain"):
        table[name].info.format = ".3f"
    rank = np.select([status == "open", status == "voted"], [0, 1], 2)
    table = table[np.lexsort((-table["gain"], rank))]
    table.meta = tables.provenance(
        workflow=ballots.workflow.name,
        voter_id=str(voter_id),
        p_retire=p_retire,
        min_votes=min_votes,
        max_votes=max_votes,
        predictions=predictions is not None,
        converged=fitted.converged,
        not_counted=dict(ballots.counts),
    )
    return table


def next_subject(votes, **settings):
    """
    Subject on which the next vote tells most.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table, which may be empty.
    **settings
        As in `voting_queue`, whose first row this is.

    Returns
    -------
    str
        Its ``source_id``, empty if no subject is open (for this voter).

    Raises
    ------
    SchemaError, ValueError
        As in `voting_queue`.

    Examples
    --------
    >>> from astroclassify.people import next_subject, simulate_votes
    >>> votes = simulate_votes({"a": "edge"}, votes_per_subject=20, n_voters=25, hesitation=0, rng=1)
    >>> next_subject(votes, subjects=["a", "b"])
    'b'
    >>> next_subject(votes)
    ''
    """
    queue = voting_queue(votes, **settings)
    return str(queue["source_id"][0]) if len(queue) and queue["status"][0] == "open" else ""


def _entropy(p):
    """Entropy [bit] along the last axis."""
    return entr(p).sum(axis=-1) / np.log(2)


def _gain(posterior, confusion):
    """Mutual information [bit] (n_subjects,) of outcome and vote; ``confusion`` (true, given)."""
    # Entropy of the vote less that of the vote where the outcome is known: the same by symmetry, without divisions.
    return np.maximum(_entropy(posterior @ confusion) - posterior @ _entropy(confusion), 0)


class _Hints:
    """Probabilities of a classifier, found for the subjects of a workflow when called; ``found`` says where."""

    def __init__(self, predictions):
        names = getattr(predictions, "colnames", None)
        if names is None or "source_id" not in names:
            raise SchemaError(f"predictions must be a table with source_id and p_<class>, got {names or predictions!r}")
        self._sources = texts_of(predictions["source_id"])
        if len(set(self._sources)) != len(self._sources):
            raise SchemaError("predictions must have one row per source_id")
        self._table = predictions

    def __call__(self, subjects, workflow):
        """Class of each label (n_labels,) and probabilities (n_subjects, n_classes), as `sample` takes them."""
        labels = self._labels(workflow)
        classes = list(dict.fromkeys(labels))
        columns = [tables.plain_column(self._table[f"p_{label}"]).astype(float) for label in classes]
        values = np.stack(columns, axis=1)
        known = ~np.isnan(values).any(axis=1)
        total = values[known].sum(axis=1)
        if np.any(values[known] < 0) or np.any(np.abs(total - 1) > 1e-3):
            raise ValueError(f"predictions: probabilities of {classes} must be from 0 to 1 and add up to 1")
        place = {source: number for number, source in enumerate(self._sources) if known[number]}
        rows = np.array([place.get(subject, -1) for subject in subjects.tolist()], dtype=np.int64)
        self.found = rows >= 0
        found = np.full((len(rows), len(classes)), np.nan)
        found[self.found] = np.maximum(values[rows[self.found]], _LEAST)
        found /= found.sum(axis=1, keepdims=True)
        return np.array([classes.index(label) for label in labels]), found

    def _labels(self, workflow):
        """Class of each outcome in the columns that are there."""
        kinds = [workflow.outcome_names]
        for scheme in ("candidate", "cluster"):
            try:
                kinds.append(workflow.classes(scheme))
            except SchemaError:
                continue  # a workflow whose outcomes are not classes of this scheme
        for labels in kinds:
            if all(f"p_{label}" in self._table.colnames for label in labels):
                return labels
        wanted = [sorted({f"p_{label}" for label in labels}) for labels in kinds]
        raise SchemaError(
            f"predictions must have the columns {' or '.join(map(str, wanted))}, got {self._table.colnames}"
        )
