"""Lines of sight: the axes of the image (right, up) and of the box, and coordinates on the sky."""

import numpy as np
from astropy import constants
from astropy import units as u

from astroclassify.exceptions import GeometryError
from astroclassify.images._resample import target_wcs

__all__ = [
    "AXES",
    "C_KM_S",
    "SKY_CENTRE",
    "axis_name",
    "check_axis",
    "largest_doppler",
    "projection",
    "tan_wcs",
    "to_pixels",
]

AXES = ("x", "y", "z")

#: Speed of light [km/s].
C_KM_S = constants.c.to_value(u.km / u.s)

#: Where mock images are placed on the sky: on the equator, away from the jump of right ascension.
SKY_CENTRE = (180.0, 0.0)


def check_axis(axis):
    """
    A line of sight: one of `AXES`, or a direction towards the observer of any length but zero as a unit vector (tuple).
    """
    if isinstance(axis, str):
        if axis in AXES:
            return axis
    else:
        try:
            vector = np.array(axis, dtype=float)
        except (TypeError, ValueError):
            vector = np.zeros(0)
        if vector.shape == (3,) and np.all(np.isfinite(vector)) and np.any(vector):
            vector /= np.max(np.abs(vector))  # first, so that no square overflows or vanishes
            return tuple(float(part) for part in vector / np.linalg.norm(vector))
    raise ValueError(f"axis must be one of {AXES} or three numbers (a direction towards the observer), got {axis!r}")


def axis_name(axis):
    """Short text for a line of sight, for tables and file names: the letter, or the unit vector to 1e-4."""
    axis = check_axis(axis)
    return axis if isinstance(axis, str) else "".join(f"{part + 0.0:+.4f}" for part in axis)


def projection(axis):
    """
    Unit vectors, shape (3,), to the right and up on the image and towards the observer; right-handed.

    For a letter they are the axes of the box in cyclic order; for a direction, ``up`` is as close to z of the box as it
    can be (to x for ``+-z``).
    """
    axis = check_axis(axis)
    if isinstance(axis, str):
        last = AXES.index(axis)
        unit = np.eye(3)
        return unit[(last + 1) % 3], unit[(last + 2) % 3], unit[last]
    sight = np.array(axis)
    pole = np.array([0.0, 0.0, 1.0])
    if abs(sight[2]) > 1 - 1e-9:
        pole = np.array([1.0, 0.0, 0.0])
    right = np.cross(pole, sight)
    right /= np.linalg.norm(right)
    return right, np.cross(sight, right), sight


def largest_doppler(velocity):
    """
    Largest Doppler factor (observed over emitted energy) of velocities [km/s], (n, 3), along any line of sight: that of
    the fastest, coming straight at the observer. The least is its inverse.
    """
    beta = np.sqrt(np.max(np.einsum("ij,ij->i", velocity, velocity))) / C_KM_S
    return np.sqrt((1.0 + beta) / (1.0 - beta))


def to_pixels(x, y, observation):
    """Column and row, from the lower left corner, of places on the image plane [kpc]; pixel k covers [k, k + 1)."""
    row, column = observation.middle
    return x / observation.pixel_kpc + column, y / observation.pixel_kpc + row


def tan_wcs(shape, scale):
    """Tangent-plane coordinates with the reference point in the middle of the image."""
    degrees = scale.to_value(u.deg)
    if not 0 < degrees * max(shape) < 90:
        raise GeometryError(f"image must be smaller than 90 deg, got {degrees * max(shape):.3g} deg")
    wcs = target_wcs(SKY_CENTRE, scale, shape)
    wcs.array_shape = shape
    return wcs
