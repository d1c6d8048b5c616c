"""A report of predictions: one HTML file with a sortable and filterable table, thumbnails and figures."""

import base64
import functools
import hashlib
import html
import io
import json
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify import batch, plots, tables
from astroclassify._checks import check_integer, require
from astroclassify.exceptions import AstroclassifyWarning, GeometryError, OutputError, SchemaError
from astroclassify.images._files import _companion, _find_image
from astroclassify.images._open import open_fits
from astroclassify.images._pictures import SCALES, encode, thumbnail
from astroclassify.schemes import ClassScheme, Flag, flag_names

__all__ = ["write_report"]

# Columns beside the predictions, where the predictions or the sample have them and they are not empty.
_FURTHER = {"label": "str", "x_class": "str", "ext": u.arcsec, "ext_like": "float", "redshift": "float"}
_FURTHER["t_cool"] = u.Gyr
_ALWAYS = ("source_id", "label_pred", "flags")
_QUALITY = 70  # of JPEG: at this size higher ones look the same
_ROWS_PER_PAGE = 100
_PLACE = re.compile(r"\{\{([A-Z]+)\}\}")


def write_report(predictions, sample, out, *, thumbnail_size=64, executor=None, progress=None, overwrite=False):
    """
    Write a page of predictions: one HTML file that needs no other files and no network.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table; each row becomes one of the page.
    sample : `~astropy.table.QTable`
        The SAMPLE table of the sources, as `~astroclassify.tables.read_sample` gives it: images, and the columns
        ``label``, ``x_class``, ``ext``, ``ext_like``, ``redshift`` and ``t_cool``. Columns of
        the predictions take precedence.
    out : str or path-like
        The file, ``.html``.
    thumbnail_size : int, optional
        Side of a thumbnail in pixels, 16 to 256.
    executor : `~concurrent.futures.Executor`, optional
        Where thumbnails are made; by default here, one after the other.
    progress : bool, optional
        Whether to show a bar on standard error; by default on a terminal only.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Returns
    -------
    `~pathlib.Path`
        The file, which is written completely or not at all.

    Raises
    ------
    SchemaError
        If a table lacks a column, no prediction is of a source of the sample, or a predicted class is not in the
        scheme.
    ValueError
        If ``out`` does not end in ``.html`` or ``thumbnail_size`` is not allowed.
    OutputError
        If the file exists and ``overwrite`` is false, or it cannot be written.
    MissingDependencyError
        If Pillow or matplotlib is not installed, which come with the extra ``plots``.

    Warns
    -----
    AstroclassifyWarning
        If rows have no thumbnail. They are on the page nevertheless, with the reason, and the page counts them.

    Notes
    -----
    A thumbnail shows the X-ray image, smoothed and on an asinh scale from its median to its largest value, and beside
    it the optical one, each on its own scale. The figures are the number of sources by class, the extent against its
    likelihood where these are known, and the confusion matrix where there are labels of the scheme. Nothing in the
    tables is ever read as HTML, and a content security policy allows only the page's own script.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> from astroclassify import tables
    >>> from astroclassify.people import write_report
    >>> from astroclassify.images import write_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_image(CCDData(np.eye(32), unit="ct"), f"{folder}/a.fits")
    ...     sample = tables.empty(tables.SAMPLE)
    ...     sample.add_row({"source_id": "a", "path": "a.fits", "label": "cluster"})
    ...     sample.meta["folder"] = folder
    ...     predictions = tables.empty(tables.PREDICTIONS, scheme="cluster")
    ...     predictions.add_row(["a", "cluster", 0.9, 0.1, 0])
    ...     write_report(predictions, sample, Path(folder) / "report.html", progress=False).name
    'report.html'
    """
    out = Path(out)
    if out.suffix.lower() != ".html":
        raise ValueError(f"out must end in .html, got {str(out)!r}")
    thumbnail_size = check_integer("thumbnail_size", thumbnail_size, 16, 256)
    # Checked now, not after all thumbnails are made.
    if out.exists() and not overwrite:
        raise OutputError(f"{str(out)!r} exists already; choose another name or ask to overwrite it")
    if not out.parent.is_dir():
        raise OutputError(f"out: there is no folder {str(out.parent)!r}")
    require("PIL.Image", extra="plots")
    require("matplotlib.figure", extra="plots")
    predictions = tables.validate(predictions, tables.PREDICTIONS)
    sample = tables.validate(sample, tables.SAMPLE)
    scheme = ClassScheme.from_dict(dict(predictions.meta["scheme"]))
    table = _joined(predictions, sample, scheme)
    rows = _rows_in(sample, table["source_id"])
    pictures, of_row = _thumbnails(sample, rows, thumbnail_size, executor, progress)
    missing = Counter(value for value in of_row if isinstance(value, str))
    if missing:
        warnings.warn(f"{_missing_text(missing, len(table))} ({out})", AstroclassifyWarning, stacklevel=2)
    folder = Path(sample.meta["folder"]).name
    data = {
        "columns": _columns(table, scheme),
        "classes": list(scheme.classes),
        "descriptions": list(scheme.descriptions),
        "n_rows": len(table),
        "rows_per_page": _ROWS_PER_PAGE,
        "thumbnail": of_row,
        "thumbnail_size": thumbnail_size,
    }
    notes = _notes(predictions, sample, rows, missing, scheme)
    texts = {
        "TITLE": html.escape(f"Predictions of {folder}"),
        "NOTES": "".join(f"<p>{html.escape(note)}</p>\n" for note in notes),
        "FIGURES": "".join(_figure_html(*figure) for figure in _figures(table, scheme)),
        "DATA": _json(data),
        "THUMBNAILS": _json(pictures),
    }
    tables.write_beside(out, functools.partial(_fill, texts=texts), overwrite=overwrite)
    return out


