"""Where the cells of a map lie on the image that it is a map of, and maps as images."""

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from astropy import units as u
from astropy.wcs import WCS

from astroclassify.images import DEFAULT_COSMOLOGY, Cutout, Geometry, SkyImage, standardise

from ..inputs._pixels import opened
from ..networks._build import architecture_name

__all__ = ["Cells", "cells_of", "load_one", "map_image", "map_meta"]

# (pixels from one cell to the next, pixel on which the first is centred) of the last feature maps.
_STRIDED = (32, 0.0)
_LAYOUTS = {
    "resnet18": _STRIDED,
    "mobilenet": _STRIDED,
    "mobilenet_v2": _STRIDED,
    "kosiba2020": (32, 15.5),
    "attention": (4, 1.5),
    "profile": (4, 1.5),
}


@dataclass(frozen=True)
class Cells:
    """Grid of a map on an image: cell (i, j) is centred on pixel (first[0] + i pitch[0], first[1] + j pitch[1])."""

    shape: tuple
    image_shape: tuple
    pitch: tuple
    first: tuple

    @classmethod
    def blocks(cls, shape, image_shape, pitch=None):
        """Cells that are blocks of ``pitch`` pixels from the corner; by default the image is divided evenly."""
        pitch = tuple(n / m for n, m in zip(image_shape, shape, strict=True)) if pitch is None else tuple(pitch)
        return cls(tuple(shape), tuple(image_shape), pitch, tuple((p - 1) / 2 for p in pitch))

    @property
    def middle(self):
        """Where the middle of the image lies, in cells along y and x, counted from the centre of the first."""
        sides = zip(self.image_shape, self.first, self.pitch, strict=True)
        return tuple(((n - 1) / 2 - first) / pitch for n, first, pitch in sides)

    def wcs(self, image_wcs):
        """WCS of the cells from that of the image on the model's grid; distortions (< 0.1 pixel there) are dropped."""
        wcs = image_wcs.celestial.deepcopy()
        wcs.sip = wcs.cpdis1 = wcs.cpdis2 = wcs.det2im1 = wcs.det2im2 = None
        pitch, first = np.array(self.pitch[::-1]), np.array(self.first[::-1])
        wcs.wcs.crpix = (wcs.wcs.crpix - 1 - first) / pitch + 1
        if wcs.wcs.has_cd():
            wcs.wcs.cd = wcs.wcs.cd * pitch
        else:
            wcs.wcs.cdelt = wcs.wcs.cdelt * pitch[0]
            if pitch[0] != pitch[1]:
                wcs.wcs.pc = wcs.wcs.get_pc() * (pitch / pitch[0])
        wcs.wcs.set()
        return wcs

    def offset_wcs(self, geometry):
        """Linear WCS of offsets from the middle of the field in kpc or arcmin; x grows to the west, y to the north."""
        unit = _unit(geometry)
        pixel = geometry.width.to_value(unit) / geometry.shape[1]
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.cunit = ["XOFFSET", "YOFFSET"], [str(unit)] * 2
        wcs.wcs.crval, wcs.wcs.crpix = [0.0, 0.0], [place + 1 for place in self.middle[::-1]]
        wcs.wcs.cdelt = [pixel * pitch for pitch in self.pitch[::-1]]
        wcs.wcs.set()
        return wcs


def _unit(geometry):
    return u.kpc if geometry.is_physical else u.arcmin


def cells_of(architecture, shape, image_shape):
    """
    Cells of the feature maps of a network, each at the centre of its receptive field (Araujo et al. 2019, Distill).

    In ResNet-18 and the MobileNets each halving is centred on every second pixel from the first: cell ``j`` is centred
    on pixel ``32 j``, half a cell (62 kpc of 1 Mpc in 256 pixels) from the middle of a block. The other networks of
    this package halve by blocks. Cells of a network of the user are assumed to divide the image evenly.
    """
    if min(shape) > 1 and isinstance(architecture, str) and architecture in _LAYOUTS:
        pitch, first = _LAYOUTS[architecture]
        # Only if so many cells fit: a network that was changed under the same name is not this one.
        if all(abs(m - n / pitch) < 1 for m, n in zip(shape, image_shape, strict=True)):
            return Cells(tuple(shape), tuple(image_shape), (float(pitch),) * 2, (first,) * 2)
    return Cells.blocks(shape, image_shape)


def map_meta(classifier, cells, geometry, *, redshift=None):
    """Entries of the ``meta`` of every map, see `CutoutClassifier.activation_map`."""
    unit, width = _unit(geometry), geometry.width
    if not geometry.is_physical and redshift is not None:
        kpc = Geometry(8 * u.kpc, (8, 8)).pixel_width(redshift, cosmology=DEFAULT_COSMOLOGY)
        unit, width = u.kpc, (width / kpc).to_value(u.dimensionless_unscaled) * u.kpc
    pixel = width.to_value(unit) / geometry.shape[1]
    card = getattr(classifier, "card_", {})
    return {
        "MODEL": str(card.get("name", architecture_name(classifier.architecture))),
        "CELLPIX": float(cells.pitch[1]),
        "CELLPIXY": float(cells.pitch[0]),
        "CELLSIZE": float(cells.pitch[1] * pixel),
        "CELLUNIT": str(unit),
        "FIELD": float(min(geometry.shape) * pixel),
        "XMIDDLE": float(cells.middle[1]),
        "YMIDDLE": float(cells.middle[0]),
        "CREATOR": f"astroclassify {version('astroclassify')}",
    }


def map_image(data, wcs, meta):
    """A map as an image without unit (dimensionless), as logits are."""
    return SkyImage(np.asarray(data, dtype=float), unit=u.dimensionless_unscaled, wcs=wcs, meta=meta)


def load_one(predictor, image, *, redshift=None, centre=None, pixel_scale=None, columns=None):
    """Counts (n_bands, ny, nx), WCS of the grid (None for an array), and ``SOURCEID``, ``FLAGS``, ``REDSHIFT``."""
    bands, geometry = predictor.bands, predictor.geometry
    (item,), _ = predictor.items(
        [image], redshift=redshift, centre=centre, pixel_scale=pixel_scale, columns=columns
    )  # fmt: skip
    item = opened(item, predictor.needed, predictor.energy)
    value = item.value
    counts, flags = predictor.load(item)
    meta = {"SOURCEID": item.source_id, "FLAGS": int(flags)}
    if isinstance(value, np.ndarray):
        return counts, None, meta if item.redshift is None else {**meta, "REDSHIFT": item.redshift}
    first = (value.bands[bands[0]] if isinstance(value, Cutout) else value).copy()
    first.uncertainty = None  # it has been warned of
    grid = standardise(first, geometry, redshift=item.redshift, centre=centre)
    try:
        found = float(grid.meta["REDSHIFT"])
    except (KeyError, TypeError, ValueError):  # a grid in angles asks for none, and headers hold all sorts of things
        found = 0.0
    return counts, grid.wcs if item.on_sky else None, {**meta, "REDSHIFT": found} if 0 < found < 20 else meta
