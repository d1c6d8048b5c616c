"""One simulated candidate: scene, X-ray photons and plate on one grid, with the truth in the header."""

import functools
import math

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from astroclassify import batch, tables
from astroclassify.images import Cutout, SkyImage
from astroclassify.images._resample import target_wcs
from astroclassify.images._standardise import LOW_COUNTS
from astroclassify.samples._writer import DIGEST_KEY, RowFormat
from astroclassify.schemes import Flag

from ._plate import expose_plate
from ._population import POPULATION
from ._scene import draw_scene
from ._xmm import Grid, leaves_field, observe, vignetting

__all__ = ["ROWS", "make_candidate", "sky_grid"]

# The sky is drawn on pixels no coarser than this and binned.
_COARSEST = 1.25  # arcsec

_KEYWORDS = {
    "label": "LABEL",
    "kind": "KIND",
    "redshift": "REDSHIFT",
    "m_500": "M500",
    "r_500": "R500",
    "flux": "FLUX",
    "core_radius": "CORE_RAD",
    "r_mag": "R_MAG",
    "source_counts": "SRC_CTS",
    "counts": "COUNTS",
    "exposure": "EXPOSURE",
    "off_axis": "OFF_AXIS",
    "flags": "ROWFLAGS",
}
_KINDS = {
    **tables.SAMPLE.kinds(),
    "kind": "str",
    "flux": u.erg / u.s / u.cm**2,
    "core_radius": u.arcsec,
    "r_mag": u.mag,
    "source_counts": u.ct,
    "counts": u.ct,
    "exposure": u.s,
    "off_axis": u.arcmin,
    "message": "str",
}

ROWS = RowFormat(_KINDS, _KEYWORDS)
"""Columns of the sample, and the keywords of those that the header of the X-ray image holds."""


def make_candidate(name, label, *, seed, geometry, digest):
    """One candidate as a cutout, with its truth and the digest of its settings in the meta of the X-ray image."""
    rng = batch.derive_rng(seed, "candidate", name, label)
    pixel = float(geometry.pixel_width().to_value(u.arcsec))
    bins = math.ceil(pixel / _COARSEST)
    grid = Grid(tuple(side * bins for side in geometry.shape), pixel / bins)
    position = (360 * rng.random(), math.degrees(math.asin(2 * rng.random() - 1)))
    scene = draw_scene(label, grid.half, rng)
    counts, exposure = observe(
        scene.extended, scene.points, scene.pointing, grid, rng, detector_light=scene.detector_light
    )
    plate = expose_plate(scene.stars, scene.galaxies, grid, rng, painted=scene.painted)
    counts, exposure = _binned(counts, bins), _binned(exposure, bins) / bins**2
    plate = np.round(_binned(plate, bins) / bins**2)
    wcs = sky_grid(position, geometry.shape, pixel)
    common = {"OBJECT": name, "ORIGIN": "simulated", "CREATOR": _creator()}
    xray = {
        **common,
        "TELESCOP": "XMM",
        "INSTRUME": "EPN",
        "E_MIN": 0.5,
        "E_MAX": 2.0,
        "SEED": seed,
        DIGEST_KEY: digest,
        **ROWS.to_header(_truth(scene, counts, exposure, grid)),
    }
    optical = {**common, "SURVEY": "POSS-II red, simulated", "BANDPASS": "R"}
    return Cutout(
        name,
        {
            "xray": SkyImage(counts, unit=u.ct, wcs=wcs, meta=xray, exposure=exposure),
            "optical": SkyImage(plate, unit=u.adu, wcs=wcs, meta=optical),
        },
    )


@functools.lru_cache(maxsize=1)
def _creator():
    return f"astroclassify {tables.provenance()['astroclassify']}"


def _truth(scene, counts, exposure, grid):
    """Row of a candidate, without its names and its path."""
    pointing, flags = scene.pointing, Flag(0)
    if leaves_field(pointing, grid):
        flags |= Flag.OFF_EDGE
    if np.any(exposure == 0):
        flags |= Flag.MASKED
    if counts.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    expected = scene.truth["flux"] * POPULATION.counts_per_flux * pointing.exposure * vignetting(pointing.off_axis)
    return {
        "label": scene.label,
        "kind": scene.kind,
        **scene.truth,
        "source_counts": expected,
        "counts": float(counts.sum()),
        "exposure": pointing.exposure,
        "off_axis": pointing.off_axis,
        "flags": flags.value,
    }


def _binned(image, bins):
    ny, nx = (side // bins for side in image.shape)
    return image.reshape(ny, bins, nx, bins).sum(axis=(1, 3), dtype=float)


def sky_grid(position, shape, pixel):
    """WCS of a grid of pixels [arcsec], north up, about a position [deg] rounded to 6 decimals."""
    ra, dec = (round(value, 6) for value in position)
    return target_wcs(SkyCoord(ra, dec, unit="deg"), pixel * u.arcsec, shape)
