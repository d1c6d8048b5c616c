"""Halos of IllustrisTNG over the web API of its data release."""

import json
import logging
import os
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import tables
from .._checks import require
from ..exceptions import FetchError, OutputError, SnapshotError
from ._http import Client, StatusError, check_address, discard
from ._snapshot import check_integer
from ._tng_gas import GAS_FIELDS, OPTIONAL_GAS_FIELDS, check_header, cosmology_of, halo_from_gas

__all__ = ["fetch_halo"]

log = logging.getLogger(__name__)

BASE_URL = "https://www.tng-project.org/api/"
KEY_VARIABLE = "TNG_API_KEY"

# Catalogue field: its shape.
_GROUP_FIELDS = {
    "Group_M_Crit500": (),
    "Group_R_Crit500": (),
    "GroupPos": (3,),
    "GroupVel": (3,),
    "GroupLenType": (6,),
}
# Header attribute of a cutout: what the API calls it in its answer for the simulation.
_SIMULATION_FIELDS = {"BoxSize": "boxsize", "HubbleParam": "hubble", "Omega0": "omega_0", "OmegaLambda": "omega_L"}


class _DamagedError(Exception):
    """A cutout is not what it should be."""


class _LackingError(_DamagedError):
    """A cutout is whole, but has no such gas field."""


def fetch_halo(simulation, *, snapshot, halo_id, api_key=None, cache=None, base_url=BASE_URL):
    """
    Fetch the X-ray emitting gas of one halo over the web API of the TNG data release.

    The group's catalogue entry and a cutout with the gas fields that are needed are downloaded once and kept in a
    cache folder. A halo that is there is read without network and without a key. A download that was cut, by the
    network or because the program ended, goes on where it stopped at the next call, where the server allows it. Busy
    servers (status 429 or 5xx) and broken connections are tried again after growing waits, for as long as the server
    asks if it says so.

    Units and cosmology are those of the cutout's header. Star-forming gas and gas below 3e5 K is left out, as by
    `Snapshot.read_halo`. The abundances of single elements (``GFM_Metals``) are fetched where the snapshot has them.

    Parameters
    ----------
    simulation : str
        Name of the simulation in the API, such as ``"TNG300-1"``, ``"TNG-Cluster"`` or ``"Illustris-1"``.
    snapshot : int
        Number of the snapshot; 99 is z = 0 in TNG, 135 in Illustris.
    halo_id : int
        Number of the friends-of-friends group in the catalogue of that snapshot.
    api_key : str, optional
        Key of the API, free at https://www.tng-project.org/users/register/; by default that in the environment
        variable ``TNG_API_KEY``. It is sent to the host of ``base_url`` only, and stored nowhere.
    cache : path-like, optional
        Folder to keep the files in; by default ``astroclassify/tng`` in the user's cache folder (``XDG_CACHE_HOME`` or
        ``~/.cache``). Processes may share it: a halo that another one is fetching is waited for.
    base_url : str, optional
        Address of the API.

    Returns
    -------
    Halo
        The halo in physical units, with ``meta["url"]``, where it came from, and ``meta["base_path"]``, the file in
        the cache.

    Raises
    ------
    FetchError
        If there is no key, it is refused, there is no such simulation, snapshot or halo, or the service fails for
        longer than the retries last.
    SnapshotError
        If the halo has no (X-ray emitting) gas, if the simulation lacks a gas field that is needed, which the message
        names, or if what the server sends is damaged twice.
    OutputError
        If the cache folder cannot be written, or is full.
    MissingDependencyError
        If h5py is not installed.

    References
    ----------
    Nelson et al. 2019, Computational Astrophysics and Cosmology 6, 2, section 5.3; the API's documentation,
    https://www.tng-project.org/data/docs/api/.

    Examples
    --------
    >>> from astroclassify.sim import fetch_halo
    >>> halo = fetch_halo("TNG300-1", snapshot=99, halo_id=0)  # doctest: +SKIP
    >>> fetch_halo("../TNG300-1", snapshot=99, halo_id=0)
    Traceback (most recent call last):
    ...
    ValueError: simulation must be a name like 'TNG300-1', got '../TNG300-1'
    """
    if not isinstance(simulation, str):
        raise TypeError(f"simulation must be a name like 'TNG300-1', got {type(simulation).__name__}")
    # The name becomes part of an address and of a path.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", simulation):
        raise ValueError(f"simulation must be a name like 'TNG300-1', got {simulation[:80]!r}")
    base_url = check_address("base_url", base_url)
    server = re.sub(r"[^A-Za-z0-9.-]+", "_", base_url.split("://")[1]).strip("_")
    request = _Request(
        base_url=base_url,
        simulation=simulation,
        snapshot=check_integer("snapshot", snapshot),
        halo_id=check_integer("halo_id", halo_id),
        folder=_cache_folder(cache) / server / simulation,
    )
    require("h5py", extra="sim")
    found = _from_cache(request)
    if found is None:
        client = Client(base_url, _find_key(api_key))
        with _only_one(request) as part:
            # It may have come while another process was waited for.
            found = _from_cache(request) or _from_server(client, request, part)
    return _build(request, *found)


