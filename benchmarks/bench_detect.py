"""
Time `astroclassify.survey.find_sources` beside photutils and SEP on the same images in the same run, and judge all.

Fields are simulated, so that the truth is known: nuclei, stars and galaxies as on the sky, beta models of known counts
and core radii instead of its clusters, hot pixels, but no bright target with its streak. The peers see counts minus the
same background, smoothed with a Gaussian of the point spread function's half-energy width, and thresholds in units of
the noise of that. Each tool's threshold is set (by bisection, on fields of their own) so that all have the same number
of false alarms per field: detections with no true source of 3 counts or more within 15 arcsec (of an extended one 30
arcsec and three core radii). ``detect`` finds with its default threshold and fits; its threshold is that of
``det_like``. Then completeness, and the false alarms that there really are, on other fields: a source is found if there
is a detection, of its own, within 15 arcsec (extended: 30 arcsec or a core radius).

Times are the processor's, which a busy machine changes little; memory is that of a process which does nothing else.
Needs scikit-image (with which photutils deblends) and sep; what is missing is left out.
"""

import argparse
import csv
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from astropy import units as u
from astropy.stats import binom_conf_interval
from astropy.table import QTable
from photutils.background import Background2D
from photutils.segmentation import SourceCatalog, SourceFinder
from photutils.utils.exceptions import NoDetectionsWarning
from scipy.ndimage import gaussian_filter
from survey_performance import MAX_OFF_AXIS, one_to_one

from astroclassify import batch
from astroclassify._x_classes import MATCH_EXTENDED, MATCH_POINT
from astroclassify.exceptions import EmptyResultWarning
from astroclassify.sim import simulate_field
from astroclassify.survey import detect, find_sources, read_field

PIXEL, SHAPE = 2.5, (648, 648)  # arcsec
SIGMA = 15 / 2.3548 / PIXEL  # pixels; the half-energy width of EPN's point spread function is 15 arcsec
LEAST_PIXELS = 5
FALSE_ALARMS = (10.0, 2.0)  # per field
DENSITY = {"cluster": 0, "bright": 0, "arc": 0}
CORES = 3.0  # core radii within which a detection is no false alarm
# Columns of completeness: extended or not, expected counts.
BINS = (
    ("points 15-30 ct", False, 15, 30),
    ("points 30-100 ct", False, 30, 100),
    ("points > 100 ct", False, 100, np.inf),
    ("beta models 50-100 ct", True, 49, 101),
    ("beta models 200-400 ct", True, 199, 401),
)
N_BISECTIONS = 8


