"""A report of predictions: one HTML file with a sortable and filterable table, pictures and figures."""

import base64
import functools
import hashlib
import html
import json
import re
import warnings
from pathlib import Path

import numpy as np

from astroclassify import tables
from astroclassify._checks import check_integer, require, shorten
from astroclassify.exceptions import AstroclassifyWarning, OutputError, SchemaError
from astroclassify.schemes import ClassScheme

from .._links import ADDRESSES
from ._figures import figures_html
from ._pictures import take_pictures
from ._table import common_flags, joined, page_columns, positions, rows_in

__all__ = ["write_report"]

_ROWS_PER_PAGE = 100
# Pictures of a row in their order, and what they are called.
_PICTURES = {"xray": "X-ray", "activation": "activation map", "optical": "optical"}
_ENDS = ("html", "css", "js")
_PLACE = re.compile(r"\{\{([A-Z]+)\}\}")


def write_report(
    predictions, sample, out, *, columns=None, classifier=None, picture_size=128, executor=None, progress=None,
    overwrite=False,
):  # fmt: skip
    """
    Write a page of predictions: one HTML file that needs no other files and no network.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table; each row becomes one of the page.
    sample : `~astropy.table.QTable`
        The SAMPLE table of the sources, as `~astroclassify.tables.read_sample` gives it: images, and the columns
        ``sky_position``, ``label``, ``x_class``, ``ext``, ``ext_like``, ``det_like``, ``counts``, ``off_axis``,
        ``redshift`` and ``t_cool`` where it has them. Columns of the predictions take precedence.
    out : str or path-like
        The file, ``.html``.
    columns : sequence of str, optional
        Names of the columns that are shown when the page is opened, in their order, beside picture and ``source_id``:
        any of the predictions or the sample that hold one number or text a row, or ``"sky_position"``. By default those
        above but for ``det_like``, ``counts`` and ``off_axis``. The reader can show and hide each column.
    classifier : CutoutClassifier, optional
        As `~astroclassify.nn.load_classifier` returns it: beside each X-ray image stands its activation map for the
        predicted class.
    picture_size : int, optional
        Side of each picture in pixels, 16 to 512. In the table they are reduced to 64.
    executor : `~concurrent.futures.Executor`, optional
        Where pictures are made; by default here, one after the other.
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
        If a table lacks a column, no prediction is of a source of the sample, a predicted class is not in the scheme, a
        column that is to be shown does not exist or holds something else, or ``classifier`` has other classes.
    ValueError
        If ``out`` does not end in ``.html`` or ``picture_size`` is not allowed.
    OutputError
        If the file exists and ``overwrite`` is false, or it cannot be written.
    MissingDependencyError
        If Pillow or matplotlib is not installed, which come with the extra ``plots``.

    Warns
    -----
    AstroclassifyWarning
        If rows have no picture or, with a classifier, no activation map. They are on the page nevertheless, with the
        reason, and the page counts them.

    Notes
    -----
    A click on a picture enlarges it, with all that the table has of its source and links to SIMBAD, NED, the Legacy
    Survey and ESASky at its position, which are opened by the reader only. A position that no table has is the middle
    of the image. X-rays are smoothed and on an asinh scale from their median to their largest value, but noise alone
    stays dark; each image has its own scale. In the activation map (see `~astroclassify.nn.CutoutClassifier`, method
    ``activation_map``) red speaks for the class and blue against it. Flags that nine in ten rows have are named once,
    above the table, and rows say that they lack them. The figures are the number of sources by class, the extent
    against its likelihood where these are known, and the confusion matrix where there are labels of the scheme. Nothing
    in the tables is ever read as HTML, and a content security policy allows only the page's own script.

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
    picture_size = check_integer("picture_size", picture_size, 16, 512)
    _check_out(out, overwrite)
    predictions = tables.validate(predictions, tables.PREDICTIONS)
    sample = tables.validate(sample, tables.SAMPLE)
    scheme = ClassScheme.from_dict(dict(predictions.meta["scheme"]))
    if classifier is not None and tuple(classifier.scheme.classes) != scheme.classes:
        got = f"{tuple(classifier.scheme.classes)} instead of {scheme.classes}"
        raise SchemaError(f"classifier must have the classes of the predictions, got {got}")
    wanted = _column_names(columns)
    table = joined(predictions, sample, scheme)
    rows = rows_in(sample, table["source_id"])
    places = positions(predictions, sample, rows)
    page_columns(table, places, predictions, sample, wanted)  # what is wrong with them is to be found before the work
    pictures = take_pictures(
        sample, table, rows, picture_size, classifier=classifier, executor=executor, progress=progress
    )
    failures = _failures(pictures, len(table))
    if failures:
        warnings.warn(f"{'; '.join(failures)} ({out})", AstroclassifyWarning, stacklevel=2)
    notes = [*_on_rows(predictions, sample, rows, scheme), *(f"{text}." for text in failures)]
    unknown = np.isnan(places).any(axis=1)
    places[unknown] = np.array(pictures.middle).reshape(-1, 2)[unknown]
    if n_middle := int(np.isfinite(places[unknown]).all(axis=1).sum()):
        notes.append(f"{n_middle} of {len(table)} positions are the middle of the image: no table has them.")
    common = common_flags(table["flags"].tolist())
    data = {
        "columns": page_columns(table, places, predictions, sample, wanted),
        "classes": list(scheme.classes),
        "descriptions": list(scheme.descriptions),
        "n_rows": len(table),
        "rows_per_page": _ROWS_PER_PAGE,
        "common": list(common),
        "links": ADDRESSES,
        "pictures": {name: _PICTURES[name] for name in _PICTURES if any(name in each for each in pictures.files)},
        "picture": pictures.of_row,
        "no_map": pictures.no_map,
    }
    texts = {
        "TITLE": html.escape(f"Predictions of {Path(sample.meta['folder']).name}"),
        "NOTES": "".join(
            f"<p>{html.escape(note)}</p>\n"
            for note in (*notes, *_on_flags(common, len(table)), *_on_pictures(classifier))
        ),
        "FIGURES": figures_html(table, scheme),
        "DATA": _json(data),
        "PICTURES": _json(pictures.files),
    }
    tables.write_beside(out, functools.partial(_fill, texts=texts), overwrite=overwrite)
    return out


def _check_out(out, overwrite):
    """Check what can be known of the file, and of the packages that make it, before the work."""
    if out.suffix.lower() != ".html":
        raise ValueError(f"out must end in .html, got {str(out)!r}")
    if out.exists() and not overwrite:
        raise OutputError(f"{str(out)!r} exists already; choose another name or ask to overwrite it")
    if not out.parent.is_dir():
        raise OutputError(f"out: there is no folder {str(out.parent)!r}")
    require("PIL.Image", extra="plots")
    require("matplotlib.figure", extra="plots")


def _column_names(columns):
    names = columns if columns is None or isinstance(columns, str) else list(columns)
    if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
        raise SchemaError(f"columns must be a sequence of names, got {shorten(columns)}")
    return names


def _failures(pictures, n_rows):
    """What counts the rows without a picture or a map, without a full stop."""
    texts, missing = [], pictures.missing()
    if missing:
        reasons = "; ".join(f"{reason}: {number}" for reason, number in missing.most_common())
        texts.append(f"{missing.total()} of {n_rows} rows have no picture ({reasons})")
    no_map = [reason for reason in pictures.no_map if reason]
    if no_map:
        texts.append(f"{len(no_map)} of {n_rows} rows have no activation map (the first: {no_map[0]})")
    return texts


def _on_rows(predictions, sample, rows, scheme):
    """Sentences: what the rows are."""
    origin = [f", {text} {predictions.meta[name]}" for text, name in (("model", "model"), ("made", "date"))
              if predictions.meta.get(name)]  # fmt: skip
    first = f"{len(rows)} predictions, classes of the scheme {scheme.name!r} (version {scheme.version})"
    yield f"{first}{''.join(origin)}."
    alone = len(sample) - len(set(rows[rows >= 0].tolist()))
    if alone:
        yield f"{alone} of {len(sample)} sources of the sample have no prediction and are not shown."


def _on_flags(common, n_rows):
    """Sentence: which flags the rows do not repeat."""
    if common:
        number_of = {name: "all rows" if n == n_rows else f"{n} of {n_rows}" for name, n in common.items()}
        texts = ", ".join(f"{name} ({number})" for name, number in number_of.items())
        yield f"Flags named here and not in the rows: {texts}. A row without one of them says so."


def _on_pictures(classifier):
    """Sentences: what the pictures are."""
    if classifier is not None:
        name = getattr(classifier, "card_", {}).get("name", "")
        model = f" by the model {name}" if name else ""
        yield f"Activation maps{model}, for the predicted class: red speaks for it, blue against it."
    yield (
        "Pictures: X-ray, smoothed, and optical; each on its own scale, so that brightness cannot be compared between "
        "sources. A click enlarges them; one on the name of a column sorts by it. "
        f"Written by astroclassify {tables.provenance()['astroclassify']}."
    )


def _json(value):
    """JSON for a script element: no character in it begins or ends anything in HTML."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _fill(path, *, texts):
    """Write the page: texts replace the places of the template in one pass, so that no text is taken for a place."""
    template, style, script = ((Path(__file__).parent / f"report.{end}").read_text("utf-8") for end in _ENDS)
    texts = {**texts, "STYLE": style, "SCRIPT": script, "STYLEHASH": _digest(style), "SCRIPTHASH": _digest(script)}
    # Half of a surrogate pair, which a name can hold and UTF-8 cannot, is written as a reference.
    with open(path, "w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as file:
        for number, part in enumerate(_PLACE.split(template)):
            file.write(texts[part] if number % 2 else part)


def _digest(text):
    """What a content security policy calls the text of an element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
