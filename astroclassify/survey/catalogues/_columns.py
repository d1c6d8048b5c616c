"""Columns of a catalogue and those of the package: which is which, their units, and positions in every notation."""

import re

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn

from astroclassify._checks import first_line
from astroclassify.exceptions import SchemaError
from astroclassify.tables import has_text, plain_column, plain_sky

from ._files import parse_unit
from ._frames import frame_of
from ._identify import COLUMNS

__all__ = ["NoUnitError", "join_messages", "plain", "positions", "quantity"]


class NoUnitError(SchemaError):
    """A position without a unit: what can be done depends on the catalogue, see `advice`."""


# Units of the seven columns of a CDS position, fixed by that standard.
_PARTS = (u.h, u.min, u.s, None, u.deg, u.arcmin, u.arcsec)
# Degrees or hours, minutes and seconds, or minutes with a fraction.
_SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d{1,3})[\s:hd°]+"
    r"(?:(\d{1,2})[\s:m'′]+(\d{1,2}(?:\.\d*)?)\s*[s\"″]?|(\d{1,2}(?:\.\d*)?)\s*[m'′]?)"
)


def join_messages(old, new):
    """Both texts, each once, separated by a semicolon."""
    if not old or not new:
        return old or new
    return old if new in old else f"{old}; {new}"


def plain(column):
    """Column in native byte order, a Quantity if it has a unit: text as str, missing numbers NaN; whole numbers and
    booleans stay masked."""
    if has_text(column):
        values = plain_column(column)
        return np.char.strip(values) if values.ndim == 1 else values
    unit = parse_unit(column.unit)
    gaps = np.array(getattr(column, "mask", False), dtype=bool)
    if column.dtype.kind in "iub" and unit is None and gaps.any():
        return MaskedColumn(plain_column(np.ma.getdata(column.data)), mask=gaps)
    values = plain_column(column)
    if unit is None or isinstance(unit, str) or values.dtype.kind not in "fiu":
        return values
    return values.astype(float, copy=False) * unit


def numbers(column, name):
    """Values of a column as floats, NaN where there is none."""
    values = plain_column(plain(column))
    try:
        if values.dtype.kind == "U":
            values = [float(value) if value else np.nan for value in values]
        return np.asarray(getattr(values, "value", values), dtype=float)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"column {name!r} must hold numbers: {first_line(error)}") from None


def positions(table, columns, documented, named):
    """ICRS positions (NaN: none; J2000 counts as ICRS) and the reason or "" of each row, from two columns of longitude
    and latitude or the seven of a CDS position; ``documented`` is their unit where the file has none, ``named`` the
    frame that their names say, see `frame_of`."""
    frame = frame_of(table, columns, named)
    if len(columns) == 7:
        ra, dec = _from_parts(table, columns)
    else:
        equatorial = isinstance(frame, str) or "ra" in frame.get_representation_component_names()
        ra = _angle(table[columns[0]], columns[0], documented, hours=equatorial)
        dec = _angle(table[columns[1]], columns[1], documented.replace("h:m:s", "d:m:s"), hours=False)
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
    sky = SkyCoord(np.where(bad, np.nan, ra) * u.deg, np.where(bad, np.nan, dec) * u.deg, frame=frame)
    return plain_sky(sky, f"positions of the columns {columns}"), faults


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
    values = plain(column)
    has_text = values.dtype.kind == "U"
    if has_text:
        try:
            [float(value) for value in values if value]
            has_text = False
        except ValueError:
            pass
    for each in map(parse_unit, documented.split() if unit is None else ()):
        if has_text == isinstance(each, str):  # what is documented of numbers says nothing of text
            unit = each
    if has_text:
        return _from_text(values, name, unit, hours=hours)
    if unit == "h:m:s" or unit == "d:m:s":
        raise SchemaError(f"column {name!r} has the unit {unit} but holds numbers, not text like 12:34:56.7")
    if unit is None:
        raise NoUnitError(f"column {name!r} has no unit")
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
            raise NoUnitError(
                f"column {name!r} holds text like {values[0]!r} without a unit that says if these are hours (h:m:s) or "
                "degrees (d:m:s)"
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
    """Values in the unit that ``name`` has in the package, NaN where missing; ``documented`` ("": none) is the unit
    where the file has none."""
    wanted = COLUMNS[name]
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
