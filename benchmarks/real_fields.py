"""
What the survey's detection does on real observations: one table of all fields, some figures, and single facts.

``python benchmarks/real_fields.py SHARED_DATA OUT`` reads and searches every field of ``SHARED_DATA`` that shows the
sky as a survey sees it, with the options that ``astroclassify detect`` has by default but for the limit of the off-axis
angle, each in a process of its own, and writes into ``OUT``

- ``real_fields.csv``: for each field the known clusters on it, what was found, where the counts went, and what it took;
- ``real_extended.csv``: all C1 and C2;
- ``real_<name>.png``: some fields with their candidates;
- ``real_<name>.txt``: what else was measured.

Run it with OMP_NUM_THREADS=1: processor times are those of all threads. What is there is replaced. What the
documentation shows is made with ``OUT`` = ``docs/science/measured``. Some minutes.
"""

import argparse
import csv
import io
import multiprocessing
import resource
import time
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.cosmology import FlatLambdaCDM
from PIL import Image

from astroclassify.plots import plot_field
from astroclassify.schemes import Flag, flag_names
from astroclassify.sim import simulate_field
from astroclassify.survey import detect, read_catalogue, read_field

SHOWN = 15.0  # DET_LIKE from which candidates are neighbours to others, and counted here
BRIGHT = 100.0 * u.ct  # of points whose positions are compared with their centroids
APERTURE, RING = 12.0, 32.0  # arcsec, of centroids and of the background about them
COSMOLOGY = FlatLambdaCDM(70, 0.3)  # of the radii in MCXC
# Targets that are no clusters: name, position, radius [arcmin] (RC3; Green's catalogue of supernova remnants).
TARGETS = {
    "M51": (SkyCoord("13h29m52.7s +47d11m43s"), 5.6),
    "W49B": (SkyCoord("19h11m08s +09d06m00s"), 2.0),
    "RCW103": (SkyCoord("16h17m33s -51d02m00s"), 5.0),
}
# A variable source in the Coma field found by another program in the same observation: EXOD (Pastor-Marazuela et al.
# 2020, A&A 640, A124), file example/8_100_3_1.0/ds9_variable_sources.reg of its repository, circle of 9.4 arcsec.
EXOD = SkyCoord(195.5004 * u.deg, 27.7824 * u.deg)
FIGURES = {
    "Coma8": {"smooth": 5 * u.arcsec, "stretch": "sqrt"},
    "A3158": {"smooth": 20 * u.arcsec},
    "A3667, 59 ks": {"smooth": 6 * u.arcsec},
    "NGC1399, 119 ks": {"smooth": 6 * u.arcsec},
    "M51, 68 ks": {"smooth": 4 * u.arcsec},
}


def main():
    parser = argparse.ArgumentParser(description="detection on real observations: table, figures, facts")
    parser.add_argument("data", type=Path, metavar="SHARED_DATA", help="folder of the real observations")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for what is written")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="first letters of the fields that are searched")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, extended = [], []
    context = multiprocessing.get_context("spawn")
    for name, options in fields(arguments.data).items():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        with context.Pool(1) as pool:
            row, more = pool.apply(search, (name, options, arguments.data, arguments.out))
        print(*(f"{key}: {value}" for key, value in row.items()), sep=", ", flush=True)
        rows.append(row)
        extended += more
    write_rows(arguments.out / "real_fields.csv", rows)
    write_rows(arguments.out / "real_extended.csv", extended)


def fields(data):
    """Arguments of `read_field` by name of the field."""
    rosat, xmm = data / "rosat", data / "xmm"
    image, exposure, background = (rosat / f"pyproffit_{name}_37.fits.gz" for name in ("b", "expose_mask", "back"))
    maps = {
        "Coma8": {"image": xmm / "0124710801_PN_image_500-12000.fits"},
        "A3158": {"image": image, "exposure": exposure},
        "A3158, background map": {"image": image, "exposure": exposure, "background": background},
        "A3158, no maps": {"image": image, "exposure": 3 * u.ks},  # a number, for the header has no time
    }
    for path in sorted((xmm / "real").glob("*ks.fits.gz"), key=lambda path: (path.name.split("_")[0], exposure_of(path))):
        maps[f"{path.name.split('_')[0]}, {exposure_of(path):.0f} ks"] = {"image": path}
    return maps


def exposure_of(path):
    """Exposure in the name of a file [ks]."""
    return float(path.name.split("_")[-1].removesuffix("ks.fits.gz"))


