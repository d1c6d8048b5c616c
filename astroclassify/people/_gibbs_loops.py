"""
Loops over the votes for `_gibbs`, compiled by numba.

This module imports numba, so others import it where they need it; numba keeps the machine code beside this file, or in
the user's cache.
"""

import math

from numba import njit

__all__ = ["draw_labels"]

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit("void(i8[::1], i8[::1], f8[:,::1], f8[::1], i8[::1], f8[:,::1], i8[::1], i8[:,::1])", **_OPTIONS)
def draw_labels(starts, cells, logs, uniform, known, posterior, label, counts):
    """
    Draw the label of each subject given how its voters err: ``label`` (n_subjects,) is filled in.

    The votes of subject s are ``cells[starts[s]:starts[s + 1]]``, rows of ``logs`` (n_cells, n_labels): logarithms of
    the probability to give this vote where each label is true. ``posterior`` (n_subjects, n_labels) holds the
    logarithm of each subject's prior and becomes its posterior; ``uniform`` (n_subjects,) are the draws; ``known``
    labels, -1 where unknown, are kept. ``counts`` (n_cells, n_labels) of votes given where a label is drawn are
    filled in.
    """
    n_labels = posterior.shape[1]
    counts[:, :] = 0
    for s in range(len(label)):
        row = posterior[s]
        for j in range(starts[s], starts[s + 1]):
            for k in range(n_labels):
                row[k] += logs[cells[j], k]
        largest, total = row.max(), 0.0
        for k in range(n_labels):
            row[k] = math.exp(row[k] - largest)
            total += row[k]
        drawn, below = known[s], 0.0
        for k in range(n_labels):
            if known[s] < 0:
                row[k] /= total
                below += row[k]
                if drawn < 0 and (uniform[s] < below or k == n_labels - 1):
                    drawn = k
            else:
                row[k] = 1.0 if k == drawn else 0.0
        label[s] = drawn
        for j in range(starts[s], starts[s + 1]):
            counts[cells[j], drawn] += 1
