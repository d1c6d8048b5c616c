"""
What detection says of sources of known counts and core radius that are put into real fields, as small tables.

``python benchmarks/injections.py SHARED_DATA OUT`` searches the real fields of ``SHARED_DATA`` as they are, then with
points and beta models in the parts of them that lie away from their own clusters, remnants and galaxies, then simulated
fields in the same way, all with the defaults of `astroclassify.survey.detect`. It writes what was found
(``OUT/rows``) and tables that sum it up; run again it goes on from where it was ended. The tables of the documentation
are made with ``--docs docs/science/measured``. Ten to twenty minutes of one core.
"""

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.stats import poisson_conf_interval
from astropy.table import QTable, vstack
from scipy.stats import chi2

from astroclassify import batch, tables
from astroclassify._x_classes import MATCH_EXTENDED, MATCH_POINT
from astroclassify.exceptions import AstroclassifyWarning
from astroclassify.fields import inject_sources
from astroclassify.schemes import flag_names
from astroclassify.sim import simulate_field
from astroclassify.survey import detect, read_field
from astroclassify.survey.catalogues._classes import NOT_EXTENDED
from astroclassify.survey.detection._selection_runs import Grid, Places, plan_runs

POINTS = (50.0, 200.0, 1000.0)  # counts
MODELS = (100.0, 200.0, 400.0, 800.0)  # counts
CORES = (8.0, 16.0, 32.0, 64.0)  # arcsec
RINGS = (3.0, 6.0, 9.0, 12.0)  # arcmin off axis
APART = {"points": 120.0, "models": 240.0}  # arcsec between sources of one run
CLEARANCE = 16.0  # arcsec from pixels that are not exposed
REAL = 15.0  # DET_LIKE from which a candidate of the field itself is a neighbour
ALONE = 40.0  # arcsec to the nearest neighbour of a point that is alone


@dataclasses.dataclass(frozen=True)
class Target:
    """A field, and the discs (ra, dec [deg], radius [arcmin]) of it that are left out."""

    read: Callable
    avoid: tuple = ()
    wider: float = 1.0  # factor of all core radii and distances, for instruments with a wide PSF


def real_targets(data):
    """Real fields by name."""
    pn, rosat = data / "xmm" / "real", data / "rosat"
    m51 = ((202.470, 47.195, 5.5), (202.498, 47.266, 3.0))
    w49b, ngc1399 = ((287.783, 9.105, 6.0),), ((54.621, -35.451, 6.0), (54.717, -35.594, 3.0))
    a3667 = ((303.16, -56.85, 9.0),)
    return {
        "M51 20 ks": Target(lambda: read_field(pn / "M51_galaxy_20ks.fits.gz"), m51),
        "W49B 20 ks": Target(lambda: read_field(pn / "W49B_SNR_20ks.fits.gz"), w49b),
        "NGC1399 20 ks": Target(lambda: read_field(pn / "NGC1399_Fornax_20ks.fits.gz"), ngc1399),
        "A3667 20 ks": Target(lambda: read_field(pn / "A3667_20ks.fits.gz"), a3667),
        "Coma8 22 ks": Target(
            lambda: read_field(data / "xmm" / "0124710801_PN_image_500-12000.fits"), ((194.95, 27.98, 26.0),)
        ),
        "A3667 59 ks": Target(lambda: read_field(pn / "A3667_58.94ks.fits.gz"), a3667),
        "M51 68 ks": Target(lambda: read_field(pn / "M51_galaxy_68.06ks.fits.gz"), m51),
        "W49B 101 ks": Target(lambda: read_field(pn / "W49B_SNR_101.45ks.fits.gz"), w49b),
        "NGC1399 119 ks": Target(lambda: read_field(pn / "NGC1399_Fornax_119.48ks.fits.gz"), ngc1399),
        "A3158 ROSAT": Target(
            lambda: read_field(rosat / "pyproffit_b_37.fits.gz", exposure=rosat / "pyproffit_expose_mask_37.fits.gz"),
            ((55.718, -53.628, 16.0),),
            4.0,
        ),
    }


def simulated_targets():
    """Simulated fields without clusters by name, two of each exposure."""
    return {
        f"simulated {exposure} ks, {seed}": Target(
            lambda exposure=exposure, seed=seed: (
                simulate_field(exposure=exposure * u.ks, density={"cluster": 0}, rng=seed).field
            )
        )
        for exposure in (20, 60)
        for seed in (1, 2)
    }


