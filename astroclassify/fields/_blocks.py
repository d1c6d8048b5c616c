"""Background in blocks of pixels: its level where nothing else is seen, and how far counts scatter about a model."""

import numpy as np
from scipy.ndimage import label
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from ._search import bin_sums, unbin

__all__ = ["faint_parts", "fit_templates", "measure_scatter"]

# Blocks from which the level is taken where sources are not known yet.
FAINT_BLOCK = 60.0  # arcsec, side of the smallest,
FAINT_COUNTS = 20.0  # which are larger where that many counts are not in the faint ones
MOST_BLOCKS = 8  # parts of the image's side that blocks are at most
FAINTER, MIDDLE = 25, (40, 60)  # percentiles of brightness: of the faint ones; between which the level is sought first
SAME, NOISE = 0.1, 2.5  # how far blocks of the same level may differ: share, and standard deviations
N_STEPS = 30
MOST = 0.6  # share of the blocks that have a level if it is that of the background,
ONE = 0.3  # and of those that may be brighter in one piece
LOWEST = 0.05  # share of the blocks from which it is taken if not

SCATTER_BLOCK = 180.0  # arcsec, side of the blocks that the error is measured in,
SCATTER_PARTS = 6  # or that part of the image's side, if it is less
LEAST_BLOCKS = 4
CLIPPED = 3.0  # standard deviations beyond which a block holds a source that was not found


def fit_templates(counts, first, second):
    """
    Weights, not negative, of two templates by maximum Poisson likelihood.

    For a given mixture of the two the sum of the model is that of the counts; one number is left to search.
    """
    total = counts.sum(dtype=float)
    if total == 0:
        return np.zeros(2)
    sums = first.sum(dtype=float), second.sum(dtype=float)
    first, second = first / sums[0], second / sums[1]
    seen = first + second > 0
    ratio = first[seen] / (first[seen] + second[seen])
    low, spread = ratio.min(), np.ptp(ratio)
    if spread == 0 or np.std(ratio) < 5e-4:
        return np.array([total / sums[0], 0.0])
    # Pixels of like mixture are taken together.
    index = ((ratio - low) * (255 / spread)).astype(np.intp)
    counted, one, two = (np.bincount(index, each[seen], 256) for each in (counts, first, second))
    some = counted > 0

    def cost(part):
        return -np.sum(counted[some] * np.log(part * one[some] + (1 - part) * two[some]))

    best = minimize_scalar(cost, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-4}).x
    return total * np.array([best / sums[0], (1 - best) / sums[1]])


def faint_parts(counts, first, second, covered, side):
    """
    Weights of two templates where nothing but background is seen; the blocks (a map of the pixels) that have that
    level; and whether they are so few that large structure covers the field.

    From the median the level moves to where the blocks about it are most. If that is no clear majority, or many of the
    others hang together, it may be one contour of a structure: then the faintest blocks give the level, and both
    templates have the same weight, for a fit would be one of the structure. ``covered`` is the number of pixels that
    are used in each of the (binned) ones, ``side`` their side [arcsec].
    """
    largest = max(1, min(counts.shape) // MOST_BLOCKS)
    step = min(largest, max(1, round(FAINT_BLOCK / side)))
    while True:
        area = bin_sums(covered, step)
        enough = area > 0.5 * area.max()
        seen, one, two = (bin_sums(each, step)[enough].astype(float) for each in (counts, first, second))
        if step >= largest or np.percentile(seen, FAINTER) >= FAINT_COUNTS:
            break
        step = min(largest, step + max(1, step // 2))
    weights, used = _commonest(seen, one, two)
    brighter = np.zeros(enough.shape, bool)
    brighter[enough] = ~used & (seen > weights[0] * one + weights[1] * two)
    pieces = np.bincount(label(brighter)[0].ravel())[1:]
    large = np.mean(used) < MOST or np.any(pieces > ONE * used.size)
    if large:
        weights = np.full(2, _lowest(seen, one + two))
        used = _agree(seen, weights[0] * (one + two))
    level = np.zeros(enough.shape, bool)
    level[enough] = used
    return weights, unbin(level, step, counts.shape), bool(large)


def _commonest(seen, one, two):
    """Weights of the templates and the blocks that they agree with, from those of median brightness."""
    bright = seen / (one / one.sum() + two / two.sum())
    low, high = np.percentile(bright, MIDDLE, method="nearest")
    used = (bright >= low) & (bright <= high)
    for _ in range(N_STEPS):
        weights = fit_templates(seen[used], one[used], two[used])
        last, used = used, _agree(seen, weights[0] * one + weights[1] * two)
        if not used.any() or np.array_equal(used, last):
            break
    return weights, used


def _agree(seen, expected):
    return abs(seen - expected) <= SAME * expected + NOISE * np.sqrt(expected)


def _lowest(seen, template):
    """Weight of a template with which as many blocks lie below it as noise would put below 1.6 sigma: one in 20."""
    low, high = 0.0, seen.max() / template.max() * 10
    for _ in range(50):
        middle = (low + high) / 2
        expected = middle * template
        below = np.mean(seen < expected + norm.ppf(LOWEST) * np.sqrt(expected))
        low, high = (low, middle) if below > LOWEST else (middle, high)
    return (low + high) / 2


def _excess(counted, expected):
    """Square of the relative scatter beyond Poisson noise, and its standard deviation for a model that is right."""
    whole = np.sum(expected**2)
    square = np.sum((counted - expected) ** 2 - expected) / whole
    return square, np.sqrt(np.sum(2 * expected**2 + expected)) / whole


def measure_scatter(counts, model, covered, side):
    """
    Scatter of counts about a model beyond noise (1 sigma, relative) in blocks of 3 arcmin or a sixth of the image, and
    the number of blocks; one and zero if too few are used. ``side`` of a pixel in arcsec.
    """
    step = max(1, round(min(SCATTER_BLOCK / side, max(counts.shape) / SCATTER_PARTS)))
    area, counted, expected = (bin_sums(each, step).astype(float) for each in (covered, counts, model))
    enough = (area > 0.3 * area.max()) & (expected > 0)
    if enough.sum() < LEAST_BLOCKS:
        return 1.0, 0
    counted, expected = counted[enough], expected[enough]
    square = np.median(abs(counted / expected - 1)) ** 2 / norm.ppf(0.75) ** 2
    for _ in range(5):
        kept = abs(counted - expected) <= CLIPPED * np.sqrt(expected + square * expected**2)
        if kept.sum() < LEAST_BLOCKS:
            kept[:] = True
        excess, noise = _excess(counted[kept], expected[kept])
        # The mean of what the square can be, which is not negative: of a normal distribution cut off at zero.
        square = excess + noise * np.exp(norm.logpdf(excess / noise) - norm.logcdf(excess / noise))
    return float(np.sqrt(square + 1 / expected.sum())), int(expected.size)
