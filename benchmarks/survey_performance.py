"""
What the survey's detection does on simulated XMM fields whose truth is known, as small tables.

``python benchmarks/survey_performance.py OUT`` simulates fields, searches them and sums up; run again it goes on from
where it was ended. Two kinds of fields per exposure: ``sky`` with everything as dense as it is on the sky (densities,
purity, false alarms), ``grid`` without clusters of its own and with beta models of known counts and core radius put in
(completeness, biases). 16 sky fields within 13 arcmin of the axis are 2.1 square degrees.
"""

import argparse
import contextlib
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.stats import binom_conf_interval, poisson_conf_interval
from astropy.table import QTable, vstack
from astropy.utils.metadata import MergeConflictWarning

from astroclassify import batch, tables
from astroclassify._x_classes import MATCH_EXTENDED, MATCH_POINT
from astroclassify.exceptions import EmptyResultWarning
from astroclassify.sim import simulate_field
from astroclassify.survey import CUTS, calibrate_cuts, detect

MAX_OFF_AXIS = 13.0  # arcmin
# What is put into a grid field.
COUNTS = (25, 50, 100, 200, 400, 800, 1600)
CORES = (4, 8, 16, 32, 64)  # arcsec
# A field holds few, as the sky does: their outskirts are in the estimated background.
PER_FIELD, APART = 4, 210.0  # arcsec
# Truth below this is no counterpart of anything.
FAINTEST = 5.0  # ct
# A candidate is a cluster if the cluster gives at least this share of its counts.
SHARE = 0.3
CLUSTERS = ("cluster", "clump", "injected")
CLASSES = ("any", "C1", "C2", "C1+C2", "P1")
INTERVAL = 0.6827


def grid_sources(rng, shape, pixel):
    """Beta models at random places away from each other, as `simulate_field` takes them."""
    middle, places = (np.array(shape[::-1]) - 1) / 2, []
    limit = min(60 * (MAX_OFF_AXIS - 0.5), min(shape) * pixel / 2 - 45)
    for _ in range(2000):
        radius, phase = limit * np.sqrt(rng.random()), 2 * np.pi * rng.random()
        place = middle + radius / pixel * np.array([np.cos(phase), np.sin(phase)])
        if all(np.hypot(*(place - other)) * pixel > APART for other in places):
            places.append(place)
        if len(places) == PER_FIELD:
            break
    x, y = np.transpose(places)
    return QTable(
        {
            "x": x * u.pix,
            "y": y * u.pix,
            "counts": rng.choice(COUNTS, len(x)) * u.ct,
            "core_radius": rng.choice(CORES, len(x)) * u.arcsec,
        }
    )


