"""Optical side of simulated X-ray sources, and the stars and galaxies of the plate that have no X-rays."""

import functools

import numpy as np

from . import _clusters as clusters
from ._population import POPULATION as P

__all__ = [
    "add_plate_sky",
    "agn_magnitude",
    "host_galaxies",
    "optical_magnitude",
    "sides_of",
    "star_magnitude",
    "x_ray_flux",
]


def optical_magnitude(flux, log_ratio):
    """R of a source of X-ray flux f: log(f / f_R) = log f + 5.5 + R / 2.5 (Hornschemeier et al. 2001, ApJ 554, 742)."""
    return 2.5 * (log_ratio - np.log10(flux) - 5.5)


def x_ray_flux(magnitude, log_ratio):
    """X-ray flux [erg s-1 cm-2] of an R magnitude, the inverse of `optical_magnitude`."""
    return 10 ** (log_ratio - 5.5 - np.asarray(magnitude) / 2.5)


def agn_magnitude(flux, rng):
    """R of active nuclei."""
    return optical_magnitude(flux, P.x_to_optical_scatter * rng.standard_normal(np.shape(flux)))


def star_magnitude(flux, rng):
    """R of X-ray stars."""
    mean, scatter = P.star_x_to_optical
    return np.clip(optical_magnitude(flux, mean + scatter * rng.standard_normal(np.shape(flux))), 7.5, 17)


def host_galaxies(x, y, magnitude, rng):
    """Galaxies about nuclei of given places and magnitudes, 1-d arrays."""
    number = len(x)
    size = 2.2 * 10 ** (-0.13 * (magnitude - 18)) * np.exp(0.3 * rng.standard_normal(number))
    shape = [rng.uniform(0.5, 1, number), rng.uniform(0, np.pi, number), rng.choice([1, 4], number)]
    return np.column_stack([x, y, magnitude - 0.2, size, *shape])


def sides_of(half, margin):
    """Sides of a field with a margin [arcsec], and its area [deg2]."""
    width, height = (2 * (side + margin) for side in half)
    return np.array([[width], [height]]), width * height / 3600**2


def add_plate_sky(scene, half, magnitudes, rng):
    """Add stars, and galaxies in a range of magnitude, without noticeable X-rays."""
    sides, area = sides_of(half, 120.0)
    low, high = P.star_density
    density = low * (high / low) ** rng.random()
    magnitude = _draw_magnitudes(P.star_counts, P.star_magnitudes, density * area, rng)
    place = (rng.random((2, magnitude.size)) - 0.5) * sides
    scene.stars.append(np.column_stack([*place, magnitude]))
    magnitude = _draw_magnitudes(P.galaxy_number_counts, magnitudes, (1 - P.grouped_share) * area, rng)
    scene.galaxies.append(_field_galaxies(magnitude, *sides[:, 0], rng))
    scene.galaxies += _groups(sides, area, magnitudes, rng)


def _groups(sides, area, magnitudes, rng):
    """Galaxies, within the range of magnitude, of the groups whose gas is too faint for the X-ray image."""
    luminosities = P.faint_group_luminosity, P.luminosities[0]
    number = rng.poisson(clusters.cluster_density(P.group_redshifts, luminosities=luminosities) * area)
    drawn = clusters.draw_population(number, P.group_redshifts, rng, luminosities=luminosities)
    groups = []
    for chosen, place in enumerate(((rng.random((2, number)) - 0.5) * sides).T):
        galaxies = clusters.cluster_galaxies({name: values[chosen] for name, values in drawn.items()}, rng)
        galaxies[:, :2] += place
        groups.append(galaxies[(galaxies[:, 2] > magnitudes[0]) & (galaxies[:, 2] < magnitudes[1])])
    return groups


def _draw_magnitudes(counts, bounds, area, rng):
    """Magnitudes of a Poisson number of sources from log10 N(<R) = a + b (R - 20) + c (R - 20)^2 per deg2."""
    magnitude, below = _magnitude_table(counts, bounds)
    return np.interp(rng.random(rng.poisson(below[-1] * area)) * below[-1], below, magnitude)


@functools.lru_cache(maxsize=4)
def _magnitude_table(counts, bounds):
    magnitude = np.linspace(*bounds, 256)
    a, b, c = counts
    below = 10 ** (a + b * (magnitude - 20) + c * (magnitude - 20) ** 2)
    return magnitude, below - below[0]


def _field_galaxies(magnitude, width, height, rng):
    number = magnitude.size
    # Half-light radii about 1" at R = 20 and 3.5" at 16; memory.
    size = 10 ** (-0.136 * (magnitude - 20)) * np.exp(0.35 * rng.standard_normal(number))
    early = rng.random(number) < 0.35
    return np.column_stack(
        [
            width * (rng.random(number) - 0.5),
            height * (rng.random(number) - 0.5),
            magnitude,
            size,
            np.where(early, rng.uniform(0.5, 1, number), rng.uniform(0.25, 1, number)),
            np.pi * rng.random(number),
            np.where(early, 4, 1),
        ]
    )
