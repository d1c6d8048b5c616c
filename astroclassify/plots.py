"""Figures from tables and images. matplotlib is imported when a figure is made; no window is opened."""

import numpy as np
from astropy import units as u

from . import tables
from ._plots_maps import plot_mean_maps
from ._plots_people import plot_judge_roc, plot_skill, plot_who_was_right
from ._plots_survey import plot_completeness, plot_extent_plane, plot_field
from ._checks import require
from .exceptions import SchemaError
from .images import read_image
from .schemes import C_SB_BOUNDS, COOL_CORE, N_E_BOUNDS, T_COOL_BOUNDS, ClassScheme, Flag

__all__ = [
    "plot_completeness",
    "plot_confusion",
    "plot_extent_plane",
    "plot_field",
    "plot_images",
    "plot_judge_roc",
    "plot_learning_curve",
    "plot_mean_maps",
    "plot_population",
    "plot_precision_recall",
    "plot_reliability",
    "plot_roc",
    "plot_scores",
    "plot_skill",
    "plot_who_was_right",
]

# Readable by people with any colour vision (Okabe & Ito 2008), one per class.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")


def _style(number):
    """Colour and line style of one of many lines or bars: no two of the first 28 alike."""
    return _COLOURS[number % len(_COLOURS)], _LINES[number // len(_COLOURS) % len(_LINES)]


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
        t_cool = sample["t_cool"][row].to_value(u.Gyr)
        title = f"{truth}  {t_cool:.2g} Gyr" if np.isfinite(t_cool) else truth
        guess = guessed.get(str(sample["source_id"][row]))
        colour = "black"
        if guess is not None:
            label = str(guess["label_pred"])
            title += f"\n\N{RIGHTWARDS ARROW} {label}" + (f" ({guess[f'p_{label}']:.2f})" if label else "no answer")
            colour = "black" if label == truth or not truth else "#C00000"
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
    cuts = {"n_e": N_E_BOUNDS, "c_sb": C_SB_BOUNDS}
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
        Name of the method -> SCORES table, or what `astroclassify.nn.score_seeds` gives (bars then have the scatter
        over seeds).
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
    for number, (method, table) in enumerate(scores.items()):
        colour, line = _style(number)
        middle = np.asarray(table[measure], float)
        place = np.arange(len(table)) - 0.4 + step * (number + 0.5)
        if f"{measure}_std" in table.colnames:
            scatter = np.nan_to_num(np.asarray(table[f"{measure}_std"], float))
            low, high = middle - scatter, middle + scatter
        else:
            low, high = (np.asarray(table[f"{measure}_{end}"], float) for end in ("lo", "hi"))
        axis.bar(place, middle, 0.9 * step, color=colour, label=method, alpha=1 if line == "-" else 0.5)
        axis.errorbar(
            place, middle, np.clip([middle - low, high - middle], 0, None), fmt="none", color="black", lw=0.8, capsize=2
        )
    names = [str(name) for name in next(iter(scores.values()))["class"]] if scores else []
    axis.set_xticks(range(len(names)), names)
    axis.set(ylabel=measure, ylim=(0, 1))
    # Above the axes: inside, it would cover the bars of good methods.
    figure.legend(fontsize=8, ncols=4, loc="outside upper center")
    return figure


def _columns_of(table, names, what):
    missing = [name for name in names if name not in getattr(table, "colnames", ())]
    if missing:
        raise SchemaError(f"{what} must be a table with columns {list(names)}, lacks {missing}")


def _curves_of(curves, names, class_name):
    """Label -> table of one curve: of each class of a table, or of one class of several tables."""
    if not isinstance(curves, dict):
        _columns_of(curves, ("class", *names), "curves")
        labels = dict.fromkeys(str(label) for label in curves["class"]) if class_name is None else [class_name]
        curves = {label: curves for label in labels}
        wanted = {label: label for label in labels}
    else:
        for method, table in curves.items():
            _columns_of(table, ("class", *names), f"curves[{method!r}]")
        if class_name is None and curves:
            class_name = next((str(table["class"][0]) for table in curves.values() if len(table)), None)
        wanted = dict.fromkeys(curves, class_name)
    chosen = {label: table[np.asarray(table["class"]) == wanted[label]] for label, table in curves.items()}
    empty = [label for label, table in chosen.items() if not len(table)]
    if empty or not chosen:
        raise SchemaError(f"curves must have rows of the class to show, got none for {empty or class_name!r}")
    return chosen, class_name


def plot_roc(curves, *, class_name=None):
    """
    ROC curves: true against false positive rate, with the areas under them.

    Parameters
    ----------
    curves : `~astropy.table.QTable` or dict
        What `astroclassify.nn.roc` gives, drawn with one line for each class; or name of a method -> such a table,
        drawn with one line for each method.
    class_name : str, optional
        Class to show; with several methods the first of the table by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    SchemaError
        If a table has no such columns, or no curve of the class.
    MissingDependencyError
        If matplotlib is not installed.
    """
    chosen, class_name = _curves_of(curves, ("fpr", "tpr"), class_name)
    figure = _figure(4.6, 4.4)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    for number, (label, table) in enumerate(chosen.items()):
        colour, line = _style(number)
        fpr, tpr = np.asarray(table["fpr"], float), np.asarray(table["tpr"], float)
        area = np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2)
        axis.plot(fpr, tpr, line, color=colour, label=f"{label} (AUC {area:.2f})")
    axis.set(xlabel="false positive rate FP/(FP+TN)", ylabel="true positive rate TP/(TP+FN)", aspect="equal")
    axis.set_title(class_name or "", fontsize=10)
    axis.legend(fontsize=8, loc="lower right")
    return figure


