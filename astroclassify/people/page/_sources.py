"""The sources of a sample as the page shows them: pictures, facts, and what a classifier looks at."""

import functools
import threading
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales

from astroclassify import tables
from astroclassify._checks import require
from astroclassify.exceptions import GeometryError, SchemaError
from astroclassify.images import Cutout
from astroclassify.images._files import image_from_hdus
from astroclassify.images._open import open_fits
from astroclassify.images._pictures import draw, encode, valid_values
from astroclassify.images.headers._wcs import is_celestial

__all__ = ["Sources", "read_bands"]

_N_READ, _N_MAPS = 8, 64


class Sources:
    """Images of a SAMPLE table by name, no other files; activation maps are those of ``classifier``, or none."""

    def __init__(self, sample, classifier=None):
        require("PIL.Image", extra="plots")
        self.classifier = classifier
        self._folder = Path(sample.meta["folder"]).resolve()
        self._paths = dict(zip(map(str, sample["source_id"]), tables.image_paths(sample), strict=True))
        redshifts = tables.plain_column(sample["redshift"]).astype(float)
        self._redshifts = dict(zip(self._paths, redshifts.tolist(), strict=True))
        self._bands = functools.lru_cache(_N_READ)(self._read)
        self._map = functools.lru_cache(_N_MAPS)(self._find_map)
        # One picture and one map at a time: what several voters ask for at once would otherwise all be in memory.
        self._picture_lock, self._map_lock = threading.Lock(), threading.Lock()

    def facts(self, source_id):
        """Position, size and counts of a source, as texts by name."""
        with self._picture_lock:
            bands = self._bands(source_id)
        image = next(iter(bands.values()))
        facts = {"bands": ", ".join(bands), "pixels": f"{image.shape[1]} \N{MULTIPLICATION SIGN} {image.shape[0]}"}
        if is_celestial(image.wcs):
            ny, nx = image.shape
            wcs = image.wcs.celestial
            centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
            facts["position"] = f"{centre.ra.deg:.5f} {centre.dec.deg:+.5f}"
            sides = np.array([nx, ny]) * proj_plane_pixel_scales(wcs) * 60
            facts["field"] = f"{sides[0]:.3g}' \N{MULTIPLICATION SIGN} {sides[1]:.3g}'"
        if "xray" in bands and bands["xray"].unit == u.ct:
            values, valid = valid_values(bands["xray"])
            facts["counts"] = f"{values[valid].sum():.0f}"
        return facts

    def png(self, source_id, picture, scale, class_name=""):
        """PNG file of one picture (see `draw`), with the activation map of a class over it if one is named."""
        found = None
        if class_name:
            with self._map_lock:
                found = self._map(source_id, class_name)
        with self._picture_lock:
            return encode(draw(self._bands(source_id), picture, scale, found), compress_level=3)

    def _read(self, source_id):
        path = self._paths[source_id]
        # The names in the table cannot lead out of the folder; a link could.
        if not path.resolve().is_relative_to(self._folder):
            raise GeometryError(f"the image of {source_id!r} lies outside the sample folder")
        if path == self._folder:
            raise GeometryError(f"{source_id!r} has no image")
        return read_bands(path)

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
