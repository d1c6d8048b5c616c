"""Mock observations of a halo: an engine gives the source, the telescope's steps and the header are here."""

import contextlib
from functools import partial

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify import tables
from astroclassify._checks import check_choice, check_quantity
from astroclassify.batch import derive_rng, master_seed
from astroclassify.images import SkyImage, as_image

from ..engines import _direct
from ..engines._photon_source import bin_events, photon_source
from ..halos._halo import Halo
from ..halos._pieces import HaloPieces
from ..physics._projection import axis_name, check_axis
from ..physics._telescope import make_telescope
from ..physics._xray_packages import check_pyxsim
from ._header import as_sky_image, image_header
from ._observation import Observation
from ._point_sources import find_sources, sharp_sources, treat_sources

__all__ = [
    "ENGINES",
    "check_arguments",
    "check_engine",
    "draw_counts",
    "expected_background",
    "expected_counts",
    "expected_spectrum",
    "observe",
    "observing",
    "sources_along",
]

ENGINES = ("pyxsim", "direct")


def check_engine(engine):
    """The name of an engine, if it is known and the packages that it needs are installed."""
    check_choice("engine", engine, ENGINES)
    if engine == "pyxsim":
        check_pyxsim()
    return engine


def check_arguments(halo, observation, *, engine="pyxsim"):
    """Raise unless both have their type and the response is known over the whole band."""
    if not isinstance(halo, Halo | HaloPieces if engine == "direct" else Halo):
        raise TypeError(f"halo must be a Halo for engine {engine!r}, got {type(halo).__name__}")
    if not isinstance(observation, Observation):
        raise TypeError(f"observation must be an Observation, got {type(observation).__name__}")
    response = observation.load_response()
    e_min, e_max = observation.energy_range.to_value(u.keV)
    edges = response.energy_edges
    if e_min < edges[0] or e_max > edges[-1]:
        raise ValueError(
            f"energy_range must lie within {edges[0]:g} to {edges[-1]:g} keV, where response {response.name!r} is "
            f"known, got {observation.energy_range}"
        )


def observe(halo, observation, *, axis="z", engine="pyxsim", rng=None):
    """
    Mock X-ray image of a halo, in counts.

    Parameters
    ----------
    halo : Halo or, for engine ``"direct"``, HaloPieces
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
    rng : int or `~numpy.random.Generator`, optional
        A seed, or a generator from which one is drawn; a fresh seed by default. It is in ``meta["SEED"]``. A seed gives
        one image for each halo and axis, the same as `make_mocks` gives with that seed.

    Returns
    -------
    `~astroclassify.images.SkyImage`
        Counts (whole numbers, float32), shape ``observation.shape``, the halo's centre in the middle (unless
        ``observation.centre_offset`` says otherwise), TAN coordinates with right ascension to the left. Without an
        observatory's detector there is no mask; with one, pixels that it never sees are masked and ``exposure`` holds
        the exposure of each pixel [s], vignetting included, unless ``observation.exposure_map`` is False. Masked
        sources are neither exposed nor seen.
        ``meta`` holds FITS keywords: TELESCOP, INSTRUME, EXPOSURE [s], REDSHIFT, E_MIN and E_MAX [keV], NH [cm-2],
        WIDTH [kpc], BKGRATE and SKYRATE [ct s-1 arcsec-2], PTSRCMAX [erg s-1 cm-2], PSFFWHM [arcsec], RESPONSE,
        DETECTOR, OFFSET_X, OFFSET_Y [arcmin], ROLL [deg], CENTRE_X, CENTRE_Y [kpc] and SOURCES (their treatment),
        OBJECT, HALO_ID, SIMNAME, SNAPNUM, M500 [Msun],
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
    with observing(halo, observation, engine=engine, seed=master_seed(rng), axes=[axis]) as image_along:
        return image_along(axis)


def expected_counts(halo, observation, *, axis="z", rng=None):
    """
    Expected counts of every pixel, as the direct engine sums them: the image without its Poisson noise.

    Parameters
    ----------
    halo : Halo or HaloPieces
        The halo.
    observation : Observation
        Settings of the observation.
    axis : {"x", "y", "z"} or sequence of 3 floats, optional
        Line of sight, see `observe`.
    rng : int or `~numpy.random.Generator`, optional
        Seed for the places and fluxes of point sources, where the observation has any; a fresh one by default. It is in
        ``meta["SEED"]``.

    Returns
    -------
    `~astroclassify.images.SkyImage`
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
    check_arguments(halo, observation, engine="direct")
    axis = check_axis(axis)
    seed = 0 if observation.point_sources is None else master_seed(rng)
    telescope = make_telescope(observation, halo.cosmology)
    sources = sources_along(halo, observation, telescope, seed, axis)
    image = _direct_source(halo, observation, telescope, [axis])(axis, sources)
    image, circles = treat_sources(image, sources, telescope, observation)
    meta = image_header(halo, observation, axis=axis, engine="direct", seed=seed)
    return as_sky_image(image, halo, observation, telescope, circles, meta)


