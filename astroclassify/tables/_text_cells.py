"""Tables of text cells, such as CSV: types of columns that keep every value as written, and names with their units."""

import csv
import io
import re
from collections import Counter

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table

from astroclassify.exceptions import SchemaError

from ._columns import CANDIDATES, PREDICTIONS, SAMPLE, SCORES, VOTES
from ._guard import open_unpacked
from ._plain import plain_column

__all__ = ["cells_of", "named_units", "read_csv", "table_of_cells", "write_csv"]

_MISSING = {"", "null", "nan", "--", "n/a"}
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,18})")
# What float() takes, except 1_2: Python reads it as 12, but it is a name.
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)
_NAMED_UNIT = re.compile(r"(.*\S)\s*\[([^\[\]]+)\]")
_SPECS = (CANDIDATES, PREDICTIONS, SAMPLE, SCORES, VOTES)
_TEXTS = {"message", *(name for spec in _SPECS for name, kind in spec.columns if kind == "str")}
_POSITION = "sky_position"


def cells_of(lines, mark, n_columns, what, quoting=csv.QUOTE_MINIMAL):
    """Rows of stripped cells of (number, line) pairs; SchemaError, which calls the file ``what``, for other lengths."""
    reader, rows = csv.reader((line for _, line in lines), delimiter=mark, quoting=quoting), []
    for cells in reader:
        if len(cells) != n_columns:
            place = lines[reader.line_num - 1][0]
            raise SchemaError(f"path: line {place} of {what!r} has {len(cells)} cells instead of {n_columns}")
        rows.append([cell.strip() for cell in cells])
    return rows


def table_of_cells(names, rows, texts, what, missing_words=_MISSING):
    """Table of cells: booleans, whole numbers, numbers, or text; masked where a cell is empty or another word for that.
    ``texts``: names, in lower case, of columns that hold text whatever it looks like."""
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise SchemaError(f"path: {what!r} has several columns called {repeated}")
    columns = {}
    for name, cells in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True):
        missing = np.array([cell.lower() in missing_words for cell in cells], dtype=bool)
        values = [cell for cell, gap in zip(cells, missing, strict=True) if not gap]
        kind = str if name.lower() in texts else _kind(values)
        blank = {bool: False, int: 0, float: np.nan, str: ""}[kind]
        convert = (lambda cell: cell == "True") if kind is bool else kind
        filled = [blank if gap else convert(cell) for cell, gap in zip(cells, missing, strict=True)]
        dtype = {bool: bool, int: np.int64, float: float, str: None if cells else "U1"}[kind]
        columns[name] = MaskedColumn(filled, mask=missing, dtype=dtype) if missing.any() else np.array(filled, dtype)
    return Table(columns, copy=False)


def _kind(values):
    """Type that keeps every value as written: 0123 is a name, not a number."""
    if values and all(value in ("True", "False") for value in values):
        return bool
    if values and all(_INTEGER.fullmatch(value) and abs(int(value)) < 1 << 63 for value in values):
        return int
    if not all(_NUMBER.fullmatch(value) for value in values):
        return str
    digits = (value for value in values if value.lstrip("+-").isdigit())
    return float if all(_INTEGER.fullmatch(value) for value in digits) else str


def named_units(names):
    """Names and units ("": none) of headers like ``ext [arcsec]``, as `write_csv` writes them."""
    matches = [_NAMED_UNIT.fullmatch(name) for name in names]
    pairs = [(match[1], match[2].strip()) if match else (name, "") for match, name in zip(matches, names, strict=True)]
    return [name for name, _ in pairs], [unit for _, unit in pairs]


def write_csv(table, stream):
    """
    Write a plain table to a text stream as CSV: one line of names, each with its unit in brackets, then a line per row.

    A position becomes two columns ``<name>_ra`` and ``<name>_dec``; what is not there is an empty cell. ``meta`` and
    formats of columns are not written: numbers keep all their digits.
    """
    names, columns = [], []
    for name in table.colnames:
        column = table[name]
        if isinstance(column, SkyCoord):
            names += [f"{name}_ra [deg]", f"{name}_dec [deg]"]
            columns += [_cells(name, column.icrs.ra.deg), _cells(name, column.icrs.dec.deg)]
            continue
        unit = getattr(column, "unit", None)
        names.append(name if unit is None or unit == u.dimensionless_unscaled else f"{name} [{unit}]")
        columns.append(_cells(name, getattr(column, "value", column)))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))


def _cells(name, column):
    """Cells of a column."""
    values = np.ma.asarray(column)
    if values.ndim != 1 or values.dtype.kind not in "biufUS":
        raise SchemaError(f"the table cannot be written as csv: column {name!r} does not hold one number or text a row")
    return ["" if value is None or value != value else value for value in values.tolist()]


def read_csv(path):
    """The table of a file of `write_csv`, or of any CSV whose first line names the columns."""
    with open_unpacked(path) as stream:
        text = stream.read().decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    lines = [(number, cells) for number, cells in enumerate(lines, 1) if cells]
    if not lines:
        raise SchemaError(f"{str(path)!r} is an empty file")
    names, units = named_units([name.strip() for name in lines[0][1]])
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise SchemaError(f"row {number} of {str(path)!r} has {len(cells)} cells instead of {len(names)}")
    table = QTable(table_of_cells(names, [cells for _, cells in lines[1:]], _TEXTS, str(path), missing_words={""}))
    for name, unit in zip(names, units, strict=True):
        if unit:
            table[name] = plain_column(table[name]) * u.Unit(unit)
    ra, dec = f"{_POSITION}_ra", f"{_POSITION}_dec"
    if {ra, dec} <= set(names):
        index, sky = table.index_column(ra), SkyCoord(table[ra], table[dec])
        table.remove_columns([ra, dec])
        table.add_column(sky, index, _POSITION)
    return table