def beta_models(rng):
    """Eight beta models around the axis, 160 arcsec and more from each other."""
    cells = np.array([(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column])
    offsets = (400 * cells + rng.uniform(-120, 120, cells.shape)) / PIXEL
    y, x = (np.array(SHAPE)[:, np.newaxis] - 1) / 2 + offsets.T
    counts, cores = rng.choice((50, 100, 200, 400), len(x)), rng.choice((8, 16, 32), len(x))
    return QTable({"x": x * u.pix, "y": y * u.pix, "counts": counts * u.ct, "core_radius": cores * u.arcsec})


def make_field(seed, exposure):
    """Simulated field with beta models instead of clusters, and its truth."""
    injected = beta_models(batch.derive_rng(seed, "bench"))
    return simulate_field(rng=seed, exposure=exposure, shape=SHAPE, density=DENSITY, injected=injected)


def excess(field):
    """Counts minus background, and the noise of that."""
    return np.where(field.mask, 0.0, field.counts - field.background), np.sqrt(np.maximum(field.background, 1e-6))


def find_ours(field, threshold):
    """Threshold: -log10 of the false-alarm probability per pixel and scale."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyResultWarning)
        found = find_sources(field, false_alarm=10.0**-threshold)
    return found["x"].value, found["y"].value


def find_photutils(field, threshold):
    """Threshold: standard deviations of the smoothed image."""
    data, noise = excess(field)
    smooth = gaussian_filter(data, SIGMA, mode="constant")
    variance = gaussian_filter(noise**2, SIGMA / np.sqrt(2), mode="constant") / (4 * np.pi * SIGMA**2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        segments = SourceFinder(LEAST_PIXELS, progress_bar=False)(
            smooth, threshold * np.sqrt(variance), mask=field.mask
        )
    if segments is None:
        return np.zeros(0), np.zeros(0)
    catalogue = SourceCatalog(data, segments, convolved_data=smooth)
    return np.transpose(np.atleast_2d(catalogue.centroid))


def find_sep(field, threshold):
    """Threshold: standard deviations of the image smoothed with a matched filter."""
    import sep

    data, noise = (np.ascontiguousarray(each, np.float32) for each in excess(field))
    y, x = np.indices((15, 15)) - 7
    kernel = np.exp(-(x**2 + y**2) / (2 * SIGMA**2)).astype(np.float32)
    found = sep.extract(
        data,
        threshold,
        err=noise,
        mask=field.mask,
        filter_kernel=kernel,
        filter_type="matched",
        minarea=LEAST_PIXELS,
        clean=False,  # cleaning takes half of the true sources away as well
    )
    return found["x"], found["y"]


def find_fitted(candidates, field, threshold):
    """Candidates of `detect` above a det_like."""
    kept = candidates[id(field)]
    kept = kept[kept["det_like"] > threshold]
    return kept["x"].value, kept["y"].value


def tools():
    """Name, function, and range of thresholds of what can be compared."""
    found = {"find_sources": (find_ours, (1.3, 9.0))}
    for name, module, entry in (
        (f"photutils {version('photutils')} SourceFinder", "skimage", (find_photutils, (1.5, 15.0))),
        ("SEP", "sep", (find_sep, (1.5, 15.0))),
    ):
        if find_spec(module) is None:
            print(f"{module} is not installed: left out is {name}")
        else:
            found[name if module != "sep" else f"SEP {version('sep')}"] = entry
    return found


def judge(simulated, places):
    """
    Compare detections with the truth.

    Returns
    -------
    hits : `~numpy.ndarray` of bool
        Per row of the truth.
    n_false : int
        Detections within 13 arcmin of the axis where nothing is.
    pieces : int
        Detections within an injected model of 200 counts and more.
    """
    field, truth = simulated.field, simulated.truth
    x, y = places
    near = field.off_axis(x, y) < MAX_OFF_AXIS
    x, y = x[near], y[near]
    distance = np.hypot(x[:, np.newaxis] - truth["x"].value, y[:, np.newaxis] - truth["y"].value) * PIXEL
    core = np.nan_to_num(truth["core_radius"].value)
    point = np.asarray(truth["label"], str) == "point"
    reach = np.where(point, MATCH_POINT, MATCH_EXTENDED + CORES * core)
    counts = truth["counts"].value
    n_false = int(np.sum(~np.any(distance < reach, axis=1)))
    bright = (np.asarray(truth["kind"], str) == "injected") & (counts > 199)
    pieces = int(np.sum(distance[:, bright] < MATCH_EXTENDED + core[bright]))
    reach = np.where(point, MATCH_POINT, np.maximum(MATCH_EXTENDED, core))
    return one_to_one(distance, reach, np.argsort(-counts, kind="stable")) >= 0, n_false, pieces / max(bright.sum(), 1)


def calibrate(function, limits, fields, wanted):
    """Threshold at which there are so many false alarms per field."""
    low, high = limits
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        n_false = np.mean([judge(each, function(each.field, middle))[1] for each in fields])
        low, high = (middle, high) if n_false > wanted else (low, middle)
    return (low + high) / 2


def completeness(function, threshold, fields):
    """Cells of the table: false alarms per field, pieces per bright model, completeness with its 68 % interval."""
    results = [judge(each, function(each.field, threshold)) for each in fields]
    row = {
        "false alarms per field": f"{np.mean([n_false for _, n_false, _ in results]):.1f}",
        "detections per beta model of 200-400 ct": f"{np.mean([pieces for _, _, pieces in results]):.1f}",
    }
    for name, extended, low, high in BINS:
        found, number = 0, 0
        for simulated, (hits, _, _) in zip(fields, results, strict=True):
            truth = simulated.truth
            kind = np.asarray(truth["kind" if extended else "label"], str) == ("injected" if extended else "point")
            counts = truth["counts"].value
            used = kind & (counts > low) & (counts <= high) & (np.asarray(truth["flags"]) == 0)
            used &= truth["off_axis"] < MAX_OFF_AXIS * u.arcmin
            found, number = found + hits[used].sum(), number + used.sum()
        interval = binom_conf_interval(found, number, interval="wilson")
        row[name] = f"{found / number:.2f} ({interval[0]:.2f}-{interval[1]:.2f})"
    return row


def best_of(function, n_runs=3):
    """Shortest processor time of a few runs [s]."""
    times = []
    for _ in range(n_runs):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def peak_memory():
    """Largest resident memory so far [MB]; what getrusage gives would begin with the parent's."""
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def photutils_search(field):
    """What photutils does of the search, with its own background."""
    Background2D(field.counts, field.shape[0] // 12, coverage_mask=field.mask)
    find_photutils(field, 4.0)


def whole_field(field, with_fits):
    """One line: detection and fits of one field, and the search with photutils: numbers, times, memory."""
    before = peak_memory()
    find_sources(field)  # makes the tables of thresholds
    finding, n_found = best_of(partial(find_sources, field)), len(find_sources(field))
    text = f"find_sources {finding:.2f} s ({n_found} sources), peak memory {peak_memory():.0f} MB ({before:.0f} before)"
    if with_fits:
        start = time.process_time()
        candidates = detect(field, max_off_axis=MAX_OFF_AXIS * u.arcmin)
        text += (
            f"; detect {time.process_time() - start:.1f} s ({len(candidates)} within 13 arcmin), {peak_memory():.0f} MB"
        )
    if find_spec("skimage") is not None:
        text += f"; photutils Background2D and SourceFinder {best_of(partial(photutils_search, field)):.2f} s"
    return text


def whole_fields(fields, with_fits):
    """One line per field, given by name."""
    for name, field in fields.items():
        # A process keeps its largest memory; each field needs a new one, in which nothing was simulated.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            print(f"{name}: {pool.submit(whole_field, field, with_fits).result()}")


def compare(first, fields, with_fits):
    """Rows of the table: thresholds from the first fields, completeness and false alarms on others."""
    compared, seconds = tools(), {}
    if with_fits:
        begin, limit = time.process_time(), MAX_OFF_AXIS * u.arcmin
        fitted = {id(each.field): detect(each.field, max_off_axis=limit) for each in [*first, *fields]}
        compared["detect, by det_like"] = partial(find_fitted, fitted), (0.0, 100.0)
        seconds["detect, by det_like"] = (time.process_time() - begin) / len(fitted)
    rows = []
    for name, (function, limits) in compared.items():
        for wanted in FALSE_ALARMS:
            threshold = calibrate(function, limits, first, wanted)
            row = {"method": name, "false alarms wanted": f"{wanted:g}", "threshold": f"{threshold:.2f}"}
            row |= completeness(function, threshold, fields)
            if name not in seconds:
                seconds[name] = best_of(partial(function, first[0].field, threshold))
            row |= {"time [s]": f"{seconds[name]:.2f}", "time ratio": f"{seconds[name] / seconds['find_sources']:.1f}"}
            rows.append(row)
            print("  ".join(f"{key}: {value}" for key, value in row.items()))
    return rows


def main():
    """Compare, write the table, then measure whole fields."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--fields", type=int, nargs=2, default=[4, 12], help="to set thresholds on, and to judge on")
    parser.add_argument("--exposure", type=float, default=10.0, help="ks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-fits", action="store_true", help="leave out detect, which takes longest")
    parser.add_argument("--only-whole", action="store_true", help="no comparison, only time and memory of whole fields")
    parser.add_argument("--images", nargs="*", default=[], help="real images, for time and memory of whole fields")
    parser.add_argument("--out", help="file of the table (CSV)")
    arguments = parser.parse_args()
    start, exposure = time.perf_counter(), arguments.exposure * u.ks
    first, n_first = 1000 * arguments.seed, arguments.fields[0]
    if not arguments.only_whole:
        fields = [make_field(first + number, exposure) for number in range(sum(arguments.fields))]
        print(f"{len(fields)} fields of {SHAPE} pixels, {exposure}: {time.perf_counter() - start:.0f} s")
        rows = compare(fields[:n_first], fields[n_first:], not arguments.no_fits)
        if arguments.out:
            with open(arguments.out, "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    simulated = {f"simulated, {time}": make_field(first, time).field for time in (10 * u.ks, 40 * u.ks)}
    whole_fields(simulated | {path: read_field(path) for path in arguments.images}, not arguments.no_fits)
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
