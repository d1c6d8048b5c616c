"""One image in whatever form it comes: what the reading of pixels understands."""

from os import PathLike

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, NDData
from astropy.wcs import WCS

from astroclassify import images as _images
from astroclassify._checks import check_quantity
from astroclassify.exceptions import GeometryError
from astroclassify.images._checks import counts_factor, image_flags
from astroclassify.schemes import Flag

__all__ = ["ALLOWED", "check_pixel_scale", "is_image", "plain_counts", "understood"]

ALLOWED = (
    "a path, CCDData, NDData, Cutout2D, an HDU, HDUList, Cutout or array, a list or iterator of these, "
    "a table with a column path, or a folder"
)
_HDUS = (fits.HDUList, fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)
_FORMS = (str, PathLike, NDData, Cutout2D, _images.Cutout, *_HDUS)


def is_image(value):
    """Whether something is one image other than an array."""
    return isinstance(value, _FORMS)


def understood(value, pixel_scale=None):
    """
    A path, CCDData, Cutout or array on the grid as it is; anything else as CCDData, or as the error that it causes.

    Arrays are put on a sky of their own where ``pixel_scale`` [deg] says how large their pixels are.
    """
    try:
        if isinstance(value, _HDUS):
            return _images.read_image(value)
        if isinstance(value, Cutout2D):
            return _from_array(value.data, value.wcs)
        if isinstance(value, NDData) and (value.unit is None or not isinstance(value, CCDData)):
            return _from_nddata(value)
        if isinstance(value, np.ndarray) and pixel_scale is not None:
            return _from_array(value, _sky_of(np.shape(value), pixel_scale))
    except (GeometryError, TypeError, ValueError) as error:  # of this image alone: its row will say so
        return error
    return value


def check_pixel_scale(pixel_scale):
    """Side of a pixel [deg] of ``pixel_scale``: an angle, or an angle per pixel."""
    if isinstance(pixel_scale, u.Quantity) and pixel_scale.unit.is_equivalent(u.deg / u.pix):
        pixel_scale = pixel_scale * u.pix
    return check_quantity("pixel_scale", pixel_scale, u.deg, positive=True, shape=())


def plain_counts(array):
    """Array of counts without unit and mask."""
    if np.any(getattr(array, "mask", False)):
        raise GeometryError("images must be an array without masked pixels, got some: use CCDData with a mask")
    array = getattr(array, "unmasked", array)
    return array.value * counts_factor(array.unit) if isinstance(array, u.Quantity) else array


def _from_nddata(value):
    meta, unit = dict(value.meta or {}), value.unit
    if unit is None:
        meta["FLAGS"] = (image_flags(meta) | Flag.NO_UNIT).value
    return CCDData(
        value.data, unit=unit or u.ct, mask=value.mask, wcs=value.wcs, meta=meta, uncertainty=value.uncertainty
    )


def _from_array(array, wcs):
    """Image of an array, Quantity or masked array; without a unit counts are assumed and flagged."""
    mask = getattr(array, "mask", None)
    array = getattr(array, "unmasked", array)  # of astropy's masked arrays and quantities
    unit = array.unit if isinstance(array, u.Quantity) else None
    array = np.asarray(np.ma.getdata(array))
    if array.dtype.kind not in "fiub" or array.ndim != 2:
        raise GeometryError(f"image must be a 2-D array of numbers, got dtype {array.dtype} and shape {array.shape}")
    meta = {"FLAGS": Flag.NO_UNIT.value} if unit is None else {}
    return CCDData(
        array, unit=unit or u.ct, mask=None if mask is None or not np.any(mask) else mask, wcs=wcs, meta=meta
    )


def _sky_of(shape, pixel_scale):
    """Celestial WCS with pixels of this size [deg], the middle of the image at a place of no meaning."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [(side + 1) / 2 for side in shape[::-1]] if len(shape) == 2 else [1, 1]
    wcs.wcs.cdelt = [-pixel_scale, pixel_scale]
    return wcs
