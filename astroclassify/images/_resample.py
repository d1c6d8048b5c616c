"""The one resampling kernel: pixel coordinates between images, exact sharing of counts, averages, interpolation."""

import functools

import numpy as np
from astropy import units as u
from astropy.coordinates import ICRS
from astropy.wcs import WCS, NoConvergence
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.polynomial import chebyshev

from astroclassify.exceptions import GeometryError

__all__ = [
    "LEAST_SHARE",
    "TOLERANCE",
    "brightness",
    "centres",
    "corners",
    "find_pixel",
    "find_sky",
    "holds",
    "integrate",
    "interpolate",
    "nearest",
    "pixel_grid",
    "quadrilaterals",
    "resample",
    "same_grid",
    "sky_to_pixels",
    "target_wcs",
    "transform",
    "window",
]

#: Share of a pixel that must be covered or valid; a tie (two of four pixels) counts, whatever the rounding.
LEAST_SHARE = 0.5 - 1e-9
#: Largest error of `pixel_grid` [pixels of the image that is looked up].
TOLERANCE = 0.01
# Degrees of the polynomial that are tried; a smooth transform needs no more than the first.
_DEGREES = (8, 16, 32)
# Pixels of a map smaller than this share of the grid's are averaged: interpolation would leave most of them out.
_FINE = 0.5


def target_wcs(centre, pixel, shape):
    """TAN projection (ICRS), north up, square pixels; ``centre`` (SkyCoord, or RA and Dec in deg) in the middle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [centre.icrs.ra.deg, centre.icrs.dec.deg] if hasattr(centre, "icrs") else centre
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    side = pixel.to_value(u.deg)
    wcs.wcs.cdelt = [-side, side]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def same_grid(wcs, shape, target, target_shape):
    """Whether the two grids agree to a tenth of a pixel at the corners (exact for grids that the package wrote)."""
    if shape != target_shape:
        return False
    x, y = np.array([0.0, shape[1] - 1, 0.0, shape[1] - 1]), np.array([0.0, 0.0, shape[0] - 1, shape[0] - 1])
    there = transform(wcs, target, x, y)
    return bool(np.all(np.hypot(there[0] - x, there[1] - y) < 0.1))


def window(x, y, shape, margin=2):
    """Rows and columns of an image that hold these places (NaN is none), with some pixels to spare; None: not on it."""
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        return None
    slices = []
    for place, length in ((y, shape[0]), (x, shape[1])):
        low, high = np.min(place, where=seen, initial=np.inf), np.max(place, where=seen, initial=-np.inf)
        low, high = int(np.floor(low)) - margin, int(np.ceil(high)) + margin + 1
        if high <= 0 or low >= length:
            return None
        slices.append(slice(max(low, 0), min(high, length)))
    return tuple(slices)


def transform(source, target, x, y):
    """
    Pixels (first: 0) of the WCS ``target`` at pixels of the WCS ``source``, through the sky.

    NaN for places that ``target`` does not map.
    """
    frames = wcs_to_celestial_frame(source), wcs_to_celestial_frame(target)
    if frames[0].is_equivalent_frame(frames[1]):
        longitude, latitude = source.all_pix2world(x, y, 0)[:: 1 if source.wcs.lng == 0 else -1]
        return sky_to_pixels(target, longitude, latitude)
    sky = source.pixel_to_world(x, y).transform_to(frames[1])
    return sky_to_pixels(target, sky.spherical.lon.deg, sky.spherical.lat.deg)


def sky_to_pixels(wcs, longitude, latitude):
    """Pixels (first: 0) at places [deg] in the frame of a WCS, whichever axis is longitude; NaN where there is none."""
    places = (longitude, latitude) if wcs.wcs.lng == 0 else (latitude, longitude)
    try:
        return wcs.all_world2pix(*places, 0)
    except NoConvergence as error:  # distortion polynomials mean nothing far outside their image
        found = np.array(error.best_solution)
        for wrong in (error.divergent, error.slow_conv):
            if wrong is not None:
                found[wrong] = np.nan
        return [each.reshape(np.shape(longitude)) for each in found.T]


def find_pixel(wcs, position):
    """Pixel coordinates (x, y; first: 0) of one SkyCoord, NaN where the WCS does not map it."""
    sky = position.transform_to(wcs_to_celestial_frame(wcs)).spherical
    x, y = sky_to_pixels(wcs, [sky.lon.deg], [sky.lat.deg])
    return np.array([x[0], y[0]], dtype=float)


def find_sky(wcs, x, y):
    """RA and Dec [deg, ICRS] of one pixel (first: 0)."""
    if isinstance(wcs_to_celestial_frame(wcs), ICRS):  # no need of SkyCoord, which takes longer than all the rest
        return tuple(float(each) for each in wcs.all_pix2world(x, y, 0)[:: 1 if wcs.wcs.lng == 0 else -1])
    sky = wcs.pixel_to_world(x, y).icrs
    return float(sky.ra.deg), float(sky.dec.deg)


def corners(target, wcs, shape):
    """Pixels of ``wcs`` at the corners of the pixels of a grid: x and y, shape (ny + 1, nx + 1)."""
    return pixel_grid(target, wcs, np.arange(shape[1] + 1) - 0.5, np.arange(shape[0] + 1) - 0.5)


def pixel_grid(source, target, x, y):
    """
    Pixels of ``target`` at a rectangular grid (columns x, rows y, increasing) of ``source``, to 0.01 pixel, (ny, nx).

    The transform is done exactly at (n + 1)^2 Chebyshev points, n = 8, and the polynomial through them evaluated on the
    grid. The terms of degree above n / 2, sum |c_ij|, bound how much the polynomials of degree n and n / 2 differ; for
    smooth transforms the error of the former is far below it (Trefethen 2013, Approximation Theory and Approximation
    Practice, chapters 7 and 8). The error is also measured at the n^2 points between the Chebyshev points, where it is
    largest. Both must lie below a tenth of the tolerance, or n is doubled; beyond n = 32, and where a point is not on
    the other image's sky, every pixel is transformed exactly.
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
            # Not by BLAS, which sets a thread to work on each core: workers would take them from each other.
            return tuple(np.einsum("kyj,jx->kyx", along_y @ coefficients, along_x.T))
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
    """Signed areas (ny, nx) of pixels with corners (ny + 1, nx + 1) at these places; negative on a mirrored grid."""
    x1, y1 = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
    x2, y2 = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
    return 0.5 * (x1 * y2 - x2 * y1)


