"""Files of catalogues, in every form that VizieR and TOPCAT give, to tables with their units as written."""

import csv
import logging
import re
import warnings
import zlib
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from astroclassify._checks import first_line
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import SchemaError
from astroclassify.images.headers._units import spelled
from astroclassify.tables import cells_of, named_units, table_of_cells
from astroclassify.tables._guard import check_file, head_of, open_unpacked

__all__ = ["parse_unit", "read_table"]

log = logging.getLogger(__name__)

FORMS = "FITS, VOTable, ECSV, CSV, TSV of VizieR, or a CDS file beside its ReadMe"

_FRAME_CARDS = ("RADESYS", "RADECSYS", "EQUINOX")
_NO_UNIT = {"", "-", "--", "---", "none", "null", "unitless", "[-]"}
_SEXAGESIMAL = {"h:m:s": "h:m:s", "hms": "h:m:s", "hh:mm:ss": "h:m:s", "d:m:s": "d:m:s", "dms": "d:m:s"}
# Columns of names (those of data/catalogue_columns.ecsv): 1E0657 and 1.10 are names there, not numbers.
_NAMES = frozenset("source_id name iauname source srcid id recno index xclass detid 4xmm mcxc xcs".split())


def parse_unit(text):
    """Unit in a file: a Unit, "h:m:s" or "d:m:s" for sexagesimal text, None for none; ValueError if it is unknown."""
    if isinstance(text, u.UnitBase) and not isinstance(text, u.UnrecognizedUnit):
        return None if text == u.dimensionless_unscaled else text
    text = "" if text is None else str(text).strip().strip("\"'").strip()
    if text.lower() in _NO_UNIT:
        return None
    if text.lower() in _SEXAGESIMAL:
        return _SEXAGESIMAL[text.lower()]
    text = spelled(text)
    for name in ("cds", None):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", u.UnitsWarning)
                return u.Unit(text, format=name, parse_strict="raise")
        except ValueError:
            continue
    raise ValueError(f"no unit {text!r} is known")


def read_table(path):
    """Table (masked where a value is missing, units as read) and form of a file, by its content; SchemaError if it has
    no form known here, is damaged, or holds not exactly one table. ``meta["identifiers"]``: what it calls itself."""
    path = Path(path)
    check_regular(path, error=SchemaError)
    form = "a table"
    try:
        with warnings.catch_warnings():
            # Units are read again below, and a VOTable that breaks a rule is what archives give.
            warnings.simplefilter("ignore")
            form = _form(head_of(path))
            check_file(path, form)
            table = _READERS[form](path)
    except SchemaError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise SchemaError(f"path: {str(path)!r} cannot be read: {first_line(error)}") from error
    except Exception as error:
        raise SchemaError(f"path: {str(path)!r} cannot be read as {form}: {first_line(error)}") from error
    if not table.colnames:
        raise SchemaError(f"path: {str(path)!r} has no columns")
    table.meta.setdefault("identifiers", [])
    return table, form


def _form(head):
    """Which form a file has, by its first bytes."""
    text = head.lstrip().lower()
    if head.startswith(b"SIMPLE  ="):
        return "fits"
    if text.startswith((b"<!doctype html", b"<html")):
        raise SchemaError(f"path is a web page, not a table: was the download refused? Wanted: {FORMS}")
    if text.startswith((b"<?xml", b"<votable", b"\xff\xfe<", b"\xfe\xff\0<")):
        return "votable"
    if text.startswith(b"# %ecsv"):
        return "ecsv"
    if not text:
        raise SchemaError(f"path is an empty file; wanted: {FORMS}")
    if b"\0" in head or head.startswith((b"PK\x03\x04", b"PAR1", b"\x89HDF")):
        raise SchemaError(f"path is a binary file of another kind; wanted: {FORMS}")
    return "text"