def one_field(folder, seed, shape, item):
    """Simulate a field, search it, write candidates and truth; nothing if that has been done."""
    kind, exposure, number = item
    key = f"{kind}-{exposure:g}ks-{number:03d}"
    paths = [folder / f"{key}-{what}.ecsv" for what in ("truth", "candidates")]
    if all(path.is_file() for path in paths):
        return key
    rng = batch.derive_rng(seed, key)
    settings = {"exposure": exposure * u.ks, "shape": shape, "rng": rng}
    if kind == "grid":
        settings |= {"density": {"cluster": 0}, "injected": grid_sources(rng, shape, 2.5)}
    start = time.process_time()
    simulated = simulate_field(**settings)
    middle = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyResultWarning)
        candidates = detect(simulated.field, max_off_axis=MAX_OFF_AXIS * u.arcmin)
    end = time.process_time()
    field = simulated.field
    rows, columns = np.nonzero((field.exposure > 0) & ~field.mask)
    area = np.sum(field.off_axis(columns, rows) <= MAX_OFF_AXIS) * (field.pixel / 3600) ** 2
    truth = simulated.truth[simulated.truth["counts"] >= FAINTEST * u.ct]
    for table in (truth, candidates):
        table.meta = {
            **{name: table.meta[name] for name in ("likelihood",) if name in table.meta},
            "kind": kind,
            "exposure": float(exposure),
            "area": float(area),
            "seconds_simulate": round(middle - start, 2),
            "seconds_detect": round(end - middle, 2),
            "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        table["field"] = np.full(len(table), key)
    for path, table in zip(paths, (truth, candidates), strict=True):
        tables.write(table, path, overwrite=True)
    return key


def separations(truth, candidates):
    """Distance [arcsec] of each candidate (row) from each true source (column)."""
    first, second = candidates["sky_position"], truth["sky_position"]
    return first[:, np.newaxis].separation(second[np.newaxis, :]).to_value(u.arcsec)


def is_cluster(truth):
    """Whether a true source is a cluster or a beta model that was put in."""
    return np.isin(np.asarray(truth["kind"], str), CLUSTERS)


def is_point(truth):
    """Whether a true source is a nucleus or a star."""
    return np.asarray(truth["label"], str) == "point"


def one_to_one(distance, reach, order):
    """Partner of each true source (column), or -1: in an order, the nearest candidate within reach that is left."""
    partner, left = np.full(distance.shape[1], -1), np.ones(distance.shape[0], bool)
    for column in order:
        near = np.where(left, distance[:, column], np.inf)
        if len(near) and near.min() <= reach[column]:
            partner[column] = np.argmin(near)
            left[partner[column]] = False
    return partner


def match(truth, candidates):
    """Add to the truth its candidate (row number or -1), to the candidates what they are and the row of their truth."""
    distance = separations(truth, candidates)
    # What lies within the core of a huge cluster, cut by the edge of the field, is that cluster.
    core = np.nan_to_num(truth["core_radius"].to_value(u.arcsec))
    reach = np.where(is_point(truth), MATCH_POINT, np.maximum(MATCH_EXTENDED, core))
    brightness = truth["counts"].to_value(u.ct)
    order = np.argsort(-brightness, kind="stable")
    truth["candidate"] = one_to_one(distance, reach, order)
    what, rows = np.full(len(candidates), "none", dtype="U8"), np.full(len(candidates), -1)
    counts = candidates["counts"].to_value(u.ct)
    for number in range(len(candidates)):
        near = np.flatnonzero(distance[number] <= reach)
        if not len(near):
            continue
        clusters = near[is_cluster(truth)[near] & (brightness[near] >= SHARE * counts[number])]
        chosen = clusters if len(clusters) else near
        rows[number] = chosen[np.argmax(brightness[chosen])]
        best = rows[number]
        # A cluster that gives too few of the counts: the candidate is something else, or noise.
        what[number] = "cluster" if len(clusters) else "faint" if is_cluster(truth)[best] else str(truth["label"][best])
    candidates["truth"], candidates["true_row"] = what, rows


def in_class(candidates, name):
    """Whether each candidate is in a class."""
    if name == "any":
        return np.ones(len(candidates), bool)
    return np.logical_or.reduce([CUTS[part].passed(candidates) for part in name.split("+")])


def share(hits, number):
    """Share with its interval."""
    if not number:
        return (np.nan,) * 3
    low, high = binom_conf_interval(hits, number, INTERVAL, interval="wilson")
    return hits / number, float(low), float(high)


def densities(fields):
    """Candidates per square degree of each class, and what they are."""
    for exposure, chosen in by_exposure(fields, "sky"):
        area = sum(candidates.meta["area"] for _, candidates in chosen)
        for name in CLASSES:
            what = np.concatenate([candidates["truth"][in_class(candidates, name)] for _, candidates in chosen])
            low, high = poisson_conf_interval(len(what), interval="frequentist-confidence")
            purity = share(int(np.sum(what == "cluster")), len(what))
            yield {
                "exposure": exposure * u.ks,
                "x_class": name,
                "area": area * u.deg**2,
                "n": len(what),
                "density": len(what) / area / u.deg**2,
                "density_lo": low / area / u.deg**2,
                "density_hi": high / area / u.deg**2,
                "purity": purity[0],
                "purity_lo": purity[1],
                "purity_hi": purity[2],
                **{f"n_{label}": int(np.sum(what == label)) for label in ("cluster", "galaxy", "point", "faint")},
                "n_other": int(np.sum(~np.isin(what, ("cluster", "galaxy", "point", "faint", "none")))),
                "n_none": int(np.sum(what == "none")),
            }


def completeness(fields):
    """Share of beta models that are found, by counts and core radius."""
    for exposure, chosen in by_exposure(fields, "grid"):
        found = found_models(chosen)
        for core in CORES:
            for counts in COUNTS:
                here = (found["core"] == core) & (found["counts"] == counts)
                if not here.any():
                    continue
                for name in ("any", "C1", "C1+C2"):
                    hits = int(np.sum(found[name][here]))
                    value = share(hits, int(here.sum()))
                    yield {
                        "exposure": exposure * u.ks,
                        "core_radius": core * u.arcsec,
                        "counts": counts * u.ct,
                        "x_class": name,
                        "n": int(here.sum()),
                        "n_found": hits,
                        "completeness": value[0],
                        "completeness_lo": value[1],
                        "completeness_hi": value[2],
                    }


def found_models(chosen):
    """Beta models of grid fields that do not lie in gaps, with what was measured of them, as arrays."""
    found = []
    for truth, candidates in chosen:
        models = np.flatnonzero((np.asarray(truth["kind"], str) == "injected") & (truth["flags"] == 0))
        partner = np.asarray(truth["candidate"])[models]
        columns = {
            "counts": np.rint(truth["counts"][models].to_value(u.ct)),
            "core": np.rint(truth["core_radius"][models].to_value(u.arcsec)),
        }
        for column, unit in (("ext", u.arcsec), ("ext_err", u.arcsec), ("counts", u.ct)):
            # Those without a partner (-1) take what was appended.
            columns[f"measured_{column}"] = np.append(candidates[column].to_value(unit), np.nan)[partner]
        for name in CLASSES:
            columns[name] = np.append(in_class(candidates, name), False)[partner]
        found.append(columns)
    return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}


