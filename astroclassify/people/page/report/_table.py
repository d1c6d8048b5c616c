"""The table of a report: columns of the predictions and the sample, one row per prediction, as JSON can hold them."""

import functools
from collections import Counter

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify import tables
from astroclassify._checks import shorten
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import ClassScheme, Flag, flag_names

__all__ = ["common_flags", "degrees", "flag_texts", "joined", "page_columns", "positions", "rows_in"]

_POSITION = "sky_position"
# Columns beside the predictions, where the predictions or the sample have them.
_FURTHER = {"label": "str", "x_class": "str", "ext": u.arcsec, "ext_like": "float", "det_like": "float"}
_FURTHER |= {"counts": u.ct, "off_axis": u.arcmin, "redshift": "float", "t_cool": u.Gyr}
# Of these, those that are not shown until they are asked for, so that the others fit on a screen.
_HIDDEN = ("det_like", "counts", "off_axis")
_ALWAYS = ("source_id", "label_pred", "flags")
# Significant digits. More than anyone reads would double the size; what another column is of is not known.
_DIGITS, _DIGITS_OF_OTHERS = 4, 8
_LARGEST_EXACT = 2**53  # whole number in a browser; larger ones, such as names in catalogues, are texts
# A flag that so many of the rows have tells them apart no longer.
_COMMON = 0.9


def joined(predictions, sample, scheme):
    """The predictions as plain columns (QTable), and beside them the usual ones of the predictions or the sample."""
    table = QTable()
    for name in ("source_id", "label_pred"):
        table[name] = _texts(predictions[name])
    unknown = set(table["label_pred"]) - {"", *scheme.classes}
    if unknown:
        got = min(unknown)[:80]
        raise SchemaError(f"predictions: label_pred must be empty or a class of scheme {scheme.name!r}, got {got!r}")
    for label in scheme.classes:
        table[f"p_{label}"] = _floats(predictions[f"p_{label}"])
    rows = rows_in(sample, table["source_id"])
    if len(rows) and (rows < 0).all():
        raise SchemaError(f"predictions must be of sources of the sample, got {table['source_id'][0][:80]!r} ...")
    for name, kind in _FURTHER.items():
        if (found := _holder(name, predictions, sample, rows)) is None:
            continue
        what, source, of_row = found
        column = tables.validate(source[[name]], tables.TableSpec(f"usable {what}", ((name, kind),)))[name]
        values, blank = (_texts(column), "") if kind == "str" else (_floats(column, kind), np.nan)
        table[name] = np.append(values, blank)[of_row]  # the blank, which is last, where the row is -1
    table["flags"] = flag_texts(predictions["flags"])
    if "message" in predictions.colnames:
        table["message"] = _texts(predictions["message"])
    table.meta["scheme"] = scheme.to_dict()
    return table


def rows_in(sample, names):
    """Row of each source in the sample; -1 where it has none."""
    row_of = {str(name): row for row, name in enumerate(sample["source_id"])}
    return np.array([row_of.get(name, -1) for name in names], dtype=int)


def _holder(name, predictions, sample, rows):
    """Which of the tables has a column, what it is called, and its row for each prediction; None if neither has it."""
    if name in predictions.colnames:
        return "predictions", predictions, np.arange(len(rows))
    return ("sample", sample, rows) if name in sample.colnames else None


def positions(predictions, sample, rows):
    """ICRS degrees (n, 2) of each prediction, from the column ``sky_position``; NaN where it is not known."""
    found = np.full((len(rows), 2), np.nan)
    if (holder := _holder(_POSITION, predictions, sample, rows)) is not None and len(rows):
        what, source, of_row = holder
        sky = tables.plain_sky(source[_POSITION], f"column {_POSITION!r} of the {what}")
        found = np.append(degrees(sky), [[np.nan, np.nan]], axis=0)[of_row]
    return found


def degrees(sky):
    """Right ascension and declination [deg, (..., 2)]."""
    return np.stack([sky.ra.deg, sky.dec.deg], axis=-1)


def _texts(column):
    """Values as text, empty where masked."""
    return tables.plain_column(column, "").astype(str)


def _floats(column, unit="float"):
    """Plain values, NaN where masked."""
    values = tables.plain_column(column)
    return np.asarray(values.to_value(unit) if isinstance(unit, u.UnitBase) else values, dtype=float)


