"""
The pyXSIM engine: photons of the gas of one halo, and their projections.

yt and pyXSIM get the gas as SPH particles, one per cell. The photons come from pyXSIM's ``make_photons`` and
``project_photons`` (ZuHone & Hallman 2016, ascl:1608.002), with two parts of our own: the packaged APEC table instead
of AtomDB files, and photons drawn for all cells at once instead of cell by cell (same distribution).
"""

import contextlib
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from astropy import constants
from astropy import units as u

from ..physics._absorption import transmission
from ..physics._plasma import components
from ..physics._projection import check_axis, largest_doppler, projection
from ..physics._telescope import make_telescope
from ..physics._xray_packages import load_pyxsim, quiet
from ._spectral_model import SpectralModel

__all__ = ["Events", "PhotonSet", "in_field", "particles", "photons", "yt_cosmology"]

# A homogeneous ball of radius R has the variance R^2 / 5 along each axis. pyXSIM's Gaussian kernel has a standard
# deviation of half the smoothing length.
SMOOTHING_PER_RADIUS = 2.0 / np.sqrt(5.0)
# Cells further outside the field than this many standard deviations of their kernel (or of the PSF) are left out.
_N_SIGMA = 5.0
_K_PER_KEV = (1 * u.keV / constants.k_B).to_value(u.K)


@functools.lru_cache(maxsize=1)
def _source_model_class():
    """Our source model; made at first use, as it derives from a class of pyXSIM."""
    load_pyxsim()
    from pyxsim.source_models.thermal_sources.base import ThermalSourceModel

    class PackagedSourceModel(ThermalSourceModel):
        """Thermal emission from the packaged APEC table, photons drawn for all cells at once."""

        def setup_pbar(self, data_source, field):
            """Show no bar: `make_mocks` has its own."""
            self.pbar = mock.MagicMock()

        def process_data(self, mode, chunk, spectral_norm, **kwargs):
            """Draw photons (``mode="photons"``); everything else is pyXSIM's."""
            if mode != "photons":
                return super().process_data(mode, chunk, spectral_norm, **kwargs)
            kT = np.ravel(chunk[self.temperature_field].to_value("keV", "thermal"))
            norm = np.ravel(chunk[self.emission_measure_field].to_value("cm**-3")) * spectral_norm
            row = np.ravel(chunk["io", "packaged_row"].d).astype(np.int64)
            if kT.size == 0:
                return None
            number, energies = self.spectral_model.draw(kT, self.amounts[row], norm, self.prng)
            cells = np.flatnonzero(number)
            return cells.size, number[cells], cells, energies

    return PackagedSourceModel


class _Absorption:
    """Galactic absorption from the packaged table, in the form that ``project_photons`` expects."""

    _name = "packaged tbabs"

    def __init__(self, nH, abund_table=None):
        self.nH = nH

    def absorb_photons(self, eobs, prng=None):
        """Whether each photon comes through, for energies in keV and ``nH`` in 1e22 cm-2."""
        return prng.random(eobs.size) < transmission(np.asarray(eobs), self.nH * 1e22)


@dataclass(frozen=True)
class Events:
    """Photons that came through the Galaxy: place on the image plane [kpc, to the right and up] and energy [keV]."""

    x: np.ndarray
    y: np.ndarray
    energy: np.ndarray


