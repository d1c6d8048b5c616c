"""The EM algorithm of Dawid & Skene (1979): labels and confusion matrices of greatest likelihood, without priors."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

__all__ = ["DawidSkene", "fit"]

# Least probability, so that logarithms stay finite.
_LEAST = 1e-10


@dataclass(frozen=True)
class DawidSkene:
    """
    Posterior (n_subjects, n_labels), frequencies of the labels (n_labels,), confusion (n_voters, true, given), steps,
    and the log-likelihood of the votes after each E step.
    """

    posterior: np.ndarray
    prior: np.ndarray
    confusion: np.ndarray
    n_iterations: int
    converged: bool
    log_likelihood: np.ndarray

    def interval(self, label, tails):
        """NaN (len(tails), n_subjects): the greatest likelihood alone does not say how far it can be trusted."""
        return np.full((len(tails), len(label)), np.nan)


def fit(subject, voter, label, shape, *, gold=None, start=None, max_iterations=500, tolerance=1e-8):
    """
    Fit labels and the confusion matrix of each voter to votes: numbers of ``subject``, ``voter``, ``label``, each (n,).

    ``shape`` has the numbers of subjects, voters and labels; ``gold`` known labels; ``start`` posteriors (n_subjects,
    n_labels), by default the shares of the votes as in Dawid & Skene 1979, Applied Statistics 28, 20 (section 3; E step
    (2.5), M step (2.3), (2.4)). A subject without votes gets the frequencies of the labels.
    """
    n_subjects, n_voters, n_labels = shape
    column = voter.astype(np.int64) * n_labels + label
    # Element (s, voter * n_labels + label) counts votes: both steps are products with this matrix.
    votes = csr_matrix((np.ones(len(subject)), (subject, column)), shape=(n_subjects, n_voters * n_labels))
    given = votes.T.tocsr()
    used = np.bincount(column, minlength=n_voters * n_labels).reshape(n_voters, n_labels, 1) > 0
    known = np.array(list(gold or {}), dtype=np.int64)
    truth = np.eye(n_labels)[np.array(list((gold or {}).values()), dtype=np.int64)].reshape(-1, n_labels)

    voted = np.bincount(subject, minlength=n_subjects) > 0
    if start is None:
        tally = np.bincount(subject.astype(np.int64) * n_labels + label, minlength=n_subjects * n_labels)
        start = tally.reshape(n_subjects, n_labels) / np.maximum(tally.reshape(n_subjects, n_labels).sum(1), 1)[:, None]
    posterior = np.array(start, dtype=float)
    posterior[known] = truth
    voted[known] = True
    history, converged = [], False
    prior, errors = _m_step(given, used, posterior, voted)
    for _ in range(max_iterations):
        logs = np.log(np.maximum(errors, _LEAST)).reshape(-1, n_labels)
        joint = votes @ logs + np.log(np.maximum(prior, _LEAST))
        norm = logsumexp(joint, axis=1)
        new = np.exp(joint - norm[:, None])
        norm[known] = np.sum(truth * joint[known], axis=1)
        history.append(float(norm[voted].sum()))
        new[known] = truth
        change = float(np.abs(new - posterior)[voted].max(initial=0.0))
        posterior = new
        prior, errors = _m_step(given, used, posterior, voted)
        if change < tolerance:
            converged = True
            break
    confusion = errors.transpose(0, 2, 1)
    return DawidSkene(posterior, prior, confusion, len(history), converged, np.array(history))


def _m_step(given, used, posterior, voted):
    """Frequencies of the labels, and errors (n_voters, given, true), which add up to one over the labels given."""
    n_voters, n_labels = used.shape[:2]
    prior = posterior[voted].mean(axis=0) if voted.any() else np.full(n_labels, 1 / n_labels)
    counts = (given @ posterior).reshape(n_voters, n_labels, n_labels)
    counts = np.where(used, np.maximum(counts, _LEAST), 0.0)
    total = counts.sum(axis=1, keepdims=True)
    return prior, counts / np.where(total > 0, total, 1)
