"""Central measures of a halo's gas, and the class that its cooling time gives."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from astroclassify._checks import check_choice, check_number, check_quantity
from astroclassify.schemes import COOL_CORE, T_COOL_BOUNDS, Flag

from ..physics._constants import ELECTRONS_PER_HYDROGEN, IONS_PER_HYDROGEN
from ..physics._plasma import check_metallicity, cooling_of_gas, cooling_value, temperature_kev
from ._pieces import gas_within

__all__ = ["CoreMeasures", "classify_t_cool", "cooling_time", "measure_core"]

MIN_CELLS = 10
"""Below this number of cells in the aperture the measures are flagged `Flag.FEW_CELLS`."""

WEIGHTINGS = ("mass", "volume", "emission")

_ERG_PER_KEV = u.keV.to(u.erg)
_GYR_PER_S = u.s.to(u.Gyr)


def _cooling_time(n_e, n_h, particles, kT, lambda_cool):
    """Cooling time [Gyr] from plain floats: cm-3, cm-3, cm-3, keV, erg cm3/s."""
    return 1.5 * particles * kT * _ERG_PER_KEV / (n_e * n_h * lambda_cool) * _GYR_PER_S


def cooling_time(n_e, temperature, metallicity, *, n_h=None, particles_per_electron=None):
    r"""
    Time in which a gas would radiate its thermal energy, at constant density.

    .. math:: t_{cool} = \frac{3}{2} \frac{(n_e + n_i)\, k T}{n_e n_H \Lambda(T, Z)}

    Parameters
    ----------
    n_e : `~astropy.units.Quantity`
        Electron number density.
    temperature : `~astropy.units.Quantity`
        Temperature [K] or k_B T [keV], within the range of `cooling_function`.
    metallicity : float, array_like or dimensionless `~astropy.units.Quantity`
        Metallicity in solar units of Anders & Grevesse (1989).
    n_h : `~astropy.units.Quantity`, optional
        Number density of hydrogen nuclei; by default n_e / 1.158: fully ionised, 76% hydrogen and 24% helium by mass.
    particles_per_electron : float, optional
        (n_e + n_i) / n_e. By default n_i is 1.079 n_H (hydrogen and helium ions; solar metals would add 0.0016 n_H).

    Returns
    -------
    `~astropy.units.Quantity`
        Cooling time [Gyr], shape of the arguments broadcast together.

    Raises
    ------
    TypeError
        If a density or temperature is not a Quantity, or the particle number not a number.
    ValueError
        If a unit is wrong, a density is not positive and finite, the particle number is below 1, the temperature lies
        outside the table, or the metallicity is negative or not finite.

    Notes
    -----
    Su et al. (2020, section 2) print n_e n_i Lambda; here Lambda is defined per n_e n_H (see `cooling_function`),
    hence the denominator. ACCEPT's ``tcool3/2`` (Cavagnolo et al. 2009, ApJS 182, 12) has n_H = n_e / 1.2 and
    1.92 particles per electron. At constant pressure (enthalpy) the time is 5/3 of this one.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import cooling_time
    >>> print(f"{cooling_time(0.01 / u.cm**3, 3 * u.keV, 0.3):.2f}")
    3.17 Gyr
    """
    n_e = check_quantity("n_e", n_e, u.cm**-3, positive=True)
    kT = temperature_kev("temperature", temperature)
    metallicity = check_metallicity(metallicity)
    n_h = n_e / ELECTRONS_PER_HYDROGEN if n_h is None else check_quantity("n_h", n_h, u.cm**-3, positive=True)
    if particles_per_electron is None:
        particles = n_e + IONS_PER_HYDROGEN * n_h
    else:
        per_electron = np.asarray(particles_per_electron)
        if per_electron.dtype.kind not in "fiu":
            raise TypeError(f"particles_per_electron must be a number, got {particles_per_electron!r}")
        if not (np.all(np.isfinite(per_electron)) and np.all(per_electron >= 1)):
            raise ValueError(f"particles_per_electron must be finite and at least 1, got {particles_per_electron}")
        particles = per_electron * n_e
    return _cooling_time(n_e, n_h, particles, kT, cooling_value(kT, metallicity)) * u.Gyr


@dataclass(frozen=True)
class CoreMeasures:
    """
    Averages of the gas in the centre of a halo.

    Attributes
    ----------
    t_cool : `~astropy.units.Quantity`
        Cooling time [Gyr].
    n_e : `~astropy.units.Quantity`
        Electron density [cm-3].
    temperature : `~astropy.units.Quantity`
        k_B T [keV].
    metallicity : float
        In solar units.
    entropy : `~astropy.units.Quantity`
        k_B T n_e^(-2/3) [keV cm2].
    n_cells : int
        Number of gas cells in the aperture.
    flags : Flag
        `Flag.FEW_CELLS` for fewer than 10 cells; with `Flag.FAILED` and NaN measures for none.
    """

    t_cool: u.Quantity
    n_e: u.Quantity
    temperature: u.Quantity
    metallicity: float
    entropy: u.Quantity
    n_cells: int
    flags: Flag


def measure_core(halo, *, aperture=0.012, weighting="mass"):
    """
    Average the gas within a small sphere around the centre of a halo.

    Parameters
    ----------
    halo : Halo or HaloPieces
        The halo.
    aperture : float, optional
        Radius of the sphere in units of R500.
    weighting : {"mass", "volume", "emission"}, optional
        Weight of a cell: its gas mass, its volume, or the energy it radiates (n_e n_H Lambda V). Each measure is the
        weighted average of the cells' own values, cooling time included.

    Returns
    -------
    CoreMeasures
        The averages. A sphere without gas gives NaN and flags, not an error, so that a halo keeps its row.

    Raises
    ------
    TypeError
        If the aperture is not a number.
    ValueError
        If the aperture is not positive and finite, or the weighting is unknown.

    Notes
    -----
    Su et al. (2020, section 2) average within 0.012 R500; their weighting is not known to us. Cells count when their
    centre lies in the sphere. Cells beyond the temperatures of the cooling table (0.02165 to 86.17 keV) get the Lambda
    of its nearest end; cells without free electrons are left out. At low resolution few cells lie within 0.012 R500 of
    a halo with a thin core: see ``flags``.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astroclassify.sim import measure_core
    >>> n = np.ones(20)
    >>> gas = SimpleNamespace(r_500=1 * u.Mpc, position=np.zeros((20, 3)) * u.kpc, mass=1e7 * n * u.Msun,
    ...                       volume=40 * n * u.kpc**3, n_e=0.02 * n / u.cm**3, n_h=0.017 * n / u.cm**3,
    ...                       temperature=3 * n * u.keV, metallicity=0.5 * n * u.one)
    >>> core = measure_core(gas)
    >>> print(f"{core.t_cool:.2f} {core.n_cells}")
    1.48 Gyr 20
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    radius = check_number("aperture", aperture, 0, open_low=True) * halo.r_500.to_value(u.kpc)
    halo = gas_within(halo, radius)
    electrons = halo.n_e.to_value(u.cm**-3)
    inside = (np.sum(halo.position.to_value(u.kpc) ** 2, axis=1) < radius**2) & (electrons > 0)
    n_cells = int(np.count_nonzero(inside))
    flags = Flag.FEW_CELLS if n_cells < MIN_CELLS else Flag(0)
    if n_cells == 0:
        return _core(*np.full(5, np.nan), n_cells, flags | Flag.FAILED)

    n_e, n_h = electrons[inside], halo.n_h.to_value(u.cm**-3)[inside]
    kT = halo.temperature.to_value(u.keV, u.temperature_energy())[inside]
    metallicity = halo.metallicity.to_value(u.dimensionless_unscaled)[inside]
    lambda_cool = cooling_of_gas(kT, metallicity)
    if weighting == "mass":
        weight = halo.mass.to_value(u.Msun)[inside]
    else:
        weight = halo.volume.to_value(u.kpc**3)[inside]
        if weighting == "emission":
            weight = weight * n_e * n_h * lambda_cool
    t_cool = _cooling_time(n_e, n_h, n_e + IONS_PER_HYDROGEN * n_h, kT, lambda_cool)
    values = (t_cool, n_e, kT, metallicity, kT * n_e ** (-2.0 / 3.0))
    return _core(*(np.average(value, weights=weight) for value in values), n_cells, flags)


