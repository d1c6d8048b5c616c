"""X-ray emission and cooling of a hot plasma in collisional equilibrium, from the packaged APEC tables."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy import units as u

from astroclassify._checks import check_quantity
from astroclassify.data import FOLDER as DATA

__all__ = ["Emissivity", "components", "cooling_function", "load_emissivity"]

COOLING_UNIT = u.erg * u.cm**3 / u.s


def load_table(name):
    """A packaged npz table as a dict: read-only arrays (floats in double precision) and provenance strings."""
    table = {}
    with (DATA / name).open("rb") as stream:
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
    """A temperature [K] or k_B T [keV] as plain k_B T [keV], finite and larger than zero; errors name the argument."""
    if isinstance(value, u.Quantity) and value.unit.is_equivalent(u.K):
        value = value.to(u.keV, u.temperature_energy())
    return check_quantity(name, value, u.keV, positive=True)


def check_metallicity(metallicity):
    """A metallicity in solar units as plain floats, finite and not negative."""
    if isinstance(metallicity, u.Quantity):
        metallicity = check_quantity("metallicity", metallicity, u.dimensionless_unscaled)
    plain = np.asarray(metallicity, dtype=float)
    if not np.all(np.isfinite(plain)) or np.any(plain < 0):
        bad = plain[~(np.isfinite(plain) & (plain >= 0))]
        raise ValueError(f"metallicity must be finite and not negative (in solar units), got {bad.flat[0]}")
    return plain


def table_position(nodes, values):
    """
    Node of a table below each value, and the weight (0 to 1) of the node above; linear in temperature, as in SOXS.

    Nodes [keV] increase; a value that is NaN or outside them raises a ValueError.
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
    Photon emissivity of a plasma in collisional ionisation equilibrium, as in AtomDB 3.0.9 (Foster et al. 2012, ApJ
    756, 128).

    A gas cell of volume V emits ``n_e n_H V spectrum(kT, metallicity)`` photons per second in each rest-frame energy
    bin; an XSPEC model of norm 1 is 1e14 times that. ``energy_edges`` [keV] (nE + 1,); ``temperature`` [keV] (nT,);
    ``h_he`` (with trace elements) and ``metals`` (solar) [photons cm3 s-1 per bin] (nT, nE); ``elements`` (7, nT, nE):
    the metals in the order of `_constants.ELEMENTS`, the others with their partner in `RIDING_ELEMENTS`.

    Abundances of Anders & Grevesse (1989); no thermal broadening: the bins of 10 eV are wider than a thermal line (the
    6.7 keV iron line has 6.9 eV FWHM at kT = 10 keV). Helium is fixed at the solar number ratio 0.0977, as in XSPEC and
    SOXS; a primordial gas (0.0789) emits up to 5% less.
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
        Photons in every bin, (n, nE) or (nE,), linear in kT [keV] between the temperatures and in metallicity [solar].
        """
        metallicity = check_metallicity(metallicity)
        index, position = table_position(self.temperature, kT)
        shape = np.broadcast_shapes(index.shape, metallicity.shape)
        index, position = np.broadcast_to(index, shape), np.broadcast_to(position, shape)
        return interpolate(self.h_he, index, position) + metallicity[..., np.newaxis] * interpolate(
            self.metals, index, position
        )


@lru_cache(maxsize=1)
def load_emissivity():
    """The packaged emissivity, once per process: 0.1 to 12 keV in bins of 10 eV, 51 temperatures from 1e4 to 1e9 K."""
    table = load_table("apec_emissivity.npz")
    arrays = {name: table.pop(name) for name in ("energy_edges", "temperature", "h_he", "metals")}
    return Emissivity(**arrays, elements=load_table("apec_elements.npz")["elements"], provenance=table)


def components(halo):
    """
    Spectral tables (k, nT, nE) of the gas of a halo [photons cm3 s-1 per bin], and the scale of each in a cell, (n, k).

    A cell emits ``n_e n_H V sum_k scales[:, k] tables[k]`` at its temperature: hydrogen and helium (scale 1), then all
    metals (k = 2), or each of `ELEMENTS` where the halo has ``abundances`` (k = 8), in solar units.
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


def cooling_of_gas(kT, metallicity):
    """`cooling_value`, where temperatures beyond the table get the Lambda of its nearest end."""
    nodes = load_cooling()["temperature"]
    return cooling_value(np.clip(kT, nodes[0], nodes[-1]), metallicity)


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
