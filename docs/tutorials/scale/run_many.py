"""
Mock images, detection, cutouts and classes of many objects on the workers of Dask or MPI.

``--workers`` is a number of processes on this machine, the address of a Dask scheduler (``tcp://...``) or its file
(``scheduler.json``), or ``mpi`` under ``mpiexec -n N python -m mpi4py.futures run_many.py ...``. The same command goes
on where it was ended. What is here of one file: workers elsewhere get the functions from it and need only the package.
"""

import argparse
import contextlib
import functools
import os
import sys
from pathlib import Path

# One thread for each worker, whose number is that of the cores; read when numpy is imported. Processes that are started
# from here inherit it; where Dask's workers are started elsewhere, it must be set there.
os.environ.update({"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"})

from astropy import units as u

from astroclassify import batch, tables
from astroclassify.nn import load_classifier
from astroclassify.schemes import Flag
from astroclassify.sim import EmbeddedPopulation, Observation, make_mocks, open_snapshot
from astroclassify.survey import detect, extract_cutouts, read_field, select

ROWS = 10_000  # of a part of a catalogue


# --- Workers
@contextlib.contextmanager
def open_workers(text, **settings):
    """Executor for the text of ``--workers``; ``settings`` are for a LocalCluster."""
    if text == "mpi":
        from mpi4py.futures import MPIPoolExecutor

        with MPIPoolExecutor() as executor:
            yield executor
        return
    from dask.distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if text.isdigit():
            local = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", **settings}
            client = Client(stack.enter_context(LocalCluster(n_workers=int(text), **local)))
        else:
            client = Client(scheduler_file=text) if Path(text).is_file() else Client(text)
        yield stack.enter_context(client).get_executor()


# --- Parts
def run_parts(function, parts, out, executor):
    """
    Write ``function(part)``, a table, as OUT/<key>.parquet for each key and part that is not there yet.

    Returns the keys and reasons of those that failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    left = {key: part for key, part in parts.items() if not (out / f"{key}.parquet").is_file()}
    work = functools.partial(_write_part, function, out)
    n_before = len(parts) - len(left)
    outcomes = batch.run(work, left.items(), keys=left, executor=executor, description="parts", n_before=n_before)
    return {outcome.key: outcome.error for outcome in outcomes if outcome.error is not None}


def _write_part(function, out, item):
    key, part = item
    tables.write(function(part), out / f"{key}.parquet", overwrite=True)


# --- Verbs
def mocks(arguments, executor):
    """One sample folder of mock images: a halo is a task."""
    if arguments.embedded:
        snapshot = EmbeddedPopulation(arguments.embedded, rng=1)
    else:
        snapshot = open_snapshot(arguments.base_path)
    sample = make_mocks(
        snapshot,
        snapshot.select_halos(),
        observation=Observation(redshift=0.05, exposure=100 * u.ks),
        out=arguments.out,
        engine="direct",
        executor=executor,
        rng=1,
    )
    failed = (sample["flags"] & Flag.FAILED) != 0
    return dict(zip(sample["source_id"][failed], sample["message"][failed], strict=True))


def fields(arguments, executor):
    """Candidates of each observation: a table for each, a field is a task."""
    observations = {row["obs_id"]: dict(row) for row in tables.read(arguments.observations)}
    return run_parts(find, observations, arguments.out, executor)


def find(observation):
    """Candidates of one observation, whose files the worker reads itself; names hold the observation's."""
    field = read_field(observation["image"], exposure=observation["exposure"])
    candidates = detect(field, max_off_axis=None if field.max_off_axis is None else field.max_off_axis * u.arcmin)
    candidates["source_id"] = [f"{observation['obs_id']}-{name}" for name in candidates["source_id"]]
    return candidates


def cutouts(arguments, executor):
    """Cutouts of the candidates of each observation: a sample folder and a table for each, a field is a task."""
    observations = {row["obs_id"]: dict(row) for row in tables.read(arguments.observations)}
    function = functools.partial(cut, arguments.candidates, arguments.out / "samples")
    return run_parts(function, observations, arguments.out / "tables", executor)


def cut(folder, out, observation):
    """Table of the cutouts of one observation, with absolute paths."""
    candidates = select(tables.read(folder / f"{observation['obs_id']}.parquet"), ["C1", "C2"])
    field = read_field(observation["image"], exposure=observation["exposure"])
    sample = extract_cutouts(candidates, field, out=out / str(observation["obs_id"]), progress=False)
    sample["path"] = [str(path) for path in tables.image_paths(sample)]
    return sample


def classes(arguments, executor):
    """Class probabilities of the rows of a sample folder or of a catalogue with paths: so many rows are a task."""
    given = arguments.catalogue
    catalogue = tables.read_sample(given) if given.is_dir() else tables.read(given)
    parts = {f"part-{n:06d}": catalogue[start : start + ROWS] for n, start in enumerate(range(0, len(catalogue), ROWS))}
    return run_parts(functools.partial(classify, arguments.model), parts, arguments.out, executor)


def classify(model, rows):
    """Predictions for some rows; the worker loads the model."""
    return load_classifier(model).classify(rows, progress=False)


# --- Command
def parse(argv):
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description="mocks, candidates, cutouts and classes of many objects")
    parser.add_argument("--workers", default="2", help="number, Dask scheduler, or mpi (default: %(default)s)")
    verbs = parser.add_subparsers(required=True)
    for run, inputs in (
        (mocks, ()),
        (fields, ("observations",)),
        (cutouts, ("candidates", "observations")),
        (classes, ("catalogue", "model")),
    ):
        verb = verbs.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        verb.set_defaults(run=run)
        for name in inputs:
            verb.add_argument(name, type=str if name == "model" else Path)
        verb.add_argument("--out", type=Path, required=True, help="folder")
        if run is mocks:
            source = verb.add_mutually_exclusive_group(required=True)
            source.add_argument("--base-path", help="simulation output folder")
            source.add_argument("--embedded", type=int, help="so many synthetic clusters")
    return parser.parse_args(argv)


def main(argv=None):
    """Exit status: 0, or 1 after the keys and reasons of what failed."""
    arguments = parse(argv)
    with open_workers(arguments.workers) as executor:
        failed = arguments.run(arguments, executor)
    for key, reason in failed.items():
        print(f"{key}: {reason}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
