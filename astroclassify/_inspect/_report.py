"""A report of predictions: one HTML file with a table to sort and filter, small pictures of the sources, figures."""

import base64
import functools
import hashlib
import html
import io
import json
import re
import warnings
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy.ndimage import gaussian_filter

from .. import batch, plots, tables
from .._image_files import _companion, _find_image, open_fits
from .._pictures import heat
from .._checks import require
from ..exceptions import AstroclassifyWarning, GeometryError, OutputError, SchemaError
from ..schemes import ClassScheme, Flag, flag_names
from ._images import _BLANK, _MASKED, SCALES, _grey

__all__ = ["write_report"]

# Columns beside the predictions, where the predictions or the sample have them and they say anything.
_FURTHER = {
    "label": "str",
    "x_class": "str",
    "ext": u.arcsec,
    "ext_like": "float",
    "redshift": "float",
    "t_cool": u.Gyr,
}
_ALWAYS = ("source_id", "label_pred", "flags")
_BANDS = ("xray", "optical")
# Smoothing of the X-ray image, in pixels of the thumbnail: it takes the noise of single counts away.
_SMOOTHING = 0.8
_QUALITY = 70  # of JPEG: at this size no difference is seen above
# Why a row has no thumbnail.
_NOT_IN_SAMPLE, _NO_IMAGE, _NO_FILE, _OUTSIDE, _UNREADABLE = (
    "not in the sample",
    "no image",
    "no such file",
    "outside of the sample folder",
    "image cannot be read",
)
_ROWS_PER_PAGE = 100
_PLACE = re.compile(r"\{\{([A-Z]+)\}\}")


