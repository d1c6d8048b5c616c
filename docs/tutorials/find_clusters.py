"""From an XMM image to a list of clusters, for the tutorial page. Run it in an empty folder: it writes files there."""

import contextlib
import io
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from PIL import Image
from scipy.ndimage import gaussian_filter

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.exceptions import AstroclassifyError
from astroclassify.images import Cutout, write_image
from astroclassify.nn import confusion, load_classifier
from astroclassify.plots import plot_extent_plane, plot_field
from astroclassify.samples import to_binary
from astroclassify.schemes import flag_names
from astroclassify.sim import label_candidates, simulate_field
from astroclassify.survey import (
    LocalOptical,
    annotate,
    cross_match,
    detect,
    extract_cutouts,
    read_catalogue,
    read_field,
    select,
    write_regions,
)

REPORT = {}  # name of a text file -> its lines
FORMATS = {"ext": ".1f", "ext_err": ".1f", "ext_like": ".1f", "det_like": ".1f", "counts": ".0f", "off_axis": ".1f"}
FORMATS |= {"p_cluster": ".3f", "separation": ".1f", "z": ".2f", "true_redshift": ".2f", "true_counts": ".0f"}


def note(name, *lines):
    """Keep lines for a text file of the page."""
    REPORT.setdefault(name, []).extend(line.rstrip() for text in lines for line in str(text).splitlines() or [""])


def shown(table, names):
    """Lines of some columns of a table, with few digits."""
    table = table[names]  # a copy
    for name in set(names) & set(FORMATS):
        table[name].info.format = FORMATS[name]
    return table.pformat(max_lines=-1, max_width=-1)


