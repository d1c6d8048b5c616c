"""
Tile-compressed images (FITS standard 4.0, section 10), checked before they are decompressed.

The decompressors in C believe the sizes that stand in the compressed bytes themselves: a lie makes them write beyond
their buffer. Each check here is one that an honest file passes.
"""

import math
import zlib

import numpy as np

__all__ = ["MOST_PIXELS", "PIXELS_PER_BYTE", "check_tiles"]

MOST_PIXELS = 1 << 26
"""Pixels (8192 x 8192) that an image may have however small its file is."""
PIXELS_PER_BYTE = 25
"""Beyond that, pixels for each byte of the file: 200 bytes of 64-bit numbers."""

_WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_ITEM_SIZES = {"B": 1, "I": 2, "J": 4, "E": 4, "D": 8}
_STREAMS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA")
_RICE = ("RICE_1", "RICE_ONE")
# A difference is coded after a number of so many bits for each block (bytes per pixel: bits), White & Greenfield 1999.
_RICE_BITS = {1: 3, 2: 4, 4: 5}
_HCOMPRESS_HEAD, _HCOMPRESS_MAGIC, _MOST_PLANES = 25, b"\xdd\x99", 64
_PLIO_HEAD = 3  # numbers of 16 bits
_GZIP_TRUSTED = 1 << 19  # bytes that become 540 MB at most: deflate packs no more than 1032 to 1


