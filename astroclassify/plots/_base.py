"""Shared parts of the figures: colours, empty figures, panels, checks of tables, ROC axes."""

import numpy as np
from scipy.integrate import trapezoid

from astroclassify._checks import require
from astroclassify.exceptions import SchemaError
from astroclassify.tables import plain_column, plain_table

__all__ = [
    "COLOURS",
    "MARKERS",
    "check_columns",
    "draw_roc",
    "named_tables",
    "new_axes",
    "new_figure",
    "new_panels",
    "row_texts",
    "style",
]

# Readable by people with any colour vision (Okabe & Ito 2008), one per class.
COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")


def style(number):
    """Colour, line style and marker of one of many lines or bars: no two of the first 28 alike."""
    n = len(COLOURS)
    return COLOURS[number % n], _LINES[number // n % len(_LINES)], MARKERS[number % n]


def new_figure(width, height):
    """Empty figure of a size in inches, which opens no window."""
    return require("matplotlib.figure", extra="plots").Figure(figsize=(width, height), layout="constrained")


def new_axes(width, height):
    """Figure of a size in inches, and its axes."""
    figure = new_figure(width, height)
    return figure, figure.subplots()


def new_panels(n, n_columns, size, margin=(0, 0), **settings):
    """Figure and axes of ``n`` panels in rows of ``n_columns``, sizes in inches; the rest of the last row is off."""
    n_rows = -(-n // n_columns)
    figure = new_figure(margin[0] + size[0] * n_columns, margin[1] + size[1] * n_rows)
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False, **settings))
    for axis in axes[n:]:
        axis.set_axis_off()
    return figure, axes


def check_columns(table, names, what):
    """The table with plain columns, refused where it lacks one of ``names``; ``what`` names the argument."""
    missing = [name for name in names if name not in getattr(table, "colnames", ())]
    if missing:
        raise SchemaError(f"{what} must be a table with columns {list(names)}, lacks {missing}")
    return plain_table(table)


def named_tables(tables, names, what):
    """Tables by name, of a dict or one table (whose name is empty), after a check of their columns."""
    by_name = tables if isinstance(tables, dict) else {"": tables}
    return {name: check_columns(table, names, f"{what}[{name!r}]" if name else what) for name, table in by_name.items()}


def row_texts(column):
    """A column of names as an array of str."""
    return plain_column(column, "").astype(str)


def draw_roc(lines, digits):
    """Figure and axes with ROC curves; ``lines`` has name, table and colour and line style of each."""
    figure, axis = new_axes(4.6, 4.4)
    axis.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    for name, table, colour, line in lines:
        fpr, tpr = np.asarray(table["fpr"], float), np.asarray(table["tpr"], float)
        area = f"AUC {trapezoid(tpr, fpr):.{digits}f}"
        axis.plot(fpr, tpr, line, color=colour, label=f"{name} ({area})" if name else area)
        if "tpr_std" in table.colnames:
            scatter = np.nan_to_num(np.asarray(table["tpr_std"], float))
            low, high = np.clip([tpr - scatter, tpr + scatter], 0, 1)
            axis.fill_between(fpr, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set(xlabel="false positive rate FP/(FP+TN)", ylabel="true positive rate TP/(TP+FN)", aspect="equal")
    return figure, axis
