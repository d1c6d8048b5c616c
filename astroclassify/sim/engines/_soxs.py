"""
Instruments of SOXS, with local files only: chips, dither, point spread function, redistribution matrix.

The registry of SOXS says what an instrument is made of; the files must lie in a folder of the user's. SOXS downloads a
file whose name it knows even where it is there, so the files are linked under names of their own into a temporary
folder, a private instrument is made of them, and what would download is blocked while it runs.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS

from ..physics._plasma import load_emissivity
from ..physics._projection import largest_doppler, tan_wcs, to_pixels
from ..physics._soxs_files import local_files, read_area, specification
from ..physics._xray_packages import load_soxs, quiet
from ._pyxsim import Events

__all__ = ["draw_range", "soxs_events"]

# SOXS draws a Poisson number of the photons that it is given: this much more area makes enough of them.
_AREA_FACTOR = 1.2
# A detector of CCDs records hardly any photon at more than twice its energy.
_LOWEST_OVER_BAND = 0.5
_ERG_PER_KEV = u.keV.to(u.erg)


def draw_range(halo, observation):
    """
    Area [cm2] and observed energies [keV] for which photons must be drawn, so that SOXS can take its own from them:
    what the matrix can bring into the band, as far as area and emissivity table reach.
    """
    edges, effective_area = read_area(observation.response, observation.response_files)
    shift = largest_doppler(halo.velocity.to_value(u.km / u.s))
    table = np.asarray(load_emissivity().energy_edges)[[0, -1]] / (1.0 + observation.redshift)
    low, high = observation.energy_range.to_value(u.keV)
    lowest = max(_LOWEST_OVER_BAND * low, edges[0], table[0] * shift * (1 + 1e-9))
    highest = min(edges[-1], table[1] / shift * (1 - 1e-9))
    # a table that is too short for the band itself is refused by the draw
    return _AREA_FACTOR * float(np.max(effective_area)), (min(low, lowest), max(high, highest))


def soxs_events(halo, observation, photon_set, axis, rng):
    """
    Events of the gas, on the image and in the band, as SOXS simulates an instrument; no background.

    Places in pixels from the lower left corner, energies of the PI channels [keV]. SOXS has no vignetting. It draws a
    Poisson number out of photons whose number is Poisson: the total scatters by up to 1.4 times the root of the counts.
    """
    rows, columns = observation.shape
    photons = photon_set.project(axis, nh_column=observation.nh_column.to_value(u.cm**-2), rng=rng)
    if photons.energy.size == 0:
        return photons
    scale = observation.pixel_scale(halo.cosmology)
    image = tan_wcs(observation.shape, scale)
    offset = (observation.pointing_offset / scale).to_value(u.one)
    pointing = image.wcs_pix2world(0.5 * columns - offset[0] - 0.5, 0.5 * rows - offset[1] - 0.5, 0)
    column, row = to_pixels(photons.x, photons.y, observation)
    sky = image.wcs_pix2world(column - 0.5, row - 0.5, 0)
    exposure = observation.exposure.to_value(u.s)
    flux = photons.energy.sum() * _ERG_PER_KEV / exposure / photon_set.area
    source = {"ra": [sky[0]], "dec": [sky[1]], "energy": [photons.energy], "flux": [flux], "src_names": ["halo"]}
    roll = float(observation.roll.to_value(u.deg))
    found = _simulate(observation, source, exposure, [float(part) for part in pointing], roll, rng)
    place = image.wcs_world2pix(*found[:2], 0)
    column, row = place[0] + 0.5, place[1] + 0.5
    low, high = observation.energy_range.to_value(u.keV)
    kept = (column >= 0) & (column < columns) & (row >= 0) & (row < rows) & (found[2] >= low) & (found[2] <= high)
    return Events(column[kept], row[kept], found[2][kept])


def _simulate(observation, source, exposure, pointing, roll, rng):
    """Right ascension, declination [deg] and PI energy [keV] of what SOXS detects."""
    soxs = load_soxs()
    with _private_instrument(observation.response, observation.response_files) as (name, folder):
        path = folder / "events.fits"
        soxs.instrument_simulator(
            source,
            str(path),
            (exposure, "s"),
            name,
            pointing,
            instr_bkgnd=False,
            foreground=False,
            ptsrc_bkgnd=False,
            roll_angle=roll,
            prng=rng,
        )
        if not path.exists():  # SOXS writes none without events
            return np.zeros(0), np.zeros(0), np.zeros(0)
        with fits.open(path) as hdus:
            header, data = hdus["EVENTS"].header, hdus["EVENTS"].data
            x, y, energy = (np.asarray(data[column], dtype=float) for column in ("X", "Y", "ENERGY"))
    # Where nothing falls on a chip SOXS keeps the events, at (0, 0).
    x, y, energy = x[x >= 0.5], y[x >= 0.5], energy[x >= 0.5]
    return *_event_wcs(header).wcs_pix2world(x, y, 1), 1e-3 * energy


def _event_wcs(header):
    """Coordinates of SOXS's event lists, whose second and third columns are X and Y."""
    wcs = WCS(naxis=2)
    for attribute, key in (("crval", "TCRVL"), ("crpix", "TCRPX"), ("cdelt", "TCDLT"), ("ctype", "TCTYP")):
        setattr(wcs.wcs, attribute, [header[f"{key}{number}"] for number in (2, 3)])
    return wcs


@contextlib.contextmanager
def _private_instrument(response, folder):
    """Register an instrument of local files under a name of its own; yields that name and a temporary folder."""
    soxs = load_soxs()
    from_registry = specification(response)
    files = local_files(response, folder)
    with tempfile.TemporaryDirectory(prefix="astroclassify-") as temporary:
        temporary = Path(temporary)
        name = temporary.name
        entry = {**from_registry, "name": name, "bkgnd": None}
        for role, path in files.items():
            own = f"{name}-{role}{path.suffix}"
            _link(path.resolve(), temporary / own)
            entry[role] = [entry["psf"][0], own, *entry["psf"][2:]] if role == "psf" else own
        with quiet(), _only_local(soxs, temporary):
            soxs.instrument_registry[name] = entry
            try:
                yield name, temporary
            finally:
                soxs.instrument_registry.registry.pop(name, None)


def _link(path, target):
    """Link a file, or copy it where links are not allowed."""
    try:
        target.symlink_to(path)
    except OSError:
        shutil.copyfile(path, target)


@contextlib.contextmanager
def _only_local(soxs, folder):
    """Let SOXS look for files in one folder, and raise where it would download."""
    utils = soxs.utils

    def refuse(self, name):
        raise ValueError(f"response_files must hold {os.path.basename(name)!r}: SOXS wants to download it")

    before = utils.soxs_cfg.get("soxs", "soxs_data_dir", raw=True)
    try:
        utils.soxs_cfg.set("soxs", "soxs_data_dir", str(folder).replace("%", "%%"))
        with mock.patch.object(utils.PoochHandle, "fetch", refuse):
            yield
    finally:
        utils.soxs_cfg.set("soxs", "soxs_data_dir", before)
