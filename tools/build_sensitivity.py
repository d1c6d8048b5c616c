"""
Build the packaged sensitivities of the instruments to the gas of a cluster.

Usage::

    python tools/build_sensitivity.py

For each response, band and redshift: the counts per second, on axis, of gas with an emission measure n_e n_H V of 1e66
cm-3, kT = 4 keV and 0.3 solar metals, at rest, behind a column of 4e20 cm-2, from the packaged plasma tables, effective
areas and absorption, with the default cosmology of the package. Between the cycles of Chandra that are written the
logarithm is nearly linear. The output is the same, byte for byte, each time.
"""

import logging

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify.data import FOLDER as DATA
from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.sim import Observation
from astroclassify.sim.engines._direct import band_weight, photon_flux_factor
from astroclassify.sim.physics._plasma import load_emissivity

EMISSION_MEASURE = 1e66
KT_KEV, METALLICITY, NH_COLUMN = 4.0, 0.3, 4e20
REDSHIFTS = [float(f"{z:.5g}") for z in np.geomspace(0.002, 0.6, 16)]
BANDS = ((0.5, 2.0), (0.5, 7.0), (0.5, 8.0), (0.7, 7.0))
RESPONSES = [f"acis-{array}-cycle{cycle}" for array in "is" for cycle in (0, 5, 10, 15, 19)]
RESPONSES += ["epic-pn", "epic-mos1", "epic-mos2"]

logger = logging.getLogger("build_sensitivity")


def rate(response, band, redshift):
    """Counts per second."""
    table = load_emissivity()
    observation = Observation(
        redshift=redshift, energy_range=band * u.keV, nh_column=NH_COLUMN * u.cm**-2, response=response
    )
    photons = EMISSION_MEASURE * table.spectrum(KT_KEV, METALLICITY)
    weight = band_weight(np.asarray(table.energy_edges), redshift, 1.0, observation)
    return float(photons @ weight) * photon_flux_factor(redshift, DEFAULT_COSMOLOGY)


def main():
    """Write the table: one row per response and band, a column of rates at all redshifts."""
    rows = [(response, *band) for response in RESPONSES for band in BANDS]
    table = QTable(rows=rows, names=("response", "e_min", "e_max"), units={"e_min": u.keV, "e_max": u.keV})
    for redshift in REDSHIFTS:
        rates = [float(f"{rate(response, (low, high), redshift):.5g}") for response, low, high in rows]
        table[f"z_{redshift:.5g}"] = rates * u.ct / u.s
    table.meta.update(
        description="Counts per second on axis of 1e66 cm-3 of gas at kT = 4 keV, 0.3 solar, behind 4e20 cm-2",
        redshifts=REDSHIFTS,
        created_by="python tools/build_sensitivity.py",
    )
    path = DATA / "sensitivity.ecsv"
    table.write(path, format="ascii.ecsv", overwrite=True)
    logger.info("%s: %d bytes", path, path.stat().st_size)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
