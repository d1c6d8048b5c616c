"""
The pyXSIM engine: photons of the gas of one halo, and their projections.

This is the only module that touches pyxsim, yt, unyt or soxs; they are imported when a function here is first called.
yt and pyXSIM get the gas as SPH particles, one per cell. The photons come from pyXSIM's ``make_photons`` and
``project_photons`` (ZuHone & Hallman 2016, ascl:1608.002), with two parts of our own: the packaged APEC table instead
of AtomDB files, and photons drawn for all cells at once instead of cell by cell (same distribution).
"""

import contextlib
import functools
import importlib.util
import logging
import os
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from astropy import constants
from astropy import units as u

from ..exceptions import require
from ._absorption import transmission
from ._plasma import load_emissivity, table_position

__all__ = ["Events", "PhotonSet", "check_installed", "photons"]

log = logging.getLogger(__name__)

# A homogeneous ball of radius R has the variance R^2 / 5 along each axis. pyXSIM's Gaussian kernel has a standard
# deviation of half the smoothing length.
SMOOTHING_PER_RADIUS = 2.0 / np.sqrt(5.0)
# Cells further outside the field than this many standard deviations of their kernel (or of the PSF) are left out.
_N_SIGMA = 5.0
_C_KM_S = constants.c.to_value(u.km / u.s)
_K_PER_KEV = (1 * u.keV / constants.k_B).to_value(u.K)

# Importing and running these packages touches global state (environment, loggers, warnings, progress bars): one thread
# at a time, everything put back afterwards.
_LOCK = threading.RLock()
_LOGGERS = ("yt", "pyxsim", "soxs")


class _Forward(logging.Handler):
    """Hand the records of another package to our logger: its information as DEBUG, its warnings as warnings."""

    def emit(self, record):
        """Log one record again."""
        level = record.levelno if record.levelno >= logging.WARNING else logging.DEBUG
        log.log(level, "%s: %s", record.name, record.getMessage())


@contextlib.contextmanager
def _private_config():
    """
    Keep the first ``import soxs`` from writing ``soxs/soxs.cfg`` into the user's configuration folder.

    A configuration that the user has is read as usual. Without one, soxs is shown an empty folder of its own.
    """
    root = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if "soxs" in sys.modules or (root / "soxs" / "soxs.cfg").exists():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="astroclassify-") as folder:
        with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": folder}):
            yield
        utils = sys.modules.get("soxs.utils")
        if utils is not None:  # soxs.set_soxs_config, if the user calls it later, must find the user's own folder
            utils.CONFIG_DIR = str(root / "soxs")
            utils.CURRENT_CONFIG_FILE = str(root / "soxs" / "soxs.cfg")


@contextlib.contextmanager
def _quiet():
    """Send what yt, pyXSIM and soxs log to our logger, ignore their warnings, hide their bars; then put all back."""
    forward = _Forward()
    with _LOCK, contextlib.ExitStack() as stack:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(setattr, logger, "propagate", logger.propagate)
            stack.callback(setattr, logger, "handlers", logger.handlers)
            logger.handlers, logger.propagate = [forward], False
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(np.errstate(all="ignore"))
        if "pyxsim.photon_list" in sys.modules:
            module = sys.modules["pyxsim.photon_list"]
            stack.enter_context(mock.patch.object(module, "tqdm", functools.partial(module.tqdm, disable=True)))
        yield


def check_installed():
    """Raise `~astroclassify.exceptions.MissingDependencyError` without pyXSIM; import nothing that is there."""
    for module in ("pyxsim", "yt"):
        if importlib.util.find_spec(module) is None:
            require(module, extra="sim")


@functools.lru_cache(maxsize=1)
def _load():
    """Import pyXSIM and yt once, quietly, leaving no file in the user's home."""
    with _LOCK, warnings.catch_warnings(), _private_config():
        warnings.simplefilter("ignore")

        # soxs adds its own handler while it is imported and warns at once: only a filter can stop that.
        def refuse(record):
            return False

        logger = logging.getLogger("soxs")
        logger.addFilter(refuse)
        try:
            pyxsim = require("pyxsim", extra="sim")
            yt = require("yt", extra="sim")
        finally:
            logger.removeFilter(refuse)
    return pyxsim, yt


