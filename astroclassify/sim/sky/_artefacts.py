"""Simulated candidates of the class "other": edges, blends, streaks, wings, flaws, stray light, fluctuations."""

import numpy as np

from ._counterparts import agn_magnitude, optical_magnitude
from ._population import power_law

__all__ = ["ADD_OTHER", "add_arc", "add_hot"]


def _edge(scene, x, y, rng):
    """A faint source, or none, where the chip ends."""
    scene.truth = {"flux": 0.0}
    if rng.random() < 0.6:
        flux = scene.flux_of(power_law(15, 400, -0.5, rng))
        scene.add_point(flux, x, y, agn_magnitude(flux, rng))
        scene.truth = {"flux": float(flux)}


def _blend(scene, x, y, rng):
    """Two or three nuclei that the PSF runs together."""
    flux = scene.flux_of(power_law(40, 600, -0.7, rng)) * rng.uniform(0.4, 1, rng.choice([2, 2, 3]))
    phase = rng.uniform(0, 2 * np.pi) + np.arange(flux.size) * 2 * np.pi / flux.size + rng.normal(0, 0.3, flux.size)
    place = rng.uniform(10, 26) / 2 * rng.uniform(0.8, 1.2, flux.size)
    for each, a, b in zip(flux, x + place * np.cos(phase), y + place * np.sin(phase), strict=True):
        scene.add_point(each, a, b, agn_magnitude(each, rng))
    scene.truth = {"flux": float(flux.sum())}


def _bright(scene, counts, x, y, rng):
    flux = scene.flux_of(counts)
    magnitude = optical_magnitude(flux, rng.normal(-2.5 if rng.random() < 0.5 else 0.0, 0.6))
    scene.add_point(flux, x, y, float(np.clip(magnitude, 8.5, 17)))
    scene.truth = {"flux": 0.0}


def _streak(scene, x, y, rng):
    """On the out-of-time streak of a bright source."""
    pointing = scene.pointing
    # Towards the middle of the chip, so that the bright source is on it.
    towards = np.sign(pointing.y) * (1 if abs(pointing.y) < 400 else -1)
    a, b = pointing.to_sky(pointing.x, pointing.y + towards * rng.uniform(60, 280))
    _bright(scene, rng.uniform(1.5e4, 6e4), a + x, b + y, rng)


def _wing(scene, x, y, rng):
    """On the wing of a bright source."""
    place, phase = rng.uniform(60, 130), rng.uniform(0, 2 * np.pi)
    _bright(scene, rng.uniform(3e3, 4e4), place * np.cos(phase), place * np.sin(phase), rng)


def add_hot(scene, x, y, rng):
    """Part of a hot column, with a hot pixel at times."""
    number, length = int(rng.uniform(50, 300)), rng.uniform(20, 300)
    column, row = scene.pointing.to_detector(x, y)
    a, b = column + 4.1 * (rng.random(number) - 0.5), row + length * (rng.random(number) - 0.5)
    if rng.random() < 0.5:
        spot = rng.random(number) < rng.uniform(0.2, 0.7)
        b[spot] = row + 4.1 * (rng.random(spot.sum()) - 0.5)
    scene.detector_light.append(np.column_stack(scene.pointing.to_sky(a, b)))
    scene.truth = {"flux": 0.0}


def add_arc(scene, x, y, rng):
    """Singly reflected light of a source outside the field: a broad arc that fades towards both ends."""
    number, radius, phase = int(rng.uniform(300, 2000)), rng.uniform(250, 700), rng.uniform(0, 2 * np.pi)
    around = phase + rng.normal(0, 0.2, number)
    reach = radius + rng.normal(0, rng.uniform(8, 20), number)
    centre = np.array([x - radius * np.cos(phase), y - radius * np.sin(phase)])
    scene.detector_light.append(centre + np.column_stack([reach * np.cos(around), reach * np.sin(around)]))
    scene.truth = {"flux": 0.0}


def _empty(scene, x, y, rng):
    """A fluctuation: a few nuclei below the limit near each other."""
    for _ in range(rng.integers(0, 4)):
        flux = scene.flux_of(rng.uniform(5, 22))
        a, b = rng.normal(0, 14, 2)
        scene.add_point(flux, x + a, y + b, agn_magnitude(flux, rng))
    scene.truth = {"flux": 0.0}


ADD_OTHER = {
    "edge": _edge,
    "blend": _blend,
    "streak": _streak,
    "wing": _wing,
    "hot": add_hot,
    "arc": add_arc,
    "empty": _empty,
}
"""Kind of the class "other" -> function that adds it to a scene."""
