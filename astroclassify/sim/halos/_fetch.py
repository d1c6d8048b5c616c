"""Halos of IllustrisTNG over the web API of its data release."""

import json
import logging
import os
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np

from astroclassify import tables
from astroclassify._checks import check_integer, require
from astroclassify.exceptions import FetchError, OutputError, SnapshotError

from ._fetch_cache import (
    DamagedError,
    Entry,
    MissingFieldError,
    Request,
    cache_folder,
    cached_cutout,
    check_place,
    from_cache,
    locked,
    read_cutout,
)
from ._http import Client, StatusError, check_address, discard
from ._tng_gas import GAS_FIELDS, OPTIONAL_GAS_FIELDS, TngGroup, cosmology_of, decoded

__all__ = ["fetch_halo"]

log = logging.getLogger(__name__)

BASE_URL = "https://www.tng-project.org/api/"
KEY_VARIABLE = "TNG_API_KEY"

# Header attribute of a cutout: its name in the answer of the API for the simulation.
_SIMULATION_FIELDS = {"BoxSize": "boxsize", "HubbleParam": "hubble", "Omega0": "omega_0", "OmegaLambda": "omega_L"}


def fetch_halo(simulation, *, snapshot, halo_id, api_key=None, cache=None, base_url=BASE_URL):
    """
    Fetch the X-ray emitting gas of one halo over the web API of the TNG data release.

    The group's catalogue entry and a cutout with the gas fields that are needed are downloaded once and kept in a
    cache folder. A halo that is there is read without network and without a key. A download that was interrupted
    continues at the next call where it stopped, if the server allows it. Busy servers (status 429 or 5xx), broken
    connections and answers that take more than 5 minutes, or come slower than 1024 bytes/s over 5 minutes, are tried
    again after growing waits, or the wait that the server asks for: at most 10 minutes altogether without a new byte.

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
        ``~/.cache``). Processes may share it: each waits for a halo that another one is fetching.
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
        If there is no key, it is refused, there is no such simulation, snapshot or halo, or the service still fails
        after the last retry.
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
    request = Request(
        base_url=base_url,
        simulation=simulation,
        snapshot=check_integer("snapshot", snapshot, 0),
        halo_id=check_integer("halo_id", halo_id, 0),
        folder=cache_folder(cache) / server / simulation,
    )
    require("h5py", extra="sim")
    found = from_cache(request)
    if found is None:
        client = Client(base_url, _find_key(api_key))
        with locked(request) as part:
            # Another process may have fetched it in the meantime.
            found = from_cache(request) or _from_server(client, request, part)
    return _build(request, *found)


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


def _from_server(client, request, part):
    """Entry, header and gas from the server, which leaves them in the cache."""
    entry = _ask_entry(client, request)
    if entry.n_gas <= 0:
        raise SnapshotError(f"{request} has no gas")
    if not (entry.group["Group_M_Crit500"] > 0 and entry.group["Group_R_Crit500"] > 0):
        raise SnapshotError(f"{request} has no M500: Group_M_Crit500 is {entry.group['Group_M_Crit500']:g}")
    check_place(request.entry)
    tables.write_beside(
        request.entry, lambda path: Path(path).write_text(json.dumps(asdict(entry)), encoding="utf-8"), overwrite=True
    )
    # The cutout may be in the cache although its entry was lost.
    cutout = cached_cutout(request, entry) or _download(client, request, entry, part)
    return entry, *cutout


def _ask_entry(client, request):
    """The catalogue entry of the group, and the header that its cutout must have."""
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
        return Entry.check(names, header, group)
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
    """Fetch a cutout into the cache; one that is damaged is fetched again, once."""
    check_place(request.cutout)
    try:
        request.cutout.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {str(request.cutout)!r}: {error.strerror}") from error
    for again in (False, True):
        _download_gas(client, request, part)
        try:
            cutout = read_cutout(part, request, entry)
        except MissingFieldError as error:
            discard(part)
            raise SnapshotError(f"{request}: {error}") from None
        except DamagedError as error:
            discard(part)
            if again:
                raise SnapshotError(f"{request} is damaged, also after a second download: {error}") from None
            log.warning("%s is damaged and is fetched again: %s", request, error)
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
        missing = error.status == 400 and [n for n in GAS_FIELDS if client.probe(request.cutout_url([n])) == 400]
        if not missing:
            raise
    raise SnapshotError(f"{request}: the simulation has no gas field {', '.join(missing)}")


def _build(request, entry, header, gas):
    """The halo, with where it came from in its meta."""
    group = TngGroup(
        {name: np.asarray(value) for name, value in entry.group.items()},
        header=header,
        halo_id=request.halo_id,
        simulation=decoded(header.get("SimulationName", request.simulation)),
        snapshot=request.snapshot,
        cosmology=cosmology_of(header),
        origin=str(request.cutout),
    )
    halo = group.whole(gas)
    halo.meta.update(url=request.halo_url, base_path=str(request.cutout))
    return halo
