"""
The direct engine's expectation beside the mean of many stock pyXSIM realisations, on three embedded clusters.

Two levels: ``loop`` draws the photons with pyXSIM's own ``make_photons`` and its loop over cells, from our packaged
table; ``stock`` is pyXSIM with APEC and TBabs from their files (1000 bins, thermally broadened lines). Photons are
drawn anew for every realisation. Both go through one telescope: effective area as acceptance, band, point spread
function.

Columns: counts of all realisations over those expected, minus one, with its Poisson error; chi2 per degree of freedom
of the radial profile and of the pixels with at least 20 counts in the sum (1 +- its error where both agree); median
and least p of the Kolmogorov-Smirnov tests of the realisations' energies against the expected spectrum; largest
difference of the cumulative spectra of all realisations together. Energies are those that ACIS-I records: blurred by
the resolution of its matrix at 1 keV. Without that, 1e6 photons do tell our bins of 10 eV from APEC's lines.

``stock`` needs ASTROCLASSIFY_APEC_ROOT (see ``_stock.py``) and is left out without it.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import _stock
import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy.special import ndtr
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import kstwo

from astroclassify import tables
from astroclassify.sim import EmbeddedPopulation, Observation
from astroclassify.sim.engines import _direct, _pyxsim
from astroclassify.sim.engines._photon_source import bin_events, detected_events
from astroclassify.sim.physics._telescope import make_telescope
from astroclassify.sim.physics._xray_packages import quiet

AXIS = "z"
AREA = 660.0  # more than the response has anywhere [cm2]
SEED = 1
# of the population of SEED, by its truth table: entropy 16 and 246 keV cm2 at the centre, a merger of 1 to 0.12
HALOS = {"cool core": 5, "non-cool core": 1, "merger": 4}
STEP = 0.01  # keV
BLUR = 0.105  # keV, standard deviation: FWHM of 248 eV in acisi_aimpt_cy0.rmf at 1 keV


@dataclass
class StockPhotons:
    """A photon file of stock pyXSIM, in the form of our photon sets."""

    area: float
    observation: Observation

    def project(self, axis, *, nh_column, rng):
        """Project, absorb and read."""
        import h5py

        _stock.project_photons("photons.h5", "events.h5", axis, self.observation, rng, phys_coord=True)
        with h5py.File("events.h5") as file:
            return _pyxsim.Events(*(file["data"][column][:] for column in ("xsky", "ysky", "eobs")))


@contextlib.contextmanager
def loop_photons(halo, observation, rng):
    """pyXSIM's loop over cells on our table."""
    model = _pyxsim._source_model_class()
    ours = model.process_data
    del model.process_data
    try:
        with _pyxsim.photons(halo, observation, area=AREA, rng=rng) as photon_set:
            yield photon_set
    finally:
        model.process_data = ours


def stock_source(halo, observation):
    """Function of a generator that gives photons of stock pyXSIM, in the working directory."""
    _stock.forbid_downloads()
    _stock.silence()
    _stock.write_absorption_table("tbabs_table.h5")
    dataset = _pyxsim.particles(halo, _pyxsim.in_field(halo, observation))
    low, high = observation.energy_range.to_value(u.keV)

    @contextlib.contextmanager
    def draw(halo, observation, rng):
        # 2% for the gas's motion
        model = _stock.source_model(0.98 * low, 1.02 * high, rng)
        _stock.make_photons("photons.h5", dataset, model, halo, observation, AREA)
        yield StockPhotons(AREA, observation)

    return draw


def recorded_spectrum(halo, observation):
    """Grid of energies and the expected share of counts below each, blurred."""
    low, high = observation.energy_range.to_value(u.keV)
    edges = np.linspace(low, high, round((high - low) / STEP) + 1)
    spectrum = _direct.spectrum(halo, observation, AXIS, edges)
    grid = np.arange(low - 6 * BLUR, high + 6 * BLUR, STEP)
    below = ndtr((grid[:, np.newaxis] - 0.5 * (edges[1:] + edges[:-1])) / BLUR)
    return grid, below @ spectrum / spectrum.sum()


