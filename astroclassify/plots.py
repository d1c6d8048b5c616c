"""Figures from tables and images. matplotlib is imported when a figure is made; no window is opened."""

import numpy as np
from astropy import units as u

from . import tables
from .exceptions import SchemaError, require
from .images import read_image
from .schemes import COOL_CORE, T_COOL_BOUNDS, ClassScheme, Flag

__all__ = ["plot_confusion", "plot_images", "plot_population", "plot_scores"]

# Readable by people with any colour vision (Okabe & Ito 2008), one per class.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")


def _figure(width, height):
    figure_module = require("matplotlib.figure", extra="plots")
    return figure_module.Figure(figsize=(width, height), layout="constrained")


def _scheme_of(table):
    if "scheme" not in table.meta:
        raise SchemaError("predictions must have their class scheme in meta['scheme']")
    return ClassScheme.from_dict(dict(table.meta["scheme"]))


def plot_images(sample, predictions=None, *, n_columns=6, n_max=24):
    """
    Grid of the images of a sample, each with its label and, if given, its predicted class.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table as `~astroclassify.tables.read_sample` gives it.
    predictions : `~astropy.table.QTable`, optional
        A PREDICTIONS table; rows are found by ``source_id``. A wrong class is written in red.
    n_columns : int, optional
        Images per line.
    n_max : int, optional
        Most images to show, spread evenly over the rows sorted by cooling time.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    SchemaError
        If the sample has no image.
    MissingDependencyError
        If matplotlib is not installed.
    """
    paths = tables.image_paths(sample)
    usable = np.flatnonzero((np.asarray(sample["flags"]) & Flag.FAILED.value) == 0)
    if not len(usable):
        raise SchemaError("sample has no image to show")
    usable = usable[np.argsort(sample["t_cool"].to_value(u.Gyr)[usable], kind="stable")]
    shown = usable[np.unique(np.linspace(0, len(usable) - 1, n_max).round().astype(int))]
    guessed = {} if predictions is None else {str(row["source_id"]): row for row in predictions}
    n_rows = -(-len(shown) // n_columns)
    figure = _figure(2.0 * n_columns, 2.35 * n_rows)
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    for axis in axes:
        axis.set_axis_off()
    for axis, row in zip(axes, shown, strict=False):
        image = read_image(paths[row])
        # Counts span four decades; the logarithm of counts + 1 shows core and outskirts alike.
        axis.imshow(np.log10(image.data + 1.0), origin="lower", cmap="inferno")
        truth = str(sample["label"][row])
        title = f"{truth}  {sample['t_cool'][row].to_value(u.Gyr):.2g} Gyr"
        guess = guessed.get(str(sample["source_id"][row]))
        colour = "black"
        if guess is not None:
            label = str(guess["label_pred"])
            title += f"\n\N{RIGHTWARDS ARROW} {label}" + (f" ({guess[f'p_{label}']:.2f})" if label else "no answer")
            colour = "black" if label == truth else "#C00000"
        axis.set_title(title, fontsize=8, color=colour)
    return figure


def plot_confusion(predictions, *, title=""):
    """
    Confusion matrix: true classes down, predicted classes across.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table with a ``label`` column. Rows without label or without answer are left out and counted in
        the title.
    title : str, optional
        Text above.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    SchemaError
        If there is no ``label`` column or no class scheme.
    MissingDependencyError
        If matplotlib is not installed.
    """
    if "label" not in predictions.colnames:
        raise SchemaError("predictions must have a 'label' column with the true classes")
    scheme = _scheme_of(predictions)
    pairs = [
        (scheme.index(truth), scheme.index(guess))
        for truth, guess in zip(predictions["label"], predictions["label_pred"], strict=True)
        if truth and guess
    ]
    matrix = np.zeros((scheme.n_classes, scheme.n_classes), int)
    np.add.at(matrix, tuple(np.transpose(pairs)) if pairs else ([], []), 1)
    figure = _figure(4.2, 3.9)
    axis = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for true, guess in np.ndindex(matrix.shape):
        dark = share[true, guess] > 0.5
        text = f"{matrix[true, guess]}\n{share[true, guess]:.0%}"
        axis.text(guess, true, text, ha="center", va="center", color="white" if dark else "black")
    axis.set_xticks(range(scheme.n_classes), scheme.classes)
    axis.set_yticks(range(scheme.n_classes), scheme.classes)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    left_out = len(predictions) - len(pairs)
    axis.set_title(title + (f"\n({left_out} without label or answer)" if left_out else ""), fontsize=10)
    return figure


def plot_population(sample):
    """
    Central density and concentration against central cooling time, with the cuts of Su et al. (2020).

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table of cool-core classes. Rows without a cooling time are left out.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    figure = _figure(9.0, 3.8)
    cuts = {"n_e": (0.015, 0.005), "c_sb": (0.155, 0.075)}
    names = {"n_e": r"central $n_e$ [cm$^{-3}$]", "c_sb": r"$C_{SB}$ (40 / 400 kpc)"}
    t_cool = sample["t_cool"].to_value(u.Gyr)
    for axis, measure in zip(figure.subplots(1, 2), cuts, strict=True):
        values = u.Quantity(sample[measure]).value
        for label, colour in zip(COOL_CORE.classes, _COLOURS, strict=False):
            rows = (np.asarray(sample["label"]) == label) & (values > 0)
            axis.scatter(t_cool[rows], values[rows], s=9, color=colour, label=f"{label} ({rows.sum()})")
        for cut in cuts[measure]:
            axis.axhline(cut, color="0.6", lw=0.8, ls=":")
        for edge in T_COOL_BOUNDS:
            axis.axvline(edge, color="0.6", lw=0.8, ls="--")
        axis.set(xscale="log", yscale="log", xlabel="central cooling time [Gyr]", ylabel=names[measure])
        axis.legend(fontsize=8)
    return figure


def plot_scores(scores, *, measure="f1"):
    """
    Compare methods: one measure per class and its mean, with intervals.

    Parameters
    ----------
    scores : dict
        Name of the method -> SCORES table.
    measure : str, optional
        Column to show.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    figure = _figure(7.0, 3.6)
    axis = figure.subplots()
    step = 0.8 / max(len(scores), 1)
    for number, ((method, table), colour) in enumerate(zip(scores.items(), _COLOURS, strict=False)):
        middle = np.asarray(table[measure], float)
        place = np.arange(len(table)) - 0.4 + step * (number + 0.5)
        low, high = (np.asarray(table[f"{measure}_{end}"], float) for end in ("lo", "hi"))
        axis.bar(place, middle, 0.9 * step, color=colour, label=method)
        axis.errorbar(
            place, middle, np.clip([middle - low, high - middle], 0, None), fmt="none", color="black", lw=0.8, capsize=2
        )
    names = [str(name) for name in next(iter(scores.values()))["class"]] if scores else []
    axis.set_xticks(range(len(names)), names)
    axis.set(ylabel=measure, ylim=(0, 1))
    # Above the axes: inside, it would cover the bars of good methods.
    figure.legend(fontsize=8, ncols=4, loc="outside upper center")
    return figure
