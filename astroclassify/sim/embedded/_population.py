"""Properties of the embedded clusters: mass, entropy profile of a real ACCEPT cluster, disturbances."""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy.optimize import brentq

from astroclassify.data import FOLDER as DATA
from astroclassify.schemes import T_COOL_BOUNDS

from ..physics._constants import ELECTRONS_PER_HYDROGEN, IONS_PER_HYDROGEN
from ..physics._plasma import cooling_function
from . import _physics as physics

#: Fractions of strong, weak and non cool cores that the draw from ACCEPT is weighted to (Su et al. 2020 have about
#: 11, 62 and 27 per cent). ACCEPT itself, an archive of pointed observations, holds far more bright cool cores.
CLASS_FRACTIONS = (0.11, 0.62, 0.27)
# Widths of the draw: kernel in log10 mass between a real cluster and the one it lends its entropy to, its floor, and
# the scatter (ln) of K0 and K100 beyond the errors of the fits.
_MASS_KERNEL, _KERNEL_FLOOR = 0.35, 0.03
_K_0_SCATTER, _K_100_SCATTER = 0.2, 0.15
_LOWEST_ENTROPY = 1.0  # keV cm2
_COLD_ENTROPY = 40.0  # keV cm2; below about 30 there is cold gas in the core (Cavagnolo et al. 2008, ApJ 683, L107)


@lru_cache(maxsize=1)
def accept_profiles():
    """Entropy profiles of the real clusters, as plain arrays by name; packaged, see ``data/README.rst``."""
    table = QTable.read(DATA / "accept_entropy_profiles.ecsv", format="ascii.ecsv")
    return {name: np.asarray(getattr(table[name], "value", table[name])) for name in table.colnames}


def mass_of_temperature(temperature):
    """M500 [Msun] of a temperature [keV] at z = 0: Sun et al. (2009, ApJ 693, 1142), table 6, groups and clusters."""
    return 1.27e14 / physics.HUBBLE * (np.asarray(temperature) / 3.0) ** 1.67


def rough_cooling_time(entropy, m_500):
    """
    Central cooling time [Gyr] to expect of a central entropy [keV cm2] and M500 [Msun]; only weights the draw.

    The temperature is a fit to the clusters that come out, good to 18%; the cooling time is then good to about 30%.
    """
    t_500 = physics.virial_temperature(m_500)
    temperature = np.clip(0.62 * t_500 * (entropy / (10.0 * t_500)) ** 0.45, 0.1, 40.0)
    n_e = (temperature / entropy) ** 1.5
    particles = 1.0 + IONS_PER_HYDROGEN / ELECTRONS_PER_HYDROGEN
    energy = 1.5 * particles * n_e * temperature * u.keV / u.cm**3
    loss = n_e**2 / ELECTRONS_PER_HYDROGEN * u.cm**-6 * cooling_function(temperature * u.keV, 0.65)
    return (energy / loss).to_value(u.Gyr)


def _scaled_to_mass(m_500, accept):
    """K0 and K100 of every ACCEPT cluster, scaled from its own mass to another one."""
    ratio = m_500 / mass_of_temperature(accept["temperature"])
    # A high K0 comes from gravity and scales like K100; that of a cool core is set by cooling and feedback.
    exponent = 2.0 / 3.0 * accept["k_0"] / (accept["k_0"] + 30.0)
    return accept["k_0"] * ratio**exponent, accept["k_100"] * ratio ** (2.0 / 3.0), np.log10(ratio)


