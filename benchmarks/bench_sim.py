"""
Time and memory of three projections of one halo: stock pyXSIM + SOXS, our pyxsim engine, the direct engine.

Every contender runs in a process of its own on the same cells (those that the field can see along some axis) of an
embedded cluster; imports, and for the direct engine numba's compilation, come before the clock starts. The last rows
of a table time the photon generation alone, stock ``make_photons`` beside ours, for the same cells and area. All may
use two threads; ``t_cpu``, the time of all threads together, is what to compare on a machine that others use.

Stock needs ASTROCLASSIFY_APEC_ROOT (see ``_stock.py``) and the responses in ``../shared/data``; without them, or with
``--no-stock``, it is left out.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AXES = "xyz"
SEED = 7  # of the embedded population: its first cluster is no merger, with M500 = 2.9e14 Msun
AREA = 700.0
THREADS = 2  # for all contenders; pyXSIM and SOXS run on one nearly all the time
CONTENDERS = ("stock", "pyxsim", "direct", "stock photons", "pyxsim photons")
STAGES = ("load", "photons", "project", "instrument", "image")


def observation():
    """The default mock image without background (stock has none here)."""
    from astropy import units as u

    from astroclassify.sim import Observation

    return Observation(background=0 * u.ct / u.s / u.arcsec**2)


def write_halo(n_cells, path):
    """One embedded cluster, only the cells that the field can see (along some axis of the box), as a pickle."""
    from dataclasses import fields, replace

    from astroclassify.sim import EmbeddedPopulation
    from astroclassify.sim.engines._pyxsim import in_field

    # two thirds of this cluster's cells are in sight
    population = EmbeddedPopulation(1, rng=SEED, real_share=0, log_mass=(14.45, 14.47), max_cells=int(1.47 * n_cells))
    halo = population.read_halo(0)
    cells = in_field(halo, observation())
    per_cell = {
        item.name: getattr(halo, item.name)[cells]
        for item in fields(halo)
        if getattr(getattr(halo, item.name), "shape", ())[:1] == cells.shape
    }
    # one metallicity for all contenders
    halo = replace(halo, **{**per_cell, "abundances": None})
    with open(path, "wb") as file:
        pickle.dump(halo, file, protocol=5)
    return {"cells": halo.n_cells}


def run_stock(halo, folder):
    """All stages of the stock way."""
    import _stock
    import pyxsim  # noqa: F401
    import soxs  # noqa: F401

    begun = time.process_time()
    images, seconds, n_photons = _stock.stock_images(halo, observation(), folder, axes=AXES, seed=1)
    counts = sum(float(image.sum()) for image in images.values())
    return seconds, {"n_photons": int(n_photons), "counts": counts, "cpu": time.process_time() - begun}


def run_engine(halo, engine):
    """One of our engines, through what `make_mocks` calls."""
    from astroclassify.sim import Observation
    from astroclassify.sim.mocks import _observe

    # what is loaded or compiled once
    small = Observation(exposure=observation().exposure / 1e4)
    with _observe.observing(halo, small, engine=engine, seed=1, axes=AXES) as image_along:
        image_along(AXES[0])
    seconds = dict.fromkeys(STAGES, 0.0)
    begun, start = time.process_time(), time.perf_counter()
    with _observe.observing(halo, observation(), engine=engine, seed=1, axes=AXES) as image_along:
        middle = time.perf_counter()
        counts = sum(float(image_along(axis).data.sum(dtype=float)) for axis in AXES)
    end = time.perf_counter()
    seconds["photons" if engine == "pyxsim" else "load"] = middle - start
    seconds["project" if engine == "pyxsim" else "image"] = end - middle
    return seconds, {"counts": counts, "cpu": time.process_time() - begun}


def run_photons(halo, folder, whose):
    """Photon generation alone."""
    import numpy as np

    from astroclassify.sim.engines import _pyxsim

    seconds = dict.fromkeys(STAGES, 0.0)
    rng = np.random.default_rng(1)
    if whose == "stock":
        import _stock
        import pyxsim  # noqa: F401

        os.chdir(folder)
        low, high = observation().energy_range.value
        start = time.perf_counter()
        dataset = _pyxsim.particles(halo, np.ones(halo.n_cells, dtype=bool))
        model = _stock.source_model(low, high, rng)
        seconds["load"] = time.perf_counter() - start
        start = time.perf_counter()
        number = _stock.make_photons("photons.h5", dataset, model, halo, observation(), AREA)
        seconds["photons"] = time.perf_counter() - start
    else:
        with _pyxsim.photons(halo, observation(), area=AREA / 1e4, rng=rng):  # what is loaded once
            pass
        start = time.perf_counter()
        with _pyxsim.photons(halo, observation(), area=AREA, rng=rng) as drawn:
            seconds["photons"] = time.perf_counter() - start
            number = drawn.n_photons
    return seconds, {"n_photons": int(number)}


def child(contender, path):
    """Run one contender and report on the last line of standard output."""
    import resource

    with open(path, "rb") as file:
        halo = pickle.load(file)
    unit = 1024 if sys.platform == "darwin" else 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        home = os.getcwd()
        try:
            if contender == "stock":
                seconds, more = run_stock(halo, Path(folder))
            elif contender.endswith("photons"):
                seconds, more = run_photons(halo, Path(folder), contender.split()[0])
            else:
                seconds, more = run_engine(halo, contender)
        finally:
            os.chdir(home)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024
    return {**seconds, "total": sum(seconds.values()), "memory_before": before, "memory": peak, **more}


def start(*arguments):
    """Run this script for one step; what it reports."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "NUMBA_NUM_THREADS": str(THREADS)}
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.rstrip().rsplit("\n", 1)[-1])


