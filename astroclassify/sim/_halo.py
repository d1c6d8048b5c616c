"""The gas of one halo, as every later step sees it."""

from dataclasses import dataclass, field

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW

from ..exceptions import check_quantity

__all__ = ["Halo"]

# field name: (unit, whether one row per cell is a 3-vector, lower bound or None, whether the bound itself is allowed)
_CELL_FIELDS = {
    "position": (u.kpc, True, None, True),
    "velocity": (u.km / u.s, True, None, True),
    "mass": (u.Msun, False, 0.0, False),
    "density": (u.g / u.cm**3, False, 0.0, False),
    "temperature": (u.keV, False, 0.0, False),
    "n_e": (u.cm**-3, False, 0.0, True),
    "n_h": (u.cm**-3, False, 0.0, False),
    "metallicity": (u.dimensionless_unscaled, False, 0.0, True),
}


def _checked_cells(name, value, n_cells):
    """One gas array in its canonical unit, or an error that names the array."""
    unit, is_vector, bound, bound_allowed = _CELL_FIELDS[name]
    if not isinstance(value, u.Quantity):
        raise TypeError(f"{name} must be a Quantity with a unit like {unit or '1'}, got {type(value).__name__}")
    if not value.unit.is_equivalent(unit):
        raise u.UnitConversionError(f"{name} must have a unit like {unit or '1'}, got {value.unit}")
    shape = (n_cells, 3) if is_vector else (n_cells,)
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape} (one row per gas cell), got {value.shape}")
    plain = value.to_value(unit)
    if not np.all(np.isfinite(plain)):
        raise ValueError(f"{name} must be finite, got {np.count_nonzero(~np.isfinite(plain))} values that are not")
    if bound is not None:
        bad = plain < bound if bound_allowed else plain <= bound
        if np.any(bad):
            allowed = "not be negative" if bound_allowed else "be larger than zero"
            raise ValueError(f"{name} must {allowed}, got {np.min(plain)} {unit}".rstrip())
    return value if value.unit == unit else value.to(unit)


@dataclass(frozen=True, eq=False)
class Halo:
    """
    One halo of a simulation: its place in the catalogue and its X-ray emitting gas.

    Every array has one row per gas cell. Lengths are physical (not comoving), free of the Hubble parameter.

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
    cosmology: FLRW
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("halo_id", "snapshot"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
            object.__setattr__(self, name, int(value))
        if not isinstance(self.simulation, str):
            raise TypeError(f"simulation must be a string, got {type(self.simulation).__name__}")
        redshift = float(self.redshift)
        if not np.isfinite(redshift) or redshift < -1e-6:
            raise ValueError(f"redshift must be finite and not negative, got {self.redshift}")
        object.__setattr__(self, "redshift", redshift)
        if not isinstance(self.cosmology, FLRW):
            raise TypeError(f"cosmology must be an astropy cosmology, got {type(self.cosmology).__name__}")
        if not isinstance(self.meta, dict):
            raise TypeError(f"meta must be a dict, got {type(self.meta).__name__}")
        for name, unit in (("m_500", u.Msun), ("r_500", u.kpc)):
            value = check_quantity(name, getattr(self, name), unit, positive=True, shape=())
            object.__setattr__(self, name, value * unit)
        object.__setattr__(self, "centre", check_quantity("centre", self.centre, u.kpc, shape=(3,)) * u.kpc)
        n_cells = np.shape(self.mass)[0] if np.ndim(self.mass) else 0
        if n_cells == 0:
            raise ValueError("mass must hold at least one gas cell, got none")
        for name in _CELL_FIELDS:
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
    def cell_radius(self):
        """Radius of the sphere with the volume of each cell [kpc]."""
        return np.cbrt(self.volume * (3.0 / (4.0 * np.pi)))

    @property
    def radius(self):
        """Distance of each cell from the centre [kpc]."""
        return np.sqrt(np.sum(self.position.value**2, axis=1)) * u.kpc
