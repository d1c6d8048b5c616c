"""Rectangles cut out of an image along its pixels."""

import numpy as np
from astropy import units as u

from astroclassify._checks import check_quantity, shorten
from astroclassify.exceptions import ArgumentError, GeometryError
from astroclassify.schemes import Flag

from ._checks import as_image, celestial, check_position, image_flags
from ._resample import find_pixel

__all__ = ["cut"]


def cut(image, position, size):
    """
    Cut a rectangle out of an image; unit, mask, uncertainty, WCS, exposure and background stay with it.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        An image with a celestial WCS.
    position : `~astropy.coordinates.SkyCoord`
        The middle of the cutout.
    size : `~astropy.units.Quantity`
        Side, or sides along y and x: an angle.

    Returns
    -------
    SkyImage
        The part that lies on the image; ``meta["FLAGS"]`` has ``off_edge`` if it is not all of it.

    Raises
    ------
    TypeError
        If the position is not one SkyCoord.
    GeometryError
        If there is no celestial WCS or no overlap.
    """
    image = as_image(image)
    wcs = celestial(image)
    sides = check_quantity("size", size, u.deg, positive=True)
    if np.shape(sides) not in ((), (2,)):
        raise ArgumentError(f"size must be one angle or two (along y and x), got {shorten(size)}")
    check_position("position", position)
    place = find_pixel(wcs, position)[::-1]
    slices, trimmed = [], False
    steps = _pixel_sides(wcs, *place[::-1])
    for middle, side, step, length in zip(place, np.broadcast_to(sides, 2), steps, image.shape, strict=True):
        if not np.isfinite(middle + step):
            raise GeometryError(f"position {position.to_string('hmsdms')} lies off the image")
        n = max(1, round(side / step))
        start = int(np.ceil(middle - n / 2))
        if start + n <= 0 or start >= length:
            raise GeometryError(f"position {position.to_string('hmsdms')} lies off the image")
        trimmed |= start < 0 or start + n > length
        slices.append(slice(max(start, 0), min(start + n, length)))
    part = image[tuple(slices)]
    if trimmed:
        part.meta["FLAGS"] = (image_flags(part.meta) | Flag.OFF_EDGE).value
    return part


def _pixel_sides(wcs, x, y):
    """Sides [deg] of the pixel at a place, along y and x."""
    ends = wcs.pixel_to_world([x, x, x - 0.5, x + 0.5], [y - 0.5, y + 0.5, y, y])
    return ends[::2].separation(ends[1::2]).deg
