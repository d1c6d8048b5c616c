"""Resampling counts onto a model's grid: coordinate systems, and the plain-array core."""

import numpy as np
from astropy import units as u
from astropy.wcs import WCS, NoConvergence
from reproject import reproject_interp

from ._image_checks import EXPOSURE_MAP, celestial, valid_pixels
from .exceptions import GeometryError

# Points held at once while pixels are shared out: some tens of megabytes.
_MAX_POINTS = 2**19


def target_wcs(centre, pixel, shape):
    """TAN projection, north up and east left, of square pixels of side ``pixel`` with ``centre`` in the middle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [centre.icrs.ra.deg, centre.icrs.dec.deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-pixel.to_value(u.deg), pixel.to_value(u.deg)]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def same_grid(wcs, shape, target, target_shape):
    """Whether the two grids agree to a tenth of a pixel at the corners (exact for grids that the package wrote)."""
    if shape != target_shape:
        return False
    y, x = np.array([0, 0, shape[0] - 1, shape[0] - 1]), np.array([0, shape[1] - 1, 0, shape[1] - 1])
    there = target.world_to_pixel(wcs.pixel_to_world(x, y))
    return bool(np.all(np.hypot(there[0] - x, there[1] - y) < 0.1))


def _window(wcs, image_shape, target, shape):
    """Slices of the image that cover the target, with two pixels to spare."""
    y, x = np.meshgrid(np.linspace(-0.5, shape[0] - 0.5, 17), np.linspace(-0.5, shape[1] - 0.5, 17), indexing="ij")
    try:
        places = wcs.world_to_pixel(target.pixel_to_world(x, y))
    except NoConvergence:  # distortion polynomials mean nothing far outside the image
        places = np.zeros(2), np.zeros(2)
    slices = []
    for place, length in zip(places[::-1], image_shape, strict=True):
        if not np.isfinite(place).all():
            slices.append(slice(0, length))
            continue
        low, high = np.floor(place.min()) - 2, np.ceil(place.max()) + 3
        if high <= 0 or low >= length:
            raise GeometryError("the model's field lies off the image")
        slices.append(slice(int(max(low, 0)), int(min(high, length))))
    return tuple(slices)


def resample(image, target, shape):
    """Counts, valid fraction and covered fraction on the target grid, and the exposure map there (or None)."""
    window = _window(celestial(image), image.shape, target, shape)
    wcs = celestial(image[window])
    data, valid = image.data[window], valid_pixels(image)[window]
    y, x = np.mgrid[0 : data.shape[0] + 1, 0 : data.shape[1] + 1] - 0.5
    x, y = target.world_to_pixel(wcs.pixel_to_world(x, y))
    area = _areas(x, y)
    counts, fraction, covered = deposit(np.stack([np.where(valid, data, 0.0), valid * area, area]), x, y, shape)
    exposure = image.meta.get(EXPOSURE_MAP)
    if exposure is not None:
        exposure = reproject_interp((exposure[window], wcs), target, shape_out=shape, return_footprint=False)
        exposure = np.nan_to_num(exposure)
    return counts, fraction, covered, exposure


def _areas(x, y):
    """Areas of the quadrilaterals with these corners; 0 where a corner is not on the target's half of the sky."""
    x1, y1 = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
    x2, y2 = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
    return np.nan_to_num(0.5 * np.abs(x1 * y2 - x2 * y1), nan=0.0)


def deposit(planes, x, y, shape):
    """
    Share the content of source pixels among the target pixels that they overlap.

    Each source pixel is split into equal parts of at most half a target pixel, each of which is shared by area as if
    its sides lay along the target's: exact for grids that are not rotated, and whatever falls inside the target is
    conserved to rounding for any.

    Parameters
    ----------
    planes : `~numpy.ndarray`
        Contents of the source pixels, shape (n, ny, nx).
    x, y : `~numpy.ndarray`
        Corners of the source pixels in target pixels (0 is the middle of the first), shape (ny + 1, nx + 1).
    shape : tuple of int
        Shape of the target.

    Returns
    -------
    `~numpy.ndarray`
        Contents of the target pixels, shape (n, target ny, target nx).

    Raises
    ------
    GeometryError
        If a source pixel is larger than half the target.
    """
    corners = np.stack([x[:-1, :-1], x[:-1, 1:], x[1:, :-1], x[1:, 1:], y[:-1, :-1], y[:-1, 1:], y[1:, :-1], y[1:, 1:]])
    corners = corners.reshape(2, 4, -1)
    # Pixels wholly off the target (or not on its half of the sky) give it nothing.
    with np.errstate(invalid="ignore"):
        size = np.array([shape[1], shape[0]])[:, None]
        near = np.all((corners.max(axis=1) > -0.5) & (corners.min(axis=1) < size - 0.5), axis=0)
    corners, contents = corners[:, :, near], planes.reshape(len(planes), -1)[:, near]
    # Extent of a pixel along the target's axes: its sides where they are parallel, the side of a rotated square.
    low, right, up = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    twist = corners[:, 3] - corners[:, 1] - up
    extent = np.hypot(right, up)
    if extent.max(initial=0.0) > min(shape) / 2:
        raise GeometryError("image has less than two pixels across the model's field")
    n_split = max(1, int(np.ceil(2 * extent.max(initial=0.0) - 1e-9)))
    steps = (np.arange(n_split) + 0.5) / n_split
    result = np.zeros((len(planes), shape[0] * shape[1]))
    n_chunk = max(1, _MAX_POINTS // n_split**2)
    for start in range(0, contents.shape[1], n_chunk):
        chunk = slice(start, start + n_chunk)
        wx, wy = steps[:, None, None], steps[None, :, None]
        middle = low[:, None, None, chunk] + sum(
            weight * side[:, None, None, chunk] for weight, side in ((wx, right), (wy, up), (wx * wy, twist))
        )
        half = np.broadcast_to(extent[:, None, None, chunk] / (2 * n_split), middle.shape)
        _scatter(result, contents[:, chunk] / n_split**2, middle, half, shape)
    return result.reshape(-1, *shape)


def _scatter(result, contents, middle, half, shape):
    """Add parts of source pixels, of half width ``half`` around ``middle`` (2, n, n, n_pixels), to flat planes."""
    contents = np.broadcast_to(contents[:, None, None, :], (len(contents), *middle.shape[1:]))
    for column, share_x in _shares(middle[0], half[0]):
        for row, share_y in _shares(middle[1], half[1]):
            inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
            index, share = row[inside] * shape[1] + column[inside], (share_x * share_y)[inside]
            for plane, content in zip(result, contents, strict=True):
                plane += np.bincount(index, content[inside] * share, minlength=plane.size)


def _shares(middle, half):
    """The pixels under an interval of half width ``half`` (at most 0.5) along one axis, and the share of each."""
    first = np.floor(middle - half + 0.5)
    # How much of the interval lies beyond the upper edge of its first pixel.
    beyond = np.clip((middle + half - (first + 0.5)) / (2 * half), 0.0, 1.0)
    first = first.astype(np.int64)
    return (first, 1.0 - beyond), (first + 1, beyond)
