"""Columns of a catalogue and those of the package: which is which, their units, and positions in every notation."""

import re
from functools import lru_cache

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table

from astroclassify.data import FOLDER as DATA
from astroclassify.exceptions import SchemaError
from astroclassify.tables import CANDIDATES

from ._files import parse_unit

__all__ = ["KINDS", "identify_columns", "join_messages", "plain", "positions", "quantity"]

#: Catalogues whose columns, and the units that these have, are known.
KINDS = ("xamin", "xclass", "4xmm", "mcxc", "xcs")

# Units of the seven columns of a CDS position, fixed by that standard.
_PARTS = (u.h, u.min, u.s, None, u.deg, u.arcmin, u.arcsec)
# Degrees or hours, minutes and seconds, or minutes with a fraction.
_SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d{1,3})[\s:hd°]+"
    r"(?:(\d{1,2})[\s:m'′]+(\d{1,2}(?:\.\d*)?)\s*[s\"″]?|(\d{1,2}(?:\.\d*)?)\s*[m'′]?)"
)


@lru_cache(maxsize=1)
def _mapping():
    """Rows of the packaged table: kind, columns, name, unit, signature."""
    text = (DATA / "catalogue_columns.ecsv").read_text(encoding="utf-8")
    table = Table.read(text, format="ascii.ecsv")
    cells = [["" if text is np.ma.masked else str(text) for text in table[name]] for name in table.colnames[:4]]
    return list(zip(*cells, [bool(flag) for flag in table["signature"]], strict=True))


def identify_columns(names, kind=None):
    """
    Kind of a catalogue (None: unknown), and name in CANDIDATES -> (columns of the catalogue, documented unit, whether
    the kind itself names the column). By default the kind is the one whose signature is among the columns.
    """
    lower = {}
    for name in names:
        lower.setdefault(name.lower(), name)
    if kind is None:
        signed = (row[0] for row in _mapping() if row[4] and all(part.lower() in lower for part in row[1].split()))
        kind = next(signed, None)
    found, taken = {}, set()
    for own in (True, False):
        for row in _mapping():
            columns = [lower.get(part.lower()) for part in row[1].split()]
            known = row[0] == (kind if own else "any") and row[2] not in found
            if known and None not in columns and not taken.intersection(columns):
                found[row[2]] = (columns, row[3], own)
                taken.update(columns)
    return kind, found


def join_messages(old, new):
    """Both texts, each once, separated by a semicolon."""
    if not old or not new:
        return old or new
    return old if new in old else f"{old}; {new}"


def missing(column):
    """Where a column has no value."""
    return np.array(column.mask, dtype=bool) if hasattr(column, "mask") else np.zeros(len(column), dtype=bool)


def plain(column):
    """
    Column in native byte order: text as str, numbers without a value as NaN.

    Whole numbers and booleans stay masked where they have no value. A column with a unit becomes a Quantity.
    """
    gaps = missing(column)
    values = np.array(np.ma.getdata(column.data))
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace") if values.size else np.zeros(values.shape, "U1")
    if values.dtype.kind == "O" and all(gap or isinstance(value, str) for value, gap in zip(values, gaps, strict=True)):
        values = np.array([("" if gap else value) for value, gap in zip(values, gaps, strict=True)], dtype=str)
    if values.dtype.kind == "U":
        return np.char.strip(np.where(gaps, "", values)) if values.ndim == 1 else values
    values = values.astype(values.dtype.newbyteorder("="))
    unit = parse_unit(column.unit)
    if values.dtype.kind == "f" or (unit is not None and values.dtype.kind in "iu"):
        values = values.astype(float) if values.dtype.kind != "f" else values
        values[gaps] = np.nan
        return values if unit is None or isinstance(unit, str) else values * unit
    return MaskedColumn(values, mask=gaps) if gaps.any() else values


def numbers(column, name):
    """Values of a column as floats, NaN where there is none."""
    values = plain(column)
    values = values.filled(0) if hasattr(values, "filled") else values
    try:
        if values.dtype.kind == "U":
            values = [float(value) if value else np.nan for value in values]
        values = np.asarray(getattr(values, "value", values), dtype=float)
    except ValueError as error:
        raise SchemaError(f"column {name!r} must hold numbers: {error}") from None
    values[missing(column)] = np.nan
    return values


def positions(table, columns, documented, kind):
    """
    ICRS positions (NaN where a row has none) and the reason per row, or "". ``columns`` are RA and Dec, or the seven
    columns of a CDS position. ``documented``, the unit of RA of the ``kind`` that the caller named, counts where the
    file gives none. J2000 counts as ICRS: the frames differ by less than 0.03 arcsec.
    """
    if len(columns) == 7:
        ra, dec = _from_parts(table, columns)
    else:
        documented = documented if kind else ""
        ra = _angle(table[columns[0]], columns[0], documented, hours=True)
        dec = _angle(table[columns[1]], columns[1], "d:m:s" if documented == "h:m:s" else documented, hours=False)
    faults = []
    for number in range(len(ra)):
        if np.isnan(ra[number]) or np.isnan(dec[number]):
            faults.append("no position, or one that cannot be read")
        elif not (-180 <= ra[number] <= 360 and -90 <= dec[number] <= 90):
            faults.append(f"position out of range: {ra[number]:g}, {dec[number]:g} deg")
        else:
            faults.append("")
    bad = np.array([bool(fault) for fault in faults], dtype=bool)
    if len(bad) and bad.all():
        raise SchemaError(f"columns {columns} hold no position in any row: {faults[0]}")
    return SkyCoord(np.where(bad, np.nan, ra) * u.deg, np.where(bad, np.nan, dec) * u.deg), faults