def search(name, options, data, out):
    """Row of the table of fields, and rows of C1 and C2; files for those fields of which there are any."""
    detect(simulate_field(rng=1, shape=(96, 96)).field)  # loads what is compiled
    options = dict(options)
    image = options.pop("image")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        start = time.process_time()
        field = read_field(image, **options)
        middle = time.process_time()
        found = detect(field)
        end = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    likely = found[found["det_like"] > SHOWN]
    targets = known_objects(field, name, data)
    taken = matched(found, targets)
    kinds = {each: found[found["x_class"] == each] for each in ("C1", "C2", "P1")}
    used = (field.exposure > 0) & ~field.mask
    total = field.counts[used].sum()
    seen = field.exposure[np.round(likely["y"].value).astype(int).clip(0, field.shape[0] - 1),
                          np.round(likely["x"].value).astype(int).clip(0, field.shape[1] - 1)] > 0  # fmt: skip
    row = {
        "field": name,
        "known": ", ".join(targets) or "none",
        "candidates": len(likely),
        **{each: len(kind) for each, kind in kinds.items()},
        "C1 that are no known object": len(kinds["C1"]) - len(taken),
        "sources / image": f"{likely['counts'][seen].value.sum() / total:.2f}",
        "background / image": f"{field.background[used].sum() / total:.2f}",
        "read [s]": f"{middle - start:.1f}",
        "detect [s]": f"{end - middle:.1f}",
        "memory [GB]": f"{memory:.2f}",
    }
    facts = summary(field, found, said)
    if name == "Coma8":
        facts += coma8(field, found)
    if name.startswith("A3158"):
        facts += a3158(field, found, data)
    short = name.split(",")[0].lower()
    if name in FIGURES:
        save(plot_field(cut_out(field, name), likely, **FIGURES[name]), out / f"real_{short}.png")
        (out / f"real_{short}.txt").write_text("\n".join(facts) + "\n", encoding="utf-8")
    print(name, *facts, sep="\n    ", flush=True)
    return row, [described(name, each, taken.get(each["source_id"], "")) for kind in ("C1", "C2") for each in kinds[kind]]


def known_objects(field, name, data):
    """Known clusters, and the target if it is none: name -> (position, radius [arcmin]), those nearer to the middle of
    the image first. The radius is R500; clusters count whose middle is not farther than that from exposed pixels."""
    known = read_catalogue(data / "catalogues" / "mcxc.fits")
    known = known[known["sky_position"].separation(field.axis) < 1 * u.deg]
    objects = {}
    for row in known[np.argsort(known["sky_position"].separation(field.axis))]:
        angle = COSMOLOGY.kpc_proper_per_arcmin(row["redshift"]).to_value(u.Mpc / u.arcmin)
        radius = float(u.Quantity(row["R500"], u.Mpc).value) / angle
        if distance_to_field(field, row["sky_position"]) < radius:
            objects[f"MCXC {row['source_id']}"] = row["sky_position"], radius
    for target, place in TARGETS.items():
        if name.startswith(target):
            objects[target] = place
    return objects


def distance_to_field(field, position):
    """Distance of a position from the nearest exposed pixel [arcmin]."""
    x, y = field.wcs.world_to_pixel(position)
    rows, columns = np.nonzero((field.exposure > 0) & ~field.mask)
    return float(np.hypot(rows - y, columns - x).min() * field.pixel / 60)


def matched(found, targets):
    """``source_id`` of C1 -> the known object: of each the C1 of most counts within its radius."""
    taken = {}
    for name, (position, radius) in targets.items():
        near = (found["x_class"] == "C1") & (found["sky_position"].separation(position) < radius * u.arcmin)
        near &= ~np.isin(found["source_id"], list(taken))
        if near.any():
            taken[found["source_id"][near][np.argmax(found["counts"][near])]] = name
    return taken