def integrate(planes, x, y):
    """
    Contents (n, ny, nx) of the pixels of a grid, and their areas (ny, nx) in image pixels; exact for any rotation.

    ``planes`` (n, height, width) are the contents of the pixels of n images, nothing lies outside; x, y the corners of
    the grid in pixels of the image, shape (ny + 1, nx + 1). Both results are 0 where a corner is not finite.

    The content of an image pixel is spread evenly over it. By Green's theorem the content of a quadrilateral is the
    integral along its sides of F dy, where F is what lies to the left in the same row. F is linear within an image
    pixel, so that the midpoint rule is exact between the lines of the image's grid that a side crosses. Each side is
    followed once and serves the two pixels that share it: what falls inside the grid is conserved to rounding.
    """
    from ._resample_loops import follow

    # The border of zeros stands for all that is outside.
    padded = np.pad(np.moveaxis(planes, 0, -1), ((1, 1), (1, 1), (0, 0)))
    left = np.cumsum(padded, axis=1) - padded
    good = np.isfinite(x) & np.isfinite(y)
    # The corner of the first pixel of the padded image is the origin.
    u, v = (np.where(good, each, -3.0) + 1.5 for each in (x, y))
    area = quadrilaterals(u, v)
    along, across = (np.empty((*shape, len(planes))) for shape in (u[:, 1:].shape, u[1:].shape))
    follow(padded, left, u, v, along, across)
    content = np.moveaxis(along[:-1] - along[1:] + across[:, 1:] - across[:, :-1], -1, 0)
    if not good.all():
        area[~(good[:-1, :-1] & good[:-1, 1:] & good[1:, :-1] & good[1:, 1:])] = 0.0
    sign = np.sign(area)
    return content * sign, area * sign


