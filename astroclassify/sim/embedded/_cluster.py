"""The plan of a cluster: masses, gas and disturbances, before its cells are drawn."""

from dataclasses import dataclass, field, replace

import numpy as np
from astropy import units as u
from scipy.optimize import brentq

from . import _physics as physics
from ._entropy import draw_entropy
from ._real import draw_real_gas
from ._sources import draw_sources

_COLD_ENTROPY = 40.0  # keV cm2; below about 30 there is cold gas in the core (Cavagnolo et al. 2008, ApJ 683, L107)
# Shift of log10 c of parametric cool cores, and of the others the other way: relaxed halos are more concentrated than
# all by 0.07 (Duffy et al. 2008, MNRAS 390, L64, table 1: 6.71 against 5.71), and cool cores are the relaxed clusters.
_CONCENTRATION_SHIFT = 0.05


@dataclass(frozen=True)
class Body:
    """A halo with gas, the real clusters that the gas is from, place and velocity relative to the main body."""

    halo: physics.Nfw
    gas: physics.GasProfile
    profiles: tuple  # names; of a parametric body one, of a real one the two that are mixed
    centre: np.ndarray = field(default_factory=lambda: np.zeros(3))  # kpc
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))  # km/s


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
    sources: np.ndarray  # x, y, z [kpc] and luminosity [erg/s, 0.5 to 2 keV] of point sources, shape (n, 4)
    truth: dict


def _direction(rng):
    vector = rng.standard_normal(3)
    return vector / np.sqrt(np.sum(vector**2))


def _main_mass(m_500, ratio, distance):
    """Mass of the main body so that both together have M500 inside R500 around the main one, to two per cent."""
    if ratio == 0.0:
        return m_500
    radius = float(physics.r_500_of(m_500))
    c_main, c_second = (physics.concentration_500(share * m_500) for share in (1.0, ratio))

    def excess(mass):
        main = physics.Nfw(mass, c_main)
        second = physics.Nfw(ratio * mass, c_second)
        return float(main.mass(radius)) + second.mass_in_sphere(radius, distance) - m_500

    return brentq(excess, 0.3 * m_500, m_500)


def _body(rng, m_500, recipe, **place):
    """A body with gas: whole real profiles, or hydrostatic with a gas fraction scattered by 12 per cent."""
    r_500 = float(physics.r_500_of(m_500))
    # scatter of log10 c: 0.11 (Dutton & Maccio 2014) [from memory]
    scatter = 0.11 * np.clip(rng.standard_normal(), -2.5, 2.5)
    if recipe.real:
        gas, *names = draw_real_gas(rng, m_500, r_500, recipe.part)
        return Body(physics.Nfw(m_500, physics.concentration_500(m_500, scatter)), gas, tuple(names), **place)
    entropy, name = draw_entropy(rng, m_500, r_500, recipe.class_fractions, recipe.part)
    scatter += _CONCENTRATION_SHIFT if entropy.k_0 < _COLD_ENTROPY else -_CONCENTRATION_SHIFT
    halo = physics.Nfw(m_500, physics.concentration_500(m_500, scatter), physics.central_galaxy(m_500))
    fraction = physics.gas_fraction(m_500) * np.exp(0.12 * np.clip(rng.standard_normal(), -2.5, 2.5))
    gas = physics.solve_hydrostatic(halo, entropy, min(fraction, 0.157) * m_500)
    return Body(halo, gas, (name,), **place)


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


def _draw_metals(rng, entropy):
    """
    Metallicity: a flat outside and a central peak, higher in cool cores (De Grandi & Molendi 2001, ApJ 551, 153).

    ACCEPT's cooling functions say the same: medians within 40 kpc of 0.6 to 0.8 below 1 Gyr, 0.45 to 0.65 below 7.7
    Gyr, 0.13 to 0.32 above (shells of 2 to 8 keV), 0.25 to 0.55 at 40 to 100 kpc, and 0.2 to 0.35 beyond.
    """
    outer = np.clip(0.28 + 0.06 * rng.standard_normal(), 0.12, 0.5)
    coolness = 1.0 / (1.0 + entropy / 40.0)
    centre = outer + np.clip(0.05 + 0.5 * coolness + 0.15 * rng.standard_normal(), 0.0, 1.2)
    return float(outer), float(centre), float(rng.uniform(0.04, 0.12)), 0.15


