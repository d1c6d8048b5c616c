"""`SkyImage`: a `CCDData` with an exposure map and a background that stay with its pixels."""

import copy
import warnings
from itertools import starmap

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData

from astroclassify._checks import shorten
from astroclassify.exceptions import GeometryError, ImageWarning

from ._described import in_words, picture_html
from .headers._cards import EXPOSURE_MAP, make_header

__all__ = ["MAPS", "SkyImage", "map_planes", "sky_image"]

MAPS = {"exposure": ("EXPMAP", u.s, "s"), "background": ("BKGMAP", u.ct, "count")}
"""Maps of an image: their extension in a file, unit, and how it is spelled there."""


_NO_TABLES = (None,) * 4


class SkyImage(CCDData):
    """
    Image of the sky with the exposure and the background of its pixels.

    A `~astropy.nddata.CCDData` in all else. The two maps are sliced, copied, pickled and written (``write``, in the
    extensions ``EXPMAP`` and ``BKGMAP``) with the image; arithmetic drops them, as it drops ``meta``, because what they
    are for the result is for the user to say. `read_image` and ``SkyImage.read`` read all of it, ``CCDData.read`` the
    image itself.

    Parameters
    ----------
    data, uncertainty, mask, wcs, meta, unit, copy, ...
        As for `~astropy.nddata.CCDData`. Of an image (``SkyImage(image, exposure=...)``) all is taken over.
    exposure : `~numpy.ndarray`, `~astropy.units.Quantity` or `~astropy.nddata.NDData`, optional
        Exposure of every pixel, vignetting included: an array (seconds, masked or not), a Quantity, also one time for
        all pixels, or an image with a unit of time.
    background : `~numpy.ndarray`, `~astropy.units.Quantity` or `~astropy.nddata.NDData`, optional
        Expected counts per pixel of all that is no source: an array (masked or not), or with a unit of counts.

    Attributes
    ----------
    exposure : `~numpy.ndarray` or None
        Exposure [s], float64, of the image's shape; zero where masked or not finite.
    background : `~numpy.ndarray` or None
        Expected counts per pixel, float64, of the image's shape; NaN where masked.
    meta : `~astropy.io.fits.Header`
        Made of any mapping; what FITS cannot hold becomes text, NaN a card without a value. An array in
        ``meta["exposure_map"]`` is taken as the exposure map.

    Raises
    ------
    GeometryError
        If a map has another shape than the image, or another kind of unit.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astroclassify.images import SkyImage
    >>> image = SkyImage(np.ones((40, 50)), unit="ct", exposure=10 * u.ks)
    >>> part = image[10:20, :5]
    >>> part.exposure.shape, float(part.exposure[0, 0])
    ((10, 5), 10000.0)
    """

    def __init__(self, data, *args, exposure=None, background=None, **kwargs):
        super().__init__(data, *args, **kwargs)
        meta = data.meta if isinstance(data, NDData) and "meta" not in kwargs else kwargs.get("meta")
        if exposure is None and not isinstance(meta, fits.Header) and meta:
            exposure = meta.get(EXPOSURE_MAP)
        maps = {"exposure": exposure, "background": background}
        for name, value in maps.items():
            value = getattr(data, name) if value is None and isinstance(data, SkyImage) else value
            setattr(self, name, copy.deepcopy(value) if kwargs.get("copy") else value)

    def __repr__(self):
        return f"<{type(self).__name__} {in_words(self)}>"

    __str__ = __repr__

    def _repr_html_(self):
        return picture_html(repr(self), {"xray": self})

    @property
    def meta(self):
        """Header of the image."""
        return self._meta

    @meta.setter
    def meta(self, value):
        self._meta = value if isinstance(value, fits.Header) else make_header(value)

    @property
    def exposure(self):
        """Exposure [s] of every pixel, or None."""
        return self._exposure

    @exposure.setter
    def exposure(self, value):
        values = _plain_map("exposure", value, self.shape)
        self._exposure = values if values is None or np.isfinite(values).all() else _finite(values)

    @property
    def background(self):
        """Expected counts per pixel of all that is no source, or None."""
        return self._background

    @background.setter
    def background(self, value):
        self._background = _plain_map("background", value, self.shape)

    def _slice(self, item):
        return super()._slice(item) | {
            name: None if getattr(self, name) is None else getattr(self, name)[item] for name in MAPS
        }

    def to_hdu(self, *args, **kwargs):
        """HDUs of the image and its maps; see `astropy.nddata.CCDData.to_hdu`."""
        plain = copy.copy(self)
        plain.meta = make_header(self.meta)  # without keywords of another array or coordinate system
        maps = starmap(fits.ImageHDU, map_planes(self))
        return fits.HDUList([*super(SkyImage, plain).to_hdu(*args, **kwargs), *maps])


def sky_image(image):
    """A `SkyImage` of any NDData, itself if it is one."""
    return image if isinstance(image, SkyImage) else SkyImage(image)


def map_planes(image, prefix=""):
    """Values in single precision, header and name (beginning with ``prefix``) of each map that an image has."""
    planes = []
    if (
        image.wcs is not None
        and (image.wcs.cpdis1, image.wcs.cpdis2, image.wcs.det2im1, image.wcs.det2im2) != _NO_TABLES
    ):
        warnings.warn("lookup tables of the distortion (CPDIS, D2IM) are not written", ImageWarning, stacklevel=5)
    for name, (extension, _, unit) in MAPS.items():
        if (values := getattr(image, name)) is not None:
            planes.append((values.astype(np.float32), fits.Header([("BUNIT", unit)]), f"{prefix}{extension}"))
    return planes


def _finite(values):
    return np.where(np.isfinite(values), values, 0.0)


def _plain_map(name, value, shape):
    """Map as a float64 array of the image's shape, NaN where masked; None stays None."""
    if value is None or type(value) is np.ndarray and value.dtype == np.float64 and value.shape == shape:
        return value
    unit, masked = getattr(value, "unit", None), getattr(value, "mask", None)
    values = value.data if isinstance(value, NDData) else getattr(value, "unmasked", value)
    if np.shape(values) != shape and not (np.ndim(values) == 0 and unit is not None):
        raise GeometryError(f"{name} must have the image's shape {shape}, got {shorten(np.shape(values))}")
    wanted = MAPS[name][1]
    if unit not in (None, wanted) and not unit.is_equivalent(wanted):
        raise GeometryError(f"{name} must be in {wanted.to_string('generic')}, got {unit}")
    factor = 1.0 if unit is None else unit.to(wanted)
    values = np.asarray(getattr(values, "value", values), dtype=np.float64) * factor
    if masked is not None and np.any(masked):
        values = np.where(masked, np.nan, values)
    return np.array(np.broadcast_to(values, shape))