def flag_texts(column):
    """Names of the flags that are set; bits unknown to this version are given as a number."""
    known = int(sum(Flag))

    @functools.cache
    def words(flags):
        rest = flags & ~known
        return ", ".join([*flag_names(flags & known), *([f"unknown ({rest})"] if rest else [])])

    return np.array([words(int(flags)) for flags in tables.plain_column(column, 0)], dtype=str)


def common_flags(texts):
    """Name -> number of rows of the flags that nearly all rows have, of the texts of `flag_texts`."""
    counts = Counter(name for text in texts for name in text.split(", ") if name)
    return {name: number for name, number in counts.items() if number >= _COMMON * len(texts)}


def page_columns(table, places, predictions, sample, wanted):
    """
    Columns of the page: name, unit, kind, values, and whether they are shown at first.

    ``table`` is that of `joined`, ``places`` the positions [deg, (n, 2)]. ``wanted`` are the names of those that are
    shown, in their order, after the name of the source; None: the usual ones. Empty ones are left out unless wanted.
    """
    usual = ["source_id", _POSITION, *table.colnames[1:]]
    first = [] if wanted is None else ["source_id", *wanted]
    shown = set(usual) - set(_HIDDEN) if wanted is None else set(first)
    columns = []
    for name in dict.fromkeys([*first, *usual]):
        if name == _POSITION:
            column = _position_column(places)
        elif name in table.colnames:
            column = _usual_column(table, name)
        else:
            column = _further_column(name, predictions, sample, rows_in(sample, table["source_id"]))
        kept = name in (*_ALWAYS, *first) or column["kind"] == "probability"
        if kept or any(value not in ("", None) for value in column["values"]):
            columns.append({"name": name, **column, "shown": name in shown})
    return columns


def _usual_column(table, name):
    """A column of the joined table."""
    values, unit = table[name], _FURTHER.get(name)
    if values.dtype.kind != "f":
        return {"kind": "flags" if name == "flags" else "text", "unit": "", "values": values.tolist()}
    labels = ClassScheme.from_dict(dict(table.meta["scheme"])).classes
    kind = "probability" if name in {f"p_{label}" for label in labels} else "number"
    unit = unit.to_string() if isinstance(unit, u.UnitBase) else ""
    return {"kind": kind, "unit": unit, "values": _rounded(values, _DIGITS)}


def _position_column(places):
    known = np.isfinite(places).all(axis=1)
    texts = [f"{ra:.5f} {dec:+.5f}" if here else "" for (ra, dec), here in zip(places.tolist(), known, strict=True)]
    sky = SkyCoord(*np.where(known[:, np.newaxis], places, 0).T, unit="deg")
    sexagesimal = sky.to_string("hmsdms", sep=":", precision=2, pad=True) if len(places) else []
    sexagesimal = [text if here else "" for text, here in zip(sexagesimal, known, strict=True)]
    return {"kind": "position", "unit": "deg", "values": texts, "sexagesimal": sexagesimal}


def _further_column(name, predictions, sample, rows):
    """A column that was asked for, of texts, booleans, numbers or quantities."""
    if (holder := _holder(name, predictions, sample, rows)) is None:
        known = dict.fromkeys([*predictions.colnames, *sample.colnames])
        raise SchemaError(f"columns: {name!r} must be a column of predictions or sample: {shorten(list(known), 300)}")
    what, source, of_row = holder
    column = tables.plain_table(source[[name]])[name]
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if np.ndim(column) != 1 or kind not in "biufU" or not kind:
        got = f"{type(column).__name__} of shape {np.shape(column)}"
        raise SchemaError(f"columns: {name!r} of the {what} must hold one number or text a row, got {got}")
    if kind == "f":
        values = _rounded(np.asarray(getattr(column, "value", column), dtype=float), _DIGITS_OF_OTHERS)
    else:
        values = np.ma.asarray(column).tolist()  # None where masked
    if kind == "b":
        values = [None if value is None else "yes" if value else "no" for value in values]
    elif kind in "iu" and any(abs(value or 0) > _LARGEST_EXACT for value in values):
        values, kind = [None if value is None else str(value) for value in values], "U"
    is_text, unit = kind in "bU", getattr(column, "unit", None)
    blank = "" if is_text else None
    values = [blank if value is None else value for value in [*values, None]]
    return {
        "kind": "text" if is_text else "number",
        "unit": "" if unit is None else u.Unit(unit).to_string(),
        "values": [values[row] for row in of_row.tolist()],  # the blank, which is last, where the row is -1
    }


def _rounded(values, digits):
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]
