"""The pixels of an image of events, and the counts in them."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales

from astroclassify.exceptions import GeometryError

from .._resample import find_pixel
from ._missions import SKY_LIMIT, default_factor

MOST_PIXELS = 1 << 26  # 8192 by 8192


@dataclass(frozen=True)
class Grid:
    """Lower edges (x, y) in pixels of the list, side of a pixel in these, and number of pixels along x and y."""

    low: tuple
    factor: float
    shape: tuple

    def wcs(self, sky):
        """WCS of the image."""
        wcs = sky.wcs.deepcopy()
        wcs.wcs.crpix = (np.asarray(sky.wcs.wcs.crpix) - self.low) / self.factor + 0.5
        if wcs.wcs.has_cd():
            wcs.wcs.cd = np.asarray(sky.wcs.wcs.cd) * self.factor
        else:
            wcs.wcs.cdelt = np.asarray(sky.wcs.wcs.cdelt) * self.factor
        wcs.wcs.set()
        wcs.pixel_shape = self.shape
        return wcs

    def add(self, counts, x, y):
        """Add events to counts, shape (ny, nx); how many of them lie in it. The last edge belongs to the last pixel."""
        places, inside = [], np.ones(x.shape, bool)
        for values, low, length in ((y, self.low[1], self.shape[1]), (x, self.low[0], self.shape[0])):
            place = np.floor((values - low) / self.factor)
            place[values == low + self.factor * length] = length - 1
            inside &= (place >= 0) & (place < length)
            places.append(place)
        rows, columns = (place[inside].astype(np.intp) for place in places)
        np.add.at(counts.reshape(-1), rows * self.shape[0] + columns, counts.dtype.type(1))
        return rows.size


def make_grid(table, sky, meta, instrument, *, pixel, position, size):
    """Grid of the whole sky of a list, or of a rectangle of it; and its legal range (x, y; edges)."""
    limits = np.array(sky.limits if sky.limits is not None else _extent(table, sky), dtype=float)
    native = float(np.sqrt(abs(np.linalg.det(sky.wcs.pixel_scale_matrix)))) * 3600
    factor = _factor(pixel, sky, native, default_factor(meta, instrument, native, np.ptp(limits, axis=1).max()))
    low, high = limits.T
    if position is not None and size is not None:
        low, high = _rectangle(sky, limits, factor, position, size)
    shape = np.maximum(np.ceil((high - low) / factor - 1e-9), 1)
    if not np.prod(shape) <= MOST_PIXELS:
        raise GeometryError(
            f"pixel: an image of {table.label} would have {shape[0]:.0f} by {shape[1]:.0f} pixels of "
            f"{native * factor:.3g} arcsec, more than {MOST_PIXELS}: give a larger one, or position and size"
        )
    return Grid(tuple(low), factor, tuple(int(n) for n in shape)), limits


def _extent(table, sky):
    """Edges of the whole pixels of the list that hold all events, where the header gives no legal range."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for rows in table.blocks():
        for axis, values in enumerate(sky.places(rows)):
            values = values[np.isfinite(values)]
            low[axis] = np.min(values, initial=low[axis])
            high[axis] = np.max(values, initial=high[axis])
    if not np.all(low <= high):
        low, high = np.zeros(2), np.zeros(2)
    return np.stack([np.floor(low + 0.5) - 0.5, np.floor(high + 0.5) + 0.5], axis=1)


def _factor(pixel, sky, native, default):
    """Side of a pixel of the image in pixels of the list."""
    if pixel is None:
        return default
    if not isinstance(pixel, u.Quantity):
        return pixel
    factor = pixel.to_value(u.arcsec) / native
    if not sky.is_whole:
        return factor
    # Counts of whole numbers binned in anything else have stripes.
    if round(factor) < 1:
        raise GeometryError(f"pixel must be at least that of the list, {native:.4g} arcsec, got {pixel}")
    return round(factor)


def _rectangle(sky, limits, factor, position, size):
    """Edges (low, high) of a rectangle on the sky, on the pixels that the image of all of it has."""
    sides = np.broadcast_to(size.to_value(u.deg), 2)[::-1]
    middle = find_pixel(sky.wcs, position) + 1
    if not np.all(np.isfinite(middle)):
        raise GeometryError(f"position {position.to_string('hmsdms')} lies off the list's sky")
    number = np.maximum(np.round(sides / (proj_plane_pixel_scales(sky.wcs) * factor)), 1)
    start = np.round((middle - limits[:, 0]) / factor - number / 2)
    low = limits[:, 0] + start * factor
    low, high = np.maximum(low, limits[:, 0]), np.minimum(low + number * factor, limits[:, 1])
    if np.any(high <= low):
        raise GeometryError(f"position {position.to_string('hmsdms')} lies off the list's sky")
    return low, high


def trim(counts, grid):
    """Leave off the empty border of a large image, the same on opposite sides, so that its middle stays the middle."""
    slices = []
    for axis in (0, 1):
        length = counts.shape[axis]
        filled = np.flatnonzero(counts.any(axis=1 - axis))
        border = min(filled[0], length - 1 - filled[-1]) if length > SKY_LIMIT and filled.size else 0
        slices.append(slice(border, length - border))
    rows, columns = slices
    low = (grid.low[0] + columns.start * grid.factor, grid.low[1] + rows.start * grid.factor)
    part = counts[rows, columns]
    return part, Grid(low, grid.factor, part.shape[::-1])
