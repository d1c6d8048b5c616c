"""Mock observations of a halo: an engine gives the source, the telescope's steps and the header are here."""

import contextlib
from importlib.metadata import version

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable

from .. import tables
from .._checks import check_quantity
from ..batch import derive_rng, master_seed
from ..images import EXPOSURE_MAP, as_image
from . import _direct, _pyxsim
from ._halo import Halo
from ._observation import Observation
from ._photon_source import bin_events, photon_source
from ._point_sources import draw_point_sources
from ._projection import axis_name, check_axis, tan_wcs
from ._telescope import make_telescope

__all__ = [
    "ENGINES",
    "check_band",
    "check_engine",
    "check_halo",
    "check_observation",
    "draw_counts",
    "expected_background",
    "expected_counts",
    "expected_spectrum",
    "group_id",
    "image_header",
    "observe",
    "observing",
]

ENGINES = ("pyxsim", "direct")


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


def check_engine(engine):
    """
    Check the name of an engine, and that what it needs is installed.

    Parameters
    ----------
    engine : str
        What came.

    Returns
    -------
    str
        The same.

    Raises
    ------
    ValueError
        If there is no such engine; the message says which there are.
    MissingDependencyError
        If it needs a package that is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {ENGINES}, got {engine!r}")
    {"pyxsim": _pyxsim, "direct": _direct}[engine].check_installed()
    return engine


def check_observation(observation):
    """
    Check that an argument is an observation.

    Parameters
    ----------
    observation : Observation
        What came.

    Returns
    -------
    Observation
        The same.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(observation, Observation):
        raise TypeError(f"observation must be an Observation, got {type(observation).__name__}")
    return observation


