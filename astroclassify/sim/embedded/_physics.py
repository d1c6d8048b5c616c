"""Physics of the embedded clusters: mass function, NFW halos, hydrostatic gas. Plain floats throughout."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from astropy import constants
from astropy import units as u
from scipy.integrate import cumulative_simpson, simpson
from scipy.optimize import brentq

from ..halos._tng_units import mean_molecular_weight
from ..physics._constants import ELECTRONS_PER_HYDROGEN, HYDROGEN_FRACTION

# Cosmology of IllustrisTNG (Planck 2015; Springel et al. 2018, MNRAS 475, 676)
OMEGA_M, OMEGA_B, HUBBLE, SIGMA_8, SPECTRAL_INDEX = 0.3089, 0.0486, 0.6774, 0.8159, 0.9667

GRAVITY = constants.G.to_value(u.kpc * u.km**2 / u.s**2 / u.Msun)
CRITICAL_DENSITY = 3.0 * (0.1 * HUBBLE) ** 2 / (8.0 * np.pi * GRAVITY)  # Msun/kpc3 at z = 0; H0 = 0.1 h km/s/kpc
MU = float(mean_molecular_weight(ELECTRONS_PER_HYDROGEN))
MU_E = 1.0 / (HYDROGEN_FRACTION * ELECTRONS_PER_HYDROGEN)
PARTICLES_PER_ELECTRON = MU_E / MU
PROTON_KEV = (constants.m_p * (1 * u.km / u.s) ** 2).to_value(u.keV)  # m_p (km/s)^2
ELECTRON_TO_DENSITY = MU_E * (constants.m_p / u.cm**3).to_value(u.Msun / u.kpc**3)  # n_e [cm-3] to Msun/kpc3

# Beyond this fraction of R500, farther out than most data of ACCEPT, entropy is a power law, of slope 1.1 (Voit, Kay &
# Bryan 2005, MNRAS 364, 909, section 3) unless the gas mass requires another one.
ENTROPY_BREAK = 0.25
OUTER_SLOPE = 1.1
OUTER_SLOPE_RANGE = (0.3, 2.2)
# Temperatures at R500 that are allowed, in units of T500 = mu m_p G M500 / (2 R500), and how they fall beyond:
# T ~ r^-0.5, about what is seen out to R200 (Ghirardini et al. 2019, A&A 621, A41, figure 3).
T_R500_RANGE = (0.5, 0.95)
OUTER_TEMPERATURE_SLOPE = -0.5
_MASS_SLOPE = 1.67  # of M500 by temperature
_HERNQUIST_RADIUS = 11.0  # kpc; half of the light within 20 kpc on the sky


def r_500_of(m_500):
    """Radius [kpc] of a sphere of mass M500 [Msun] and 500 times the critical density at z = 0."""
    return np.cbrt(np.asarray(m_500) / (500.0 * CRITICAL_DENSITY * 4.0 / 3.0 * np.pi))


def virial_temperature(m_500):
    """T500 = mu m_p G M500 / (2 R500) in keV."""
    return 0.5 * MU * PROTON_KEV * GRAVITY * m_500 / r_500_of(m_500)


def mass_of_temperature(temperature):
    """M500 [Msun] of a temperature [keV] at z = 0: Sun et al. (2009, ApJ 693, 1142), table 6, groups and clusters."""
    return 1.27e14 / HUBBLE * (np.asarray(temperature) / 3.0) ** _MASS_SLOPE


def temperature_of_mass(m_500):
    """The inverse of `mass_of_temperature`: keV of Msun."""
    return 3.0 * (np.asarray(m_500) * HUBBLE / 1.27e14) ** (1.0 / _MASS_SLOPE)


def gas_fraction(m_500):
    """
    Mean gas mass fraction inside R500: M_gas = 10^-0.16 (M500 / 5e13 Msun/h70)^1.22 5e12 Msun h70^-2.5 (Lovisari,
    Reiprich & Schellenberger 2015, A&A 573, A118, equation 9).
    """
    h_70 = HUBBLE / 0.7
    return 10**-0.16 * (m_500 * h_70 / 5e13) ** 1.22 * 5e12 * h_70**-2.5 / m_500


def _nfw_shape(x):
    return np.log1p(x) - x / (1.0 + x)


@dataclass(frozen=True)
class Nfw:
    """
    A halo of Navarro, Frenk & White (1997), by its M500 [Msun] and concentration R500 / r_s, which may include the
    stars of a central galaxy [Msun], a sphere of Hernquist (1990, ApJ 356, 359).
    """

    m_500: float
    c_500: float
    stars: float = 0.0

    @property
    def r_500(self):
        """R500 in kpc."""
        return float(r_500_of(self.m_500))

    def mass(self, radius):
        """Mass inside a radius [kpc], in Msun."""
        radius = np.asarray(radius)
        dark = self.m_500 - self._stars(self.r_500)
        return dark * _nfw_shape(radius * (self.c_500 / self.r_500)) / _nfw_shape(self.c_500) + self._stars(radius)

    def _stars(self, radius):
        return self.stars * (radius / (radius + _HERNQUIST_RADIUS)) ** 2

    def gravity(self, radius):
        """G M(<r) / r^2 in (km/s)^2/kpc."""
        return GRAVITY * self.mass(radius) / np.asarray(radius) ** 2

    def mass_in_sphere(self, radius, distance):
        """Mass of this halo inside a sphere whose centre is ``distance`` away, both in kpc."""
        edges = np.geomspace(1e-3 * self.r_500, distance + radius, 400)
        shells = np.diff(self.mass(edges), prepend=0.0)
        shells[0] = self.mass(edges[0])
        s = np.sqrt(edges * np.concatenate([edges[:1], edges[:-1]]))
        share = np.clip((radius**2 - (distance - s) ** 2) / (4.0 * distance * s), 0.0, 1.0)
        return float(np.sum(shells * share))


def central_galaxy(m_500):
    """
    Stars of the brightest galaxy of a cluster [Msun], without the light far out: 5e11 (M500 / 1e14 Msun)^0.4, about
    Kravtsov, Vikhlinin & Meshcheryakov (2018, Astronomy Letters 44, 8) [from memory].
    """
    return 5e11 * (m_500 / 1e14) ** 0.4


def concentration_500(m_500, scatter=0.0):
    """
    R500 / r_s of a halo of M500 [Msun] at z = 0: log c200 = 0.905 - 0.101 log(M200 / 1e12 Msun/h) (Dutton & Maccio
    2014, MNRAS 441, 3359, equation 8: NFW, Planck) [from memory], plus scatter, converted along the profile.
    """
    m_200 = 1.4 * m_500
    for _ in range(8):
        c_200 = 10 ** (0.905 - 0.101 * np.log10(m_200 * HUBBLE / 1e12) + scatter)
        target = 2.5 * _nfw_shape(c_200) / c_200**3
        c_500 = brentq(lambda c, t=target: _nfw_shape(c) / c**3 - t, 0.05 * c_200, c_200)
        m_200 = m_500 * _nfw_shape(c_200) / _nfw_shape(c_500)
    return c_500


def _transfer(k):
    """Transfer function without wiggles, k in h/Mpc (Eisenstein & Hu 1998, ApJ 496, 605, equations 26 and 28-31)."""
    o_m, o_b = OMEGA_M * HUBBLE**2, OMEGA_B * HUBBLE**2
    ratio = OMEGA_B / OMEGA_M
    theta = 2.7255 / 2.7
    sound = 44.5 * np.log(9.83 / o_m) / np.sqrt(1 + 10 * o_b**0.75)  # Mpc
    alpha = 1 - 0.328 * np.log(431 * o_m) * ratio + 0.38 * np.log(22.3 * o_m) * ratio**2
    gamma = OMEGA_M * HUBBLE * (alpha + (1 - alpha) / (1 + (0.43 * k * HUBBLE * sound) ** 4))
    q = k * theta**2 / gamma
    log = np.log(2 * np.e + 1.8 * q)
    return log / (log + (14.2 + 731 / (1 + 62.5 * q)) * q**2)


@lru_cache(maxsize=1)
def mass_function():
    """
    log10 M500 [Msun] and the number of halos per Mpc3 and unit log10 M500, at z = 0 in the cosmology of TNG.

    Tinker et al. (2008, ApJ 688, 709), equations 2-3, table 2 interpolated to 500 / Omega_m = 1619 times the mean
    density; linear power spectrum of Eisenstein & Hu (1998).
    """
    k = np.geomspace(1e-4, 1e2, 3000)  # h/Mpc
    power = k**SPECTRAL_INDEX * _transfer(k) ** 2

    def variance(radius):  # Mpc/h
        x = k * radius
        window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
        return simpson(power * window**2 * k**3, x=np.log(k)) / (2 * np.pi**2)

    log_mass = np.linspace(13.0, 15.6, 79)
    mean_density = OMEGA_M * CRITICAL_DENSITY * 1e9 / HUBBLE**2  # (Msun/h) / (Mpc/h)^3
    mass = 10**log_mass * HUBBLE  # Msun/h
    radii = np.cbrt(3 * mass / (4 * np.pi * mean_density))
    sigma = SIGMA_8 * np.sqrt(np.array([variance(r) for r in radii]) / variance(8.0))
    slope = -np.gradient(np.log(sigma), np.log(mass))
    table = np.log10([800.0, 1200.0, 1600.0, 2400.0])
    rows = {"A": (0.248, 0.255, 0.260, 0.260), "a": (1.87, 2.13, 2.30, 2.53), "b": (1.59, 1.51, 1.46, 1.44)}
    delta = np.log10(500.0 / OMEGA_M)
    amplitude, a, b = (np.interp(delta, table, rows[name]) for name in "Aab")
    c = np.interp(delta, table, (1.58, 1.80, 1.97, 2.24))
    multiplicity = amplitude * ((sigma / b) ** -a + 1) * np.exp(-c / sigma**2)
    per_log = multiplicity * mean_density / mass * slope * np.log(10)  # (h/Mpc)^3 per dex
    return log_mass, per_log * HUBBLE**3


@dataclass(frozen=True)
class EntropyProfile:
    """K(r) = k_0 + k_100 (r / 100 kpc)^alpha [keV cm2] out to ``r_break`` [kpc], a power law beyond."""

    k_0: float
    k_100: float
    alpha: float
    r_break: float
    outer_slope: float = OUTER_SLOPE

    def __call__(self, radius):
        inner = self.k_0 + self.k_100 * (np.minimum(radius, self.r_break) / 100.0) ** self.alpha
        return inner * (np.maximum(radius, self.r_break) / self.r_break) ** self.outer_slope


@dataclass(frozen=True)
class GasProfile:
    """Density [Msun/kpc3] and temperature [keV] of gas by radius [kpc]; the entropy profile of hydrostatic gas."""

    radius: np.ndarray
    density: np.ndarray
    temperature: np.ndarray
    entropy: EntropyProfile | None = None

    @property
    def central_entropy(self):
        """k T n_e^(-2/3) in the innermost shell [keV cm2]."""
        return float(self.temperature[0] * (self.density[0] / ELECTRON_TO_DENSITY) ** (-2 / 3))

    def enclosed(self):
        """Gas mass inside each radius of the grid [Msun]."""
        log_r = np.log(self.radius)
        integral = cumulative_simpson(4 * np.pi * self.radius**3 * self.density, x=log_r, initial=0.0)
        return integral + 4 / 3 * np.pi * self.radius[0] ** 3 * self.density[0]

    def mass_within(self, radius):
        """Gas mass inside one radius [Msun]."""
        return float(np.interp(radius, self.radius, self.enclosed()))


class _Atmosphere:
    """Hydrostatic gas of one halo for any entropy profile and temperature at R500; see `solve_hydrostatic`."""

    def __init__(self, halo, r_max, n_grid=700):
        self.halo = halo
        self.inner = np.geomspace(2e-4 * halo.r_500, halo.r_500, n_grid)
        self.outer = np.geomspace(halo.r_500, r_max * halo.r_500, 80)[1:]
        self._force = MU_E * PROTON_KEV * halo.gravity(self.inner) * self.inner
        self._outer_force = MU * PROTON_KEV * halo.gravity(self.outer) * self.outer
        self._t_500 = virial_temperature(halo.m_500)

    def gas(self, entropy, ratio):
        """The gas for a temperature at R500 of ``ratio`` T500."""
        k = PARTICLES_PER_ELECTRON * entropy(self.inner)
        y_500 = ratio * self._t_500 * PARTICLES_PER_ELECTRON / k[-1] ** 0.6
        integral = cumulative_simpson(0.4 * self._force * k**-0.6, x=np.log(self.inner), initial=0.0)
        y = y_500 + integral[-1] - integral  # P^(2/5)
        n_e = (y**2.5 / k) ** 0.6
        temperature = y**2.5 / (PARTICLES_PER_ELECTRON * n_e)
        r_500 = self.halo.r_500
        outer_temperature = temperature[-1] * (self.outer / r_500) ** OUTER_TEMPERATURE_SLOPE
        slope = self._outer_force / outer_temperature
        slope = np.concatenate([[MU * PROTON_KEV * self.halo.gravity(r_500) * r_500 / temperature[-1]], slope])
        log_r = np.log(np.concatenate([[r_500], self.outer]))
        outer_pressure = y[-1] ** 2.5 * np.exp(-cumulative_simpson(slope, x=log_r))
        outer_n_e = outer_pressure / (PARTICLES_PER_ELECTRON * outer_temperature)
        return GasProfile(
            np.concatenate([self.inner, self.outer]),
            np.concatenate([n_e, outer_n_e]) * ELECTRON_TO_DENSITY,
            np.concatenate([temperature, outer_temperature]),
            entropy,
        )

    def excess(self, entropy, ratio, gas_mass):
        """ln of the gas mass inside R500 over the one wanted."""
        return float(np.log(self.gas(entropy, ratio).enclosed()[len(self.inner) - 1] / gas_mass))


def solve_hydrostatic(halo, entropy, gas_mass, *, r_max=2.5):
    """
    Gas in hydrostatic equilibrium with a given entropy profile and gas mass [Msun] inside R500, out to ``r_max`` R500.

    With P = (mu_e / mu) K n_e^(5/3), dP/dr = -rho g becomes a quadrature for P^(2/5), whose constant, the temperature
    at R500, sets the gas mass. If that temperature leaves `T_R500_RANGE` times T500, it is put at the limit and first
    the slope of the entropy beyond ``r_break`` is changed (`OUTER_SLOPE_RANGE`), then the whole entropy scaled.
    Beyond R500 the temperature is a power law of the radius. ``entropy`` of the result is the profile used.
    """
    atmosphere = _Atmosphere(halo, r_max)
    low, high = T_R500_RANGE
    if atmosphere.excess(entropy, low, gas_mass) < 0 < atmosphere.excess(entropy, high, gas_mass):
        ratio = brentq(lambda x: atmosphere.excess(entropy, x, gas_mass), low, high, xtol=1e-8)
        return atmosphere.gas(entropy, ratio)
    # too much gas, even cold at R500, needs more entropy; too little, even hot, needs less
    ratio = low if atmosphere.excess(entropy, low, gas_mass) >= 0 else high

    def with_slope(slope):
        return replace(entropy, outer_slope=slope)

    def with_scale(log_scale, slope):
        scale = np.exp(log_scale)
        return replace(entropy, k_0=scale * entropy.k_0, k_100=scale * entropy.k_100, outer_slope=slope)

    ends = [atmosphere.excess(with_slope(slope), ratio, gas_mass) for slope in OUTER_SLOPE_RANGE]
    if ends[1] < 0 < ends[0]:
        slope = brentq(lambda x: atmosphere.excess(with_slope(x), ratio, gas_mass), *OUTER_SLOPE_RANGE, xtol=1e-8)
        return atmosphere.gas(with_slope(slope), ratio)
    slope = OUTER_SLOPE_RANGE[0] if ends[0] < 0 else OUTER_SLOPE_RANGE[1]
    scale = brentq(lambda x: atmosphere.excess(with_scale(x, slope), ratio, gas_mass), -5.0, 5.0, xtol=1e-8)
    return atmosphere.gas(with_scale(scale, slope), ratio)
