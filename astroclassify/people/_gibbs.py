"""
The Bayesian model of Dawid & Skene by Gibbs sampling: labels, and how far their probabilities can be trusted.

The likelihood is that of Dawid & Skene 1979, Applied Statistics 28, 20; the priors are those of a hierarchy of voters
(Paun et al. 2018, Transactions of the ACL 6, 571, "hierarchical Dawid and Skene", there in a logistic form):

- the row k of the confusion matrix of a voter is Dirichlet with mean m_k, that of all voters, and strength a_k;
- a_k is exponential with the mean ``smoothing`` (votes);
- m_k is Dirichlet with `_ANCHOR` votes' worth, half of them right, half spread over all labels. Without it labels could
  change places at no cost;
- all frequencies of the labels are equally likely.

Labels are drawn with the matrices integrated out, each from the votes on all other subjects: drawn in turn, a label and
the errors that it makes of the votes on it would confirm each other. All other conditional distributions are of known
form once the votes of each cell are split into tables (Chinese restaurant; Teh et al. 2006, JASA 101, 1566, section 5
and appendix A).
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Sampled", "sample"]

_ANCHOR = 10.0
# Votes of all draws of a block together, and least and most draws: few votes take many draws, and need them, because
# a label and the mean confusion that explains it change together, seldom.
_EFFORT, _FEWEST, _MOST = 4_000_000, 100, 2000
# Lengths of the blocks: the first is thrown away, the others follow until one has converged.
_BLOCKS = (0.5, 1, 2)
# Of the probabilities under single draws of the matrices this many, equally spaced, are kept for quantiles.
_KEPT = 100
# Least probabilities and weights, so that logarithms and ratios stay finite.
_LEAST = 1e-12
# A block has converged if the posteriors of its two halves differ by less, as a root mean square over the subjects.
_PRECISION = 0.02
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


@np.errstate(under="ignore")  # probabilities that are as good as zero
def sample(subject, voter, label, shape, *, smoothing, start, gold=None, hints=None):
    """
    Sample labels, frequencies and confusion matrices given votes: ``subject``, ``voter``, ``label``, each (n,).

    ``shape`` has the numbers of subjects, voters and labels; ``start`` the first probabilities (n_subjects, n_labels);
    ``gold`` known labels. ``hints`` are probabilities that do not come from votes: the class of each label (n_labels,)
    and the probability of each class (n_subjects, n_classes), NaN where there are none; the frequencies then only
    share out each class among its labels. The seed is fixed: the same votes give the same draws.
    """
    from ._gibbs_loops import draw_labels, weigh

    rng = np.random.default_rng(_SEED)
    n_subjects, n_voters, n_labels = shape
    order = np.argsort(subject, kind="stable")
    starts = np.searchsorted(subject[order], np.arange(n_subjects + 1)).astype(np.int64)
    votes = starts, voter[order].astype(np.int64), label[order].astype(np.int64)
    known = np.full(n_subjects, -1, dtype=np.int64)
    known[list(gold or {})] = list((gold or {}).values())
    informed = (np.diff(starts) > 0) | (known >= 0)
    drawn = (rng.random((n_subjects, 1)) > start.cumsum(axis=1)[:, :-1]).sum(axis=1).astype(np.int64)
    drawn[known >= 0] = known[known >= 0]
    counts = np.zeros((n_voters, n_labels, n_labels), dtype=np.int64)
    np.add.at(counts, (*votes[1:], drawn[subject[order]]), 1)
    totals = counts.sum(axis=1)
    crowd, strength = _anchor(n_labels), np.full(n_labels, float(smoothing))
    n_drawn = 0
    n_used = min(max(_EFFORT // max(len(label), 1), _FEWEST), _MOST) // _KEPT * _KEPT
    for length in [int(n_used * part) for part in _BLOCKS]:
        halves, kept = np.zeros((2, n_subjects, n_labels)), np.empty((_KEPT, n_subjects, n_labels), np.float32)
        confusion, mean_crowd = np.zeros(counts.shape), np.zeros(crowd.shape)
        frequencies = np.zeros(n_labels)
        for step in range(length):
            crowd, strength = _draw_crowd(counts, crowd, strength, smoothing, rng)
            weight = strength * crowd
            shares = rng.dirichlet(np.bincount(drawn[informed], minlength=n_labels) + 1)
            prior = _prior(np.maximum(shares, _LEAST), hints, n_subjects)
            posterior = prior.copy()
            draw_labels(*votes, weight, strength, rng.random(n_subjects), known, posterior, drawn, counts, totals)
            halves[2 * step // length] += 2 * posterior / length
            expected = counts + weight
            confusion += expected / expected.sum(axis=1, keepdims=True) / length
            mean_crowd += crowd / length
            frequencies += shares / length
            if n_drawn and step % (length // _KEPT) == 0:
                errors = np.maximum(rng.standard_gamma(expected), np.finfo(float).tiny)
                single = np.log(prior)
                weigh(*votes, np.log(errors / errors.sum(axis=1, keepdims=True)), single)
                kept[step // (length // _KEPT)] = np.where(known[:, None] < 0, single, posterior)
        difference = np.sum(np.diff(halves[:, informed], axis=0) ** 2) / max(np.sum(informed), 1)
        converged = n_drawn > 0 and bool(difference < _PRECISION**2)
        n_drawn += length
        if converged:
            break
    confusion = confusion.transpose(0, 2, 1)
    return Sampled(halves.mean(axis=0), frequencies, confusion, mean_crowd.T, kept, n_drawn, converged)


def _anchor(n_labels):
    """Mean of the prior of the mean confusion (given, true)."""
    return (np.eye(n_labels) + 1 / n_labels) / 2


def _draw_crowd(given, crowd, strength, smoothing, rng):
    """Draw the mean confusion (given, true) and its strength (true,), given counts (n_voters, given, true)."""
    n_voters, n_labels = given.shape[:2]
    cell, weight = np.arange(n_labels**2), (strength * crowd).ravel()
    # reached[c, i]: voters with more than i votes in cell c. Their (i + 1)th opens a table with weight / (weight + i).
    height = int(given.max(initial=0)) + 1
    reached = np.bincount((cell * height + given.reshape(n_voters, n_labels**2)).ravel(), minlength=len(cell) * height)
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
    return np.maximum(crowd, _LEAST), np.maximum(strength, _LEAST)


def _prior(shares, hints, n_subjects):
    """Prior (n_subjects, n_labels) from frequencies and hints."""
    prior = np.tile(shares, (n_subjects, 1))
    if hints is not None:
        classes, probabilities = hints
        within = shares / np.bincount(classes, shares)[classes]
        hinted = probabilities[:, classes] * within
        known = ~np.isnan(hinted).any(axis=1)
        prior[known] = hinted[known]
    return prior
