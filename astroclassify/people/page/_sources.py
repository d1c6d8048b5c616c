"""The images of a sample as the page shows them: pictures, and what a classifier looks at."""

import functools
import logging
import threading
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales

from astroclassify import tables
from astroclassify._checks import require
from astroclassify.exceptions import AstroclassifyError, GeometryError, SchemaError
from astroclassify.images import Cutout, SkyImage
from astroclassify.images._files import image_from_hdus
from astroclassify.images._open import open_fits
from astroclassify.images._pictures import draw, encode
from astroclassify.images._resample import LEAST_SHARE, brightness, corners
from astroclassify.images.headers._wcs import is_celestial

__all__ = ["Sources", "read_bands"]

log = logging.getLogger(__name__)

# Several voters work at different places, each with the pictures of a few sources ahead.
_N_READ, _N_MAPS = 16, 64


class Sources:
    """
    Images of a SAMPLE table by name, no other files; activation maps are those of ``classifier``, or none.

    ``optical`` gives the optical image of a position and the side of a square, or three do, red, green and blue; they
    are shown in place of the sample's, and the classifier does not see them.
    """

    def __init__(self, sample, classifier=None, optical=None):
        require("PIL.Image", extra="plots")
        self.classifier = classifier
        self._optical = (optical,) if callable(optical) else tuple(optical or ())
        if len(self._optical) not in (0, 1, 3) or not all(map(callable, self._optical)):
            raise TypeError(f"optical must be one or three functions of position and size, got {optical!r}")
        self._folder = Path(sample.meta["folder"]).resolve()
        self._paths = dict(zip(map(str, sample["source_id"]), tables.image_paths(sample), strict=True))
        redshifts = tables.plain_column(sample["redshift"]).astype(float)
        self._redshifts = dict(zip(self._paths, redshifts.tolist(), strict=True))
        self._bands = functools.lru_cache(_N_READ)(self._read)
        self._shown = functools.lru_cache(_N_READ)(self._with_optical)
        self._map = functools.lru_cache(_N_MAPS)(self._find_map)
        # One picture and one map at a time: what several voters ask for at once would otherwise all be in memory.
        self._picture_lock, self._map_lock = threading.Lock(), threading.Lock()

    def about(self, source_id, describe):
        """What a function of a source and its images by band says of them as they are shown."""
        with self._picture_lock:  # threads that share a WCS get wrong numbers or crash in astropy 6.1
            return describe(source_id, self._shown(source_id))

    def png(self, source_id, picture, scale, *, width, class_name="", layer="contours"):
        """PNG file of one picture (see `draw`), with the activation map of a class over it if one is named."""
        found = None
        if class_name:
            with self._map_lock:
                found = self._map(source_id, class_name)
        with self._picture_lock:
            colours = draw(self._shown(source_id), picture, scale, found, layer=layer, width=width)
            return encode(colours, compress_level=3)

    def _read(self, source_id):
        path = self._paths[source_id]
        # The names in the table cannot lead out of the folder; a link could.
        if not path.resolve().is_relative_to(self._folder):
            raise GeometryError(f"the image of {source_id!r} lies outside the sample folder")
        if path == self._folder:
            raise GeometryError(f"{source_id!r} has no image")
        return read_bands(path)

    def _with_optical(self, source_id):
        bands = self._bands(source_id)
        if not self._optical or "xray" not in bands or not is_celestial(bands["xray"].wcs):
            return bands
        xray = bands["xray"]
        wcs, (ny, nx) = xray.wcs.celestial, xray.shape
        pixels = proj_plane_pixel_scales(wcs) * u.deg
        # The image may be turned: its diagonal is covered whatever its orientation.
        place = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs, np.hypot(nx * pixels[0], ny * pixels[1])
        names = ("optical",) if len(self._optical) == 1 else ("red", "green", "blue")
        try:
            given = {
                name: _on_grid(find(*place), wcs, xray.shape) for name, find in zip(names, self._optical, strict=True)
            }
        except (AstroclassifyError, OSError) as error:
            log.warning("%s has no other optical image: %s", source_id, error)
            return bands
        return {"xray": xray, **given}

    def _find_map(self, source_id, class_name):
        if self.classifier is None:
            raise SchemaError("class: there is no classifier")
        with self._picture_lock:
            bands = self._bands(source_id)
        redshift = self._redshifts[source_id]
        image = Cutout(source_id, bands) if len(bands) > 1 else next(iter(bands.values()))
        return self.classifier.activation_map(image, class_name, redshift=redshift if np.isfinite(redshift) else None)


def read_bands(path):
    """Images by band of a file of a sample: a cutout, or a single X-ray image."""
    with open_fits(path) as hdus:
        if not {"SOURCEID", "BANDS"} <= set(hdus[0].header):
            return {"xray": image_from_hdus(hdus, path)}
    return Cutout.read(path).bands


def _on_grid(image, wcs, shape):
    """An optical image on the grid of another one."""
    x, y = corners(wcs, image.wcs.celestial, shape)
    data, share = brightness(image.data, x, y, valid=None if image.mask is None else ~image.mask)
    return SkyImage(data, unit=image.unit, mask=share < LEAST_SHARE, wcs=wcs)
