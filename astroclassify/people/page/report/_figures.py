"""The figures of a report, as HTML."""

import base64
import html
import io
from collections import Counter

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify import plots
from astroclassify._checks import require
from astroclassify.schemes import ClassScheme

__all__ = ["figures_html"]


def figures_html(table, scheme):
    """All figures of a joined table, one after the other."""
    return "".join(_figure_html(*figure) for figure in _figures(table, scheme))


def _figures(table, scheme):
    """Caption and figure, one after the other."""
    names = {name: name.replace("$", r"\$") for name in ("", *scheme.classes)}  # two dollar signs would make a formula
    scheme = ClassScheme(scheme.name, [names[name] for name in scheme.classes], scheme.descriptions)
    predicted = np.array([names[name] for name in table["label_pred"]], dtype=str)
    labels = np.asarray(table["label"]) if "label" in table.colnames else np.full(len(table), "")
    # A label of another scheme is shown in the table, but counts as none here.
    labels = np.array([names.get(name, "") for name in labels], dtype=str)
    yield "Sources by class", _plot_classes(predicted, labels, scheme)
    if {"ext", "ext_like"} <= set(table.colnames) and np.isfinite(table["ext"] + table["ext_like"]).any():
        plane = QTable({"ext": table["ext"] * u.arcsec, "ext_like": table["ext_like"], "class": predicted})
        yield "Extent and its likelihood, by predicted class", plots.plot_extent_plane(plane, by="class")
    if (labels != "").any():
        matrix = QTable({"label_pred": predicted, "label": labels}, meta={"scheme": scheme.to_dict()})
        yield "Labels and predictions", plots.plot_confusion(matrix)


def _plot_classes(predicted, labels, scheme):
    """Number of sources by predicted class, and by label where there are labels."""
    names = [*scheme.classes, *(["no answer"] if (predicted == "").any() else [])]
    figure = require("matplotlib.figure", extra="plots").Figure(figsize=(5.6, 3.9), layout="constrained")
    axis = figure.subplots()
    groups = {"predicted": ([*scheme.classes, ""][: len(names)], predicted, "#0072B2")}
    if (labels != "").any():
        groups["label"] = (scheme.classes, labels, "0.7")
    width = 0.8 / len(groups)
    for number, (title, (classes, values, colour)) in enumerate(groups.items()):
        counts = Counter(values.tolist())
        place = np.arange(len(classes)) - 0.4 + width * (number + 0.5)
        bars = axis.bar(place, [counts[name] for name in classes], 0.94 * width, color=colour, label=title)
        axis.bar_label(bars, fontsize=6)
    axis.set_xticks(range(len(names)), names)
    axis.set(ylabel="sources")
    axis.margins(y=0.08)
    if len(groups) > 1:
        figure.legend(fontsize=8, ncols=2, loc="outside upper center")  # inside, it would cover a bar
    return figure


def _figure_html(caption, figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    caption = html.escape(caption)
    return f'<figure><img src="{address}" alt="{caption}"><figcaption>{caption}</figcaption></figure>\n'