@dataclass(frozen=True)
class _Request:
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
class _Entry:
    """
    What the API says of a halo apart from its gas.

    ``names`` are what the header of the cutout may call the simulation (empty: unknown), ``header`` the values that
    some of its attributes must have, ``group`` the catalogue fields in code units.
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
            {name: _numbers(name, group.get(name), shape) for name, shape in _GROUP_FIELDS.items()},
        )

    @property
    def n_gas(self):
        return int(self.group["GroupLenType"][0])


def _numbers(name, value, shape):
    """A number or a list of them as it came, if it is one."""
    if value is None:
        raise ValueError(f"field {name} is missing")
    try:
        plain = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"field {name} is not numeric") from None
    if plain.shape != shape or not np.all(np.isfinite(plain)):
        raise ValueError(f"field {name} must hold {int(np.prod(shape))} finite numbers")
    return plain.tolist()


def _find_key(api_key):
    """The key, from the argument or the environment. No message may show it."""
    if api_key is not None and not isinstance(api_key, str):
        raise TypeError(f"api_key must be a string, got {type(api_key).__name__}")
    key = (os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key).strip()
    if not key:
        raise FetchError(
            f"a key of the TNG web API is needed: give api_key or set the environment variable {KEY_VARIABLE} "
            "(free at https://www.tng-project.org/users/register/)"
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError(f"api_key (or {KEY_VARIABLE}) must be ASCII characters without spaces")
    return key


def _cache_folder(cache):
    if cache is not None:
        return Path(cache).expanduser()
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "astroclassify" / "tng"


@contextmanager
def _only_one(request):
    """Hold the halo's lock, and give the path to download to; another process that holds it is waited for."""
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
        # Without locks two processes must not share a part, and so nobody can go on with it later.
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


def _from_cache(request):
    """Entry, header and gas from the cache, or None where something is missing or not sound."""
    entry = _read_entry(request)
    cutout = _cached_cutout(request, entry) if entry else None
    return cutout and (entry, *cutout)


def _from_server(client, request, part):
    """Entry, header and gas from the server, which leaves them in the cache."""
    entry = _ask_entry(client, request)
    if entry.n_gas <= 0:
        raise SnapshotError(f"{request} has no gas")
    if not (entry.group["Group_M_Crit500"] > 0 and entry.group["Group_R_Crit500"] > 0):
        raise SnapshotError(f"{request} has no M500: Group_M_Crit500 is {entry.group['Group_M_Crit500']:g}")
    _check_place(request.entry)
    tables.write_beside(
        request.entry, lambda path: Path(path).write_text(json.dumps(asdict(entry)), encoding="utf-8"), overwrite=True
    )
    # The cutout may be there and only its entry have been lost.
    cutout = _cached_cutout(request, entry) or _download(client, request, entry, part)
    return entry, *cutout