@dataclass(frozen=True)
class PhotonSet:
    """
    The photons of one halo, in temporary files while `photons` is open.

    ``n_photons`` from ``n_cells`` are those of the gas that an axis of the box can see, drawn for ``area`` [cm2].
    ``draw_all`` draws those of all gas, which other directions need, and gives their number and file.
    """

    folder: Path
    n_photons: int
    n_cells: int
    area: float
    draw_all: Callable

    def project(self, axis, *, nh_column, rng):
        """`Events` along an axis, Doppler shifted and absorbed by a hydrogen column [cm-2]."""
        import h5py

        with self._projected(axis, nh_column=nh_column, rng=rng, sky_center=(0.0, 0.0), phys_coord=True) as name:
            if name is None:
                return Events(np.zeros(0), np.zeros(0), np.zeros(0))
            with h5py.File(name) as file:
                return Events(*(file["data"][column][:] for column in ("xsky", "ysky", "eobs")))

    def write_simput(self, axis, prefix, *, nh_column, sky_centre, rng):
        """
        Write ``<prefix>_simput.fits`` and ``<prefix>_phlist.fits`` with the writer of pyXSIM; False, and no file,
        without photons.

        ``sky_centre`` is right ascension and declination [deg] of the centre of the halo.
        """
        pyxsim, _ = load_pyxsim()
        with self._projected(axis, nh_column=nh_column, rng=rng, sky_center=sky_centre) as name:
            if name is None:
                return False
            with quiet():
                events = pyxsim.EventList(str(name))
                if not events.tot_num_events:
                    return False
                events.write_to_simput(str(prefix))
        return True

    @contextlib.contextmanager
    def _projected(self, axis, *, nh_column, rng, sky_center, **settings):
        """Event file of pyXSIM (or None without photons), removed at the end."""
        pyxsim, _ = load_pyxsim()
        axis = check_axis(axis)
        number, source = self.n_photons, "photons.h5"
        if isinstance(axis, str):
            normal = axis
        else:
            _, up, sight = projection(axis)
            normal, settings["north_vector"] = list(sight), list(up)
            number, source = self.draw_all()
        if number == 0:
            yield None
            return
        name = self.folder / "events.h5"
        try:
            with quiet():
                found = pyxsim.project_photons(
                    str(self.folder / source),
                    str(name),
                    normal,
                    sky_center,
                    absorb_model=_Absorption,
                    nH=nh_column / 1e22,
                    kernel="gaussian",
                    prng=rng,
                    **settings,
                )
            yield name if found else None
        finally:
            name.unlink(missing_ok=True)


def in_field(halo, observation):
    """Cells that can send a photon into the field along at least one of the three axes."""
    position = halo.position.to_value(u.kpc)
    rows, columns = observation.shape
    telescope = make_telescope(observation, halo.cosmology)
    psf = np.max(telescope.psf_sigma([0, columns, 0, columns], [0, 0, rows, rows])) * observation.pixel_kpc
    half = observation.half_size_kpc + np.abs(observation.centre_offset.to_value(u.kpc))
    half += telescope.margin * observation.pixel_kpc
    reach = _N_SIGMA * np.hypot(halo.cell_radius.to_value(u.kpc) / np.sqrt(5.0), psf)
    beside = np.abs(position) - reach[:, np.newaxis]
    right = beside < half[0]
    up = beside < half[1]
    return (right[:, 0] & up[:, 1]) | (right[:, 1] & up[:, 2]) | (right[:, 2] & up[:, 0])


def particles(halo, cells):
    """A yt dataset in memory with the chosen cells as SPH particles."""
    _, yt = load_pyxsim()
    position = halo.position[cells].to_value(u.kpc)
    velocity = halo.velocity[cells].to_value(u.km / u.s)
    radius = halo.cell_radius[cells].to_value(u.kpc)
    data = {
        ("io", "particle_mass"): (halo.mass[cells].to_value(u.Msun), "Msun"),
        ("io", "density"): (halo.density[cells].to_value(u.g / u.cm**3), "g/cm**3"),
        ("io", "smoothing_length"): (SMOOTHING_PER_RADIUS * radius, "kpc"),
        ("io", "temperature"): (halo.temperature[cells].to_value(u.keV) * _K_PER_KEV, "K"),
        ("io", "packaged_emission_measure"): (halo.emission_measure.value[cells], "cm**-3"),
        ("io", "packaged_metallicity"): (halo.metallicity[cells].to_value(u.one), "Zsun"),
        # yt may hand out cells in any order
        ("io", "packaged_row"): (np.flatnonzero(cells).astype(float), ""),
    }
    for i, axis in enumerate("xyz"):
        data["io", f"particle_position_{axis}"] = (np.ascontiguousarray(position[:, i]), "kpc")
        data["io", f"particle_velocity_{axis}"] = (np.ascontiguousarray(velocity[:, i]), "km/s")
    edge = 1.01 * np.max(np.abs(position)) + 2.0 * np.max(radius)
    return yt.load_particles(
        data,
        length_unit=float(u.kpc.to(u.cm)),
        mass_unit=float(u.Msun.to(u.g)),
        velocity_unit=1e5,
        bbox=np.array([[-edge, edge]] * 3),
        periodicity=(False, False, False),
    )