def check_tiles(unit, file, most):
    """Refuse a compressed image of more than ``most`` pixels, or with header, table and streams that do not agree."""
    axes = range(1, unit.integer("ZNAXIS", 1, 32) + 1)
    shape = [unit.integer(f"ZNAXIS{axis}", 1, 2**31 - 1) for axis in axes]
    tile = [unit.integer(f"ZTILE{axis}", 1, default=shape[0] if axis == 1 else 1) for axis in axes]
    tile = [min(pair) for pair in zip(tile, shape, strict=True)]
    if math.prod(shape) > most:
        unit.refuse(f"in a file of its size an image may have {most} pixels, {math.prod(shape)} are declared")
    counts = [-(-n // step) for n, step in zip(shape, tile, strict=True)]
    n_rows = unit.integer("NAXIS2", 0)
    if math.prod(counts) != n_rows:
        unit.refuse(f"its image has {math.prod(counts)} tiles, its table {n_rows}")
    if "ZDITHER0" in unit.values:
        unit.integer("ZDITHER0", 1, 10_000)
    heap = _Heap(unit, file)
    for name, column in heap.columns.items():
        _check_streams(unit, heap, name, column)
    algorithm = unit.text("ZCMPTYPE")
    check = {"HCOMPRESS_1": _check_hcompress, "PLIO_1": _check_plio, **dict.fromkeys(_RICE, _check_rice)}.get(algorithm)
    if check and "COMPRESSED_DATA" in heap.columns:
        _check_item(unit, heap, "I" if algorithm == "PLIO_1" else "B")
        check(unit, heap, _Tiles(shape, tile, counts))
    for name in _STREAMS[:2]:
        if name in heap.columns and (name != "COMPRESSED_DATA" or algorithm.startswith("GZIP")):
            _check_gzip(unit, heap, name, math.prod(tile))


class _Tiles:
    """Shape of each tile, which is smaller at the far edges."""

    def __init__(self, shape, tile, counts):
        self._shape, self._tile, self._counts = shape, tile, counts

    def shapes(self):
        """Lengths along each FITS axis, shape (n_tiles, n_axes); the first axis changes fastest."""
        index = np.indices(self._counts[::-1]).reshape(len(self._counts), -1)[::-1].T
        return np.minimum(np.array(self._tile), np.array(self._shape) - index * np.array(self._tile))

    def sizes(self):
        """Pixels of each tile."""
        return self.shapes().prod(axis=1)


class _Heap:
    """Columns of the tile table that point to compressed bytes: (letter, lengths, offsets), by name."""

    def __init__(self, unit, file):
        self._unit, self._file = unit, file
        row, self._n_rows = unit.integer("NAXIS1", 0), unit.integer("NAXIS2", 0)
        self.begin = unit.begin + unit.integer("THEAP", row * self._n_rows, default=row * self._n_rows)
        self.end = unit.begin + unit.length
        file.seek(unit.begin)
        table = np.frombuffer(file.read(row * self._n_rows), np.uint8).reshape(self._n_rows, row)
        self.columns, place = {}, 0
        for field in range(1, unit.integer("TFIELDS", 0, 999) + 1):
            form, name = unit.text(f"TFORM{field}"), unit.text(f"TTYPE{field}").upper()
            repeat, letter, rest = _parse_form(unit, field, form)
            width = -(-repeat // 8) if letter == "X" else repeat * _WIDTHS[letter]
            if name in _STREAMS:
                if letter not in "PQ" or repeat != 1 or rest[:1] not in _ITEM_SIZES:
                    unit.refuse(f"TFORM{field} must be 1P or 1Q and the type of {name}, got {form!r}")
                pairs = table[:, place : place + width]
                if pairs.shape[1] != width or name in self.columns:
                    unit.refuse(f"its table has no place for {name}")
                pairs = np.ascontiguousarray(pairs).view(">i4" if letter == "P" else ">i8").astype(np.int64)
                self.columns[name] = rest[0], pairs[:, 0], pairs[:, 1]
            place += width
        if place != row:
            unit.refuse(f"its columns are {place} bytes wide, its table {row}")

    def starts(self, name, n_bytes):
        """The first bytes of each entry, shape (n_rows, n_bytes); zeros where it is shorter."""
        letter, lengths, offsets = self.columns[name]
        heads = np.zeros((len(lengths), n_bytes), np.uint8)
        n_bytes_of = lengths * _ITEM_SIZES[letter]
        for row, (length, offset) in enumerate(zip(n_bytes_of.tolist(), offsets.tolist(), strict=True)):
            if length:
                self._file.seek(self.begin + offset)
                data = self._file.read(min(length, n_bytes))
                heads[row, : len(data)] = np.frombuffer(data, np.uint8)
        return heads

    def entry(self, name, row):
        """All bytes of an entry."""
        letter, lengths, offsets = self.columns[name]
        self._file.seek(self.begin + int(offsets[row]))
        return self._file.read(int(lengths[row]) * _ITEM_SIZES[letter])


def _parse_form(unit, field, form):
    """Repeat, letter and rest of a TFORM value."""
    digits = len(form) - len(form.lstrip("0123456789"))
    letter = form[digits : digits + 1]
    if letter not in (*_WIDTHS, "X") or digits > 9:
        unit.refuse(f"TFORM{field} must be a format of a binary table, got {form!r}")
    return int(form[:digits] or 1), letter, form[digits + 1 :]


def _check_streams(unit, heap, name, column):
    letter, lengths, offsets = column
    ends = offsets + lengths * _ITEM_SIZES[letter]
    bad = (lengths < 0) | (offsets < 0) | (lengths > heap.end) | (ends > heap.end - heap.begin)
    if bad.any():
        unit.refuse(f"row {int(bad.argmax()) + 1} of {name} lies outside the heap")


def _check_item(unit, heap, due):
    if heap.columns["COMPRESSED_DATA"][0] != due:
        unit.refuse(f"COMPRESSED_DATA of {unit.text('ZCMPTYPE')} must be of type {due}")


def _setting(unit, name, default):
    """Value of a setting of the algorithm: ZNAMEn names it, ZVALn has it."""
    for number in range(1, 1000):
        if f"ZNAME{number}" not in unit.values:
            return default
        if unit.text(f"ZNAME{number}").upper() == name:
            return unit.integer(f"ZVAL{number}", 0)
    return default


def _refuse_row(unit, bad, reason):
    if bad.any():
        unit.refuse(f"tile {int(bad.argmax()) + 1} {reason}")


def _check_rice(unit, heap, tiles):
    """A stream begins with one plain pixel, and has at least the code's own bits for each block of pixels."""
    block, n_bytes = _setting(unit, "BLOCKSIZE", 32), _setting(unit, "BYTEPIX", 4)
    if block not in (16, 32) or n_bytes not in _RICE_BITS:
        unit.refuse(f"RICE_1 must have BLOCKSIZE 16 or 32 and BYTEPIX 1, 2 or 4, got {block} and {n_bytes}")
    _, lengths, _ = heap.columns["COMPRESSED_DATA"]
    bits = -(-tiles.sizes() // block) * _RICE_BITS[n_bytes]
    _refuse_row(unit, (lengths > 0) & (lengths < n_bytes + -(-bits // 8)), "is shorter than RICE_1 can make it")


def _check_hcompress(unit, heap, tiles):
    """A stream begins with its magic number, the tile's two lengths, scale, sum, and the bit planes of its quarters."""
    if _setting(unit, "SMOOTH", 0) > 1 or _setting(unit, "SCALE", 0) >= 2**31:
        unit.refuse("HCOMPRESS_1 must have SMOOTH 0 or 1 and a SCALE below 2**31")
    _, lengths, _ = heap.columns["COMPRESSED_DATA"]
    heads = heap.starts("COMPRESSED_DATA", _HCOMPRESS_HEAD)
    used = lengths > 0
    _refuse_row(unit, used & (lengths < _HCOMPRESS_HEAD), "is shorter than HCOMPRESS_1 can make it")
    magic = (heads[:, :2] == np.frombuffer(_HCOMPRESS_MAGIC, np.uint8)).all(axis=1)
    _refuse_row(unit, used & ~magic, "does not begin as HCOMPRESS_1 does")
    said = np.ascontiguousarray(heads[:, 2:10]).view(">i4").astype(np.int64)
    due = [[n for n in each[::-1] if n != 1] for each in tiles.shapes().tolist()]
    wrong = np.array([len(each) != 2 or pair != each for pair, each in zip(said.tolist(), due, strict=True)])
    _refuse_row(unit, used & wrong, "says that it has another size than the header gives it")
    _refuse_row(unit, used & (heads[:, 22:] > _MOST_PLANES).any(axis=1), "has more bit planes than numbers have bits")


def _check_plio(unit, heap, tiles):
    """A line list says its own length, in its third number or, with a longer head, in the fourth and fifth."""
    _, lengths, _ = heap.columns["COMPRESSED_DATA"]
    head = np.ascontiguousarray(heap.starts("COMPRESSED_DATA", 10)).view(">i2").astype(np.int64)
    short = head[:, 2] > 0
    said = np.where(short, head[:, 2], (head[:, 4] << 15) + head[:, 3])
    first = np.where(short, _PLIO_HEAD, head[:, 1])
    used = lengths > 0
    _refuse_row(unit, used & (lengths < np.where(short, _PLIO_HEAD, 5)), "is shorter than PLIO_1 can make it")
    _refuse_row(unit, used & ((said > lengths) | (first < 0)), "says that it is longer than it is")


def _check_gzip(unit, heap, name, n_pixels):
    """A stream that could fill the memory is inflated step by step, and must not give more than the tile needs."""
    letter, lengths, _ = heap.columns[name]
    most = 8 * n_pixels
    for row in np.flatnonzero(lengths * _ITEM_SIZES[letter] > _GZIP_TRUSTED).tolist():
        rest, n_given = heap.entry(name, row), 0
        while rest:  # members of one stream, each inflated in steps
            inflater = zlib.decompressobj(wbits=31)
            while not inflater.eof and rest:
                n_given += len(inflater.decompress(rest, 1 << 20))
                if n_given > most:
                    unit.refuse(f"tile {row + 1} unpacks to more than its {n_pixels} pixels can take")
                rest = inflater.unconsumed_tail
            rest = inflater.unused_data