def entropy_weights(m_500, class_fractions):
    """
    Probability that each ACCEPT cluster lends its entropy to a cluster of M500 [Msun]: a kernel in mass, times one
    factor per class (by `rough_cooling_time`) that brings the classes to ``class_fractions``; None leaves those of
    ACCEPT.
    """
    accept = accept_profiles()
    k_0, k_100, distance = _scaled_to_mass(m_500, accept)
    weight = np.exp(-0.5 * (distance / _MASS_KERNEL) ** 2) + _KERNEL_FLOOR
    if class_fractions is not None:
        r_core = 0.009 * physics.r_500_of(m_500)
        core = k_0 + k_100 * (r_core / 100.0) ** accept["alpha"]
        label = np.digitize(rough_cooling_time(core, m_500), T_COOL_BOUNDS)
        for number, fraction in enumerate(class_fractions):
            members = label == number
            if np.any(members):
                weight[members] *= fraction / np.sum(weight[members])
    return weight / np.sum(weight)


def draw_entropy(rng, m_500, r_500, class_fractions):
    """An entropy profile for a mass and the name of the ACCEPT cluster it comes from."""
    accept = accept_profiles()
    chosen = rng.choice(len(accept["name"]), p=entropy_weights(m_500, class_fractions))
    scaled_k_0, scaled_k_100, _ = _scaled_to_mass(m_500, accept)

    def jitter(name):
        relative = np.clip(accept[f"{name}_err"][chosen] / max(accept[name][chosen], 1.0), 0.0, 0.3)
        return 1.0 + relative * np.clip(rng.standard_normal(), -2.5, 2.5)

    k_0 = scaled_k_0[chosen] * jitter("k_0") * np.exp(_K_0_SCATTER * rng.standard_normal())
    k_100 = scaled_k_100[chosen] * jitter("k_100") * np.exp(_K_100_SCATTER * rng.standard_normal())
    alpha = np.clip(accept["alpha"][chosen] * jitter("alpha"), 0.4, 1.8)
    r_break = physics.ENTROPY_BREAK * r_500
    profile = physics.EntropyProfile(max(k_0, _LOWEST_ENTROPY), k_100, float(alpha), float(r_break))
    return profile, str(accept["name"][chosen])


@dataclass(frozen=True)
class Body:
    """A hydrostatic cluster: its halo, gas, place and velocity relative to the main one [kpc, km/s]."""

    halo: physics.Nfw
    gas: physics.GasProfile
    accept_name: str
    centre: np.ndarray = field(default_factory=lambda: np.zeros(3))
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True)
class Disturbances:
    """All departures from hydrostatic spheres; zeros and empty tuples leave a cluster relaxed."""

    stretch: np.ndarray = field(default_factory=lambda: np.eye(3))
    slosh_offset: np.ndarray = field(default_factory=lambda: np.zeros(3))  # kpc
    slosh_scale: float = 0.1  # of R500
    spiral: float = 0.0  # amplitude
    spiral_axis: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    spiral_phase: float = 0.0
    cavities: tuple = ()  # (centre [kpc], radius [kpc], depth)
    density_rms: float = 0.0  # of ln rho, large scales
    mach: float = 0.0
    clumps: tuple = ()  # (centre [kpc], core radius [kpc], gas mass [Msun], kT [keV], velocity [km/s])
    shock_mach: float = 0.0
    cold_fraction: float = 0.0  # of the gas inside 0.04 R500
    metals: tuple = (0.3, 0.3, 0.1, 0.0)  # outer, central [solar], scale [R500], scatter (ln)


@dataclass(frozen=True)
class Cluster:
    """The plan of one cluster, before its cells are drawn."""

    m_500: float
    r_500: float
    bodies: tuple
    disturbances: Disturbances
    truth: dict


def _direction(rng):
    vector = rng.standard_normal(3)
    return vector / np.sqrt(np.sum(vector**2))


def _main_mass(m_500, ratio, distance, c_main, c_second):
    """Mass of the main body so that main and second together have M500 inside R500 around the main one."""
    if ratio == 0.0:
        return m_500
    radius = float(physics.r_500_of(m_500))

    def excess(mass):
        main = physics.Nfw(mass, c_main)
        second = physics.Nfw(ratio * mass, c_second)
        return float(main.mass(radius)) + second.mass_in_sphere(radius, distance) - m_500

    return brentq(excess, 0.3 * m_500, m_500)


