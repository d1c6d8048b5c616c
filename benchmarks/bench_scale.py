"""
``docs/tutorials/scale/run_many.py`` on one and two workers of Dask: time, processor time, memory, a worker killed.

``python benchmarks/bench_scale.py OUT`` makes small inputs and writes ``scale_workers.csv``, one row for each verb and
number of workers, and ``scale_cluster.csv``, core-hours and disk for a million and a hundred million objects, which
follow from the processor time of the first. The second worker's gain is that of a machine with two free cores only;
processor time and what is written hardly depend on other load. Needs distributed, pandas and pyarrow.
"""

import argparse
import csv
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from astroclassify import batch, tables
from astroclassify.images import write_image
from astroclassify.sim import simulate_field

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs" / "tutorials" / "scale"))

import run_many

# A node of the CPU partition of Perlmutter (NERSC): two AMD EPYC 7763 of 64 cores, 512 GB.
CORES, NODE_MEMORY = 128, 512e9
N_OBJECTS = (1e6, 1e8)
VERBS = ("mocks", "fields", "cutouts", "classes")


def make_fields(folder, number):
    """Files of simulated fields with twenty times the sky's clusters, and their table."""
    folder.mkdir(parents=True)
    rows = []
    for seed in range(number):
        name = f"obs{seed:03d}"
        image = simulate_field(rng=seed, shape=(256, 256), density={"cluster": 20, "bright": 0}).field.to_ccd()
        exposure, image.exposure, image.background = image.exposure, None, None
        write_image(image, folder / f"{name}.fits")
        fits.PrimaryHDU(exposure, image.wcs.to_header()).writeto(folder / f"{name}-exposure.fits")
        rows.append((name, str(folder / f"{name}.fits"), str(folder / f"{name}-exposure.fits")))
    table = Table(rows=rows, names=("obs_id", "image", "exposure"))
    table.write(folder / "observations.ecsv")
    return folder / "observations.ecsv"


def make_catalogue(path, sample, number):
    """Table of so many rows with paths and redshifts, the images of a sample again and again."""
    rows = np.arange(number) % len(sample)
    files = [str(file) for file in tables.image_paths(sample)]
    names = [f"image-{row:06d}" for row in range(number)]
    redshift = np.asarray(sample["redshift"])[rows]
    Table({"source_id": names, "path": np.array(files)[rows], "redshift": redshift}).write(path)


def used():
    """Processor time [s] and peak memory [bytes] of this process."""
    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def command_of(verb, inputs, out):
    """Arguments of run_many for a verb."""
    table = str(inputs / "fields" / "observations.ecsv")
    return {
        "mocks": ["mocks", "--embedded", (inputs / "halos").read_text(), "--out", out],
        "fields": ["fields", table, "--out", out],
        "cutouts": ["cutouts", str(inputs / "candidates"), table, "--out", out],
        "classes": ["classes", str(inputs / "catalogue.ecsv"), "coolcore", "--out", out],
    }[verb]


def work(verb, inputs, out, n_workers, kill=False):
    """Run a verb twice, first to load and compile what it needs; time and memory of the second run."""
    with run_many.open_workers(str(n_workers)) as executor:
        client = executor._client
        run_many.ROWS = 16
        for folder in (f"{out}-first", out):
            arguments = run_many.parse(command_of(verb, inputs, str(folder)))
            before, start = client.run(used), time.monotonic()
            if kill and folder == out:
                threading.Thread(target=kill_one, args=(client, Path(out)), daemon=True).start()
            failed = arguments.run(arguments, executor)
            wall = time.monotonic() - start
        after = client.run(used)
    if failed:
        raise RuntimeError(f"{verb}: {failed}")
    # A worker that was killed has taken its times with it.
    seconds = sum(after[name][0] - before[name][0] for name in after if name in before)
    return wall, seconds, max(memory for _, memory in after.values())


def kill_one(client, out):
    """Kill a worker without warning as soon as something is written."""
    pids = client.run(os.getpid)
    while not list(out.rglob("*.parquet")):
        time.sleep(0.05)
    os.kill(next(iter(pids.values())), signal.SIGKILL)


