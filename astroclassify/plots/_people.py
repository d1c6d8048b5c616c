"""Figures of people's labels; part of `astroclassify.plots`."""

import numpy as np

from astroclassify.exceptions import SchemaError
from astroclassify.tables import plain_column

from ._base import COLOURS, check_columns, draw_roc, named_tables, new_figure, new_panels, row_texts, style
from ._survey import draw_bounds, extents_of

__all__ = ["plot_judge_roc", "plot_skill", "plot_who_was_right"]

# Verdict -> colour, marker, size: wrong verdicts stand out, and are drawn above right ones.
_VERDICTS = {
    "open": ("0.75", "x", 12),
    "TN": ("#56B4E9", "o", 10),
    "TP": ("#0072B2", "s", 12),
    "FN": ("#E69F00", "v", 26),
    "FP": ("#D55E00", "^", 26),
}
_VERDICT = "verdict_"
# Columns that measure how good volunteers are; the first that exists is shown.
_SKILLS = ("skill", "agreement")
_BINS = 25


def plot_judge_roc(curves, comparison=None, *, ax=None):
    """
    ROC curves of the vote fraction of volunteers and of the probabilities of networks, with the labels as points.

    Parameters
    ----------
    curves : `~astropy.table.QTable` or dict
        What `astroclassify.people.judge_roc` gives, or name of a judge -> such a table.
    comparison : `~astropy.table.QTable`, optional
        What `astroclassify.people.compare_labels` gives: a marker for each judge, where its labels are. Judges without
        numbers, such as experts, have this alone.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. The legend has the area under each curve. Judges without a rate (no cluster, or nothing else, among
        what they have decided) have no marker.

    Raises
    ------
    SchemaError, MissingDependencyError
        If there is no curve, or a column is missing; if matplotlib is not installed.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.plots import plot_judge_roc
    >>> from astroclassify.people import judge_roc
    >>> judge = QTable({"source_id": ["a", "b", "c"], "p_cluster": [0.9, 0.6, 0.4]})
    >>> curve = judge_roc({"a": "cluster", "b": "other", "c": "cluster"}, judge)
    >>> figure = plot_judge_roc({"network": curve})
    """
    curves = named_tables(curves, ("fpr", "tpr"), "curves")
    if not curves:
        raise SchemaError("curves must hold at least one curve")
    names = [str(name) for name in curves]
    if comparison is not None:
        comparison = check_columns(comparison, ("judge", "fpr", "recall"), "comparison")
        names = list(dict.fromkeys([*names, *row_texts(comparison["judge"]).tolist()]))
    lines = [(name, curve, *style(names.index(str(name)))[:2]) for name, curve in curves.items()]
    figure, axis = draw_roc(lines, 3, ax)
    if comparison is not None:
        _draw_labels(axis, comparison, names, {str(name) for name in curves})
    axis.legend(fontsize=8, loc="lower right")
    return figure


def _draw_labels(axis, comparison, names, with_curve):
    """A marker where the labels of each judge are; in the legend only where no curve is."""
    for name, fpr, recall in zip(*(comparison[column] for column in ("judge", "fpr", "recall")), strict=True):
        if np.isfinite(fpr) and np.isfinite(recall):
            colour, _, marker = style(names.index(str(name)))
            label = None if str(name) in with_curve else f"{name} (labels)"
            axis.plot(fpr, recall, marker, color=colour, ms=8, mec="black", mew=0.7, label=label, clip_on=False)


