"""Figures of predictions and scores; part of `astroclassify.plots`."""

import numpy as np

from astroclassify.exceptions import SchemaError
from astroclassify.schemes import ClassScheme

from ._base import axes_for, check_columns, draw_roc, is_predictions, named_tables, new_figure, row_texts, style

__all__ = [
    "plot_confusion",
    "plot_learning_curve",
    "plot_precision_recall",
    "plot_reliability",
    "plot_roc",
    "plot_scores",
]


def plot_confusion(predictions, *, title="", ax=None):
    """
    Confusion matrix: true classes down, predicted classes across.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table with a ``label`` column. Rows without label or without answer are left out and counted in
        the title.
    title : str, optional
        Text above.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    SchemaError, MissingDependencyError
        If there is no ``label`` column or no class scheme; if matplotlib is not installed.
    """
    predictions = check_columns(predictions, ("label", "label_pred"), "predictions")
    if "scheme" not in predictions.meta:
        raise SchemaError("predictions must have their class scheme in meta['scheme']")
    scheme = ClassScheme.from_dict(dict(predictions.meta["scheme"]))
    pairs = [
        (scheme.index(truth), scheme.index(guess))
        for truth, guess in zip(predictions["label"], predictions["label_pred"], strict=True)
        if truth and guess
    ]
    matrix = np.zeros((scheme.n_classes, scheme.n_classes), int)
    np.add.at(matrix, tuple(np.transpose(pairs)) if pairs else ([], []), 1)
    figure, axis = axes_for(ax, 4.2, 3.9)
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


def plot_scores(scores, *, measure="f1", ax=None):
    """
    Compare methods: one measure per class and its mean, with intervals.

    Parameters
    ----------
    scores : `~astropy.table.QTable` or dict
        PREDICTIONS with the true ``label``, or SCORES, or what `astroclassify.nn.score_seeds` gives (bars then have the
        scatter over seeds); or name of a method -> such a table. PREDICTIONS are scored as by `astroclassify.nn.score`
        with ``rng=0``, those of several seeds as by `~astroclassify.nn.score_seeds`.
    measure : str, optional
        Column to show.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a table has no such columns, or PREDICTIONS no labels; if matplotlib is not installed.
    """
    scores = named_tables(_scored(scores, _scores_of), ("class", measure), "scores")
    figure, axis = axes_for(ax, 7.0, 3.6)
    step = 0.8 / max(len(scores), 1)
    for number, (method, table) in enumerate(scores.items()):
        colour, line, _ = style(number)
        middle = np.asarray(table[measure], float)
        place = np.arange(len(table)) - 0.4 + step * (number + 0.5)
        if f"{measure}_std" in table.colnames:
            scatter = np.nan_to_num(np.asarray(table[f"{measure}_std"], float))
            low, high = middle - scatter, middle + scatter
        else:
            low, high = (np.asarray(table[f"{measure}_{end}"], float) for end in ("lo", "hi"))
        axis.bar(place, middle, 0.9 * step, color=colour, label=method, alpha=1 if line == "-" else 0.5)
        error = np.clip([middle - low, high - middle], 0, None)
        axis.errorbar(place, middle, error, fmt="none", color="black", lw=0.8, capsize=2)
    names = row_texts(next(iter(scores.values()))["class"]) if scores else []
    axis.set_xticks(range(len(names)), names)
    axis.set(ylabel=measure, ylim=(0, 1))
    if any(scores):  # above the axes: inside, the legend would cover the bars of good methods
        axis.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _scored(tables, score):
    """A table, or tables by name, with ``score(table)`` in the place of PREDICTIONS."""
    if isinstance(tables, dict):
        return {name: _scored(table, score) for name, table in tables.items()}
    return score(tables) if is_predictions(tables) else tables


# The scores need scikit-learn, which takes a second: imported when predictions are drawn.
def _scores_of(predictions):
    from astroclassify._scores import _scores, _seeds

    return _seeds.score_seeds(predictions) if "seed" in predictions.colnames else _scores.score(predictions, rng=0)


def _roc_of(predictions):
    from astroclassify._scores import _scores, _seeds

    return _seeds.roc_seeds(predictions) if "seed" in predictions.colnames else _scores.roc(predictions)


def _precision_recall_of(predictions):
    from astroclassify._scores._scores import precision_recall

    return precision_recall(predictions)


def _reliability_of(predictions):
    from astroclassify._scores._calibration import TOP, reliability

    bins = reliability(predictions)
    return bins[bins["class"] == TOP]


def _curves_of(curves, names, class_name):
    """Label -> table of one curve: of each class of one table, or of one class of several tables."""
    by_name = named_tables(curves, ("class", *names), "curves")
    if isinstance(curves, dict):
        if class_name is None:
            class_name = next((str(table["class"][0]) for table in by_name.values() if len(table)), None)
        lines = {name: (table, class_name) for name, table in by_name.items()}
    else:
        table = by_name[""]
        labels = dict.fromkeys(table["class"].tolist()) if class_name is None else [class_name]
        lines = {label: (table, label) for label in labels}
    chosen = {name: table[np.asarray(table["class"]) == label] for name, (table, label) in lines.items()}
    empty = [label for label, table in chosen.items() if not len(table)]
    if empty or not chosen:
        raise SchemaError(f"curves must have rows of the class to show, got none for {empty or class_name!r}")
    return chosen, class_name


