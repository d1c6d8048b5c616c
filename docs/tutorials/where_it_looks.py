"""Where a packaged network looks, for the tutorial page. Run it in an empty folder: it writes figures and numbers."""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from astroclassify import plots
from astroclassify.exceptions import AstroclassifyWarning, EmptyResultWarning
from astroclassify.images import read_image
from astroclassify.nn import (
    expected_calibration_error,
    load_classifier,
    mean_activation_maps,
    occlusion_map,
    radial_profiles,
    randomisation_check,
    reliability,
)
from astroclassify.sim import EmbeddedPopulation, Observation, make_mocks
from astroclassify.tables import image_paths

lines = []  # the numbers of the page

# --- Clusters and a model -------------------------------------------------------------------------------------------
population = EmbeddedPopulation(16, rng=2021, max_cells=20_000)
halos = population.select_halos()
sample = make_mocks(
    population, halos, observation=Observation(), axes="xyz", out="mocks", engine="direct", rng=1, progress=False
)
classifier = load_classifier("coolcore")
predictions = classifier.classify(sample)

# The numbers: what there is, and how often the network is right.
classes = classifier.scheme.classes
labels = np.array(sample["label"], dtype=str)
groups = np.array(sample["group_id"], dtype=str)
right = np.array(predictions["label_pred"], dtype=str) == labels
p_true = np.array([predictions[f"p_{label}"][row] for row, label in enumerate(labels)])
lines += ["[sample]", "class  clusters  images  right  right with p > 0.9"]
for name in classes:
    of = labels == name
    row = (len(set(groups[of])), of.sum(), right[of].sum(), np.sum(right & of & (p_true > 0.9)))
    lines.append(f"{name:5}  {row[0]:8d}  {row[1]:6d}  {row[2]:5d}  {row[3]:18d}")

# --- The map of one image -------------------------------------------------------------------------------------------
paths = image_paths(sample)
surest = [int(np.argmax(np.where(labels == name, p_true, -1))) for name in classes]  # one image of each class
image = read_image(paths[surest[0]])  # the cool core of which the network is surest
maps = {name: classifier.activation_map(image, name) for name in classes}

meta = maps["CC"].meta
lines += [
    "[one image]",
    f"model {meta['MODEL']}, {classifier.architecture}: maps of {maps['CC'].shape[1]} x {maps['CC'].shape[0]} cells, "
    f"method {meta['METHOD']}",
    f"one cell is {meta['CELLPIX']:g} pixels of the model's grid, {meta['CELLSIZE']:.1f} {meta['CELLUNIT']}",
    f"image {sample['source_id'][surest[0]]}, class {labels[surest[0]]}",
]
for name, one in maps.items():
    values = f"{one.data.min():8.2f} to {one.data.max():7.2f}, mean {one.data.mean():6.2f}"
    lines.append(f"map of {name:3}: {values}; logit {one.meta['LOGIT']:6.2f}; p = {one.meta['PROB']:.4f}")


def draw_map(axes, one, limit):
    """Cells of a map as blocks of one colour, placed by its coordinate system."""
    corners = (np.arange(n + 1) - 0.5 for n in reversed(one.shape))
    place = axes.get_transform(one.wcs)
    return axes.pcolormesh(*corners, one.data, transform=place, cmap="RdBu_r", vmin=-limit, vmax=limit)


figure = plt.figure(figsize=(8.2, 7.2), layout="constrained")
axes = figure.subplots(2, 2, subplot_kw={"projection": image.wcs})
axes[0, 0].imshow(image.data + 0.5, origin="lower", norm=LogNorm(0.5), cmap="gray_r")
axes[0, 0].set_title(f"{labels[surest[0]]} cluster, {image.data.sum():.0f} counts")
limit = max(np.abs(one.data).max() for one in maps.values())
for panel, (name, one) in zip(axes.flat[1:], maps.items(), strict=True):
    drawn = draw_map(panel, one, limit)
    panel.set_title(f"map of {name}, p = {one.meta['PROB']:.2g}")
