"""The gas of one halo."""

from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW

from astroclassify._checks import check_integer, check_number, check_quantity

from ..physics._constants import ELEMENTS

__all__ = ["Halo"]

# field name: (unit, columns per cell, whether zero is allowed, smallest and largest value that is not zero)
# The limits lie far beyond any gas; they keep every product of a few attributes within double precision.
_CELL_FIELDS = {
    "position": (u.kpc, 3, True, None, 1e7),
    "velocity": (u.km / u.s, 3, True, None, 3e4),
    "mass": (u.Msun, 1, False, 1e-10, 1e16),
    "density": (u.g / u.cm**3, 1, False, 1e-40, 1.0),
    "temperature": (u.keV, 1, False, 1e-9, 1e4),
    "n_e": (u.cm**-3, 1, True, 1e-30, 1e20),
    "n_h": (u.cm**-3, 1, False, 1e-30, 1e20),
    "metallicity": (u.dimensionless_unscaled, 1, True, 0.0, 1e6),
    "abundances": (u.dimensionless_unscaled, len(ELEMENTS), True, 0.0, 1e6),
}
_SCALARS = {"m_500": (u.Msun, 1.0, 1e20), "r_500": (u.kpc, 1e-3, 1e7)}


def _checked_cells(name, value, n_cells):
    """One gas array in its own unit and native floats; errors name the array."""
    unit, columns, *limits = _CELL_FIELDS[name]
    if not isinstance(value, u.Quantity):
        raise TypeError(
            f"{name} must be a Quantity with a unit like {unit.to_string() or '1'}, got {type(value).__name__}"
        )
    _check_real(name, value)
    if not value.unit.is_equivalent(unit):
        raise u.UnitConversionError(f"{name} must have a unit like {unit.to_string() or '1'}, got {value.unit}")
    shape = (n_cells,) if columns == 1 else (n_cells, columns)
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape} (one row per gas cell), got {value.shape}")
    if np.any(getattr(value, "mask", False)):
        raise ValueError(f"{name} must not have masked values, got {np.count_nonzero(value.mask)}")
    # Double precision throughout, but for the one array of many columns.
    single = name == "abundances" and value.dtype == np.float32
    with np.errstate(over="ignore"):
        plain = value.astype(np.float32 if single else float, copy=False).to_value(unit)
    plain = np.ascontiguousarray(plain)
    if not np.all(np.isfinite(plain)):
        raise ValueError(f"{name} must be finite, got {np.count_nonzero(~np.isfinite(plain))} values that are not")
    _check_range(name, plain, unit, *limits)
    return plain << unit  # a view, where the array was as it should be


def _check_real(name, value):
    """Raise if a Quantity holds complex numbers or objects, which a cast would change silently."""
    if isinstance(value, u.Quantity) and value.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}")


def _check_range(name, plain, unit, zero_allowed, least, most):
    """Raise if a value is negative, zero where that is not allowed, or beyond the limits."""
    low, high = float(np.min(plain)), float(np.max(plain))
    if least is None:
        if max(-low, high) > most:
            raise ValueError(f"{name} must lie within {most:g} {unit} of zero, got {low:g} to {high:g} {unit}")
        return
    if low < 0 or (low == 0 and not zero_allowed):
        allowed = "not be negative" if zero_allowed else "be larger than zero"
        raise ValueError(f"{name} must {allowed}, got {low} {unit}".rstrip())
    if high > most or np.any((plain > 0) & (plain < least)):
        zero = "zero or " if zero_allowed else ""
        text = f"{name} must be {zero}between {least:g} and {most:g} {unit}".rstrip()
        raise ValueError(f"{text}, got {np.min(plain[plain > 0]):g} to {high:g}")