def plot_roc(curves, *, class_name=None, ax=None):
    """
    ROC curves: true against false positive rate, with the areas under them.

    Parameters
    ----------
    curves : `~astropy.table.QTable` or dict
        PREDICTIONS with the true ``label``, or what `astroclassify.nn.roc` gives of them, drawn with one line for each
        class; or name of a method -> such a table, drawn with one line for each method. PREDICTIONS of several seeds,
        or what `astroclassify.nn.roc_seeds` gives of them: with the scatter over seeds as a band.
    class_name : str, optional
        Class to show; with several methods the first of the table by default.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a table has no such columns, or no curve of the class; if matplotlib is not installed.
    """
    chosen, class_name = _curves_of(_scored(curves, _roc_of), ("fpr", "tpr"), class_name)
    lines = [(label, table, *style(number)[:2]) for number, (label, table) in enumerate(chosen.items())]
    figure, axis = draw_roc(lines, 2, ax)
    axis.set_title(class_name or "", fontsize=10)
    axis.legend(fontsize=8, loc="lower right")
    return figure


def plot_precision_recall(curves, *, class_name=None, ax=None):
    """
    Precision against recall for all thresholds.

    Parameters
    ----------
    curves : `~astropy.table.QTable` or dict
        PREDICTIONS with the true ``label``, or what `astroclassify.nn.precision_recall` gives of them; or name of a
        method -> such a table, as for `plot_roc`.
    class_name : str, optional
        Class to show; with several methods the first of the table by default.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Lines are steps: between two thresholds nothing lies on a straight line.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a table has no such columns, or no curve of the class; if matplotlib is not installed.
    """
    chosen, class_name = _curves_of(_scored(curves, _precision_recall_of), ("precision", "recall"), class_name)
    figure, axis = axes_for(ax, 4.6, 4.4)
    for number, (label, table) in enumerate(chosen.items()):
        colour, line, _ = style(number)
        axis.step(table["recall"], table["precision"], line, color=colour, label=label, where="post")
    axis.set(xlabel="recall TP/(TP+FN)", ylabel="precision TP/(TP+FP)", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_title(class_name or "", fontsize=10)
    axis.legend(fontsize=8, loc="lower left")
    return figure


def plot_learning_curve(curve, *, measure="f1", class_name="mean", ax=None):
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
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. Sizes at which every training failed have no point.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a table has no such columns or no row of the class; if matplotlib is not installed.
    """
    curves = named_tables(curve, ("class", "n_groups", measure, f"{measure}_std"), "curve")
    figure, axis = axes_for(ax, 5.2, 3.8)
    ticks = set()
    for number, (method, table) in enumerate(curves.items()):
        rows = table[np.asarray(table["class"]) == class_name]
        if not len(rows):
            raise SchemaError(f"curve must have rows of class {class_name!r}")
        colour, line, _ = style(number)
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
    Reliability diagram: how often predictions with probability p are right, and how many answers each bin holds.

    Parameters
    ----------
    bins : `~astropy.table.QTable` or dict
        PREDICTIONS with the true ``label``, of which the most probable class is drawn; or what
        `astroclassify.nn.reliability` gives of them, for one class: ``p_mean`` (mean probability of a bin),
        ``fraction`` (fraction of its answers that are right), its limits ``fraction_lo`` and ``fraction_hi``, and ``n``
        (number of answers); or name -> such a table, such as before and after calibration. Bins without answers are not
        drawn.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure; on the diagonal probabilities are right, below it they are too high. Error bars go from
        ``fraction_lo`` to ``fraction_hi``: 95% intervals in which the members of a group do not count as independent.
        It has two panels, so it takes no ``ax``.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a table has no such columns, or holds several classes; if matplotlib is not installed.
    """
    names = ("p_mean", "fraction", "fraction_lo", "fraction_hi", "n")
    by_name = named_tables(_scored(bins, _reliability_of), names, "bins")
    figure = new_figure(4.6, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    for number, (name, table) in enumerate(by_name.items()):
        if "class" in table.colnames and len(classes := sorted(set(map(str, table["class"])))) > 1:
            raise SchemaError(f"bins must be those of one class (table[table['class'] == 'top']), got {classes}")
        columns = np.stack([np.asarray(table[column], float) for column in names])
        p, fraction, low, high, n = columns[:, columns[-1] > 0]
        colour, line, _ = style(number)
        error = np.maximum([fraction - low, high - fraction], 0)  # a limit may be off by rounding
        upper.errorbar(p, fraction, error, fmt=f"o{line}", color=colour, ms=4, capsize=2, label=name)
        lower.plot(p, n, f"o{line}", color=colour, ms=4)
    upper.set(ylabel="fraction right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    lower.set(xlabel="mean probability", ylabel="answers", ylim=(0, None))
    if any(by_name):
        upper.legend(fontsize=8, loc="upper left")
    return figure
