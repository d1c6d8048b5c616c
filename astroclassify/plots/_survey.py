"""Figures of fields and candidates; part of `astroclassify.plots`."""

import numpy as np
from astropy import units as u

from astroclassify._checks import check_choice, check_quantity, require
from astroclassify._x_classes import X_CLASS_BOUNDS
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.images import SkyImage, pixel_scale
from astroclassify.images._pictures import STRETCHES, valid_values
from astroclassify.images._pictures import smooth as smooth_image
from astroclassify.tables import numbers

from ._base import COLOURS, MARKERS, axes_for, check_columns, new_panels, row_texts, sky_norm

__all__ = ["draw_bounds", "extents_of", "plot_completeness", "plot_extent_plane", "plot_field"]

# On a dark image; classes beyond these, and none, are white.
_ON_IMAGE = {"C1": "#56E0A0", "C2": "#E69F00", "P1": "#56B4E9"}
# EXT [arcsec] and EXT_LIKE that separate C1, C2 and the rest.
_EXT_CUT = X_CLASS_BOUNDS["C1"][0]["ext"][0]
_EXT_LIKE_CUTS = {name: X_CLASS_BOUNDS[name][0]["ext_like"][0] for name in ("C1", "C2")}
# Where values that a logarithmic axis cannot show are drawn: EXT [arcsec] and EXT_LIKE.
_FLOOR = (0.5, 0.5)
_SMALLEST = 12.0, 0.01  # radius of a region: arcsec, and share of the image's width


def plot_field(field, candidates=None, *, stretch="log", smooth=5 * u.arcsec, title="", ax=None):
    """
    Image of a field on its sky coordinates, with a region around each candidate.

    Parameters
    ----------
    field : Field or `~astropy.nddata.CCDData`
        The field, or an image with a celestial WCS.
    candidates : `~astropy.table.QTable`, optional
        A CANDIDATES table. A circle's radius is EXT, at least 12 arcsec and 1 % of the image's width; its colour is
        the class: C1 green, C2 orange, P1 blue, others white. C1 and C2 have their ``source_id`` beside them, where
        there is such a column.
    stretch : str, optional
        ``"asinh"``, ``"log"``, ``"sqrt"`` or ``"linear"``.
    smooth : `~astropy.units.Quantity`, optional
        Sigma of the Gaussian with which the image is smoothed; zero for none.
    title : str, optional
        Text above.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Axes to draw on, made with ``projection=image.wcs``; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Masked pixels are grey; the colour scale ends at the 99.8th percentile.

    Raises
    ------
    ValueError
        If the stretch is not known.
    SchemaError, MissingDependencyError
        If the candidates lack a column; if matplotlib is not installed.
    """
    check_choice("stretch", stretch, STRETCHES)
    from astropy.visualization import wcsaxes

    image = field.to_ccd() if hasattr(field, "to_ccd") else field
    image = image if isinstance(image, SkyImage) else SkyImage(image)
    pixel = pixel_scale(image).to_value(u.arcsec)
    sigma = check_quantity("smooth", smooth, u.arcsec, shape=()) / pixel
    data = np.where(valid_values(image)[1], np.maximum(smooth_image(image, sigma), 0), np.nan)
    if ax is not None and not isinstance(ax, wcsaxes.WCSAxes):
        raise ArgumentError(f"ax must be axes with sky coordinates (projection=image.wcs), got {type(ax).__name__}")
    figure, axis = axes_for(ax, 7.0, 6.4, projection=image.wcs)
    axis.set_facecolor("0.75")
    drawn = axis.imshow(data, origin="lower", cmap="inferno", norm=sky_norm(data, stretch), interpolation="nearest")
    figure.colorbar(drawn, ax=axis, label=f"{image.unit or ''} per pixel", shrink=0.85)
    if candidates is not None:
        _draw_regions(axis, candidates, image, pixel)
    axis.set(xlabel="right ascension", ylabel="declination")
    axis.coords[0].set_ticklabel(exclude_overlapping=True)
    axis.set_title(title, fontsize=10)
    return figure


def _draw_regions(axis, candidates, image, pixel):
    candidates = check_columns(candidates, ("sky_position", "ext", "x_class"), "candidates")
    patches = require("matplotlib.patches", extra="plots")
    lines = require("matplotlib.lines", extra="plots")
    x, y = (np.atleast_1d(values) for values in image.wcs.world_to_pixel(candidates["sky_position"]))
    smallest = max(_SMALLEST[0] / pixel, _SMALLEST[1] * image.shape[1])
    radius = np.fmax(numbers(candidates, "ext", u.arcsec, what="candidates") / pixel, smallest)
    names = [str(name) for name in candidates["x_class"]]
    for row, name in enumerate(names):
        colour = _ON_IMAGE.get(name, "white")
        width = 1.4 if name in ("C1", "C2") else 0.7
        axis.add_patch(patches.Circle((x[row], y[row]), radius[row], fill=False, edgecolor=colour, linewidth=width))
        if name in ("C1", "C2") and "source_id" in candidates.colnames:
            place = x[row], y[row] + radius[row]
            text = str(candidates["source_id"][row])
            axis.text(*place, text, color=colour, fontsize=8, ha="center", va="bottom", clip_on=True)
    ordered = sorted(set(names), key=lambda name: (name == "", name))
    handles = [
        lines.Line2D([], [], marker="o", ls="none", mfc="none", mec=_ON_IMAGE.get(name, "white")) for name in ordered
    ]
    labels = [f"{name or 'no class'} ({names.count(name)})" for name in ordered]
    if handles:
        axis.legend(handles, labels, fontsize=8, facecolor="0.2", labelcolor="white", loc="upper right")