def _body(rng, m_500, c_500, class_fractions, **place):
    """A body with gas, its gas fraction scattered by 12 per cent."""
    halo = physics.Nfw(m_500, c_500)
    entropy, name = draw_entropy(rng, m_500, halo.r_500, class_fractions)
    fraction = physics.gas_fraction(m_500) * np.exp(0.12 * np.clip(rng.standard_normal(), -2.5, 2.5))
    gas = physics.solve_hydrostatic(halo, entropy, min(fraction, 0.157) * m_500)
    return Body(halo, gas, name, **place)


def _draw_stretch(rng):
    """A stretch of constant volume along random axes; axis ratios about those of Lau et al. (2011, ApJ 734, 93)."""
    axes = np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.65, 0.9)])
    axes[2] = min(axes[2], axes[1])
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return rotation @ np.diag(axes / np.cbrt(np.prod(axes))) @ rotation.T


def _draw_cavities(rng, r_500, cool):
    """One or two pairs of bubbles, mostly in cool cores (Dunn & Fabian 2006, MNRAS 373, 959: 70 per cent of those)."""
    if rng.random() > (0.7 if cool else 0.12):
        return ()
    cavities = []
    for _ in range(rng.integers(1, 3)):
        axis = _direction(rng)
        for sign in (-1.0, 1.0):
            bent = axis + 0.25 * rng.standard_normal(3)
            distance = rng.uniform(0.02, 0.09) * r_500
            radius = distance * rng.uniform(0.35, 0.7)
            cavities.append((sign * distance * bent / np.sqrt(np.sum(bent**2)), radius, rng.uniform(0.15, 0.5)))
    return tuple(cavities)


def _draw_clumps(rng, m_500, r_500):
    """Infalling groups and stripped subhalos: number by a steep mass function, little gas left near the centre."""
    clumps = []
    for _ in range(rng.poisson(5)):
        low, high, slope = 3e-3, 6e-2, -0.9
        ratio = (low**slope + rng.random() * (high**slope - low**slope)) ** (1 / slope)
        radius = rng.uniform(0.08, 2.0) * r_500
        mass = ratio * m_500
        size = float(physics.r_500_of(mass))
        kept = rng.uniform(0.1, 1.0) * min(1.0, radius / r_500)
        gas_mass = kept * physics.gas_fraction(mass) * mass
        speed = rng.uniform(0.5, 1.3) * np.sqrt(physics.GRAVITY * m_500 / r_500)
        temperature = physics.virial_temperature(mass) * rng.uniform(0.7, 1.2)
        core = size * rng.uniform(0.06, 0.15)
        clumps.append((radius * _direction(rng), core, gas_mass, temperature, speed * _direction(rng)))
    return tuple(clumps)


def _draw_metals(rng, k_0):
    """Metallicity: a flat outside and a central peak, higher in cool cores (De Grandi & Molendi 2001, ApJ 551, 153)."""
    outer = np.clip(0.28 + 0.06 * rng.standard_normal(), 0.12, 0.5)
    coolness = 1.0 / (1.0 + k_0 / 40.0)
    centre = outer + np.clip(0.12 + 0.45 * coolness + 0.15 * rng.standard_normal(), 0.0, 1.2)
    return float(outer), float(centre), float(rng.uniform(0.04, 0.12)), 0.15


