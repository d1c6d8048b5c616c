"""Shared parts of the figures: colours, axes, panels, checks of tables, bands of an image, ROC curves."""

import numpy as np
from astropy.nddata import CCDData
from scipy.integrate import trapezoid

from astroclassify._checks import require
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.images import Cutout, read_image
from astroclassify.images._pictures import stretch_of
from astroclassify.schemes import flag_names
from astroclassify.tables import plain_column, plain_table

__all__ = [
    "COLOURS",
    "MARKERS",
    "axes_for",
    "bands_of",
    "check_columns",
    "draw_roc",
    "flags_in_words",
    "is_predictions",
    "named_tables",
    "new_figure",
    "new_panels",
    "row_texts",
    "sky_norm",
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


def axes_for(ax, width, height, **settings):
    """Figure and axes to draw on: those that were given, or new ones of a size in inches."""
    if ax is None:
        figure = new_figure(width, height)
        return figure, figure.add_subplot(**settings)
    if not hasattr(ax, "plot"):
        raise ArgumentError(f"ax must be axes of Matplotlib or None, got {type(ax).__name__}")
    return ax.get_figure(), ax


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


def is_predictions(table):
    """Whether a table is one of PREDICTIONS, and none of scores or curves."""
    return "label_pred" in getattr(table, "colnames", ())


def flags_in_words(flags):
    """Names of the flags that are set, for a picture."""
    return ", ".join(name.replace("_", " ") for name in flag_names(flags))


def bands_of(image):
    """Band -> image of a path, an image or a cutout, X-rays first."""
    if isinstance(image, CCDData):
        return {"xray": image}
    if not isinstance(image, Cutout):
        try:
            image = Cutout.read(image)
        except ValueError:  # not a cutout of several bands
            return {"xray": read_image(image)}
    return dict(sorted(image.bands.items(), key=lambda item: item[0] != "xray"))


def sky_norm(data, stretch):
    """Scale of colours of an image of the sky, from zero to its 99.8th percentile."""
    from astropy.visualization import ImageNormalize

    seen = data[np.isfinite(data)]
    top = float(np.percentile(seen, 99.8)) if seen.size else 0.0
    top = top if top > 0 else float(seen.max(initial=0.0)) or 1.0
    return ImageNormalize(vmin=0.0, vmax=top, stretch=stretch_of(stretch), clip=False)


def draw_roc(lines, digits, ax=None):
    """Figure and axes with ROC curves; ``lines`` has name, table and colour and line style of each."""
    figure, axis = axes_for(ax, 4.6, 4.4)
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
