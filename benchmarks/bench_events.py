"""
Time and memory of `astroclassify.images.read_events` beside `astropy.table.Table.read` and `numpy.histogram2d`.

``python bench_events.py [--gigabytes 2] [--folder /tmp]`` writes a list in the layout of a Chandra ACIS list, reads it
with both, each in a process of its own, in turns, and deletes it. Memory is the peak over what the imports took.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

COLUMNS = (
    ("time", "D"), ("ccd_id", "I"), ("node_id", "I"), ("expno", "J"), ("chipx", "I"), ("chipy", "I"), ("tdetx", "I"),
    ("tdety", "I"), ("detx", "E"), ("dety", "E"), ("x", "E"), ("y", "E"), ("pha", "J"), ("pha_ro", "J"),
    ("energy", "E"), ("pi", "J"), ("fltgrade", "I"), ("grade", "I"), ("status", "32X"),
)  # fmt: skip
BLOCK = 100_000  # rows


def write_list(path, gigabytes):
    """Write a list of that size, block by block; how many rows it has."""
    rng = np.random.default_rng(1)
    arrays = {
        "x": rng.normal(4096, 500, BLOCK),
        "y": rng.normal(4096, 500, BLOCK),
        "energy": rng.uniform(0, 1e4, BLOCK),
    }
    empty = {"32X": np.zeros((BLOCK, 32), bool)}
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, form, unit="eV" if name == "energy" else None, array=arrays.get(name, empty.get(form)))
            for name, form in COLUMNS
        ],
        nrows=BLOCK,
        name="EVENTS",
    )
    for number, axis, value in ((11, "RA---TAN", 150.0), (12, "DEC--TAN", 2.0)):
        table.header.update(
            {f"TCTYP{number}": axis, f"TCRVL{number}": value, f"TCRPX{number}": 4096.5, f"TLMIN{number}": 0.5,
             f"TCDLT{number}": (-1, 1)[number - 11] * 0.492 / 3600, f"TLMAX{number}": 8192.5}
        )  # fmt: skip
    table.header.update({"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "EXPOSURE": 1e5})
    stream = io.BytesIO()
    table.writeto(stream)
    with fits.open(io.BytesIO(stream.getvalue())) as hdus:
        start = hdus[1].fileinfo()["datLoc"]
    block = stream.getvalue()[start : start + BLOCK * table.header["NAXIS1"]]
    n_blocks = max(1, round(gigabytes * 1e9 / len(block)))
    table.header["NAXIS2"] = n_blocks * BLOCK
    with open(path, "wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        file.write(table.header.tostring().encode())
        for _ in range(n_blocks):
            file.write(block)
        file.write(bytes(-n_blocks * len(block) % 2880))
    return n_blocks * BLOCK


def ours(path):
    """Counts of the band 0.5 to 7 keV on pixels of 1.968 arcsec."""
    return read_events(path, energy=[0.5, 7] * u.keV).data


def theirs(path):
    """As one writes it by hand."""
    table = Table.read(path, hdu="EVENTS")
    used = (table["energy"] >= 500) & (table["energy"] < 7000)
    edges = 0.5 + 4 * np.arange(2049)
    return np.histogram2d(table["y"][used], table["x"][used], bins=[edges, edges])[0]


def measure(name, path):
    """Run one of them in a process of its own: wall and processor time [s], peak memory [MB], counts."""
    command = [sys.executable, __file__, "--only", name, "--path", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def report(name, path):
    """Do the work of such a process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, processor = time.perf_counter(), time.process_time()
    counts = {"ours": ours, "theirs": theirs}[name](path)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"wall": wall, "processor": processor, "peak": peak, "counts": float(counts.sum())}))


def main(gigabytes, folder):
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "events.fits"
        n_rows = write_list(path, gigabytes)
        print(f"{n_rows:,} events, {path.stat().st_size / 1e9:.2f} GB")
        runs = {which: [measure(which, path) for _ in range(2)] for which in ("ours", "theirs")}
    best = {which: {key: min(run[key] for run in each) for key in each[0]} for which, each in runs.items()}
    for which, label in (("ours", "read_events"), ("theirs", "Table.read, histogram2d")):
        one = best[which]
        print(
            f"{label:24} {one['wall']:6.1f} s wall, {one['processor']:6.1f} s processor, {one['peak']:7.0f} MB, "
            f"{one['counts']:.0f} counts"
        )
    time_ratio, memory_ratio = (best["theirs"][key] / best["ours"][key] for key in ("processor", "peak"))
    print(f"{time_ratio:.1f} times faster, {memory_ratio:.1f} times less memory")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--only", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        from astropy import units as u
        from astropy.table import Table

        from astroclassify.images import read_events

        report(arguments.only, arguments.path)
    else:
        main(arguments.gigabytes, arguments.folder)
