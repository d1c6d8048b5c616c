"""Images onto a grid: a fast pixel transform of known error, exact sharing of counts, interpolation of plates."""

import functools

import numpy as np
from astropy.wcs import NoConvergence
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.polynomial import chebyshev
from scipy.ndimage import map_coordinates

__all__ = ["TOLERANCE", "integrate", "interpolate", "pixel_grid", "quadrilaterals", "sky_to_pixels", "transform"]

#: Largest error of `pixel_grid` [pixels of the image that is looked up].
TOLERANCE = 0.01
# Degrees of the polynomial that are tried; a smooth transform needs no more than the first.
_DEGREES = (8, 16, 32)
# Edges followed at once: what they need stays in the processor's cache.
_CHUNK = 2**15


def transform(source, target, x, y):
    """
    Pixel coordinates in one image of pixels of another, through the sky.

    Parameters
    ----------
    source, target : `~astropy.wcs.WCS`
        Celestial coordinate systems.
    x, y : `~numpy.ndarray`
        Pixels of ``source``; 0 is the middle of the first.

    Returns
    -------
    x, y : `~numpy.ndarray`
        Pixels of ``target``; NaN for places that it does not map.
    """
    frames = wcs_to_celestial_frame(source), wcs_to_celestial_frame(target)
    if source.wcs.lng == target.wcs.lng == 0 and frames[0].is_equivalent_frame(frames[1]):
        return sky_to_pixels(target, *source.all_pix2world(x, y, 0))
    sky = source.pixel_to_world(x, y).transform_to(frames[1])
    return sky_to_pixels(target, sky.spherical.lon.deg, sky.spherical.lat.deg)


def sky_to_pixels(wcs, longitude, latitude):
    """
    Pixel coordinates of places in the frame of a coordinate system.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial coordinate system.
    longitude, latitude : `~numpy.ndarray`
        Places [deg].

    Returns
    -------
    x, y : `~numpy.ndarray`
        Pixels; NaN for places that it does not map.
    """
    places = (longitude, latitude) if wcs.wcs.lng == 0 else (latitude, longitude)
    try:
        return wcs.all_world2pix(*places, 0)
    except NoConvergence as error:  # distortion polynomials mean nothing far outside their image
        found = np.array(error.best_solution)
        for wrong in (error.divergent, error.slow_conv):
            if wrong is not None:
                found[wrong] = np.nan
        return [each.reshape(np.shape(longitude)) for each in found.T]


def pixel_grid(source, target, x, y):
    """
    Pixel coordinates in one image of a rectangular grid of pixels of another, to 0.01 pixel.

    The transform is done exactly at (n + 1)^2 Chebyshev points, n = 8, and the polynomial through them evaluated on the
    grid. If f is the transform, with coefficients c_ij of the polynomial, then what the terms of degree above n / 2
    contribute, sum |c_ij|, bounds everywhere how much the polynomials of degree n and n / 2 differ; for transforms that
    are smooth the error of the former is far below it, as coefficients fall off geometrically (Trefethen 2013,
    Approximation Theory and Approximation Practice, chapters 7 and 8). Besides, the error is measured at the n^2 points
    in the middle between the Chebyshev points, where it is largest. Both must lie below a tenth of the tolerance, or n
    is doubled; from n = 32 on, and where a point is not on the other image's sky, every pixel is transformed exactly.

    Parameters
    ----------
    source, target : `~astropy.wcs.WCS`
        Celestial coordinate systems.
    x, y : `~numpy.ndarray`, shapes (nx,) and (ny,)
        Columns and rows of the grid in pixels of ``source``, increasing.

    Returns
    -------
    x, y : `~numpy.ndarray`, shape (ny, nx)
        Pixels of ``target``.
    """
    low, span = np.array([x[0], y[0]]), np.array([x[-1] - x[0], y[-1] - y[0]])
    for degree in _DEGREES:
        if (degree + 1) ** 2 >= len(x) * len(y):
            break
        nodes, between, to_coefficients = _chebyshev(degree)
        points = [
            np.concatenate([np.repeat(nodes, degree + 1), np.repeat(between, degree)]),
            np.concatenate([np.tile(nodes, degree + 1), np.tile(between, degree)]),
        ]
        exact = transform(source, target, *(low[i] + span[i] * (points[1 - i] + 1) / 2 for i in (0, 1)))
        if not np.all(np.isfinite(exact)):
            break
        at_nodes, at_between = (
            part.reshape(2, side, side)
            for side, part in zip((degree + 1, degree), np.split(np.array(exact), [(degree + 1) ** 2], 1), strict=True)
        )
        coefficients = to_coefficients @ at_nodes @ to_coefficients.T
        half = degree // 2 + 1
        tail = np.abs(coefficients).sum(axis=(1, 2)) - np.abs(coefficients[:, :half, :half]).sum(axis=(1, 2))
        check = chebyshev.chebvander(between, degree)
        error = max(tail.max(), np.abs(check @ coefficients @ check.T - at_between).max())
        if error < TOLERANCE / 10:
            along_x, along_y = (
                chebyshev.chebvander(2 * (each - each[0]) / (each[-1] - each[0]) - 1, degree) for each in (x, y)
            )
            return tuple(along_y @ coefficients @ along_x.T)
    columns, rows = np.meshgrid(x, y)
    return transform(source, target, columns, rows)


