"""
Loops over the votes for `_gibbs`, compiled by numba.

This module imports numba, so others import it where they need it; numba keeps the machine code beside this file, or in
the user's cache. The votes of subject s are those from ``starts[s]`` to ``starts[s + 1]``.
"""

import math

from numba import njit

__all__ = ["draw_labels", "weigh"]

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
# Products are scaled before they become smaller than floats can be.
_SMALL = 1e-200


@njit(
    "void(i8[::1], i8[::1], i8[::1], f8[:,::1], f8[::1], f8[::1], i8[::1], f8[:,::1], i8[::1], i8[:,:,::1], i8[:,::1])",
    **_OPTIONS,
)
def draw_labels(starts, voter, given, weight, strength, uniform, known, posterior, label, counts, totals):
    """
    Draw the label of one subject after the other, given the labels of all others.

    ``counts`` (n_voters, given, true) and ``totals`` (n_voters, true) of the votes, and ``label`` (n_subjects,), are
    kept up to date; ``weight`` (given, true) and ``strength`` (true,) are those of the prior of each voter's matrix,
    which is integrated out. ``posterior`` (n_subjects, n_labels) holds each subject's prior and becomes its posterior;
    ``uniform`` (n_subjects,) are the draws; ``known`` labels, -1 where unknown, stay.
    """
    n_labels = posterior.shape[1]
    for s in range(len(label)):
        row = posterior[s]
        if known[s] >= 0:
            for k in range(n_labels):
                row[k] = 1.0 if k == known[s] else 0.0
            continue
        for j in range(starts[s], starts[s + 1]):
            # A subject's own votes do not tell how its voters err.
            counts[voter[j], given[j], label[s]] -= 1
            totals[voter[j], label[s]] -= 1
        for j in range(starts[s], starts[s + 1]):
            largest = 0.0
            for k in range(n_labels):
                row[k] *= (counts[voter[j], given[j], k] + weight[given[j], k]) / (totals[voter[j], k] + strength[k])
                largest = max(largest, row[k])
            if largest < _SMALL:
                for k in range(n_labels):
                    row[k] /= largest
        total, below, drawn = row.sum(), 0.0, -1
        for k in range(n_labels):
            row[k] /= total
            below += row[k]
            if drawn < 0 and (uniform[s] < below or k == n_labels - 1):
                drawn = k
        label[s] = drawn
        for j in range(starts[s], starts[s + 1]):
            counts[voter[j], given[j], drawn] += 1
            totals[voter[j], drawn] += 1


@njit("void(i8[::1], i8[::1], i8[::1], f8[:,:,::1], f8[:,::1])", **_OPTIONS)
def weigh(starts, voter, given, logs, posterior):
    """
    Posterior of each subject by Bayes' theorem where it is known how voters err.

    ``logs`` (n_voters, given, true) of the probabilities of votes; ``posterior`` (n_subjects, n_labels) holds the
    logarithm of each subject's prior and becomes its posterior.
    """
    n_labels = posterior.shape[1]
    for s in range(len(posterior)):
        row = posterior[s]
        for j in range(starts[s], starts[s + 1]):
            for k in range(n_labels):
                row[k] += logs[voter[j], given[j], k]
        largest, total = row.max(), 0.0
        for k in range(n_labels):
            row[k] = math.exp(row[k] - largest)
            total += row[k]
        for k in range(n_labels):
            row[k] /= total
