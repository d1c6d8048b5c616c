"""What the measures of morphology need of an image: plain arrays about the cluster's centre, lengths in R500."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from astroclassify._checks import check_quantity
from astroclassify.exceptions import GeometryError

from .._checks import as_image, celestial, check_position, counts_factor, square_pixels, valid_pixels
from .._geometry import Geometry
from .._resample import find_pixel
from . import _moments as core

__all__ = ["NotMeasurable", "Scene", "find_scene"]

MIN_OUTER = 0.3
"""The smallest outer radius [R500]: below it nothing is left to measure."""

MIN_PIXELS = 20
"""R500 must be at least this many pixels."""


class NotMeasurable(GeometryError):
    """The image is in order, but R500 does not fit on it or is too small."""


@dataclass(frozen=True)
class Scene:
    """An image reduced to plain arrays about the centre of the cluster; lengths in R500."""

    pixels: core.Pixels
    patch: core.Patch
    outer: float
    r_500_kpc: float | None
    moves: bool  # whether the centre is a peak that was searched for

    @property
    def log_radius(self):
        """ln of the outer radius in kpc, for P0."""
        return np.nan if self.r_500_kpc is None else np.log(self.outer * self.r_500_kpc)


def find_scene(image, r_500, redshift, background, centre, outer, cosmology):
    """Check the arguments, find the centre, and see what fits; an error says what does not."""
    image = as_image(image)
    counts = image.data * counts_factor(image.unit)
    pixel, r_500_kpc = _pixels_of(image, r_500, redshift, cosmology)
    valid = valid_pixels(image)
    exposure = np.where(valid, 1.0 if image.exposure is None else image.exposure, 0.0)
    if not np.any(exposure > 0):
        raise NotMeasurable("image has no exposed pixel")
    exposure /= exposure.max()
    if np.any(counts[valid] < 0):
        raise GeometryError(f"image must hold counts, background included, got negative ones ({counts[valid].min()})")
    level = _background_of(background, counts.shape)
    whole = (np.where(valid, counts, 0.0), exposure, np.where(valid, level, 0.0), 1 / pixel)
    if centre is None:
        near = core.Patch.around(*whole, (0, 0), core.SEARCH + 3 * core.SMOOTHING)
        near = near.binned(int(pixel * core.SMOOTHING / 4))
        at = core.find_peaks(near.counts[np.newaxis], near, (0, 0), core.SEARCH)[0]
    else:
        at = _place_of(centre, image) / pixel
    # Distance to the nearest edge of the image, by which a circle is chosen where the user asks for one that fits.
    reach = float(np.min(np.array(counts.shape[::-1]) / 2 / pixel - np.abs(at)))
    outer = _outer_of(outer, reach, r_500)
    patch = core.Patch.around(*whole, at, outer + core.MARGIN)
    pixels = core.Pixels.of(patch, at, outer + core.MARGIN)
    covered = core.covered(pixels, pixels.centre, outer)[0]
    if covered < core.MIN_COVERAGE:
        raise NotMeasurable(
            f"{_radius_text(outer, r_500)} does not fit: {covered:.0%} of the circle is on the image and exposed "
            f"(at least {core.MIN_COVERAGE:.0%} is needed); the image reaches {max(reach, 0):.2f} R500 from the centre"
        )
    if core.covered(pixels, pixels.centre, core.INNER)[0] < core.MIN_COVERAGE:
        raise NotMeasurable(f"the core, within {core.INNER} R500 of the centre, is masked or not exposed")
    return Scene(pixels, patch, outer, r_500_kpc, centre is None)


def _radius_text(outer, r_500):
    return f"{'' if outer == 1 else f'{outer:.2f} '}R500 ({outer * r_500:.4g})"


def _pixels_of(image, r_500, redshift, cosmology):
    """Pixels per R500, and R500 in kpc, if it is known."""
    is_angle = getattr(r_500, "unit", u.kpc).is_equivalent(u.arcmin)
    value = check_quantity("r_500", r_500, u.arcsec if is_angle else u.kpc, positive=True, shape=())
    redshift = image.meta.get("REDSHIFT") if redshift is None else redshift
    kpc = None  # angle of a kiloparsec
    if redshift is not None or not is_angle:
        kpc = Geometry(8 * u.kpc, (8, 8)).pixel_width(redshift, cosmology=cosmology).to_value(u.arcsec)
    scale = square_pixels(image)
    pixel = value * (1.0 if is_angle else kpc) / scale
    if pixel < MIN_PIXELS:
        raise NotMeasurable(f"r_500 must be at least {MIN_PIXELS} pixels, got {pixel:.1f} ({r_500})")
    if not is_angle:
        return pixel, value
    return pixel, None if kpc is None else value / kpc


def _background_of(background, shape):
    """Background as a number or map of counts per pixel."""
    level = np.asarray(background)
    if isinstance(background, u.Quantity) or level.dtype.kind not in "fiu" or level.shape not in ((), shape):
        raise ValueError(
            f"background must be a number of counts per pixel or a map of shape {shape}, "
            f"got {type(background).__name__} of shape {level.shape}"
        )
    if not np.all(np.isfinite(level)):
        raise ValueError("background must be finite")
    return level.astype(float)


def _place_of(centre, image):
    """Pixels from the middle of the image to a position."""
    check_position("centre", centre)
    place = find_pixel(celestial(image), centre) - (np.array(image.shape[::-1]) - 1) / 2
    if not np.all(np.isfinite(place)) or np.any(np.abs(place) > np.array(image.shape[::-1]) / 2):
        raise GeometryError(f"centre {centre.to_string('hmsdms')} lies off the image")
    return place


def _outer_of(outer, reach, r_500):
    """Outer radius in R500."""
    if isinstance(outer, str) and outer == "fit":
        if reach < MIN_OUTER:
            raise NotMeasurable(
                f"{_radius_text(MIN_OUTER, r_500)}, the least that is measured, does not fit: "
                f"the image reaches {max(reach, 0):.2f} R500 from the centre"
            )
        return min(1.0, reach)
    if isinstance(outer, bool | str) or not np.isscalar(outer) or not MIN_OUTER <= outer <= 1:
        raise ValueError(f"outer must be a number from {MIN_OUTER} to 1 (in units of R500) or 'fit', got {outer!r}")
    return float(outer)
