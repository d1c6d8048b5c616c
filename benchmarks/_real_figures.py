"""Figures of ``real_sky.py``: where information ends, failures as pictures, where the evidence lies."""

import numpy as np
from _judge import is_right, largest_p, sure_and_wrong
from _real_accept import CORE, DEEP, SHALLOW
from matplotlib.figure import Figure

__all__ = ["failures", "limits", "maps"]

MARKERS = "osD^v<>"


def limits(rows):
    """Macro-F1 against the median counts of a grid's settings, coloured by the width of the PSF over 40 kpc."""
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axis = figure.subplots()
    names = list(dict.fromkeys(row["instrument"] for row in rows))
    top = max(row["psf_kpc"] for row in rows) / CORE
    for name, marker in zip(names, MARKERS, strict=False):
        chosen = [row for row in rows if row["instrument"] == name]
        counts = [row["counts"] for row in chosen]
        shades = {"c": [row["psf_kpc"] / CORE for row in chosen], "cmap": "viridis", "vmin": 0.0, "vmax": max(top, 0.1)}
        axis.scatter(counts, [row["C_SB, ranked"] for row in chosen], marker="x", color="0.6", s=18, zorder=1)
        drawn = axis.scatter(counts, [row["f1"] for row in chosen], marker=marker, label=name, s=32, zorder=2, **shades)
    axis.scatter([], [], marker="x", color="0.6", s=18, label="C_SB, ranked")
    most = max(row["counts"] for row in rows)
    for counts, level in (DEEP, SHALLOW):
        axis.plot([counts, most], [level, level], color="0.4", lw=0.8, ls="--")
    axis.set(xscale="log", xlabel="median counts of the clusters in 1 Mpc", ylabel="macro-F1")
    axis.legend(fontsize=8)
    figure.colorbar(drawn, label="FWHM of the point spread function / 40 kpc")
    return figure


def failures(sample, images, predictions, *, most=8):
    """Images of what is wrong and most sure of it, one scale of colours each, with truth and answer."""
    order = np.argsort(-np.where(is_right(predictions), 0.0, largest_p(predictions)), kind="stable")
    chosen = [number for number in order[:most] if not is_right(predictions)[number]]
    figure = Figure(figsize=(8.0, 2.3 * max(1, -(-len(chosen) // 4))), layout="constrained")
    axes = np.ravel(figure.subplots(max(1, -(-len(chosen) // 4)), 4))
    sure = sure_and_wrong(predictions)
    for axis, number in zip(axes, chosen, strict=False):
        _show(axis, images[number].data)
        row, answer = sample[number], predictions[number]
        said = str(answer["label_pred"])
        text = f"{row['source_id']}\n{row['label']}, {row['t_cool'].value:.1f} Gyr: {said} {answer[f'p_{said}']:.2f}"
        axis.set_title(text, fontsize=7, color="C3" if sure[number] else "black")
    for axis in axes:
        axis.set_axis_off()
    return figure


def maps(images, cells, rows):
    """Images; contours (0.1, 0.3, 0.6 of the most) of the evidence for (red) and against their predicted class."""
    n_rows = -(-len(images) // 4)
    figure = Figure(figsize=(8.0, 2.2 * n_rows), layout="constrained")
    axes = np.ravel(figure.subplots(n_rows, 4))
    for axis, image, evidence, row in zip(axes, images, cells, rows, strict=False):
        _show(axis, image.data)
        corners = image.wcs.world_to_pixel(
            evidence.wcs.pixel_to_world([0, evidence.shape[1] - 1], [0, evidence.shape[0] - 1])
        )
        x, y = (np.linspace(*ends, n) for ends, n in zip(corners, evidence.shape[::-1], strict=True))
        most = float(np.max(np.abs(evidence.data))) or 1.0
        for sign, colour in ((1, "red"), (-1, "deepskyblue")):
            axis.contour(x, y, sign * evidence.data / most, levels=(0.1, 0.3, 0.6), colors=colour, linewidths=1.0)
        axis.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(-0.5, image.shape[0] - 0.5))
        axis.set_title(f"{row['image']}\n{row['class']} {row['p']:.2f}, core {row['core']:.0%}", fontsize=7)
    for axis in axes:
        axis.set_axis_off()
    return figure


def _show(axis, data):
    """An image on a logarithmic scale, pixels joined so that the file stays small."""
    step = max(1, min(data.shape) // 64)
    rows, columns = (size // step * step for size in data.shape)
    joined = data[:rows, :columns].reshape(rows // step, step, -1, step).sum(axis=(1, 3))
    shown = np.log10(np.maximum(joined, 0) + max(np.percentile(joined, 20), 1e-3))
    axis.imshow(shown, origin="lower", cmap="gray", extent=(-0.5, columns - 0.5, -0.5, rows - 0.5))
