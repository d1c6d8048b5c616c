"""
Build the packaged effective areas of ACIS-S and EPIC from ancillary response files (ARF) of real observations.

Usage::

    python tools/build_effective_areas.py FOLDER

The folder must hold these files, from the history of public repositories:

- ``arf_1024.fits``, ``9774.arf``, ``qso.warf``: sherpa/sherpa-test-data@1b026cb, ``sherpatest/``;
- ``PN.arf``, ``M2.arf``: renecotyfanboy/jaxspec@67ae5f7, ``tests/data/ogip/``; ``M1.arf``: the same at 1d9fc86.

Means in bins of 0.05 keV, those of the packaged areas of ACIS-I, are written: figures, not the files. The output is the
same, byte for byte, each time.

ACIS-S: at launch the ARF of ObsID 1838 (S3, 2000-09-02), made before its contamination was modelled. Cycle 19: that of
ObsID 9774 (S3, 2007-12-06) times what ACIS-I lost from 2003 (ObsID 4274, ``qso.warf``) to cycle 19; what S3 lost from
2003 to 2007 is counted twice: 9% at 1 keV, less above. EPIC: as they are. Their ratio to ARFs of point sources (0.85 in
30", at all energies) says that nothing is taken off for photons scattered out of a region, that to one with the medium
filter that the filter is the thin one.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

DATA = Path(__file__).resolve().parents[1] / "astroclassify" / "data"
COMMAND = "python tools/build_effective_areas.py FOLDER"

logger = logging.getLogger("build_effective_areas")


def mean_area(path, edges):
    """Mean area [cm2] between edges [keV]: the difference of its integral."""
    table = fits.getdata(path, "SPECRESP")
    low, high, area = (np.asarray(table[name], dtype=float) for name in ("ENERG_LO", "ENERG_HI", "SPECRESP"))
    integral = np.concatenate([[0.0], np.cumsum(area * (high - low))])
    return np.diff(np.interp(edges, np.append(low, high[-1]), integral)) / np.diff(edges)


def write(name, edges, areas, description, source):
    """Write one table; columns are named ``area_<key>``."""
    table = QTable({"energy_lo": edges[:-1] * u.keV, "energy_hi": edges[1:] * u.keV})
    for key, area in areas.items():
        table[f"area_{key}"] = np.round(area, 2) * u.cm**2
    table.meta.update(description=description, source=source, created_by=COMMAND)
    table.write(DATA / name, format="ascii.ecsv", overwrite=True)
    logger.info("%s: %d bytes", name, (DATA / name).stat().st_size)


def main(arguments=None):
    """Read the files and write the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("folder", type=Path, help="folder with the ARFs")
    folder = parser.parse_args(arguments).folder
    acis_i = QTable.read(DATA / "acis_i_effective_area.ecsv")
    edges = np.append(acis_i["energy_lo"].to_value(u.keV), acis_i["energy_hi"].to_value(u.keV)[-1])
    early, reference = mean_area(folder / "qso.warf", edges), mean_area(folder / "9774.arf", edges)
    lost = np.divide(acis_i["area_cycle19"].value, early, out=np.zeros_like(early), where=early > 0)
    write(
        "acis_s_effective_area.ecsv",
        edges,
        {"cycle0": mean_area(folder / "arf_1024.fits", edges), "cycle19": reference * lost},
        "Chandra ACIS-S3 effective area near the aim point, mean in bins of 0.05 keV",
        "cycle 0: ARF of ObsID 1838 (2000-09-02); cycle 19: ARF of ObsID 9774 (2007-12-06) times the packaged ACIS-I "
        "area of cycle 19 over that of ObsID 4274 (ACIS-I3, 2003-07-21). ARFs: sherpa/sherpa-test-data@1b026cb",
    )
    files = {"epn": "PN.arf", "emos1": "M1.arf", "emos2": "M2.arf"}
    write(
        "epic_effective_area.ecsv",
        edges,
        {camera: mean_area(folder / name, edges) for camera, name in files.items()},
        "XMM-Newton EPIC effective areas on axis, thin filter, mean in bins of 0.05 keV",
        "ARFs of pn, MOS1 and MOS2: renecotyfanboy/jaxspec@67ae5f7 and @1d9fc86, tests/data/ogip",
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
