"""Labelled mock images of many halos: a sample folder."""

import contextlib
import functools
import hashlib
import json
import logging
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable, Table

from .. import _sample_folders as folders
from .. import batch, morphology, tables
from ..exceptions import EmptyResultWarning, GeometryError
from ..images import EXPOSURE_MAP, LOW_COUNTS, concentration
from ..schemes import Flag
from . import _measures
from ._labels import WEIGHTINGS, classify_t_cool, measure_core
from ._mock_header import group_id
from ._mock_rows import describe, from_header, one_line, rounded, row_kinds, summarise, table_of, to_header
from ._observation import Observation
from ._observe import check_engine, observing
from ._projection import axis_name, check_axis
from ._sampler import ObservationSampler
from ._telescope import make_telescope

__all__ = ["make_mocks"]

log = logging.getLogger(__name__)

SETTINGS_FILE = "observation.json"
# Pixels with less of the largest exposure than this do not count for the concentration (nor for the other measures).
_MIN_EXPOSURE = 0.1


@dataclass(frozen=True)
class _Job:
    """What is the same for every halo of a run; sent to the workers."""

    snapshot: object
    observation: object
    axes: tuple
    engine: str
    seed: int
    aperture: float
    weighting: str
    measures: bool
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
            "measures": self.measures,
            **self.observation.to_meta(),
        }

    @functools.cached_property
    def digest(self):
        """Short name of the settings."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def drawn(self):
        """Whether each image has settings of its own."""
        return not isinstance(self.observation, Observation)

    @functools.cached_property
    def kinds(self):
        """Columns of the sample."""
        return row_kinds(_measure_units() if self.measures else {}, drawn=self.drawn)

    def identity(self, halo_id):
        """What names a halo in seeds."""
        return self.snapshot.name, self.snapshot.snapshot, halo_id

    def group(self, halo_id):
        """What names a halo in tables."""
        return group_id(*self.identity(halo_id))

    def source(self, halo_id, axis):
        """What names an image."""
        return f"{self.group(halo_id)}-{axis_name(axis)}"

    def observation_of(self, halo_id, axis):
        """Settings of one image: drawn from what names it alone, so that order and workers change nothing."""
        if not self.drawn:
            return self.observation
        rng = batch.derive_rng(self.seed, "observation", *self.identity(halo_id), axis_name(axis))
        return self.observation.draw(rng)


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
    measures=False,
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
    observation : Observation or ObservationSampler
        Settings: the same for all images, or drawn for each.
    axes : str or sequence, optional
        Lines of sight: letters out of ``"x"``, ``"y"``, ``"z"``, or directions towards the observer (three numbers
        each, of any length).
    out : str or path-like
        The folder: ``sample.ecsv``, ``images/<source_id>.fits`` and ``observation.json`` (the settings) are written.
    engine : str, optional
        What makes the photons, see `observe`.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; one halo is one task, and a worker holds one halo at a time. By default here, one after the
        other. The files do not depend on it, byte for byte. Dask's ``client.get_executor()`` is one; workers on other
        machines must see the snapshot and the folder under the same paths.
    rng : int or `~numpy.random.Generator`
        A seed, or a generator from which one is drawn. To resume, give the same seed.
    resume : bool, optional
        Whether to keep the images that the folder holds already for the same settings. Without it, a folder that
        holds a sample is refused.
    aperture : float, optional
        Radius of the central sphere of the cooling time and density, in R500.
    weighting : str, optional
        Weights of the averages inside it, see `measure_core`.
    measures : bool, optional
        Whether to measure more of each halo and image (see Returns).
    progress : bool, optional
        Whether to show a bar on standard error: halos done, rate and time left.

    Returns
    -------
    `~astropy.table.QTable`
        A SAMPLE table, one row per halo and axis in the order of ``halos`` and ``axes``, with the further columns
        ``counts`` (sum of the image's valid pixels, background included) and ``message``. With a sampler: also
        ``exposure``, ``nh_column`` and ``off_axis`` (how far from the optical axis the halo is), as drawn. With
        ``measures``:
        also those of the halo (``entropy``, ``entropy_excess``, ``cuspiness``) and of the image (``c_sb_500``,
        ``centroid_shift``, ``power_ratio_2`` to ``_4``, ``photon_asymmetry``), each with its error in ``<name>_err``.
        What cannot be measured is NaN, and ``message`` says why; without a cooling time ``label`` is empty. A halo or
        an axis that fails keeps its row, with the flag ``FAILED``, an empty ``path`` and the reason.
        ``meta["summary"]`` (not in the file) sums the sample up and says how many images were made now and kept.

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

    concurrent.futures.BrokenExecutor
        If a worker was killed, for example for want of memory. The same call goes on from there.

    Notes
    -----
    ``c_sb`` is measured on the image, with the background that was put in (known exactly) taken off and the relative
    exposure, where it is not uniform, divided out; unresolved sources stay in. All numbers of a row are rounded to 12
    digits, so that a row read back from the header of an image equals the one first made.

    A run that ends early, however it ends, is resumed by the same call. Every file appears whole, under its own name,
    or not at all, and none holds a time: the folder is then, byte for byte, that of a run that was not interrupted.
    Failed images are tried again. There is no lock. Two runs of the same sample at once do no harm (they write the
    same files, twice); a run with other settings is refused.

    Examples
    --------
    >>> from astroclassify.sim import Observation, make_mocks, open_snapshot
    >>> snapshot = open_snapshot("TNG300-1/output")  # doctest: +SKIP
    >>> sample = make_mocks(snapshot, snapshot.select_halos(), observation=Observation(), out="mocks", rng=1)
    ... # doctest: +SKIP
    """
    start = time.monotonic()
    halo_ids, known = _halo_ids(halos)
    job = _Job(
        snapshot=snapshot,
        observation=_check_observation(observation),
        axes=_check_axes(axes),
        engine=check_engine(engine),
        seed=batch.master_seed(rng),
        aperture=_check_aperture(aperture),
        weighting=weighting,
        measures=_check_bool("measures", measures),
        folder=Path(out),
    )
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {weighting!r}")
    names = {job.source(halo_id, axis): (halo_id, axis) for halo_id in halo_ids for axis in job.axes}
    folders.prepare(
        job.folder, job.settings(), SETTINGS_FILE, what="a sample of mocks", wanted=set(names), resume=resume
    )
    if not halo_ids:
        warnings.warn("no halos were given: the sample has no rows", EmptyResultWarning, stacklevel=2)
    headers = folders.finished_headers(job.folder, names, job.digest)
    rows = {name: _row(job, *names[name], from_header(header, job.kinds)) for name, header in headers.items()}
    for row in _new_rows(job, halo_ids, set(rows), progress, executor):
        if row["flags"] & Flag.FAILED:
            row = {**known.get(names[row["source_id"]][0], {}), **row}
        rows[row["source_id"]] = row
    sample = folders.write_table(table_of([rows[name] for name in names], job.kinds, job.settings()), job.folder)
    _sum_up(sample, n_resumed=len(headers), seconds=time.monotonic() - start)
    return sample


