"""A server on the loopback that speaks the TNG API and fails on request, and fetches from it."""

import io
import json
import threading
import time
import traceback
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import numpy as np
import pytest

from astroclassify.exceptions import AstroclassifyError, FetchError, OutputError
from astroclassify.sim import fetch_halo

KEY = "5ecret-0f-the-user"
SIM, SNAP, HALO = "TNG50-1", 50, 7
# As in the headers of real cutouts.
HEADER = {
    "BoxSize": 35000.0,
    "CutoutID": np.int64(HALO),
    "CutoutRequest": "gas=...",
    "CutoutType": "halo",
    "Git_commit": np.bytes_(b"d203ec8b07c7e2bdda5f608aa0babea46d603699"),
    "HubbleParam": 0.6774,
    "NumFilesPerSnapshot": np.int64(1),
    "Omega0": 0.3089,
    "OmegaBaryon": 0.0486,
    "OmegaLambda": 0.6911,
    "Redshift": 0.9973,
    "SimulationName": "L35n2160TNG",
    "SnapshotNumber": np.int64(SNAP),
    "Time": 1 / 1.9973,
    "UnitLength_in_cm": 3.085678e21,
    "UnitMass_in_g": 1.989e43,
    "UnitVelocity_in_cm_per_s": 1e5,
}
GROUP = {
    "GroupPos": [34990.0, 10.0, 20.0],
    "GroupVel": [10.0, 0.0, 0.0],
    "Group_M_Crit500": 7000.0,
    "Group_R_Crit500": 400.0,
    "GroupLenType": [0, 0, 0, 0, 0, 0],
    "GroupMass": 9000.0,
}
METALS = np.float32([0.76, 0.23, 0.002, 0.001, 0.004, 0.001, 0.0005, 0.0005, 0.0005, 0.0005])


def gas_fields(n=3000, metals=True):
    """Code-unit fields of hot gas, some of it across the corner of the box."""
    rng = np.random.default_rng(1)
    fields = {
        "Coordinates": (np.array(GROUP["GroupPos"]) + rng.normal(0, 100, (n, 3))) % HEADER["BoxSize"],
        "Velocities": rng.normal(0, 100, (n, 3)).astype("f4"),
        "Masses": rng.uniform(0.001, 0.002, n).astype("f4"),
        "Density": rng.uniform(1e-6, 1e-5, n).astype("f4"),
        "InternalEnergy": rng.uniform(5e5, 1e6, n).astype("f4"),
        "ElectronAbundance": np.full(n, 1.16, dtype="f4"),
        "GFM_Metallicity": np.full(n, 0.01, dtype="f4"),
        "StarFormationRate": np.zeros(n, dtype="f4"),
    }
    return {**fields, **({"GFM_Metals": np.tile(METALS, (n, 1))} if metals else {})}


def hdf5(fields, header=HEADER, **changes):
    """Bytes of a cutout; a changed header attribute that is None is left out."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as handle:
        attributes = handle.create_group("Header").attrs
        n_gas = len(next(iter(fields.values()))) if fields else 0
        attributes["NumPart_ThisFile"] = np.int32([n_gas, 0, 0, 0, 0, 0])
        attributes.update({k: v for k, v in {**header, **changes}.items() if v is not None})
        for name, values in fields.items():
            handle[f"PartType0/{name}"] = values
    return buffer.getvalue()


@dataclass
class Fault:
    """What goes wrong with one answer."""

    status: int | None = None
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None  # bytes sent before the connection is closed
    longer: int = 0  # added to Content-Length
    etag: str | None = None
    ignore_range: bool = False
    hang: threading.Event | None = None  # after the cut, wait instead of closing
    chunked: bool = False


class Handler(BaseHTTPRequestHandler):
    """One request to the API (``server.api``) or to its data host."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        api = self.server.api
        self.path, _, query = self.path.partition("?")
        self.fields = parse_qs(query).get("gas", [""])[0].split(",")
        with api.lock:
            kind = api.kind_of(self.path)
            api.requests.append((self.server.name, kind, f"{self.path}?{query}", dict(self.headers.items())))
            queue = api.faults.get((self.server.name, kind), [])
            fault = (queue.pop(0) if queue else None) or Fault()
        if fault.status:
            return self.send(fault.status, fault.body or b'{"detail": "no luck"}', fault)
        if self.server.name == "api" and self.headers.get("api-key") != api.key:
            return self.send(403, json.dumps({"detail": f"Invalid API key {self.headers.get('api-key')}"}).encode())
        if kind == "cutout":
            return self.cutout(api, fault, query)
        page = int(parse_qs(query).get("page", ["1"])[0])
        answer = api.answer(kind, self.path, page)
        if answer is None:
            return self.send(404, b'{"detail": "Not found."}')
        return self.send(200, fault.body or json.dumps(answer).encode(), fault)

    def cutout(self, api, fault, query):
        if any(name in api.lacking for name in self.fields):
            return self.send(400, b'{"detail": "bad field"}')
        if api.redirect and self.server.name == "api":
            location = f"{api.urls['data']}files/cutout.hdf5?{query}&signature=abc"
            return self.send(302, b"", Fault(headers={"Location": location}))
        body = api.body(self.fields) if fault.body is None else fault.body
        etag = fault.etag or api.etag
        match = self.headers.get("If-Range") == etag and not (api.ignore_range or fault.ignore_range)
        headers = {"ETag": etag} if etag else {}
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if match and "Range" in self.headers else 0
        if start and start >= len(body):
            return self.send(416, b"", Fault(headers={**headers, "Content-Range": f"bytes */{len(body)}"}))
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        fault = replace(fault, headers={**headers, **fault.headers})
        return self.send(206 if start else 200, body[start:], fault)

    def send(self, status, body, fault=None):
        fault = fault or Fault()
        self.send_response(status)
        headers = {"Content-Length": str(len(body) + fault.longer), **fault.headers}
        if fault.chunked:
            headers = {**headers, "Content-Length": None, "Transfer-Encoding": "chunked"}
            pieces = [body[k : k + 5000] for k in range(0, len(body), 5000)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if fault.cut is None else body[: fault.cut])
        self.wfile.flush()
        if fault.hang:
            fault.hang.wait()
        self.close_connection = True