def cut_out(field, name):
    """The image of a field, or its middle where the rest is empty."""
    image = field.to_ccd()
    if not name.startswith("A3158"):
        return image
    return image[tuple(slice(side // 2 - 100, side // 2 + 100) for side in field.shape)]


def summary(field, found, said):
    """Facts about any field."""
    angle = found["off_axis"].to_value(u.arcmin).max(initial=0)
    names = [name for flags in found["flags"] for name in flag_names(int(flags) & ~int(field.flags))]
    numbers = ", ".join(f"{name} {names.count(name)}" for name in dict.fromkeys(names))
    scale = {key: round(float(field.meta[key]), 3) for key in ("BKGSCALE", "BKGADDED") if key in field.meta}
    lines = [
        f"{field!r}",
        f"flags of the field: {', '.join(flag_names(field.flags)) or 'none'}",
        f"error of the background {100 * field.background_error:.1f} %{''.join(f', {k} = {v}' for k, v in scale.items())}",
        f"{len(found)} candidates, up to {angle:.0f} arcmin off axis, {np.sum(found['det_like'] > SHOWN)} with DET_LIKE > "
        f"{SHOWN:g}",
        f"of their own they are flagged: {numbers or 'none'}",
    ]
    return lines + [f"{each.category.__name__}: {each.message}" for each in said]


def coma8(field, found):
    """Positions of points, beside another program's and their centroids."""
    nearest = found[np.argmin(found["sky_position"].separation(EXOD))]
    points = found[(found["x_class"] == "P1") & (found["counts"] > BRIGHT) & (found["best_model"] == "PNT")]
    offsets = [centroid_offset(field, row) for row in points]
    return [
        f"variable source of EXOD: {arcsec(nearest['sky_position'], EXOD):.1f} arcsec from candidate "
        f"{nearest['source_id']}, {nearest['x_class']} of {nearest['counts'].value:.0f} counts",
        f"{len(points)} points of {BRIGHT.value:g} counts or more, fit and centroid of the counts within {APERTURE:g} "
        f"arcsec apart: median {np.median(offsets):.1f}, largest {max(offsets):.1f} arcsec",
    ]


def a3158(field, found, data):
    """The cluster beside its entry in MCXC."""
    known = read_catalogue(data / "catalogues" / "mcxc.fits")
    cluster = known[np.argmin(known["sky_position"].separation(field.axis))]
    best = found[np.argmax(found["det_like"])]
    half = field.psf.radius(0.5, float(best["off_axis"].to_value(u.arcmin)))
    return [
        f"most significant: {best['x_class']}, EXT {best['ext'].value:.0f} +- {best['ext_err'].value:.0f} arcsec "
        f"({best['ext'].value / half:.1f} half-energy radii of the PSF), {best['counts'].value:.0f} counts",
        f"    {arcsec(best['sky_position'], cluster['sky_position']):.0f} arcsec from MCXC {cluster['source_id']} "
        f"(position error of the fit {best['pos_err'].to_value(u.arcsec):.0f} arcsec)",
    ]


def described(field, row, known):
    """Row of the table of C1 and C2."""
    shown = Flag.OFF_EDGE | Flag.MASKED | Flag.DOUBLE | Flag.AT_BOUND | Flag.EXTRAPOLATED | Flag.LARGE_STRUCTURE
    return {
        "field": field,
        "class": row["x_class"],
        "known as": known,
        "off axis [arcmin]": f"{row['off_axis'].value:.1f}",
        "EXT [arcsec]": f"{row['ext'].value:.1f}",
        "EXT_LIKE": f"{row['ext_like']:.0f}",
        "counts": f"{row['counts'].value:.0f}",
        "lies on": row["parent_id"],
        "flags": ", ".join(flag_names(int(row["flags"]) & int(shown))),
    }


def arcsec(one, other):
    """Separation as a number."""
    return float(one.separation(other).to_value(u.arcsec))


def centroid_offset(field, row):
    """Arcsec between a fitted position and the centroid of the counts there, less the mean of a ring."""
    start = np.array([row["x"].to_value(u.pix), row["y"].to_value(u.pix)])
    x, y = np.round(start).astype(int)
    reach = int(2 * RING / field.pixel)
    part = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
    rows, columns = (places[part] for places in np.indices(field.shape))
    counts, usable = field.counts[part], ~field.mask[part]
    place = start
    for _ in range(10):
        radius = np.hypot(columns - place[0], rows - place[1]) * field.pixel
        inside, ring = radius < APERTURE, (radius > APERTURE) & (radius < RING) & usable
        weights = counts[inside] - counts[ring].mean()
        place = np.array([np.sum(weights * places[inside]) / weights.sum() for places in (columns, rows)])
    return float(np.hypot(*(start - place)) * field.pixel)


def write_rows(path, rows):
    """Write dicts of the same keys as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def save(figure, path):
    """Write a figure with 256 colours: small files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90)
    Image.open(buffer).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
