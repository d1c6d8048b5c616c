"""From an item to pixels on the grid of a model."""

import logging
from dataclasses import replace
from os import PathLike

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData

from astroclassify import images as _images
from astroclassify._checks import first_line
from astroclassify.exceptions import GeometryError
from astroclassify.images._checks import celestial, pixel_area
from astroclassify.schemes import Flag

from ._brightness import with_conditions
from ._forms import plain_counts
from ._preprocess import CALIBRATED
from ._reader import read_file

__all__ = ["attempt", "load_pixels", "opened"]

log = logging.getLogger(__name__)

# Bands whose pixels are not counts: any unit will do, and the flags for counts do not apply.
_NOT_COUNTS = ("optical",)
_OF_ANY_BAND = Flag.OFF_EDGE | Flag.MASKED | Flag.NON_FINITE | Flag.COARSE_PIXELS | Flag.NO_OPTICAL
# Counts have Poisson noise: pixels above this value that share the largest one exactly, so many of them, were clipped.
_CLIPPED_FROM, _CLIPPED_PIXELS = 50, 16


def opened(item, bands, energy=None):
    """The item with its image read where it is a file (of an event list the band ``energy`` [keV]); or its error."""
    if isinstance(item.value, Exception):
        raise item.value
    if isinstance(item.value, (str, PathLike)):
        return replace(item, value=read_file(item.value, bands, energy))
    return item


def _bands_of(item, bands, optional):
    """CCDData of each band, None for one of the ``optional`` ones that is not there or shows nothing."""
    value, needed = item.value, [band for band in bands if band not in optional]
    if isinstance(value, CCDData):
        if len(needed) != 1:
            raise GeometryError(f"image must be a Cutout with the bands {bands}, got a single image")
        found = {needed[0]: value}
    else:
        missing = [band for band in needed if band not in value.bands]
        if missing:
            raise GeometryError(f"cutout must have the bands {bands}, got {tuple(value.bands)}")
        found = value.bands
    images = [found.get(band) for band in bands]
    return [
        None if band in optional and (image is None or _is_blank(_valid(image))) else image
        for image, band in zip(images, bands, strict=True)
    ]


def _valid(image):
    """Pixels of an image that are neither masked nor without a number, flat."""
    valid = image.data if image.mask is None else image.data[~np.broadcast_to(image.mask, image.shape)]
    return valid[np.isfinite(valid)]


def _is_blank(values):
    """Whether pixels show nothing: none is valid, or all are equal."""
    return not values.size or values.min() == values.max()


def _content_flags(values, band):
    """Flags that follow from the valid pixels of a band before it is put on the grid."""
    top = values.max() if values.size else 0
    n_top = np.count_nonzero(values == top)
    if band in _NOT_COUNTS:
        return Flag.NO_OPTICAL if _is_blank(values) else Flag(0)
    clipped = n_top == values.size or (top >= _CLIPPED_FROM and n_top >= _CLIPPED_PIXELS)
    return Flag.SATURATED if clipped else Flag(0)


def _on_grid(image, band, geometry, *, redshift, centre):
    """One band on the grid: pixels (float32, zero where masked), flags, and the image that they are of."""
    flags = _content_flags(_valid(image), band)
    if band in _NOT_COUNTS:
        image = CCDData(image.data, unit=u.adu, mask=image.mask, wcs=image.wcs, meta=image.meta)
    image = _images.standardise(image, geometry, redshift=redshift, centre=centre)
    flags |= Flag(int(image.meta.get("FLAGS", 0)))
    with np.errstate(over="ignore"):
        plane = np.asarray(image.data, dtype=np.float32)
    if image.mask is not None:
        plane = np.where(image.mask, np.float32(0), plane)
    return plane, int(flags & _OF_ANY_BAND if band in _NOT_COUNTS else flags), image