class Api:
    """The state of the service, and what it has been asked."""

    def __init__(self):
        self.key, self.etag, self.redirect, self.ignore_range = KEY, '"v1"', False, False
        self.lacking, self.faults, self.requests, self.lock = set(), {}, [], threading.Lock()
        self.simulation = {
            "name": SIM,
            "name_alt": "L35n2160TNG",
            "boxsize": 35000.0,
            "hubble": 0.6774,
            "omega_0": 0.3089,
            "omega_L": 0.6911,
            "num_snapshots": 100,
        }
        self.snapshot = {"number": SNAP, "redshift": 0.9973, "num_groups_fof": 1000}
        self.gas = gas_fields()
        self.header = dict(HEADER)
        self.group = {**GROUP, "GroupLenType": [len(self.gas["Masses"]), 5, 0, 0, 3, 1]}
        self.wrapped = True
        self.servers, self.urls = {}, {}

    def start(self):
        for name in ("api", "data"):
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads, server.block_on_close = True, False
            server.name, server.api = name, self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            self.servers[name] = server
            self.urls[name] = f"http://127.0.0.1:{server.server_port}/"
        self.base_url = self.urls["api"] + "api/"

    def stop(self):
        for server in self.servers.values():
            server.shutdown()
            server.server_close()
        self.servers = {}

    @staticmethod
    def kind_of(path):
        parts = path.strip("/").split("/")[1:]
        if path.endswith("cutout.hdf5"):
            return "cutout"
        if path.endswith("info.json"):
            return "info"
        return {0: "root", 1: "simulation", 2: "snapshots", 3: "snapshot"}.get(len(parts), "?")

    def answer(self, kind, path, page):
        parts = path.strip("/").split("/")[1:]
        if (parts[1:] and parts[0] != SIM) or (len(parts) > 2 and parts[2] != str(SNAP) and kind != "snapshots"):
            return None
        if kind == "root":
            # The real root is no paged list; the client takes both.
            return {"simulations": [{"name": name, "num_snapshots": 100, "url": "?"} for name in ("TNG100-1", SIM)]}
        if kind == "snapshots":
            results = [{"number": number} for number in range(5 * page - 5, 5 * page)]
            following = f"http://elsewhere.invalid/api/x/?page={page + 1}" if page < 3 else None
            return {"count": 15, "next": following, "results": results}
        if kind == "info":
            if parts[4] != str(HALO):
                return None
            return {"Group": self.group, "meta": {"id": HALO}} if self.wrapped else self.group
        if kind == "simulation":
            return self.simulation if parts == [SIM] else None
        return self.snapshot

    def body(self, fields):
        return hdf5({name: self.gas[name] for name in fields if name in self.gas}, self.header)

    def asked(self, kind, server=None):
        return [request for request in self.requests if request[1] == kind and server in (None, request[0])]

    def fail(self, kind, *faults, server="api"):
        self.faults[server, kind] = list(faults)


def fetch(api, **changes):
    """The halo of the server, with its key."""
    settings = {"snapshot": SNAP, "halo_id": HALO, "api_key": KEY, "cache": api.cache, "base_url": api.base_url}
    return fetch_halo(changes.pop("simulation", SIM), **{**settings, **changes})


def failure(api, kind=FetchError, **changes):
    """The one-line message of the error of a fetch."""
    with pytest.raises(kind) as caught:
        fetch(api, **changes)
    text = str(caught.value)
    assert "\n" not in text and KEY not in "".join(traceback.format_exception(caught.value))
    if isinstance(caught.value, AstroclassifyError):
        parts = [path.name for path in api.cache.rglob("*.hdf5")] if api.cache.is_dir() else []
        assert not parts or isinstance(caught.value, OutputError), "nothing damaged is left in the cache"
    return text


def cached(api, ending):
    """The first file of the cache whose name ends so, or None."""
    found = sorted(api.cache.rglob(f"*{ending}"))
    return found[0] if found else None


def wait_for(condition, limit=600):
    """Wait for a condition; the limit in seconds is for a test that hangs, not for a slow machine."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)
