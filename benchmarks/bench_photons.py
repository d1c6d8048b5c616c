"""Time the photon generation of the ``pyxsim`` engine beside pyXSIM's own loop over cells, on the same gas."""

import time
from unittest import mock

import numpy as np
from astropy import units as u

from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.sim import Halo, Observation
from astroclassify.sim._pyxsim import _source_model_class, photons


def make_halo(n_cells, rng):
    """Gas of one density in a ball of 600 kpc, 3 to 5 keV, 0.3 solar."""
    radius = 600 * rng.random(n_cells) ** (1 / 3)
    direction = rng.normal(size=(n_cells, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    density = np.full(n_cells, 2.9e-27)
    volume = 4 / 3 * np.pi * 600**3 / n_cells * u.kpc**3
    return Halo(
        halo_id=0,
        simulation="benchmark",
        snapshot=99,
        redshift=0.0,
        m_500=1e14 * u.Msun,
        r_500=700 * u.kpc,
        centre=np.zeros(3) * u.kpc,
        position=radius[:, None] * direction * u.kpc,
        velocity=rng.normal(0, 200, (n_cells, 3)) * u.km / u.s,
        mass=(density * u.g / u.cm**3 * volume).to(u.Msun),
        density=density * u.g / u.cm**3,
        temperature=rng.uniform(3, 5, n_cells) * u.keV,
        n_e=np.full(n_cells, 1.5e-3) / u.cm**3,
        n_h=np.full(n_cells, 1.3e-3) / u.cm**3,
        metallicity=np.full(n_cells, 0.3) * u.one,
        cosmology=DEFAULT_COSMOLOGY,
    )


def draw(halo):
    """Seconds to draw the photons of a halo, and how many came."""
    start = time.perf_counter()
    with photons(halo, Observation(), area=600.0, rng=np.random.default_rng(1)) as drawn:
        return time.perf_counter() - start, drawn.n_photons


def main():
    """Print one line per number of cells."""
    model = _source_model_class()
    stock_loop = model.__mro__[1].process_data
    draw(make_halo(1000, np.random.default_rng(0)))  # imports
    print("cells     photons   ours [s]   pyXSIM's loop [s]   ratio")
    for n_cells in (30_000, 100_000, 300_000):
        halo = make_halo(n_cells, np.random.default_rng(n_cells))
        ours, n_photons = draw(halo)
        with mock.patch.object(model, "process_data", stock_loop):
            theirs, _ = draw(halo)
        print(f"{n_cells:7d} {n_photons:9d} {ours:10.2f} {theirs:18.2f} {theirs / ours:9.1f}")


if __name__ == "__main__":
    main()
