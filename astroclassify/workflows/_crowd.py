"""What a simulated crowd of volunteers calls simulated candidates."""

import numpy as np
from astropy import units as u

from astroclassify import batch, tables
from astroclassify.people import load_workflow, simulate_votes, volunteer_consensus
from astroclassify.schemes import CLUSTER

__all__ = ["crowd_labels", "is_simulated", "with_difficulty"]

# By how much (log-odds) people find a source harder that has a tenth of the counts. Set by hand: the weighted votes
# then find nine in ten of the brighter clusters and two in ten of the faint ones, and half of all, as in the paper.
_DIFFICULTY_PER_DEX = 3.0
# Columns that only simulated sources have; counts that say how hard a source is, in order of preference.
_OF_TRUTH = ("source_counts", "true_counts")
_COUNTS = ("source_counts", "counts")


def is_simulated(sample):
    """Whether the sources of a sample are simulated, so that a crowd may be."""
    return any(name in sample.colnames for name in _OF_TRUTH) and any(name in sample.colnames for name in _COUNTS)


def with_difficulty(sample):
    """A copy with the difficulty of each source: from errors at random a network learns their frequency alone."""
    sample = sample.copy()
    name = next(name for name in _COUNTS if name in sample.colnames)
    counts = np.maximum(tables.numbers(sample, name, u.ct, what="sample"), 1)  # NaN stays: as hard as the median
    known = np.isfinite(counts)
    middle = np.median(counts[known]) if known.any() else 1.0
    sample["difficulty"] = -_DIFFICULTY_PER_DEX * np.log10(np.where(known, counts, middle) / middle)
    return sample


def crowd_labels(sample, seed):
    """Class of each candidate (scheme cluster) by the weighted votes of a crowd; empty where these give none."""
    votes = simulate_votes(with_difficulty(sample), rng=batch.derive_rng(seed, "volunteers"))
    consensus = volunteer_consensus(votes, method="weighted", subjects=sample)
    workflow = load_workflow(consensus.meta["workflow"])
    classes = dict(zip(workflow.outcome_names, workflow.classes(CLUSTER), strict=True))
    said = dict(zip(consensus["source_id"].tolist(), consensus["outcome"].tolist(), strict=True))
    return np.array([classes.get(said.get(str(name), ""), "") for name in sample["source_id"]], dtype="U8")