def draw_cluster(rng, *, m_500=None, class_fractions=CLASS_FRACTIONS, relaxed=False):
    """
    Plan of one cluster; M500 [Msun] is drawn from the mass function by default.

    ``relaxed`` makes one hydrostatic sphere and nothing else.
    """
    m_500 = physics.draw_m_500(rng) if m_500 is None else float(m_500)
    r_500 = float(physics.r_500_of(m_500))
    # scatter of log10 c: 0.11 for relaxed halos, 0.15 for all (Duffy et al. 2008, section 3)
    c_500 = physics.concentration_500(m_500, 0.12 * np.clip(rng.standard_normal(), -2.5, 2.5))
    if relaxed:
        main = _body(rng, m_500, c_500, class_fractions)
        return Cluster(m_500, r_500, (main,), Disturbances(), _truth(m_500, main, None, Disturbances()))
    merging = rng.random() < 0.25
    ratio = float(np.exp(rng.uniform(np.log(0.1), np.log(0.8)))) if merging else 0.0
    distance = rng.uniform(0.15, 1.2) * r_500
    c_second = physics.concentration_500(max(ratio, 0.1) * m_500, 0.12 * np.clip(rng.standard_normal(), -2.5, 2.5))
    main = _body(rng, _main_mass(m_500, ratio, distance, c_500, c_second), c_500, class_fractions)
    bodies = [main]
    if merging:
        speed = rng.uniform(0.6, 1.3) * np.sqrt(2 * physics.GRAVITY * m_500 / max(distance, 0.5 * r_500))
        place = {"centre": distance * _direction(rng), "velocity": speed * _direction(rng)}
        bodies.append(_body(rng, ratio * main.halo.m_500, c_second, class_fractions, **place))
    disturbances = _draw_disturbances(rng, m_500, r_500, main.gas.entropy.k_0, merging)
    truth = _truth(m_500, main, bodies[1] if merging else None, disturbances)
    return Cluster(m_500, r_500, tuple(bodies), disturbances, truth)


def _draw_disturbances(rng, m_500, r_500, k_0, merging):
    cool = k_0 < _COLD_ENTROPY
    sloshing = rng.random() < 0.5
    unrest = rng.uniform(0.05, 0.2) + (0.1 if merging else 0.0)
    made = Disturbances(
        stretch=_draw_stretch(rng),
        slosh_offset=_direction(rng) * r_500 * (rng.uniform(0.0, 0.02) if sloshing else 0.0),
        slosh_scale=float(rng.uniform(0.06, 0.15)),
        spiral=float(rng.uniform(0.05, 0.25)) if sloshing else 0.0,
        spiral_axis=_direction(rng),
        spiral_phase=float(rng.uniform(0, 2 * np.pi)),
        cavities=_draw_cavities(rng, r_500, cool),
        density_rms=float(unrest),
        mach=float(rng.uniform(0.15, 0.35) + (0.15 if merging else 0.0)),
        clumps=_draw_clumps(rng, m_500, r_500),
        shock_mach=float(rng.uniform(1.2, 2.2)) if merging else 0.0,
        metals=_draw_metals(rng, k_0),
    )
    cold = np.exp(np.log(0.01) + 0.8 * rng.standard_normal()) if cool else 0.0
    return replace(made, cold_fraction=float(min(cold, 0.1)))


def _truth(m_500, main, second, disturbances):
    """The row of the truth table, plain numbers in the units that `_embedded` gives the columns."""
    entropy = main.gas.entropy
    return {
        "m_500": m_500,
        "m_500_main": main.halo.m_500,
        "c_500": main.halo.c_500,
        "accept_name": main.accept_name,
        "k_0": entropy.k_0,
        "k_100": entropy.k_100,
        "alpha": entropy.alpha,
        "outer_slope": entropy.outer_slope,
        "merger": second is not None,
        "merger_ratio": second.halo.m_500 / main.halo.m_500 if second else 0.0,
        "merger_distance": float(np.sqrt(np.sum(second.centre**2))) if second else np.nan,
        "slosh_offset": float(np.sqrt(np.sum(disturbances.slosh_offset**2))),
        "n_cavities": len(disturbances.cavities),
        "n_clumps": len(disturbances.clumps),
        "density_rms": disturbances.density_rms,
        "mach": disturbances.mach,
        "cold_fraction": disturbances.cold_fraction,
        "metallicity_centre": disturbances.metals[1],
        "metallicity_outer": disturbances.metals[0],
    }
