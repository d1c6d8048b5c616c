"""Which catalogue a table is, and which of its columns are which of the package: by its own names, never by those of
others that it lists beside them."""

import re
from dataclasses import dataclass
from functools import lru_cache

from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, Table

from astroclassify._checks import shorten
from astroclassify.data import FOLDER as DATA
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.tables import CANDIDATES, SAMPLE, plain_column

from ._files import parse_unit

__all__ = ["COLUMNS", "KINDS", "Source", "advice", "fitting", "identify", "map_columns"]

#: Catalogues whose columns, and the units that these have, are known; and any other.
KINDS = ("xamin", "xclass", "4xmm", "erass1", "erass1cl", "mcxc", "xcs", "psz2", "xxl", "spt", "act", "hiflugcs")
KINDS += ("accept", "photutils", "other")

_PHYSICAL = ("redshift", "m_500", "r_500")  # of clusters; named as in SAMPLE
#: Columns that a catalogue may become, and their kinds or units.
COLUMNS = dict(CANDIDATES.columns) | {name: dict(SAMPLE.columns)[name] for name in _PHYSICAL}
_GIVEN = ("ra", "dec", *(name for name in COLUMNS if name != "flags"))


@dataclass(frozen=True)
class Source:
    """Where a column comes from: columns of the table, their unit where the table has none ("": unknown), the frame
    that their names say, and whether a wrong unit is an error (else the column is left as it is)."""

    columns: tuple
    unit: str = ""
    frame: str = ""
    sure: bool = True


@lru_cache(maxsize=1)
def _rows():
    """Rows of the packaged table: kind, columns, name, unit, frame."""
    text = (DATA / "catalogue_columns.ecsv").read_text(encoding="utf-8")
    table = Table.read(text, format="ascii.ecsv")
    cells = [plain_column(table[name]).tolist() for name in ("kind", "columns", "name", "unit", "frame")]
    return list(zip(*cells, strict=True))


def identify(table):
    """Kind of a catalogue ("other": none that is known) and by what it is known; SchemaError where two fit."""
    found = fitting(table)
    if len(found) > 1:
        text = "; ".join(f"{kind!r} by its {by}" for kind, by in found.items())
        raise SchemaError(
            f"the table may be more than one catalogue ({text}): say kind=, or kind='other' and columns={{...}}"
        )
    return next(iter(found.items()), ("other", ""))


def fitting(table):
    """Kinds that a table may be, each with what speaks for it: what it calls itself, else columns of its own."""
    names = {name.lower() for name in table.colnames}
    found = {}
    for word in table.meta.get("identifiers", ()):
        for kind, columns, name, *_ in _rows():
            if name == "identifier" and _is_of(word, columns):
                found.setdefault(kind, columns)
    if not found:
        for kind, columns, name, *_ in _rows():
            if name == "signature" and names.issuperset(columns.lower().split()):
                found.setdefault(kind, f"columns {columns}")
    return found


def _is_of(word, identifier):
    """Whether a name like J/A+A/534/A109/mcxc or J_A_A_534_A109_mcxc is of the catalogue J/A+A/534/A109."""
    word, identifier = (re.sub(r"[^A-Z0-9]+", "_", text.upper()) for text in (word, identifier))
    return word == identifier or word.startswith(f"{identifier}_")


def map_columns(table, kind, *, certain, given=None):
    """
    Source of each column that the table has, by the names of a kind and by those that the caller gives.

    ``certain``: the caller says the kind, so that the units of its documents hold where the table has none; else they
    do for positions alone, whose range is checked.
    """
    found = _given(table, {} if given is None else given)
    lower, taken = {}, {name for source in found.values() for name in source.columns}
    for name in table.colnames:
        lower.setdefault(name.lower(), name)
    for own in (True, False):
        for row_kind, columns, name, unit, frame in _rows():
            if row_kind != (kind if own else "any") or name in found or name not in COLUMNS:
                continue
            columns = tuple(lower.get(part.lower()) for part in columns.split())
            if None in columns or taken.intersection(columns):
                continue
            holds = own and (certain or name == "sky_position")
            found[name] = Source(columns, unit if holds else "", frame, own and name != "redshift")
            taken.update(columns)
    return found


def _given(table, given):
    """Sources that the caller gives: our name -> column, or (column, unit), which is set where the table has none."""
    if not isinstance(given, dict):
        raise ArgumentError(f"columns must be a dict of our name -> name in the table, got {shorten(given)}")
    wrong = sorted(set(map(str, given)) - set(_GIVEN))
    if wrong:
        raise ArgumentError(f"columns: {wrong} are no columns of the package; allowed: {', '.join(_GIVEN)}")
    if ("ra" in given) != ("dec" in given) or {"ra", "sky_position"} <= given.keys():
        raise ArgumentError("columns must have 'ra' and 'dec', or 'sky_position', or none of them")
    named = {name: _named(table, name, value) for name, value in given.items()}
    found = {name: Source((column,)) for name, column in named.items() if name not in ("ra", "dec")}
    if "ra" in named:
        pair = named["ra"], named["dec"]
        frames = [frame for _, columns, _, _, frame in _rows() if columns.lower().split() == [*map(str.lower, pair)]]
        found["sky_position"] = Source(pair, frame=next(iter(frames), ""))
    return found


def _named(table, name, value):
    """Column of one entry of ``columns``, with its unit."""
    column, unit = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if not isinstance(column, str) or not (unit is None or isinstance(unit, str | u.UnitBase)):
        raise ArgumentError(f"columns: {name!r} must be a name or (name, unit), got {shorten(value)}")
    if column not in table.colnames:
        raise SchemaError(f"columns: {name!r} is said to be {column!r}, but the columns are {shorten(table.colnames)}")
    if name == "sky_position" and not isinstance(table[column], SkyCoord):
        raise ArgumentError(f"columns: 'sky_position' must be a column of coordinates, {column!r} is none: ra and dec?")
    try:
        wanted = parse_unit(unit)
    except ValueError as error:
        raise ArgumentError(f"columns: the unit of {name!r} cannot be read: {error}") from None
    if wanted is None:
        return column
    if not isinstance(table[column], Column):
        raise ArgumentError(f"columns: {name!r} is a {type(table[column]).__name__}, which takes no unit")
    has = str(table[column].unit or "").strip()
    if has and parse_unit(has) != wanted:
        raise SchemaError(f"columns: {name!r} is said to be in {wanted}, but the table has {column!r} in {has}")
    table[column].unit = u.Unit(wanted, parse_strict="silent")
    return column


def advice(table, position=()):
    """What was looked at and what helps, for errors about tables that cannot be read as they are."""
    ra, dec = position if len(position) == 2 else ("<right ascension>", "<declination>")
    looked = [*table.meta.get("identifiers", ())]
    looked = f"what the file calls itself ({', '.join(looked)}) and " if looked else ""
    return (
        f"Looked at: {looked}the columns {shorten(', '.join(table.colnames), 300)}. If it is one of {KINDS[:-1]}, say "
        f"kind=...; of any other table say which column is which, and units that it lacks: kind='other', "
        f"columns={{'ra': ({ra!r}, 'deg'), 'dec': ({dec!r}, 'deg'), 'source_id': ...}}"
    )