@functools.lru_cache(maxsize=len(_DEGREES))
def _chebyshev(degree):
    """Chebyshev points of the second kind, points between them, and the matrix from values to coefficients."""
    angle = np.pi * np.arange(degree, -1, -1) / degree
    nodes = np.cos(angle)
    between = np.cos(angle[:-1] - np.pi / (2 * degree))
    return nodes, between, np.linalg.inv(chebyshev.chebvander(nodes, degree))


def quadrilaterals(x, y):
    """
    Signed areas of the pixels of a grid whose corners lie at these places.

    Parameters
    ----------
    x, y : `~numpy.ndarray`, shape (ny + 1, nx + 1)
        Corners.

    Returns
    -------
    `~numpy.ndarray`, shape (ny, nx)
        Areas; negative where the grid is mirrored.
    """
    x1, y1 = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
    x2, y2 = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
    return 0.5 * (x1 * y2 - x2 * y1)


def integrate(planes, x, y):
    """
    Content of an image inside each pixel of another grid, exact for any rotation and any ratio of the pixels.

    The content of an image pixel is spread evenly over it. By Green's theorem the content of a quadrilateral is the
    integral along its sides of F dy, where F is what lies to the left in the same row. F is linear within an image
    pixel, so that the midpoint rule is exact between the lines of the image's grid that a side crosses. Each side is
    followed once and serves the two pixels that share it: what falls inside the grid is conserved to rounding.

    Parameters
    ----------
    planes : `~numpy.ndarray`, shape (n, height, width)
        Contents of the pixels of n images; nothing lies outside.
    x, y : `~numpy.ndarray`, shape (ny + 1, nx + 1)
        Corners of the grid in pixels of the image; 0 is the middle of the first.

    Returns
    -------
    contents : `~numpy.ndarray`, shape (n, ny, nx)
        Contents of the pixels of the grid.
    areas : `~numpy.ndarray`, shape (ny, nx)
        Their areas in pixels of the image. Both are 0 for a pixel with a corner that is not finite.
    """
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    left = np.cumsum(padded, axis=2) - padded
    shape = padded.shape[1:]
    good = np.isfinite(x) & np.isfinite(y)
    # The corner of the first pixel of the padded image is the origin.
    u, v = (np.where(good, each, -3.0) + 1.5 for each in (x, y))
    tables = padded.reshape(len(planes), -1), left.reshape(len(planes), -1)
    along = _sides(tables, shape, u[:, :-1], v[:, :-1], u[:, 1:], v[:, 1:])
    across = _sides(tables, shape, u[:-1], v[:-1], u[1:], v[1:])
    content = along[:, :-1] - along[:, 1:] + across[:, :, 1:] - across[:, :, :-1]
    area = quadrilaterals(u, v)
    if not good.all():
        area[~(good[:-1, :-1] & good[:-1, 1:] & good[1:, :-1] & good[1:, 1:])] = 0.0
    sign = np.sign(area)
    return content * sign, area * sign


