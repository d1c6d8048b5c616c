"""Mock observations of a halo: an engine gives the photons, the telescope's steps and the header are here."""

import contextlib
import logging
from importlib.metadata import version

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS

from ..batch import derive_rng, master_seed
from ..exceptions import GeometryError
from . import _pyxsim
from ._halo import Halo
from ._observation import Observation
from ._response import load_response

__all__ = ["AXES", "ENGINES", "group_id", "observe", "observing"]

log = logging.getLogger(__name__)

AXES = ("x", "y", "z")
ENGINES = ("pyxsim",)

#: Where mock images are placed on the sky: on the equator, away from the jump of right ascension.
SKY_CENTRE = (180.0, 0.0)


def group_id(simulation, snapshot, halo_id):
    """
    Name of a halo, for tables and files.

    Parameters
    ----------
    simulation : str
        Name of the simulation; what does not belong in a file name becomes ``_``.
    snapshot, halo_id : int
        Numbers of the snapshot and of the halo.

    Returns
    -------
    str
        For example ``"TNG300-1-099-000012"``.
    """
    name = "".join(letter if letter.isalnum() or letter in "-_+" else "_" for letter in simulation)
    return f"{name or 'unnamed'}-{snapshot:03d}-{halo_id:06d}"


def check_axis(axis):
    """Return the axis, or say which ones there are."""
    if axis not in AXES:
        raise ValueError(f"axis must be one of {AXES}, got {axis!r}")
    return axis