def plot_who_was_right(table, *, judges=None):
    """
    Extent against extension likelihood, one panel per judge: where each was right and wrong (as in Kosiba et al. 2020).

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What `astroclassify.people.who_was_right` gives with ``candidates=``.
    judges : sequence of str, optional
        Judges to show; by default all of the table.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure, with the bounds of C1 and C2. Axes are logarithmic; values below 0.5, so also an extension
        likelihood of zero, are drawn at 0.5. Sources without a result of the fit are left out and counted in the title;
        the legend counts what is drawn. It has a panel for each judge, so it takes no ``ax``.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a column is missing, or there is no judge; if matplotlib is not installed.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.plots import plot_who_was_right
    >>> from astroclassify.people import who_was_right
    >>> found = QTable({"source_id": ["a", "b"], "ext": [20, 3] * u.arcsec, "ext_like": [80.0, 0.0]})
    >>> labels = {"experts": {"a": "low_z", "b": "high_z"}}
    >>> table = who_was_right({"a": "low_z", "b": "point"}, labels, candidates=found)
    >>> figure = plot_who_was_right(table)
    """
    names = [name.removeprefix(_VERDICT) for name in getattr(table, "colnames", ()) if name.startswith(_VERDICT)]
    judges = names if judges is None else [judges] if isinstance(judges, str) else list(judges)
    if not judges or not set(judges) <= set(names):
        raise SchemaError(f"judges must be some of those of the table, {names}, got {judges}")
    table = check_columns(table, ("ext", "ext_like"), "table")
    ext, like, known = extents_of(table)
    figure, axes = new_panels(len(judges), min(len(judges), 3), (3.4, 3.2), (0.6, 0.6), sharex=True, sharey=True)
    for axis, judge in zip(axes, judges, strict=False):
        verdicts = row_texts(table[f"{_VERDICT}{judge}"])
        _draw_verdicts(axis, ext[known], like[known], verdicts[known])
        draw_bounds(axis, ext[known], like[known], fontsize=8)
        axis.set_title(judge, fontsize=10)
    figure.supxlabel("EXT [arcsec]", fontsize=10)
    figure.supylabel("EXT_LIKE", fontsize=10)
    left_out = int(np.sum(~known))
    if left_out:
        figure.suptitle(f"({left_out} without a result)", fontsize=9)
    return figure


def _draw_verdicts(axis, ext, like, verdicts):
    for name, (colour, marker, size) in _VERDICTS.items():
        rows = verdicts == name
        if name != "open" or rows.any():
            edge = {} if marker == "x" else {"edgecolor": "white", "linewidth": 0.3}
            axis.scatter(
                ext[rows], like[rows], s=size, marker=marker, color=colour, label=f"{name} ({rows.sum()})", **edge
            )
    axis.set(xscale="log", yscale="log")
    axis.legend(fontsize=7, loc="upper left")


def plot_skill(skill, *, measure=None):
    """
    How good each volunteer is against how many subjects the volunteer has seen, and the spread of both.

    Parameters
    ----------
    skill : `~astropy.table.QTable`
        What `astroclassify.people.volunteer_skill` gives.
    measure : str, optional
        Column to show, such as ``"g_shape"`` or ``"gold_right"``; by default ``skill`` where there is one (Dawid &
        Skene), else ``agreement``.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. At the right the share of the volunteers in each bin, and the share of the classifications: a few
        volunteers give most of them. Volunteers without a number are left out and counted in the title. It has two
        panels, so it takes no ``ax``.

    Raises
    ------
    SchemaError, MissingDependencyError
        If a column is missing; if matplotlib is not installed.

    Examples
    --------
    >>> from astroclassify.plots import plot_skill
    >>> from astroclassify.people import simulate_votes, volunteer_skill
    >>> votes = simulate_votes({"a": "edge", "b": "point_source"}, votes_per_subject=3, n_voters=5, rng=1)
    >>> figure = plot_skill(volunteer_skill(votes))
    """
    if measure is None:
        measure = next((name for name in _SKILLS if name in getattr(skill, "colnames", ())), _SKILLS[-1])
    skill = check_columns(skill, ("n_subjects", measure), "skill")
    values, numbers = plain_column(skill[measure]).astype(float), plain_column(skill["n_subjects"]).astype(float)
    known = np.isfinite(values) & (numbers > 0)
    left_out = int(np.sum(~known))
    values, numbers = values[known], numbers[known]
    figure = new_figure(7.0, 3.6)
    axis, side = figure.subplots(1, 2, sharey=True, width_ratios=(2.4, 1))
    axis.scatter(numbers, values, s=9, color=COLOURS[0], alpha=0.5, linewidth=0)
    axis.set(xscale="log", xlabel="subjects seen", ylabel=measure, ylim=(-0.03, 1.03))
    edges = np.linspace(0, 1, _BINS + 1)
    for label, weights, colour in (("volunteers", np.ones(len(values)), COLOURS[0]), ("votes", numbers, COLOURS[1])):
        shares, _ = np.histogram(values, edges, weights=weights / max(weights.sum(), 1))
        side.stairs(shares, edges, orientation="horizontal", color=colour, lw=1.4, label=label)
    side.set(xlabel="share per bin")
    side.legend(fontsize=8, loc="lower right")
    counted = f"{len(values)} volunteers, {numbers.sum():.0f} classifications"
    figure.suptitle(counted + (f" ({left_out} volunteers without a number)" if left_out else ""), fontsize=10)
    return figure