def contents(folder):
    """
    What a run wrote, but for the times in it: images as bytes, tables as their columns; without the hidden files that
    a worker which was killed leaves.
    """
    found = {}
    for path in sorted(folder.rglob("[!.]*.*")):
        if path.suffix == ".fits":
            found[str(path.relative_to(folder))] = path.read_bytes()
        elif path.suffix in (".parquet", ".ecsv"):
            table = tables.read(path)
            columns = [name for name in table.colnames if name != "path"]  # absolute in the tables of cutouts
            found[str(path.relative_to(folder))] = table[columns].pformat(max_lines=-1, max_width=-1)
    return found


def write(path, rows):
    """Rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(*rows, sep="\n", flush=True)


def n_items(verb, out):
    """Objects that a run has dealt with, and what it calls them."""
    if verb == "mocks":
        return len(tables.read_sample(out)), "image"
    if verb == "fields":
        return len(list(out.glob("*.parquet"))), "field"
    paths = (out / "tables" if verb == "cutouts" else out).glob("*.parquet")
    return sum(len(tables.read(path)) for path in paths), "cutout" if verb == "cutouts" else "image"


def size_of(folder):
    """Bytes in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def overhead(n_tasks=500):
    """Seconds that a task without work takes on two workers."""
    with run_many.open_workers("2") as executor:
        list(batch.run(abs, range(8), keys=range(8), executor=executor, progress=False))
        start = time.monotonic()
        list(batch.run(abs, range(n_tasks), keys=range(n_tasks), executor=executor, progress=False))
        return (time.monotonic() - start) / n_tasks


def main():
    parser = argparse.ArgumentParser(description="run_many.py on one and two workers")
    parser.add_argument("out", type=Path, help="folder")
    parser.add_argument("--halos", type=int, default=8, help="of the mocks (default: %(default)s)")
    parser.add_argument("--fields", type=int, default=8, help="that are searched (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=256, help="of images that are classified (default: %(default)s)")
    arguments = parser.parse_args()
    inputs = arguments.out / "inputs"
    make_fields(inputs / "fields", arguments.fields)
    (inputs / "halos").write_text(str(arguments.halos))
    rows, cost = [], []
    for verb in VERBS:
        runs = {n: arguments.out / f"{verb}-{n}" for n in (1, 2)}
        measured = {n: work(verb, inputs, out, n) for n, out in runs.items()}
        if verb == "mocks":  # inputs of what comes after them
            make_catalogue(inputs / "catalogue.ecsv", tables.read_sample(runs[1]), arguments.rows)
        elif verb == "fields":
            (inputs / "candidates").symlink_to(runs[1].resolve())
        number, what = n_items(verb, runs[1])
        same = contents(runs[1]) == contents(runs[2])
        for n, (wall, seconds, memory) in measured.items():
            rows.append(
                {
                    "verb": verb,
                    "objects": f"{number} {what}s",
                    "workers": n,
                    "wall [s]": f"{wall:.1f}",
                    "CPU per object [s]": f"{seconds / number:.3f}",
                    "speed-up": f"{measured[1][0] / wall:.2f}",
                    "peak memory of a worker [MB]": f"{memory / 1e6:.0f}",
                    "same output": "yes" if same else "no",
                }
            )
        seconds, memory = min(m[1] for m in measured.values()) / number, max(m[2] for m in measured.values())
        cost.append((verb, what, seconds, size_of(runs[1]) / number, memory))
        write(arguments.out / "scale_workers.csv", rows)
    killed = arguments.out / "fields-killed"
    work("fields", inputs, killed, 2, kill=True)
    print("after a worker was killed, the same output:", contents(killed) == contents(arguments.out / "fields-1"))
    print(f"a task without work takes {1e3 * overhead():.1f} ms of the scheduler's time")
    write(arguments.out / "scale_cluster.csv", on_cluster(cost))


def on_cluster(cost):
    """Rows of what follows from verb, object, processor time [s], disk and memory [bytes] of each."""
    return [
        {
            "verb": verb,
            "objects": f"10^{np.log10(n):.0f} {what}s",
            "core-hours": f"{seconds * n / 3600:.3g}",
            "hours on 10 nodes": f"{seconds * n / 3600 / (10 * CORES):.2g}",
            "disk [GB]": f"{size * n / 1e9:.3g}",
            "memory of a node's workers [GB]": f"{memory * CORES / 1e9:.0f} of {NODE_MEMORY / 1e9:.0f}",
        }
        for verb, what, seconds, size, memory in cost
        for n in N_OBJECTS
    ]


if __name__ == "__main__":
    main()
