"""
The Bayesian model of Dawid & Skene by Gibbs sampling: labels, and how far their probabilities can be trusted.

The likelihood is that of Dawid & Skene 1979, Applied Statistics 28, 20; the priors are those of a hierarchy of voters
(Paun et al. 2018, Transactions of the ACL 6, 571, "hierarchical Dawid and Skene", there in a logistic form):

- the row k of the confusion matrix of a voter is Dirichlet with mean m_k, that of all voters, and strength a_k;
- a_k is exponential with the mean ``smoothing`` (votes);
- m_k is Dirichlet with `_ANCHOR` votes' worth, half of them right, half spread over all labels. Without it labels could
  change places at no cost;
- all frequencies of the labels are equally likely.

All conditional distributions are of known form once the votes of each cell are split into tables (Chinese restaurant;
Teh et al. 2006, JASA 101, 1566, section 5 and appendix A).
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Sampled", "sample"]

_ANCHOR = 10.0
# Draws per block: the first is thrown away, then blocks of twice the length follow until one has converged.
_BLOCKS = (100, 200, 400, 800)
# Neighbouring draws are alike: this many, equally spaced, are kept for quantiles.
_KEPT = 100
# Least probability, so that logarithms stay finite.
_LEAST = 1e-300
# Largest scale reduction of the frequencies at which a block has converged (Gelman et al. 2013, section 11.4).
_REDUCTION = 1.05
_SEED = 20


@dataclass(frozen=True)
class Sampled:
    """
    Means over the draws: posterior (n_subjects, n_labels), frequencies (n_labels,), confusion (n_voters, true, given),
    that of all voters (true, given); and the draws of the posterior that are kept (n, n_subjects, n_labels).
    """

    posterior: np.ndarray
    prior: np.ndarray
    confusion: np.ndarray
    crowd: np.ndarray
    draws: np.ndarray
    n_iterations: int
    converged: bool

    def interval(self, label, tails):
        """Quantiles (len(tails), n_subjects) of the probability of one label per subject; its mean lies within."""
        chosen = np.take_along_axis(self.draws, label[None, :, None], axis=2)[..., 0]
        low, high = np.quantile(chosen, tails, axis=0)
        mean = self.posterior[np.arange(len(label)), label]
        return np.minimum(low, mean), np.maximum(high, mean)


def sample(subject, voter, label, shape, *, smoothing, start, gold=None, hints=None):
    """
    Sample labels, frequencies and confusion matrices given votes: ``subject``, ``voter``, ``label``, each (n,).

    ``shape`` has the numbers of subjects, voters and labels; ``start`` the first probabilities (n_subjects, n_labels);
    ``gold`` known labels. ``hints`` are probabilities that do not come from votes: the class of each label (n_labels,)
    and the probability of each class (n_subjects, n_classes), NaN where there are none; the frequencies then only
    share out each class among its labels. The seed is fixed: the same votes give the same draws.
    """
    from ._gibbs_loops import draw_labels

    rng = np.random.default_rng(_SEED)
    n_subjects, n_voters, n_labels = shape
    order = np.argsort(subject, kind="stable")
    starts = np.searchsorted(subject[order], np.arange(n_subjects + 1)).astype(np.int64)
    cells = voter[order].astype(np.int64) * n_labels + label[order]
    known = np.full(n_subjects, -1, dtype=np.int64)
    known[list(gold or {})] = list((gold or {}).values())
    informed = (np.diff(starts) > 0) | (known >= 0)
    drawn, counts = np.empty(n_subjects, np.int64), np.empty((n_voters * n_labels, n_labels), np.int64)
    # The first labels are drawn from the start alone: cells that say nothing.
    posterior = np.log(np.maximum(start, _LEAST))
    draw_labels(starts, cells, np.zeros(counts.shape), rng.random(n_subjects), known, posterior, drawn, counts)
    crowd, strength = _anchor(n_labels), np.full(n_labels, float(smoothing))
    n_drawn, converged = 0, False
    for length in _BLOCKS:
        mean, kept = np.zeros((n_subjects, n_labels)), np.empty((_KEPT, n_subjects, n_labels), np.float32)
        mean_confusion, mean_crowd = np.zeros((n_voters, n_labels, n_labels)), np.zeros((n_labels, n_labels))
        frequencies = np.empty((length, n_labels))
        for step in range(length):
            given = counts.reshape(n_voters, n_labels, n_labels)
            crowd, strength = _draw_crowd(given, crowd, strength, smoothing, rng)
            expected = given + strength * crowd
            errors = np.maximum(rng.standard_gamma(expected), _LEAST)
            errors /= errors.sum(axis=1, keepdims=True)
            shares = rng.dirichlet(np.bincount(drawn[informed], minlength=n_labels) + 1)
            posterior = _log_prior(np.maximum(shares, _LEAST), hints, n_subjects)
            logs = np.log(np.maximum(errors, _LEAST)).reshape(-1, n_labels)
            draw_labels(starts, cells, logs, rng.random(n_subjects), known, posterior, drawn, counts)
            mean += posterior / length
            mean_confusion += expected / expected.sum(axis=1, keepdims=True) / length
            mean_crowd += crowd / length
            frequencies[step] = shares
            if step % (length // _KEPT) == 0:
                kept[step // (length // _KEPT)] = posterior
        n_drawn += length
        converged = length > _BLOCKS[0] and _scale_reduction(frequencies) < _REDUCTION
        if converged:
            break
    shares, confusion = frequencies.mean(axis=0), mean_confusion.transpose(0, 2, 1)
    return Sampled(mean, shares, confusion, mean_crowd.T, kept, n_drawn, converged)


def _anchor(n_labels):
    """Mean of the prior of the mean confusion (given, true)."""
    return (np.eye(n_labels) + 1 / n_labels) / 2


def _draw_crowd(given, crowd, strength, smoothing, rng):
    """Draw the mean confusion (given, true) and its strength (true,), given counts (n_voters, given, true)."""
    n_voters, n_labels = given.shape[:2]
    cell, weight = np.arange(n_labels**2), (strength * crowd).ravel()
    # reached[c, i]: voters with more than i votes in cell c. Their (i + 1)th opens a table with weight / (weight + i).
    height = int(given.max(initial=0)) + 1
    reached = np.bincount((cell * height + given.reshape(n_voters, -1)).ravel(), minlength=len(cell) * height)
    reached = reached.reshape(len(cell), height)[:, ::-1].cumsum(axis=1)[:, -2::-1]
    cell, i = np.nonzero(reached)
    opened = rng.binomial(reached[cell, i], weight[cell] / (weight[cell] + i))
    tables = np.bincount(cell, opened, minlength=n_labels**2).reshape(n_labels, n_labels)
    crowd = np.maximum(rng.standard_gamma(tables + _ANCHOR * _anchor(n_labels)), _LEAST)
    crowd /= crowd.sum(axis=0)
    totals = given.sum(axis=1)
    voter, true = np.nonzero(totals)
    total = totals[voter, true]
    rest = np.log(np.maximum(rng.beta(strength[true] + 1, total), _LEAST))
    fewer = np.bincount(true, rng.random(len(true)) < total / (total + strength[true]), minlength=n_labels)
    rate = 1 / smoothing - np.bincount(true, rest, minlength=n_labels)
    strength = rng.standard_gamma(1 + tables.sum(axis=0) - fewer) / rate
    return np.maximum(crowd, _LEAST), np.maximum(strength, 1e-6)


def _log_prior(shares, hints, n_subjects):
    """Logarithm of the prior (n_subjects, n_labels) from frequencies and hints."""
    prior = np.broadcast_to(shares, (n_subjects, len(shares)))
    if hints is not None:
        classes, probabilities = hints
        within = shares / np.bincount(classes, shares)[classes]
        hinted = np.maximum(probabilities[:, classes] * within, _LEAST)
        prior = np.where(np.isnan(hinted), prior, hinted)
    return np.log(prior)


def _scale_reduction(values):
    """Largest potential scale reduction of the columns of (n_draws, n), from the halves of one chain."""
    halves = np.stack(np.array_split(values[: len(values) // 2 * 2], 2))
    n = halves.shape[1]
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    return float(np.sqrt((n - 1) / n + between / np.maximum(within, _LEAST)).max())
