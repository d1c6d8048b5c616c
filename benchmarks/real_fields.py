"""
What the survey's detection does on real observations, as figures, small tables and a page of facts.

``python benchmarks/real_fields.py SHARED_DATA OUT`` searches an XMM field beside the Coma cluster, the ROSAT field of
Abell 3158 and a Chandra point source, all in ``SHARED_DATA``, and writes ``real_<name>.png`` (regions drawn),
``real_<name>.ecsv`` (main columns of the significant candidates) and ``real_<name>.txt`` (what was measured) into
``OUT``. About a minute; what is there is replaced. The pictures and texts of the documentation are made with
``OUT`` = ``docs/science/figures``.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from PIL import Image

from astroclassify.plots import plot_field
from astroclassify.schemes import Flag, flag_names
from astroclassify.survey import detect, read_catalogue, read_field

SHOWN = 15.0  # DET_LIKE of candidates in figures and tables
BRIGHT = 100.0 * u.ct  # of points whose positions are compared with their centroids
APERTURE, RING = 12.0, 32.0  # arcsec, of centroids and of the background about them
# A variable source in the Coma field found by another program in the same observation: EXOD (Pastor-Marazuela et al.
# 2020, A&A 640, A124), file example/8_100_3_1.0/ds9_variable_sources.reg of its repository, circle of 9.4 arcsec.
EXOD = SkyCoord(195.5004 * u.deg, 27.7824 * u.deg)
DIGITS = {"ra": 5, "dec": 5, "off_axis": 2, "rate": 6}
COLUMNS = ("ext", "ext_err", "ext_like", "det_like", "pnt_det_like", "counts", "counts_err", "rate", "off_axis")


def main():
    parser = argparse.ArgumentParser(description="detection on real observations: figures, tables, facts")
    parser.add_argument("data", type=Path, metavar="SHARED_DATA", help="folder of the real observations")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for what is written")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, search in (("coma8", coma8), ("a3158", a3158), ("cosmos", cosmos)):
        image, found, facts, look = search(arguments.data)
        likely = found[found["det_like"] > SHOWN]
        figure = plot_field(image, likely, **look)
        save(figure, arguments.out / f"real_{name}.png")
        small(likely).write(arguments.out / f"real_{name}.ecsv", format="ascii.ecsv", overwrite=True)
        text = "\n".join(facts) + "\n"
        (arguments.out / f"real_{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}\n{text}")


def coma8(data):
    """XMM EPIC pn; the gas of Coma fills one side."""
    field = read_field(data / "xmm" / "0124710801_PN_image_500-12000.fits")
    found = detect(field, max_off_axis=13 * u.arcmin)
    known = read_catalogue(data / "catalogues" / "mcxc.fits")
    coma = known["sky_position"][[str(name) for name in known["source_id"]].index("J1259.7+2756")]
    facts = summary(field, found)
    nearest = found[np.argmin(found["sky_position"].separation(EXOD))]
    facts.append(
        f"variable source of EXOD: {arcsec(nearest['sky_position'], EXOD):.1f} arcsec from candidate "
        f"{nearest['source_id']}, {described(nearest)}"
    )
    points = found[(found["x_class"] == "P1") & (found["counts"] > BRIGHT) & (found["best_model"] == "PNT")]
    offsets = [centroid_offset(field, row) for row in points]
    facts.append(
        f"{len(points)} points of {BRIGHT.value:g} counts or more, fit and centroid of the counts within {APERTURE:g} "
        f"arcsec apart: median {np.median(offsets):.1f}, largest {max(offsets):.1f} arcsec"
    )
    # Towards Coma and away from it, as seen from the optical axis.
    angle = field.axis.position_angle(found["sky_position"]) - field.axis.position_angle(coma)
    near = np.cos(angle) > 0
    facts.append(f"Coma (MCXC J1259.7+2756): {field.axis.separation(coma).to_value(u.arcmin):.1f} arcmin off axis")
    for what, half in (("towards Coma", near), ("away from it", ~near)):
        facts.append(f"{what}: {classes(found[half])}")
    extended = found[np.isin(found["x_class"], ["C1", "C2"])]
    bound = np.array([str(text).startswith("EXT is at") for text in extended["message"]])
    facts.append(f"of C1 and C2 {bound.sum()} of {len(extended)} have EXT at its upper bound")
    return field, found, facts, {"smooth": 5 * u.arcsec, "stretch": "sqrt"}


def a3158(data):
    """ROSAT PSPC; a cluster with its exposure map. The background map beside it has the particles alone: not used."""
    folder = data / "rosat"
    field = read_field(folder / "pyproffit_b_37.fits.gz", exposure=folder / "pyproffit_expose_mask_37.fits.gz")
    found = detect(field, max_off_axis=20 * u.arcmin)
    known = read_catalogue(data / "catalogues" / "mcxc.fits")
    cluster = known[np.argmin(known["sky_position"].separation(field.axis))]
    best = found[np.argmax(found["det_like"])]
    half = field.psf.radius(0.5, float(best["off_axis"].to_value(u.arcmin)))
    facts = summary(field, found)
    facts.append(f"most significant: {described(best)}")
    facts.append(
        f"    {arcsec(best['sky_position'], cluster['sky_position']):.0f} arcsec from MCXC {cluster['source_id']} "
        f"(position error of the fit {best['pos_err'].to_value(u.arcsec):.0f} arcsec)"
    )
    facts.append(
        f"    EXT is {best['ext'].to_value(u.arcsec) / half:.1f} half-energy radii of the PSF ({half:.0f} arcsec)"
    )
    for row in found[np.isin(found["x_class"], ["C1", "C2"]) & (found["source_id"] != best["source_id"])]:
        away = arcsec(row["sky_position"], best["sky_position"]) / 60
        facts.append(f"also {away:.1f} arcmin from it: {described(row)}")
    middle = tuple(slice(side // 2 - 100, side // 2 + 100) for side in field.shape)
    return field.to_ccd()[middle], found, facts, {"smooth": 20 * u.arcsec}


def cosmos(data):
    """Chandra ACIS; the image that the Chandra Source Catalog keeps of a point source, cut out around it."""
    (path,) = (data / "chandra").glob("sherpatest_acisf07999_*_srcimg.fits")
    field = read_field(path)
    found = detect(field)
    best = found[np.argmax(found["det_like"])]
    ny, nx = field.shape
    middle = field.wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2)
    half = field.psf.radius(0.5, float(best["off_axis"].to_value(u.arcmin)))
    facts = summary(field, found)
    facts.append(f"most significant: {described(best)}")
    away = arcsec(best["sky_position"], middle)
    facts.append(f"    {away:.1f} arcsec from the middle of the image; half-energy radius of the PSF {half:.1f} arcsec")
    square = field.to_ccd()[(ny - nx) // 2 : (ny + nx) // 2]
    return square, found, facts, {"smooth": 2 * u.arcsec, "stretch": "linear"}


def summary(field, found):
    """Facts about any field."""
    angle = found["off_axis"].to_value(u.arcmin).max(initial=0)
    edge = [sum((int(flags) & flag.value) > 0 for flags in found["flags"]) for flag in (Flag.MASKED, Flag.OFF_EDGE)]
    return [
        f"{field!r}, flags: {', '.join(flag_names(field.flags)) or 'none'}",
        f"{len(found)} candidates, up to {angle:.0f} arcmin off axis: {classes(found)}",
        f"candidates flagged masked: {edge[0]}, off_edge: {edge[1]}",
    ]


def classes(found):
    """Numbers of candidates by class."""
    names = np.array([str(name) for name in np.ma.filled(found["x_class"], "")], dtype="U2")
    likely = np.sum((names == "") & (found["det_like"] > SHOWN))
    numbers = ", ".join(f"{np.sum(names == name)} {name}" for name in ("C1", "C2", "P1"))
    return f"{numbers}, {likely} of no class with DET_LIKE > {SHOWN:g}"


def described(row):
    """A candidate in a few words."""
    values = {name: getattr(row[name], "value", row[name]) for name in ("ext", "ext_err", "counts")}
    name = str(row["x_class"]) or "no class"
    bound = ", at its upper bound" if str(row["message"]).startswith("EXT is at") else ""
    return (
        f"{name}, EXT {values['ext']:.1f} +- {values['ext_err']:.1f} arcsec{bound}, EXT_LIKE {row['ext_like']:.1f}, "
        f"DET_LIKE {row['det_like']:.1f}, {values['counts']:.0f} counts"
    )


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


def small(found):
    """Main columns with few digits, the most significant first."""
    table = QTable({"source_id": found["source_id"]})
    table["ra"], table["dec"] = found["sky_position"].ra, found["sky_position"].dec
    for name in (*COLUMNS, "x_class", "best_model", "flags"):
        table[name] = found[name]
    for name in ("ra", "dec", *COLUMNS):
        table[name] = np.round(table[name], DIGITS.get(name, 1))
    table["flags"] = [",".join(flag_names(flags)) for flags in found["flags"]]
    return table[np.argsort(-found["det_like"])]


def save(figure, path):
    """Write a figure with 256 colours: small files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    Image.open(buffer).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