def _check_place(path):
    """Raise if a folder or a device lies where a file belongs. A broken link is none: it is replaced."""
    if path.exists() and not path.is_file():
        raise OutputError(f"{str(path)!r} is no file; remove it or choose another cache folder")


def _read_entry(request):
    _check_place(request.entry)
    try:
        return _Entry.check(**json.loads(request.entry.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        log.warning("%s cannot be used and is fetched anew: %s", request.entry, error)
        return None


def _ask_entry(client, request):
    """The catalogue entry of the group, and what its cutout's header must say."""
    simulation = _ask(client, request.simulation_url, "simulation", request.simulation, client.base_url)
    snapshots = f"{request.simulation_url}snapshots/"
    snapshot = _ask(client, request.snapshot_url, "snapshot", request.snapshot, snapshots)
    try:
        group = client.get_json(f"{request.halo_url}info.json")
    except StatusError as error:
        if error.status != 404:
            raise
        count = snapshot.get("num_groups_fof")
        allowed = f"; halo_id must be below {count}" if isinstance(count, int) else ""
        raise FetchError(f"there is no {request}{allowed}") from None
    if isinstance(group, dict) and isinstance(group.get("Group"), dict):
        group = group["Group"]
    header = {name: simulation[key] for name, key in _SIMULATION_FIELDS.items() if simulation.get(key) is not None}
    if snapshot.get("redshift") is not None:
        header["Redshift"] = snapshot["redshift"]
    names = [simulation["name_alt"], request.simulation] if simulation.get("name_alt") else []
    try:
        return _Entry.check(names, header, group)
    except ValueError as error:
        raise SnapshotError(f"catalogue entry of {request} in the API: {error}") from None


def _ask(client, url, argument, value, listing):
    """A JSON object; where there is none, an error that says which values the argument may have."""
    try:
        answer = client.get_json(url)
    except StatusError as error:
        if error.status != 404:
            raise
        raise FetchError(f"{argument} must be {_allowed(client, listing, argument)}, got {value!r}") from None
    if not isinstance(answer, dict):
        raise FetchError(f"{url} did not answer with a JSON object")
    return answer


def _allowed(client, listing, argument):
    """The values in one of the API's lists, as text."""
    key = "name" if argument == "simulation" else "number"
    try:
        values = [str(entry[key]) for entry in client.pages(listing, f"{argument}s")]
    except (FetchError, KeyError, TypeError):
        log.debug("no list at %s", listing, exc_info=True)
        values = []
    return f"one of {', '.join(values)}"[:1000] if values else "one that the API has"


def _download(client, request, entry, part):
    """Fetch a cutout into the cache; one that comes damaged is thrown away and fetched anew, once."""
    _check_place(request.cutout)
    try:
        request.cutout.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {str(request.cutout)!r}: {error.strerror}") from error
    for again in (False, True):
        _download_gas(client, request, part)
        try:
            cutout = _read_cutout(part, request, entry)
        except _LackingError as error:
            discard(part)
            raise SnapshotError(f"{request}: {error}") from None
        except _DamagedError as error:
            discard(part)
            if again:
                raise SnapshotError(f"{request} comes damaged, also at the second try: {error}") from None
            log.warning("%s came damaged and is fetched anew: %s", request, error)
        else:
            break
    try:
        os.replace(part, request.cutout)
    except OSError as error:
        raise OutputError(f"cannot write {str(request.cutout)!r}: {error.strerror}") from error
    discard(part)
    return cutout


def _download_gas(client, request, part):
    """Download the gas, with the optional fields if the snapshot has them."""
    try:
        return client.download(request.cutout_url([*GAS_FIELDS, *OPTIONAL_GAS_FIELDS]), part)
    except StatusError as error:
        if error.status != 400:
            raise
    log.info("%s: asking again without %s", request, ", ".join(OPTIONAL_GAS_FIELDS))
    try:
        return client.download(request.cutout_url(GAS_FIELDS), part)
    except StatusError as error:
        lacking = error.status == 400 and [n for n in GAS_FIELDS if client.probe(request.cutout_url([n])) == 400]
        if not lacking:
            raise
    raise SnapshotError(f"{request}: the simulation has no gas field {', '.join(lacking)}")


def _cached_cutout(request, entry):
    """Header and gas of the cutout in the cache, or None where there is none or it is not sound."""
    _check_place(request.cutout)
    if not request.cutout.is_file():
        return None
    try:
        return _read_cutout(request.cutout, request, entry)
    except _DamagedError as error:
        log.warning("%s cannot be used and is fetched anew: %s", request.cutout, error)
        return None


def _read_cutout(path, request, entry):
    """Header (dict) and gas (dict of arrays, code units) of a cutout, after checks; `_DamagedError` if one fails."""
    import h5py

    try:
        with h5py.File(path, "r") as handle:
            header = dict(handle["Header"].attrs.items())
            check_header(header, path.name)
            _check_identity(header, request, entry)
            group = handle.get("PartType0", {})
            lacking = [name for name in GAS_FIELDS if name not in group]
            if lacking:
                raise _LackingError(f"the simulation has no gas field {', '.join(lacking)}")
            names = [*GAS_FIELDS, *(name for name in OPTIONAL_GAS_FIELDS if name in group)]
            return header, {name: _read_field(group[name], name, entry.n_gas) for name in names}
    except SnapshotError as error:
        raise _DamagedError(str(error)) from error
    # h5py raises each of these for one kind of broken file or another.
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise _DamagedError(f"no sound HDF5 file: {' '.join(str(error).split())[:200]}") from error


def _read_field(data, name, n_gas):
    # Before reading: the shape in a broken file may be of any size.
    columns = data.shape[1:]
    if data.shape[:1] != (n_gas,) or len(columns) != (name in ("Coordinates", "Velocities", *OPTIONAL_GAS_FIELDS)):
        raise _DamagedError(f"{name} has shape {data.shape}, the catalogue counts {n_gas} cells")
    if data.dtype.kind not in "fiu":
        raise _DamagedError(f"{name} is not numeric")
    return data[()]


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _check_identity(header, request, entry):
    """Raise if a header is that of another halo, snapshot or simulation than the one asked for."""
    # Additions of the API, which other servers may lack.
    for name, value in (("CutoutType", "halo"), ("CutoutID", request.halo_id), ("SnapshotNumber", request.snapshot)):
        found = _text(header.get(name, value))
        if found != str(value):
            raise _DamagedError(f"{name} in the header is {found}, not {value}")
    name = _text(header.get("SimulationName", request.simulation))
    if entry.names and name not in entry.names:
        raise _DamagedError(f"SimulationName in the header is {name}, not {' or '.join(entry.names)}")
    for name, value in entry.header.items():
        found = float(header.get(name, value))
        # Redshift 0 is some 1e-16 in the API and the files.
        if not np.isclose(found, value, rtol=1e-3, atol=1e-3 if name == "Redshift" else 0.0):
            raise _DamagedError(f"{name} in the header is {found:g}, not {value:g}")
    n_gas = int(header["NumPart_ThisFile"][0])
    if n_gas != entry.n_gas:
        raise _DamagedError(f"NumPart_ThisFile in the header has {n_gas} gas cells, the catalogue {entry.n_gas}")


def _build(request, entry, header, gas):
    halo = halo_from_gas(
        gas,
        {name: np.asarray(value) for name, value in entry.group.items()},
        header=header,
        halo_id=request.halo_id,
        simulation=_text(header.get("SimulationName", request.simulation)),
        snapshot=request.snapshot,
        cosmology=cosmology_of(header),
        origin=str(request.cutout),
    )
    halo.meta.update(url=request.halo_url, base_path=str(request.cutout))
    return halo
