"""Entropy of the parametric clusters: that of a real ACCEPT cluster, scaled and scattered."""

import numpy as np
from astropy import units as u

from astroclassify.schemes import T_COOL_BOUNDS

from ..physics._constants import ELECTRONS_PER_HYDROGEN, IONS_PER_HYDROGEN
from ..physics._plasma import cooling_function
from . import _physics as physics
from ._accept import entropy_fits

# Widths of the draw: kernel in log10 mass between a real cluster and the one it lends its entropy to, its floor, and
# the scatter (ln) of K0 and K100 beyond the errors of the fits.
_MASS_KERNEL, _KERNEL_FLOOR = 0.35, 0.03
_K_0_SCATTER, _K_100_SCATTER = 0.2, 0.15
_LOWEST_ENTROPY = 1.0  # keV cm2


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
    ratio = m_500 / physics.mass_of_temperature(accept["temperature"])
    # A high K0 comes from gravity and scales like K100; that of a cool core is set by cooling and feedback.
    exponent = 2.0 / 3.0 * accept["k_0"] / (accept["k_0"] + 30.0)
    return accept["k_0"] * ratio**exponent, accept["k_100"] * ratio ** (2.0 / 3.0), np.log10(ratio)


def entropy_weights(m_500, class_fractions, part="all"):
    """
    Probability that each ACCEPT cluster lends its entropy to a cluster of M500 [Msun]: a kernel in mass, times one
    factor per class (by `rough_cooling_time`) that brings the classes to ``class_fractions``; None leaves those of
    ACCEPT.
    """
    accept = entropy_fits(part)
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


def draw_entropy(rng, m_500, r_500, class_fractions, part):
    """An entropy profile for a mass and the name of the ACCEPT cluster it comes from."""
    accept = entropy_fits(part)
    chosen = rng.choice(len(accept["name"]), p=entropy_weights(m_500, class_fractions, part))
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