def check_halo(halo):
    """
    Check that an argument is a halo.

    Parameters
    ----------
    halo : Halo
        What came.

    Returns
    -------
    Halo
        The same.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(halo, Halo):
        raise TypeError(f"halo must be a Halo, got {type(halo).__name__}")
    return halo


def observe(halo, observation, *, axis="z", engine="pyxsim", rng):
    """
    Mock X-ray image of a halo, in counts.

    Parameters
    ----------
    halo : Halo
        The halo; it is moved to ``observation.redshift``, its lengths kept.
    observation : Observation
        Settings of the observation.
    axis : {"x", "y", "z"} or sequence of 3 floats, optional
        Line of sight: an axis of the box, the observer on its positive side, or any direction towards the observer.
        To the right and up on the image are x and y for ``"z"``, y and z for ``"x"``, z and x for ``"y"``; for a
        direction, up is as close to z as it can be.
    engine : {"pyxsim", "direct"}, optional
        ``"pyxsim"`` draws photons, ``"direct"`` sums the expected counts of the cells and draws the pixels: the same
        expectation, much faster, and no list of photons.
    rng : int or `~numpy.random.Generator`
        A seed, or a generator from which one is drawn. A seed gives one image for each halo and axis, the same as
        `make_mocks` gives with that seed.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Counts (whole numbers, float32), shape ``observation.shape``, the halo's centre in the middle, TAN coordinates
        with right ascension to the left. Without an observatory's detector there is no mask; with one, pixels that it
        never sees are masked and ``meta["exposure_map"]`` holds the exposure of each pixel [s], vignetting included.
        ``meta`` holds FITS keywords: TELESCOP, INSTRUME, EXPOSURE [s], REDSHIFT, E_MIN and E_MAX [keV], NH [cm-2],
        WIDTH [kpc], BKGRATE and SKYRATE [ct s-1 arcsec-2], PTSRCMAX [erg s-1 cm-2], PSFFWHM [arcsec], RESPONSE,
        DETECTOR, OFFSET_X, OFFSET_Y [arcmin] and ROLL [deg], OBJECT, HALO_ID, SIMNAME, SNAPNUM, M500 [Msun],
        R500 [kpc], AXIS, ENGINE, SEED, CREATOR.

    Raises
    ------
    TypeError
        If ``halo``, ``observation`` or ``rng`` is of another type.
    ValueError
        If axis or engine is unknown, the halo has no gas in the field, or the band reaches beyond the tables.
    MissingDependencyError
        If what the engine needs is not installed (``pip install 'astroclassify[sim]'``).

    Notes
    -----
    Every gas cell emits the packaged APEC spectrum of its temperature and metallicity (of each element where the
    snapshot has them), shifted by its velocity along the line of sight, spread over a Gaussian with the variance of a
    homogeneous ball of the cell's volume, and absorbed by the Galaxy (TBabs). The telescope takes its effective area at
    each energy, the band, the Gaussian point spread function, the exposure map, and adds background and, where asked,
    point sources; the counts are Poisson. With the packaged responses energies are true ones: with the redistribution
    matrix of early ACIS-I the counts in 0.5 to 7 keV would be 0.6 to 0.7% fewer, for gas of 1 to 8 keV alike (computed
    from the matrix; the tests do it again).

    References
    ----------
    ZuHone & Hallman 2016, ascl:1608.002 (pyXSIM); Su et al. 2020, MNRAS 498, 5620, section 2 (the images).

    Examples
    --------
    >>> from astroclassify.sim import Observation, observe
    >>> image = observe(halo, Observation(), axis="x", engine="direct", rng=1)  # doctest: +SKIP
    """
    check_axis(axis)
    with observing(halo, observation, engine=engine, seed=master_seed(rng)) as image_along:
        return image_along(axis)


def expected_counts(halo, observation, *, axis="z", rng=None):
    """
    Expected counts of every pixel, as the direct engine sums them: the image without its Poisson noise.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Settings of the observation.
    axis : {"x", "y", "z"} or sequence of 3 floats, optional
        Line of sight, see `observe`.
    rng : int or `~numpy.random.Generator`, optional
        Seed for the places and fluxes of point sources; needed where the observation has any.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Expected counts (float64) of gas, background and point sources; mask, exposure map and ``meta`` as in `observe`.

    Raises
    ------
    TypeError, ValueError, MissingDependencyError
        As `observe` does.

    Examples
    --------
    >>> from astroclassify.sim import Observation, draw_counts, expected_counts
    >>> expected = expected_counts(halo, Observation())  # doctest: +SKIP
    >>> short, long = (draw_counts(expected, exposure=t, rng=1) for t in (10 * u.ks, 200 * u.ks))  # doctest: +SKIP
    """
    check_engine("direct")
    check_halo(halo)
    check_band(check_observation(observation))
    axis = check_axis(axis)
    seed = 0
    if observation.point_sources is not None:
        seed = master_seed(rng)
    telescope = make_telescope(observation, halo.cosmology)
    source = _direct_source(halo, observation, telescope)(axis)
    source += expected_background(halo, observation, telescope, seed, axis)
    meta = image_header(halo, observation, axis=axis, engine="direct", seed=seed)
    return _as_ccddata(source, halo, observation, telescope, meta)


def draw_counts(expected, *, exposure=None, rng):
    """
    Draw the Poisson counts of an image of expected counts, for its own exposure or any other.

    Parameters
    ----------
    expected : `~astropy.nddata.CCDData`
        Expected counts, from `expected_counts`.
    exposure : `~astropy.units.Quantity`, optional
        Exposure time; that of the image by default. Everything in the image scales with it.
    rng : int or `~numpy.random.Generator`
        A seed or a generator.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Counts (float32), ``meta["EXPOSURE"]`` and the exposure map scaled.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the image does not tell its exposure.
    """
    image = as_image(expected)
    if not np.all(np.isfinite(image.data)) or np.any(image.data < 0):
        raise ValueError("expected must hold finite counts, none negative")
    factor = 1.0
    meta = dict(image.meta)
    if exposure is not None:
        seconds = check_quantity("exposure", exposure, u.s, positive=True, shape=())
        if not meta.get("EXPOSURE"):
            raise ValueError("expected must have the exposure time in meta['EXPOSURE'] to draw another one")
        factor = seconds / meta["EXPOSURE"]
        meta["EXPOSURE"] = seconds
        if EXPOSURE_MAP in meta:
            meta[EXPOSURE_MAP] = meta[EXPOSURE_MAP] * factor
    rng = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(master_seed(rng))
    counts = rng.poisson(image.data * factor).astype(np.float32)
    mask = None if image.mask is None else image.mask.copy()
    return CCDData(counts, unit=u.ct, wcs=image.wcs, mask=mask, meta=meta)


def expected_spectrum(halo, observation, *, axis="z", bin_width=0.05 * u.keV):
    """
    Expected counts of the gas by energy, in the band and field of an observation.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Settings of the observation.
    axis : {"x", "y", "z"} or sequence of 3 floats, optional
        Line of sight, see `observe`.
    bin_width : `~astropy.units.Quantity`, optional
        About the width of an energy bin; the band is divided evenly.

    Returns
    -------
    `~astropy.table.QTable`
        ``energy_lo``, ``energy_hi`` [keV] and ``counts`` [ct]: gas in cells whose centre lies in the field, on-axis
        effective area, true energies, no background.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    """
    check_halo(halo)
    check_band(check_observation(observation))
    low, high = observation.energy_range.to_value(u.keV)
    width = check_quantity("bin_width", bin_width, u.keV, positive=True, shape=())
    edges = np.linspace(low, high, max(1, round((high - low) / width)) + 1)
    counts = _direct.spectrum(halo, observation, check_axis(axis), edges)
    return QTable(
        {"energy_lo": edges[:-1] * u.keV, "energy_hi": edges[1:] * u.keV, "counts": counts * u.ct},
        meta=tables.provenance(observation=observation.to_meta(), axis=axis_name(axis)),
    )


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
    check_halo(halo)
    check_band(check_observation(observation))
    telescope = make_telescope(observation, halo.cosmology)
    identity = (halo.simulation, halo.snapshot, halo.halo_id)
    with contextlib.ExitStack() as stack:
        if engine == "direct":
            source = _direct_source(halo, observation, telescope)
        else:
            source = stack.enter_context(photon_source(halo, observation, telescope, seed))

        def image_along(axis):
            axis = check_axis(axis)
            rng = derive_rng(seed, "events", *identity, axis_name(axis))
            background = expected_background(halo, observation, telescope, seed, axis)
            if engine == "direct":
                counts = rng.poisson(source(axis) + background)
            else:
                counts = bin_events(source(axis, rng), observation.shape) + rng.poisson(background)
            meta = image_header(halo, observation, axis=axis, engine=engine, seed=seed)
            return _as_ccddata(counts.astype(np.float32), halo, observation, telescope, meta)

        yield image_along


def check_band(observation):
    """
    Refuse a band beyond the response.

    Parameters
    ----------
    observation : Observation
        Settings of the observation.

    Raises
    ------
    ValueError
        If the energy range reaches beyond the energies at which the response is known.
    """
    response = observation.load_response()
    e_min, e_max = observation.energy_range.to_value(u.keV)
    edges = response.energy_edges
    if e_min < edges[0] or e_max > edges[-1]:
        raise ValueError(
            f"energy_range must lie within {edges[0]:g} to {edges[-1]:g} keV, where response {response.name!r} is "
            f"known, got {observation.energy_range}"
        )


def _direct_source(halo, observation, telescope):
    """Function of the axis: the expected counts of the gas."""
    if observation.response_files is not None:
        raise ValueError(f"response {observation.response!r} needs engine 'pyxsim', got engine 'direct'")

    gas = _direct.prepare(halo, observation)

    def source(axis):
        return _direct.expected(gas, observation, telescope, axis) * telescope.fraction

    return source


def expected_background(halo, observation, telescope, seed, axis):
    """
    Expected counts of the background and of point sources, which are others for each halo and axis.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Settings of the observation.
    telescope : Telescope
        Its planes, from `make_telescope`.
    seed : int
        The master seed.
    axis : str or sequence of 3 floats
        Line of sight.

    Returns
    -------
    `~numpy.ndarray`
        Counts per pixel, the shape of the image.
    """
    if observation.point_sources is None:
        return telescope.background
    rng = derive_rng(seed, "point sources", halo.simulation, halo.snapshot, halo.halo_id, axis_name(axis))
    return telescope.background + draw_point_sources(observation, telescope, rng)


def _as_ccddata(counts, halo, observation, telescope, meta):
    """The image with its coordinates; mask and exposure map where the detector is not everywhere."""
    mask = None
    if observation.detector != "uniform":
        mask = telescope.fraction <= 0
        meta[EXPOSURE_MAP] = telescope.fraction * observation.exposure.to_value(u.s)
    wcs = tan_wcs(observation.shape, observation.pixel_scale(halo.cosmology))
    return CCDData(counts, unit=u.ct, wcs=wcs, mask=mask if mask is not None and mask.any() else None, meta=meta)


def image_header(halo, observation, *, axis, engine, seed):
    """
    FITS keywords of a mock image.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Settings of the observation.
    axis : str or sequence of 3 floats
        Line of sight.
    engine : str
        What made the photons.
    seed : int
        The master seed.

    Returns
    -------
    dict
        Keyword -> value.
    """
    settings = observation.to_meta()
    offset = observation.pointing_offset.to_value(u.arcmin)
    telescope, instrument = "CHANDRA", "ACIS-I"
    if observation.response_files is not None:  # soxs:chandra_acisi_cy22
        telescope, _, instrument = observation.response.partition(":")[2].partition("_")
    header = {
        "OBJECT": group_id(halo.simulation, halo.snapshot, halo.halo_id),
        "TELESCOP": telescope.upper(),
        "INSTRUME": instrument.upper(),
        "EXPOSURE": settings["exposure_s"],
        "REDSHIFT": observation.redshift,
        "E_MIN": settings["energy_range_keV"][0],
        "E_MAX": settings["energy_range_keV"][1],
        "NH": settings["nh_column_cm-2"],
        "WIDTH": settings["width_kpc"],
        "BKGRATE": settings["background_ct_s-1_arcsec-2"],
        "SKYRATE": settings["sky_background_ct_s-1_arcsec-2"],
        "PSFFWHM": settings["psf_fwhm_arcsec"],
        "RESPONSE": observation.response,
        "DETECTOR": observation.detector,
        "OFFSET_X": float(offset[0]),
        "OFFSET_Y": float(offset[1]),
        "ROLL": float(observation.roll.to_value(u.deg)),
        "SIMNAME": halo.simulation,
        "SNAPNUM": halo.snapshot,
        "HALO_ID": halo.halo_id,
        "AXIS": axis_name(axis),
        "M500": float(halo.m_500.to_value(u.Msun)),
        "R500": float(halo.r_500.to_value(u.kpc)),
        "ENGINE": engine,
        "SEED": seed,
        "CREATOR": f"astroclassify {version('astroclassify')}",
    }
    if observation.point_sources is not None:
        header["PTSRCMAX"] = float(observation.point_sources.to_value(u.erg / u.s / u.cm**2))
    return header