def write_report(predictions, sample, out, *, thumbnail_size=64, executor=None, progress=True, overwrite=False):
    """
    Write a page of predictions: one HTML file that needs no other and no network.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table; each row becomes one of the page.
    sample : `~astropy.table.QTable`
        The SAMPLE table of the sources, as `~astroclassify.tables.read_sample` gives it: images, and the columns
        ``label``, ``x_class``, ``ext``, ``ext_like``, ``redshift`` and ``t_cool``. What the predictions have of these
        columns goes before.
    out : str or path-like
        The file, ``.html``.
    thumbnail_size : int, optional
        Side of a thumbnail in pixels, 16 to 256.
    executor : `~concurrent.futures.Executor`, optional
        Where thumbnails are made; by default here, one after the other.
    progress : bool, optional
        Whether to show a bar on standard error.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Returns
    -------
    `~pathlib.Path`
        The file. It is whole or not there.

    Raises
    ------
    SchemaError
        If a table is not what it should be, no prediction is of a source of the sample, or a predicted class is not in
        the scheme.
    ValueError
        If ``out`` does not end in ``.html`` or ``thumbnail_size`` is not allowed.
    OutputError
        If the file exists and ``overwrite`` is false, or it cannot be written.
    MissingDependencyError
        If Pillow or matplotlib is not installed, which come with the extra ``plots``.

    Warns
    -----
    AstroclassifyWarning
        If rows have no thumbnail. They are on the page all the same, with the reason, and the page counts them.

    Notes
    -----
    A thumbnail shows the X-ray image, smoothed and on an asinh scale from its median to its largest value, and beside
    it the optical one. Each has its own scale: brightness does not compare between sources. The figures are the number
    of sources by class, the extent against its likelihood where ``ext`` and ``ext_like`` are there, and the confusion
    matrix where labels of the scheme are.

    The page holds the table as JSON and makes the rows of one page of 100 at a time. Nothing of the tables is ever read
    as HTML, and a content security policy allows the page's own script alone.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> from astroclassify import tables
    >>> from astroclassify._inspect._report import write_report
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
    if not isinstance(thumbnail_size, (int, np.integer)) or not 16 <= thumbnail_size <= 256:
        raise ValueError(f"thumbnail_size must be a whole number from 16 to 256, got {thumbnail_size!r}")
    # Said now, not after all thumbnails are made.
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
    pictures, of_row = _thumbnails(sample, rows, int(thumbnail_size), executor, progress)
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
        "thumbnail_size": int(thumbnail_size),
    }
    texts = {
        "TITLE": html.escape(f"Predictions of {folder}"),
        "NOTES": "".join(
            f"<p>{html.escape(note)}</p>\n" for note in _notes(predictions, sample, rows, missing, scheme)
        ),
        "FIGURES": "".join(_figure_html(*figure) for figure in _figures(table, scheme)),
        "DATA": _json(data),
        "THUMBNAILS": _json(pictures),
    }
    tables.write_beside(out, functools.partial(_fill, texts=texts), overwrite=overwrite)
    return out


def _joined(predictions, sample, scheme):
    """The predictions as plain columns, and beside them what they or the sample say of each source."""
    table = QTable()
    for name in ("source_id", "label_pred"):
        table[name] = _texts(predictions[name])
    unknown = set(table["label_pred"]) - {"", *scheme.classes}
    if unknown:
        raise SchemaError(
            f"predictions: label_pred must be empty or a class of the scheme {scheme.name!r}, got {min(unknown)[:80]!r}"
        )
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
    mask = np.broadcast_to(getattr(column, "mask", False), len(column))
    return np.array(["" if out else str(value) for value, out in zip(column, mask, strict=True)], dtype="U")


def _floats(column, unit="float"):
    """Plain values, NaN where masked."""
    mask = np.broadcast_to(getattr(column, "mask", False), len(column))
    column = getattr(column, "unmasked", column)  # of astropy's masked quantities
    values = column.to_value(unit) if isinstance(unit, u.UnitBase) else np.asarray(column)
    return np.where(mask, np.nan, np.asarray(values, dtype=float))


def _flag_texts(column):
    """Names of the flags that are set; bits that this version does not know are told as a number."""
    known = int(sum(Flag))

    @functools.cache
    def words(flags):
        rest = flags & ~known
        return ", ".join([*flag_names(flags & known), *([f"unknown ({rest})"] if rest else [])])

    return np.array([words(int(flags)) for flags in np.ma.filled(np.ma.asarray(column), 0)], dtype="U")


def _columns(table, scheme):
    """Columns as the page takes them: name, kind, values that JSON can hold. Those that say nothing are left out."""
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
    """Distinct thumbnails as base64, and for each row the number of its own, or why it has none."""
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
    pictures, found = [], {-1: _NOT_IN_SAMPLE}
    for row, outcome in zip(wanted, outcomes, strict=True):
        reason = _UNREADABLE if outcome.error else outcome.value[1]
        found[row] = reason or len(pictures)
        if not reason:
            pictures.append(base64.b64encode(outcome.value[0]).decode())
    return pictures, [found[row] for row in rows.tolist()]


def _thumbnail(path, *, folder, size):
    """JPEG of the bands of one source side by side, and why there is none."""
    # The names in the table cannot lead out of the folder; a link could.
    real = path.resolve()
    if real == folder:
        return None, _NO_IMAGE
    if not real.is_relative_to(folder):
        return None, _OUTSIDE
    if not path.is_file():
        return None, _NO_FILE
    try:
        bands = _read_bands(path)
    except (GeometryError, OSError):
        return None, _UNREADABLE
    # The optical image keeps its place where there is none in X-rays.
    names = [name for name in _BANDS if name in bands or (name == "xray" and "optical" in bands)]
    if not names:
        return None, _NO_IMAGE
    tiles = [_tile(name, *bands[name], size) if name in bands else _blank_tile(size) for name in names]
    return _jpeg(np.concatenate(tiles, axis=1)), ""


def _read_bands(path):
    """
    Values of each band, and which of them are valid.

    Without coordinates and header: to read those, as `Cutout.read` does, takes ten times as long.
    """
    with open_fits(path) as hdus:
        header = hdus[0].header
        if not {"SOURCEID", "BANDS"} <= set(header):
            return {"xray": _read_band(hdus, None, "", path)}
        names = [name for name in str(header["BANDS"]).split(",") if name in _BANDS]
        return {name: _read_band(hdus, name.upper(), f"{name.upper()}_", path) for name in names}


def _read_band(hdus, hdu, prefix, path):
    found = _find_image(hdus, hdu, path)
    with np.errstate(over="ignore"):  # what a float of 32 bits cannot hold becomes infinite, and is not valid
        values = np.squeeze(found.data).astype(np.float32)
    valid = np.isfinite(values)
    for name, usable in (("MASK", lambda mask: mask == 0), ("EXPMAP", lambda exposure: exposure > 0)):
        other = _companion(hdus, f"{prefix}{name}", found)
        if other is not None and other.shape == values.shape:
            valid &= usable(other)
    return np.where(valid, values, 0), valid


def _tile(band, values, valid, size):
    """Colours (size, size, 3) of one band, first row on top, the longer side filled."""
    from PIL import Image

    scale = size / max(values.shape)
    shape = tuple(max(1, round(length * scale)) for length in values.shape)

    def reduced(array):
        return np.asarray(Image.fromarray(array).resize(shape[::-1], Image.Resampling.BOX))

    share = reduced(valid.astype(np.float32))
    known = share > 0.5
    small = np.divide(reduced(values), share, out=np.zeros(shape, np.float32), where=known)
    if band == "xray":
        level = np.median(small[known]) if known.any() else 0
        small = gaussian_filter(np.where(known, small, level), _SMOOTHING, mode="nearest")
    colours = (heat if band == "xray" else _grey)(SCALES[band].apply(small, known))
    colours[~known] = _MASKED if known.any() else _BLANK
    tile = _blank_tile(size)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    tile[top : top + shape[0], left : left + shape[1]] = colours[::-1]
    return tile


def _blank_tile(size):
    return np.full((size, size, 3), _BLANK, np.uint8)


def _jpeg(colours):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(colours).save(file, format="JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def _notes(predictions, sample, rows, missing, scheme):
    """What is said above the table, as plain sentences."""
    model, made = predictions.meta.get("model", ""), predictions.meta.get("date", "")
    notes = [
        f"{len(rows)} predictions, classes of the scheme {scheme.name!r} (version {scheme.version})"
        + (f", model {model}" if model else "")
        + (f", made {made}" if made else "")
        + "."
    ]
    alone = len(sample) - len(set(rows[rows >= 0].tolist()))
    if alone:
        notes.append(f"{alone} of {len(sample)} sources of the sample have no prediction and are not shown.")
    if missing:
        notes.append(f"{_missing_text(missing, len(rows))}.")
    notes.append(
        "Thumbnails: X-ray, smoothed, and optical beside it; each on its own scale, so that brightness does not "
        f"compare between sources. Written by astroclassify {tables.provenance()['astroclassify']}."
    )
    return notes


def _missing_text(missing, n_rows):
    reasons = "; ".join(f"{reason}: {number}" for reason, number in missing.most_common())
    return f"{missing.total()} of {n_rows} rows have no thumbnail ({reasons})"


def _figures(table, scheme):
    """Caption and figure, one after the other."""
    names = {name: name.replace("$", r"\$") for name in ("", *scheme.classes)}  # two dollar signs would begin a formula
    scheme = ClassScheme(scheme.name, [names[name] for name in scheme.classes], scheme.descriptions)
    predicted = np.array([names[name] for name in table["label_pred"]], dtype="U")
    labels = np.asarray(table["label"]) if "label" in table.colnames else np.full(len(table), "")
    # A label of another scheme is shown in the table and counts here as none.
    labels = np.array([names.get(name, "") for name in labels], dtype="U")
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
    """JSON that can stand inside a script element: no character in it begins or ends anything of HTML."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _fill(path, *, texts):
    """Write the page: the template with the texts in their places, in one pass: no text is taken for a place."""
    template = (files("astroclassify._inspect") / "report.html").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    texts = {**texts, "SCRIPTHASH": f"sha256-{digest}"}
    # Half of a surrogate pair, which a name can hold and UTF-8 cannot, is written as a reference.
    with open(path, "w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as file:
        for number, part in enumerate(_PLACE.split(template)):
            file.write(texts[part] if number % 2 else part)
