"""Weights of votes, the answers with the most of them, and where these lead: what every kind of consensus needs."""

import warnings
from dataclasses import dataclass

import numpy as np

from astroclassify._checks import check_choice, check_number
from astroclassify.exceptions import AstroclassifyWarning

from ._dawid_skene import fit
from ._encode import Ballots, encode, known_outcomes, subject_names, targets_of, walk
from ._gibbs import sample
from ._workflow import load_workflow

__all__ = ["EQUAL", "Solution", "divide", "follow", "shares_of", "solve"]

METHODS = ("majority", "weighted", "iterated", "dawid-skene")
# Two sums of weights are a tie if they differ by less than this share.
EQUAL = 1e-9
_MAX_ITERATIONS = 100
# Probability of the outcome of the weighted votes at the start of Dawid & Skene.
_START = 0.9
# An answer to a question that does not arise for a subject with known outcome.
_NOT_ASKED = -2


@dataclass(frozen=True)
class Solution:
    """Ballots and the results of a method; ``winners`` (n_subjects, n_questions) is -1 for a tie or no vote."""

    ballots: Ballots
    gold: dict
    tallies: list
    winners: np.ndarray
    agreed: np.ndarray
    given: np.ndarray
    fitted: object
    n_iterations: int
    converged: bool


def solve(votes, method, gold, workflow, subjects, smoothing, hints=None):
    """
    Tallies and winners by one of the methods, called by a public function with its arguments.

    ``hints`` makes, of the names of the subjects and the workflow, probabilities from elsewhere as `sample` takes them.
    """
    check_choice("method", method, METHODS)
    smoothing = check_number("smoothing", smoothing, 0)
    workflow = load_workflow(workflow)
    ballots, _ = encode(votes, workflow, subject_names(subjects))
    known = known_outcomes(gold, workflow)
    place = {name: number for number, name in enumerate(ballots.subjects.tolist())}
    absent = [name for name in known if name not in place]
    if absent:
        warnings.warn(
            f"gold: {len(absent)} of {len(known)} sources have no votes and no row, such as {absent[:3]}",
            AstroclassifyWarning,
            stacklevel=3,
        )
    known = {place[name]: outcome for name, outcome in known.items() if name in place}
    tallies = [ballots.tally(number) for number in range(len(workflow.questions))]
    winners = _winners(tallies, known, workflow)
    agreed, given = _agreement(ballots, winners)
    steps, converged, fitted = 0, True, None
    if method == "dawid-skene":
        elsewhere = hints and hints(ballots.subjects, workflow)
        fitted = _fit(ballots, known, _weighted(ballots, agreed, given), smoothing, elsewhere)
        steps, converged = fitted.n_iterations, fitted.converged
    elif method != "majority":
        converged = False
        while not converged and steps < _MAX_ITERATIONS:
            steps += 1
            tallies = _weighted(ballots, agreed, given)
            before, winners = winners, _winners(tallies, known, workflow)
            converged = method == "weighted" or bool(np.array_equal(before, winners))
            if not converged:
                agreed, given = _agreement(ballots, winners)
    # The winners of the votes themselves, also where the outcome is known.
    winners = _winners(tallies, {}, workflow)
    return Solution(ballots, known, tallies, winners, agreed, given, fitted, steps, converged)


def _weighted(ballots, agreed, given):
    """Votes with the weights G_i = C_i / Q_i."""
    weights = divide(agreed, given, 0.0)[ballots.voter]
    return [ballots.tally(number, weights[:, number]) for number in range(weights.shape[1])]


def _fit(ballots, known, tallies, smoothing, hints):
    """Dawid & Skene, started from the outcomes of the weighted votes: the largest share of ballots is a worse start."""
    workflow = ballots.workflow
    n = len(workflow.outcomes)
    outcome, _ = follow(_winners(tallies, {}, workflow), tallies, workflow)
    start = np.where(outcome[:, None] < 0, 1 / n, _START * (outcome[:, None] == np.arange(n)) + (1 - _START) / n)
    done = ballots.outcome >= 0
    votes = (each[done] for each in (ballots.subject, ballots.voter, ballots.outcome))
    shape = (len(ballots.subjects), len(ballots.voters), n)
    if smoothing == 0:
        return fit(*votes, shape, gold=known, start=start)
    return sample(*votes, shape, smoothing=smoothing, start=start, gold=known, hints=hints)


def _winners(tallies, known, workflow):
    """Answer of each question with the most votes; for known subjects the right one."""
    winners = np.full((len(tallies[0]), len(tallies)), -1, dtype=np.int16)
    for number, tally in enumerate(tallies):
        ranked = np.sort(tally, axis=1)
        clear = ranked[:, -1] - ranked[:, -2] > EQUAL * ranked[:, -1]
        winners[clear, number] = tally[clear].argmax(axis=1)
    for subject, outcome in known.items():
        path = workflow.paths[outcome]
        winners[subject] = np.where(path < 0, _NOT_ASKED, path)
    return winners


def _agreement(ballots, winners):
    """C_i and Q_i: answers of each volunteer that agree with the winner, and answers given, per question."""
    agreed, given = np.zeros((2, len(ballots.voters), winners.shape[1]))
    for number in range(winners.shape[1]):
        right = winners[ballots.subject, number]
        asked = (ballots.answers[:, number] >= 0) & (right != _NOT_ASKED)
        agrees = asked & (ballots.answers[:, number] == right)
        given[:, number] = np.bincount(ballots.voter[asked], minlength=len(given))
        agreed[:, number] = np.bincount(ballots.voter[agrees], minlength=len(given))
    return agreed, given


def divide(a, b, empty):
    """a / b, and ``empty`` where b is zero."""
    return np.where(b > 0, a / np.where(b > 0, b, 1), empty)


def shares_of(tallies, workflow):
    """Share of the votes for each outcome (n_subjects, n_outcomes), and how much of them ends in an outcome."""
    n = len(workflow.questions)
    flow = np.zeros((len(tallies[0]), n + len(workflow.outcomes)))
    flow[:, 0] = 1
    for number, targets in enumerate(targets_of(workflow)):
        share = divide(tallies[number], tallies[number].sum(axis=1, keepdims=True), 0.0)
        for answer, target in enumerate(targets):
            flow[:, target] += flow[:, number] * share[:, answer]
    return flow[:, n:], flow[:, n:].sum(axis=1)


def follow(winners, tallies, workflow):
    """Outcome that the winners lead to, -1 where they end before one, and whether a tie stopped the way there."""
    _, stop = walk(winners, workflow)
    n = len(tallies)
    sums = np.stack([tally.sum(axis=1) for tally in tallies], axis=1)
    stopped = stop < n
    tie = stopped & (sums[np.arange(len(stop)), np.minimum(stop, n - 1)] > 0)
    return np.where(stopped, -1, stop.astype(np.int64) - n), tie