def save(figure, name, dpi=100):
    """Write a figure with 256 colours: small files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    picture = Image.open(buffer).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
    picture.save(name, optimize=True)


# --- Make a field ---------------------------------------------------------------------------------------------------
# A stand-in for your files. Clusters and nearby galaxies are 15 times as dense as on the sky, to have enough of them.
density = {"cluster": 15, "galaxy": 15, "bright": 0}
simulated = simulate_field(rng=5, exposure=10 * u.ks, density=density, optical=True)
truth = simulated.truth

image = simulated.field.to_ccd()
header = image.wcs.to_header()
header["TELESCOP"], header["INSTRUME"], header["SUBMODE"] = "XMM", "EPN", "PrimeFullWindow"
header["EXPOSURE"] = 10_000.0  # s
header["DSTYP1"], header["DSVAL1"] = "PI", "500:2000"  # eV
for key in ("RA_PNT", "DEC_PNT", "PA_PNT"):
    header[key] = image.meta[key]
fits.PrimaryHDU(image.data.astype(np.int32), header).writeto("field.fits")
fits.PrimaryHDU(image.exposure.astype(np.float32), image.wcs.to_header()).writeto("exposure.fits")
write_image(simulated.plate, "plate.fits")

# And for a catalogue of clusters that others have found: the brighter ones, and one that is none.
rng = np.random.default_rng(1)
bright = (truth["kind"] == "cluster") & (truth["flux"] > 3e-14 * u.erg / u.s / u.cm**2)
bright &= (truth["off_axis"] < 12.5 * u.arcmin) & (truth["flags"] == 0)
sky = truth["sky_position"][bright].directional_offset_by(rng.uniform(0, 360, bright.sum()) * u.deg, 8 * u.arcsec)
sky = SkyCoord([*sky, simulated.field.axis.directional_offset_by(200 * u.deg, 5.5 * u.arcmin)])
Table(
    {
        "Name": [f"KC {number + 1:02d}" for number in range(len(sky))],
        "RAJ2000": sky.ra,
        "DEJ2000": sky.dec,
        "z": [*truth["redshift"][bright].round(2), 0.3],
    }
).write("known.fits")

# --- Read -----------------------------------------------------------------------------------------------------------
field = read_field("field.fits", exposure="exposure.fits")
print(field, field.energy_range, flag_names(field.flags))

bare = read_field("field.fits")  # if you have no exposure map
print(bare, flag_names(bare.flags))
# --- end

for name, each in (("with the exposure map", field), ("without", bare)):
    note("clusters_field.txt", f"{name}:", f"    {each}", f"    {each.energy_range}, flags: {flag_names(each.flags)}")
both = (field.exposure > 0) & (bare.exposure > 0)
ratio = np.median(bare.exposure[both] / field.exposure[both])
area = bare.exposure.astype(bool).sum() / field.exposure.astype(bool).sum()
note("clusters_field.txt", f"    estimated exposure / map: {ratio:.3f} (median), {area:.3f} times as many pixels")

# --- Detect ---------------------------------------------------------------------------------------------------------
candidates = detect(field, max_off_axis=13 * u.arcmin)
tables.write(candidates, "candidates.ecsv")
# --- end

columns = ["source_id", "ext", "ext_err", "ext_like", "det_like", "counts", "off_axis", "x_class", "best_model"]
note("clusters_candidates.txt", *shown(candidates[:12], columns), "...", f"{len(candidates)} candidates")
for name, what in (("C1", "C1"), ("C2", "C2"), ("P1", "P1"), ("", "no class")):
    likely = candidates[candidates["x_class"] == name]["det_like"] > 30
    note("clusters_candidates.txt", f"{what:>8s}: {len(likely):3d}, {likely.sum():3d} of them with DET_LIKE > 30")

# --- Look -----------------------------------------------------------------------------------------------------------
figure = plot_field(field, candidates[candidates["det_like"] > 15])
write_regions(candidates, "candidates.reg")
# --- end

save(figure, "clusters_field.png")
note("clusters_regions.txt", *Path("candidates.reg").read_text().splitlines()[:5], "...")

# --- Select ---------------------------------------------------------------------------------------------------------
extended = select(candidates, ["C1", "C2"])
plates = LocalOptical("plate.fits")  # a file, several, or a folder
sample = extract_cutouts(extended, field, optical=plates, out="cutouts", progress=False)
# --- end

note("clusters_sample.txt", f"{len(sample)} of {len(candidates)} candidates", "")
flagged = QTable({"source_id": sample["source_id"], "path": sample["path"]})
flagged["flags"] = [", ".join(flag_names(flags)) for flags in sample["flags"]]
note("clusters_sample.txt", *flagged[:5].pformat(max_width=-1, align="<"), "...")

# --- Classify -------------------------------------------------------------------------------------------------------
classifier = load_classifier("cluster-xmm")
five = classifier.classify("cutouts")  # cluster below or beyond a redshift of 0.3, galaxy, point, other
predictions = to_binary(five)
clusters = annotate(extended, predictions)
# --- end

# --- Known ----------------------------------------------------------------------------------------------------------
known = read_catalogue("known.fits")
pairs = cross_match(clusters, known, radius=30 * u.arcsec)
mine, both = pairs["row"] >= 0, (pairs["row"] >= 0) & (pairs["row_other"] >= 0)
clusters["known_as"] = pairs["source_id_other"][mine]  # the first pairs are the candidates, in their order
clusters["separation"] = pairs["separation"][mine]
clusters["redshift"] = np.full(len(clusters), np.nan)
clusters["redshift"][pairs["row"][both]] = known["z"][pairs["row_other"][both]]
missed = known[pairs["row_other"][~mine]]
clusters.sort("p_cluster", reverse=True)
tables.write(clusters, "clusters.ecsv")
# --- end

columns = ["source_id", "ext", "ext_like", "counts", "x_class", "label_pred", "p_cluster"]
note("clusters_table.txt", *shown(clusters, [*columns, "known_as", "separation", "redshift"]))
doubts = sorted({name for flags in clusters["flags"] for name in flag_names(flags)})
note("clusters_table.txt", "", f"flags in the table: {', '.join(doubts)}")
note("clusters_table.txt", f"known, but not in the table: {', '.join(missed['source_id']) or 'none'}")


def draw(axes, row):
    """X-ray image and plate of a candidate, with its probability and its truth."""
    bands = Cutout.read(f"cutouts/images/{row['source_id']}.fits").bands
    counts, plate = (np.where(bands[name].mask, np.nan, bands[name].data) for name in ("xray", "optical"))
    smooth = gaussian_filter(np.nan_to_num(counts), 6)
    middle = tuple(slice(side // 2 - 40, side // 2 + 40) for side in smooth.shape)
    peak = smooth[middle].max()
    axes[0].imshow(np.where(np.isnan(counts), np.nan, smooth), origin="lower", cmap="inferno", vmin=0, vmax=1.3 * peak)
    title = f"{row['source_id']}, {row['x_class']}, p = {row['p_cluster']:.2f}\nmade as {row['label']}"
    axes[0].set_title(title, fontsize=8)
    low, high = np.nanpercentile(plate, (2, 99.5))
    axes[1].imshow(plate, origin="lower", cmap="gray_r", vmin=low, vmax=high)
    axes[1].contour(smooth, levels=[0.5 * peak, 0.7 * peak, 0.9 * peak], colors="C3", linewidths=0.6)
    for axis in axes:
        axis.set(xticks=[], yticks=[], facecolor="0.8")


# --- Truth ----------------------------------------------------------------------------------------------------------
labelled = label_candidates(candidates, truth)
figure = plot_extent_plane(labelled[labelled["det_like"] > 15])

clusters = label_candidates(clusters, truth)
result = clusters.copy()
result["label"] = np.where(np.isin(clusters["label"], ["low_z", "high_z"]), "cluster", "other")
print(confusion(result))
# --- end

save(figure, "clusters_plane.png")
kinds = ("low_z", "high_z", "galaxy", "point", "other")
note("clusters_truth.txt", "          " + "".join(f"{kind:>8s}" for kind in kinds))
for name in ("C1", "C2", "P1", ""):
    there = [np.sum((labelled["x_class"] == name) & (labelled["label"] == kind)) for kind in kinds]
    note("clusters_truth.txt", f"{name or 'no class':10s}" + "".join(f"{number:8d}" for number in there))
note("clusters_truth.txt", "", *confusion(result).pformat())
chosen = np.unique(np.linspace(0, len(clusters) - 1, 6).astype(int))  # from the most to the least probable
figure, axes = plt.subplots(2, len(chosen), figsize=(10, 3.8), layout="constrained", squeeze=False)
for column, row in zip(axes.T, clusters[chosen], strict=True):
    draw(column, row)
save(figure, "clusters_cutouts.png", dpi=85)

# --- In a shell -----------------------------------------------------------------------------------------------------
COMMANDS = """
astroclassify detect field.fits --exposure exposure.fits --max-off-axis 13 --regions shell.reg --out shell.ecsv
astroclassify cutouts shell.ecsv --select C1 --image field.fits --exposure exposure.fits --optical plate.fits --out c1
astroclassify classify c1 --model cluster-xmm --binary --annotate shell.ecsv --out annotated.ecsv
"""
# --- end

for command in COMMANDS.strip().splitlines():
    note("clusters_shell.txt", f"$ {command}")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(shlex.split(command)[1:]) == 0, said.getvalue()
    lines = [line for line in said.getvalue().splitlines() if line and "%|" not in line]  # no bars
    note("clusters_shell.txt", *lines[:3], *["..."] * (len(lines) > 3))
again = tables.read("annotated.ecsv")
assert list(again["ext_like"]) == list(candidates["ext_like"])

# --- Make faulty files ----------------------------------------------------------------------------------------------
fits.PrimaryHDU(field.counts / np.maximum(field.exposure, 1.0), header).writeto("fluxed.fits")
fits.PrimaryHDU(field.exposure[::2, ::2]).writeto("binned.fits")
Table({"Name": known["source_id"], "RA": sky.ra.deg, "DEC": sky.dec.deg}).write("known.csv")
write_image(simulated.plate[:500, :500], "corner.fits")

# --- Faults ---------------------------------------------------------------------------------------------------------
trials = {
    "a fluxed image": lambda: read_field("fluxed.fits", exposure="exposure.fits"),
    "an exposure map of another shape, without coordinates": lambda: read_field("field.fits", exposure="binned.fits"),
    "the catalogue as a CSV file, without units": lambda: read_catalogue("known.csv"),
}
for what, trial in trials.items():
    try:
        trial()
    except AstroclassifyError as error:
        print(what, type(error).__name__, error)
        note("clusters_faults.txt", f"{what}:", f"    {type(error).__name__}: {error}")

# Faults of single positions do not end a run: one that is not on the plate, one that is not on the image.
places = SkyCoord([field.axis, SkyCoord(field.axis.ra, -field.axis.dec)])
rows = extract_cutouts(places, field, optical=LocalOptical("corner.fits"), out="others", progress=False)
# --- end

note("clusters_faults.txt", "", "cutouts of two positions:")
for row in rows:
    names = ", ".join(flag_names(row["flags"]))
    note("clusters_faults.txt", f"    {row['source_id']}: {names}", f"        {row['message']}")

for name, lines in REPORT.items():
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