def _from_parts(table, columns):
    """Degrees from hours, minutes, seconds, sign, degrees, minutes and seconds."""
    parts = []
    for name, unit in zip(columns, _PARTS, strict=True):
        if unit is None:
            parts.append(plain(table[name]))
            continue
        given = parse_unit(table[name].unit)
        if given is not None and given != unit:
            raise SchemaError(f"column {name!r} must have the unit {unit}, got {given}")
        parts.append(numbers(table[name], name))
    hours, minutes, seconds, sign, degrees, arcmin, arcsec = parts
    # A blank sign is a plus; that of -00 32 10 stands in no other column.
    minus = np.array([str(value).strip() in ("-", "\u2212") for value in sign], dtype=bool) | np.signbit(degrees)
    ra = 15 * (hours + minutes / 60 + seconds / 3600)
    return ra, np.where(minus, -1, 1) * (np.abs(degrees) + arcmin / 60 + arcsec / 3600)


def _angle(column, name, documented, *, hours):
    """Degrees of a right ascension (``hours``: the unit may be one of time) or a declination."""
    unit = _unit(column, name)
    unit = parse_unit(documented) if unit is None else unit
    values = plain(column)
    if values.dtype.kind == "U":
        try:
            [float(value) for value in values if value]
        except ValueError:
            return _from_text(values, name, unit, hours=hours)
    if unit == "h:m:s" or unit == "d:m:s":
        raise SchemaError(f"column {name!r} has the unit {unit} but holds numbers, not text like 12:34:56.7")
    if unit is None:
        raise SchemaError(
            f"column {name!r} has no unit: say the catalogue's kind (one of {KINDS}) if it is one of these, or save it "
            "with units, as VOTable, FITS or ECSV"
        )
    if hours and unit in (u.h, u.hourangle):
        unit = u.hourangle
    if not unit.is_equivalent(u.deg):
        raise SchemaError(f"column {name!r} must have a unit like deg{' or h' if hours else ''}, got {unit}")
    return numbers(column, name) * unit.to(u.deg)


def _unit(column, name):
    """Unit of a column as its file has it, or an error that names the column."""
    try:
        return parse_unit(column.unit)
    except ValueError:
        raise SchemaError(f"column {name!r} has a unit that cannot be read: {str(column.unit)!r}") from None


def _from_text(values, name, unit, *, hours):
    """Degrees of sexagesimal text; NaN where it is none."""
    in_hours = unit == "h:m:s" or (hours and unit in (u.h, u.hourangle))
    if unit is None:
        letters = {letter for value in values for letter in value.lower() if letter in "hd°"}
        if len(letters) > 1 or (not letters and hours):
            raise SchemaError(
                f"column {name!r} holds text like {values[0]!r} without a unit that says if these are hours: say the "
                f"catalogue's kind (one of {KINDS}) if it is one of these, or save it with the unit h:m:s or d:m:s"
            )
        in_hours = letters == {"h"}
    if in_hours and not hours:
        raise SchemaError(f"column {name!r} must have a unit like deg, got hours")
    angles = np.full(len(values), np.nan)
    for number, value in enumerate(values):
        match = _SEXAGESIMAL.fullmatch(value)
        if match is None:
            continue
        first, second, third, fraction = (float(part or 0) for part in match.groups()[1:])
        second += fraction
        if second < 60 and third < 60:
            angles[number] = (-1 if match[1] == "-" else 1) * (first + second / 60 + third / 3600)
    return angles * (15 if in_hours else 1)


def quantity(column, name, documented):
    """
    Values of a column in the unit of ``name`` in CANDIDATES, NaN where there is none.
    ``documented`` is the unit of a catalogue whose kind the caller named, used where the file gives none; or "".
    """
    wanted = dict(CANDIDATES.columns)[name]
    unit = _unit(column, column.name)
    unit = parse_unit(documented) if unit is None else unit
    if not isinstance(wanted, u.UnitBase):
        if unit is not None:
            raise SchemaError(f"column {column.name!r} must have no unit, got {unit}")
        return numbers(column, column.name)
    # A count is a number: ct may be left out, alone and in a rate.
    if unit is None and wanted == u.ct:
        unit = u.ct
    elif isinstance(unit, u.UnitBase) and (unit * u.ct).is_equivalent(wanted):
        unit = unit * u.ct
    if not isinstance(unit, u.UnitBase) or not unit.is_equivalent(wanted):
        raise SchemaError(f"column {column.name!r} must have a unit like {wanted}, got {unit or 'none'}")
    return (numbers(column, column.name) * unit).to(wanted)