def _joined(predictions, sample, scheme):
    """The predictions as plain columns, and beside them further columns of the predictions or the sample."""
    table = QTable()
    for name in ("source_id", "label_pred"):
        table[name] = _texts(predictions[name])
    unknown = set(table["label_pred"]) - {"", *scheme.classes}
    if unknown:
        got = min(unknown)[:80]
        raise SchemaError(f"predictions: label_pred must be empty or a class of scheme {scheme.name!r}, got {got!r}")
    for label in scheme.classes:
        table[f"p_{label}"] = _floats(predictions[f"p_{label}"])
    rows = _rows_in(sample, table["source_id"])
    if len(rows) and (rows < 0).all():
        raise SchemaError(f"predictions must be of sources of the sample, got {table['source_id'][0][:80]!r} ...")
    for name, kind in _FURTHER.items():
        ours = name in predictions.colnames
        source, of_row = (predictions, np.arange(len(rows))) if ours else (sample, rows)
        if name not in source.colnames:
            continue
        spec = tables.TableSpec("usable predictions" if ours else "usable sample", ((name, kind),))
        column = tables.validate(source[[name]], spec)[name]
        values, blank = (_texts(column), "") if kind == "str" else (_floats(column, kind), np.nan)
        table[name] = np.append(values, blank)[of_row]  # the blank, which is last, where the row is -1
    table["flags"] = _flag_texts(predictions["flags"])
    if "message" in predictions.colnames:
        table["message"] = _texts(predictions["message"])
    table.meta["scheme"] = scheme.to_dict()
    return table


def _rows_in(sample, names):
    """Row of each source in the sample; -1 where it has none."""
    row_of = {str(name): row for row, name in enumerate(sample["source_id"])}
    return np.array([row_of.get(name, -1) for name in names], dtype=int)


def _texts(column):
    """Values as text, empty where masked."""
    return tables.plain_column(column, "").astype(str)


def _floats(column, unit="float"):
    """Plain values, NaN where masked."""
    values = tables.plain_column(column)
    return np.asarray(values.to_value(unit) if isinstance(unit, u.UnitBase) else values, dtype=float)


def _flag_texts(column):
    """Names of the flags that are set; bits unknown to this version are given as a number."""
    known = int(sum(Flag))

    @functools.cache
    def words(flags):
        rest = flags & ~known
        return ", ".join([*flag_names(flags & known), *([f"unknown ({rest})"] if rest else [])])

    return np.array([words(int(flags)) for flags in tables.plain_column(column, 0)], dtype=str)