smooth = gaussian_filter(image.data, 3)
for number, panel in enumerate(axes.flat):
    panel.contour(smooth, np.geomspace(2 * np.median(smooth), 0.7 * smooth.max(), 4), colors="k", linewidths=0.6)
    panel.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(-0.5, image.shape[0] - 0.5))
    for axis, text in zip(panel.coords, ("right ascension", "declination"), strict=True):
        axis.set_axislabel(text if number == 2 else " ")
        axis.set_ticklabel_visible(number == 2)
figure.suptitle(f"cells of {meta['CELLSIZE']:.3g} kpc; contours: counts, smoothed")
figure.colorbar(drawn, ax=axes, label="contribution to the logit of the class", shrink=0.6)
figure.savefig("where_it_looks_image.png", dpi=75)

# --- What exact means -----------------------------------------------------------------------------------------------
least_sure = [int(np.argmin(np.where(labels == name, p_true, 2))) for name in classes]
chosen = surest + least_sure  # two images of each class
images = [read_image(paths[row]) for row in chosen]
exact = {name: [classifier.activation_map(one, name) for one in images] for name in classes}
for name, several in exact.items():
    means = np.array([one.data.mean() for one in several])
    logits = np.array([one.meta["LOGIT"] for one in several])
    constant = logits - means  # the same for every image, if the map is exact
    lines += ["[exact]", f"{len(images)} images"] if name == classes[0] else []
    text = f"{name:3}: logit {logits.min():6.2f} to {logits.max():6.2f}, logit - mean of the map"
    lines.append(f"{text} {constant.min():9.5f} to {constant.max():9.5f}")
lines.append(f"torch was loaded for these maps: {'yes' if 'torch' in sys.modules else 'no'}")

# --- Averages by class ----------------------------------------------------------------------------------------------
with warnings.catch_warnings():
    warnings.simplefilter("ignore", EmptyResultWarning)  # such classes are named in the numbers
    averages = mean_activation_maps(classifier, sample, p_min=0.9)
    looser = mean_activation_maps(classifier, sample, p_min=0.5)
averages = {name: one if one.meta["NIMAGES"] else looser[name] for name, one in averages.items()}

lines += ["[averages]", "class   p >  averaged  (clusters)  wrong  right, p too low  of"]
for name, one in averages.items():
    counts = [one.meta[key] for key in ("NIMAGES", "NGROUPS", "NWRONG", "NUNSURE", "NLABEL")]
    text = f"{name:5}  {one.meta['PMIN']:4.1f}  {counts[0]:8d}  {counts[1]:10d}  {counts[2]:5d}  {counts[3]:16d}"
    lines.append(f"{text}  {counts[4]:2d}" + ("" if counts[0] else "   no image: no average of this class"))

# --- Radial profiles ------------------------------------------------------------------------------------------------
first_rows = np.unique(groups, return_index=True)[1]  # one row per cluster
r_500 = sample["r_500"][first_rows].mean()
profiles = radial_profiles(averages, r_500=r_500)
plots.plot_mean_maps(averages, profiles).savefig("where_it_looks_means.png", dpi=90)


def intervals(rows, chosen):
    """Radii of the chosen rings, neighbours joined."""
    parts = []
    for low, high in zip(rows["radius_lo"][chosen].value, rows["radius_hi"][chosen].value, strict=True):
        if parts and abs(parts[-1][1] - low) < 1e-6:
            parts[-1][1] = high
        else:
            parts.append([low, high])
    return ", ".join(f"{low:.0f}-{high:.0f}" for low, high in parts) or "none"


def half_way(rows):
    """Outer radius of the first ring in which the mean is closer to that of the last ring than to the centre's."""
    ratio = (rows["mean"] - rows["mean"][-1]) / (rows["mean"][0] - rows["mean"][-1])
    return rows["radius_hi"][np.argmax(ratio < 0.5)]


