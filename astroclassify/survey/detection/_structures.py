"""Large-scale structure of a field, found on the coarse scales: what smaller sources lie on, and are no pieces of."""

import numpy as np
from scipy.ndimage import gaussian_filter, grey_opening, label, maximum, sum_labels
from scipy.signal import fftconvolve

from ..extents._sources import CHILD_EXT
from ._segments import CONTRAST, SIGMA, find_basins, merge_basins

__all__ = ["find_structures", "pieces"]

SIGNIFICANCE = 5.0  # standard deviations of the smoothed counts
# Multiples of the background's own uncertainty: 5 to 15 % of background left over is no cluster of some arcmin.
DOUBT = 3.0
# Least radii of a region of structure and of its parts, in half-energy radii: smaller ones are ordinary sources.
REGION, PART = 20.0, 6.0
REACH = 8  # of the tail of a point spread function, in those radii
LEAST_COVERED = 0.5  # share of the Gaussian on searched pixels


def find_structures(counts, image, background, used, half, error, tail):
    """
    Labels of large structures (from 1; 0: none), their brightness [counts per pixel], and the compact part of the
    filtered ``image``, all (ny, nx).

    A morphological opening of the filtered image with a square as large as a disc of three half-energy radii, ``half``
    [pixels], leaves what is wider; the rest is compact. It is taken off the counts, with the ``tail`` of the point
    spread function (a function of radii [pixels]: per pixel and count within) beyond it, and the rest smoothed with a
    Gaussian of that radius. Structure stands out from the background by 5 sigma, by 30 %, and by three times the
    background's own relative ``error``. Unlike wavelet planes this sees structure that is larger than the coarsest
    wavelet, in one piece across gaps. Peaks of it are split as those of sources are.
    """
    scale = _scale(half)
    compact = image - grey_opening(image, size=2 * int(scale * np.sqrt(np.pi) / 2) + 1)
    wings = _wings(compact, scale, tail)
    # Gaps are filled with what lies beside them: they do not cut structure into pieces.
    covered, excess, background = (
        gaussian_filter(np.where(used, each, 0.0), scale, mode="constant")
        for each in (used.astype(float), counts - compact - wings - background, background)
    )
    inside, covered = covered > LEAST_COVERED, np.maximum(covered, LEAST_COVERED)
    background = background / covered
    brightness = np.where(inside, np.clip(excess / covered, 0.0, None), 0.0)
    area = 4 * np.pi * scale**2  # over as many pixels does the Gaussian average
    noise = np.sqrt((background + brightness) / area)
    seen = (brightness > SIGNIFICANCE * noise) & (brightness > max(CONTRAST, DOUBT * error) * background)
    regions = label(seen)[0]
    regions[np.bincount(regions.ravel())[regions] < np.pi * (REGION * half) ** 2] = 0
    parts = merge_basins(brightness, find_basins(brightness, regions > 0), background, area)
    numbers = np.arange(1, parts.max() + 1)
    if not numbers.size:
        return parts, brightness, compact
    # A part that is small, or only the wings of a bright compact source, belongs to the brightest part of its region.
    own = sum_labels(np.ones(parts.shape), parts, numbers) >= np.pi * (PART * half) ** 2
    peaks = _peaks(brightness, parts)
    for number, peak in zip(numbers, peaks, strict=True):
        near = _near(parts.shape, peak, scale)
        own[number - 1] &= compact[near].sum() < brightness[parts == number].sum()
    heights = np.where(own, maximum(brightness, parts, numbers), 0.0)
    region_of = regions[tuple(peaks.T)]
    brightest = {region: np.argmax(np.where(region_of == region, heights, -1.0)) for region in set(region_of.tolist())}
    final = np.where(own, numbers, [1 + brightest[region] for region in region_of.tolist()])
    final[heights[final - 1] == 0] = 0
    return np.unique(np.append(0, final), return_inverse=True)[1][parts], brightness, compact


def pieces(image, segments, structures, brightness, compact, background, half, area):
    """
    For each segment of the filtered ``image`` (from 1) the structure that it lies on (0: none), whether it is a source
    of its own there: a compact peak that stands out from the structure by the measure for neighbouring peaks, and not
    the peak of the structure itself; and for each structure the segment that is its bright peak (0: none). ``area`` as
    for `merge_basins`, of the segments.
    """
    places = _peaks(image, segments)
    at = tuple(places.T)
    parents = structures[at]
    least = np.maximum(CONTRAST * image[at], SIGMA * np.sqrt((brightness + background)[at] / area))
    alone = compact[at] > least
    peaks = []
    for peak in _peaks(brightness, structures):
        near = np.hypot(*(places - peak).T) <= _scale(half)
        tops = np.where(near & alone & (compact[at] > brightness[at]), compact[at], 0.0)
        peaks.append(int(tops.argmax() + 1 if tops.any() else 0))
        alone &= ~near
    return parents, alone | (parents == 0), np.array(peaks, int)


def _wings(compact, scale, tail):
    """What compact sources send farther than ``scale`` [pixels]."""
    reach = min(REACH * int(scale), max(compact.shape))
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    radius = np.hypot(rows, columns)
    kernel = np.where(radius > scale, tail(radius), 0.0)
    return fftconvolve(compact, kernel, mode="same")


def _peaks(image, labels):
    """Row and column of the highest pixel of each label, from 1: (n, 2)."""
    places = np.flatnonzero(labels)
    names, heights = labels.ravel()[places], image.ravel()[places]
    order = np.lexsort((-places, heights, names))
    last = np.append(names[order][1:] != names[order][:-1], True)[: len(order)]
    return np.column_stack(np.divmod(places[order][last], image.shape[1]))


def _scale(half):
    """What is wider than that [pixels] is structure."""
    return CHILD_EXT * max(half, 1.0)


def _near(shape, place, radius):
    """Pixels within a radius of a place."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - place[0], columns - place[1]) <= radius
