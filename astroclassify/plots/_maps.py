"""Figures of activation maps; part of `astroclassify.plots`."""

import numpy as np

from astroclassify._checks import require
from astroclassify.exceptions import SchemaError

from ._base import COLOURS, check_columns, new_figure, row_texts

__all__ = ["plot_mean_maps"]


def plot_mean_maps(maps, profiles):
    """
    Mean activation map of each class, with the size of a cell, above their radial profiles.

    Parameters
    ----------
    maps : dict
        Class -> map, as `astroclassify.nn.mean_activation_maps` gives.
    profiles : `~astropy.table.QTable`
        Their profiles, as `astroclassify.nn.radial_profiles` gives.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Cells are blocks of one value, nothing is interpolated; all maps have one colour scale, with zero in
        its middle. The square in the corner of each map and the bar in the profiles are one cell. The dashed frame is
        the field: cells are drawn over the region they cover, which may extend half a cell beyond it. It has several
        panels, so it takes no ``ax``.

    Raises
    ------
    SchemaError
        If there are no maps, or one is no mean map, or the profiles are not of these maps.
    MissingDependencyError
        If matplotlib is not installed.
    """
    if not isinstance(maps, dict) or not maps or not all("CELLSIZE" in image.meta for image in maps.values()):
        raise SchemaError("maps must be a dict of class -> map with at least one")
    profiles = check_columns(profiles, ("class", "radius", "radius_lo", "radius_hi", "mean", "error"), "profiles")
    if set(profiles["class"].tolist()) != set(maps):
        raise SchemaError(f"profiles must be those of the maps, of classes {sorted(maps)}")
    figure = new_figure(max(2.9 * len(maps), 5.8), 6.2)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    axes = upper.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    limit = max((np.nanmax(np.abs(image.data), initial=0.0) for image in maps.values()), default=0.0) or 1.0
    for axis, (name, image) in zip(axes, maps.items(), strict=True):
        drawn = _draw_map(axis, name, image, limit)
    axes[0].set_ylabel(f"offset to the north [{image.meta['CELLUNIT']}]")
    upper.colorbar(drawn, ax=list(axes), label="contribution to the logit", shrink=0.85)
    _draw_profiles(lower.subplots(), profiles)
    return figure


def _edges(n, middle, step):
    """Edges of n cells, from the middle of the field."""
    return (np.arange(n + 1) - 0.5 - middle) * step


def _draw_map(axis, name, image, limit):
    patches = require("matplotlib.patches", extra="plots")
    meta = image.meta
    size, half = meta["CELLSIZE"], meta["FIELD"] / 2
    x = _edges(image.shape[1], meta["XMIDDLE"], size)
    y = _edges(image.shape[0], meta["YMIDDLE"], size * meta["CELLPIXY"] / meta["CELLPIX"])
    drawn = axis.pcolormesh(x, y, image.data, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="flat")
    field = {"fill": False, "edgecolor": "0.3", "linestyle": "--", "linewidth": 0.8}
    axis.add_patch(patches.Rectangle((-half, -half), 2 * half, 2 * half, **field))
    corner = -0.97 * half  # inside the field, lower left
    axis.add_patch(patches.Rectangle((corner, corner), size, y[1] - y[0], fill=False, linewidth=1.4))
    axis.text(corner, corner + y[1] - y[0], f" cell {size:.3g} {meta['CELLUNIT']}", fontsize=7, va="bottom")
    axis.plot(0, 0, "+", color="black", ms=7)
    axis.set(aspect="equal", xlabel=f"offset to the west [{meta['CELLUNIT']}]")
    count = f" ({meta['NIMAGES']} images)" if "NIMAGES" in meta else ""
    axis.set_title(f"{name}{count}", fontsize=10)
    return drawn


def _draw_profiles(axis, profiles):
    unit = profiles["radius"].unit
    for number, name in enumerate(dict.fromkeys(map(str, profiles["class"]))):
        rows = profiles[row_texts(profiles["class"]) == name]
        colour = COLOURS[number % len(COLOURS)]
        low, high = rows["radius_lo"].to_value(unit), rows["radius_hi"].to_value(unit)
        mean, error = np.asarray(rows["mean"], float), np.asarray(rows["error"], float)
        axis.stairs(mean, [*low, high[-1]], color=colour, label=name, baseline=None)
        # Side by side within a ring, so that the errors of two classes do not cover each other.
        place = low + (high - low) * (0.5 + 0.08 * (number - (len(set(profiles["class"])) - 1) / 2))
        known = np.isfinite(error)
        axis.errorbar(place[known], mean[known], error[known], fmt="none", color=colour, capsize=2, lw=1)
    axis.axhline(0, color="0.7", lw=0.8)
    size = profiles.meta["cell_size"].to_value(unit)
    # Data along x, fraction of the axes along y: the bar is as long as a cell whatever the profiles are.
    axis.plot([0, size], [0.04, 0.04], color="black", lw=2.5, transform=axis.get_xaxis_transform())
    axis.text(0, 0.06, f" cell {size:.3g} {unit}", transform=axis.get_xaxis_transform(), ha="left", fontsize=8)
    axis.set(xlabel=f"radius [{unit}]", ylabel="mean of the map", xlim=(0, profiles["radius_hi"].to_value(unit).max()))
    if "r_500" in profiles.meta:
        scale = profiles.meta["r_500"].to_value(unit)
        axis.secondary_xaxis("top", functions=(lambda r: r / scale, lambda r: r * scale)).set_xlabel("radius / R500")
    axis.legend(fontsize=8)
