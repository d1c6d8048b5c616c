"""The profile of a cluster about its peak: what is left of an image where only the distance from the peak counts."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from ._brightness import LEAST_EXPOSURE, PLANES, brightness, log_depth_of_shape

__all__ = ["EDGES_KPC", "N_RINGS", "PROFILE", "RING_AREAS", "find_peak", "painted", "profile_input", "to_profile"]

PROFILE = "profile"

EDGES_KPC = np.array([0.0, 4, 8, 12, 17, 24, 34, 48, 68, 96, 136, 192, 272, 384, 500])
"""Edges of the rings: the first three hold 0.012 R500 of groups and of clusters, the last the field of 1 Mpc."""

N_RINGS = len(EDGES_KPC) - 1

RING_AREAS = np.pi * np.diff(EDGES_KPC**2) / (1000 / 256) ** 2
"""Areas of the rings in pixels of Su et al. (2020), 1 Mpc over 256, of which brightness is that."""

# The peak is the brightest place, smoothed, near the middle of the image.
_SEARCH_KPC, _SMOOTHING_KPC, _CENTROID_KPC = 120.0, 15.0, 25.0
# Pixels within this distance of the peak are divided, since the innermost rings are as narrow as they are.
_FINE_KPC, _FINE = 40.0, 4
# Brightness (counts of a pixel in the reference setting) below which the logarithm flattens.
_FAINTEST = 1e-3


@lru_cache(maxsize=4)
def _grid(shape):
    """Rows and columns of the pixels from the middle of an image."""
    rows, columns = np.indices(shape, dtype=np.float32)
    return rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2


def find_peak(planes, pixel):
    """Row and column of the peak from the middle of the image [pixel]: a centroid about the smoothed maximum."""
    exposure = np.where(planes[1] >= LEAST_EXPOSURE, planes[1], 0)
    rate = np.where(exposure > 0, np.maximum(planes[0], 0), 0)
    width = _SMOOTHING_KPC / pixel
    # weighted where pixels are missing, and less trusted there
    weight = gaussian_filter(exposure, width)
    smooth = gaussian_filter(rate, width) / np.maximum(weight, 0.5 * max(float(weight.max()), 1e-6))
    rows, columns = _grid(planes.shape[1:])
    near = np.hypot(rows, columns) * pixel < _SEARCH_KPC
    top = np.unravel_index(np.argmax(np.where(near, smooth, -1)), smooth.shape)
    about = np.hypot(rows - rows[top], columns - columns[top]) * pixel < _CENTROID_KPC
    share = np.where(about, smooth, 0) ** 2
    if not share.sum() > 0:
        return 0.0, 0.0
    return float(np.average(rows, weights=share)), float(np.average(columns, weights=share))


def _rings(planes, pixel):
    """Ring of each pixel (n,), of those near the peak in parts; and index and weight of the pixels they are of."""
    row, column = find_peak(planes, pixel)
    rows, columns = (grid.ravel() for grid in _grid(planes.shape[1:]))
    rows, columns = rows - row, columns - column
    distance = np.hypot(rows, columns) * pixel
    fine = np.flatnonzero(distance < _FINE_KPC)
    coarse = np.flatnonzero((distance >= _FINE_KPC) & (distance < EDGES_KPC[-1]))
    parts = (np.arange(_FINE) + 0.5) / _FINE - 0.5
    near = (
        np.hypot(rows[fine, None, None] + parts[:, None], columns[fine, None, None] + parts[None, :]).reshape(-1)
        * pixel
    )
    index = np.concatenate([np.repeat(fine, _FINE**2), coarse])
    weight = np.concatenate([np.full(near.size, 1 / _FINE**2), np.ones(coarse.size)])
    ring = np.searchsorted(EDGES_KPC, np.concatenate([near, distance[coarse]]), side="right") - 1
    return ring, index, weight


def to_profile(planes, pixel):
    """
    Planes (n_planes, 1, n_rings) of planes (n_planes, ny, nx) of an image with pixels of a side [kpc].

    Counts and exposure become means over the area of each ring (`RING_AREAS`), what is off the image being not exposed.
    """
    ring, index, weight = _rings(planes, pixel)
    seen = planes[1].ravel()[index] >= LEAST_EXPOSURE
    counts, exposed = (
        np.bincount(ring, weights=np.where(seen, plane.ravel()[index], 0) * weight, minlength=N_RINGS)[:N_RINGS]
        for plane in (np.maximum(planes[0], 0), planes[1])
    )
    sums = counts / RING_AREAS, exposed * pixel**2 / (np.pi * np.diff(EDGES_KPC**2))
    rest = np.broadcast_to(planes[2:, :1, :1], (len(PLANES) - 2, 1, N_RINGS))
    result = np.concatenate([np.array(sums)[:, None, :], rest]).astype(np.float32)
    if not result[5].any():
        result[2] = log_depth_of_shape(result, RING_AREAS)
    return result


def profile_input(profiles):
    """
    What a network sees of profiles (n, n_planes, 1, n_rings): log10 of brightness and of counts in each ring, and the
    other planes. Rings that are not exposed get the brightness of their neighbours.
    """
    values = np.log10(_FAINTEST + 10.0 ** brightness(profiles) - 1)[:, 0]
    blank = profiles[:, 1, 0] < LEAST_EXPOSURE
    rings = np.arange(N_RINGS)
    for row in np.flatnonzero(blank.any(axis=1) & ~blank.all(axis=1)):
        values[row] = np.interp(rings, rings[~blank[row]], values[row][~blank[row]])
    counts = np.log10(1 + np.maximum(profiles[:, 0, 0], 0) * RING_AREAS)
    return np.concatenate([values[:, None, None], counts[:, None, None], profiles[:, 1:]], axis=1).astype(np.float32)


def painted(values, planes, pixel, cell):
    """
    Values of rings (n_rings,), whose mean is theirs, as a map of cells of some pixels, each ring's spread evenly.

    The mean of the map is that of the values, as far as rings lie on the image.
    """
    ring, index, weight = _rings(planes, pixel)
    held = np.bincount(ring, weights=weight, minlength=N_RINGS)[:N_RINGS]
    density = np.divide(values, held, out=np.zeros(N_RINGS), where=held > 0)
    ny, nx = planes.shape[1:]
    image = np.bincount(index, weights=weight * density[ring], minlength=ny * nx).reshape(ny, nx)
    cells = image.reshape(ny // cell, cell, nx // cell, cell).sum(axis=(1, 3))
    return cells * (cells.size / N_RINGS)
