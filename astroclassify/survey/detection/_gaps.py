"""Narrow gaps in which a source lies, filled with what its surroundings let expect there."""

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects, gaussian_filter, label

__all__ = ["fill_gaps"]

SIGMA = 0.5  # of the smoothing, in half-energy radii: near the core of the point spread function
SIGNIFICANCE = 3.0  # standard deviations above the background of smoothed counts from which there is a source
N_ITERATIONS = 10
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
    if usable.all():
        return counts, background, usable
    sigma, reach = SIGMA * half, int(np.ceil(half)) + 1
    excess = _smooth(np.where(usable, counts - background, 0.0), sigma)
    noise = np.sqrt(_smooth(np.where(usable, background, 0.0), sigma) / (4 * np.pi * sigma**2))
    near = binary_dilation((excess > SIGNIFICANCE * noise) & ~usable, iterations=reach)
    counts, background, filled = counts.copy(), background.copy(), usable.copy()
    for window in find_objects(label(near)[0]):
        # Beyond the source by as far as the smoothing and the width of a gap reach.
        window = tuple(slice(max(side.start - 2 * reach, 0), side.stop + 2 * reach) for side in window)
        seen = usable[window]
        gap = near[window] & _gaps(seen, half + 0.5)
        if gap.any():
            weight = np.maximum(_smooth(seen.astype(float), sigma), LEAST)
            counts[window][gap] = _expected(np.where(seen, counts[window], 0.0), seen, weight, sigma)[gap]
            background[window][gap] = (_smooth(np.where(seen, background[window], 0.0), sigma) / weight)[gap]
            filled[window] |= gap
    return counts, background, filled


def _smooth(image, sigma):
    return gaussian_filter(image, sigma, mode="constant", truncate=3.5)


def _gaps(usable, radius):
    """Pixels that are not usable and in no disc without usable pixels of a radius (the morphological closing)."""
    margin = int(np.ceil(radius)) + 1
    near = distance_transform_edt(~np.pad(usable, margin, mode="edge")) <= radius
    closed = distance_transform_edt(near) > radius
    return closed[margin:-margin, margin:-margin] & ~usable


def _expected(counts, usable, weight, sigma):
    """Expected counts of sources, smoothed, that the usable pixels suggest."""
    sources = _smooth(counts, sigma) / weight
    for _ in range(N_ITERATIONS):
        share = np.where(usable, counts / np.maximum(_smooth(sources, sigma), LEAST), 0.0)
        sources *= _smooth(share, sigma) / weight
    return _smooth(sources, sigma)