SU2020 = {"CC": "about 300", "WCC": "between", "NCC": "about 500"}  # their radii in kpc
unit, cell = profiles["radius"].unit, profiles.meta["cell_size"]
lines += [
    "[profiles]",
    f"rings as wide as a cell, {cell:.1f}; 300 kpc are {300 * unit / cell:.1f} cells, 500 kpc {500 * unit / cell:.1f}",
    f"mean R500 of the {len(first_rows)} clusters: {r_500:.0f}",
    f"class  mean: centre  last ring  half way [{unit}]  [R500]  Su et al. [kpc]",
]
signs = []
for name in classes:
    rows = profiles[profiles["class"] == name]
    if not np.all(np.isfinite(rows["mean"])):
        lines.append(f"{name:5}  no average")
        continue
    ends, middle = (rows["mean"][0], rows["mean"][-1]), half_way(rows)
    text = f"{name:5}  {ends[0]:12.2f}  {ends[1]:9.2f}  {middle.value:14.0f}  {(middle / r_500).value:6.2f}"
    lines.append(f"{text}  {SU2020[name]:>15}")
    error = np.nan_to_num(rows["error"])
    signs.append(f"{name:5}  for: {intervals(rows, rows['mean'] > error)}")
    signs.append(f"{'':5}  against: {intervals(rows, rows['mean'] < -error)}")
lines += [f"where the mean map speaks for or against its class by more than one standard error [{unit}]:", *signs]

# --- Does the map depend on what was learned ------------------------------------------------------------------------
lines.append("[randomisation]")
if find_spec("torch") is None:
    lines.append("not done: it needs torch (the extra train)")
else:
    check = randomisation_check(classifier, images, rng=3, n_draws=3)
    layers = np.unique(np.geomspace(1, len(check), 7).round().astype(int)) - 1
    lines.append("layers replaced  the last of them      rank correlation  its absolute value")
    for number in layers:
        mean, scatter = check["rank_correlation"][number], check["rank_correlation_std"][number]
        text = f"{number:15d}  {str(check['layer'][number]):20}  {mean:7.2f} +- {scatter:4.2f}"
        lines.append(f"{text}  {check['rank_correlation_abs'][number]:18.2f}")
    text = f"{check.meta['n_images']} images, {check.meta['n_draws']} draws, {check.meta['n_cells']} cells"
    lines.append(f"{text}; absolute value by chance, for independent cells: {check.meta['abs_by_chance']:.2f}")

# --- A second opinion -----------------------------------------------------------------------------------------------


def contrast(maps, name):
    """What each cell adds to the log-odds of a class, to first order: its map minus those of the others, weighted."""
    others = [other for other in maps if other != name]
    weights = np.array([maps[other].meta["PROB"] for other in others])
    weights /= weights.sum()
    return maps[name].data - sum(weight * maps[other].data for weight, other in zip(weights, others, strict=True))


def on_patches(values, wcs, patches, image):
    """Mean over each patch of the cells that lie on its pixels, found by the coordinate systems; NaN without any."""
    y, x = np.indices(image.shape)
    sky = image.wcs.pixel_to_world(x, y)
    (cx, cy), (px, py) = ([np.rint(axis).astype(int) for axis in w.world_to_pixel(sky)] for w in (wcs, patches.wcs))
    seen = (cx >= 0) & (cx < values.shape[1]) & (cy >= 0) & (cy < values.shape[0])
    patch = (py * patches.shape[1] + px)[seen]
    total = np.bincount(patch, values[cy[seen], cx[seen]], patches.size)
    number = np.bincount(patch, minlength=patches.size)
    return np.divide(total, number, out=np.full(patches.size, np.nan), where=number > 0).reshape(patches.shape)