def table_of(rows):
    """Results as a table, ratios to stock included."""
    import numpy as np
    from astropy import units as u
    from astropy.table import QTable

    from astroclassify import tables

    table = QTable()
    table["contender"] = [row["contender"] for row in rows]
    table["cells"] = [row["cells"] for row in rows]
    for name in (*STAGES, "total"):
        table[f"t_{name}"] = [row[name] for row in rows] * u.s
    table["t_cpu"] = [row.get("cpu", np.nan) for row in rows] * u.s
    table["memory"] = [row["memory"] for row in rows] * u.MiB
    table["memory_added"] = [row["memory"] - row["memory_before"] for row in rows] * u.MiB
    table["n_photons"] = [row.get("n_photons", -1) for row in rows]
    table["counts"] = [row.get("counts", np.nan) for row in rows]
    stock = {(row["cells"], row["contender"]): row for row in rows}
    for name, what in (("speed_ratio", "total"), ("memory_ratio", "memory")):
        ratios = []
        for row in rows:
            alone = row["contender"].endswith(" photons")
            peer = stock.get((row["cells"], "stock photons" if alone else "stock"))
            # photon generation alone: make_photons, not what reads the tables and makes the dataset
            key = "photons" if alone and what == "total" else what
            ratios.append(np.nan if peer is None else peer[key] / row[key])
        table[name] = ratios
    table.meta = tables.provenance(axes=AXES, seed=SEED, observation=observation().to_meta())
    return table


def measure(n_cells, contenders):
    """All contenders on one halo."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "halo.pickle"
        cells = start("--step", "halo", "--cells", n_cells, "--file", path)["cells"]
        for contender in contenders:
            row = {"contender": contender, "cells": cells, **start("--step", contender, "--file", path)}
            rows.append(row)
            print(f"{contender:15s} {cells:9d} cells {row['total']:8.2f} s {row['memory']:8.0f} MiB", file=sys.stderr)
    return rows


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--cells", type=float, nargs="+", default=[1e6], help="about how many cells (default: 1e6)")
    parser.add_argument("--no-stock", action="store_true", help="only our engines")
    parser.add_argument("--out", help="table to write (.ecsv)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        report = write_halo(int(options.cells[0]), options.file) if options.step == "halo" else None
        print(json.dumps(report or child(options.step, options.file)))
        return
    import _stock

    without = options.no_stock or _stock.apec_root() is None or not _stock.RESPONSES.is_dir()
    contenders = [name for name in CONTENDERS if not (without and name.startswith("stock"))]
    rows = [row for n_cells in options.cells for row in measure(int(n_cells), contenders)]
    table = table_of(rows)
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".3g" if "ratio" in name else ".2f"
    table.pprint_all()
    if not without:
        print("Counts differ by design: stock's image has gaps between the chips, is 1.7% wider, and has an RMF.")
    if options.out:
        from astroclassify import tables

        tables.write(table, options.out, overwrite=True)


if __name__ == "__main__":
    main()
