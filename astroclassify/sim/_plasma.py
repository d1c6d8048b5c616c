"""X-ray emission and cooling of a hot plasma in collisional equilibrium, from the packaged APEC tables."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from astropy import units as u

from .._checks import check_quantity

__all__ = ["Emissivity", "components", "cooling_function", "load_emissivity"]

COOLING_UNIT = u.erg * u.cm**3 / u.s


def load_table(name):
    """
    Read a packaged npz table into memory.

    Parameters
    ----------
    name : str
        File name inside ``astroclassify/data``.

    Returns
    -------
    dict
        Arrays (read-only, floating point ones in double precision) and provenance strings by name.
    """
    table = {}
    with (files("astroclassify") / "data" / name).open("rb") as stream:
        with np.load(stream, allow_pickle=False) as archive:
            for key in archive.files:
                value = archive[key]
                if value.dtype.kind == "U":
                    table[key] = str(value)
                else:
                    value = np.array(value, dtype=float)
                    value.flags.writeable = False
                    table[key] = value
    return table


def temperature_kev(name, value):
    """
    Turn a temperature into plain k_B T in keV.

    Parameters
    ----------
    name : str
        Name of the argument, for the error message.
    value : `~astropy.units.Quantity`
        A temperature (K) or k_B T (keV).

    Returns
    -------
    float or `~numpy.ndarray`
        k_B T in keV, finite and larger than zero.

    Raises
    ------
    TypeError
        If ``value`` is not a Quantity.
    ValueError
        If its unit or a value is not allowed.
    """
    if isinstance(value, u.Quantity) and value.unit.is_equivalent(u.K):
        value = value.to(u.keV, u.temperature_energy())
    return check_quantity(name, value, u.keV, positive=True)


def check_metallicity(metallicity):
    """
    Turn a metallicity in solar units into plain floats.

    Parameters
    ----------
    metallicity : float, array_like or dimensionless `~astropy.units.Quantity`
        What came.

    Returns
    -------
    `~numpy.ndarray`
        Finite values, none negative.

    Raises
    ------
    ValueError
        If it has a unit, or a value is negative or not finite.
    """
    if isinstance(metallicity, u.Quantity):
        metallicity = check_quantity("metallicity", metallicity, u.dimensionless_unscaled)
    plain = np.asarray(metallicity, dtype=float)
    if not np.all(np.isfinite(plain)) or np.any(plain < 0):
        bad = plain[~(np.isfinite(plain) & (plain >= 0))]
        raise ValueError(f"metallicity must be finite and not negative (in solar units), got {bad.flat[0]}")
    return plain


def table_position(nodes, values):
    """
    Where values lie between the nodes of a table.

    Parameters
    ----------
    nodes : `~numpy.ndarray`, shape (m,)
        Increasing nodes [keV].
    values : array_like
        Temperatures [keV].

    Returns
    -------
    index : `~numpy.ndarray` of int
        Node below each value.
    weight : `~numpy.ndarray`
        Weight of the node above, 0 to 1; linear in temperature, as SOXS interpolates.

    Raises
    ------
    ValueError
        If a value is NaN or lies outside the table.
    """
    values = np.asarray(values, dtype=float)
    if values.size and not (np.min(values) >= nodes[0] and np.max(values) <= nodes[-1]):
        raise ValueError(
            f"temperature must be between {nodes[0]:.4g} and {nodes[-1]:.4g} keV (the range of the packaged table), "
            f"got {np.min(values):.4g} to {np.max(values):.4g} keV"
        )
    index = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    weight = (values - nodes[index]) / (nodes[index + 1] - nodes[index])
    return index, weight


def interpolate(table, index, weight):
    """Values of a table (m, ...) at positions from `table_position`, shape ``index.shape + table.shape[1:]``."""
    weight = np.asarray(weight).reshape(np.shape(weight) + (1,) * (table.ndim - 1))
    return table[index] * (1.0 - weight) + table[index + 1] * weight


@dataclass(frozen=True, eq=False)
class Emissivity:
    """
    Photon emissivity of a plasma in collisional ionisation equilibrium.

    A gas cell of volume V emits ``n_e n_H V spectrum(kT, metallicity)`` photons per second in each energy bin, in its
    rest frame. In XSPEC's words: a model of norm 1 is 1e14 times the spectrum here.

    Attributes
    ----------
    energy_edges : `~numpy.ndarray`, shape (nE + 1,)
        Edges of the rest-frame energy bins [keV].
    temperature : `~numpy.ndarray`, shape (nT,)
        Temperatures of the table [keV].
    h_he : `~numpy.ndarray`, shape (nT, nE)
        Emissivity of hydrogen, helium and the trace elements [photons cm3 s-1 per bin].
    metals : `~numpy.ndarray`, shape (nT, nE)
        Emissivity of the twelve abundant metals at solar abundance, same unit.
    elements : `~numpy.ndarray`, shape (7, nT, nE)
        The same metals one by one in the order of `_constants.ELEMENTS`, those that no simulation follows with the
        partner that `_constants.RIDING_ELEMENTS` gives them. They add up to ``metals`` within single precision.
    provenance : dict
        Source, AtomDB version, abundance table and command that made the table.

    Notes
    -----
    AtomDB 3.0.9 (Foster et al. 2012, ApJ 756, 128), abundances of Anders & Grevesse (1989), no thermal broadening: the
    bins of 10 eV are wider than a thermal line (the 6.7 keV iron line has 6.9 eV FWHM at kT = 10 keV). Helium is fixed
    at the solar number ratio 0.0977, as in XSPEC and SOXS; a primordial gas (0.0789) emits up to 5% less.

    Examples
    --------
    >>> from astroclassify.sim._plasma import load_emissivity
    >>> table = load_emissivity()
    >>> table.spectrum([1.0, 5.0], 0.3).shape
    (2, 1190)
    """

    energy_edges: np.ndarray
    temperature: np.ndarray
    h_he: np.ndarray
    metals: np.ndarray
    elements: np.ndarray
    provenance: dict

    @property
    def energy(self):
        """Centres of the energy bins [keV], shape (nE,)."""
        return 0.5 * (self.energy_edges[1:] + self.energy_edges[:-1])

    def spectrum(self, kT, metallicity):
        """
        Photons in every energy bin, linear in kT between the table's temperatures and linear in metallicity.

        Parameters
        ----------
        kT : float or array_like, shape (n,)
            Temperature [keV].
        metallicity : float or array_like, shape (n,)
            Metallicity in solar units.

        Returns
        -------
        `~numpy.ndarray`, shape (n, nE)
            Emissivity [photons cm3 s-1 per bin], (nE,) for scalars. For many cells and few numbers wanted
            `integrate` is far smaller and faster.

        Raises
        ------
        ValueError
            If kT lies outside the table, or the metallicity is negative or not finite.
        """
        return self._scaled(self.h_he, self.metals, kT, metallicity)

    def integrate(self, kT, metallicity, weight=None):
        """
        Sum of spectrum times weight over energy; the sum is done on the table, so that 1e6 cells take a moment.

        Parameters
        ----------
        kT : float or array_like, shape (n,)
            Temperature [keV].
        metallicity : float or array_like, shape (n,)
            Metallicity in solar units.
        weight : array_like, shape (nE,) or (nE, k), optional
            Weight of each energy bin, e.g. effective area times transmission; 1 by default.

        Returns
        -------
        `~numpy.ndarray`, shape (n,) or (n, k)
            [photons cm3 s-1] times the unit of the weight.

        Raises
        ------
        ValueError
            If kT or metallicity is not allowed (see `spectrum`), or the weight has another length.
        """
        weight = np.ones(self.h_he.shape[1]) if weight is None else np.asarray(weight, dtype=float)
        if weight.ndim not in (1, 2) or weight.shape[0] != self.h_he.shape[1]:
            raise ValueError(f"weight must have {self.h_he.shape[1]} rows (energy bins), got shape {weight.shape}")
        return self._scaled(self.h_he @ weight, self.metals @ weight, kT, metallicity)

    def _scaled(self, h_he, metals, kT, metallicity):
        """Interpolate both components and add them."""
        metallicity = check_metallicity(metallicity)
        index, position = table_position(self.temperature, kT)
        shape = np.broadcast_shapes(index.shape, metallicity.shape)
        index, position = np.broadcast_to(index, shape), np.broadcast_to(position, shape)
        scale = metallicity.reshape(metallicity.shape + (1,) * (h_he.ndim - 1))
        return interpolate(h_he, index, position) + scale * interpolate(metals, index, position)


@lru_cache(maxsize=1)
def load_emissivity():
    """
    Read the packaged emissivity table, once per process.

    Returns
    -------
    Emissivity
        Photon emissivity from 0.1 to 12 keV in bins of 10 eV, 51 temperatures from 1e4 to 1e9 K.

    Examples
    --------
    >>> from astroclassify.sim._plasma import load_emissivity
    >>> load_emissivity().provenance["atomdb_version"]
    '3.0.9'
    """
    table = load_table("apec_emissivity.npz")
    arrays = {name: table.pop(name) for name in ("energy_edges", "temperature", "h_he", "metals")}
    return Emissivity(**arrays, elements=load_table("apec_elements.npz")["elements"], provenance=table)


def components(halo):
    """
    Spectral tables of a halo's gas and how much of each every cell has.

    A cell emits ``n_e n_H V sum_k scales[:, k] tables[k]`` photons per second and bin, the tables interpolated to its
    temperature (`table_position`).

    Parameters
    ----------
    halo : Halo
        The halo.

    Returns
    -------
    tables : `~numpy.ndarray`, shape (k, nT, nE)
        Photon emissivity [photons cm3 s-1 per bin] of hydrogen and helium, then of the metals: all together (k = 2), or
        each element of `_constants.ELEMENTS` where the halo has ``abundances`` (k = 8).
    scales : `~numpy.ndarray`, shape (n, k)
        1, then the metallicity or the abundances in solar units (single precision where the abundances are).
    """
    table = load_emissivity()
    if halo.abundances is None:
        tables = np.stack([table.h_he, table.metals])
        amounts = halo.metallicity.to_value(u.dimensionless_unscaled)[:, np.newaxis]
    else:
        tables = np.concatenate([table.h_he[np.newaxis], table.elements])
        amounts = halo.abundances.to_value(u.dimensionless_unscaled)
    scales = np.ones((halo.n_cells, len(tables)), dtype=amounts.dtype)
    scales[:, 1:] = amounts
    return tables, scales


@lru_cache(maxsize=1)
def load_cooling():
    """Read the packaged cooling table: ``temperature`` [keV], ``h_he`` and ``metals`` [erg cm3/s], provenance."""
    return load_table("apec_cooling.npz")


def cooling_value(kT, metallicity):
    """`cooling_function` on plain floats: keV and solar units in, erg cm3/s out."""
    table = load_cooling()
    index, weight = table_position(table["temperature"], kT)
    return interpolate(table["h_he"], index, weight) + metallicity * interpolate(table["metals"], index, weight)


def cooling_function(temperature, metallicity):
    """
    Cooling function Lambda(T, Z) of a plasma in collisional ionisation equilibrium.

    Parameters
    ----------
    temperature : `~astropy.units.Quantity`
        Temperature [K] or k_B T [keV], 0.02165 to 86.17 keV (2.5e5 to 1e9 K).
    metallicity : float, array_like or dimensionless `~astropy.units.Quantity`
        Metallicity in solar units of Anders & Grevesse (1989).

    Returns
    -------
    `~astropy.units.Quantity`
        Lambda [erg cm3 / s], shape of the arguments broadcast together.

    Raises
    ------
    TypeError
        If ``temperature`` is not a Quantity.
    ValueError
        If the temperature lies outside the table or has another unit, or the metallicity is negative or not finite.

    Notes
    -----
    Defined by emissivity = n_e n_H Lambda, the energy in photons of 0.01 to 100 keV from AtomDB 3.0.9 (Foster et al.
    2012, ApJ 756, 128). What lies outside that band is not counted: below it some 20% of the hydrogen and helium
    continuum at kT = 0.05 keV, 2% at 0.5 keV and 0.3% at 3 keV, and 2% or less of the metals' lines above 0.027 keV;
    above it 1% of the continuum at 20 keV and 10% at 43 keV. Colder gas than the table's radiates mostly below the
    band. Linear in metallicity and, between the table's temperatures (0.1 dex), in T.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import cooling_function
    >>> print(f"{cooling_function(3 * u.keV, 0.3):.2e}")
    1.61e-23 cm3 erg / s
    """
    kT = temperature_kev("temperature", temperature)
    return cooling_value(kT, check_metallicity(metallicity)) * COOLING_UNIT
