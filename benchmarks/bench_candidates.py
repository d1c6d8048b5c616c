"""
What the candidates to train on cost: steps of single fields, and many fields with one and with two workers.

``python benchmarks/bench_candidates.py OUT``, with OMP_NUM_THREADS=1, writes two tables. ``candidates_steps.csv``:
processor time of each step and peak memory, for pn alone and pn with MOS, at the densities of
``tools/make_candidates.py`` and the sky's. ``candidates_workers.csv``: time on the wall, processor time and peak memory
of a worker for the same fields with one and with two workers, which must write the same files. Only on a quiet machine
is the ratio one of the program. Five minutes of two cores with the default number of fields (``--fields``).
"""

import argparse
import csv
import filecmp
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify.exceptions import AstroclassifyWarning
from astroclassify.sim import label_candidates, simulate_field, simulate_survey
from astroclassify.survey import detect, extract_cutouts, select

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from make_candidates import ANY, DENSITY, EXTENDED, SHAPE, SIZE

CAMERAS = ("EPN", "EPN+EMOS1+EMOS2")


def main():
    parser = argparse.ArgumentParser(description="time and memory of the candidates to train on")
    parser.add_argument("out", type=Path, help="folder of the tables")
    parser.add_argument("--fields", type=int, default=16, help="fields of the comparison (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    detect(simulate_field(rng=1, shape=(96, 96)).field)  # loads what is compiled
    settings = [(what, cameras, ks) for what in ("training", "sky") for cameras in CAMERAS for ks in (10, 20)]
    context = multiprocessing.get_context("spawn")
    rows = []
    for setting in settings:
        with context.Pool(1) as pool:  # peak memory is that of a process
            rows.append(pool.apply(steps, setting))
        print(rows[-1], flush=True)
    write(arguments.out / "candidates_steps.csv", rows)
    with tempfile.TemporaryDirectory() as folder:
        rows = [workers(number, arguments.fields, Path(folder)) for number in (1, 2)]
        same = same_files(Path(folder) / "1", Path(folder) / "2")
    for row in rows:
        row["speed"], row["same files"] = f"{rows[0]['wall [s]'] / row['wall [s]']:.2f}", same
    write(arguments.out / "candidates_workers.csv", rows)
    print(*rows, sep="\n")


def steps(what, cameras, kiloseconds, n_fields=3):
    """Processor time of each step of a field, mean of some."""
    warnings.simplefilter("ignore", AstroclassifyWarning)
    density, cuts = (DENSITY, EXTENDED) if what == "training" else (None, ANY)
    detect(simulate_field(rng=1, shape=(96, 96)).field)
    taken, numbers = np.zeros(3), []
    for seed in range(n_fields):
        marks = [time.process_time()]
        how = {"exposure": kiloseconds * u.ks, "cameras": cameras.split("+"), "density": density, "optical": True}
        simulated = simulate_field(rng=seed, **how)
        marks.append(time.process_time())
        found = detect(simulated.field, max_off_axis=13 * u.arcmin)
        marks.append(time.process_time())
        chosen = label_candidates(select(found, cuts), simulated.truth)
        plate = simulated.plate
        extract_cutouts(
            chosen, simulated.field, optical=lambda *_, plate=plate: plate, size=SIZE, shape=SHAPE, progress=False
        )
        marks.append(time.process_time())
        taken += np.diff(marks) / n_fields
        numbers.append((len(found), len(chosen)))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "fields": what,
        "cameras": cameras,
        "exposure [ks]": kiloseconds,
        "sources": round(np.mean([number for number, _ in numbers])),
        "candidates": round(np.mean([number for _, number in numbers]), 1),
        **{f"{name} [s]": f"{value:.2f}" for name, value in zip(("simulate", "detect", "cut out"), taken, strict=True)},
        "memory [GB]": f"{memory:.2f}",
    }


def workers(number, n_fields, folder):
    """Time and memory of a survey with some workers."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn")) as executor:
        sample = simulate_survey(
            n_fields, rng=1, out=folder / str(number), density=DENSITY, cuts=EXTENDED, size=SIZE, shape=SHAPE,
            executor=executor, progress=False,
        )  # fmt: skip
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "workers": number,
        "fields": n_fields,
        "candidates": len(sample),
        "wall [s]": round(wall, 1),
        "processor [s]": round(spent, 1),
        "memory of a worker [GB]": f"{after.ru_maxrss / 2**20:.2f}",
    }


def same_files(one, other):
    """Whether two folders hold the same files."""
    names = [sorted(path.relative_to(each) for path in each.rglob("*") if path.is_file()) for each in (one, other)]
    return names[0] == names[1] and not filecmp.cmpfiles(one, other, names[0], shallow=False)[1]


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
