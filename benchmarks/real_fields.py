"""
What the survey's detection does on real observations: one table of all fields, some figures, and single facts.

``python benchmarks/real_fields.py SHARED_DATA OUT`` reads and searches every field of ``SHARED_DATA`` that shows the
sky as a survey sees it, with the options that ``astroclassify detect`` has by default but for the limit of the off-axis
angle, each in a process of its own, and writes into ``OUT``

- ``real_fields.csv``: for each field what was found, where the counts went, how many classes and likelihoods change
  when the fits begin 0.02 pixels away, and what it took;
- ``real_known.csv``: what was found of these clusters and of other targets;
- ``real_<name>.png``: some fields with their candidates;
- ``real_<name>.txt``: what else was measured.

Run it with OMP_NUM_THREADS=1: processor times are those of all threads. What is there is replaced. The documentation
shows what is written with ``OUT`` = ``docs/science/measured``. Four minutes.
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
from astropy.io import fits
from PIL import Image

from astroclassify.plots import plot_field
from astroclassify.schemes import Flag, flag_names
from astroclassify.sim import simulate_field
from astroclassify.survey import classify_extent, detect, find_sources, fit_extent, read_catalogue, read_field

SHOWN = 15.0  # DET_LIKE from which candidates are neighbours to others, and counted here
JITTER = 0.02  # pixels by which start positions are moved
MOVED = 0.5, 1e-3  # change of a likelihood that counts: more than this, and more than this share of it
BRIGHT = 100.0 * u.ct  # of points whose positions are compared with their centroids
APERTURE, RING = 12.0, 32.0  # arcsec, of centroids and of the background about them
COSMOLOGY = FlatLambdaCDM(70, 0.3)  # of the radii in MCXC
# Galaxies and supernova remnants: name of the field -> name, position, radius [arcmin] (RC3; Green's catalogue).
TARGETS = {
    "NGC1399": {"NGC 1404": (SkyCoord("03h38m51.9s -35d35m40s"), 1.7)},
    "M51": {
        "NGC 5195": (SkyCoord("13h29m59.6s +47d15m58s"), 2.9),
        "NGC 5194": (SkyCoord("13h29m52.7s +47d11m43s"), 5.6),
    },
    "W49B": {"W49B": (SkyCoord("19h11m08s +09d06m00s"), 2.0)},
    "RCW103": {"RCW 103": (SkyCoord("16h17m33s -51d02m00s"), 5.0)},
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
    rows, objects = [], []
    context = multiprocessing.get_context("spawn")
    for name, options in fields(arguments.data).items():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        with context.Pool(1) as pool:
            row, more = pool.apply(search, (name, options, arguments.data, arguments.out))
        print(*(f"{key}: {value}" for key, value in row.items()), sep=", ", flush=True)
        rows.append(row)
        objects += more
    write_rows(arguments.out / "real_fields.csv", rows)
    write_rows(arguments.out / "real_known.csv", objects)


def fields(data):
    """Arguments of `read_field` by name of the field."""
    rosat, xmm = data / "rosat", data / "xmm"
    image, exposure, background = (rosat / f"pyproffit_{name}_37.fits.gz" for name in ("b", "expose_mask", "back"))
    timed = fits.PrimaryHDU(fits.getdata(image), fits.getheader(image))
    timed.header["EXPOSURE"] = float(fits.getdata(exposure).max())  # which the file does not say
    maps = {
        "Coma8": {"image": xmm / "0124710801_PN_image_500-12000.fits"},
        "A3158": {"image": image, "exposure": exposure},
        "A3158, also background map": {"image": image, "exposure": exposure, "background": background},
        "A3158, no map": {"image": timed},
    }
    images = (xmm / "real").glob("*ks.fits.gz")
    for path in sorted(images, key=lambda path: (path.name.split("_")[0], exposure_of(path))):
        maps[f"{path.name.split('_')[0]}, {exposure_of(path):.0f} ks"] = {"image": path}
    return maps


def exposure_of(path):
    """Exposure in the name of a file [ks]."""
    return float(path.name.split("_")[-1].removesuffix("ks.fits.gz"))


def search(name, options, data, out):
    """Row of the table of fields, and rows of known objects; files for those fields of which there are any."""
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
    changed, moved = jitter(field, found)
    used = (field.exposure > 0) & ~field.mask
    total = field.counts[used].sum()
    shares = likely["counts"].value.sum() / total, field.background[used].sum() / total
    row = {
        "field": name,
        "candidates": len(likely),
        **{each: np.sum(found["x_class"] == each) for each in ("C1", "C2", "P1")},
        "C1, none known": np.sum((found["x_class"] == "C1") & ~np.isin(found["source_id"], list(taken.values()))),
        "sources": f"{shares[0]:.2f}",
        "background": f"{shares[1]:.2f}",
        "sum": f"{sum(shares):.2f}",
        "classes changed": changed,
        "likelihoods": moved,
        "read [s]": f"{middle - start:.1f}",
        "detect [s]": f"{end - middle:.1f}",
        "memory [GB]": f"{memory:.2f}",
    }
    facts = summary(field, found, said)
    if name == "Coma8":
        facts += coma8(field, found)
    if name.startswith("A3158"):
        facts += a3158(field, found, data)
    if name in FIGURES:
        short = name.split(",")[0].lower()
        save(plot_field(cut_out(field, name), likely, **FIGURES[name]), out / f"real_{short}.png")
        (out / f"real_{short}.txt").write_text("\n".join(facts) + "\n", encoding="utf-8")
    print(name, *facts, sep="\n    ", flush=True)
    return row, [described(name, each, place, found, taken.get(each)) for each, (place, _) in targets.items()]


def jitter(field, found):
    """Numbers of classes and of likelihoods that change when the fits begin at places moved a little."""
    sources = find_sources(field)
    steps = np.random.default_rng(1).normal(0, JITTER, (2, len(sources)))
    x, y = (sources[name].to_value(u.pix) + step for name, step in zip(("x", "y"), steps, strict=True))
    sources["sky_position"] = field.wcs.pixel_to_world(x, y)
    other = fit_extent(field, sources)
    change = np.zeros(len(found), bool)
    for name in ("ext_like", "det_like"):
        before, after = (np.nan_to_num(np.asarray(table[name], float)) for table in (found, other))
        change |= np.abs(after - before) > np.maximum(MOVED[0], MOVED[1] * before)
    return int(np.sum(classify_extent(other) != np.asarray(found["x_class"]))), int(change.sum())


def known_objects(field, name, data):
    """Known objects, name -> (position, radius [arcmin]): targets, then clusters, those nearer to the axis first. The
    radius of a cluster is R500; it counts if its middle is not farther than that from exposed pixels."""
    known = read_catalogue(data / "catalogues" / "mcxc.fits")
    known = known[known["sky_position"].separation(field.axis) < 1 * u.deg]
    objects = {}
    for row in known[np.argsort(known["sky_position"].separation(field.axis))]:
        angle = COSMOLOGY.kpc_proper_per_arcmin(row["redshift"]).to_value(u.Mpc / u.arcmin)
        radius = float(u.Quantity(row["R500"], u.Mpc).value) / angle
        if distance_to_field(field, row["sky_position"]) < radius:
            objects[f"MCXC {row['source_id']}"] = row["sky_position"], radius
    return TARGETS.get(name.split(",")[0], {}) | objects


def distance_to_field(field, position):
    """Distance of a position from the nearest exposed pixel [arcmin]."""
    x, y = field.wcs.world_to_pixel(position)
    rows, columns = np.nonzero((field.exposure > 0) & ~field.mask)
    return float(np.hypot(rows - y, columns - x).min() * field.pixel / 60)


def matched(found, targets):
    """Name of the known object -> ``source_id``: of what lies within its radius and is C1 or large structure that of
    most counts."""
    taken = {}
    large = (found["x_class"] == "C1") | np.isin(found["source_id"], found["parent_id"])
    for name, (position, radius) in targets.items():
        near = large & (found["sky_position"].separation(position) < radius * u.arcmin)
        near &= ~np.isin(found["source_id"], list(taken.values()))
        if near.any():
            taken[name] = found["source_id"][near][np.argmax(found["counts"][near])]
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
    scale = [f", {key} = {field.meta[key]:.3f}" for key in ("BKGSCALE", "BKGADDED") if key in field.meta]
    likely = np.sum(found["det_like"] > SHOWN)
    lines = [
        f"{field!r}",
        f"flags of the field: {', '.join(flag_names(field.flags)) or 'none'}",
        f"error of the background {100 * field.background_error:.1f} %{''.join(scale)}",
        f"{len(found)} candidates, up to {angle:.0f} arcmin off axis, {likely} with DET_LIKE > {SHOWN:g}",
        f"of their own they are flagged: {numbers or 'none'}",
    ]
    return lines + [f"{each.category.__name__}: {each.message}" for each in said]


def coma8(field, found):
    """Positions of points, beside another program's and their centroids."""
    nearest = found[np.argmin(found["sky_position"].separation(EXOD))]
    points = found[(found["x_class"] == "P1") & (found["counts"] > BRIGHT) & (found["best_model"] == "PNT")]
    points = points[(points["flags"] & Flag.MASKED.value) == 0]  # gaps move a centroid
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


def described(field, name, position, found, source_id):
    """Row of the table of known objects."""
    row = {"field": field, "object": name}
    columns = ("class", "away [arcsec]", "EXT [arcsec]", "EXT_LIKE", "counts", "flags")
    if source_id is None:
        return row | dict.fromkeys(columns, "")
    source = found[found["source_id"] == source_id][0]
    shown = Flag.OFF_EDGE | Flag.AT_BOUND | Flag.EXTRAPOLATED | Flag.LARGE_STRUCTURE
    values = (
        source["x_class"] or "none",
        f"{arcsec(source['sky_position'], position):.0f}",
        f"{source['ext'].value:.1f} ± {source['ext_err'].value:.1f}",
        f"{source['ext_like']:.0f}",
        f"{source['counts'].value:.0f}",
        ", ".join(flag_names(int(source["flags"]) & int(shown))),
    )
    return row | dict(zip(columns, values, strict=True))


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