def _read_fits(path):
    with fits.open(path) as hdus:
        kinds = (fits.BinTableHDU, fits.TableHDU)
        found = [number for number, hdu in enumerate(hdus) if isinstance(hdu, kinds)]
        if len(found) != 1:
            names = ", ".join(hdus[number].name for number in found)
            what = f"{len(found)} tables ({names}): save the one you want" if found else "no table"
            raise SchemaError(f"path: {str(path)!r} holds {what}")
        table = Table.read(path, format="fits", hdu=found[0], mask_invalid=False)
        header = hdus[found[0]].header
        if not set(_FRAME_CARDS) & set(header):  # a file of one table may say it in the first header
            table.meta.update({key: hdus[0].header[key] for key in _FRAME_CARDS if key in hdus[0].header})
        table.meta["identifiers"] = _said(hdus[0].header.get("CDS-CAT"), header.get("CDS-CAT"), header.get("EXTNAME"))
        for number, name in enumerate(table.colnames, 1):
            if f"TUCD{number}" in header:
                table[name].meta["ucd"] = str(header[f"TUCD{number}"])
        if isinstance(hdus[found[0]], fits.TableHDU):
            _mask_blanks(table, hdus[found[0]].data.view(np.ndarray))
    return table


def _said(*names):
    """Names that are there, as texts, each once."""
    return list(dict.fromkeys(str(name).strip() for name in names if name and str(name).strip()))


def _mask_blanks(table, cells):
    """Mask blank cells of an ASCII table, which the FITS standard and some versions of astropy read as zero."""
    for name, field in zip(table.colnames, cells.dtype.names, strict=True):
        blank = np.char.strip(cells[field]) == b""
        if table[name].dtype.kind in "iuf" and blank.any():
            table[name] = MaskedColumn(table[name], mask=blank)


def _read_votable(path):
    from astropy.io.votable import parse

    with open_unpacked(path) as stream:
        document = parse(stream, verify="ignore")
    tables = [table for table in document.iter_tables() if table.fields]
    if len(tables) != 1:
        what = "no table" if not tables else f"{len(tables)} tables: save the one you want"
        raise SchemaError(f"path: {str(path)!r} holds {what}")
    table = tables[0].to_table(use_names_over_ids=True)
    systems = {each.ID: (each.system or "", each.equinox) for each in document.iter_coosys()}
    referred = {field.ID: field.ref for field in tables[0].fields}
    for group in tables[0].iter_groups():
        referred.update({each.ref: group.ref for each in group.entries if group.ref and hasattr(each, "ref")})
    for field, name in zip(tables[0].fields, table.colnames, strict=True):
        if referred.get(field.ID) in systems:
            table[name].meta["coosys"] = systems[referred[field.ID]]
    table.meta["coosys"] = sorted(set(systems.values()), key=str)
    around = [each for each in document.resources if tables[0] in each.tables]
    table.meta["identifiers"] = _said(
        tables[0].name, tables[0].ID, *(name for each in around for name in (each.name, each.ID))
    )
    return table


def _read_ecsv(path):
    return Table.read(_lines(path), format="ascii.ecsv")


def _lines(path):
    with open_unpacked(path) as stream:
        content = stream.read().removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")


def _read_text(path):
    """Text without a signature: CDS, TSV of VizieR, or CSV."""
    readme = next((each for each in path.parent.iterdir() if each.name.lower() == "readme"), None)
    if readme is not None and readme != path and _describes(readme, path.name.removesuffix(".gz")):
        return Table.read(path, format="ascii.cds", readme=str(readme))
    lines = _lines(path)
    if any(line.lower().startswith("byte-by-byte description") for line in lines[:2000]):
        return Table.read(lines, format="ascii.cds")
    rule = _rule(lines)
    return _read_csv(lines, path) if rule is None else _read_vizier(lines, rule, path)


def _describes(readme, name):
    from fnmatch import fnmatch

    for line in _lines(readme):
        match = re.match(r"\s*byte-by-byte description of file: *(.+)$", line, re.IGNORECASE)
        if match and any(fnmatch(name, pattern) for pattern in re.split(r"[,\s]+", match[1]) if pattern):
            return True
    return False


