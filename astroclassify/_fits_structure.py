"""
The structure of a FITS file, checked in its own bytes before astropy reads it.

The rules are those of the FITS standard 4.0, sections 3 and 4. What is refused would make a reader allocate without
bound, read beyond the file, or find another structure than the one that was checked.
"""

import math
import re
from dataclasses import dataclass

from ._fits_tiles import MOST_PIXELS, PIXELS_PER_BYTE, check_tiles

__all__ = ["check_structure"]

BLOCK, CARD = 2880, 80
MOST_CARDS = 20_000
"""Cards that a header may have; those of the longest histories seen in archives have some thousands."""
MOST_HDUS = 25_000
"""HDUs that a file may have; astropy needs a millisecond for each that is looked at."""

_BITPIX = (8, 16, 32, 64, -32, -64)
_PLAIN_END = b"END" + b" " * 77
# Keywords that decide where things are in the file and how large they are: the same wherever they are given twice.
# Whatever some reader takes for the last card ends the header here: END alone, and END with more behind it.
_KEYWORD = re.compile(
    rb"END(?![A-Z0-9_-])|SIMPLE|XTENSION|EXTNAME|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|TFIELDS|TFORM\d+|TTYPE\d+|THEAP|"
    rb"Z(?:IMAGE|BITPIX|NAXIS\d*|TILE\d+|CMPTYPE|NAME\d+|VAL\d+|DITHER0|QUANTIZ)"
)
_STARTS = frozenset(b"END SIM XTE EXT BIT NAX PCO GCO GRO TFI TFO TTY THE ZIM ZBI ZNA ZTI ZCM ZVA ZDI ZQU".split())


@dataclass(frozen=True)
class Unit:
    """One HDU: text of the structural keywords by name, where its data begin, and their length in bytes."""

    number: int
    values: dict
    begin: int
    length: int

    def integer(self, key, low, high=2**63 - 1, default=None):
        """Value of a keyword that is a whole number from ``low`` to ``high``."""
        text = self.values.get(key)
        if text is None and default is not None:
            return default
        try:
            value = int(text)
        except (TypeError, ValueError):
            value = None
        if value is None or not low <= value <= high:
            limit = f"from {low}" if high == 2**63 - 1 else f"from {low} to {high}"
            self.refuse(f"{key} must be a whole number {limit}, got {'nothing' if text is None else repr(text[:40])}")
        return value

    def text(self, key, default=""):
        """Value of a keyword that is a text between quotes."""
        value = self.values.get(key, "")
        return value[1:].partition("'")[0].rstrip() if value.startswith("'") else default

    def shape(self):
        """Lengths of the axes, the fastest first; none if there are no data."""
        return [self.integer(f"NAXIS{axis}", 0) for axis in range(1, self.integer("NAXIS", 0, 999) + 1)] or [0]

    def refuse(self, reason):
        raise ValueError(f"HDU {self.number}: {reason}")


def check_structure(file, size, stored):
    """
    Walk through the HDUs of a seekable file of ``size`` bytes; return where the last one ends, and their names.

    ``stored`` is the size of the file on disk, which is less if it is packed.

    ValueError if it is not FITS, or declares what it cannot hold. What stands behind the last HDU and is not the
    beginning of another is none of its business (FITS standard 4.0, section 3.5).
    """
    end, number, names = 0, 0, set()
    most = max(MOST_PIXELS, PIXELS_PER_BYTE * stored)
    while end < size:
        if number == MOST_HDUS:
            raise ValueError(f"it has more than {MOST_HDUS} HDUs")
        file.seek(end)
        first = file.read(BLOCK)
        if number and not first.startswith(b"XTENSION"):
            break
        unit = _read_unit(file, number, end, first)
        left = size - unit.begin
        if unit.length > left:
            unit.refuse(f"it is truncated: {unit.length} bytes of data are declared, {max(left, 0)} are there")
        if unit.values.get("ZIMAGE", "").startswith("T") and unit.text("XTENSION") in ("BINTABLE", "A3DTABLE"):
            check_tiles(unit, file, most)
        elif unit.text("XTENSION") in ("", "IMAGE") and math.prod(unit.shape()) > most:
            unit.refuse(
                f"in a file of its size an image may have {most} pixels, {math.prod(unit.shape())} are declared"
            )
        elif "TFIELDS" in unit.values:
            _check_columns(unit, size)
        end = unit.begin + -(-unit.length // BLOCK) * BLOCK
        number += 1
        names.add(unit.text("EXTNAME").upper())
    if not number:
        raise ValueError("it is empty")
    return min(end, size), names


def _read_unit(file, number, begin, block):
    """Header of the HDU that begins with this block, and the size of its data."""
    if number == 0 and not block.startswith(b"SIMPLE  ="):
        raise ValueError("it does not begin as FITS (no SIMPLE in the first card)")
    values, n_blocks = {}, 1
    while not _read_cards(block, values, number):
        block = file.read(BLOCK)
        if not block:
            raise ValueError(f"HDU {number}: its header has no END card")
        n_blocks += 1
        if n_blocks * BLOCK > MOST_CARDS * CARD:
            raise ValueError(f"HDU {number}: its header has more than {MOST_CARDS} cards")
    unit = Unit(number, values, begin + n_blocks * BLOCK, 0)
    return Unit(number, values, unit.begin, _length(unit))


def _read_cards(block, values, number):
    """Put the structural keywords of a block into ``values``; whether the header ends in it."""
    for place in range(0, len(block), CARD):
        if block[place : place + 3] not in _STARTS or not (match := _KEYWORD.match(block, place)):
            continue
        keyword = match.group().decode()
        if keyword == "END":
            if block[place : place + CARD] != _PLAIN_END:
                raise ValueError(f"HDU {number}: its END card is not blank after END")
            return True
        mark = block.find(b"= ", place, place + 10)
        if mark < 0 or block[match.end() : mark].strip():
            continue
        value = _value(block[mark + 2 : place + CARD])
        if values.setdefault(keyword, value) != value and keyword != "EXTNAME":
            raise ValueError(f"HDU {number}: its header has two values of {keyword}")
    if len(block) < BLOCK:
        raise ValueError(f"HDU {number}: it is truncated, its header has no END card")
    return False


def _value(rest):
    """Value of a card as text, without its comment."""
    text = rest.decode("latin-1").strip()
    if text.startswith("'"):
        return text[: text.find("'", 1) + 1] or text
    return text.partition("/")[0].strip()


def _check_columns(unit, size):
    """Columns that are not described, and rows of no bytes, take memory as well."""
    described = sum(key.startswith("TFORM") for key in unit.values)
    unit.integer("TFIELDS", 0, described)
    unit.integer("NAXIS2", 0, size)


def _length(unit):
    """Bytes of data that a header declares (FITS standard 4.0, section 4.4.1)."""
    if unit.number == 0 and unit.values["SIMPLE"] != "T":
        unit.refuse(f"SIMPLE must be T (the file follows the FITS standard), got {unit.values['SIMPLE'][:20]!r}")
    bitpix = unit.integer("BITPIX", -64, 64)
    if bitpix not in _BITPIX:
        unit.refuse(f"BITPIX must be one of {_BITPIX}, got {bitpix}")
    lengths = unit.shape()
    if unit.values.get("GROUPS", "F").startswith("T") and len(lengths) > 1 and lengths[0] == 0:
        unit.refuse("it holds random groups, which are neither image nor table")
    pcount, gcount = unit.integer("PCOUNT", 0, default=0), unit.integer("GCOUNT", 1, default=1)
    return abs(bitpix) // 8 * gcount * (pcount + math.prod(lengths))
