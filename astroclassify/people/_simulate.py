"""A simulated crowd: volunteers of different skill and activity who answer the questions of a workflow."""

import numpy as np
from astropy.table import QTable
from scipy.special import expit

from astroclassify import batch, tables
from astroclassify._checks import check_integer, check_number
from astroclassify.exceptions import SchemaError

from ._encode import label_pairs, targets_of, texts_of
from ._workflow import load_workflow

__all__ = ["simulate_votes"]

# Log-odds of a right answer: mean and scatter over volunteers, scatter over subjects; share of those who guess.
_SKILL, _SKILL_SCATTER, _DIFFICULTY = 2.5, 0.9, 0.8
_GUESSERS = 0.05
# A few volunteers give most of the votes: scatter of the logarithm of their activity.
_ACTIVITY = 1.5
_SECONDS = 20


def simulate_votes(truth, *, n_voters=1227, votes_per_subject=30, hesitation=2.3, workflow="hunt", rng=None):
    """
    Simulate the votes of a crowd of volunteers.

    Parameters
    ----------
    truth : mapping or `~astropy.table.Table`
        Source -> outcome, or a table with ``source_id`` and ``outcome`` or ``label``. A label that is no outcome of the
        workflow but a class of the scheme `~astroclassify.schemes.CANDIDATE` stands for one of the outcomes of this
        class, drawn at random. A column ``difficulty`` of the table (log-odds) makes some subjects harder than others
        by more than chance: faint ones, say.
    n_voters : int, optional
        How many volunteers; by default as many as in The Hunt for Galaxy Clusters.
    votes_per_subject : int, optional
        How many different volunteers see each subject.
    hesitation : float, optional
        Log-odds by which volunteers are biased towards the answer that ends the questions: with more of it fewer
        clusters are recognised, and those more surely.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `load_workflow`.
    rng : int or `~numpy.random.Generator`, optional
        A seed, or a generator from which one is drawn; by default a fresh seed.

    Returns
    -------
    `~astropy.table.QTable`
        A VOTES table in order of time. ``meta["truth"]`` has the outcome of each source, ``meta["rng"]`` the seed.

    Raises
    ------
    SchemaError
        If ``truth`` has a label that is not an outcome.
    ValueError
        If a number is not allowed or a difficulty not finite.

    Notes
    -----
    A volunteer v answers a question about subject s right with the log-odds a_v - d_s, minus the hesitation where the
    right answer leads on, plus it where it ends. a_v is normal (2.5, scatter 0.9), one volunteer in twenty guesses
    (a_v = 0, no hesitation), d_s is normal (0, scatter 0.8) plus ``difficulty``; of the wrong answers one is drawn, and
    off the right path answers are random. Without ``difficulty`` errors do not depend on the image: a network trained
    on such labels may call nothing a cluster. Activity is log-normal (scatter 1.5). These numbers are set by hand so
    that the crowd is like that of the paper: precision of clusters near one, low recall, and an area under the ROC
    curve of the vote fraction of about 0.92.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141 (1227 volunteers, 1600 candidates, at least 30 votes each).

    Examples
    --------
    >>> from astroclassify.people import simulate_votes
    >>> votes = simulate_votes({"a": "point_source"}, n_voters=5, votes_per_subject=3, rng=2)
    >>> sorted(set(votes["question"].tolist())), len(set(votes["voter_id"].tolist()))
    (['border', 'emission', 'shape'], 3)
    """
    workflow = load_workflow(workflow)
    n_voters = check_integer("n_voters", n_voters, 1)
    votes_per_subject = check_integer("votes_per_subject", votes_per_subject, 1, n_voters)
    hesitation = check_number("hesitation", hesitation)
    seed = batch.master_seed(rng)
    rng = batch.derive_rng(seed, "votes")
    sources, outcomes = _outcomes(truth, workflow, rng)
    skill = rng.normal(_SKILL, _SKILL_SCATTER, n_voters)
    guesses = rng.random(n_voters) < _GUESSERS
    activity = rng.normal(0, _ACTIVITY, n_voters)
    subject, voter = [], []
    for number in range(len(sources)):
        # Largest of activity + Gumbel noise: a draw without replacement in proportion to the exponential.
        ranks = activity + rng.gumbel(size=n_voters)
        voter.append(np.sort(np.argpartition(-ranks, votes_per_subject - 1)[:votes_per_subject]))
        subject.append(np.full(votes_per_subject, number))
    subject, voter = (np.concatenate([*each, np.zeros(0, np.int64)]).astype(np.int64) for each in (subject, voter))
    order = rng.permutation(len(subject))
    subject, voter = subject[order], voter[order]
    difficulty = rng.normal(0, _DIFFICULTY, len(sources)) + _difficulties(truth, sources)
    log_odds = np.where(guesses, 0, skill)[voter] - difficulty[subject]
    log_odds[guesses[voter]] = 0
    bias = np.where(guesses[voter], 0.0, hesitation)
    answers = _answers(workflow, outcomes[subject], log_odds, bias, rng)
    table = _table(workflow, np.array(sources, dtype="U"), subject, voter, answers)
    names = workflow.outcome_names
    truth = {source: names[outcome] for source, outcome in zip(sources, outcomes, strict=True)}
    table.meta = tables.provenance(workflow=workflow.name, origin="simulated", truth=truth, rng=seed)
    return table