def _core(t_cool, n_e, kT, metallicity, entropy, n_cells, flags):
    """Give plain averages their units."""
    return CoreMeasures(
        t_cool=t_cool * u.Gyr,
        n_e=n_e * u.cm**-3,
        temperature=kT * u.keV,
        metallicity=float(metallicity),
        entropy=entropy * u.keV * u.cm**2,
        n_cells=n_cells,
        flags=flags,
    )


def classify_t_cool(t_cool):
    """
    Class of each central cooling time.

    Parameters
    ----------
    t_cool : `~astropy.units.Quantity`
        Cooling time, any shape. NaN is allowed, and masked values are: they have no class.

    Returns
    -------
    str or `~numpy.ndarray` of str
        Labels of `COOL_CORE`: ``"CC"`` below 1 Gyr, ``"WCC"`` from 1 to 7.7 Gyr (both included), ``"NCC"``
        above; the empty string for NaN. A str for a scalar.

    Raises
    ------
    TypeError
        If ``t_cool`` is not a Quantity.
    ValueError
        If it is not a time, or negative.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 2.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import classify_t_cool
    >>> classify_t_cool([0.3, 5, 20] * u.Gyr).tolist()
    ['CC', 'WCC', 'NCC']
    """
    if not isinstance(t_cool, u.Quantity):
        raise TypeError(f"t_cool must be a Quantity with a unit like Gyr, got {type(t_cool).__name__} {t_cool!r}")
    if not t_cool.unit.is_equivalent(u.Gyr):
        raise u.UnitConversionError(f"t_cool must have a unit like Gyr, got {t_cool.unit}")
    missing = getattr(t_cool, "mask", False)
    plain = np.where(missing, np.nan, getattr(t_cool, "unmasked", t_cool).to_value(u.Gyr))
    if np.any(plain < 0):
        raise ValueError(f"t_cool must not be negative, got {np.nanmin(plain)} Gyr")
    low, high = T_COOL_BOUNDS
    labels = np.select(
        [plain < low, plain <= high, plain > high], [np.array(label) for label in COOL_CORE.classes], default=""
    )
    return str(labels) if labels.ndim == 0 else labels