def yt_cosmology(cosmology):
    """The cosmology as an object of yt."""
    from yt.utilities.cosmology import Cosmology

    return Cosmology(
        hubble_constant=cosmology.h,
        omega_matter=cosmology.Om0,
        omega_lambda=cosmology.Ode0,
        omega_curvature=cosmology.Ok0,
    )


@contextlib.contextmanager
def photons(halo, observation, *, area, rng, energy_range=None, everywhere=False):
    """
    Draw the photons of a halo that a telescope of constant area [cm2] would catch; yields a `PhotonSet`.

    ``energy_range`` [keV] is the observed band by default. ``everywhere`` adds gas that the field cannot see along an
    axis of the box. A ValueError says that no emitting gas is in the field or that the band leaves the emissivity
    table.
    """
    load_pyxsim()
    emitting = halo.n_e.value > 0
    cells = emitting if everywhere else in_field(halo, observation) & emitting
    if not np.any(cells):
        raise ValueError(f"halo {halo.halo_id} has no X-ray emitting gas in the field of {observation.width}")
    if energy_range is None:
        energy_range = observation.energy_range.to_value(u.keV)
    # drawn here whether needed or not, so that no axis changes the image along another
    later = np.random.default_rng(rng.integers(np.iinfo(np.int64).max, size=4))
    with tempfile.TemporaryDirectory(prefix="astroclassify-") as name:
        folder = Path(name)

        def draw(cells, file, rng):
            return _draw(folder / file, halo, cells, observation, area, energy_range, rng)

        @functools.lru_cache(maxsize=1)
        def draw_all():
            if np.array_equal(cells, emitting):
                return n_photons, "photons.h5"
            return draw(emitting, "all-photons.h5", later)[0], "all-photons.h5"

        n_photons, n_cells = draw(cells, "photons.h5", rng)
        yield PhotonSet(folder, n_photons, n_cells, float(area), draw_all)


def _draw(path, halo, cells, observation, area, energy_range, rng):
    """Draw the photons of some cells into a file; returns their number and that of the cells that sent any."""
    pyxsim, _ = load_pyxsim()
    shift = largest_doppler(halo.velocity[cells].to_value(u.km / u.s))
    tables, scales = components(halo)
    model = SpectralModel(observation.redshift, energy_range[0] / shift, energy_range[1] * shift, tables)
    with quiet():
        dataset = particles(halo, cells)
        source = _source_model_class()(
            model,
            model.ebins[0],
            model.ebins[-1],
            model.nbins,
            ("io", "packaged_metallicity"),
            temperature_field=("io", "temperature"),
            emission_measure_field=("io", "packaged_emission_measure"),
            kT_min=0.0,
            kT_max=np.inf,
            prng=rng,
        )
        source.amounts = scales[:, 1:]
        n_photons, n_cells = pyxsim.make_photons(
            str(path),
            dataset.all_data(),
            observation.redshift,
            (area, "cm**2"),
            (observation.exposure.to_value(u.s), "s"),
            source,
            center=np.zeros(3),
            cosmology=yt_cosmology(halo.cosmology),
        )
    return int(n_photons), int(n_cells)
