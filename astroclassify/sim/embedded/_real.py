"""Gas of a cluster from the whole profiles of real ones: rescaled, mixed in pairs, scattered."""

from functools import lru_cache

import numpy as np
from scipy.integrate import trapezoid
from scipy.optimize import brentq

from . import _physics as physics
from ._accept import whole_profiles

# Kernel in log10 mass between a real cluster and the one it lends its profile to, and its floor.
_MASS_KERNEL, _KERNEL_FLOOR = 0.5, 0.1
_NEIGHBOURS = 6  # the partner of a mix is one of so many profiles of the closest shape
# Scatter (ln) of n_e and kT about the mixed profiles, and the ln of radius over which it is coherent.
_DENSITY_SCATTER, _TEMPERATURE_SCATTER, _COHERENCE = 0.1, 0.08, 1.0
# Gas inside R500 over that of `physics.gas_fraction`: limits (ln), and r / R500 between which density is bent to them.
_GAS_RANGE, _BEND = 0.25, (0.15, 0.6)
_GRID = 500


@lru_cache(maxsize=1)
def _scatter_factor():
    """Matrix that turns unit normals into a smooth scatter on the packaged grid."""
    log_x = np.log(whole_profiles()["x"])
    covariance = np.exp(-0.5 * ((log_x[:, None] - log_x) / _COHERENCE) ** 2)
    return np.linalg.cholesky(covariance + 1e-6 * np.eye(len(log_x)))


def _scaled(m_500, part):
    """
    ln n_e and ln kT of all real clusters at one mass, and the difference in log10 mass.

    At the same r / R500, density goes with the gas fraction (M500^0.22) and temperature with M500^(1/1.67): ACCEPT
    itself has M500^(0.08 to 0.25) and M500^(0.57 to 0.61), from the centre to R500.
    """
    real = whole_profiles(part)
    density = np.log(physics.gas_fraction(m_500) / physics.gas_fraction(real["m_500"]))
    temperature = np.log(physics.temperature_of_mass(m_500) / physics.temperature_of_mass(real["m_500"]))
    distance = np.log10(m_500 / real["m_500"])
    return np.log(real["n_e"]) + density[:, None], np.log(real["temperature"]) + temperature[:, None], distance


def _bent(log_n_e, x, m_500, r_500):
    """ln n_e with the outer part moved until the gas mass inside R500 is one that clusters have."""
    low, high = np.log(_BEND)
    ramp = np.clip((np.log(x) - low) / (high - low), 0.0, 1.0)
    ramp = ramp**2 * (3.0 - 2.0 * ramp)
    inside = x <= 1.0
    volume = 4 * np.pi * (x[inside] * r_500) ** 3 * physics.ELECTRON_TO_DENSITY

    def excess(shift):
        mass = trapezoid(volume * np.exp((log_n_e + shift * ramp)[inside]), np.log(x[inside]))
        return float(np.log(mass / (physics.gas_fraction(m_500) * m_500)))

    found = excess(0.0)
    if abs(found) <= _GAS_RANGE:
        return log_n_e
    target = np.copysign(_GAS_RANGE, found)
    if excess(-4.0) > target:  # a core so dense that it holds all the gas that is allowed
        return log_n_e - 4.0 * ramp
    return log_n_e + brentq(lambda shift: excess(shift) - target, -4.0, 4.0, xtol=1e-3) * ramp


def draw_real_gas(rng, m_500, r_500, part):
    """
    Gas of a cluster of M500 [Msun] and the names of the two real clusters that it is mixed from.

    The first is drawn by a kernel in mass, the second is one of those with the most similar shape inside 0.5 R500; the
    mix is linear in the logarithms with a uniform share.
    """
    real = whole_profiles(part)
    log_n_e, log_kt, distance = _scaled(m_500, part)
    weight = np.exp(-0.5 * (distance / _MASS_KERNEL) ** 2) + _KERNEL_FLOOR
    first = rng.choice(len(weight), p=weight / np.sum(weight))
    x = real["x"]
    compared = (x > 3e-3) & (x < 0.5)
    unlike = np.mean((log_n_e - log_n_e[first])[:, compared] ** 2, axis=1)
    unlike += np.mean((log_kt - log_kt[first])[:, compared] ** 2, axis=1)
    second = np.argsort(unlike)[1 + rng.integers(_NEIGHBOURS)]
    share = rng.random()
    scatter = _scatter_factor() @ rng.standard_normal((len(x), 2))
    mixed_n_e = (1 - share) * log_n_e[first] + share * log_n_e[second]
    mixed_n_e = _bent(mixed_n_e, x, m_500, r_500) + _DENSITY_SCATTER * scatter[:, 0]
    mixed_kt = (1 - share) * log_kt[first] + share * log_kt[second] + _TEMPERATURE_SCATTER * scatter[:, 1]
    fine = np.geomspace(x[0], x[-1], _GRID)
    gas = physics.GasProfile(
        fine * r_500,
        np.exp(np.interp(np.log(fine), np.log(x), mixed_n_e)) * physics.ELECTRON_TO_DENSITY,
        np.exp(np.interp(np.log(fine), np.log(x), mixed_kt)),
    )
    return gas, str(real["name"][first]), str(real["name"][second])