def _columns(table, scheme):
    """Columns for the page: name, unit, kind, values that JSON can hold. Empty ones are left out."""
    columns, probabilities = [], {f"p_{label}" for label in scheme.classes}
    for name in table.colnames:
        values, kind = table[name].tolist(), "text"
        if table[name].dtype.kind == "f":
            kind = "probability" if name in probabilities else "number"
            # More digits than anyone reads would double the size.
            values = [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
        unit = _FURTHER.get(name)
        unit = unit.to_string() if isinstance(unit, u.UnitBase) else ""
        if name in _ALWAYS or name in probabilities or any(value not in ("", None) for value in values):
            columns.append({"name": name, "unit": unit, "kind": kind, "values": values})
    return columns


def _thumbnails(sample, rows, size, executor, progress):
    """Distinct thumbnails as base64, and for each row the number of its thumbnail, or why it has none."""
    paths = tables.image_paths(sample)
    folder = Path(sample.meta["folder"]).resolve()
    wanted = sorted(set(rows[rows >= 0].tolist()))
    outcomes = batch.run(
        functools.partial(_thumbnail, folder=folder, size=size),
        [paths[row] for row in wanted],
        keys=[str(sample["source_id"][row]) for row in wanted],
        executor=executor,
        progress=progress,
        description="thumbnails",
    )
    pictures, found = [], {-1: "not in the sample"}
    for row, outcome in zip(wanted, outcomes, strict=True):
        reason = "image cannot be read" if outcome.error else outcome.value[1]
        found[row] = reason or len(pictures)
        if not reason:
            pictures.append(base64.b64encode(outcome.value[0]).decode())
    return pictures, [found[row] for row in rows.tolist()]


def _thumbnail(path, *, folder, size):
    """JPEG of the bands of one source side by side, or why there is none."""
    # The names in the table cannot lead out of the folder; a link could.
    real = path.resolve()
    if real == folder:
        return None, "no image"
    if not real.is_relative_to(folder):
        return None, "outside of the sample folder"
    if not path.is_file():
        return None, "no such file"
    try:
        bands = _read_bands(path)
    except (GeometryError, OSError):
        return None, "image cannot be read"
    colours = thumbnail(bands, size)
    return (None, "no image") if colours is None else (encode(colours, "JPEG", quality=_QUALITY, optimize=True), "")


def _read_bands(path):
    """Values and valid pixels of each band; reading coordinates too, as `Cutout.read` does, takes ten times as long."""
    with open_fits(path) as hdus:
        header = hdus[0].header
        if not {"SOURCEID", "BANDS"} <= set(header):
            return {"xray": _read_band(hdus, None, "", path)}
        names = [name for name in str(header["BANDS"]).split(",") if name in SCALES]
        return {name: _read_band(hdus, name.upper(), f"{name.upper()}_", path) for name in names}


def _read_band(hdus, hdu, prefix, path):
    found = _find_image(hdus, hdu, path)
    with np.errstate(over="ignore"):  # values beyond 32-bit floats become infinite, and are not valid
        values = np.squeeze(found.data).astype(np.float32)
    valid = np.isfinite(values)
    for name, usable in (("MASK", lambda mask: mask == 0), ("EXPMAP", lambda exposure: exposure > 0)):
        other = _companion(hdus, f"{prefix}{name}", found)
        if other is not None and (data := np.squeeze(other.data)).shape == values.shape:
            valid &= usable(data)
    return np.where(valid, values, 0), valid


def _notes(predictions, sample, rows, missing, scheme):
    """The notes above the table, as plain sentences."""
    origin = [f", {text} {predictions.meta[name]}" for text, name in (("model", "model"), ("made", "date"))
              if predictions.meta.get(name)]  # fmt: skip
    first = f"{len(rows)} predictions, classes of the scheme {scheme.name!r} (version {scheme.version})"
    notes = [f"{first}{''.join(origin)}."]
    alone = len(sample) - len(set(rows[rows >= 0].tolist()))
    if alone:
        notes.append(f"{alone} of {len(sample)} sources of the sample have no prediction and are not shown.")
    if missing:
        notes.append(f"{_missing_text(missing, len(rows))}.")
    notes.append(
        "Thumbnails: X-ray, smoothed, and optical beside it; each on its own scale, so that brightness cannot "
        f"be compared between sources. Written by astroclassify {tables.provenance()['astroclassify']}."
    )
    return notes


def _missing_text(missing, n_rows):
    reasons = "; ".join(f"{reason}: {number}" for reason, number in missing.most_common())
    return f"{missing.total()} of {n_rows} rows have no thumbnail ({reasons})"


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


def _json(value):
    """JSON for a script element: no character in it begins or ends anything in HTML."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _fill(path, *, texts):
    """Write the page: texts replace the places of the template in one pass, so that no text is taken for a place."""
    template = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    texts = {**texts, "SCRIPTHASH": f"sha256-{digest}"}
    # Half of a surrogate pair, which a name can hold and UTF-8 cannot, is written as a reference.
    with open(path, "w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as file:
        for number, part in enumerate(_PLACE.split(template)):
            file.write(texts[part] if number % 2 else part)
