"""Narrow gaps in which a source lies, filled with what its surroundings let expect there."""

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects, gaussian_filter, label

__all__ = ["fill_gaps"]

SIGMA = 0.5  # of the smoothing, in half-energy radii: near the core of the point spread function
SIGNIFICANCE = 4.0  # standard deviations above the background of smoothed counts from which there is a source
N_ITERATIONS = 10  # of double steps; with half of that, two sources three widths apart would become one
LEAST = 1e-12  # counts per pixel


def fill_gaps(counts, background, usable, half):
    """
    Counts, background and usable pixels with the gaps filled that cut through a source.

    Left empty, a gap would be a valley, and a source on it two. What belongs there is the surroundings' own model:
    non-negative sources behind a Gaussian of about the core of the point spread function, by maximum Poisson likelihood
    on the usable pixels alone (Richardson 1972, JOSA 62, 55; Lucy 1974, AJ 79, 745; the sum of the weights, which a gap
    makes less than one, normalises them). Its peak may lie in the gap. ``half`` is the half-energy radius [pixels]; no
    more than twice that is filled across, since nothing is known of the middle of a wider gap.
    """
    half = max(half, 1.0)  # a pixel smooths too
    sigma, reach, margin = SIGMA * half, int(np.ceil(half)) + 1, int(np.ceil(2 * half)) + 1
    near = np.zeros(usable.shape, bool) if usable.all() else _is_bright(counts, background, usable, sigma) & ~usable
    if not near.any():
        return counts, background, usable
    near = binary_dilation(near, iterations=reach)
    counts, background, filled = counts.copy(), background.copy(), usable.copy()
    for window in find_objects(label(near)[0]):
        # Beyond the source by as far as the smoothing and the widest gap reach.
        window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in window)
        seen = usable[window]
        gap = near[window] & _gaps(seen, half + 0.5)
        if gap.any():
            images = np.stack([counts[window], background[window]]) * seen
            expected = _expected(images, seen.astype(np.float32), sigma)
            counts[window][gap], background[window][gap] = expected[:, gap]
            filled[window] |= gap
    return counts, background, filled


def _is_bright(counts, background, usable, sigma):
    """Where counts stand out from the background after smoothing: the Poisson distribution's quantile, to the order of
    its skewness (Cornish & Fisher 1938)."""
    area = 4 * np.pi * sigma**2  # over as many pixels does the smoothing average
    seen, expected = (
        area * gaussian_filter(np.where(usable, image, 0.0), sigma, mode="constant") for image in (counts, background)
    )
    return seen > expected + SIGNIFICANCE * np.sqrt(expected) + (SIGNIFICANCE**2 - 1) / 6


def _gaps(usable, radius):
    """Pixels that are not usable and in no disc without usable pixels of a radius (the morphological closing)."""
    margin = int(np.ceil(radius)) + 1
    near = distance_transform_edt(~np.pad(usable, margin, mode="edge")) <= radius
    closed = distance_transform_edt(near) > radius
    return closed[margin:-margin, margin:-margin] & ~usable


def _expected(images, usable, sigma):
    """Counts (of sources that the usable pixels suggest) and background, smooth; the images are zero elsewhere."""
    rows, columns = (_smoothing(n, sigma) for n in usable.shape)
    weight = np.maximum(rows @ usable @ columns, LEAST)
    sources, background = rows @ images @ columns / weight
    for _ in range(N_ITERATIONS):
        model = np.maximum(rows @ sources @ columns, LEAST)
        # Twice the step (in the logarithm) of Richardson and Lucy: as good as three times as many of theirs.
        sources *= (rows @ (images[0] / model) @ columns / weight) ** 2
    return np.stack([rows @ sources @ columns, background])


def _smoothing(n, sigma):
    """Matrix that smooths n pixels with a Gaussian."""
    steps = np.arange(n)
    kernel = np.exp(-0.5 * (np.subtract.outer(steps, steps) / sigma) ** 2)
    return (kernel / kernel[n // 2].sum()).astype(np.float32)
