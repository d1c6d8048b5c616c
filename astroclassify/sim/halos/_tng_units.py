"""
Code units of AREPO and IllustrisTNG, turned into physical units and back, in this one place.

The units are those of the TNG data release (Nelson et al. 2019, Computational Astrophysics and Cosmology 6, 2; and its
online data specifications): comoving kpc/h, 1e10 Msun/h, km sqrt(a)/s for cells and km/(s a) for groups, (km/s)^2 for
the internal energy per mass. The code's own solar mass, 1.989e33 g, is 0.03 per cent heavier than astropy's; masses
here are "1e10 Msun/h" taken literally, as users of the catalogues do.
"""

from dataclasses import dataclass

import numpy as np
from astropy import constants
from astropy import units as u

from ..physics._constants import HYDROGEN_FRACTION

__all__ = ["TNG_UNITS_CGS", "CodeUnits", "mean_molecular_weight"]

#: Header attributes that hold the code units, and the values that every TNG file has.
TNG_UNITS_CGS = {
    "UnitLength_in_cm": 3.085678e21,
    "UnitMass_in_g": 1.989e43,
    "UnitVelocity_in_cm_per_s": 1e5,
}
GAMMA = 5.0 / 3.0

_DENSITY = (1e10 * u.Msun / u.kpc**3).to_value(u.g / u.cm**3)
_PROTON = constants.m_p.to_value(u.g)
# m_p (km/s)^2 in keV
_SPECIFIC_ENERGY = (constants.m_p * (1 * u.km / u.s) ** 2).to_value(u.keV)


def mean_molecular_weight(electron_abundance):
    """
    Mean mass of a gas particle in proton masses, from electrons per hydrogen nucleus: ``4 / (1 + 3 X + 4 X x_e)``, X =
    0.76 (TNG data release, frequently asked questions: "How do I compute the temperature").
    """
    x_h = HYDROGEN_FRACTION
    return 4.0 / (1.0 + 3.0 * x_h + 4.0 * x_h * np.asarray(electron_abundance, dtype=float))


@dataclass(frozen=True)
class CodeUnits:
    """
    Conversions at one scale factor ``a`` and Hubble parameter ``h``, between plain arrays.

    Each method takes code units and gives plain physical values in the unit of its name; ``inverse=True`` goes back.
    """

    a: float
    h: float

    @staticmethod
    def _scale(value, factor, inverse):
        value = np.asarray(value, dtype=float)
        return value / factor if inverse else value * factor

    def kpc(self, value, *, inverse=False):
        """Comoving kpc/h to physical kpc."""
        return self._scale(value, self.a / self.h, inverse)

    def msun(self, value, *, inverse=False):
        """1e10 Msun/h to Msun."""
        return self._scale(value, 1e10 / self.h, inverse)

    def g_per_cm3(self, value, *, inverse=False):
        """(1e10 Msun/h) / (comoving kpc/h)^3 to physical g/cm3."""
        return self._scale(value, _DENSITY * self.h**2 / self.a**3, inverse)

    def km_per_s(self, value, *, inverse=False):
        """Velocity of a cell, km sqrt(a)/s, to a peculiar velocity in km/s."""
        return self._scale(value, np.sqrt(self.a), inverse)

    def group_km_per_s(self, value, *, inverse=False):
        """Velocity of a group, km/(s a), to a peculiar velocity in km/s."""
        return self._scale(value, 1.0 / self.a, inverse)

    def kev(self, value, electron_abundance, *, inverse=False):
        """Internal energy per mass, (km/s)^2, to k T in keV: (gamma - 1) u mu m_p."""
        factor = (GAMMA - 1.0) * mean_molecular_weight(electron_abundance) * _SPECIFIC_ENERGY
        return self._scale(value, factor, inverse)

    @staticmethod
    def hydrogen_per_cm3(density):
        """Hydrogen nuclei per cm3 in gas of a physical density in g/cm3."""
        return HYDROGEN_FRACTION * np.asarray(density, dtype=float) / _PROTON
