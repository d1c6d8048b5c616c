"""Counts of any observation on one scale, and what the network is told of how they were taken."""

import numpy as np
from astropy import units as u

from astroclassify.fields._psf import FWHM
from astroclassify.fields._sensitivity import sensitivity
from astroclassify.fields._telescopes import half_energy_width
from astroclassify.images import DEFAULT_COSMOLOGY

__all__ = [
    "BRIGHTNESS", "LEAST_EXPOSURE", "PLANES", "WIDTH_OF_PIXEL", "brightness", "log_depth_of_shape", "resolution_of",
    "shape_alone", "with_conditions",
]  # fmt: skip

BRIGHTNESS = "brightness"

PLANES = ("counts", "exposure", "depth", "redshift", "psf", "calibrated")
"""Planes of an image: its counts, and the exposure of each pixel over that on axis; then, the same in all pixels:
``depth``, log10 of the counts from an emission measure over those in the setting of Su et al. (2020), ACIS-I in its
first year, 0.5 to 7 keV, 100 ks, z = 0.05; log10(z / 0.1); log10 of the half-energy width of the telescope and the
pixels of the file over 5 kpc; and whether the
depth is known (1) or is set by the counts themselves (0), so that the shape alone can tell."""

_REFERENCE = ("ACIS-I", (0.5, 7.0), 0.05, "acis-i-cycle0", 1e5)
# Bands that the images of a telescope are taken to have where the header does not say, those of training.
_USUAL_BANDS = {"CHANDRA": (0.5, 7.0), "XMM": (0.5, 2.0)}
# What an image whose depth is not known is scaled to, about the counts of a cluster in the reference setting.
_SHAPE_COUNTS = 2e5
# Where nothing is known: the middle of the training images.
_REDSHIFT, _HALF_ENERGY_WIDTH, _PSF_KPC = 0.1, 2.0, 5.0
_REDSHIFTS, _PSFS_KPC = (0.002, 0.6), (0.2, 100.0)

WIDTH_OF_PIXEL = FWHM / np.sqrt(12)
"""Full width at half maximum of the Gaussian as wide as a square of side 1."""

LEAST_EXPOSURE = 0.1
"""Pixels exposed for a smaller part than this are blank to the network."""


def brightness(planes):
    """log10(1 + counts at the reference setting) of planes (..., n_planes, ny, nx): (..., ny, nx), 0 where blank."""
    counts, exposure, depth = (planes[..., number, :, :] for number in range(3))
    seen = exposure >= LEAST_EXPOSURE
    scale = np.maximum(exposure, np.float32(LEAST_EXPOSURE)) * np.float32(10) ** depth
    return np.log1p(np.where(seen, np.maximum(counts, 0) / scale, 0)) * np.float32(1 / np.log(10))


def log_depth_of_shape(planes, area=1.0):
    """The depth that is given to an image (n_planes, ny, nx) whose own is not known; ``area`` of its pixels."""
    counts, exposure = planes[:2]
    total = np.sum(np.where(exposure >= LEAST_EXPOSURE, np.maximum(counts, 0), 0) * area, dtype=float)
    return np.log10(max(total, 1.0) / _SHAPE_COUNTS)


def shape_alone(planes, area=1.0):
    """Planes of one image as if neither exposure time nor instrument were known."""
    planes = planes.copy()
    planes[2], planes[5] = log_depth_of_shape(planes, area), 0
    return planes


def with_conditions(counts, image=None, header=None, redshift=None, pixel=0.0):
    """
    All planes of counts (ny, nx) on the grid: float32 (n_planes, ny, nx).

    ``image``: the SkyImage that they come from (its exposure map and mask are used); ``header``: that of the file;
    ``pixel``: side of its pixels [arcsec]. Without these, an array's, the whole grid is exposed and the shape alone
    is judged.
    """
    seconds, fraction = _exposures(counts, image, header)
    depth = None if header is None or redshift is None else _depth(header, image, redshift, seconds)
    values = (
        0.0 if depth is None else depth,
        np.log10(np.clip(redshift or _REDSHIFT, *_REDSHIFTS) / 0.1),
        np.log10(np.clip(_psf_kpc(header, image, redshift, pixel), *_PSFS_KPC) / _PSF_KPC),
        depth is not None,
    )
    flat = np.broadcast_to(np.reshape(np.array(values, np.float32), (-1, 1, 1)), (len(values), *counts.shape))
    planes = np.concatenate([np.stack([counts, fraction]), flat]).astype(np.float32)
    return shape_alone(planes) if depth is None else planes


def resolution_of(planes, pixel):
    """Full width at half maximum [kpc] of a point source on the grid with pixels of a side [kpc]."""
    return float(np.hypot(_PSF_KPC * 10.0 ** planes[4, 0, 0], WIDTH_OF_PIXEL * pixel))


def _exposures(counts, image, header):
    """Exposure on axis [s], or None, and that of each pixel over it."""
    seconds = None if header is None else header.exposure
    exposed = getattr(image, "exposure", None)
    if exposed is None:
        fraction = np.ones(counts.shape)
    else:
        exposed = np.nan_to_num(np.asarray(exposed, dtype=float))
        # Some headers hold less than the map: the sum of several observations.
        seconds = max(seconds or 0.0, float(exposed.max())) or None
        fraction = exposed / (seconds or 1.0)
    if image is not None and image.mask is not None:
        fraction = np.where(image.mask, 0.0, fraction)
    return seconds, fraction


def _depth(header, image, redshift, seconds):
    """log10 of counts over those of the reference setting, or None where the telescope does not say."""
    band = header.energy_range or _USUAL_BANDS.get(header.telescope)
    redshift = float(np.clip(redshift, *_REDSHIFTS))
    if not seconds or band is None:
        return None
    response = str(image.meta.get("RESPONSE", "")) or None
    rate = sensitivity(header.instrument, band, redshift, date=header.date, response=response)
    if rate is None:
        return None
    *setting, response, exposure = _REFERENCE
    return np.log10(rate * seconds / (sensitivity(*setting, response=response) * exposure))


def _psf_kpc(header, image, redshift, pixel):
    """
    Half-energy width on axis and of pixels [arcsec], at the cluster [kpc]; that of a Gaussian, which a mock of Chandra
    names, is its FWHM.
    """
    width = None if header is None else half_energy_width(header.instrument)
    if header is not None and header.telescope == "CHANDRA":
        stated = image.meta.get("PSFFWHM")
        width = stated if isinstance(stated, (int, float)) and stated > 0 else width
    per_arcsec = DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(np.clip(redshift or _REDSHIFT, *_REDSHIFTS))
    width = np.hypot(width or _HALF_ENERGY_WIDTH, WIDTH_OF_PIXEL * pixel)
    return float((width * u.arcsec * per_arcsec).to_value(u.kpc))