def plot_precision_recall(curves, *, class_name=None):
    """
    Precision against recall for all thresholds.

    Parameters
    ----------
    curves : `~astropy.table.QTable` or dict
        What `astroclassify.nn.precision_recall` gives, or name of a method -> such a table, as for `plot_roc`.
    class_name : str, optional
        Class to show; with several methods the first of the table by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Lines are steps: between two thresholds nothing lies on a straight line.

    Raises
    ------
    SchemaError
        If a table has no such columns, or no curve of the class.
    MissingDependencyError
        If matplotlib is not installed.
    """
    chosen, class_name = _curves_of(curves, ("precision", "recall"), class_name)
    figure = _figure(4.6, 4.4)
    axis = figure.subplots()
    for number, (label, table) in enumerate(chosen.items()):
        colour, line = _style(number)
        axis.step(table["recall"], table["precision"], line, color=colour, label=label, where="post")
    axis.set(xlabel="recall TP/(TP+FN)", ylabel="precision TP/(TP+FP)", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_title(class_name or "", fontsize=10)
    axis.legend(fontsize=8, loc="lower left")
    return figure


def plot_learning_curve(curve, *, measure="f1", class_name="mean"):
    """
    Score against the number of training groups, with the scatter over seeds.

    Parameters
    ----------
    curve : `~astropy.table.QTable` or dict
        What `astroclassify.nn.learning_curve` gives, or name of a method -> such a table.
    measure : str, optional
        Column to show.
    class_name : str, optional
        Class to show, ``"mean"`` for the mean over classes.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Sizes at which every training failed have no point.

    Raises
    ------
    SchemaError
        If a table has no such columns or no row of the class.
    MissingDependencyError
        If matplotlib is not installed.
    """
    curves = curve if isinstance(curve, dict) else {"": curve}
    figure = _figure(5.2, 3.8)
    axis = figure.subplots()
    ticks = set()
    for number, (method, table) in enumerate(curves.items()):
        _columns_of(table, ("class", "n_groups", measure, f"{measure}_std"), "curve")
        rows = table[np.asarray(table["class"]) == class_name]
        if not len(rows):
            raise SchemaError(f"curve must have rows of class {class_name!r}")
        colour, line = _style(number)
        sizes, middle = np.asarray(rows["n_groups"], float), np.asarray(rows[measure], float)
        ticks.update(sizes)
        scatter = np.nan_to_num(np.asarray(rows[f"{measure}_std"], float))
        axis.errorbar(sizes, middle, scatter, fmt=f"o{line}", color=colour, ms=4, lw=1.2, capsize=2, label=method)
    axis.set(xscale="log", xlabel="training groups", ylabel=f"{measure} ({class_name})")
    axis.set_xticks(sorted(ticks), [f"{size:g}" for size in sorted(ticks)])
    axis.set_xticks([], minor=True)
    if any(curves):
        axis.legend(fontsize=8)
    return figure


def plot_reliability(bins):
    """
    Reliability diagram: how often what was said with probability p was true, and how many answers each bin holds.

    Parameters
    ----------
    bins : `~astropy.table.QTable` or dict
        What `astroclassify.nn.reliability` gives, for one class: ``p_mean`` (mean probability of a bin), ``fraction``
        (fraction of its answers that are right), its limits ``fraction_lo`` and ``fraction_hi``, and ``n`` (number of
        answers); or name -> such a table, such as before and after calibration. Bins without answers are not drawn.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure; on the diagonal probabilities mean what they say, below it they are too high. Error bars go from
        ``fraction_lo`` to ``fraction_hi``: 95% intervals in which the members of a group do not count as independent.

    Raises
    ------
    SchemaError
        If a table has no such columns, or holds several classes.
    MissingDependencyError
        If matplotlib is not installed.
    """
    tables_of = bins if isinstance(bins, dict) else {"": bins}
    figure = _figure(4.6, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    for number, (name, table) in enumerate(tables_of.items()):
        names = ("p_mean", "fraction", "fraction_lo", "fraction_hi", "n")
        _columns_of(table, names, "bins")
        if "class" in table.colnames and len(classes := sorted(set(map(str, table["class"])))) > 1:
            raise SchemaError(f"bins must be those of one class (table[table['class'] == 'top']), got {classes}")
        columns = np.stack([np.asarray(table[column], float) for column in names])
        p, fraction, low, high, n = columns[:, columns[-1] > 0]
        colour, line = _style(number)
        error = np.maximum([fraction - low, high - fraction], 0)  # a limit may be off by rounding
        upper.errorbar(p, fraction, error, fmt=f"o{line}", color=colour, ms=4, capsize=2, label=name)
        lower.plot(p, n, f"o{line}", color=colour, ms=4)
    upper.set(ylabel="fraction right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    lower.set(xlabel="mean probability", ylabel="answers", ylim=(0, None))
    if any(tables_of):
        upper.legend(fontsize=8, loc="upper left")
    return figure