@dataclass(frozen=True)
class Recipe:
    """
    Where the gas of a cluster comes from: whole real profiles, or (not ``real``) hydrostatic gas with a fitted entropy
    profile; the part of the real clusters; fractions of the classes that the draw of entropy is weighted to, or None.
    """

    real: bool = False
    part: str = "all"
    class_fractions: tuple | None = None


def draw_cluster(rng, m_500, recipe, *, relaxed=False):
    """Plan of one cluster of M500 [Msun]. ``relaxed`` makes one sphere and nothing else."""
    r_500 = float(physics.r_500_of(m_500))
    if relaxed:
        bodies, disturbances, sources = (_body(rng, m_500, recipe),), Disturbances(), np.zeros((0, 4))
    else:
        bodies = _draw_bodies(rng, m_500, r_500, recipe)
        entropy = bodies[0].gas.central_entropy
        disturbances = _draw_disturbances(rng, m_500, r_500, entropy, len(bodies) > 1)
        sources = draw_sources(rng, m_500, r_500, entropy < _COLD_ENTROPY)
    truth = _truth(m_500, recipe, bodies, disturbances, sources)
    return Cluster(m_500, r_500, bodies, disturbances, sources, truth)


def _draw_bodies(rng, m_500, r_500, recipe):
    """The main body, and in a quarter of the clusters a merging one."""
    merging = rng.random() < 0.25
    ratio = float(np.exp(rng.uniform(np.log(0.1), np.log(0.8)))) if merging else 0.0
    distance = rng.uniform(0.15, 1.2) * r_500
    main = _body(rng, _main_mass(m_500, ratio, distance), recipe)
    if not merging:
        return (main,)
    speed = rng.uniform(0.6, 1.3) * np.sqrt(2 * physics.GRAVITY * m_500 / max(distance, 0.5 * r_500))
    place = {"centre": distance * _direction(rng), "velocity": speed * _direction(rng)}
    return main, _body(rng, ratio * main.halo.m_500, recipe, **place)


def _draw_disturbances(rng, m_500, r_500, entropy, merging):
    """Departures from a sphere in equilibrium; ``entropy`` is the central one [keV cm2]."""
    cool = entropy < _COLD_ENTROPY
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
        metals=_draw_metals(rng, entropy),
    )
    cold = np.exp(np.log(0.01) + 0.8 * rng.standard_normal()) if cool else 0.0
    return replace(made, cold_fraction=float(min(cold, 0.1)))


def _truth(m_500, recipe, bodies, disturbances, sources):
    """The row of the truth table: plain numbers in the units of `TRUTH_UNITS`."""
    main, *others = bodies
    second = others[0] if others else None
    return {
        "kind": "real" if recipe.real else "parametric",
        "profile": main.profiles[0],
        "profile_mixed": main.profiles[-1] if recipe.real else "",
        "profiles_merger": "/".join(second.profiles) if second else "",
        "m_500": m_500,
        "m_500_main": main.halo.m_500,
        "c_500": main.halo.c_500,
        "gas_fraction": main.gas.mass_within(main.halo.r_500) / main.halo.m_500,
        "central_entropy": main.gas.central_entropy,
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
        "n_sources": len(sources),
    }


#: Units of the columns of the truth table that have one.
TRUTH_UNITS = {
    "m_500": u.Msun,
    "m_500_main": u.Msun,
    "central_entropy": u.keV * u.cm**2,
    "merger_distance": u.kpc,
    "slosh_offset": u.kpc,
}