def interpolate(data, valid, x, y):
    """
    Values at places between pixels, linear along x and y, and the share of their weight that is valid (0: off it).

    ``valid`` is None (all) or of the image's shape; values are 0 where no valid pixel is near.
    """
    from ._resample_loops import fill_between

    valid = np.ones(data.shape, bool) if valid is None else np.ascontiguousarray(valid, bool)
    values, share = np.empty(np.shape(x)), np.empty(np.shape(x))
    places = (np.ascontiguousarray(np.ravel(each), float) for each in (x, y))
    fill_between(np.ascontiguousarray(data, float), valid, *places, values.ravel(), share.ravel())
    return values, share


def resample(data, x, y, *, valid=None, exposure=None, mean=False):
    """
    An image on a grid whose pixels' corners lie at x, y of it: data, valid share, covered share, exposure.

    Parameters
    ----------
    data : (height, width)
        Counts, which are shared out and conserved; with ``mean`` a brightness, which is averaged over valid pixels.
    x, y : (ny + 1, nx + 1)
        Corners in pixels of the image, as `corners` gives them.
    valid : (height, width) of bool, optional
        Pixels that may be used; by default all.
    exposure : (height, width), optional
        Averaged by area, 0 off the image; without it None is returned for it.
    """
    slices = window(x, y, data.shape)
    if slices is None:
        raise GeometryError("the field wanted lies off the image")
    x, y = x - slices[1].start, y - slices[0].start
    data, valid = data[slices], None if valid is None else valid[slices]
    planes = {"data": data}
    if valid is not None and not valid.all():
        planes = {"data": np.where(valid, data, 0.0), "valid": valid}
    if exposure is not None:
        planes["exposure"] = exposure[slices]
    contents, area = integrate(np.stack([*planes.values()], dtype=float), x, y)
    contents = dict(zip(planes, contents, strict=True))
    shares = {
        name: np.divide(contents[name], area, out=np.zeros(area.shape), where=area > 0)
        for name in planes
        if name != "data"
    }
    covered = (area > 0).astype(float) if holds(data.shape, x, y) else _covered(data.shape, x, y)
    share = shares.get("valid", covered)
    result = contents["data"]
    if mean:
        weight = share * area
        result = np.divide(result, weight, out=np.zeros(area.shape), where=share > 1e-6)
    elif planes["data"].min() >= 0:
        # Sums along the sides leave -1e-14 where nothing is, which would be taken for subtracted counts.
        np.maximum(result, 0.0, out=result)
    return result, share, covered, shares.get("exposure")


def _covered(shape, x, y):
    """Share (ny, nx) of each pixel of a grid that lies on an image of this shape: taken as one large pixel, quickly."""
    content, area = integrate(np.ones((1, 1, 1)), (x + 0.5) / shape[1] - 0.5, (y + 0.5) / shape[0] - 0.5)
    return np.divide(content[0], area, out=np.zeros(area.shape), where=area > 0)


def brightness(data, x, y, *, valid=None):
    """
    Values of a map on a grid with corners at x, y of it (0: none), and the share of each that comes from valid pixels.

    Averaged by area where the map's pixels are finer than half of the grid's, else linear between its pixels.
    """
    if window(x, y, data.shape) is None:
        return np.zeros((2, *np.subtract(x.shape, 1)))
    step = max(1, (min(x.shape) - 1) // 8)
    if np.nanmedian(np.abs(quadrilaterals(x[::step, ::step], y[::step, ::step]))) > step**2 / _FINE**2:
        return resample(data, x, y, valid=valid, mean=True)[:2]
    return interpolate(data, valid, *centres(x, y))


def nearest(data, x, y):
    """Pixels of an image that hold the middles of a grid with corners at x, y of it; 0 off the image."""
    x, y = (np.rint(each) for each in centres(x, y))
    inside = (x >= 0) & (x < data.shape[1]) & (y >= 0) & (y < data.shape[0])
    rows, columns = (np.where(inside, each, 0).astype(np.intp) for each in (y, x))
    return np.where(inside, data[rows, columns], 0)


def centres(x, y):
    """Middles (2, ny, nx) of the pixels of a grid with these corners (ny + 1, nx + 1)."""
    corner = np.array([x, y])
    return (corner[:, :-1, :-1] + corner[:, 1:, :-1] + corner[:, :-1, 1:] + corner[:, 1:, 1:]) / 4


def holds(shape, x, y):
    """Whether an image of this shape holds all these places."""
    return x.min() >= -0.5 and y.min() >= -0.5 and x.max() <= shape[1] - 0.5 and y.max() <= shape[0] - 0.5