def draw_counts(expected, *, exposure=None, rng=None):
    """
    Draw the Poisson counts of an image of expected counts, for its own exposure or any other.

    Parameters
    ----------
    expected : `~astropy.nddata.CCDData`
        Expected counts, from `expected_counts`.
    exposure : `~astropy.units.Quantity`, optional
        Exposure time; that of the image by default. Everything in the image scales with it.
    rng : int or `~numpy.random.Generator`, optional
        A seed, a fresh one by default, or a generator to draw with.

    Returns
    -------
    `~astroclassify.images.SkyImage`
        Counts (float32), ``meta["EXPOSURE"]`` and the exposure map scaled, and the seed in ``meta["DRAWSEED"]`` (not
        with a generator).

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the exposure of the image is not known.
    """
    image = as_image(expected)
    if not np.all(np.isfinite(image.data)) or np.any(image.data < 0):
        raise ValueError("expected must hold finite counts, none negative")
    factor, meta = 1.0, image.meta
    if exposure is not None:
        seconds = check_quantity("exposure", exposure, u.s, positive=True, shape=())
        if not meta.get("EXPOSURE"):
            raise ValueError("expected must have the exposure time in meta['EXPOSURE'] to draw another one")
        factor = seconds / meta["EXPOSURE"]
        meta["EXPOSURE"] = seconds
    if not isinstance(rng, np.random.Generator):
        meta["DRAWSEED"] = master_seed(rng)
        rng = np.random.default_rng(meta["DRAWSEED"])
    counts = rng.poisson(image.data * factor).astype(np.float32)
    mask = None if image.mask is None else image.mask.copy()
    exposed = None if image.exposure is None else image.exposure * factor
    return SkyImage(counts, unit=u.ct, wcs=image.wcs, mask=mask, meta=meta, exposure=exposed)


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
    check_arguments(halo, observation)
    low, high = observation.energy_range.to_value(u.keV)
    width = check_quantity("bin_width", bin_width, u.keV, positive=True, shape=())
    edges = np.linspace(low, high, max(1, round((high - low) / width)) + 1)
    counts = _direct.spectrum(halo, observation, check_axis(axis), edges)
    return QTable(
        {"energy_lo": edges[:-1] * u.keV, "energy_hi": edges[1:] * u.keV, "counts": counts * u.ct},
        meta=tables.provenance(observation=observation.to_meta(), axis=axis_name(axis)),
    )


@contextlib.contextmanager
def observing(halo, observation, *, engine, seed, axes):
    """
    Prepare a halo once; yields a function of one of the axes that gives the image, see `observe`.

    The photons depend on the master seed and on the halo, each image on the axis as well. Which axes are asked for, and
    in which order, changes nothing.
    """
    check_engine(engine)
    check_arguments(halo, observation, engine=engine)
    telescope = make_telescope(observation, halo.cosmology)
    identity = (halo.simulation, halo.snapshot, halo.halo_id)
    with contextlib.ExitStack() as stack:
        if engine == "direct":
            source = _direct_source(halo, observation, telescope, axes)
        else:
            source = stack.enter_context(photon_source(halo, observation, telescope, seed))

        def image_along(axis):
            axis = check_axis(axis)
            rng = derive_rng(seed, "events", *identity, axis_name(axis))
            sources = sources_along(halo, observation, telescope, seed, axis)
            if engine == "direct":
                counts = rng.poisson(source(axis, sources))
            else:
                counts = bin_events(source(axis, rng), observation.shape)
                counts += rng.poisson(expected_background(sources, telescope))
            filling = derive_rng(seed, "filled sources", *identity, axis_name(axis))
            counts, circles = treat_sources(counts.astype(np.float32), sources, telescope, observation, filling)
            meta = image_header(halo, observation, axis=axis, engine=engine, seed=seed)
            return as_sky_image(counts, halo, observation, telescope, circles, meta)

        yield image_along


def _direct_source(halo, observation, telescope, axes):
    """Function of one of the axes and of the point sources: the expected counts of everything."""
    if observation.response_files is not None:
        raise ValueError(f"response {observation.response!r} needs engine 'pyxsim', got engine 'direct'")
    around = observation.enlarged(telescope.margin)
    if isinstance(halo, Halo):
        gas = _direct.prepare(halo, observation)
        gas_along = partial(_direct.expected, gas, around, telescope)
    else:
        sums = {check_axis(axis): np.zeros(around.shape) for axis in axes}
        for piece in halo.pieces():
            gas = _direct.prepare(piece, observation)
            for axis, image in sums.items():
                _direct.expected(gas, around, telescope, axis, image)
        gas_along = sums.get

    def source(axis, sources):
        sharp = gas_along(axis) + sharp_sources(sources, telescope)
        return telescope.blur(sharp) * telescope.fraction + telescope.background

    return source


def sources_along(halo, observation, telescope, seed, axis):
    """Point sources of the sky, which differ for each halo and axis, and of the halo."""
    rng = derive_rng(seed, "point sources", halo.simulation, halo.snapshot, halo.halo_id, axis_name(axis))
    return find_sources(halo, observation, telescope, axis, rng)


def expected_background(sources, telescope):
    """Expected counts per pixel of background and point sources."""
    return telescope.blur(sharp_sources(sources, telescope)) * telescope.fraction + telescope.background