@functools.lru_cache(maxsize=1)
def _source_model_class():
    """Our source model. It derives from a pyXSIM class, so it can only be made once pyXSIM is there."""
    _load()
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
            metallicity = np.ravel(chunk[self.Zmet].to_value("Zsun"))
            if kT.size == 0:
                return None
            number, energies = self.spectral_model.draw(kT, metallicity, norm, self.prng)
            cells = np.flatnonzero(number)
            return cells.size, number[cells], cells, energies

    return PackagedSourceModel


class SpectralModel:
    """
    The packaged APEC table in the form that pyXSIM's source models expect.

    Parameters
    ----------
    redshift : float
        Cosmological redshift of the source.
    e_min, e_max : float
        Observed energies [keV] that must be covered; whole bins of the table are kept.

    Notes
    -----
    Attributes ``ebins`` [keV], ``emid``, ``de``, ``nbins`` are on the observed energy axis. The spectra are photon
    emissivities over (1 + z) [photons cm3 s-1 per bin]: pyXSIM's own norm is ``1 / (4 pi D_A^2 (1 + z)^2)``, so that
    the product has the photon flux ``(1 + z) / (4 pi D_L^2)`` of one photon emitted per second.
    """

    model_vers = "packaged"
    var_elem_names = ()
    var_ion_names = ()

    def __init__(self, redshift, e_min, e_max):
        self.emissivity = load_emissivity()
        edges = np.asarray(self.emissivity.energy_edges) / (1.0 + redshift)
        if e_min < edges[0] or e_max > edges[-1]:
            raise ValueError(
                f"energy_range must lie within {edges[0]:.3g} to {edges[-1]:.3g} keV, what the emissivity table covers "
                f"at redshift {redshift:g} (less the Doppler shift of the gas), got {e_min:.3g} to {e_max:.3g} keV"
            )
        first = np.searchsorted(edges, e_min, side="right") - 1
        last = np.searchsorted(edges, e_max, side="left")
        self._bins = slice(first, last)
        self.ebins = edges[first : last + 1]
        self.emid = 0.5 * (self.ebins[1:] + self.ebins[:-1])
        self.de = np.diff(self.ebins)
        self.nbins = self.emid.size
        self.Tvals = np.asarray(self.emissivity.temperature, dtype=float)
        self.prepare_spectrum(redshift)

    def prepare_spectrum(self, zobs):
        """Cut the table to the band. The redshift is that of the constructor."""
        # Rows: H + He at every temperature, then the metals at every temperature.
        spectra = np.concatenate([self.emissivity.h_he[:, self._bins], self.emissivity.metals[:, self._bins]])
        self._spectra = np.clip(spectra.astype(float), 0.0, None) / (1.0 + zobs)
        self._sums = self._spectra.sum(axis=1)
        cumulative = np.concatenate([np.zeros((len(spectra), 1)), np.cumsum(self._spectra, axis=1)], axis=1)
        # One table for all spectra: that of row r runs from r to r + 1.
        cumulative /= np.where(self._sums > 0, self._sums, 1.0)[:, np.newaxis]
        self._cumulative = np.ravel(cumulative + np.arange(len(spectra))[:, np.newaxis])

    def _interpolation(self, kT):
        """Lower table temperature and the weight of the upper one, linear in T as in SOXS; kT held within the table."""
        return table_position(self.Tvals, np.clip(kT, self.Tvals[0], self.Tvals[-1]))

    def get_spectrum(self, kT):
        """Spectra at ``kT`` [keV], shape (n,): of H + He, of metals at solar abundance, and None (no free elements)."""
        lower, weight = self._interpolation(np.atleast_1d(kT))
        weight = weight[:, np.newaxis]
        n_t = self.Tvals.size
        both = [
            self._spectra[start + lower] * (1.0 - weight) + self._spectra[start + lower + 1] * weight
            for start in (0, n_t)
        ]
        return both[0], both[1], None

    def make_fluxf(self, emin, emax, energy=False):
        """Return a function of kT that gives the emission of a band (pyXSIM's emissivity fields use it)."""
        inside = (self.ebins[:-1] > emin) & (self.ebins[1:] < emax)
        factor = self.emid[inside] if energy else 1.0

        def flux(kT):
            h_he, metals, _ = self.get_spectrum(kT)
            return (h_he[:, inside] * factor).sum(axis=1), (metals[:, inside] * factor).sum(axis=1), None

        return flux

    def draw(self, kT, metallicity, norm, rng):
        """
        Draw the photons of every cell.

        The spectrum of a cell is a sum of four spectra of the table (H + He and metals, at the two nearest
        temperatures). Independent Poisson numbers from each add up to a Poisson number from the sum, and an energy from
        the spectrum that a photon belongs to is an energy from the sum: the distribution is that of pyXSIM's own loop.

        Parameters
        ----------
        kT, metallicity, norm : `~numpy.ndarray`, shape (n,)
            Temperature [keV], metallicity [solar], photons per unit of emissivity.
        rng : `~numpy.random.Generator`
            Random numbers.

        Returns
        -------
        number : `~numpy.ndarray` of int64, shape (n,)
            Photons of each cell.
        energies : `~numpy.ndarray`, shape (sum of number,)
            Observed energies without Doppler shift [keV], in order of the cells.
        """
        lower, weight = self._interpolation(kT)
        n_t = self.Tvals.size
        rows = np.stack([lower, lower + 1, n_t + lower, n_t + lower + 1], axis=1)
        shares = np.stack([1.0 - weight, weight, (1.0 - weight) * metallicity, weight * metallicity], axis=1)
        expected = norm[:, np.newaxis] * shares * self._sums[rows]
        number = rng.poisson(expected)
        row_of_photon = np.repeat(np.ravel(rows), np.ravel(number))
        place = row_of_photon + rng.random(row_of_photon.size)
        energies = np.interp(place, self._cumulative, np.tile(self.ebins, 2 * n_t))
        return number.sum(axis=1).astype(np.int64), energies