def _new_rows(job, halo_ids, finished, progress, executor):
    """Make what is not finished; rows in no order that matters."""
    missing = {
        halo_id: [axis for axis in job.axes if job.source(halo_id, axis) not in finished] for halo_id in halo_ids
    }
    items = [(halo_id, axes) for halo_id, axes in missing.items() if axes]
    outcomes = batch.run(
        functools.partial(_mock_halo, job),
        items,
        keys=[job.group(halo_id) for halo_id, _ in items],
        executor=executor,
        progress=progress,
        description="mock images",
        n_before=len(missing) - len(items),
    )
    for (halo_id, axes), outcome in zip(items, outcomes, strict=True):
        if outcome.error is None:
            yield from outcome.value
        else:
            yield from (_failed_row(job, halo_id, axis, outcome.error) for axis in axes)


def _sum_up(sample, *, n_resumed, seconds):
    """Put the summary into the sample's meta and tell it."""
    summary = summarise(sample)
    # In memory alone, as the file must not depend on how often the run was interrupted.
    sample.meta["summary"] = {**summary, "n_made": summary["n_images"] - n_resumed, "n_resumed": n_resumed}
    for line in describe(sample.meta["summary"]).splitlines():
        log.info("%s", line)
    log.info("made in %.1f s", seconds)
    if summary["n_failed"]:
        log.warning(
            "%d of %d mock images failed; column 'message' of the sample says why", summary["n_failed"], len(sample)
        )


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
            number: {"m_500": rounded(mass), "r_500": rounded(radius)}
            for number, mass, radius in zip(numbers, masses, radii, strict=True)
        }
    return numbers, known