def check_engine(engine):
    """Return the engine, or say which ones there are or what it needs."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {ENGINES}, got {engine!r}")
    if engine == "pyxsim":
        _pyxsim.check_installed()
    return engine


def check_observation(observation):
    """Return the observation, or say what came instead."""
    if not isinstance(observation, Observation):
        raise TypeError(f"observation must be an Observation, got {type(observation).__name__}")
    return observation


def observe(halo, observation, *, axis="z", engine="pyxsim", rng):
    """
    Mock X-ray image of a halo, in counts.

    Parameters
    ----------
    halo : Halo
        The halo; it is moved to ``observation.redshift``, its lengths kept.
    observation : Observation
        Settings of the observation.
    axis : {"x", "y", "z"}, optional
        Line of sight. The observer is on the positive side; to the right and up on the image are x and y for ``"z"``,
        y and z for ``"x"``, z and x for ``"y"``.
    engine : {"pyxsim"}, optional
        What makes the photons.
    rng : int or `~numpy.random.Generator`
        A seed, or a generator from which one is drawn. A seed gives one image for each halo and axis, the same as
        `make_mocks` gives with that seed.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Counts (whole numbers, float32), shape ``observation.shape``, the halo's centre in the middle, TAN coordinates
        with right ascension to the left, no mask. ``meta`` holds FITS keywords: TELESCOP, INSTRUME, EXPOSURE [s],
        REDSHIFT, E_MIN and E_MAX [keV], NH [cm-2], WIDTH [kpc], BKGRATE [ct s-1 arcsec-2], PSFFWHM [arcsec], RESPONSE,
        OBJECT, HALO_ID, SIMNAME, SNAPNUM, M500 [Msun], R500 [kpc], AXIS, ENGINE, SEED, CREATOR.

    Raises
    ------
    TypeError
        If ``halo``, ``observation`` or ``rng`` is of another type.
    ValueError
        If axis or engine is unknown, the halo has no gas in the field, or the band reaches beyond the tables.
    MissingDependencyError
        If pyXSIM is not installed (``pip install 'astroclassify[sim]'``).

    Notes
    -----
    The photons of every gas cell come from a Poisson draw of the packaged APEC spectrum at its temperature and
    metallicity, are shifted by the cell's velocity along the line of sight, spread over a Gaussian with the variance
    of a homogeneous ball of the cell's volume, and absorbed by the Galaxy (TBabs). Each is then accepted with the
    ratio of effective area to its maximum, counted if its energy lies in the band, and moved by the Gaussian point
    spread function; uniform Poisson background is added. Energies are true ones: with the redistribution matrix of
    early ACIS-I the counts in 0.5 to 7 keV would be 0.6 to 0.7% fewer, for gas of 1 to 8 keV alike (computed from the
    matrix; the tests do it again).
    Exposure is uniform: no vignetting, chip gaps or edge of the detector.

    References
    ----------
    ZuHone & Hallman 2016, ascl:1608.002 (pyXSIM); Su et al. 2020, MNRAS 498, 5620, section 2 (the images).

    Examples
    --------
    >>> from astroclassify.sim import Observation, observe
    >>> image = observe(halo, Observation(), axis="x", rng=1)  # doctest: +SKIP
    """
    check_axis(axis)
    with observing(halo, observation, engine=engine, seed=master_seed(rng)) as image_along:
        return image_along(axis)


@contextlib.contextmanager
def observing(halo, observation, *, engine, seed):
    """
    Prepare a halo once for images along several axes.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Settings.
    engine : str
        One of `ENGINES`.
    seed : int
        Master seed. The photons depend on it and on the halo; each image on the axis as well. Which axes are asked
        for, and in which order, changes nothing.

    Yields
    ------
    callable
        Takes an axis and gives its image, see `observe`.
    """
    check_engine(engine)
    check_observation(observation)
    if not isinstance(halo, Halo):
        raise TypeError(f"halo must be a Halo, got {type(halo).__name__}")
    response = load_response(observation.response)
    e_min, e_max = observation.energy_range.to_value(u.keV)
    edges = response.energy_edges
    if e_min < edges[0] or e_max > edges[-1]:
        raise ValueError(
            f"energy_range must lie within {edges[0]:g} to {edges[-1]:g} keV, where response {response.name!r} is "
            f"known, got {observation.energy_range}"
        )
    in_band = (edges[1:] > e_min) & (edges[:-1] < e_max)
    area = float(np.max(response.effective_area[in_band]))
    identity = (halo.simulation, halo.snapshot, halo.halo_id)
    with _pyxsim.photons(halo, observation, area=area, rng=derive_rng(seed, "photons", *identity)) as photon_set:
        log.debug("halo %d: %d photons from %d cells", halo.halo_id, photon_set.n_photons, photon_set.n_cells)

        def image_along(axis):
            check_axis(axis)
            rng = derive_rng(seed, "events", *identity, axis)
            events = photon_set.project(axis, n_h=observation.n_h.to_value(u.cm**-2), rng=rng)
            kept = _detected(events.energy, response, area, (e_min, e_max), rng)
            scale = observation.pixel_scale(halo.cosmology)
            counts = _expose(events.x[kept], events.y[kept], observation, scale, rng)
            counts += rng.poisson(observation.background_counts(halo.cosmology), size=counts.shape)
            return CCDData(
                counts.astype(np.float32),
                unit=u.ct,
                wcs=_tan_wcs(observation.shape, scale),
                meta=_header(halo, observation, axis=axis, engine=engine, seed=seed),
            )

        yield image_along


def _detected(energy, response, area, band, rng):
    """Which events the telescope catches and the band holds."""
    caught = rng.random(energy.size) * area < response.area(energy)
    return caught & (energy >= band[0]) & (energy <= band[1])


def _expose(x, y, observation, scale, rng):
    """Move events [kpc from the centre] by the point spread function and count them on the pixels."""
    rows, columns = observation.shape
    pixel_kpc = 2.0 * observation.half_size_kpc[0] / columns
    sigma = (observation.psf_fwhm / scale).to_value(u.one) / np.sqrt(8.0 * np.log(2.0))
    shift = rng.normal(scale=sigma, size=(2, x.size)) if sigma > 0 else np.zeros((2, x.size))
    column = np.floor(x / pixel_kpc + 0.5 * columns + shift[0]).astype(np.int64)
    row = np.floor(y / pixel_kpc + 0.5 * rows + shift[1]).astype(np.int64)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    flat = np.bincount(row[inside] * columns + column[inside], minlength=rows * columns)
    return flat.reshape(rows, columns)


def _tan_wcs(shape, scale):
    """Tangent-plane coordinates with the reference point in the middle of the image."""
    degrees = scale.to_value(u.deg)
    if not 0 < degrees * max(shape) < 90:
        raise GeometryError(f"image must be smaller than 90 deg, got {degrees * max(shape):.3g} deg")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = SKY_CENTRE
    wcs.wcs.crpix = [0.5 * (shape[1] + 1), 0.5 * (shape[0] + 1)]
    wcs.wcs.cdelt = [-degrees, degrees]
    wcs.wcs.radesys = "ICRS"
    wcs.array_shape = shape
    wcs.wcs.set()
    return wcs


def _header(halo, observation, *, axis, engine, seed):
    """FITS keywords of a mock image."""
    settings = observation.to_meta()
    return {
        "OBJECT": group_id(halo.simulation, halo.snapshot, halo.halo_id),
        "TELESCOP": "CHANDRA",
        "INSTRUME": "ACIS-I",
        "EXPOSURE": settings["exposure_s"],
        "REDSHIFT": observation.redshift,
        "E_MIN": settings["energy_range_keV"][0],
        "E_MAX": settings["energy_range_keV"][1],
        "NH": settings["n_h_cm-2"],
        "WIDTH": settings["width_kpc"],
        "BKGRATE": settings["background_ct_s-1_arcsec-2"],
        "PSFFWHM": settings["psf_fwhm_arcsec"],
        "RESPONSE": observation.response,
        "SIMNAME": halo.simulation,
        "SNAPNUM": halo.snapshot,
        "HALO_ID": halo.halo_id,
        "AXIS": axis,
        "M500": float(halo.m_500.to_value(u.Msun)),
        "R500": float(halo.r_500.to_value(u.kpc)),
        "ENGINE": engine,
        "SEED": seed,
        "CREATOR": f"astroclassify {version('astroclassify')}",
    }
