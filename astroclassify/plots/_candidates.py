"""Figures of classified candidates; part of `astroclassify.plots`."""

from dataclasses import replace

import numpy as np

from astroclassify import tables
from astroclassify._checks import check_choice
from astroclassify.exceptions import SchemaError
from astroclassify.images._pictures import SCALES, STRETCHES, smooth, valid_values
from astroclassify.schemes import Flag
from astroclassify.tables import plain_column

from ._base import COLOURS, axes_for, bands_of, check_columns, flags_in_words, new_panels, row_texts, style
from ._survey import draw_bounds, extents_of

__all__ = ["plot_examples", "plot_purity", "plot_who_differs"]

_VERDICTS = {"TP": (True, True), "FP": (False, True), "FN": (True, False), "TN": (False, False)}
_SHOWN = ("TP", "FP", "FN")


def plot_examples(sample, predictions, *, class_name="cluster", n_examples=4, stretch="asinh"):
    """
    True and false positives and false negatives: X-ray and optical image side by side (as in Kosiba et al. 2020).

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table of cutouts in one or more bands, as `~astroclassify.tables.read_sample` gives it.
    predictions : `~astropy.table.QTable`
        PREDICTIONS with the true ``label``, one row per source: of several seeds choose one.
    class_name : str, optional
        The class that is positive.
    n_examples : int, optional
        Largest number for each verdict, spread evenly over the probabilities.
    stretch : str, optional
        ``"asinh"``, ``"log"``, ``"sqrt"`` or ``"linear"``.

    Returns
    -------
    `~matplotlib.figure.Figure`
        One line for each verdict, most probable first. Above each pair the probability of the class, the label in the
        sample, and the flags of the prediction. X-ray images are smoothed; each image has a scale of its own. It has
        several panels, so it takes no ``ax``.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a column is missing, a source is there twice, or none of the verdicts has an image; if matplotlib is not
        installed.

    Examples
    --------
    >>> from astroclassify import tables
    >>> from astroclassify.plots import plot_examples
    >>> predictions = tables.read("kosiba/predictions-cn.ecsv")  # doctest: +SKIP
    >>> first = predictions[predictions["seed"] == 0]  # doctest: +SKIP
    >>> figure = plot_examples(tables.read_sample("candidates"), first)  # doctest: +SKIP
    """
    check_choice("stretch", stretch, STRETCHES)
    probability = f"p_{class_name}"
    predictions = check_columns(predictions, ("source_id", "label", "label_pred", probability, "flags"), "predictions")
    names = row_texts(predictions["source_id"])
    if len(set(names)) < len(names):
        raise SchemaError("predictions must have one row per source_id: choose one of several seeds")
    sample = tables.plain_table(sample)
    usable = (np.asarray(sample["flags"]) & Flag.FAILED.value) == 0
    place = {str(name): row for row, name in enumerate(sample["source_id"]) if usable[row]}
    p, flags = plain_column(predictions[probability]).astype(float), np.asarray(predictions["flags"])
    is_class, said = (row_texts(predictions[name]) == class_name for name in ("label", "label_pred"))
    known = np.isfinite(p) & (row_texts(predictions["label"]) != "") & np.isin(names, list(place))
    chosen = {}
    for verdict in _SHOWN:
        truth, answer = _VERDICTS[verdict]
        rows = np.flatnonzero(known & (is_class == truth) & (said == answer))
        rows = rows[np.argsort(-p[rows], kind="stable")]
        if len(rows):
            chosen[verdict] = rows[np.unique(np.linspace(0, len(rows) - 1, n_examples).round().astype(int))], len(rows)
    if not chosen:
        raise SchemaError(
            f"predictions have no {', '.join(_SHOWN)} of class {class_name!r} with an image in the sample"
        )
    paths = tables.image_paths(sample)
    examples = {v: [(row, bands_of(paths[place[names[row]]])) for row in rows] for v, (rows, _) in chosen.items()}
    n_bands = max(len(bands) for each in examples.values() for _, bands in each)
    n_columns = n_bands * max(len(each) for each in examples.values())
    figure, axes = new_panels(len(examples) * n_columns, n_columns, (1.35, 1.65))
    for axis in axes:
        axis.set_axis_off()
    for line, (verdict, each) in zip(axes.reshape(-1, n_columns), examples.items(), strict=True):
        for number, (row, bands) in enumerate(each):
            panels = line[number * n_bands : (number + 1) * n_bands]
            for axis, (band, image) in zip(panels, bands.items(), strict=False):
                axis.imshow(
                    _brightness(band, image, stretch), origin="lower", cmap="inferno" if band == "xray" else "gray"
                )
            label = str(sample["label"][place[names[row]]])
            words = flags_in_words(flags[row])
            panels[0].set_title(f"p = {p[row]:.2f}  {label}" + (f"\n{words}" if words else ""), fontsize=8, loc="left")
        line[0].text(-0.12, 0.5, f"{verdict} ({chosen[verdict][1]})", transform=line[0].transAxes, rotation=90,
                     ha="right", va="center", fontsize=9)  # fmt: skip
    return figure


def _brightness(band, image, stretch):
    values, valid = valid_values(image)
    values = smooth(image) if band == "xray" else values
    return replace(SCALES.get(band, SCALES["optical"]), stretch=stretch).apply(values, valid)