def _check_axes(axes):
    if isinstance(axes, str) or np.iterable(axes):
        axes = tuple(check_axis(axis) for axis in axes)
        if axes and len({axis_name(axis) for axis in axes}) == len(axes):
            return axes
    raise ValueError(f"axes must be different letters 'x', 'y', 'z' or directions, at least one, got {axes!r}")


def _check_observation(observation):
    if not isinstance(observation, Observation | ObservationSampler):
        raise TypeError(
            f"observation must be an Observation or an ObservationSampler, got {type(observation).__name__}"
        )
    return observation


def _check_bool(name, value):
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be true or false, got {value!r}")
    return bool(value)


def _check_aperture(aperture):
    if isinstance(aperture, bool) or not isinstance(aperture, int | float | np.number):
        raise TypeError(f"aperture must be a number (in R500), got {type(aperture).__name__}")
    if not 0 < aperture < np.inf:
        raise ValueError(f"aperture must be larger than zero (in R500), got {aperture}")
    return float(aperture)


def _mock_halo(job, item):
    """Images and rows of one halo along some axes; runs in a worker."""
    halo_id, axes = item
    halo = job.snapshot.read_halo(halo_id)
    values, messages = _halo_values(job, halo)
    with contextlib.ExitStack() as stack:
        image_along = None
        if not job.drawn:  # one set of photons for all axes
            image_along = stack.enter_context(observing(halo, job.observation, engine=job.engine, seed=job.seed))
        rows = []
        for axis in axes:
            try:
                rows.append(_mock_image(job, halo, axis, image_along, dict(values), list(messages)))
            except Exception as error:  # the other axes are not at fault
                log.debug("traceback of %s", job.source(halo_id, axis), exc_info=True)
                rows.append(_failed_row(job, halo_id, axis, f"{type(error).__name__}: {error}"))
    return rows


def _halo_values(job, halo):
    """Columns that the axes of a halo share, and what is to be said about them."""
    core = measure_core(halo, aperture=job.aperture, weighting=job.weighting)
    values = {
        "label": classify_t_cool(core.t_cool),
        "m_500": float(halo.m_500.to_value(u.Msun)),
        "r_500": float(halo.r_500.to_value(u.kpc)),
        "t_cool": float(core.t_cool.to_value(u.Gyr)),
        "n_e": float(core.n_e.to_value(u.cm**-3)),
        # There will be an image, so a missing cooling time is not a failure: FEW_CELLS and the message tell.
        "flags": int(core.flags) & ~Flag.FAILED.value,
    }
    messages = []
    if math.isnan(values["t_cool"]):
        messages.append(f"no cooling time: no X-ray emitting cell within {job.aperture:g} R500")
    if job.measures:
        found = _measures.measure_halo(halo, aperture=job.aperture, weighting=job.weighting)
        values.update(_measured(found, _measures.COLUMNS, messages))
    return values, messages


