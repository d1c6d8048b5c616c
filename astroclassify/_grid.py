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


def resample(image, target, shape, *, brightness=False):
    """
    Counts, valid fraction and covered fraction on the target grid, and the exposure map there (or None).

    Counts are shared out and conserved; a brightness is averaged over what covers a pixel.
    """
    window = _window(celestial(image), image.shape, target, shape)
    wcs = celestial(image[window])
    data, valid = image.data[window], valid_pixels(image)[window]
    y, x = np.mgrid[0 : data.shape[0] + 1, 0 : data.shape[1] + 1] - 0.5
    x, y = target.world_to_pixel(wcs.pixel_to_world(x, y))
    area = _areas(x, y)
    content = np.where(valid, data, 0.0) * (area if brightness else 1.0)
    counts, fraction, covered = deposit(np.stack([content, valid * area, area]), x, y, shape)
    if brightness:
        counts = np.divide(counts, fraction, out=np.zeros_like(counts), where=fraction > 1e-6)
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

    Each source pixel is split into equal parts smaller than a target pixel. The content of a part is shared along x
    and along y in proportion to how its area projects on that axis (a trapezoid): exact for grids that are not
    rotated, and whatever falls inside the target is conserved to rounding for any. On rotated grids the parts are at
    most a third of a target pixel, so that a flat image stays flat to about one percent.

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
    low, right, up, twist, near = _pixel_vectors(x, y, shape)
    contents = planes.reshape(len(planes), -1)[:, near]
    sides = np.stack([np.abs(right), np.abs(up)])  # side, axis, pixel
    largest = sides.sum(axis=0).max(initial=0.0)
    if largest > min(shape) / 2:
        raise GeometryError("image has less than two pixels across the model's field")
    rotated = np.any(sides.min(axis=0) > 1e-3 * sides.max(axis=0))
    n_split = max(1, int(np.ceil((3 * np.hypot(right, up).max() if rotated else largest) - 1e-9)))
    steps = (np.arange(n_split) + 0.5) / n_split
    wx, wy = steps[:, None, None], steps[None, :, None]
    result = np.zeros((len(planes), shape[0] * shape[1]))
    n_chunk = max(1, _MAX_POINTS // n_split**2)
    for start in range(0, contents.shape[1], n_chunk):
        part = slice(start, start + n_chunk)
        shares = []
        for axis in (0, 1):
            middle = low[axis, part] + wx * right[axis, part] + wy * up[axis, part] + wx * wy * twist[axis, part]
            shares.append(_shares(middle, *sides[:, axis, part] / n_split))
        _scatter(result, contents[:, part] / n_split**2, *shares, shape)
    return result.reshape(-1, *shape)


def _pixel_vectors(x, y, shape):
    """First corner, the two sides from it and the twist of the pixels (2, n) that touch the target, and which do."""
    corners = np.stack([x[:-1, :-1], x[:-1, 1:], x[1:, :-1], x[1:, 1:], y[:-1, :-1], y[:-1, 1:], y[1:, :-1], y[1:, 1:]])
    corners = corners.reshape(2, 4, -1)
    size = np.array([shape[1], shape[0]])[:, None]
    # A corner that is not on the target's half of the sky is NaN, which compares as false.
    near = np.all((corners.max(axis=1) > -0.5) & (corners.min(axis=1) < size - 0.5), axis=0)
    corners = corners[:, :, near]
    low, right, up = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return low, right, up, corners[:, 3] - corners[:, 1] - up, near


def _scatter(result, contents, shares_x, shares_y, shape):
    """Add parts of source pixels, shared along x and along y, to the flat target planes."""
    for column, share_x in shares_x:
        for row, share_y in shares_y:
            inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
            index, share = row[inside] * shape[1] + column[inside], (share_x * share_y)[inside]
            for plane, content in zip(result, contents, strict=True):
                content = np.broadcast_to(content, inside.shape)[inside]
                plane += np.bincount(index, content * share, minlength=plane.size)


def _shares(middle, side_1, side_2):
    """
    The two pixels under the projection of a parallelogram on one axis, and the share of each.

    The projection of a parallelogram is a trapezoid: two boxes, as wide as its sides are along the axis, convolved.
    """
    long, short = np.maximum(side_1, side_2), np.minimum(side_1, side_2)
    short = np.maximum(short, 1e-5 * long)
    outer, inner = (long + short) / 2, (long - short) / 2
    first = np.floor(middle - outer + 0.5)
    # How much lies beyond the upper edge of the first pixel: the integral of the trapezoid, piecewise quadratic.
    edge = middle - (first + 0.5)
    beyond = sum(sign * np.maximum(edge + knot, 0.0) ** 2 for sign, knot in _knots(outer, inner)) / (2 * long * short)
    beyond = np.clip(beyond, 0.0, 1.0)
    first = first.astype(np.int64)
    return (first, 1.0 - beyond), (first + 1, beyond)


def _knots(outer, inner):
    return (1, outer), (-1, inner), (-1, -inner), (1, -outer)