def biases(fields):
    """EXT and counts over the truth, of the beta models of at least 300 counts found as C1 or C2."""
    for exposure, chosen in by_exposure(fields, "grid"):
        found = found_models(chosen)
        good = found["C1+C2"] & (found["counts"] >= 300)
        for core in (*CORES, "all"):
            here = good & ((found["core"] == core) | (core == "all"))
            ext, true = found["measured_ext"][here], found["core"][here]
            ratio = found["measured_counts"][here] / found["counts"][here]
            yield {
                "exposure": exposure * u.ks,
                "core_radius": str(core),
                "n": int(here.sum()),
                **median_of("ext_ratio", ext / true),
                **median_of("counts_ratio", ratio),
                **median_of("ext_pull", (ext - true) / found["measured_ext_err"][here]),
            }


def median_of(name, values):
    """Median, its error, and half the width of the middle 68%."""
    values = values[np.isfinite(values)]
    if len(values) < 3:
        return {name: np.nan, f"{name}_error": np.nan, f"{name}_scatter": np.nan}
    low, high = np.percentile(values, [16, 84])
    scatter = (high - low) / 2
    return {
        name: float(np.median(values)),
        f"{name}_error": float(1.25 * scatter / np.sqrt(len(values))),
        f"{name}_scatter": float(scatter),
    }


def positions(fields):
    """Distance of candidates from the truth, by kind and counts."""
    for exposure, chosen in by_exposure(fields, "sky"):
        for kind in ("point", "cluster"):
            rows = []
            for truth, candidates in chosen:
                wanted = is_cluster(truth) if kind == "cluster" else is_point(truth)
                wanted &= np.asarray(truth["candidate"]) >= 0
                distance, partner = separations(truth, candidates), np.asarray(truth["candidate"])
                error = candidates["pos_err"].to_value(u.arcsec)
                rows += [
                    (truth["counts"][row].to_value(u.ct), distance[partner[row], row], error[partner[row]])
                    for row in np.flatnonzero(wanted)
                ]
            rows = np.array(rows).reshape(-1, 3)
            for low, high in ((10, 30), (30, 100), (100, 300), (300, np.inf)):
                here = rows[(rows[:, 0] >= low) & (rows[:, 0] < high)]
                quantiles = np.percentile(here[:, 1], [50, 68, 95]) if len(here) else [np.nan] * 3
                pull = here[:, 1] / here[:, 2]
                pull = pull[np.isfinite(pull)]
                yield {
                    "exposure": exposure * u.ks,
                    "kind": kind,
                    "counts_lo": low * u.ct,
                    "counts_hi": high * u.ct,
                    "n": len(here),
                    **{f"distance_{q}": value * u.arcsec for q, value in zip((50, 68, 95), quantiles, strict=True)},
                    "distance_over_error": float(np.median(pull)) if len(pull) else np.nan,
                }


