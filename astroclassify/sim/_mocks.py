"""Labelled mock images of many halos: a sample folder."""

import functools
import hashlib
import json
import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table

from .. import batch, tables
from ..exceptions import EmptyResultWarning, GeometryError, OutputError
from ..images import LOW_COUNTS, concentration, write_image
from ..schemes import COOL_CORE, Flag
from ._labels import WEIGHTINGS, classify_t_cool, measure_core
from ._observation import Observation
from ._observe import check_axis, check_engine, check_observation, group_id, observing

__all__ = ["make_mocks"]

log = logging.getLogger(__name__)

SETTINGS_FILE = "observation.json"

# Columns of a row that stand in the header of its image, so that a resumed run can read them back.
_IN_HEADER = {
    "label": "LABEL",
    "redshift": "REDSHIFT",
    "m_500": "M500",
    "r_500": "R500",
    "t_cool": "T_COOL",
    "n_e": "N_E",
    "c_sb": "C_SB",
    "flags": "ROWFLAGS",
}
_DIGEST_KEY = "SETTINGS"


@dataclass(frozen=True)
class _Job:
    """What is the same for every halo of a run; sent to the workers."""

    snapshot: object
    observation: Observation
    axes: tuple
    engine: str
    seed: int
    aperture: float
    weighting: str
    folder: Path

    def settings(self):
        """What decides the content of an image and its row, as plain types."""
        return {
            "simulation": self.snapshot.name,
            "snapshot": self.snapshot.snapshot,
            "engine": self.engine,
            "seed": self.seed,
            "aperture_r500": self.aperture,
            "weighting": self.weighting,
            **self.observation.to_meta(),
        }

    @functools.cached_property
    def digest(self):
        """Short name of the settings."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def make_mocks(
    snapshot,
    halos,
    *,
    observation,
    axes="xyz",
    out,
    engine="pyxsim",
    executor=None,
    rng,
    resume=True,
    aperture=0.012,
    weighting="mass",
    progress=True,
):
    """
    Make labelled mock images of many halos and write them as a sample folder.

    Parameters
    ----------
    snapshot : Snapshot
        The simulation output, from `open_snapshot`.
    halos : `~astropy.table.QTable` or sequence of int
        Halos to observe: a table with the column ``halo_id`` (as ``select_halos`` gives it), or their numbers.
    observation : Observation
        Settings, the same for all.
    axes : str or sequence of str, optional
        Lines of sight, out of ``"x"``, ``"y"``, ``"z"``.
    out : str or path-like
        The folder: ``sample.ecsv``, ``images/<source_id>.fits`` and ``observation.json`` (the settings) are written.
    engine : str, optional
        What makes the photons, see `observe`.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; one halo is one task. By default here, one after the other. The result does not depend on it.
    rng : int or `~numpy.random.Generator`
        A seed, or a generator from which one is drawn. To resume, give the same seed.
    resume : bool, optional
        Whether to keep the images that the folder holds already for the same settings. Without it, a folder that
        holds a sample is refused.
    aperture : float, optional
        Radius of the central sphere of the cooling time and density, in R500.
    weighting : str, optional
        Weights of the averages inside it, see `measure_core`.
    progress : bool, optional
        Whether to show a bar on standard error.

    Returns
    -------
    `~astropy.table.QTable`
        A SAMPLE table, one row per halo and axis in the order of ``halos`` and ``axes``, with the further column
        ``message``. Where there is no cooling time, ``label`` is empty and ``message`` says why. A halo or an axis that
        fails keeps its row, with the flag ``FAILED``, an empty ``path`` and the reason.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If an argument is not allowed; the message names it.
    MissingDependencyError
        If the engine needs a package that is not installed (``pip install 'astroclassify[sim]'``).
    OutputError
        If the folder cannot be written, holds something else, a sample with other settings, or rows of images that
        are not asked for now.

    Notes
    -----
    ``c_sb`` is measured on the image, with the background that was put in (known exactly) taken off. All numbers of
    a row are rounded to 12 digits, so that a row read back from the header of an image equals the one first made.

    Examples
    --------
    >>> from astroclassify.sim import Observation, make_mocks, open_snapshot
    >>> snapshot = open_snapshot("TNG300-1/output")  # doctest: +SKIP
    >>> sample = make_mocks(snapshot, snapshot.select_halos(), observation=Observation(), out="mocks", rng=1)
    ... # doctest: +SKIP
    """
    halo_ids, known = _halo_ids(halos)
    job = _Job(
        snapshot=snapshot,
        observation=check_observation(observation),
        axes=_check_axes(axes),
        engine=check_engine(engine),
        seed=batch.master_seed(rng),
        aperture=_check_aperture(aperture),
        weighting=weighting,
        folder=Path(out),
    )
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {weighting!r}")
    groups = [group_id(snapshot.name, snapshot.snapshot, halo_id) for halo_id in halo_ids]
    _prepare(job, resume, {f"{group}-{axis}" for group in groups for axis in job.axes})
    if not halo_ids:
        warnings.warn("no halos were given: the sample has no rows", EmptyResultWarning, stacklevel=2)
    work = functools.partial(_mock_halo, job)
    outcomes = batch.run(
        work, halo_ids, keys=groups, executor=executor, progress=progress, description="mock images"
    )
    rows = {}
    for outcome in outcomes:
        rows[outcome.key] = outcome.value if outcome.error is None else _failed_rows(job, outcome.key, outcome.error)
    ordered = [
        {**known.get(halo_id, {}), **row} if row["flags"] & Flag.FAILED else row
        for halo_id, group in zip(halo_ids, groups, strict=True)
        for row in rows[group]
    ]
    sample = _table(ordered, job)
    failed = int(np.count_nonzero(sample["flags"] & Flag.FAILED.value))
    if failed:
        log.warning("%d of %d mock images failed; column 'message' of the sample says why", failed, len(sample))
    return tables.write_sample(sample, job.folder, overwrite=True)


def _halo_ids(halos):
    """Numbers of the halos, and what the table tells of each (mass and radius)."""
    if isinstance(halos, Table):
        if "halo_id" not in halos.colnames:
            raise ValueError(f"halos must have the column 'halo_id', got {halos.colnames}")
        numbers = list(halos["halo_id"])
    else:
        try:
            numbers = list(halos)
        except TypeError:
            raise TypeError(f"halos must be a table or a sequence of whole numbers, got {halos!r}") from None
    if not all(isinstance(number, int | np.integer) and not isinstance(number, bool) for number in numbers):
        raise TypeError(f"halos must be whole numbers (halo_id), got {numbers!r}")
    numbers = [int(number) for number in numbers]
    if len(set(numbers)) != len(numbers):
        raise ValueError("halos must not repeat a halo_id")
    known = {}
    if isinstance(halos, QTable) and {"m_500", "r_500"} <= set(halos.colnames):
        masses, radii = halos["m_500"].to_value(u.Msun), halos["r_500"].to_value(u.kpc)
        known = {
            number: {"m_500": _rounded(mass), "r_500": _rounded(radius)}
            for number, mass, radius in zip(numbers, masses, radii, strict=True)
        }
    return numbers, known


def _check_axes(axes):
    if isinstance(axes, str) or np.iterable(axes):
        axes = tuple(check_axis(axis) for axis in axes)
        if axes and len(set(axes)) == len(axes):
            return axes
    raise ValueError(f"axes must be different ones of 'x', 'y', 'z', at least one, got {axes!r}")


def _check_aperture(aperture):
    if isinstance(aperture, bool) or not isinstance(aperture, int | float | np.number):
        raise TypeError(f"aperture must be a number (in R500), got {type(aperture).__name__}")
    if not 0 < aperture < np.inf:
        raise ValueError(f"aperture must be larger than zero (in R500), got {aperture}")
    return float(aperture)


def _prepare(job, resume, wanted):
    """Make the folder, or check that what it holds is this sample; nothing of it is touched otherwise."""
    folder = job.folder
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"out must be a folder, {str(folder)!r} is a file")
        folder.mkdir(parents=True, exist_ok=True)
        content = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"out: cannot use the folder {str(folder)!r}: {error.strerror}") from error
    if SETTINGS_FILE in content:
        _check_settings(job, resume)
    elif content:
        raise OutputError(
            f"out: the folder {str(folder)!r} is not empty and not a sample of mocks (holds {content[0]!r})"
        )
    else:
        text = json.dumps(job.settings(), indent=1) + "\n"
        tables.write_beside(folder / SETTINGS_FILE, lambda name: Path(name).write_text(text, encoding="utf-8"))
    if tables.SAMPLE_FILE in content:
        others = set(tables.read_sample(folder)["source_id"]) - wanted
        if others:
            raise OutputError(
                f"out: the sample in {str(folder)!r} has {len(others)} images that are not asked for now "
                f"(e.g. {min(others)}): ask for them as well or choose another folder"
            )
    images = folder / tables.IMAGE_FOLDER
    try:
        images.mkdir(exist_ok=True)
        for leftover in images.glob(".*.fits"):  # of a run that was killed while it wrote
            leftover.unlink()
    except OSError as error:
        raise OutputError(f"out: cannot use the folder {str(images)!r}: {error.strerror}") from error


def _check_settings(job, resume):
    path = job.folder / SETTINGS_FILE
    if not resume:
        raise OutputError(f"out: {str(job.folder)!r} already holds a sample; choose another folder or resume it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise OutputError(f"out: {str(path)!r} cannot be read: {error}") from error
    settings = job.settings()
    differences = [
        f"{key} is {found.get(key)!r} there and {settings.get(key)!r} now"
        for key in sorted(found.keys() | settings.keys())
        if found.get(key) != settings.get(key)
    ]
    if differences:
        raise OutputError(
            f"out: the sample in {str(job.folder)!r} was made with other settings: {'; '.join(differences)}"
        )


def _mock_halo(job, halo_id):
    """Images and rows of one halo along every axis; runs in a worker."""
    group = group_id(job.snapshot.name, job.snapshot.snapshot, halo_id)
    rows = {axis: _finished_row(job, group, axis) for axis in job.axes}
    missing = [axis for axis in job.axes if rows[axis] is None]
    if missing:
        halo = job.snapshot.read_halo(halo_id)
        core = measure_core(halo, aperture=job.aperture, weighting=job.weighting)
        with observing(halo, job.observation, engine=job.engine, seed=job.seed) as image_along:
            for axis in missing:
                try:
                    rows[axis] = _mock_image(job, halo, core, group, axis, image_along)
                except Exception as error:  # the other axes are not at fault
                    log.debug("traceback of %s-%s", group, axis, exc_info=True)
                    rows[axis] = _failed_row(job, group, axis, f"{type(error).__name__}: {error}".replace("\n", " "))
    return [rows[axis] for axis in job.axes]


def _mock_image(job, halo, core, group, axis, image_along):
    """Make, measure and write one image; return its row."""
    image = image_along(axis)
    # There is an image, so a missing cooling time is not a failure of the row: FEW_CELLS and the message tell.
    flags = int(core.flags) & ~Flag.FAILED.value
    if image.data.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS.value
    values = {
        "label": classify_t_cool(core.t_cool),
        "redshift": job.observation.redshift,
        "m_500": float(halo.m_500.to_value(u.Msun)),
        "r_500": float(halo.r_500.to_value(u.kpc)),
        "t_cool": float(core.t_cool.to_value(u.Gyr)),
        "n_e": float(core.n_e.to_value(u.cm**-3)),
        "c_sb": _c_sb(image, halo, job.observation),
        "flags": flags,
    }
    row = _row(job, group, axis, values)
    image.meta[_DIGEST_KEY] = job.digest
    for column, key in _IN_HEADER.items():
        if not (isinstance(row[column], float) and math.isnan(row[column])):  # FITS headers know no NaN
            image.meta[key] = row[column]
    write_image(image, job.folder / row["path"], overwrite=True)
    return row


def _c_sb(image, halo, observation):
    """Concentration above the background that was put in; NaN where the image is too small or too faint for it."""
    background = observation.background_counts(halo.cosmology)
    try:
        return concentration(image, background=background, cosmology=halo.cosmology)
    except GeometryError as error:
        log.debug("no concentration of halo %d: %s", halo.halo_id, error)
        return math.nan


def _row(job, group, axis, values):
    """A row from the measured values, rounded so that they survive a FITS header."""
    values = {name: _rounded(value) if isinstance(value, float) else value for name, value in values.items()}
    source_id = f"{group}-{axis}"
    message = []
    if math.isnan(values["t_cool"]):
        message.append(f"no cooling time: no X-ray emitting cell within {job.aperture:g} R500")
    if math.isnan(values["c_sb"]):
        message.append("no concentration: the image does not hold 400 kpc, or no counts above the background")
    return {
        "source_id": source_id,
        "group_id": group,
        "path": f"{tables.IMAGE_FOLDER}/{source_id}.fits",
        "projection": axis,
        "message": "; ".join(message),
        **values,
    }


def _finished_row(job, group, axis):
    """The row of an image that an earlier run has made with these settings, or None."""
    path = job.folder / tables.IMAGE_FOLDER / f"{group}-{axis}.fits"
    try:
        header = fits.getheader(path)
    except OSError:
        return None
    if header.get(_DIGEST_KEY) != job.digest:
        return None
    values = {column: header.get(key, math.nan) for column, key in _IN_HEADER.items()}
    floats = {name: float(values[name]) for name in ("redshift", "m_500", "r_500", "t_cool", "n_e", "c_sb")}
    return _row(job, group, axis, {"label": str(values["label"]), "flags": int(values["flags"]), **floats})


def _failed_rows(job, group, message):
    return [_failed_row(job, group, axis, message) for axis in job.axes]


def _failed_row(job, group, axis, message):
    """A row that says why there is no image; mass and radius come from the table of halos where it has them."""
    return {
        "source_id": f"{group}-{axis}",
        "group_id": group,
        "path": "",
        "label": "",
        "projection": axis,
        "redshift": job.observation.redshift,
        "t_cool": math.nan,
        "n_e": math.nan,
        "c_sb": math.nan,
        "flags": Flag.FAILED.value,
        "message": message,
    }


def _rounded(value):
    return float(f"{value:.12g}")


def _table(rows, job):
    """The rows as a SAMPLE table."""
    kinds = {**tables.SAMPLE.kinds(), "message": "str"}
    columns = {}
    for name, kind in kinds.items():
        values = [row.get(name, math.nan) for row in rows]
        if kind == "str":
            columns[name] = np.array(values, dtype=str) if values else np.zeros(0, dtype="U1")
        elif kind == "int":
            columns[name] = np.array(values, dtype=np.int64)
        elif isinstance(kind, u.UnitBase):
            columns[name] = np.array(values, dtype=float) * kind
        else:
            columns[name] = np.array(values, dtype=float)
    settings = job.settings()
    meta = tables.provenance(
        **{name: settings.pop(name) for name in ("simulation", "snapshot", "engine", "seed")},
        observation=settings,
        scheme=COOL_CORE.to_dict(),
    )
    return QTable(columns, meta=meta)
