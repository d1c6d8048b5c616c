"""Predictions in a file of lines as they come, so that a run that was killed goes on."""

import hashlib
import json
import logging
import os
import time
from importlib.metadata import version
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from astroclassify._checks import first_line
from astroclassify.exceptions import ArgumentError, OutputError

__all__ = ["KeptRows", "Row", "fingerprints"]

log = logging.getLogger(__name__)

_HEADER = b'{"format": "astroclassify-rows", "format_version": 1}\n'
# Lines reach the system one by one, so that they outlive the process, and the disk this often [s].
_SECONDS = 5.0


class Row(NamedTuple):
    """
    Result for one image: probabilities (NaN if it failed), flags, message if it failed, other outputs by name, p-value
    of being familiar (NaN if it is not known).
    """

    probabilities: np.ndarray
    flags: int
    message: str = ""
    extras: dict[str, Any] = {}
    familiarity: float = float("nan")


def fingerprints(items, predictor):
    """Text of each item that changes with its file (path, size, time), its arguments and the model."""
    rules, network = predictor.decisive()
    start = hashlib.blake2b(network, digest_size=16)
    start.update(json.dumps([version("astroclassify"), *rules], sort_keys=True, default=str).encode())
    prints = []
    for item in items:
        if not isinstance(item.value, (str, PathLike, Exception)):
            raise ArgumentError(f"checkpoint is for images in files, got {type(item.value).__name__}")
        digest = start.copy()
        digest.update(repr((_state_of(item.value), item.redshift, item.centre, item.flags, *item.values)).encode())
        prints.append(digest.hexdigest())
    return prints


def _state_of(path):
    """Absolute path, size and time of change of a file; what stands in place of one that is not there."""
    if isinstance(path, Exception):
        return str(path)
    try:
        status = os.stat(path)
    except OSError:
        return os.path.abspath(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


class KeptRows:
    """
    Rows by the number of their item: those found in a file, and those added, which the file has a line for at once.

    A line is ``[fingerprint, probabilities, flags, familiarity or null]``. Lines of other images or another model
    are left alone, one cut off by the end of a process is removed; rows that failed are not kept: they are tried
    again.
    """

    def __init__(self, path, keys, n_classes):
        self.path, self._keys, self.rows = os.fspath(path), keys, {}
        try:
            self._file = open(self.path, "a+b")
            known = self._read(n_classes)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"checkpoint {self.path!r} cannot be used: {error.strerror or first_line(error)}"
            ) from error
        for number, key in enumerate(keys):
            if key in known:
                self.rows[number] = known[key]
        self._synced = time.monotonic()
        if known:
            log.info("resumed: %d of %d rows were there (%s)", len(self.rows), len(keys), self.path)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._sync()
        self._file.close()

    def _read(self, n_classes):
        """Rows in the file by their keys; a new file gets its first line."""
        self._file.seek(0)
        first = self._file.readline()
        if not _HEADER.startswith(first):
            self._file.close()
            raise OutputError(f"checkpoint {self.path!r} is a file of something else: choose another name")
        if first != _HEADER:
            self._file.truncate(0)
            self._file.write(_HEADER)
            self._file.flush()
            return {}
        known, end = {}, len(first)
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                break
            end += len(line)
            key, row = _row_of(line, n_classes)
            if row is not None:
                known[key] = row
        return known

    def add(self, number, row):
        """Keep the row of an item."""
        self.rows[number] = row
        if row.message:
            return
        familiar = float(row.familiarity) if np.isfinite(row.familiarity) else None
        line = json.dumps([self._keys[number], [float(p) for p in row.probabilities], int(row.flags), familiar])
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            if time.monotonic() - self._synced > _SECONDS:
                self._sync()
        except OSError as error:
            raise OutputError(f"cannot write {self.path!r}: {error.strerror or first_line(error)}") from error

    def _sync(self):
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def _row_of(line, n_classes):
    """Key and row of a line; None for the row where it does not hold one."""
    try:
        key, probabilities, flags, familiar = json.loads(line)
        p, familiar = np.array(probabilities, dtype=float), float("nan" if familiar is None else familiar)
        good = isinstance(key, str) and isinstance(flags, int) and p.shape == (n_classes,) and np.all(np.isfinite(p))
    except (ValueError, TypeError):
        return "", None
    return (key, Row(p, flags, familiarity=familiar)) if good else ("", None)
