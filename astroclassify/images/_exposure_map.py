"""Exposure maps in seconds on the pixels of an image: one rule for all readers of maps."""

from astropy import units as u

from astroclassify.exceptions import GeometryError

from ._resample import same_grid
from .headers._headers import EXPOSURE_KEYS, read_header

__all__ = ["exposure_on_pixels", "exposure_seconds", "header_time"]

# Largest value of a map without a unit, over the exposure in the header of the image, for which it can be in seconds:
# live time and time on target differ by less than a tenth, and a small part of a field may lie at its edge.
_LEAST, _MOST = 0.01, 1.1
_AREA_TIME = (u.cm**2 * u.s, u.cm**2 * u.s * u.ct / u.photon, u.cm**2 * u.s * u.ct)


def header_time(header):
    """Exposure time [s] of a `Header`; an error where it has none."""
    if header.exposure is None:
        raise GeometryError(
            "exposure must be given (a map in seconds, or one time as a Quantity): the image has no map and none of "
            f"the keywords {', '.join(EXPOSURE_KEYS)}"
        )
    return header.exposure


def exposure_seconds(values, unit, meta):
    """
    Exposure map [s], plain numbers from zero up; ``meta`` is that of the image.

    A map in area times time is scaled so that its largest value is the exposure in the header of the image. One without
    a unit (None, no dimension, or counts, for which a missing unit is taken) is one in seconds only if it can be.
    """
    if unit is not None and unit.is_equivalent(u.s):
        return values * unit.to(u.s)
    top = values.max(initial=0.0)
    if unit in (None, u.ct, u.dimensionless_unscaled):
        time = read_header(meta).exposure
        if time is None or top == 0 or _LEAST * time <= top <= _MOST * time:
            return values
        raise GeometryError(
            f"exposure has no unit and cannot be in seconds: its largest value is {top:.4g}, the header of the image "
            f"says {time:.4g} s. Give the map its unit (keyword BUNIT, 's' or 'cm2 s'; CCDData, or Quantity)"
        )
    if any(unit.is_equivalent(each) for each in _AREA_TIME):
        return values * (header_time(read_header(meta)) / max(top, 1e-300))
    raise GeometryError(f"exposure must be in seconds (or area times time), got {unit}")


def exposure_on_pixels(other, image):
    """Exposure [s] from a map (an image) that lies on the pixels of an image, or an error that says what does."""
    if other.shape != image.shape:
        raise GeometryError(
            f"exposure must have the image's shape {image.shape}, got {other.shape}: survey.read_field regrids maps"
        )
    if other.wcs is not None and image.wcs is not None:
        if not same_grid(other.wcs, other.shape, image.wcs, image.shape):
            raise GeometryError(
                "exposure must lie on the pixels of the image, got a map of another place, size or direction of pixels "
                "(by its WCS): survey.read_field regrids maps"
            )
    values = other.data if other.mask is None else other.data * ~other.mask
    return exposure_seconds(values, other.unit, image.meta)