def compare(halo, observation, draw, number):
    """One row of the table."""
    telescope = make_telescope(observation, halo.cosmology)
    response = observation.load_response()
    gas = _direct.prepare(halo, observation)
    expected = _direct.expected(gas, observation, telescope, AXIS) * telescope.fraction * number
    grid, below = recorded_spectrum(halo, observation)
    image = np.zeros(observation.shape)
    found_below = np.zeros(grid.size)
    p_values = []
    for seed in range(number):
        rng = np.random.default_rng([SEED, seed])
        with quiet(), draw(halo, observation, rng) as photon_set:
            events = detected_events(photon_set, observation, response, telescope, AXIS, rng)
        image += bin_events(events, observation.shape)
        recorded = np.sort(events.energy + rng.normal(0, BLUR, events.energy.size))
        share = np.searchsorted(recorded, grid) / recorded.size
        p_values.append(kstwo.sf(np.max(np.abs(share - below)), recorded.size))
        found_below += share / number
    rows, columns = np.indices(image.shape)
    radius = np.hypot(rows + 0.5 - 0.5 * image.shape[0], columns + 0.5 - 0.5 * image.shape[1])
    ring = np.searchsorted(np.append(0, np.geomspace(1.5, 180, 30)), np.ravel(radius), side="right")
    profile, wanted = (np.bincount(ring, np.ravel(plane)) for plane in (image, expected))
    found = {}
    for name, a, b in (("profile", profile, wanted), ("pixel", image, expected)):
        enough = b >= 20
        chi2, dof = np.sum((a - b)[enough] ** 2 / b[enough]), np.count_nonzero(enough)
        found |= {f"{name}_chi2": chi2 / dof, f"{name}_chi2_err": np.sqrt(2 / dof)}
        found[f"{name}_p"] = chi2_distribution.sf(chi2, dof)
    return {
        "realisations": number,
        "cells": halo.n_cells,
        "counts": image.sum() / number,
        "difference": image.sum() / expected.sum() - 1,
        "difference_err": 1 / np.sqrt(image.sum()),
        **found,
        "ks_p_median": np.median(p_values),
        "ks_p_least": np.min(p_values),
        "ks_d_all": np.max(np.abs(found_below - below)),
    }


def main():
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    parser.add_argument("--cells", type=float, default=1e5, help="cells of each halo (default: 1e5)")
    parser.add_argument("--realisations", type=int, default=20, help="of each halo and level (default: 20)")
    parser.add_argument("--out", help="table to write (.ecsv)")
    options = parser.parse_args()
    out = options.out and Path(options.out).resolve()
    observation = Observation(background=0 * u.ct / u.s / u.arcsec**2)
    levels = ["loop"] + ["stock"] * (_stock.apec_root() is not None)
    rows = []
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        population = EmbeddedPopulation(6, rng=SEED, max_cells=int(options.cells))
        os.chdir(folder)
        try:
            for name, halo_id in HALOS.items():
                halo = population.read_halo(halo_id)
                for level in levels:
                    start = time.perf_counter()
                    with quiet():
                        draw = loop_photons if level == "loop" else stock_source(halo, observation)
                    row = compare(halo, observation, draw, options.realisations)
                    rows.append({"halo": name, "level": level, **row})
                    print(f"{name}, {level}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        finally:
            os.chdir(home)
    table = QTable(rows)
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".0f" if name == "counts" else ".3f" if "chi2" in name else ".2g"
    table.pprint_all()
    table.meta = tables.provenance(observation=observation.to_meta(), axis=AXIS, seed=SEED)
    if out:
        tables.write(table, out, overwrite=True)


if __name__ == "__main__":
    main()
