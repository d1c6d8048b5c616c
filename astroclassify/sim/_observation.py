"""What is observed and how: one frozen, checked set of settings for a mock image."""

from dataclasses import dataclass, fields

import numpy as np
from astropy import units as u

from ..exceptions import check_quantity
from ..images import DEFAULT_COSMOLOGY
from ._response import load_response

__all__ = ["Observation"]

_BACKGROUND_UNIT = u.ct / u.s / u.arcsec**2
# field name: (unit, whether it must be larger than zero)
_SCALARS = {
    "exposure": (u.s, True),
    "n_h": (u.cm**-2, False),
    "width": (u.kpc, True),
    "background": (_BACKGROUND_UNIT, False),
    "psf_fwhm": (u.arcsec, False),
}
_MAX_PIXELS = 8192


@dataclass(frozen=True, eq=False)
class Observation:
    """
    Settings of a mock observation.

    Parameters
    ----------
    redshift : float, optional
        Redshift at which the halo is placed, whatever that of its snapshot. Su et al. (2020) print 1 Mpc over 256
        pixels of 3.9", hence 0.05.
    exposure : `~astropy.units.Quantity`, optional
        Exposure time, uniform over the image.
    energy_range : `~astropy.units.Quantity`, shape (2,), optional
        Observed photon energies that are counted.
    n_h : `~astropy.units.Quantity`, optional
        Galactic hydrogen column density.
    width : `~astropy.units.Quantity`, optional
        Physical width of the image along its first axis (to the right), at the halo.
    shape : tuple of int, optional
        Rows and columns of the image. Pixels are square.
    background : `~astropy.units.Quantity`, optional
        Count rate per solid angle in the energy range, uniform. The default is ours (that of Su et al. is not known):
        the quiescent ACIS-I level of about 0.3 ct/s per 8.3' x 8.3' chip in 0.5-7 keV, from memory of the Chandra
        Proposers' Observatory Guide, unverified.
    psf_fwhm : `~astropy.units.Quantity`, optional
        Full width at half maximum of the Gaussian point spread function, the same over the whole image. The default is
        ours (that of Su et al. is not known): between the 0.5" on axis and the several arcsec at the edge of the field,
        and half a pixel of the default image.
    response : str, optional
        Effective area: ``"acis-i-cycle0"`` (early mission) or ``"acis-i-cycle19"``.

    Raises
    ------
    TypeError
        If a physical argument is not a Quantity, or ``shape`` not whole numbers.
    ValueError
        If a value is not allowed; the message names the argument.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 2 (width, shape, pixel size). Exposure, energy range and column density
    are those attributed to that paper in our notes; only the absence of spectral information could be confirmed.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import Observation
    >>> observation = Observation(exposure=50 * u.ks)
    >>> print(f"{observation.pixel_scale():.2f}")
    3.87 arcsec
    """

    redshift: float = 0.05
    exposure: u.Quantity = 100 * u.ks
    energy_range: u.Quantity = (0.5, 7.0) * u.keV
    n_h: u.Quantity = 4e20 * u.cm**-2
    width: u.Quantity = 1 * u.Mpc
    shape: tuple = (256, 256)
    background: u.Quantity = 1.2e-6 * _BACKGROUND_UNIT
    psf_fwhm: u.Quantity = 2 * u.arcsec
    response: str = "acis-i-cycle0"

    def __post_init__(self):
        redshift = self.redshift
        if isinstance(redshift, u.Quantity):
            redshift = redshift.to_value(u.one)
        if isinstance(redshift, bool) or not isinstance(redshift, int | float | np.number):
            raise TypeError(f"redshift must be a number, got {type(redshift).__name__} {redshift!r}")
        if not np.isfinite(redshift) or redshift <= 0:
            raise ValueError(f"redshift must be larger than zero (the distance follows from it), got {redshift}")
        object.__setattr__(self, "redshift", float(redshift))
        for name, (unit, positive) in _SCALARS.items():
            value = check_quantity(name, getattr(self, name), unit, positive=positive, shape=())
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        self._check_energy_range()
        self._check_shape()
        load_response(self.response)

    def _check_energy_range(self):
        energy_range = self.energy_range
        if isinstance(energy_range, tuple | list) and all(isinstance(end, u.Quantity) for end in energy_range):
            energy_range = u.Quantity(energy_range)
        low, high = check_quantity("energy_range", energy_range, u.keV, positive=True, shape=(2,))
        if low >= high:
            raise ValueError(f"energy_range must go from a lower to a higher energy, got {energy_range}")
        energy_range = energy_range.copy()
        energy_range.flags.writeable = False
        object.__setattr__(self, "energy_range", energy_range)

    def _check_shape(self):
        shape = self.shape
        if not np.iterable(shape) or len(shape) != 2 or not all(isinstance(n, int | np.integer) for n in shape):
            raise TypeError(f"shape must be two whole numbers (rows, columns), got {shape!r}")
        if not all(1 <= n <= _MAX_PIXELS for n in shape):
            raise ValueError(f"shape must be from 1 to {_MAX_PIXELS} pixels along each axis, got {shape}")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))

    def __eq__(self, other):
        return isinstance(other, Observation) and self.to_meta() == other.to_meta()

    def __hash__(self):
        return hash(repr(self.to_meta()))

    def __repr__(self):
        return f"Observation({', '.join(f'{item.name}={getattr(self, item.name)}' for item in fields(self))})"

    @property
    def half_size_kpc(self):
        """Half the width and half the height of the image [kpc], plain floats."""
        half = 0.5 * self.width.to_value(u.kpc)
        return np.array([half, half * self.shape[0] / self.shape[1]])

    def pixel_scale(self, cosmology=DEFAULT_COSMOLOGY):
        """
        Angular side of a pixel.

        Parameters
        ----------
        cosmology : `~astropy.cosmology.FLRW`, optional
            Cosmology of the halo.

        Returns
        -------
        `~astropy.units.Quantity`
            Width of a pixel over the angular-diameter distance [arcsec].
        """
        pixel = self.width / self.shape[1]
        distance = cosmology.angular_diameter_distance(self.redshift)
        return (pixel / distance).to(u.arcsec, u.dimensionless_angles())

    def background_counts(self, cosmology=DEFAULT_COSMOLOGY):
        """
        Background counts expected in each pixel.

        Parameters
        ----------
        cosmology : `~astropy.cosmology.FLRW`, optional
            Cosmology of the halo.

        Returns
        -------
        float
            Counts per pixel.
        """
        area = self.pixel_scale(cosmology) ** 2
        return float((self.background * self.exposure * area).to_value(u.ct))

    def to_meta(self):
        """
        Return the settings as plain types in fixed units, for JSON and the meta of tables.

        Returns
        -------
        dict
            Keys end in the unit where there is one.
        """
        return {
            "redshift": self.redshift,
            "exposure_s": float(self.exposure.to_value(u.s)),
            "energy_range_keV": [float(energy) for energy in self.energy_range.to_value(u.keV)],
            "n_h_cm-2": float(self.n_h.to_value(u.cm**-2)),
            "width_kpc": float(self.width.to_value(u.kpc)),
            "shape": list(self.shape),
            "background_ct_s-1_arcsec-2": float(self.background.to_value(_BACKGROUND_UNIT)),
            "psf_fwhm_arcsec": float(self.psf_fwhm.to_value(u.arcsec)),
            "response": self.response,
        }
