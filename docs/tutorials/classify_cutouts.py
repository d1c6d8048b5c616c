"""Classify FITS cutouts, for the tutorial page. Run it in an empty folder: it writes figures and texts there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, join
from matplotlib.colors import LogNorm

from astroclassify.exceptions import GeometryError
from astroclassify.images import Cutout, cut, read_image, standardise, write_image
from astroclassify.nn import for_population, load_classifier, spread
from astroclassify.samples import to_binary
from astroclassify.schemes import Flag, flag_names
from astroclassify.sim import (
    EmbeddedPopulation,
    Observation,
    classify_t_cool,
    measure_core,
    observe,
    simulate_candidates,
)

REPORT = {}  # name of a text file -> its lines


def note(name, *lines):
    """Keep lines for a text file of the page."""
    REPORT.setdefault(name, []).extend(line for text in lines for line in str(text).splitlines())


def short(predictions):
    """Copy of a table with three digits."""
    predictions = predictions.copy()
    for name in ("p_CC", "p_WCC", "p_NCC"):
        predictions[name].info.format = ".3f"
    return predictions


# --- Make an archive ------------------------------------------------------------------------------------------------
# Stand-ins for your files: embedded clusters seen in different ways, with headers as short as an observatory's.
settings = {
    "alpha": Observation(),
    "beta": Observation(),
    "gamma": Observation(redshift=0.15, exposure=50 * u.ks),
    "delta": Observation(energy_range=(0.5, 2.0) * u.keV),
    "epsilon": Observation(redshift=0.4, exposure=1 * u.ks),
}
population = EmbeddedPopulation(6, rng=5, max_cells=100_000)
halos = [population.read_halo(number) for number in range(6)]
archive = Path("archive")
archive.mkdir()


def to_archive(name, image):
    """Write an image with a few keywords only."""
    kept = ("TELESCOP", "INSTRUME", "EXPOSURE", "E_MIN", "E_MAX")
    image.meta = {key: image.meta[key] for key in kept if key in image.meta} | {"OBJECT": name}
    write_image(image, archive / f"{name}.fits")


for halo, (name, observation) in zip(halos, settings.items(), strict=False):
    to_archive(name, observe(halo, observation, engine="direct", rng=1))
truth = {
    name: classify_t_cool(measure_core(halo).t_cool) for halo, name in zip(halos, (*settings, "zeta"), strict=True)
}

# A field of ACIS-I in which the cluster is off the middle: a wide image, trimmed to what the chips see.
acis = Observation.acis_i(redshift=0.1, width=2.4 * u.Mpc, shape=(620, 620), pointing_offset=(3, 2) * u.arcmin)
wide = observe(halos[5], acis, engine="direct", rng=1)
target = wide.wcs.pixel_to_world(309.5, 309.5)
seen = wide.exposure > 0
rows, columns = (slice(*(np.flatnonzero(seen.any(axis=axis))[[0, -1]] + [0, 1])) for axis in (1, 0))
field = wide[rows, columns]
to_archive("field", field)

redshifts = [*(each.redshift for each in settings.values()), acis.redshift]
catalogue = QTable({"source_id": list(truth), "redshift": redshifts})

# --- One image ------------------------------------------------------------------------------------------------------
classifier = load_classifier("coolcore")
image = read_image("archive/alpha.fits")
predictions = classifier.classify(image, redshift=0.05)
print(predictions)
print(classifier.scheme.classes, classifier.bands, classifier.geometry)
known = {name: classifier.training_[name] for name in ("redshift_range", "exposure_range", "counts_range")}
row = predictions[0]
print(row["label_pred"], row["p_CC"], flag_names(row["flags"]))
# --- end

note(
    "cutouts_one.txt", *short(predictions).pformat(max_width=-1), f"flags: {flag_names(row['flags'])}", "", "trained on"
)
note("cutouts_one.txt", *(f"    {name}: {low:g} to {high:g}" for name, (low, high) in known.items()))

# --- Out of a larger field ------------------------------------------------------------------------------------------
field = read_image("archive/field.fits")
position = SkyCoord(target.ra, target.dec)  # of your catalogue
redshift = 0.1
side = 1.1 * classifier.geometry.pixel_width(redshift) * max(classifier.geometry.shape)
image = cut(field, position, side)
image.meta["REDSHIFT"] = redshift
write_image(image, "archive/zeta.fits")
from_cut = classifier.classify("archive/zeta.fits")
from_field = classifier.classify(field, redshift=redshift, centre=position)
print(from_cut, from_field)
# --- end

note("cutouts_field.txt", f"field {field.shape}, cut {image.shape} pixels")
for name, table in (("from the cut", from_cut), ("from the field", from_field)):
    p = ", ".join(f"{label} {table[f'p_{label}'][0]:.3f}" for label in classifier.scheme.classes)
    note("cutouts_field.txt", f"{name:15s} {p}; flags: {', '.join(flag_names(table['flags'][0]))}")

# --- Many images ----------------------------------------------------------------------------------------------------
paths = [archive / f"{name}.fits" for name in catalogue["source_id"]]
predictions = classifier.classify(paths, redshift=catalogue["redshift"])

folder = Path("cutouts")  # or with the redshift in each header; then the folder is enough
folder.mkdir()
for path, redshift in zip(paths, catalogue["redshift"], strict=True):
    image = read_image(path)
    image.meta["REDSHIFT"] = float(redshift)
    write_image(image, folder / path.name)
predictions = classifier.classify(folder)

with ThreadPoolExecutor(2) as executor:
    again = classifier.classify(folder, executor=executor)
# --- end

assert again["p_CC"].tolist() == predictions["p_CC"].tolist()

# --- Back to the catalogue ------------------------------------------------------------------------------------------
table = join(catalogue, predictions, keys="source_id", join_type="left")
table["doubts"] = [" ".join(flag_names(flags)) for flags in table["flags"]]
clean = table[(table["flags"] & (Flag.FAILED | Flag.OTHER_BAND | Flag.LOW_COUNTS)) == 0]
# --- end

shown = short(table)["source_id", "redshift", "label_pred", "p_CC", "p_WCC", "p_NCC", "doubts"]
note("cutouts_catalogue.txt", *shown.pformat(max_width=-1, align=("<", ">", "<", ">", ">", ">", "<")))
note("cutouts_catalogue.txt", "", f"kept: {', '.join(clean['source_id'])}")

# --- Frequencies and spread -----------------------------------------------------------------------------------------
expected = {"CC": 0.1, "WCC": 0.6, "NCC": 0.3}  # those of your sample, from elsewhere; or a name, such as "tng300"
corrected = for_population(predictions, expected)
copies = spread(classifier, folder, n=8, rng=1)
# --- end

note("cutouts_spread.txt", "source_id   p_CC    for 0.1:0.6:0.3   mean and deviation of copies   agreement")
for before, after, copy in zip(predictions, corrected, copies, strict=True):
    assert before["source_id"] == after["source_id"] == copy["source_id"]
    line = f"{copy['source_id']:10s} {before['p_CC']:5.3f}    {after['p_CC']:5.3f}             "
    line += f"{copy['p_CC']:5.3f} +- {copy['p_CC_std']:5.3f}"
    note("cutouts_spread.txt", f"{line}                 {copy['agreement']:.2f}")

# --- Make faulty files ----------------------------------------------------------------------------------------------
faulty = Path("faulty")
faulty.mkdir()
image = read_image("cutouts/alpha.fits")
image.data[:, 200:206] = np.nan
write_image(image, faulty / "dead-columns.fits")
image.data[:] = np.nan
write_image(image, faulty / "all-nan.fits")
(faulty / "cut-off.fits").write_bytes(Path("cutouts/beta.fits").read_bytes()[:20_000])
(faulty / "no-redshift.fits").write_bytes(Path("archive/beta.fits").read_bytes())

# --- Faulty files ---------------------------------------------------------------------------------------------------
results = classifier.classify(faulty)  # a folder: every file has its row
for row in results:
    print(row["source_id"], row["label_pred"], flag_names(row["flags"]), row["message"])
try:
    classifier.classify("faulty/no-redshift.fits")  # one image alone: an error
except GeometryError as error:
    print(error)
    reason = error
# --- end

for row in results:
    label = f"{row['label_pred']} {row['p_' + row['label_pred']]:.3f}" if row["label_pred"] else "no answer"
    note("cutouts_faulty.txt", f"{row['source_id']}: {label}; {', '.join(flag_names(row['flags']))}")
    if row["message"]:
        note("cutouts_faulty.txt", f"    {row['message']}")
note("cutouts_faulty.txt", "", "alone:", f"    {type(reason).__name__}: {reason}")


def show(axis, image, title):
    """An image with logarithmic colours."""
    axis.imshow(np.maximum(image.data, 0) + 0.5, origin="lower", norm=LogNorm(0.5), cmap="magma")
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9)


# --- Show them ------------------------------------------------------------------------------------------------------
figure, axes = plt.subplots(2, 6, figsize=(11, 3.9), layout="constrained", height_ratios=(3, 1.6))
for row, (top, bottom) in zip(table, axes.T, strict=True):
    on_grid = standardise(read_image(folder / f"{row['source_id']}.fits"), classifier.geometry)
    name, counts = row["source_id"], on_grid.data.sum()
    show(top, on_grid, f"{name}, z = {row['redshift']:g}\n{counts:.0f} counts\nmade as {truth[name]}")
    probabilities = [row[f"p_{label}"] for label in classifier.scheme.classes]
    bottom.barh(classifier.scheme.classes, probabilities, color=["C0", "C1", "C3"])
    bottom.set(xlim=(0, 1), xlabel="\n".join(row["doubts"].split()) or "no flags")
    bottom.invert_yaxis()
    bottom.set_title("probability", fontsize=9)
figure.savefig("cutouts.png", dpi=100)

# --- Two bands ------------------------------------------------------------------------------------------------------
two_bands = load_classifier("cluster-xmm")
candidates = simulate_candidates(5, rng=3, shape=two_bands.geometry.shape, progress=False)
predictions = to_binary(two_bands.classify(candidates))
print(predictions)
# --- Two files
seen = simulate_candidates(1, rng=3, progress=False)[0]  # stands for your two files, with pixels of 1.2 arcsec
write_image(seen.bands["xray"], "xray.fits")
write_image(seen.bands["optical"], "plate.fits")

bands = {"xray": read_image("xray.fits"), "optical": read_image("plate.fits")}
position = SkyCoord(*bands["xray"].wcs.wcs.crval, unit="deg")  # of your catalogue
grid = two_bands.geometry
candidate = Cutout("J0123", {band: standardise(image, grid, centre=position) for band, image in bands.items()})
candidate.write("J0123.fits")
same = to_binary(two_bands.classify("J0123.fits"))
# --- end

print("of the grid", predictions["p_cluster"][0], "from two files", same["p_cluster"][0])
assert np.isfinite(same["p_cluster"][0])
figure, axes = plt.subplots(2, 5, figsize=(10, 4.6), layout="constrained")
for candidate, row, (top, bottom) in zip(candidates, predictions, axes.T, strict=True):
    label, p = candidate.bands["xray"].meta["LABEL"], row["p_cluster"]
    show(top, candidate.bands["xray"], f"made as {label}\np(cluster) = {p:.2f}")
    plate = candidate.bands["optical"].data
    bottom.imshow(plate, origin="lower", cmap="gray_r", vmin=np.percentile(plate, 2), vmax=np.percentile(plate, 99.5))
    bottom.set(xticks=[], yticks=[], xlabel="\n".join(flag_names(row["flags"])) or "no flags")
axes[0, 0].set_ylabel("xray [ct]")
axes[1, 0].set_ylabel("optical [adu]")
figure.savefig("cutouts_two_bands.png", dpi=100)

for name, lines in REPORT.items():
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
