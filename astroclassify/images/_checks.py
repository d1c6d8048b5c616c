"""What an image must be and what it carries: the checks that reading, cutting and resampling share."""

import functools

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.wcs.utils import proj_plane_pixel_scales

from astroclassify._checks import shorten
from astroclassify.exceptions import GeometryError
from astroclassify.schemes import Flag

from ._sky_image import SkyImage, sky_image
from .headers._cards import make_header
from .headers._wcs import is_celestial, plane

SQUARE = 0.02
"""By which share the sides of a pixel may differ where pixels are taken to be square."""


def check_image(image):
    """Raise if something is not a two-dimensional image with a unit."""
    if not isinstance(image, NDData):
        raise TypeError(f"image must be CCDData or NDData, got {type(image).__name__}")
    if np.ndim(image.data) != 2 or 0 in np.shape(image.data):
        raise GeometryError(f"image must be two-dimensional and not empty, got shape {np.shape(image.data)}")
    if image.unit is None:
        raise GeometryError("image must have a unit, for example astropy.units.ct")


def full_mask(image):
    """Mask of an image as an array of its shape, true where a pixel is not to be used."""
    if image.mask is None:
        return np.zeros(np.shape(image.data), bool)
    return np.array(np.broadcast_to(image.mask, np.shape(image.data)), dtype=bool)


def image_flags(meta):
    """Flags that an image carries; a header's FLAGS that is none of this package's is not one."""
    try:
        value = int(meta.get("FLAGS", 0))
    except (TypeError, ValueError):
        return Flag(0)
    return Flag(value) if 0 <= value <= sum(Flag) else Flag(0)


def as_image(image):
    """
    Check that something is an image that the package can use.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData` or `~astropy.nddata.NDData`
        Two-dimensional, with a unit.

    Returns
    -------
    SkyImage
        Native-endian float64 data; pixels that are not finite are masked and flagged (``meta["FLAGS"]``). An array in
        ``meta["exposure_map"]`` becomes its exposure map. The input is not changed.

    Raises
    ------
    TypeError
        If it is not NDData.
    GeometryError
        If it is empty, not two-dimensional, has no unit or no valid pixel, or its exposure map another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astroclassify.images import as_image
    >>> as_image(CCDData(np.array([[1, 2], [3, 4]]), unit=u.ct)).data.dtype
    dtype('float64')
    """
    return usable_image(image, copy=True)


def usable_image(image, *, copy=False):
    """See `as_image`; without a copy, data and meta may be those of the image itself and must not be written to."""
    check_image(image)
    data = np.array(image.data, dtype=np.float64) if copy else np.asarray(image.data, dtype=np.float64)
    mask = None if image.mask is None else full_mask(image)
    finite, unknown = np.isfinite(data), False
    if not finite.all():
        unknown = mask is None or np.any(~finite & ~mask)
        mask = ~finite if mask is None else mask | ~finite
        data = np.where(finite, data, 0.0)
    if mask is not None and mask.all():
        raise GeometryError("image has no valid pixel: all are masked or not finite")
    mask = mask if mask is not None and mask.any() else None
    source = sky_image(image)
    maps = {"exposure": source.exposure, "background": source.background}
    meta = make_header(source.meta) if (copy or unknown) and source.meta is image.meta else source.meta
    if unknown:
        meta["FLAGS"] = (image_flags(meta) | Flag.NON_FINITE).value
    if copy:
        maps = {name: None if values is None else values.copy() for name, values in maps.items()}
    result = SkyImage(data, unit=image.unit, mask=mask, wcs=image.wcs, meta=meta, **maps)
    result.uncertainty = image.uncertainty
    return result


def check_position(name, position):
    """Raise unless something is one finite SkyCoord."""
    if not isinstance(position, SkyCoord) or not position.isscalar:
        raise TypeError(f"{name} must be one SkyCoord, got {shorten(position)}")
    for angle in (position.spherical.lon, position.spherical.lat):
        if np.any(getattr(angle, "mask", False)) or not np.isfinite(angle):
            raise GeometryError(f"{name} must be a finite position, got {shorten(position)}")


def celestial(image):
    """Celestial WCS of an image, or an error that names the lack."""
    if not is_celestial(image.wcs):
        raise GeometryError("image must have a celestial WCS (keywords CTYPE1 = 'RA---TAN' and so on)")
    return plane(image.wcs)


def pixel_area(wcs):
    """Area of a pixel [deg2] at the reference point of a celestial WCS."""
    return abs(np.linalg.det(wcs.pixel_scale_matrix))


def pixel_scale(image):
    """
    Side of a pixel at the reference point: the root of its area.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        An image with a celestial WCS.

    Returns
    -------
    `~astropy.units.Quantity`
        In arcsec; for pixels that are not square that of a square of the same area.

    Raises
    ------
    GeometryError
        If there is no celestial WCS.
    """
    return np.sqrt(pixel_area(celestial(image))) * 3600 * u.arcsec


def square_pixels(image):
    """Side of a pixel [arcsec], or an error where the sides differ: for measures that take pixels to be square."""
    sides = 3600 * proj_plane_pixel_scales(celestial(image))
    pixel = pixel_scale(image).to_value(u.arcsec)
    if np.ptp(sides) > SQUARE * sides.max() or np.prod(sides) > (1 + SQUARE) * pixel**2:  # the latter: they are skewed
        raise GeometryError(f"image must have square pixels, got {sides[0]:.4g} by {sides[1]:.4g} arcsec")
    return pixel


def valid_pixels(image):
    """Pixels that are neither masked nor without exposure."""
    valid = ~full_mask(image)
    if image.exposure is not None:
        valid &= image.exposure > 0
    return valid


@functools.lru_cache(maxsize=64)
def counts_factor(unit):
    """Counts per unit of the image; a photon is a count."""
    for count in (u.ct, u.photon):
        if unit.is_equivalent(count):
            return unit.to(count)
    hint = "give the image of counts"
    if any(unit.is_equivalent(count / u.s) for count in (u.ct, u.photon)):
        hint += (
            ", or multiply a rate by its exposure: SkyImage(image.data * image.exposure, unit='ct', mask=image.mask, "
            "wcs=image.wcs, meta=image.meta, exposure=image.exposure)"
        )
    raise GeometryError(f"image must be in counts (unit ct), got {unit}: {hint}")