def allowed(field, target):
    """Pixels outside the discs that are left out."""
    rows, columns = np.indices(field.shape)
    out = np.zeros(field.shape, bool)
    for ra, dec, radius in target.avoid:
        x, y = field.wcs.world_to_pixel(SkyCoord(ra * u.deg, dec * u.deg))
        out |= np.hypot(columns - x, rows - y) * field.pixel < 60 * radius
    return ~out


def search(field):
    """Candidates and seconds of processor time."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstroclassifyWarning)
        found = detect(field)
    return found, time.process_time() - start


def at(places, x, y):
    """Value of an image at positions; those off the image take its nearest pixel."""
    rows, columns = (
        np.clip(np.rint(value).astype(int), 0, n - 1) for value, n in zip((y, x), places.shape, strict=True)
    )
    return places[rows, columns]


def own_rows(name, field, target, found, seconds):
    """Candidates of the field itself, with whether they lie in the part that is used."""
    table = QTable({"field": np.full(len(found), name, dtype="U24"), "exposure": np.full(len(found), field.livetime)})
    table["ra"], table["dec"] = found["sky_position"].ra, found["sky_position"].dec
    columns = ("source_id", "x_class", "x", "y", "off_axis", "ext", "ext_err", "ext_like", "det_like", "counts")
    for column in (*columns, "filtered_counts", "best_model", "parent_id", "flags"):
        table[column] = found[column]
    table["flag_names"] = np.array([",".join(flag_names(flags)) for flags in found["flags"]], dtype="U200")
    inside = allowed(field, target)
    table["used"] = at(inside, found["x"].value, found["y"].value)
    live = inside & (field.exposure > 0) & ~field.mask
    table.meta = {"area": float(live.sum() * (field.pixel / 3600) ** 2), "seconds": round(seconds, 2)}
    return table


def runs_of(kind, field, target, n, rng):
    """Sources of each run: tables as `inject_sources` takes them."""
    wide = target.wider
    core, counts = ((0.0,), POINTS) if kind == "points" else (np.array(CORES) * wide, MODELS)
    grid = Grid(np.array(RINGS) * np.sqrt(wide), np.array(core), np.array(counts), n)
    places = Places(field, APART[kind] * wide, CLEARANCE * wide, None)
    places.free &= allowed(field, target)
    for run in plan_runs(grid, places, rng):
        off_axis, cores, counts = grid.values(run[:, 0])
        yield QTable(
            {
                "x": run[:, 1] * u.pix,
                "y": run[:, 2] * u.pix,
                "counts": counts * u.ct,
                "core_radius": cores * u.arcsec,
                "ring": off_axis * u.arcmin,
            }
        )


def one_run(name, number, field, target, own, sources, rng):
    """One row per injected source: what it is and what was found there; and candidates that are new but nothing."""
    found, seconds = search(inject_sources(field, sources, rng=rng))
    wide = target.wider
    reach = wide * np.where(sources["core_radius"] > 0, MATCH_EXTENDED, MATCH_POINT)
    distance = separations(found, sources, field.pixel)
    near = np.where(distance <= reach, distance, np.inf)
    partner = np.where(np.isfinite(near.min(axis=0)), near.argmin(axis=0), -1)
    table = sources.copy()
    table["field"], table["run"] = np.full(len(table), name, dtype="U24"), np.full(len(table), number)
    table["exposure"], table["found"] = np.full(len(table), field.livetime), partner >= 0
    for column in ("ext", "ext_err", "ext_like", "det_like", "counts"):
        values = getattr(found[column], "value", found[column])
        table[f"measured_{column}"] = np.append(np.asarray(values, float), np.nan)[partner]
    table["x_class"] = np.append(np.array([str(value) for value in found["x_class"]], "U4"), "")[partner]
    table["flags"] = np.append(np.asarray(found["flags"]), 0)[partner]
    real = own[own["det_like"] > REAL]
    table["neighbour"] = separations(real, sources, field.pixel).min(axis=0, initial=np.inf) / wide
    # Extended candidates that are neither injected nor in the field as it was.
    extended = found[np.isin(found["x_class"], ["C1", "C2"])]
    far = separations(extended, sources, field.pixel) > np.maximum(MATCH_EXTENDED * wide, sources["core_radius"].value)
    new = far.all(axis=1) & np.all(separations(extended, own, field.pixel) > MATCH_EXTENDED * wide, axis=1)
    new &= at(allowed(field, target), extended["x"].value, extended["y"].value)
    rows = own_rows(name, field, target, extended[new], seconds)
    rows["run"] = np.full(len(rows), number)
    return table, rows, seconds


def separations(candidates, sources, pixel):
    """Distance [arcsec] of each candidate (row) from each source (column)."""
    x, y = (np.subtract.outer(candidates[axis].to_value(u.pix), sources[axis].to_value(u.pix)) for axis in ("x", "y"))
    return np.hypot(x, y) * pixel


def one_field(name, target, folder, n):
    """Search a field as it is and with sources; nothing if that has been done."""
    key = name.replace(" ", "_").replace(",", "")
    paths = {what: folder / f"{key}-{what}.ecsv" for what in ("own", "points", "models", "new")}
    if all(path.is_file() for path in paths.values()):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstroclassifyWarning)
        field = target.read()
    found, seconds = search(field)
    own = own_rows(name, field, target, found, seconds)
    tables.write(own, paths["own"], overwrite=True)
    news = []
    for kind in ("points", "models"):
        rows = []
        rng = batch.derive_rng(14, kind, name)
        for number, sources in enumerate(runs_of(kind, field, target, n[kind], rng)):
            table, new, seconds = one_run(name, number, field, target, own, sources, rng)
            new["kind"] = np.full(len(new), kind)
            rows.append(table)
            news.append(new)
            print(f"{name} {kind} {number}: {len(sources)} sources, {seconds:.1f} s", flush=True)
        tables.write(vstack(rows), paths[kind], overwrite=True)
    for new in news:
        new.meta.clear()
    tables.write(vstack(news), paths["new"], overwrite=True)


# Fields that are summed up together, by how their names begin: with large structure beside the places used, or without.
GROUPS = {
    "20 ks": ("M51 20", "W49B 20"),
    "above 50 ks": ("M51 68", "W49B 101"),
    "20 ks, large structure": ("NGC1399 20", "A3667 20", "Coma8"),
    "above 50 ks, large structure": ("A3667 59", "NGC1399 119"),
    "ROSAT 3 ks": ("A3158",),
    "simulated 20 ks": ("simulated 20",),
    "simulated 60 ks": ("simulated 60",),
}
# Shares of points and the EXT_LIKE that as many exceed if it is zero in half of the cases and else chi2.
SHARES = {share: chi2.isf(2 * share, 1) for share in (0.1, 0.05, 0.01, 0.001)}


def read_rows(folder, what):
    """Stored tables of one kind, by name of the file without the ending."""
    return {path.stem: tables.read(path) for path in sorted(folder.glob(f"*-{what}.ecsv"))}


def stacked(folder, what, group):
    """Rows of the fields of a group, None if there are none."""
    found = [table for table in read_rows(folder, what).values() if str(table["field"][0]).startswith(GROUPS[group])]
    for table in found:
        table.meta.clear()
    return vstack(found) if found else None


def is_extended(rows):
    """Whether each is a C1 or a C2."""
    return np.isin(rows["x_class"], ["C1", "C2"])


def completeness(folder):
    """Beta models found as C1 / as C1 or C2 / of those put in."""
    for group in GROUPS:
        rows = stacked(folder, "models", group)
        for core in () if rows is None else np.unique(rows["core_radius"].value):
            yield {"fields": group, "core radius [arcsec]": f"{core:g}"} | {
                f"{counts:g} ct": f"{np.sum(here['x_class'] == 'C1')} / {np.sum(is_extended(here))} / {len(here)}"
                for counts in MODELS
                for here in [rows[(rows["core_radius"].value == core) & (rows["counts"].value == counts)]]
            }


def biases(folder):
    """EXT and counts over the truth of beta models found as C1 or C2 (median, its error)."""
    for group in GROUPS:
        rows = stacked(folder, "models", group)
        if rows is None:
            continue
        rows = rows[is_extended(rows) & (rows["counts"].value >= 200)]
        for core in (*np.unique(rows["core_radius"].value), None):
            here = rows if core is None else rows[rows["core_radius"].value == core]
            yield {
                "fields": group,
                "core radius [arcsec]": "all" if core is None else f"{core:g}",
                "n": len(here),
                "EXT / truth": median_of(here["measured_ext"] / here["core_radius"].value),
                "counts / truth": median_of(here["measured_counts"] / here["counts"].value),
            }


def median_of(values):
    """Median with its error as text."""
    if len(values) < 4:
        return "-"
    low, middle, high = np.percentile(values, [16, 50, 84])
    return f"{middle:.2f} +- {1.25 * (high - low) / 2 / np.sqrt(len(values)):.2f}"


def points(folder):
    """EXT_LIKE of points that lie alone, beside what is expected; extended ones among all points."""
    for group in GROUPS:
        rows = stacked(folder, "points", group)
        for counts in () if rows is None else (*POINTS, None):
            here = rows if counts is None else rows[rows["counts"].value == counts]
            found = here[here["found"]]
            alone = found[found["neighbour"] > ALONE]
            like = np.asarray(alone["measured_ext_like"])
            yield {
                "fields": group,
                "counts": "all" if counts is None else f"{counts:g}",
                "put in": len(here),
                "found": len(found),
                "alone": len(alone),
                "EXT_LIKE 0": f"{np.mean(like == 0):.2f}",
                **{f"> {limit:.2f} ({100 * share:g} %)": int(np.sum(like > limit)) for share, limit in SHARES.items()},
                "largest": f"{like.max(initial=0):.1f}",
                "C1": int(np.sum(found["x_class"] == "C1")),
                "C2": int(np.sum(found["x_class"] == "C2")),
            }


def thresholds(folder):
    """Least EXT_LIKE that no more than a share of all points exceed that could be extended (EXT > 5", no flag)."""
    barred = NOT_EXTENDED.value
    for group in GROUPS:
        rows = stacked(folder, "points", group)
        if rows is None:
            continue
        rows = rows[rows["found"]]
        could = rows[(rows["measured_ext"] > 5) & (np.asarray(rows["flags"]) & barred == 0)]
        like = np.sort(np.asarray(could["measured_ext_like"]))[::-1]
        # One-sided limit of 95 % on the share of points above the largest value seen.
        yield {
            "fields": group,
            "points": len(rows),
            "EXT > 5 arcsec": len(could),
            "1 in 100": f"{np.append(like, np.zeros(len(rows)))[len(rows) // 100]:.1f}",
            "largest": f"{like.max(initial=0):.1f}",
            "above it, per 1000 (95 %)": f"< {1000 * 3.0 / len(rows):.0f}",
        }


def own(folder):
    """Extended candidates of the fields themselves away from their targets, and their brighter points."""
    for table in read_rows(folder, "own").values():
        used = table[table["used"]]
        new = read_rows(folder, "new")
        name, area = str(table["field"][0]), table.meta["area"]
        bright = used[(used["det_like"] > 200) & ~is_extended(used)]
        wrong = np.asarray(used["counts"].value) > 5 * np.maximum(used["filtered_counts"].value, 20)
        row = {"field": name, "area [deg2]": f"{area:.3f}"}
        for what in ("C1", "C2"):
            number = int(np.sum(used["x_class"] == what))
            low, high = poisson_conf_interval(number, interval="frequentist-confidence") / area
            row[f"{what} per deg2 (68 %)"] = f"{number / area:.1f} ({low:.1f}-{high:.1f})"
        runs = [rows for rows in new.values() if len(rows) and str(rows["field"][0]) == name]
        yield row | {
            "new C1 and C2 in runs with sources": sum(len(rows) for rows in runs),
            "counts > 5 x those seen": int(wrong.sum()),
            "DET_LIKE > 200, not extended": len(bright),
            "of these EXT_LIKE > 9.55": int(np.sum(bright["ext_like"] > SHARES[0.001])),
            "of these double": int(sum("double" in text for text in bright["flag_names"])),
        }


def summarise(folder, docs):
    """Print the tables that sum up what lies in a folder, and write them as CSV to another."""
    docs.mkdir(parents=True, exist_ok=True)
    for function in (completeness, biases, points, thresholds, own):
        rows = list(function(folder))
        if not rows:
            continue
        lines = [",".join(f'"{value}"' for value in line) for line in (rows[0], *(row.values() for row in rows))]
        (docs / f"injections_{function.__name__}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"\n{function.__name__}: {function.__doc__}", *lines, sep="\n")


def main():
    parser = argparse.ArgumentParser(description="injected points and beta models in real and simulated fields")
    parser.add_argument("data", type=Path, metavar="SHARED_DATA", help="folder of the real observations")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for what is written")
    parser.add_argument("--fields", nargs="+", metavar="TEXT", help="only fields whose name begins with one of these")
    parser.add_argument("--points", type=int, default=8, help="points per field, off-axis angle and counts")
    parser.add_argument("--models", type=int, default=1, help="beta models per field, angle, core radius and counts")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="where the documentation's tables go")
    arguments = parser.parse_args()
    folder = arguments.out / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in (real_targets(arguments.data) | simulated_targets()).items():
        if arguments.fields is None or name.startswith(tuple(arguments.fields)):
            one_field(name, target, folder, {"points": arguments.points, "models": arguments.models})
    summarise(folder, arguments.docs or arguments.out)


if __name__ == "__main__":
    main()
