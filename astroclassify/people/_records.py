"""Records of CSV files of millions of lines, of which some are broken: none of them costs another one."""

import csv
import io
import threading
from collections import deque
from contextlib import contextmanager
from itertools import islice

from astroclassify.tables._guard import open_unpacked

__all__ = ["open_text", "records"]

_LONGEST_RECORD = 16 << 20
# So many lines are parsed at once where each is a record by itself, as almost all are.
_BLOCK = 1024
_LIMIT_LOCK = threading.Lock()


@contextmanager
def open_text(path):
    """A CSV file, gzipped or not, as lines for `records`; bytes that are not UTF-8 become half surrogates."""
    with open_unpacked(path) as stream:
        yield io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def records(file):
    """
    Records of a CSV file: (line, fields, None), or (line, None, text) where there are not as many fields as in line 1.
    A quote that is not closed swallows no record, and a field may be of any length up to that of a record.
    """
    lines = _Lines(file)
    yield from _one_by_one(lines, 2)
    while block := lines.take(_BLOCK):
        rows = _one_a_line(block, lines.size)
        if rows is None:
            lines.put_back(block)
            yield from _one_by_one(lines, lines.number + len(block))
        else:
            for number, fields in enumerate(rows, lines.number - len(rows)):
                yield number, fields, None


def _one_by_one(lines, end):
    """The records that begin before line ``end``."""
    while lines.number < end:
        number = lines.number
        try:
            with _any_length():
                fields = lines.next_record()
        except StopIteration:
            return
        lines.size = len(fields or ()) if lines.size is None else lines.size
        if fields is not None and len(fields) == lines.size:
            yield number, fields, None
        elif fields != []:
            for place, text in enumerate(lines.kept, number):
                yield place, None, text


def _one_a_line(block, size):
    """Fields of lines of which each is a record of ``size`` fields by itself, or None where one is not."""
    try:
        with _any_length():
            rows = list(csv.reader(block))
    except csv.Error:
        return None
    # As many records as lines: each has one. The end of a line in the last field is inside a quote that is still open.
    whole = len(rows) == len(block) and all(len(fields) == size for fields in rows)
    return rows if whole and not rows[-1][-1].endswith(("\n", "\r")) else None


class _Lines:
    """Lines of a file for the CSV reader: those of its current record are in ``kept``; null bytes become escapes.

    A line inside a quote that is a record by itself, of ``size`` fields, ends the quote, which nobody has closed: it is
    kept for the next record. So does a record of more than ``_LONGEST_RECORD`` characters. ``number`` is that of the
    next line.
    """

    def __init__(self, file):
        self._file, self._pending = iter(file), deque()
        self.kept, self._length, self.size, self.swallowing, self.number = [], 0, None, False, 1

    def __iter__(self):
        return self

    def __next__(self):
        text = next(iter(self.take(1)))
        inside = bool(self.kept)
        if inside and (len(_alone(text)) == self.size or self._length > _LONGEST_RECORD):
            self.put_back([text])
            self.swallowing = True
            raise StopIteration
        self.kept.append(text)
        self._length += len(text)
        return text

    def take(self, n):
        """The next n lines, or those that are left."""
        taken = [self._pending.popleft() for _ in range(min(n, len(self._pending)))]
        taken += [text.replace("\0", "\\x00") for text in islice(self._file, n - len(taken))]
        self.number += len(taken)
        return taken

    def put_back(self, block):
        """Lines that are to be taken again."""
        self._pending.extendleft(reversed(block))
        self.number -= len(block)

    def next_record(self):
        """Fields of the next record, None where it is none; StopIteration at the end."""
        self.kept, self._length, self.swallowing = [], 0, False
        try:
            fields = next(csv.reader(self))
        except csv.Error:
            return None
        return None if self.swallowing else fields


def _alone(text):
    """Fields of a line read by itself."""
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return []


@contextmanager
def _any_length():
    """Python's CSV reader has one limit for the whole process, 131072 characters: raised while a record is read."""
    with _LIMIT_LOCK:
        before = csv.field_size_limit(2 * _LONGEST_RECORD)
        try:
            yield
        finally:
            csv.field_size_limit(before)