def _array_pixels(item, bands, shape, optional):
    """Pixels and flags of an array, which is on the grid already; a band of it that shows nothing is NaN."""
    array = plain_counts(item.value)
    if array.dtype.kind not in "fiub":
        raise GeometryError(f"image must be an array of numbers, got dtype {array.dtype}")
    pixels = array[None] if array.ndim == 2 else array
    if pixels.shape != (len(bands), *shape):
        raise GeometryError(
            f"image must have the shape of the model's grid {(len(bands), *shape)}, got {item.value.shape}: "
            "say pixel_scale, such as 4 * u.arcsec, or use CCDData with a WCS"
        )
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    flags = item.flags
    for number, band in enumerate(bands):
        plane = pixels[number]
        if band in optional and _is_blank(plane[~np.isnan(plane)]):
            pixels = pixels.copy()  # it may be the user's
            pixels[number], flags = np.nan, flags | int(Flag.NO_OPTICAL)
            continue
        if not np.all(np.isfinite(plane)):
            raise GeometryError(f"image {item.source_id!r} must be finite, got NaN or infinite pixels")
        flags |= int(_content_flags(plane, band))
        if band not in _NOT_COUNTS and np.any(plane < 0):
            flags |= int(Flag.NEGATIVE)
    return pixels, flags


def load_pixels(item, *, bands, geometry, energy=None, stretch="log", optional=()):
    """
    Read one image and put it on the grid of a model.

    Returns float32 counts (n_planes, ny, nx), zero where masked (``optical`` in any unit), flags of the image and the
    resampling, and the `Header` of the first band of counts, None for an array on the grid. Event lists are read in the
    band ``energy`` [keV], or that of their instrument where it is a dict. With a ``stretch`` of `CALIBRATED` the other
    `PLANES` follow the counts. A band of the ``optional`` ones may be absent or show nothing: it is NaN, and flagged.
    """
    shape = tuple(geometry.shape)
    item = opened(item, [band for band in bands if band not in optional], energy)
    if item.centre is not None and (isinstance(item.value, np.ndarray) or not item.on_sky):
        raise GeometryError("centre is for images with a celestial WCS, which an array has not")
    if isinstance(item.value, np.ndarray):
        pixels, flags = _array_pixels(item, bands, shape, optional)
        if stretch in CALIBRATED:
            pixels = with_conditions(pixels[0], redshift=item.redshift)
        return pixels, flags, None
    centre = None if item.centre is None else SkyCoord(*item.centre, unit=u.deg)
    flags, headers, planes, pixel = item.flags, {}, [], 0.0
    for image, band in zip(_bands_of(item, bands, optional), bands, strict=True):
        if image is None:
            planes.append(np.full(shape, np.nan, np.float32))
            flags |= int(Flag.NO_OPTICAL)
            continue
        headers[band] = _images.read_header(image.meta)
        plane, plane_flags, grid = _on_grid(image, band, geometry, redshift=item.redshift, centre=centre)
        if plane.shape != shape or not np.all(np.isfinite(plane)):
            raise GeometryError(f"image {item.source_id!r} must be finite and of shape {shape} on the model's grid")
        flags |= plane_flags
        planes.append(plane)
        pixel = 3600 * float(np.sqrt(pixel_area(celestial(image))))
    counts = [band for band in bands if band not in _NOT_COUNTS]
    header = headers[counts[0] if counts else bands[0]]
    if stretch in CALIBRATED:
        return with_conditions(planes[0], grid, header, float(grid.meta["REDSHIFT"]), pixel), flags, header
    return np.stack(planes), flags, header


def attempt(function, item):
    """What a function makes of an item and "", or None and why in one line: one bad file must not end a run."""
    try:
        return function(item), ""
    except Exception as error:  # files hold anything, and so do the exceptions of those who read them
        message = f"{type(error).__name__}: {first_line(error)}"
        log.warning("%s failed: %s", item.source_id, message)
        return None, message
