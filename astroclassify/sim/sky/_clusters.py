"""Simulated clusters: from the luminosity function to a beta model and galaxies on the red sequence."""

import functools

import numpy as np
from scipy.special import gammaincc, ndtr

from astroclassify.fields._beta import beta_share
from astroclassify.images import DEFAULT_COSMOLOGY

from ._population import POPULATION as P
from ._xmm import Beta, vignetting

__all__ = [
    "apparent_magnitude",
    "cluster_density",
    "cluster_galaxies",
    "cluster_light",
    "draw_cluster",
    "draw_population",
    "mass_of",
    "temperature_of",
]

MPC_CM = 3.0857e24
_NODES = 512
_SKY = 41252.96  # deg2


@functools.lru_cache(maxsize=1)
def cosmology_table():
    """Redshifts, log luminosity distance [Mpc], E(z), log volume [Mpc3], critical density [Msun kpc-3]."""
    from astropy import units as u

    z = np.geomspace(1e-3, 2.0, _NODES)
    return (
        z,
        np.log(DEFAULT_COSMOLOGY.luminosity_distance(z).to_value(u.Mpc)),
        DEFAULT_COSMOLOGY.efunc(z),
        np.log(DEFAULT_COSMOLOGY.comoving_volume(z).to_value(u.Mpc**3)),
        DEFAULT_COSMOLOGY.critical_density(z).to_value(u.Msun / u.kpc**3),
    )


def distance(redshift):
    """Luminosity distance [Mpc]."""
    z, log_distance = cosmology_table()[:2]
    return np.exp(np.interp(np.log(redshift), np.log(z), log_distance))


def kpc_per_arcsec(redshift):
    """Length that an arcsecond is at a redshift [kpc]."""
    return distance(redshift) / (1 + redshift) ** 2 * 1e3 / 206264.8


def _efunc(redshift):
    z, _, efunc, _, _ = cosmology_table()
    return np.interp(redshift, z, efunc)


def mass_of(luminosity, redshift):
    """M500 [Msun] of a luminosity L500 in 0.1 to 2.4 keV [erg s-1] (Piffaretti et al. 2011, eq. 2)."""
    return 3e14 * (luminosity / P.mass_normalisation * _efunc(redshift) ** (-7 / 3)) ** (1 / P.mass_slope)


def radius_of(mass, redshift):
    """R500 [kpc] of a mass M500 [Msun]."""
    z, _, _, _, density = cosmology_table()
    return (mass / (4 / 3 * np.pi * 500 * np.interp(redshift, z, density))) ** (1 / 3)


def temperature_of(mass, redshift):
    """Temperature [keV] of a mass M500 [Msun] (Arnaud et al. 2005, whole sample)."""
    return 5 * (_efunc(redshift) * mass / P.temperature_mass) ** (1 / P.temperature_slope)


def k_factor(redshift, temperature):
    """Energy in 0.5 to 2 keV as observed over that in the rest frame, for a spectrum E^-0.4 exp(-E/kT)."""
    scale, energy = _band_table()
    rest = np.log(1 / temperature)
    return np.exp(np.interp(rest + np.log(1 + redshift), scale, energy) - np.interp(rest, scale, energy))


@functools.lru_cache(maxsize=1)
def _band_table():
    """Log energy between 0.5 x and 2 x kT of the spectrum, against log x, the inverse of kT in the observer's keV."""
    scale = np.linspace(-4, 3, 1024)
    x = np.exp(scale)
    return scale, np.log(gammaincc(0.6, 0.5 * x) - gammaincc(0.6, 2 * x))


def draw_cluster(redshifts, pointing, rng):
    """
    Draw a cluster as an X-ray survey with this pointing would find it, in a range of redshift.

    ``redshift``, ``m_500`` [Msun], ``r_500`` [kpc], ``flux`` [erg s-1 cm-2, 0.5 to 2 keV, within
    `Population.extent_limit` R500], ``core_radius`` and ``r_500_arcsec`` [arcsec]. Of many drawn by `draw_population`
    one is taken with the probability that its counts stand out of the background and its core radius out of the PSF.
    """
    drawn = draw_population(2048, redshifts, rng)
    chance = _detection(drawn["flux"], drawn["core_radius"], pointing)
    chosen = rng.choice(2048, p=chance / chance.sum())
    return {name: float(values[chosen]) for name, values in drawn.items()}