def plot_who_differs(table, first, second, *, ax=None):
    """
    Extent against extension likelihood: where two judges are both right, one of them, or neither.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `astroclassify.people.who_was_right` gives with ``candidates=``.
    first, second : str
        Two of its judges.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure, clusters as squares, others as circles, with the bounds of C1 and C2 and the axes of
        `plot_who_was_right`. Sources that either has not decided, or without a result of the fit, are counted in the
        title.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a column or a judge is missing; if matplotlib is not installed.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.plots import plot_who_differs
    >>> from astroclassify.people import who_was_right
    >>> found = QTable({"source_id": ["a", "b"], "ext": [20, 3] * u.arcsec, "ext_like": [80.0, 0.0]})
    >>> judges = {"experts": {"a": "low_z", "b": "high_z"}, "network": {"a": "other", "b": "other"}}
    >>> figure = plot_who_differs(who_was_right({"a": "low_z", "b": "point"}, judges, candidates=found), *judges)
    """
    verdicts = [f"verdict_{name}" for name in (first, second)]
    table = check_columns(table, ("ext", "ext_like", "is_cluster", *verdicts), "table")
    ext, like, known = extents_of(table)
    said = [row_texts(table[name]) for name in verdicts]
    decided = known & (said[0] != "open") & (said[1] != "open")
    right = [np.char.startswith(each, "T") for each in said]
    kinds = {
        "both right": (right[0] & right[1], "0.75", 10),
        f"{first} alone": (right[0] & ~right[1], COLOURS[0], 24),
        f"{second} alone": (~right[0] & right[1], COLOURS[1], 24),
        "both wrong": (~right[0] & ~right[1], COLOURS[2], 24),
    }
    figure, axis = axes_for(ax, 5.6, 4.8)
    is_cluster = np.asarray(table["is_cluster"], bool)
    for name, (rows, colour, size) in kinds.items():
        for marker, of_kind in (("s", is_cluster), ("o", ~is_cluster)):
            here = decided & rows & of_kind
            what = "clusters" if marker == "s" else "others"
            axis.scatter(ext[here], like[here], s=size, marker=marker, color=colour, edgecolor="white", linewidth=0.3,
                         label=f"{name}: {here.sum()} {what}")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="EXT [arcsec]", ylabel="EXT_LIKE")
    draw_bounds(axis, ext[decided], like[decided])
    left_out = int(np.sum(~decided))
    axis.set_title(f"({left_out} open or without a result)" if left_out else "", fontsize=10)
    axis.legend(fontsize=7, loc="upper left")
    return figure


def plot_purity(curves, table=None, *, ax=None):
    """
    Purity against clusters per square degree, for every cut, with the cuts at one purity as points.

    Parameters
    ----------
    curves : `~astropy.table.QTable`
        What `astroclassify.nn.purity_curve` gives: a line for each selection, a hollow marker for one without cuts.
    table : `~astropy.table.QTable`, optional
        What `astroclassify.nn.clusters_per_area` gives for the same: a marker with its intervals for each selection,
        and the purity that was asked for as a dotted line. Such a marker lies below its line where the cut is worse on
        other fields than at home.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a column is missing, or there is no row; if matplotlib is not installed.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import purity_curve
    >>> from astroclassify.plots import plot_purity
    >>> found = QTable({"group_id": ["a", "a", "b", "b"], "label": ["low_z", "point", "high_z", "other"]})
    >>> figure = plot_purity(purity_curve(found, {"network": [0.9, 0.6, 0.8, 0.1]}, area=2 * u.deg**2))
    """
    curves = check_columns(curves, ("selection", "density", "purity"), "curves")
    if not len(curves):
        raise SchemaError("curves must have at least one row")
    figure, axis = axes_for(ax, 6.0, 4.4)
    unit = curves["density"].unit
    names = list(dict.fromkeys(row_texts(curves["selection"])))
    for number, name in enumerate(names):
        rows = curves[row_texts(curves["selection"]) == name]
        colour, line, marker = style(number)
        how = {"color": colour, "label": name}
        how |= {"ls": line, "lw": 1.3} if len(rows) > 1 else {"ls": "", "marker": marker, "mfc": "none", "ms": 7}
        axis.plot(rows["density"].to_value(unit), np.asarray(rows["purity"], float), **how)
    if table is not None:
        _draw_cuts(axis, table, names, unit)
    axis.set(xlabel=f"clusters [{unit:unicode}]", ylabel="purity", ylim=(None, 1.02), xlim=(0, None))
    axis.legend(fontsize=8, loc="lower left")
    return figure


def _draw_cuts(axis, table, names, unit):
    ends = [f"{name}{end}" for name in ("density", "purity") for end in ("", "_lo", "_hi")]
    table = check_columns(table, ("selection", *ends), "table")
    for row, name in enumerate(row_texts(table["selection"])):
        density, low, high = (table[end][row].to_value(unit) for end in ends[:3])
        purity, lowest, highest = (float(table[end][row]) for end in ends[3:])
        if not np.isfinite(purity):
            continue
        colour, _, marker = style(names.index(name) if name in names else len(names))
        error = np.clip([[density - low], [high - density]], 0, None), [[purity - lowest], [highest - purity]]
        axis.errorbar(density, purity, np.clip(error[1], 0, None), error[0], fmt=marker, color=colour, ms=5, lw=0.9,
                      capsize=2)  # fmt: skip
    if "purity" in table.meta:
        axis.axhline(float(table.meta["purity"]), color="0.6", lw=0.8, ls=":")