def _rule(lines):
    """Number of the line of dashes under the names and units of a VizieR file, and its separator."""
    found = None
    for number, line in enumerate(lines):
        match = re.fullmatch(r"#?\s*-+(?:([\t;|,])\s*-+\s*)+", line)
        if match and number >= 2:
            if found is not None:
                raise SchemaError(f"path holds several tables (another at line {number + 1}): save the one you want")
            found = number, match[1]
    return found


def _read_vizier(lines, rule, path):
    number, mark = rule
    names, units = ([cell.strip() for cell in lines[number - back].lstrip("#").split(mark)] for back in (2, 1))
    if len(names) != len(units) or "" in names:
        raise SchemaError(f"path: {str(path)!r} has no names and units above the dashes of line {number + 1}")
    rows = _cells(lines, number + 1, mark, len(names), path, csv.QUOTE_NONE)
    texts, descriptions, coosys, said = set(_NAMES), {}, [], []
    for line in lines[:number]:
        if match := re.match(r"#(?:Name|RESOURCE=\S*|Table)[:\s]\s*(\S+)", line):
            said.append(match[1].rstrip(":"))
        if match := re.match(r"#Coosys\s+\S+:\s+(\S+)(?:\s+(\S+))?", line, re.IGNORECASE):
            coosys.append((match[1], match[2]))
        match = re.match(r"#Column\t(\S+)\t\(([A-Z])[\d.]*\)\t([^\t]*)", line)
        if match:
            texts.update([match[1].lower()] if match[2] == "A" else [])
            descriptions[match[1]] = match[3].strip()
    table = table_of_cells(names, rows, texts, str(path))
    for name, unit in zip(names, units, strict=True):
        table[name].unit = u.Unit(unit, parse_strict="silent") if unit else None
        table[name].description = descriptions.get(name)
    table.meta.update(coosys=coosys, identifiers=_said(*said))
    return table


def _read_csv(lines, path):
    first = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if first is None:
        raise SchemaError(f"path: {str(path)!r} has no table; wanted: {FORMS}")
    mark = max(",;\t|", key=lines[first].count)
    if mark not in lines[first]:
        raise SchemaError(f"path: {str(path)!r} is not a table whose first line names its columns; wanted: {FORMS}")
    names, units = named_units([name.strip() for name in next(csv.reader([lines[first]], delimiter=mark))])
    start = first + 1
    if second := _units_below(lines[start : start + 1], mark, len(names)):
        units, start = [have or found for have, found in zip(units, second, strict=True)], start + 1
    table = table_of_cells(names, _cells(lines, start, mark, len(names), path, csv.QUOTE_MINIMAL), _NAMES, str(path))
    for name, unit in zip(names, units, strict=True):
        table[name].unit = u.Unit(unit, parse_strict="silent") if unit else None
    return table


def _units_below(lines, mark, n_columns):
    """Units in a comment under the names, ``#,deg,deg,``, or nothing: as many cells, some units, none a number."""
    cells = [cell.strip() for line in lines if line.startswith("#") for cell in line.lstrip("#").split(mark)]
    if len(cells) != n_columns or any(re.match(r"[+-]?\d+(\.\d*)?$", cell) for cell in cells):
        return []
    known = 0
    for cell in cells:
        try:
            known += parse_unit(cell) is not None
        except ValueError:
            continue
    return cells if known else []


def _cells(lines, start, mark, n_columns, path, quoting):
    """Rows of stripped cells from the 0-based line ``start`` on, without comments and empty lines."""
    lines = [(number, line) for number, line in enumerate(lines[start:], start + 1) if line.strip()]
    comments = [line for _, line in lines if line.startswith("#") and line.count(mark) == n_columns - 1]
    if comments:
        # They may be rows of sources called #1, #2.
        text = "%s: %d lines that begin with # have as many cells as a row and were taken for comments, the first is %r"
        log.warning(text, path.name, len(comments), comments[0][:60])
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    return cells_of(lines, mark, n_columns, str(path), quoting)


_READERS = {"fits": _read_fits, "votable": _read_votable, "ecsv": _read_ecsv, "text": _read_text}
