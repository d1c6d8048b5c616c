"""One halo of a sample of mocks: its images along some axes, measured and written, and their rows."""

import contextlib
import functools
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import batch, morphology
from astroclassify.exceptions import GeometryError
from astroclassify.images import SkyImage, concentration
from astroclassify.images._standardise import LOW_COUNTS
from astroclassify.samples._writer import DIGEST_KEY, SampleWriter, digest_of, one_line, rounded
from astroclassify.schemes import Flag

from ..halos import _measures, _pieces
from ..halos._labels import classify_t_cool, measure_core
from ..halos._snapshot import Snapshot
from ..physics._projection import axis_name
from ..physics._telescope import make_telescope
from ._header import group_id
from ._observation import Observation
from ._observe import observing
from ._rows import row_format

__all__ = ["SETTINGS_FILE", "MockJob", "failed_row", "mock_halo", "row_of"]

log = logging.getLogger(__name__)

SETTINGS_FILE = "observation.json"
# Pixels with less of the largest exposure than this do not count for the concentration (nor for the other measures).
_MIN_EXPOSURE = 0.1


@dataclass(frozen=True)
class MockJob:
    """Settings that all halos of a run share; sent to the workers."""

    snapshot: object
    observation: object
    engine: str
    seed: int
    aperture: float  # R500
    weighting: str
    measures: bool
    folder: Path

    @functools.cached_property
    def writer(self):
        """Writer of the sample; its settings determine images and rows."""
        settings = {
            "simulation": self.snapshot.name,
            "snapshot": self.snapshot.snapshot,
            "engine": self.engine,
            "seed": self.seed,
            "aperture_r500": self.aperture,
            "weighting": self.weighting,
            "measures": self.measures,
            **self.observation.to_meta(),
        }
        return SampleWriter(self.folder, settings, SETTINGS_FILE, digest=digest_of(settings))

    @property
    def drawn(self):
        """Whether each image has settings of its own."""
        return not isinstance(self.observation, Observation)

    @functools.cached_property
    def format(self):
        """Columns and keywords of the sample."""
        units = {**_measures.COLUMNS, **morphology.COLUMNS} if self.measures else {}
        return row_format(units, drawn=self.drawn)

    def identity(self, halo_id):
        """Parts of the seeds of a halo."""
        return self.snapshot.name, self.snapshot.snapshot, halo_id

    def group(self, halo_id):
        """Name of a halo in tables."""
        return group_id(*self.identity(halo_id))

    def source(self, halo_id, axis):
        """Name of an image."""
        return f"{self.group(halo_id)}-{axis_name(axis)}"

    def observation_of(self, halo_id, axis):
        """Settings of one image, drawn from its name alone, so that order and workers change nothing."""
        if not self.drawn:
            return self.observation
        rng = batch.derive_rng(self.seed, "observation", *self.identity(halo_id), axis_name(axis))
        return self.observation.draw(rng)


def mock_halo(job, item):
    """Images and rows of one halo along some axes; runs in a worker."""
    halo_id, axes = item
    halo = _read(job, halo_id)
    values, messages = _halo_values(job, halo)
    with contextlib.ExitStack() as stack:
        image_along = None
        if not job.drawn:  # one set of photons for all axes
            settings = {"engine": job.engine, "seed": job.seed, "axes": axes}
            image_along = stack.enter_context(observing(halo, job.observation, **settings))
        rows = []
        for axis in axes:
            try:
                rows.append(_mock_image(job, halo, axis, image_along, dict(values), list(messages)))
            except Exception as error:  # the other axes are not at fault
                log.debug("traceback of %s", job.source(halo_id, axis), exc_info=True)
                rows.append(failed_row(job, halo_id, axis, f"{type(error).__name__}: {error}"))
    return rows


def _read(job, halo_id):
    """The halo; one of many cells in pieces, where snapshot and engine can do that."""
    if job.engine == "direct" and isinstance(job.snapshot, Snapshot):
        halo = job.snapshot.open_halo(halo_id)
        if halo.meta["n_gas"] > _pieces.MANY_CELLS:
            return halo
    return job.snapshot.read_halo(halo_id)


def _halo_values(job, halo):
    """Columns that the axes of a halo share, and remarks on them."""
    core = measure_core(halo, aperture=job.aperture, weighting=job.weighting)
    values = {
        "label": classify_t_cool(core.t_cool),
        "m_500": float(halo.m_500.to_value(u.Msun)),
        "r_500": float(halo.r_500.to_value(u.kpc)),
        "t_cool": float(core.t_cool.to_value(u.Gyr)),
        "n_e": float(core.n_e.to_value(u.cm**-3)),
        # There will be an image, so a missing cooling time is no failure: see FEW_CELLS and the message.
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
        with observing(halo, observation, engine=job.engine, seed=job.seed, axes=[axis]) as image_along:
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
    row = row_of(job, halo.halo_id, axis, {**values, "message": "; ".join(messages)})
    entries = job.format.to_header({column: row[column] for column in job.format.keywords})
    image.meta.update({DIGEST_KEY: job.writer.digest, **entries})
    job.writer.write(row["source_id"], image)
    return row


def _background(observation, cosmology):
    """Background counts expected in each pixel: one number where they are the same everywhere, else a map."""
    background = make_telescope(observation, cosmology).background
    return float(background[0, 0]) if observation.detector == "uniform" else background


def _c_sb(image, background, halo, messages):
    """Concentration above the background that was put in; NaN where the image is too small or too faint for it."""
    if image.exposure is not None or np.ndim(background):
        image, background = _flat(image, background), 0.0
    try:
        return concentration(image, background=background, cosmology=halo.cosmology)
    except GeometryError:
        messages.append("no concentration: the image does not hold 400 kpc, or no counts above the background")
        return math.nan


def _flat(image, background):
    """Counts above the background over the relative exposure, if it is known; NaN (masked) where that is too small."""
    relative = 1.0
    if image.exposure is not None:
        relative = image.exposure / image.exposure.max()
        relative = np.where(relative < _MIN_EXPOSURE, math.nan, relative)
    meta = {"REDSHIFT": image.meta["REDSHIFT"]}
    return SkyImage((image.data - background) / relative, unit=image.unit, mask=image.mask, wcs=image.wcs, meta=meta)


def _drawn(observation):
    """Columns of the settings that were drawn."""
    offset = observation.pointing_offset.to_value(u.arcmin)
    return {
        "exposure": float(observation.exposure.to_value(u.s)),
        "nh_column": float(observation.nh_column.to_value(u.cm**-2)),
        "off_axis": float(np.hypot(*offset)),
        "response": observation.response,
    }


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


def row_of(job, halo_id, axis, values):
    """A row from the measured values, rounded so that they survive a FITS header."""
    values = {name: rounded(value) if isinstance(value, float) else value for name, value in values.items()}
    name = job.source(halo_id, axis)
    return {
        **values,
        "source_id": name,
        "group_id": job.group(halo_id),
        "path": job.writer.path(name),
        "projection": axis_name(axis),
        "message": one_line(values["message"]),
    }


def failed_row(job, halo_id, axis, message):
    """Row of an image that failed: the reason in ``message``, NaN for what is not known."""
    try:
        observation = job.observation_of(halo_id, axis)
        values = {"redshift": observation.redshift, **(_drawn(observation) if job.drawn else {})}
    except Exception as error:  # then that is what failed
        log.debug("no settings of %s: %s", job.source(halo_id, axis), error)
        values = {}
    row = row_of(job, halo_id, axis, {**values, "message": message, "label": "", "flags": Flag.FAILED.value})
    return {**row, "path": ""}
