"""Labelled mock images of many halos: a sample folder."""

import functools
import logging
import time
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Table

from astroclassify._checks import check_bool, check_choice, check_integer, check_number, shorten
from astroclassify.exceptions import EmptyResultWarning
from astroclassify.samples._folders import seed_of
from astroclassify.samples._writer import rounded
from astroclassify.schemes import Flag
from astroclassify.tables import plain_table

from ..halos._labels import WEIGHTINGS
from ..physics._projection import axis_name, check_axis
from ._images import SETTINGS_FILE, MockJob, failed_row, mock_halo, row_of
from ._observation import Observation
from ._observe import check_engine
from ._rows import describe, sample_meta, summarise
from ._sampler import ObservationSampler

__all__ = ["make_mocks"]

log = logging.getLogger(__name__)


def make_mocks(
    snapshot,
    halos,
    *,
    observation,
    axes="xyz",
    out,
    engine="pyxsim",
    executor=None,
    rng=None,
    resume=True,
    aperture=0.012,
    weighting="mass",
    measures=False,
    progress=None,
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
    rng : int or `~numpy.random.Generator`, optional
        A seed, or a generator from which one is drawn. By default the seed of the sample that the folder holds, so that
        the same call resumes it, or else a fresh one. It is in ``observation.json`` and in ``meta["seed"]``.
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
        Whether to show a bar on standard error: halos done, rate and time left. By default on a terminal only.

    Returns
    -------
    `~astropy.table.QTable`
        A SAMPLE table, one row per halo and axis in the order of ``halos`` and ``axes``, with the further columns
        ``counts`` (sum of the image's valid pixels, background included) and ``message``. With a sampler: also
        ``exposure``, ``nh_column``, ``off_axis`` (how far from the optical axis the halo is) and ``response``, as
        drawn. With ``measures``: also those of the halo (``entropy``, ``entropy_excess``, ``cuspiness``) and of the
        image (``c_sb_500``, ``centroid_shift``, ``power_ratio_2`` to ``_4``, ``photon_asymmetry``), each with its error
        in ``<name>_err``.
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
    exposure, where it is not uniform and the image has it, divided out; unresolved sources stay in. Measures of the
    image are taken about its middle, wherever ``centre_offset`` has put the halo. All numbers of a row are rounded to
    12 digits, so that a row read back from the header of an image equals the one first made.

    A run that ends early, however it ends, is resumed by the same call. Every file appears whole, under its own name,
    or not at all, and none holds a time: the folder is then, byte for byte, that of a run that was not interrupted.
    Failed images are tried again.

    With engine ``"direct"`` a halo of more than four million gas cells is read from its snapshot in pieces, as by
    `Snapshot.open_halo`: memory is bounded, and no bit of the sample differs. Its gas is read once to find its motion,
    once for the labels (twice with ``measures``), and once for the images of all axes (of each with a sampler).

    There is no lock. Two runs of the same sample at once do no harm (they write the
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
    job = MockJob(
        snapshot=snapshot,
        observation=_check_observation(observation),
        engine=check_engine(engine),
        seed=seed_of(rng, out, SETTINGS_FILE),
        aperture=check_number("aperture", aperture, 0, open_low=True),
        weighting=check_choice("weighting", weighting, WEIGHTINGS),
        measures=check_bool("measures", measures),
        folder=Path(out),
    )
    axes = _check_axes(axes)
    names = {job.source(halo_id, axis): (halo_id, axis) for halo_id in halo_ids for axis in axes}
    job.writer.prepare(
        what="a sample of mocks", wanted=names, others="images that are not asked for now", resume=resume
    )
    if not halo_ids:
        warnings.warn("no halos were given: the sample has no rows", EmptyResultWarning, stacklevel=2)
    headers = {name: job.writer.header(name) for name in names}
    rows = {
        name: row_of(job, *names[name], job.format.from_header(header))
        for name, header in headers.items()
        if header is not None
    }
    n_resumed = len(rows)
    for row in _new_rows(job, halo_ids, axes, set(rows), progress, executor):
        if row["flags"] & Flag.FAILED:
            row = {**known.get(names[row["source_id"]][0], {}), **row}
        rows[row["source_id"]] = row
    table = job.format.table([rows[name] for name in names])
    sample = job.writer.finish(table, **sample_meta(job.writer.settings))
    _sum_up(sample, n_resumed=n_resumed, seconds=time.monotonic() - start)
    return sample


def _new_rows(job, halo_ids, axes, finished, progress, executor):
    """Make the images that are not finished; yield their rows, halo by halo."""
    missing = {halo_id: [axis for axis in axes if job.source(halo_id, axis) not in finished] for halo_id in halo_ids}
    items = [(halo_id, left) for halo_id, left in missing.items() if left]
    for rows in job.writer.run(
        functools.partial(mock_halo, job),
        items,
        keys=[job.group(halo_id) for halo_id, _ in items],
        failed=lambda item, reason: [failed_row(job, item[0], axis, reason) for axis in item[1]],
        executor=executor,
        progress=progress,
        description="mock images",
        n_before=len(missing) - len(items),
    ):
        yield from rows


def _sum_up(sample, *, n_resumed, seconds):
    """Put the summary into the sample's meta and log it."""
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
    """Numbers of the halos, and the mass [Msun] and radius [kpc] of each where the table has them."""
    if isinstance(halos, Table):
        if "halo_id" not in halos.colnames:
            raise ValueError(f"halos must have the column 'halo_id', got {halos.colnames}")
        halos = plain_table(halos)
        numbers = list(halos["halo_id"])
    else:
        try:
            numbers = list(halos)
        except TypeError:
            raise TypeError(f"halos must be a table or a sequence of whole numbers, got {shorten(halos)}") from None
    numbers = [check_integer("halos", number) for number in numbers]
    if len(set(numbers)) != len(numbers):
        raise ValueError("halos must not repeat a halo_id")
    known = {}
    if isinstance(halos, Table) and all(isinstance(halos.columns.get(name), u.Quantity) for name in ("m_500", "r_500")):
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