def draw_population(number, redshifts, rng, *, luminosities=P.luminosities):
    """
    Draw clusters from the luminosity function, uniformly in comoving volume, whether an X-ray survey finds them or not.

    Values as in `draw_cluster`, arrays of shape (number,).
    """
    z, _, _, log_volume, _ = cosmology_table()
    low, high = _volumes(redshifts)
    redshift = np.interp(np.log(low + (high - low) * rng.random(number)), log_volume, z)
    luminosity = _draw_luminosity(number, rng, luminosities)
    mass = mass_of(luminosity / P.soft_fraction, redshift) * 10 ** (P.mass_scatter * rng.standard_normal(number))
    r_500 = radius_of(mass, redshift)
    share = P.core_fraction * np.exp(P.core_scatter * rng.standard_normal(number))
    core = share * r_500 / kpc_per_arcsec(redshift)
    # L500 is what lies within R500; the beta model goes on to its limit.
    outside = beta_share(P.extent_limit / share) / beta_share(1 / share)
    k = k_factor(redshift, temperature_of(mass, redshift))
    return {
        "redshift": redshift,
        "m_500": mass,
        "r_500": r_500,
        "flux": outside * luminosity * k / (4 * np.pi * (distance(redshift) * MPC_CM) ** 2),
        "core_radius": core,
        "r_500_arcsec": core / share,
    }


def _volumes(redshifts):
    """Comoving volumes of the whole sky to redshifts [Mpc3]."""
    z, _, _, log_volume, _ = cosmology_table()
    return np.exp(np.interp(redshifts, z, log_volume))


def cluster_density(redshifts, *, luminosities=P.luminosities):
    """Clusters of the luminosity function in a range of redshift, per square degree."""
    luminosity = np.geomspace(*luminosities, _NODES)
    density = P.luminosity_density * (luminosity / 1e44) ** (1 - P.luminosity_slope)
    density *= np.exp(-luminosity / P.luminosity_break)  # Mpc-3 per unit of ln L
    step = np.log(luminosity[1] / luminosity[0])
    low, high = _volumes(redshifts)
    return float(np.sum((density[1:] + density[:-1]) / 2) * step * (high - low) / _SKY)


@functools.lru_cache(maxsize=2)
def _luminosity_table(luminosities):
    luminosity = np.geomspace(*luminosities, _NODES)
    # dN/dlnL
    density = (luminosity / P.luminosity_break) ** (1 - P.luminosity_slope) * np.exp(-luminosity / P.luminosity_break)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return below / below[-1], np.log(luminosity)


def _draw_luminosity(number, rng, luminosities=P.luminosities):
    return np.exp(np.interp(rng.random(number), *_luminosity_table(luminosities)))


def _detection(flux, core, pointing):
    """Probability to be a candidate: Gaussian ramps of significance in the best simple aperture and of core radius."""
    vignette = vignetting(pointing.off_axis)
    aperture = np.maximum(1.5 * core, 15.0)
    source = flux * P.counts_per_flux * pointing.exposure * vignette * beta_share(aperture / core)
    sky = (pointing.sky * vignette + pointing.particles) * pointing.exposure * np.pi * (aperture / 60) ** 2
    significance = source / np.sqrt(source + sky)
    middle, width = P.cluster_significance
    limit, ramp = P.cluster_extent
    return ndtr((significance - middle) / width) * ndtr((core - limit) / ramp)


def cluster_light(cluster, rng):
    """
    X-ray light of a cluster (from `draw_cluster`) about its centre, as a list of Beta whose fluxes add up to its flux.

    The cluster; its second clump if it merges; its cool core if it has one.
    """
    limit = P.extent_limit * cluster["r_500_arcsec"]
    ratio, angle, core = rng.uniform(*P.axis_ratios), rng.uniform(0, np.pi), cluster["core_radius"]
    clump, peak = 0.0, 0.0
    parts = []
    if rng.random() < P.merger_share:
        clump = rng.uniform(0.15, 0.45)
        place, phase = cluster["r_500_arcsec"] * rng.uniform(0.25, 0.8), rng.uniform(0, 2 * np.pi)
        x, y, flat = place * np.cos(phase), place * np.sin(phase), rng.uniform(0.7, 1)
        parts.append(Beta(cluster["flux"] * clump, x, y, 0.7 * core, limit, flat))
    if rng.random() < P.cool_core_share:
        peak = rng.uniform(*P.cool_core_flux)
        parts.append(Beta(cluster["flux"] * peak, 0.0, 0.0, P.cool_core_radius * core, limit))
    return [Beta(cluster["flux"] * (1 - clump - peak), 0.0, 0.0, core, limit, ratio, angle), *parts]