@dataclass(frozen=True, eq=False)
class Halo:
    """
    One halo of a simulation: its place in the catalogue and its X-ray emitting gas.

    Every array has one row per gas cell. Lengths are physical (not comoving), free of the Hubble parameter. Values far
    beyond any gas (say, a cell of 1e20 Msun or at 1e5 keV) are refused, so that no later product overflows.

    Attributes
    ----------
    halo_id : int
        Number of the halo in the group catalogue.
    simulation : str
        Name of the simulation.
    snapshot : int
        Number of the snapshot.
    redshift : float
        Redshift of the snapshot.
    m_500, r_500 : `~astropy.units.Quantity`
        Mass [Msun] and radius [kpc] of the sphere with 500 times the critical density.
    centre : `~astropy.units.Quantity`, shape (3,)
        Position of the potential minimum in the box [kpc].
    position : `~astropy.units.Quantity`, shape (n, 3)
        Cell positions relative to ``centre``, wrapped over the periodic box [kpc].
    velocity : `~astropy.units.Quantity`, shape (n, 3)
        Peculiar velocities relative to the mean of the halo's gas [km/s].
    mass, density : `~astropy.units.Quantity`, shape (n,)
        Gas mass [Msun] and density [g/cm3] of each cell.
    temperature : `~astropy.units.Quantity`, shape (n,)
        Temperature times Boltzmann's constant [keV].
    n_e, n_h : `~astropy.units.Quantity`, shape (n,)
        Number densities of free electrons and of hydrogen nuclei [cm-3].
    metallicity : `~astropy.units.Quantity`, shape (n,)
        Metals per hydrogen in units of the solar mixture of the emissivity table (dimensionless).
    abundances : `~astropy.units.Quantity`, shape (n, 7), or None
        Atoms of C, N, O, Ne, Mg, Si and Fe per hydrogen atom in solar units of the same mixture (Anders & Grevesse
        1989), where they are known; they then take the place of the metallicity in the spectrum of the gas.
    cosmology : `~astropy.cosmology.FLRW`
        Cosmology of the simulation.
    meta : dict
        Whatever else is known of the halo, e.g. ``n_excluded``, the number of cells that the X-ray gas filter left out.

    Raises
    ------
    TypeError
        If an attribute is not of the type above.
    ValueError
        If a shape, unit or value is not allowed; the message names the attribute.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.cosmology import Planck15
    >>> from astroclassify.sim import Halo
    >>> halo = Halo(halo_id=0, simulation="toy", snapshot=99, redshift=0.0, m_500=1e14 * u.Msun, r_500=700 * u.kpc,
    ...             centre=[0, 0, 0] * u.kpc, position=[[3, 4, 0]] * u.kpc, velocity=[[0, 0, 0]] * u.km / u.s,
    ...             mass=[1e7] * u.Msun, density=[1e-26] * u.g / u.cm**3, temperature=[3] * u.keV,
    ...             n_e=[0.0055] / u.cm**3, n_h=[0.0045] / u.cm**3, metallicity=[0.3] * u.one, cosmology=Planck15)
    >>> halo.n_cells
    1
    >>> print(halo.radius)
    [5.] kpc
    """

    halo_id: int
    simulation: str
    snapshot: int
    redshift: float
    m_500: u.Quantity
    r_500: u.Quantity
    centre: u.Quantity
    position: u.Quantity
    velocity: u.Quantity
    mass: u.Quantity
    density: u.Quantity
    temperature: u.Quantity
    n_e: u.Quantity
    n_h: u.Quantity
    metallicity: u.Quantity
    abundances: u.Quantity | None = field(default=None, kw_only=True)
    cosmology: FLRW
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("halo_id", "snapshot"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name)))
        if not isinstance(self.simulation, str):
            raise TypeError(f"simulation must be a string, got {type(self.simulation).__name__}")
        # snapshots at z = 0 may say -1e-16
        object.__setattr__(self, "redshift", check_number("redshift", self.redshift, -1e-6, 1e4))
        if not isinstance(self.cosmology, FLRW):
            raise TypeError(f"cosmology must be an astropy cosmology, got {type(self.cosmology).__name__}")
        if not isinstance(self.meta, dict):
            raise TypeError(f"meta must be a dict, got {type(self.meta).__name__}")
        for name, (unit, *limits) in _SCALARS.items():
            _check_real(name, getattr(self, name))
            with np.errstate(over="ignore"):
                value = check_quantity(name, getattr(self, name), unit, positive=True, shape=())
            _check_range(name, np.array(value), unit, False, *limits)
            object.__setattr__(self, name, value * unit)
        _check_real("centre", self.centre)
        with np.errstate(over="ignore"):
            centre = check_quantity("centre", self.centre, u.kpc, shape=(3,))
        _check_range("centre", centre, u.kpc, True, None, 1e10)
        object.__setattr__(self, "centre", centre * u.kpc)
        n_cells = np.shape(self.mass)[0] if np.ndim(self.mass) else 0
        if n_cells == 0:
            raise ValueError("mass must hold at least one gas cell, got none")
        for name in _CELL_FIELDS:
            if name == "abundances" and self.abundances is None:
                continue
            object.__setattr__(self, name, _checked_cells(name, getattr(self, name), n_cells))

    def __repr__(self):
        return (
            f"<Halo {self.halo_id} of {self.simulation} snapshot {self.snapshot}: "
            f"M500 = {self.m_500.value:.3g} Msun, R500 = {self.r_500.value:.0f} kpc, {self.n_cells} gas cells>"
        )

    @property
    def n_cells(self):
        """Number of gas cells."""
        return self.mass.shape[0]

    @property
    def volume(self):
        """Volume of each cell, mass over density [kpc3]."""
        return (self.mass / self.density).to(u.kpc**3)

    @property
    def emission_measure(self):
        """Emission measure of each cell, n_e n_H V [cm-3]."""
        return (self.n_e * self.n_h * self.mass / self.density).to(u.cm**-3)

    @property
    def cell_radius(self):
        """Radius of the sphere with the volume of each cell [kpc]."""
        return np.cbrt(self.volume * (3.0 / (4.0 * np.pi)))

    @property
    def radius(self):
        """Distance of each cell from the centre [kpc]."""
        return np.sqrt(np.sum(self.position.value**2, axis=1)) * u.kpc
