"""The cache of halos fetched over the TNG web API: one catalogue entry, one cutout and one lock for each halo."""

import json
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astroclassify.exceptions import OutputError, SnapshotError

from ._hdf5 import opened
from ._http import discard
from ._tng_gas import CATALOGUE_FIELDS, GAS_FIELDS, OPTIONAL_GAS_FIELDS, around_centre, check_header, decoded, gas_field

__all__ = [
    "DamagedError",
    "Entry",
    "MissingFieldError",
    "Request",
    "cache_folder",
    "cached_cutout",
    "check_place",
    "from_cache",
    "locked",
    "read_cutout",
]

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A cutout fails a check."""


class MissingFieldError(DamagedError):
    """A cutout is valid, but lacks a gas field that is needed."""


@dataclass(frozen=True)
class Request:
    """One halo: its addresses in the API, and its files in the cache."""

    base_url: str
    simulation: str
    snapshot: int
    halo_id: int
    folder: Path

    def __str__(self):
        return f"halo {self.halo_id} of {self.simulation} snapshot {self.snapshot}"

    @property
    def simulation_url(self):
        return f"{self.base_url}{self.simulation}/"

    @property
    def snapshot_url(self):
        return f"{self.simulation_url}snapshots/{self.snapshot}/"

    @property
    def halo_url(self):
        return f"{self.snapshot_url}halos/{self.halo_id}/"

    def cutout_url(self, fields):
        return f"{self.halo_url}cutout.hdf5?gas={','.join(fields)}"

    def file(self, ending):
        return self.folder / f"snapshot_{self.snapshot:03d}_halo_{self.halo_id}.{ending}"

    @property
    def cutout(self):
        return self.file("hdf5")

    @property
    def entry(self):
        return self.file("json")


@dataclass(frozen=True)
class Entry:
    """
    Catalogue entry of a halo, as the API gives it.

    ``names``: names of the simulation that are allowed in the header of the cutout (empty: any). ``header``: values
    that some of its attributes must have. ``group``: catalogue fields in code units.
    """

    names: list
    header: dict
    group: dict

    @classmethod
    def check(cls, names, header, group):
        """The entry with the types that it should have, or a ValueError that names the field."""
        if not isinstance(group, dict) or not isinstance(header, dict):
            raise ValueError("no catalogue fields")
        return cls(
            [str(name)[:200] for name in names],
            {name: _numbers(name, value, ()) for name, value in header.items()},
            {name: _numbers(name, group.get(name), shape) for name, shape in CATALOGUE_FIELDS.items()},
        )

    @property
    def n_gas(self):
        return int(self.group["GroupLenType"][0])


def _numbers(name, value, shape):
    """A number, or a list of numbers, of the given shape; a ValueError names the field."""
    if value is None:
        raise ValueError(f"field {name} is missing")
    try:
        plain = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"field {name} is not numeric") from None
    if plain.shape != shape or not np.all(np.isfinite(plain)):
        raise ValueError(f"field {name} must hold {int(np.prod(shape))} finite numbers")
    return plain.tolist()


def cache_folder(cache):
    """The folder that was given, or ``astroclassify/tng`` in the cache folder of the user."""
    if cache is not None:
        return Path(cache).expanduser()
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore relative paths.
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "astroclassify" / "tng"


@contextmanager
def locked(request):
    """Hold the lock of the halo, and yield the path to download to; waits for another process that holds it."""
    path = request.file("lock")
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        handle = open(path, "ab")
    except OSError as error:
        raise OutputError(f"cannot write in the cache folder {str(request.folder)!r}: {error.strerror}") from error
    with handle:
        part = request.file("hdf5.part")
        if _lock(handle, f"{request} is being fetched by another process; waiting"):
            yield part
            return
        # Without locks two processes must not share a partial file, so that no later call can continue it.
        part = request.file(f"{os.getpid()}.hdf5.part")
        try:
            yield part
        finally:
            discard(part)


def _lock(handle, message):
    """Lock an open file until it is closed or the process ends. False where the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        while True:
            try:
                msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)  # tries for ten seconds
                return True
            except OSError:
                log.warning(message)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning(message)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        log.debug("no file locks in the cache folder: %s", error)
        return False
    return True


def from_cache(request):
    """Entry, header and gas from the cache, or None where something is missing or not valid."""
    entry = _read_entry(request)
    cutout = cached_cutout(request, entry) if entry else None
    return cutout and (entry, *cutout)


def check_place(path):
    """Raise if a folder or a device lies where a file belongs. A broken link is allowed: it is replaced."""
    if path.exists() and not path.is_file():
        raise OutputError(f"{str(path)!r} is not a file; remove it or choose another cache folder")


def _read_entry(request):
    check_place(request.entry)
    try:
        return Entry.check(**json.loads(request.entry.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        log.warning("%s cannot be used and is fetched again: %s", request.entry, error)
        return None


def cached_cutout(request, entry):
    """Header and gas of the cutout in the cache, or None where there is none or it is not valid."""
    check_place(request.cutout)
    if not request.cutout.is_file():
        return None
    try:
        return read_cutout(request.cutout, request, entry)
    except DamagedError as error:
        log.warning("%s cannot be used and is fetched again: %s", request.cutout, error)
        return None


def read_cutout(path, request, entry):
    """Header (dict) and gas (dict of arrays, code units) of a cutout, after checks; `DamagedError` if one fails."""
    try:
        with opened(path, "Header", "PartType0") as handle:
            header = dict(handle["Header"].attrs.items())
            check_header(header, path.name)
            _check_identity(header, request, entry)
            group = handle.get("PartType0", {})
            missing = [name for name in GAS_FIELDS if name not in group]
            names = [name for name in (*GAS_FIELDS, *OPTIONAL_GAS_FIELDS) if name in group]
            gas = {} if missing else {n: gas_field(group[n], n, entry.n_gas, path.name)[()] for n in names}
            if gas:
                around_centre(gas, entry.group, float(header["BoxSize"]), path.name)
    except SnapshotError as error:
        raise DamagedError(str(error)) from error
    if missing:
        raise MissingFieldError(f"the simulation has no gas field {', '.join(missing)}")
    return header, gas


def _check_identity(header, request, entry):
    """Raise if a header is that of another halo, snapshot or simulation than the one asked for."""
    # Additions of the API, which other servers may lack. What kind of cutout it is, a group or a subhalo, is seen from
    # the cells that it holds: the word in CutoutType differs from server to server.
    for name, value in (("CutoutID", request.halo_id), ("SnapshotNumber", request.snapshot)):
        found = decoded(header.get(name, value))
        if found != str(value):
            raise SnapshotError(f"{name} in the header is {found}, not {value}")
    name = decoded(header.get("SimulationName", request.simulation))
    if entry.names and name not in entry.names:
        raise SnapshotError(f"SimulationName in the header is {name}, not {' or '.join(entry.names)}")
    for name, value in entry.header.items():
        found = float(header.get(name, value))
        # Redshift 0 is some 1e-16 in the API and the files.
        if not np.isclose(found, value, rtol=1e-3, atol=1e-3 if name == "Redshift" else 0.0):
            raise SnapshotError(f"{name} in the header is {found:g}, not {value:g}")
    n_gas = int(header["NumPart_ThisFile"][0])
    if n_gas != entry.n_gas:
        kind = f" (a cutout of a {decoded(header['CutoutType'])})" if "CutoutType" in header else ""
        raise SnapshotError(f"NumPart_ThisFile in the header has {n_gas} gas cells, the catalogue {entry.n_gas}{kind}")