def central_share(values):
    """Share of the sum of absolute values that lies in the middle quarter of the field's width and height."""
    middle = tuple(slice(3 * n // 8, n - 3 * n // 8) for n in values.shape)
    return np.nansum(np.abs(values[middle])) / np.nansum(np.abs(values))


def agreement(first, second):
    known = np.isfinite(first) & np.isfinite(second)
    return spearmanr(first[known], second[known]).statistic


results = []
for number, row in enumerate(chosen):
    name, one = str(labels[row]), images[number]
    filled = [occlusion_map(classifier, one, name, fill=fill) for fill in ("azimuthal", "local")]
    several = {other: exact[other][number] for other in classes}
    first_order = contrast(several, name) / classifier.temperature_
    on_grid = on_patches(first_order, several[name].wcs, filled[0], one) / filled[0].data.size
    own = on_patches(several[name].data, several[name].wcs, filled[0], one)
    panels = [on_grid, *(patches.data for patches in filled)]
    results.append(
        [agreement(on_grid, values) for values in panels[1:]]
        + [agreement(own, values) for values in panels[1:]]
        + [central_share(values) for values in panels]
    )
    if number == 0:
        shown = dict(zip(("activation maps", "occlusion, azimuthal", "occlusion, local"), panels, strict=True))

lines += [
    "[occlusion]",
    f"patches of {filled[0].meta['CELLSIZE']:.0f} kpc",
    "                rank correlation     share of the middle",
    "class  p(class)  azimuthal  local    maps  azimuthal  local",
]
for row, values in zip(chosen, results, strict=True):
    text = f"{labels[row]:5}  {p_true[row]:8.3f}  {values[0]:9.2f}  {values[1]:5.2f}"
    lines.append(f"{text}    {values[4]:4.2f}  {values[5]:9.2f}  {values[6]:5.2f}")
values = np.mean(results, axis=0)
lines += [
    f"mean             {values[0]:9.2f}  {values[1]:5.2f}    {values[4]:4.2f}  {values[5]:9.2f}  {values[6]:5.2f}",
    f"mean correlation of the map of the class alone: azimuthal {values[2]:.2f}, local {values[3]:.2f}",
    f"share of the middle if all patches had the same: {central_share(np.ones(filled[0].shape)):.2f}",
]

figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.3), layout="constrained")
for axis, (title, values) in zip(axes, shown.items(), strict=True):
    limit = np.nanmax(np.abs(values))
    drawn = axis.imshow(values, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set(title=title, xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axis, shrink=0.8)
figure.suptitle(f"what each patch adds to the log-odds of {labels[chosen[0]]}; each panel with its own scale")
figure.savefig("where_it_looks_occlusion.png", dpi=90)

# --- Do probabilities mean what they say ----------------------------------------------------------------------------
# Clusters, not images, are divided; every second one of each class.
order = sorted(set(zip(labels, groups, strict=True)))
first_half = np.isin(groups, [group for _, group in order[::2]])
calibrated = load_classifier("coolcore")
with warnings.catch_warnings(record=True) as caught:  # so few images may not determine a temperature
    warnings.simplefilter("always", AstroclassifyWarning)
    calibrated.calibrate(sample[first_half])
tables = {
    f"T = {model.temperature_:.2f}, {when}": model.classify(sample[~first_half])
    for model, when in ((classifier, "as packaged"), (calibrated, "calibrated here"))
}
bins = {name: reliability(table, n_bins=5) for name, table in tables.items()}
bins = {name: table[table["class"] == "top"] for name, table in bins.items()}
plots.plot_reliability(bins).savefig("where_it_looks_reliability.png", dpi=90)

lines += [
    "[calibration]",
    f"calibrated on {len(order[::2])} clusters ({first_half.sum()} images), "
    f"evaluated on {len(order[1::2])} ({np.sum(~first_half)} images); most probable class, 5 bins",
]
lines += [f"warning: {warning.message}" for warning in caught]
for name, table in tables.items():
    row = expected_calibration_error(table, n_bins=5, rng=4)[-1]
    text = f"{name:26}  ECE {row['ece']:.3f} (95%: {row['ece_lo']:.3f} to {row['ece_hi']:.3f})"
    lines.append(f"{text}; exact probabilities would give {row['ece_exact']:.3f}")
    for one in bins[name][bins[name]["n"] > 0]:
        limits = f"{one['fraction_lo']:.2f} to {one['fraction_hi']:.2f}"
        lines.append(f"    said {one['p_mean']:.2f}, right {one['fraction']:.2f} ({limits}) of {one['n']:2d} images")

Path("where_it_looks.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
print("\n".join(lines))
