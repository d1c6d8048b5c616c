"""Grid of a model's input, and the cosmology that turns its kpc into arcsec."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM

from astroclassify._checks import check_quantity
from astroclassify.exceptions import GeometryError

__all__ = ["DEFAULT_COSMOLOGY", "Geometry", "check_redshift"]

DEFAULT_COSMOLOGY = FlatLambdaCDM(H0=67.74, Om0=0.3089, name="IllustrisTNG")
"""Flat cosmology of IllustrisTNG (Planck 2015; Su et al. 2020, section 2)."""


@dataclass(frozen=True)
class Geometry:
    """
    Grid of a model's input: how large a square, in how many pixels.

    Parameters
    ----------
    width : `~astropy.units.Quantity`
        Side along x, a length (then a redshift is needed to use it) or an angle. Pixels are square.
    shape : tuple of int
        Pixels along y and x.

    Raises
    ------
    TypeError, ValueError
        If the width is not a positive length or angle or the shape not two whole numbers from 8 to 8192.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.images import Geometry
    >>> Geometry(1 * u.Mpc, (256, 256)).pixel_width(0.05).round(2)
    <Quantity 3.87 arcsec>
    """

    width: u.Quantity
    shape: tuple = (256, 256)

    def __post_init__(self):
        unit = u.arcmin if getattr(self.width, "unit", u.kpc).is_equivalent(u.arcmin) else u.kpc
        check_quantity("width", self.width, unit, positive=True, shape=())
        shape = tuple(self.shape)
        if len(shape) != 2 or not all(isinstance(n, (int, np.integer)) and 8 <= n <= 8192 for n in shape):
            raise ValueError(f"shape must be two whole numbers from 8 to 8192, got {self.shape!r}")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))

    @property
    def is_physical(self):
        """Whether the width is a length, so that a redshift is needed."""
        return self.width.unit.is_equivalent(u.kpc)

    def pixel_width(self, redshift=None, *, cosmology=DEFAULT_COSMOLOGY):
        """
        Angular side of a pixel.

        Parameters
        ----------
        redshift : float, optional
            Redshift of the source; needed where the width is a length.
        cosmology : `~astropy.cosmology.FLRW`, optional
            Gives the angular diameter distance.

        Returns
        -------
        `~astropy.units.Quantity`
            In arcsec.

        Raises
        ------
        GeometryError
            If a redshift is needed and is missing or not above zero.
        """
        if not self.is_physical:
            return (self.width / self.shape[1]).to(u.arcsec)
        if redshift is None:
            raise GeometryError(
                f"redshift is needed to put an image on a grid of {self.width}: give it or the header keyword REDSHIFT"
            )
        distance = cosmology.angular_diameter_distance(check_redshift(redshift))
        return np.degrees(self.width.to_value(u.kpc) / self.shape[1] / distance.to_value(u.kpc)) * 3600 * u.arcsec

    def to_dict(self):
        """Return the geometry as plain types, for JSON."""
        return {"width": float(self.width.value), "unit": str(self.width.unit), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, mapping):
        """Build a geometry from what `to_dict` gives."""
        try:
            return cls(float(mapping["width"]) * u.Unit(str(mapping["unit"])[:64]), tuple(mapping["shape"]))
        except (KeyError, TypeError, ValueError) as error:
            raise GeometryError(f"a geometry needs width, unit and shape, got {str(mapping)[:200]}") from error


def check_redshift(redshift):
    """Redshift as a float from 0 to 20, or an error."""
    if np.any(getattr(redshift, "mask", False)):
        raise GeometryError(f"redshift must not be masked, got {redshift!r}")
    try:
        value = float(redshift)
    except (TypeError, ValueError):
        raise GeometryError(f"redshift must be a number above 0, got {redshift!r}") from None
    if not 0 < value < 20:
        raise GeometryError(f"redshift must lie between 0 and 20, got {redshift!r}")
    return value