def _mock_image(job, halo, axis, image_along, values, messages):
    """Make, measure and write one image; return its row."""
    observation = job.observation_of(halo.halo_id, axis)
    if image_along is None:
        with observing(halo, observation, engine=job.engine, seed=job.seed) as image_along:
            image = image_along(axis)
    else:
        image = image_along(axis)
    counts = float(np.sum(image.data, where=True if image.mask is None else ~image.mask, dtype=float))
    if counts < LOW_COUNTS:
        values["flags"] |= Flag.LOW_COUNTS.value
    background = _background(observation, halo.cosmology)
    values.update(redshift=observation.redshift, counts=counts, c_sb=_c_sb(image, background, halo, messages))
    if job.drawn:
        values.update(_drawn(observation))
    if job.measures:
        rng = batch.derive_rng(job.seed, "measures", *job.identity(halo.halo_id), axis_name(axis))
        found = morphology.image_measures(
            image, r_500=halo.r_500, background=background, rng=rng, cosmology=halo.cosmology
        )
        values.update(_measured(found, morphology.COLUMNS, messages))
    row = _row(job, halo.halo_id, axis, {**values, "message": "; ".join(messages)})
    image.meta.update(to_header(row, job.kinds, job.digest))
    folders.write_image(image, job.folder / row["path"])
    return row


def _background(observation, cosmology):
    """Background counts expected in each pixel: one number where they are the same everywhere, else a map."""
    background = make_telescope(observation, cosmology).background
    return float(background[0, 0]) if observation.detector == "uniform" else background


def _c_sb(image, background, halo, messages):
    """Concentration above the background that was put in; NaN where the image is too small or too faint for it."""
    if EXPOSURE_MAP in image.meta:
        image, background = _flat(image, background), 0.0
    try:
        return concentration(image, background=background, cosmology=halo.cosmology)
    except GeometryError:
        messages.append("no concentration: the image does not hold 400 kpc, or no counts above the background")
        return math.nan


def _flat(image, background):
    """Counts above the background over the relative exposure; NaN (masked) where that is too small to tell anything."""
    relative = image.meta[EXPOSURE_MAP] / np.max(image.meta[EXPOSURE_MAP])
    relative = np.where(relative < _MIN_EXPOSURE, math.nan, relative)
    meta = {"REDSHIFT": image.meta["REDSHIFT"]}
    return CCDData((image.data - background) / relative, unit=image.unit, mask=image.mask, wcs=image.wcs, meta=meta)


def _drawn(observation):
    """Columns of the settings that were drawn."""
    offset = observation.pointing_offset.to_value(u.arcmin)
    return {
        "exposure": float(observation.exposure.to_value(u.s)),
        "nh_column": float(observation.nh_column.to_value(u.cm**-2)),
        "off_axis": float(np.hypot(*offset)),
    }


def _measure_units():
    """Units of the further measures, of the halo and of the image."""
    return {**_measures.COLUMNS, **morphology.COLUMNS}


def _measured(found, units, messages):
    """Values and errors of some measures as columns; a message for those that cannot be had."""
    columns, lost = {}, {}
    for name, unit in units.items():
        for column, value in zip((name, f"{name}_err"), found[name], strict=True):
            columns[column] = float(value.to_value(unit) if isinstance(value, u.Quantity) else value)
        if math.isnan(columns[name]):
            lost.setdefault(found.reasons[name], []).append(name)
    messages += [f"no {', '.join(names)}: {reason}" for reason, names in lost.items()]
    return columns


def _row(job, halo_id, axis, values):
    """A row from the measured values, rounded so that they survive a FITS header."""
    values = {name: rounded(value) if isinstance(value, float) else value for name, value in values.items()}
    name = job.source(halo_id, axis)
    return {
        **values,
        "source_id": name,
        "group_id": job.group(halo_id),
        "path": f"{tables.IMAGE_FOLDER}/{name}.fits",
        "projection": axis_name(axis),
        "message": one_line(values["message"]),
    }


def _failed_row(job, halo_id, axis, message):
    """A row that says why there is no image; what is not in it is not a number."""
    try:
        observation = job.observation_of(halo_id, axis)
        values = {"redshift": observation.redshift, **(_drawn(observation) if job.drawn else {})}
    except Exception as error:  # then that is what failed
        log.debug("no settings of %s: %s", job.source(halo_id, axis), error)
        values = {}
    row = _row(job, halo_id, axis, {**values, "message": message, "label": "", "flags": Flag.FAILED.value})
    return {**row, "path": ""}
