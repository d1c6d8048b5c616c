"""Rows of a binary table, some thousands at a time: a list of any length takes the memory of one block."""

import io
import math
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.io import fits

from astroclassify._checks import first_line
from astroclassify.exceptions import GeometryError

from ..headers._units import parse_unit

BLOCK = 1 << 23  # bytes that are read at a time
_WIDEST_ROW = 1 << 20  # bytes
_MOST_COLUMNS = 999  # FITS standard


@dataclass(frozen=True)
class Column:
    """A column of numbers: its name in the file, its number from 1, its unit, scale, zero and null."""

    name: str
    number: int
    unit: u.UnitBase | None
    scale: float
    zero: float
    null: int | None
    is_whole: bool

    def values(self, rows):
        """Values in the column's unit, float64; NaN where they are null."""
        raw = rows[self.name]
        values = raw.astype(np.float64)
        if self.scale != 1 or self.zero != 0:
            values = values * self.scale + self.zero
        if self.null is not None:
            values[raw == self.null] = np.nan
        return values


def _written(hdu):
    """HDUList of a table as its file would be."""
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    return fits.open(io.BytesIO(stream.getvalue()))


class EventTable:
    """
    A binary table of an open file, read in blocks.

    ``hdus`` is the open HDUList, ``number`` that of the HDU, ``path`` for messages. Raises GeometryError where the
    header contradicts itself.
    """

    def __init__(self, hdus, number, path):
        if hdus.fileinfo(number) is None or "data" in vars(hdus[number]):  # in memory, where it may have been changed
            hdus, number = _written(hdus[number]), 1
        self.hdus, self.number = hdus, number
        self.hdu = hdus[number]
        self.header = self.hdu.header
        self.label = f"{str(path)!r}: {self.hdu.name or f'HDU {number}'}"
        if "ZTABLE" in self.header:
            raise GeometryError(f"{self.label} is a compressed table: unpack it first (funpack)")
        if not 1 <= (n_columns := self.number_of("TFIELDS", 0)) <= _MOST_COLUMNS or self.number_of("NAXIS2", -1) < 0:
            raise GeometryError(f"{self.label} has {n_columns:g} columns and {self.header.get('NAXIS2')} rows")
        try:
            columns = self.hdu.columns
            self.names = [str(name) for name in columns.names]
            self.dtype = columns.dtype.newbyteorder(">")
        except Exception as error:  # astropy even has an AssertionError for a name that is a number
            raise GeometryError(f"{self.label} has columns that cannot be read: {first_line(error)}") from error
        self.n_rows = int(self.header["NAXIS2"])
        if self.dtype.itemsize != self.header["NAXIS1"] or not 0 < self.dtype.itemsize <= _WIDEST_ROW:
            raise GeometryError(
                f"{self.label} has rows of {self.header['NAXIS1']} bytes, its columns {self.dtype.itemsize}"
            )

    def column(self, name):
        """Column of numbers of that name, in whatever case; None where there is none."""
        number = next((i for i, each in enumerate(self.names, 1) if each.upper() == name), None)
        return None if number is None else self.numbered(number)

    def numbered(self, number):
        """Column of that number; an error if it does not hold one number a row."""
        name = self.names[number - 1]
        kind = self.dtype[name]
        if kind.shape or kind.kind not in "iuf":
            raise GeometryError(f"{self.label}: column {name} must hold one number a row, got {kind}")
        scale, zero = (self.number_of(f"{key}{number}", default) for key, default in (("TSCAL", 1.0), ("TZERO", 0.0)))
        null = self.header.get(f"TNULL{number}") if kind.kind in "iu" else None
        return Column(
            name=name,
            number=number,
            unit=parse_unit(str(self.header.get(f"TUNIT{number}", "")).strip()),
            scale=scale,
            zero=zero,
            null=null if isinstance(null, int) else None,
            is_whole=kind.kind in "iu" and scale == 1 and float(zero).is_integer(),
        )

    def number_of(self, key, default=None):
        """Finite number of the header, ``default`` where it has none; an error for a text in its place."""
        value = self.header.get(key)
        if value is None or isinstance(value, fits.card.Undefined):
            return default
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value := float(value)):
            raise GeometryError(f"{self.label}: {key} must be a number, got {value!r}")
        return value

    def blocks(self):
        """Rows as structured arrays, block by block."""
        place = self.hdus.fileinfo(self.number)
        file = place["file"]
        file.seek(place["datLoc"])
        step = max(1, BLOCK // self.dtype.itemsize)
        for start in range(0, self.n_rows, step):
            size = min(step, self.n_rows - start) * self.dtype.itemsize
            block = file.read(size)
            if len(block) < size:
                raise GeometryError(f"{self.label} has {self.n_rows} rows by its header, but the file ends before")
            yield np.frombuffer(block, self.dtype)