def false_alarms(fields):
    """Point sources: how many are found, and how many pass for extended."""
    for exposure, chosen in by_exposure(fields, "sky"):
        rows = []
        for truth, candidates in chosen:
            off_axis = truth["off_axis"].to_value(u.arcmin)
            wanted = is_point(truth) & (off_axis <= MAX_OFF_AXIS)
            counts, partner = truth["counts"].to_value(u.ct), np.asarray(truth["candidate"])
            member = [in_class(candidates, name) for name in ("C1", "C1+C2", "P1")]
            rows += [
                (counts[row], partner[row] >= 0, *(partner[row] >= 0 and each[partner[row]] for each in member))
                for row in np.flatnonzero(wanted)
            ]
        rows = np.array(rows, float).reshape(-1, 5)
        for low, high in ((5, 10), (10, 20), (20, 40), (40, 100), (100, 300), (300, 1000), (1000, np.inf)):
            here = rows[(rows[:, 0] >= low) & (rows[:, 0] < high)]
            found = int(here[:, 1].sum())
            yield {
                "exposure": exposure * u.ks,
                "counts_lo": low * u.ct,
                "counts_hi": high * u.ct,
                "n": len(here),
                "n_found": found,
                "share_found": share(found, len(here))[0],
                "n_c1": int(here[:, 2].sum()),
                "n_c1_c2": int(here[:, 3].sum()),
                "share_c1_c2": share(int(here[:, 3].sum()), found)[0],
                "n_p1": int(here[:, 4].sum()),
            }


def calibrations(fields):
    """EXT_LIKE thresholds that give purities."""
    for exposure, chosen in by_exposure(fields, "sky"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MergeConflictWarning)
            candidates = vstack([candidates for _, candidates in chosen])
        true = np.asarray(candidates["truth"] == "cluster")
        for purity in (0.5, 0.8, 0.9, 0.95):
            row = {"exposure": exposure * u.ks, "wanted": purity}
            try:
                found = calibrate_cuts(candidates, true, purity=purity, groups=candidates["field"], rng=0)
            except ValueError as error:
                print(error, file=sys.stderr)
                continue
            row |= {"ext_like": found.ext_like, "ext_like_lo": found.ext_like_interval[0]}
            row |= {"ext_like_hi": found.ext_like_interval[1], "purity": found.purity}
            row |= {"purity_lo": found.purity_interval[0], "purity_hi": found.purity_interval[1]}
            yield {**row, "completeness": found.completeness, "n": found.n}


def times(fields):
    """Seconds of processor time, and memory."""
    for kind in ("sky", "grid"):
        for exposure, chosen in by_exposure(fields, kind):
            meta = [candidates.meta for _, candidates in chosen]
            yield {
                "kind": kind,
                "exposure": exposure * u.ks,
                "n": len(chosen),
                "candidates": float(np.mean([len(candidates) for _, candidates in chosen])),
                "seconds_simulate": float(np.median([each["seconds_simulate"] for each in meta])) * u.s,
                "seconds_detect": float(np.median([each["seconds_detect"] for each in meta])) * u.s,
                "seconds_detect_max": float(max(each["seconds_detect"] for each in meta)) * u.s,
                "peak_memory": max(each["peak_memory"] for each in meta) * u.Unit("MiB"),
            }


def by_exposure(fields, kind):
    """(exposure, fields of a kind with it) for each exposure."""
    found = [field for field in fields if field[1].meta["kind"] == kind]
    for exposure in sorted({candidates.meta["exposure"] for _, candidates in found}):
        yield exposure, [field for field in found if field[1].meta["exposure"] == exposure]


def summarise(folder):
    """Write the tables that sum up what lies in ``folder/fields``; print them."""
    fields = []
    for path in sorted((folder / "fields").glob("*-candidates.ecsv")):
        candidates = tables.read(path)
        truth = tables.read(path.with_name(path.name.replace("candidates", "truth")))
        match(truth, candidates)
        fields.append((truth, candidates))
    for function in (densities, completeness, biases, positions, false_alarms, calibrations, times):
        rows = list(function(fields))
        if not rows:
            continue
        table = QTable(rows=rows)
        for name in table.colnames:
            if table[name].dtype.kind == "f":
                table[name].info.format = ".4g"
        tables.write(table, folder / f"{function.__name__}.ecsv", overwrite=True)
        print(f"\n{function.__name__}: {function.__doc__}")
        table.pprint(max_lines=-1, max_width=-1)