def apparent_magnitude(absolute, redshift):
    """R magnitude of an early-type galaxy: distance modulus, k correction and passive evolution."""
    k = np.interp(redshift, P.k_redshifts, P.k_corrections)
    return absolute + 5 * np.log10(distance(redshift) * 1e5) + k - P.evolution * redshift


def cluster_galaxies(cluster, rng):
    """
    Galaxies of a cluster (``redshift``, ``m_500``, ``r_500``) about its X-ray centre, shape (n, 7), the central first.

    x, y [arcsec], R magnitude, half-light radius [arcsec], axis ratio, angle, Sersic index. A Poisson number from a
    Schechter function down to M* + 4, in a projected NFW profile out to 2 R500.
    """
    mass, redshift, r_500 = cluster["m_500"], cluster["redshift"], cluster["r_500"]
    relative, profile = _luminosity_function(), _nfw_table()
    expected = P.richness * (mass / 1e14) ** P.richness_slope * relative[2] * profile[2]
    number = rng.poisson(expected)
    absolute = P.characteristic_magnitude + np.interp(rng.random(number), relative[0], relative[1])
    radius = r_500 * np.interp(rng.random(number), profile[0], profile[1])
    phase = 2 * np.pi * rng.random(number)
    red = rng.random(number) < P.red_fraction
    size = (
        3.5 * 10 ** (-0.25 * (absolute - P.characteristic_magnitude)) * np.where(red, 1.0, 1.4)
    )  # kpc (Shen et al. 2003)
    bcg = P.bcg_magnitude - 2.5 * P.bcg_mass_slope * np.log10(mass / 1e14) + P.bcg_scatter * rng.standard_normal()
    offset, bcg_size = P.bcg_offset * r_500 * rng.exponential(), 18 * 10 ** (-0.3 * (bcg + 22.9))
    scale = kpc_per_arcsec(redshift)
    bcg_phase = rng.uniform(0, 2 * np.pi)
    return np.column_stack(
        [
            np.append(offset * np.cos(bcg_phase), radius * np.cos(phase)) / scale,
            np.append(offset * np.sin(bcg_phase), radius * np.sin(phase)) / scale,
            apparent_magnitude(np.append(bcg, absolute), redshift),
            np.append(bcg_size, size * np.exp(0.25 * rng.standard_normal(number))) / scale,
            np.append(rng.uniform(0.65, 0.95), rng.uniform(0.35, 1.0, number)),
            np.pi * rng.random(number + 1),
            np.append(4, np.where(red, 4, 1)),
        ]
    )


@functools.lru_cache(maxsize=1)
def _luminosity_function():
    """Share of galaxies below M - M*, and how many there are to M* + 4 for each one to M* + 3."""
    magnitude = np.linspace(-1.5, 4.0, _NODES)
    light = 10 ** (-0.4 * magnitude)
    density = light ** (P.faint_slope + 1) * np.exp(-light)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return below / below[-1], magnitude, below[-1] / np.interp(3.0, magnitude, below)


@functools.lru_cache(maxsize=1)
def _nfw_table():
    """Share of galaxies within a projected radius, that radius [R500], and how many are in 2 R500 for one in R500."""
    radius = np.linspace(1e-3, 2.0, _NODES)
    x = radius * P.concentration
    # Projected mass of an NFW profile (Bartelmann 1996, A&A 313, 697).
    with np.errstate(invalid="ignore", divide="ignore"):
        inner = np.arccosh(1 / x) / np.sqrt(1 - x**2)
        outer = np.arccos(1 / x) / np.sqrt(x**2 - 1)
    below = np.log(x / 2) + np.where(x < 1, inner, np.where(x > 1, outer, 1.0))
    below = np.maximum(below - below[0], 0)
    return below / below[-1], radius, below[-1] / np.interp(1.0, radius, below)