def plot_extent_plane(candidates, *, by=None, ax=None):
    """
    Extent against extension likelihood by class, with the bounds of C1 and C2 (as in Kosiba et al. 2020).

    Parameters
    ----------
    candidates : `~astropy.table.QTable`
        A CANDIDATES table.
    by : str, optional
        Column that gives the classes; by default ``label`` where there is one, else ``x_class``.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Axes are logarithmic; values below 0.5, so also an extension likelihood of zero, are drawn at 0.5.
        Rows without a result are left out and counted in the title.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a column is missing; if matplotlib is not installed.
    """
    by = by or ("label" if "label" in getattr(candidates, "colnames", ()) else "x_class")
    candidates = check_columns(candidates, ("ext", "ext_like", by), "candidates")
    ext, like, known = extents_of(candidates)
    names = row_texts(candidates[by])
    figure, axis = axes_for(ax, 5.6, 4.8)
    for number, name in enumerate(sorted(set(names), key=lambda name: (name == "", name))):
        rows = known & (names == name)
        axis.scatter(
            ext[rows],
            like[rows],
            s=14,
            marker=MARKERS[number % len(MARKERS)],
            facecolor="0.6" if not name else COLOURS[number % len(COLOURS)],
            alpha=0.75,
            linewidth=0,
            label=f"{name or 'no class'} ({rows.sum()})",
        )
    axis.set(xscale="log", yscale="log", xlabel="EXT [arcsec]", ylabel="EXT_LIKE")
    draw_bounds(axis, ext[known], like[known])
    left_out = int(np.sum(~known))
    axis.set_title(f"({left_out} without a result)" if left_out else "", fontsize=10)
    if len(names):
        axis.legend(fontsize=8, loc="upper left")
    return figure


def extents_of(table):
    """EXT [arcsec] and EXT_LIKE of each row, at least ``_FLOOR``, and whether both are known."""
    ext, like = numbers(table, "ext", u.arcsec), numbers(table, "ext_like")
    return np.fmax(ext, _FLOOR[0]), np.fmax(like, _FLOOR[1]), np.isfinite(ext) & np.isfinite(like)


def draw_bounds(axis, ext, like, fontsize=9):
    """Bounds of C1 and C2 on a plane of EXT and EXT_LIKE that holds these values."""
    right, top = max(np.max(ext, initial=60) * 1.3, 100), max(np.max(like, initial=100) * 1.5, 300)
    axis.set(xlim=(_FLOOR[0] * 0.9, right), ylim=(_FLOOR[1] * 0.85, top))
    axis.plot([_EXT_CUT, _EXT_CUT], [_EXT_LIKE_CUTS["C2"], top], color="black", lw=0.9, ls="--")
    for name, bound in _EXT_LIKE_CUTS.items():
        axis.plot([_EXT_CUT, right], [bound, bound], color="black", lw=0.9, ls="--")
        axis.text(right * 0.95, bound * 1.05, name, ha="right", va="bottom", fontsize=fontsize)


def plot_completeness(table, *, x_class=None):
    """
    Share of sources found against their counts, one line per core radius, one panel per field and off-axis angle.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `astroclassify.survey.selection_function` gives.
    x_class : str, optional
        Class to show; by default the last of the table.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Error bars are the binomial intervals of the table; combinations for which no source could be
        searched have no point. It has several panels, so it takes no ``ax``.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a column is missing, or there are no rows of the class; if matplotlib is not installed.
    """
    needed = ("field", "exposure", "off_axis", "core_radius", "counts", "x_class", "n", "completeness")
    table = check_columns(table, (*needed, "completeness_lo", "completeness_hi"), "table")
    names = list(dict.fromkeys(str(name) for name in table["x_class"]))
    x_class = names[-1] if x_class is None and names else x_class
    rows = table[row_texts(table["x_class"]) == x_class]
    if not len(rows):
        raise SchemaError(f"table must have rows of the class to show, one of {names}, got {x_class!r}")
    off_axis, core = rows["off_axis"].to_value(u.arcmin), rows["core_radius"].to_value(u.arcsec)
    fields = np.asarray(rows["field"])
    panels = list(dict.fromkeys(zip(fields, off_axis, strict=True)))
    figure, axes = new_panels(len(panels), min(len(panels), 4), (2.9, 2.7), (1.0, 0.7), sharex=True, sharey=True)
    for axis, (field, angle) in zip(axes, panels, strict=False):
        here = (fields == field) & (off_axis == angle)
        for number, radius in enumerate(np.unique(core)):
            _draw_curve(axis, rows[here & (core == radius)], number, f'{radius:g}"' if radius else "point")
        exposure = rows["exposure"][here][0].to_value(u.ks)
        axis.set_title(f"{exposure:.3g} ks, {angle:g}' off axis", fontsize=9)
        axis.set(xscale="log", ylim=(-0.03, 1.03))
    figure.supxlabel("counts", fontsize=10)
    figure.supylabel("share found" if x_class == "any" else f"share found as {x_class}", fontsize=10)
    axes[0].legend(fontsize=8, title="core radius", title_fontsize=8)
    return figure


def _draw_curve(axis, rows, number, label):
    rows = rows[np.argsort(rows["counts"])]
    counts = rows["counts"].to_value(u.ct) * (1 + 0.02 * number)  # side by side
    middle, low, high = (np.asarray(rows[f"completeness{end}"], float) for end in ("", "_lo", "_hi"))
    error = np.clip([middle - low, high - middle], 0, None)
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    axis.errorbar(counts, middle, error, color=colour, marker=marker, ms=4, lw=1.2, capsize=2, label=label)