class _Absorption:
    """Galactic absorption from the packaged table, in the form that ``project_photons`` expects."""

    _name = "packaged tbabs"

    def __init__(self, nH, abund_table=None):
        self.nH = nH

    def absorb_photons(self, eobs, prng=None):
        """Tell which photons come through, for energies in keV and ``nH`` in 1e22 cm-2."""
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
    The photons of one halo, kept in a temporary file while `photons` is open.

    Attributes
    ----------
    folder : `~pathlib.Path`
        Where the file is.
    n_photons, n_cells : int
        Photons, and cells that sent any.
    area : float
        Collecting area for which they were drawn [cm2].
    """

    folder: Path
    n_photons: int
    n_cells: int
    area: float

    def project(self, axis, *, n_h, rng):
        """
        Project the photons along an axis, Doppler shifted and absorbed.

        Parameters
        ----------
        axis : str
            ``"x"``, ``"y"`` or ``"z"``. The observer is on its positive side; to the right and up are y and z, z and x,
            x and y.
        n_h : float
            Galactic hydrogen column [cm-2].
        rng : `~numpy.random.Generator`
            Random numbers.

        Returns
        -------
        Events
            Where and at what energy the photons arrive.
        """
        import h5py

        pyxsim, _ = _load()
        if self.n_photons == 0:
            return Events(np.zeros(0), np.zeros(0), np.zeros(0))
        name = self.folder / f"events-{axis}.h5"
        try:
            with _quiet():
                pyxsim.project_photons(
                    str(self.folder / "photons.h5"),
                    str(name),
                    axis,
                    (0.0, 0.0),
                    absorb_model=_Absorption,
                    nH=n_h / 1e22,
                    kernel="gaussian",
                    phys_coord=True,
                    prng=rng,
                )
            with h5py.File(name) as file:
                return Events(*(file["data"][column][:] for column in ("xsky", "ysky", "eobs")))
        finally:
            name.unlink(missing_ok=True)


def _in_field(halo, observation):
    """Cells that can send a photon into the field along at least one of the three axes."""
    position = halo.position.to_value(u.kpc)
    half = observation.half_size_kpc
    kpc_per_arcsec = halo.cosmology.kpc_proper_per_arcmin(observation.redshift).to_value(u.kpc / u.arcsec)
    psf = observation.psf_fwhm.to_value(u.arcsec) / np.sqrt(8.0 * np.log(2.0)) * kpc_per_arcsec
    reach = _N_SIGMA * np.hypot(halo.cell_radius.to_value(u.kpc) / np.sqrt(5.0), psf)
    beside = np.abs(position) - reach[:, np.newaxis]
    right = beside < half[0]
    up = beside < half[1]
    return (right[:, 0] & up[:, 1]) | (right[:, 1] & up[:, 2]) | (right[:, 2] & up[:, 0])


def _dataset(halo, cells):
    """A yt dataset in memory with the chosen cells as SPH particles."""
    _, yt = _load()
    emission_measure = (halo.n_e[cells] * halo.n_h[cells] * halo.volume[cells]).to_value(u.cm**-3)
    position = halo.position[cells].to_value(u.kpc)
    velocity = halo.velocity[cells].to_value(u.km / u.s)
    radius = halo.cell_radius[cells].to_value(u.kpc)
    data = {
        ("io", "particle_mass"): (halo.mass[cells].to_value(u.Msun), "Msun"),
        ("io", "density"): (halo.density[cells].to_value(u.g / u.cm**3), "g/cm**3"),
        ("io", "smoothing_length"): (SMOOTHING_PER_RADIUS * radius, "kpc"),
        ("io", "temperature"): (halo.temperature[cells].to_value(u.keV) * _K_PER_KEV, "K"),
        ("io", "packaged_emission_measure"): (emission_measure, "cm**-3"),
        ("io", "packaged_metallicity"): (halo.metallicity[cells].to_value(u.one), "Zsun"),
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


def _cosmology(cosmology):
    """yt's form of the halo's cosmology."""
    from yt.utilities.cosmology import Cosmology

    return Cosmology(
        hubble_constant=cosmology.h,
        omega_matter=cosmology.Om0,
        omega_lambda=cosmology.Ode0,
        omega_curvature=cosmology.Ok0,
    )


@contextlib.contextmanager
def photons(halo, observation, *, area, rng):
    """
    Draw the photons of a halo that a telescope of constant area would catch; any axis can be projected from them.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Distance, exposure, energy range and field.
    area : float
        Collecting area [cm2].
    rng : `~numpy.random.Generator`
        Random numbers.

    Yields
    ------
    PhotonSet
        The photons, in a temporary folder that is removed at the end whatever happens.

    Raises
    ------
    ValueError
        If the halo has no emitting gas in the field, or the band reaches beyond the emissivity table.
    MissingDependencyError
        If pyXSIM is not installed.
    """
    pyxsim, _ = _load()
    cells = _in_field(halo, observation) & (halo.n_e.value > 0)
    if not np.any(cells):
        raise ValueError(f"halo {halo.halo_id} has no X-ray emitting gas in the field of {observation.width}")
    beta = np.sqrt(np.max(np.sum(halo.velocity[cells].to_value(u.km / u.s) ** 2, axis=1))) / _C_KM_S
    shift = np.sqrt((1.0 + beta) / (1.0 - beta))
    e_min, e_max = observation.energy_range.to_value(u.keV)
    model = SpectralModel(observation.redshift, e_min / shift, e_max * shift)
    with tempfile.TemporaryDirectory(prefix="astroclassify-") as name:
        folder = Path(name)
        with _quiet():
            dataset = _dataset(halo, cells)
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
            n_photons, n_cells = pyxsim.make_photons(
                str(folder / "photons.h5"),
                dataset.all_data(),
                observation.redshift,
                (area, "cm**2"),
                (observation.exposure.to_value(u.s), "s"),
                source,
                center=np.zeros(3),
                cosmology=_cosmology(halo.cosmology),
            )
            del dataset
        yield PhotonSet(folder, int(n_photons), int(n_cells), float(area))