def write_short(folder):
    """Write what the documentation shows, a few columns as text, to ``folder/short``."""
    (folder / "short").mkdir(exist_ok=True)
    names = ("densities", "completeness", "biases", "false_alarms")
    read = {name: tables.read(folder / f"{name}.ecsv") for name in names}

    def write(name, header, rows):
        lines = [",".join(f'"{text}"' for text in row) for row in (header, *rows)]
        (folder / "short" / f"survey_{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    what = {"n_cluster": "cluster", "n_galaxy": "galaxy", "n_point": "point", "n_faint": "faint cluster"}
    what |= {"n_other": "artefact", "n_none": "nothing"}
    write(
        "densities",
        ["exposure [ks]", "class", "per deg2", "share of clusters (68%)", *what.values()],
        [
            [f"{row['exposure'].value:g}", row["x_class"], f"{row['density'].value:.1f}"]
            + [f"{row['purity']:.2f} ({row['purity_lo']:.2f}-{row['purity_hi']:.2f})", *(row[name] for name in what)]
            for row in read["densities"]
        ],
    )
    found = read["completeness"][read["completeness"]["x_class"] == "C1+C2"]
    cells = {}
    for row in found:
        cell = cells.setdefault((row["core_radius"].value, row["counts"].value), [0, 0])
        cell[0] += row["n_found"]
        cell[1] += row["n"]
    write(
        "completeness",
        ["core radius [arcsec]", *(f"{number} ct" for number in COUNTS)],
        [[f"{core}"] + ["{}/{}".format(*cells.get((core, number), (0, 0))) for number in COUNTS] for core in CORES],
    )
    write(
        "biases",
        ["exposure [ks]", "core radius [arcsec]", "number", "EXT / true", "counts / true"],
        [
            [f"{row['exposure'].value:g}", row["core_radius"], row["n"]]
            + [f"{row[name]:.2f} +- {row[f'{name}_error']:.2f}" for name in ("ext_ratio", "counts_ratio")]
            for row in read["biases"]
            if np.isfinite(row["ext_ratio"])
        ],
    )
    write(
        "false_alarms",
        ["exposure [ks]", "counts", "point sources", "found", "C1", "C1 or C2", "P1"],
        [
            [f"{row['exposure'].value:g}", f"{row['counts_lo'].value:g}-{row['counts_hi'].value:g}"]
            + [row[name] for name in ("n", "n_found", "n_c1", "n_c1_c2", "n_p1")]
            for row in read["false_alarms"]
        ],
    )


def main():
    """Simulate, search, sum up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the tables")
    parser.add_argument("--exposures", type=float, nargs="+", default=[10, 20], help="in ks")
    parser.add_argument("--sky", type=int, default=8, help="sky fields per exposure")
    parser.add_argument("--grid", type=int, default=8, help="grid fields per exposure")
    parser.add_argument("--side", type=int, default=648, help="pixels of 2.5 arcsec along a side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    folder = arguments.out / "fields"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"sky": arguments.sky, "grid": arguments.grid}
    # Turn by turn, so that a run that is ended has some of each.
    items = [
        (kind, exposure, number)
        for number in range(max(numbers.values()))
        for exposure in arguments.exposures
        for kind in numbers
        if number < numbers[kind]
    ]
    function = partial(one_field, folder, arguments.seed, (arguments.side, arguments.side))
    pool = ProcessPoolExecutor(arguments.workers) if arguments.workers > 1 else contextlib.nullcontext()
    with pool as executor:
        keys = ["-".join(map(str, item)) for item in items]
        for outcome in batch.run(function, items, keys=keys, executor=executor, description="fields"):
            if outcome.error is not None:
                print(f"{outcome.key}: {outcome.error}", file=sys.stderr)
    summarise(arguments.out)
    write_short(arguments.out)


if __name__ == "__main__":
    main()