def _sides(tables, shape, u0, v0, u1, v1):
    """Integral of F dy along each side of the pixels of the grid."""
    result = np.empty((len(tables[0]), u0.size))
    ends = [np.ravel(each) for each in (u0, v0, u1, v1)]
    for start in range(0, u0.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        result[:, part] = _follow(tables, shape, *(each[part] for each in ends))
    return result.reshape(-1, *u0.shape)


def _follow(tables, shape, u0, v0, u1, v1):
    """Integrals along straight lines, followed from cell to cell (Amanatides & Woo 1987, Eurographics 87, 3)."""
    values, left = tables
    du, dv = u1 - u0, v1 - v0
    column, row = np.floor(u0), np.floor(v0)
    with np.errstate(divide="ignore"):
        pace_u, pace_v = 1 / np.abs(du), 1 / np.abs(dv)
    # Where, as a share of the line, it crosses into the next column and row; inf: never (0 * inf is not wanted).
    next_u = np.where(du == 0, np.inf, np.where(du > 0, column + 1 - u0, u0 - column) * np.minimum(pace_u, 1e300))
    next_v = np.where(dv == 0, np.inf, np.where(dv > 0, row + 1 - v0, v0 - row) * np.minimum(pace_v, 1e300))
    done = np.zeros(u0.size)
    result = np.zeros((len(values), u0.size))
    lines = np.arange(u0.size)
    while lines.size:
        end = np.minimum(np.minimum(next_u, next_v), 1.0)
        cell = np.clip(row, 0, shape[0] - 1) * shape[1] + np.clip(column, 0, shape[1] - 1)
        cell = cell.astype(np.intp)
        inside, height = u0 + du * (done + end) / 2 - column, dv * (end - done)
        for total, value, before in zip(result, values, left, strict=True):
            total[lines] += (before[cell] + value[cell] * inside) * height
        on = np.flatnonzero(end < 1.0)
        lines, done = lines[on], end[on]
        u0, du, pace_u, next_u, column = (each[on] for each in (u0, du, pace_u, next_u, column))
        dv, pace_v, next_v, row = (each[on] for each in (dv, pace_v, next_v, row))
        sideways = next_u <= next_v
        column = column + np.where(sideways, np.sign(du), 0.0)
        row = row + np.where(sideways, 0.0, np.sign(dv))
        next_u, next_v = np.where(sideways, next_u + pace_u, next_u), np.where(sideways, next_v, next_v + pace_v)
    return result


def interpolate(data, valid, x, y):
    """
    Values of an image at places between its pixels, linear along x and y, from valid pixels alone.

    Parameters
    ----------
    data : `~numpy.ndarray`, shape (height, width)
        The image.
    valid : `~numpy.ndarray` of bool, or None
        Which pixels may be used; None: all.
    x, y : `~numpy.ndarray`
        Places in pixels; 0 is the middle of the first.

    Returns
    -------
    values, share : `~numpy.ndarray`
        Values, 0 where there is none, and which share of their weight came from valid pixels: 0 off the image.
    """
    height, width = data.shape
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    places = [np.where(inside, y, 0.0), np.where(inside, x, 0.0)]
    share = inside.astype(float)
    if valid is None:
        return map_coordinates(data, places, order=1, mode="nearest") * inside, share
    share *= map_coordinates(valid.astype(float), places, order=1, mode="nearest")
    values = map_coordinates(np.where(valid, data, 0.0), places, order=1, mode="nearest") * inside
    return np.divide(values, share, out=np.zeros_like(values), where=share > 1e-6), share
