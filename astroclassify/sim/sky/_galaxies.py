"""Simulated nearby galaxies: hot gas, X-ray binaries, nucleus, and their light on the plate."""

from dataclasses import dataclass

import numpy as np

from ._population import POPULATION as P
from ._xmm import Beta

__all__ = ["Spiral", "add_galaxy"]


def add_galaxy(scene, magnitude, flux, x, y, rng):
    """Add a nearby galaxy of a magnitude and an X-ray flux: hot gas or binaries, a nucleus at times."""
    # Nearby: within 250 Mpc; an apparently faint galaxy is then faint indeed.
    absolute = max(rng.normal(-21.2, 0.8), magnitude - 5 * np.log10(250e5))
    distance = 10 ** ((magnitude - absolute) / 5 - 5)  # Mpc
    early = rng.random() < P.early_share
    # Half-light radius: 5 kpc at -21 (Shen et al. 2003, MNRAS 343, 978; memory).
    size = 5 * 10 ** (-0.26 * (absolute + 21)) * np.exp(0.25 * rng.standard_normal()) / distance * 206.265
    scene.kind = "early" if early else "late"
    angle = rng.uniform(0, np.pi)
    if early:
        scene.galaxies.append(np.array([[x, y, magnitude, size, rng.uniform(0.55, 1), angle, 4]]))
        core = float(np.clip(0.4 * size * np.exp(0.5 * rng.standard_normal()), 2, 60))
        nucleus = rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0
    else:
        ratio = rng.uniform(0.2, 1)
        scene.galaxies.append(np.array([[x, y, magnitude + 1.5, 0.4 * size, max(ratio, 0.6), angle, 4]]))
        phase, sense = rng.uniform(0, 2 * np.pi), int(rng.choice([-1, 1]))
        scene.painted.append(Spiral(x, y, magnitude + 0.3, size, ratio, angle, phase, sense))
        core = float(np.clip(0.6 * size * np.exp(0.3 * rng.standard_normal()), 3, 60))
        nucleus = rng.uniform(0.1, 0.7) if rng.random() < 0.5 else 0.0
        _binaries(scene, flux * (1 - nucleus) * 0.6, size, ratio, angle, x, y, rng)
    diffuse = flux * (1 - nucleus) * (1.0 if early else 0.4)
    scene.extended.append(Beta(diffuse, x, y, core, 12 * core, rng.uniform(0.7, 1), angle))
    if nucleus:
        scene.add_point(flux * nucleus, x, y)
    redshift = 67.74 * distance / 299792.458
    scene.truth = {"redshift": float(redshift), "flux": float(flux), "core_radius": core, "r_mag": float(magnitude)}


def _binaries(scene, flux, size, ratio, angle, x, y, rng):
    """X-ray binaries along the disc of a galaxy: some point sources that share a flux (luminosity slope 0.6)."""
    number = rng.integers(2, 12)
    share = rng.random(number) ** (-1 / 0.6)
    share = np.minimum(share, 50) / np.minimum(share, 50).sum()
    radius, phase = size * rng.gamma(2, 0.6, number), rng.uniform(0, 2 * np.pi, number)
    along, across = radius * np.cos(phase), ratio * radius * np.sin(phase)
    place_x, place_y = np.cos(angle) * along - np.sin(angle) * across, np.sin(angle) * along + np.cos(angle) * across
    scene.points.append(np.column_stack([flux * share, x + place_x, y + place_y]))


@dataclass(frozen=True)
class Spiral:
    """Exponential disc with two spiral arms, called with offsets [arcsec]; light per square arcsecond of the sky's."""

    x: float
    y: float
    magnitude: float
    size: float  # half-light radius [arcsec]
    axis_ratio: float
    angle: float
    phase: float
    sense: int

    @property
    def reach(self):
        """Radius [arcsec] where a thousandth of the sky's light is left."""
        length = self.size / 1.678
        return length * max(3.0, np.log(1e3 * self._centre(length)))

    def _centre(self, length):
        """Light of the centre in that of the sky."""
        return 10 ** (0.4 * (P.sky_brightness - self.magnitude)) / (2 * np.pi * length**2 * self.axis_ratio)

    def __call__(self, x, y):
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        along, across = cos * dx + sin * dy, (cos * dy - sin * dx) / np.float32(self.axis_ratio)
        length = self.size / 1.678
        radius = np.hypot(along, across) / np.float32(length)
        winding = 2 * np.arctan2(across, along) - self.sense * 5.0 * np.log(radius + 0.3) + self.phase
        arms = 1 + np.minimum(radius, 1) * 0.7 * np.cos(winding)
        return np.float32(self._centre(length)) * np.exp(-radius) * arms