def _difficulties(truth, sources):
    """Difficulty of each source in log-odds, 0 without such a column."""
    if "difficulty" not in getattr(truth, "colnames", ()):
        return 0.0
    values = tables.plain_column(truth["difficulty"]).astype(float)
    wrong = values[~np.isfinite(values)].tolist()
    if wrong:
        raise ValueError(f"truth: difficulty must be finite, got {wrong[:3]}")
    known = dict(zip(texts_of(truth["source_id"]), values, strict=True))
    return np.array([known[source] for source in sources])


def _outcomes(truth, workflow, rng):
    """Sources and the numbers of their outcomes."""
    pairs = label_pairs(truth, "truth")
    choices = {name: [number] for number, name in enumerate(workflow.outcome_names)}
    try:
        for number, label in enumerate(workflow.classes("candidate")):
            if label not in workflow.outcome_names:
                choices.setdefault(label, []).append(number)
    except SchemaError:
        pass  # a user's workflow, whose outcomes are not classes of candidates
    wrong = sorted(set(pairs.values()) - set(choices))
    if wrong:
        raise SchemaError(f"truth must hold outcomes out of {tuple(choices)}, got {wrong[:5]}")
    numbers = [int(rng.choice(choices[label])) for label in pairs.values()]
    return list(pairs), np.array(numbers, dtype=np.int64)


def _answers(workflow, outcome, log_odds, bias, rng):
    """Answer of each volunteer to each question, -1 where it was not asked."""
    n_questions = len(workflow.questions)
    state = np.zeros(len(outcome), dtype=np.int64)
    answers = np.full((len(outcome), n_questions), -1)
    for number, targets in enumerate(targets_of(workflow)):
        here = np.flatnonzero(state == number)
        truth, n_answers = workflow.paths[outcome[here], number], len(targets)
        ends = targets[np.maximum(truth, 0)] >= n_questions
        leads_on = np.any(targets < n_questions)  # a last question has no answer that is easier to give
        shift = np.where(ends, bias[here], -bias[here]) if leads_on else 0.0
        is_right = rng.random(len(here)) < expit(log_odds[here] + shift)
        wrong = (truth + rng.integers(1, n_answers, len(here))) % n_answers
        answer = np.where(is_right, truth, wrong)
        answer = np.where(truth < 0, rng.integers(0, n_answers, len(here)), answer)
        answers[here, number] = answer
        state[here] = targets[answer]
    return answers


def _table(workflow, sources, subject, voter, answers):
    ballot, question = np.nonzero(answers >= 0)
    voters = np.array([f"volunteer-{number:04d}" for number in range(int(voter.max(initial=0)) + 1)])
    start = np.datetime64("2018-01-01T00:00:00")
    time = start + (_SECONDS * ballot).astype("timedelta64[s]")
    return QTable(
        {
            "source_id": sources[subject[ballot]],
            "voter_id": voters[voter[ballot]],
            "question": np.array(workflow.question_names)[question],
            "answer": workflow.answer_names[question, answers[ballot, question]],
            "time": np.datetime_as_string(time).astype("U19"),
        }
    )
