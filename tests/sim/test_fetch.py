"""Fetching halos: a server on the loopback that speaks the TNG API, and every way in which it may fail."""

import errno
import io
import json
import logging
import os
import pickle
import signal
import ssl
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy import units as u

from astroclassify import _http as web
from astroclassify.exceptions import AstroclassifyError, FetchError, OutputError, SnapshotError
from astroclassify.sim import _fetch, _http
from astroclassify.sim._fetch import fetch_halo

h5py = pytest.importorskip("h5py")

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
            fault.hang.wait(20)
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


@pytest.fixture
def api(monkeypatch, tmp_path, caplog):
    """The service; after the test the key must have gone nowhere but to it."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TNG_API_KEY", raising=False)
    caplog.set_level(logging.DEBUG)
    waits = []
    monkeypatch.setattr(web, "sleep", waits.append)
    service = Api()
    service.waits, service.cache = waits, tmp_path / "cache"
    service.start()
    yield service
    service.stop()
    assert KEY not in caplog.text
    assert all(KEY not in str(request) for request in service.requests if request[0] == "data")
    assert all(KEY not in request[2] for request in service.requests)
    for path in service.cache.rglob("*"):
        assert KEY not in str(path)
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def fetch(api, **changes):
    settings = {"snapshot": SNAP, "halo_id": HALO, "api_key": KEY, "cache": api.cache, "base_url": api.base_url}
    return fetch_halo(changes.pop("simulation", SIM), **{**settings, **changes})


def failure(api, kind=FetchError, **changes):
    """The one-line message that a fetch ends with."""
    with pytest.raises(kind) as caught:
        fetch(api, **changes)
    text = str(caught.value)
    assert "\n" not in text and KEY not in "".join(traceback.format_exception(caught.value))
    if isinstance(caught.value, AstroclassifyError):
        parts = [path.name for path in api.cache.rglob("*.hdf5")] if api.cache.is_dir() else []
        assert not parts or isinstance(caught.value, OutputError), "nothing unsound is left in the cache"
    return text


def cached(api, ending):
    found = sorted(api.cache.rglob(f"*{ending}"))
    return found[0] if found else None


def test_a_halo_comes_as_it_is(api):
    halo = fetch(api)
    n = len(api.gas["Masses"])
    assert (halo.halo_id, halo.simulation, halo.snapshot, halo.n_cells) == (HALO, "L35n2160TNG", SNAP, n)
    assert halo.redshift == 0.9973
    scale = (1 / 1.9973) / 0.6774
    assert halo.r_500.to_value(u.kpc) == pytest.approx(400 * scale)
    assert halo.m_500.to_value(u.Msun) == pytest.approx(7e13 / 0.6774)
    assert halo.centre.to_value(u.kpc) == pytest.approx(np.array(GROUP["GroupPos"]) * scale)
    assert np.max(np.abs(halo.position.value)) < 600 * scale, "wrapped over the corner of the box"
    assert halo.mass.to_value(u.Msun) == pytest.approx(api.gas["Masses"] * 1e10 / 0.6774, rel=1e-6)
    assert halo.cosmology.Om0 == 0.3089 and halo.cosmology.H0.value == pytest.approx(67.74)
    assert halo.abundances.shape == (n, 7)
    assert halo.meta["url"] == f"{api.base_url}{SIM}/snapshots/{SNAP}/halos/{HALO}/"
    assert halo.meta["base_path"] == str(cached(api, ".hdf5"))
    assert [path.suffix for path in sorted(api.cache.rglob("*.*")) if path.is_file()] == [".hdf5", ".json", ".lock"]
    assert api.waits == []


def test_both_forms_of_the_catalogue_entry(api):
    api.wrapped = False
    assert fetch(api).n_cells == len(api.gas["Masses"])


def test_second_call_needs_neither_network_nor_key(api):
    first = fetch(api)
    api.stop()
    again = fetch(api, api_key=None)
    assert np.array_equal(first.position.value, again.position.value)
    assert len(api.requests) == 4


def test_read_only_cache_is_enough_for_what_is_there(api):
    fetch(api)
    api.stop()
    folders = [api.cache, *(path for path in api.cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert fetch(api, api_key=None).n_cells == len(api.gas["Masses"])
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_key_of_the_environment(api, monkeypatch):
    assert "TNG_API_KEY" in failure(api, api_key=None)
    assert "TNG_API_KEY" in failure(api, api_key="  ")
    assert api.requests == []
    monkeypatch.setenv("TNG_API_KEY", f" {KEY}\n")
    assert fetch(api, api_key=None).halo_id == HALO


def test_keys_that_are_none(api):
    for bad in ("two words", "line\nX-Other: 1", "schlüssel"):
        text = failure(api, ValueError, api_key=bad)
        assert "api_key" in text and bad[:4] not in text
    assert "str" in failure(api, TypeError, api_key=b"bytes") and api.requests == []


def test_wrong_key(api):
    api.key = "another"
    text = failure(api)
    assert "TNG_API_KEY" in text and "403" in text and "***" in text
    assert len(api.requests) == 1, "a refused key is not tried again"


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"simulation": "../x"}, ValueError, "simulation must be a name"),
        ({"simulation": "a/b"}, ValueError, "simulation must be a name"),
        ({"simulation": ""}, ValueError, "simulation must be a name"),
        ({"simulation": None}, TypeError, "simulation must be a name"),
        ({"snapshot": "99"}, TypeError, "snapshot must be an integer"),
        ({"halo_id": -1}, ValueError, "halo_id must not be negative"),
        ({"halo_id": 1.5}, TypeError, "halo_id must be an integer"),
        ({"base_url": "ftp://host/"}, ValueError, "base_url must be an http or https address"),
        ({"base_url": "http://user:pass@host/"}, ValueError, "got 'host/'"),
        ({"base_url": "http://host/?a=1"}, ValueError, "base_url"),
        ({"base_url": "http://host:port/"}, ValueError, "base_url"),
        ({"base_url": "file:///etc"}, ValueError, "base_url"),
        ({"base_url": None}, ValueError, "base_url"),
    ],
)
def test_arguments(api, changes, kind, text):
    assert text in failure(api, kind, **changes)
    assert api.requests == [] and not api.cache.exists()


def test_no_such_simulation_snapshot_or_halo(api):
    assert "simulation must be one of TNG100-1, TNG50-1, got 'TNG60-1'" in failure(api, simulation="TNG60-1")
    text = failure(api, snapshot=51)
    # All three pages, at our own address although the links name another host.
    assert "snapshot must be one of 0, 1, 2," in text and "14, got 51" in text and len(api.asked("snapshots")) == 3
    text = failure(api, halo_id=5000)
    assert text == f"there is no halo 5000 of {SIM} snapshot {SNAP}; halo_id must be below 1000"
    api.fail("root", *[Fault(status=404)])
    assert "one that the API has" in failure(api, simulation="TNG60-1")


def test_the_data_host_never_sees_the_key(api):
    api.redirect = True
    assert fetch(api).n_cells == len(api.gas["Masses"])
    (request,) = api.asked("cutout", "data")
    assert "api-key" not in {name.lower() for name in request[3]}
    (request,) = api.asked("cutout", "api")
    assert {name.lower(): value for name, value in request[3].items()}["api-key"] == KEY


def test_resume_at_the_data_host(api):
    api.redirect = True
    api.fail("cutout", Fault(cut=20000), Fault(status=403), server="data")
    assert fetch(api).n_cells == len(api.gas["Masses"])
    ranges = [request[3].get("Range") for request in api.asked("cutout", "data")]
    assert ranges == [None, "bytes=20000-", "bytes=20000-"], "a link that has expired is asked for anew"


def test_redirects_that_are_refused(api):
    api.fail("cutout", *[Fault(status=302, headers={"Location": "file:///etc/passwd"})])
    assert "no web address" in failure(api)
    api.fail("cutout", *[Fault(status=302, headers={"Location": "http://a:b@host/"})])
    assert "no web address" in failure(api)
    api.fail("cutout", *[Fault(status=302, headers={"Location": "http://[::1"})])
    assert "no web address" in failure(api)
    here = f"{api.base_url}{SIM}/snapshots/{SNAP}/halos/{HALO}/cutout.hdf5"
    api.fail("cutout", *[Fault(status=307, headers={"Location": here})] * 9)
    assert "more than 5 redirects" in failure(api)


def test_doors_that_the_key_may_use():
    client = _http.Client("https://www.tng-project.org/api/", KEY)
    assert client._is_own("https://WWW.tng-project.org:443/api/x")
    for other in ("https://tng-project.org/", "https://www.tng-project.org:8443/", "http://www.tng-project.org/"):
        assert not client._is_own(other)
    plain = _http.Client("http://www.tng-project.org/api/", KEY)
    assert plain._is_own("https://www.tng-project.org/api/") and not plain._is_own("https://data.tng-project.org/")
    assert plain._redirected("http://www.tng-project.org/api/", "/x y") == "http://www.tng-project.org/x%20y"
    with pytest.raises(FetchError, match="from https to http"):
        client._redirected("https://www.tng-project.org/api/", "http://www.tng-project.org/api/")
    assert KEY not in repr(client)
    error = pickle.loads(pickle.dumps(_http.StatusError("text", 404)))
    assert isinstance(error, FetchError) and isinstance(error, OSError) and str(error) == "text"


@pytest.mark.parametrize("kind", ["simulation", "info", "cutout"])
@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_busy_servers_are_asked_again(api, kind, status):
    api.fail(kind, Fault(status=status), Fault(status=status))
    assert fetch(api).halo_id == HALO
    assert len(api.waits) == 2 and 0.7 < api.waits[0] < 1.3 and 1.4 < api.waits[1] < 2.6


def test_retry_after(api):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    faults = [Fault(status=429, headers={"Retry-After": value}) for value in ("17", date, "9" * 500, "0", "-3")]
    api.fail("cutout", *faults)
    assert fetch(api).halo_id == HALO
    assert api.waits[0] == 17 and 25 < api.waits[1] <= 31 and api.waits[2] < 6 and 6 <= api.waits[3] <= 10


def test_a_server_that_asks_for_hours(api):
    api.fail("cutout", Fault(status=429, headers={"Retry-After": "7200"}))
    assert "come back in 7200 s" in failure(api)
    assert api.waits == []


def test_retries_end(api):
    api.fail("info", *[Fault(status=502)] * 99)
    text = failure(api)
    assert "502" in text and "given up after 6 tries" in text and len(api.asked("info")) == 6
    assert 20 < sum(api.waits) < 45


def test_nobody_there(api):
    api.stop()
    assert "the connection failed" in failure(api)


def test_silence(api, monkeypatch):
    monkeypatch.setattr(_http, "TIMEOUT", 0.1)
    release = threading.Event()
    api.fail("cutout", Fault(cut=30000, hang=release), Fault(cut=10000, hang=release))
    try:
        assert fetch(api).halo_id == HALO
    finally:
        release.set()
    assert [request[3].get("Range") for request in api.asked("cutout")] == [None, "bytes=30000-", "bytes=40000-"]


def test_cut_connections_go_on_where_they_stopped(api):
    api.fail("cutout", *[Fault(cut=15000)] * 8)
    assert fetch(api).halo_id == HALO
    ranges = [request[3].get("Range") for request in api.asked("cutout")]
    assert ranges == [None] + [f"bytes={15000 * k}-" for k in range(1, 9)]
    assert all(request[3].get("If-Range") == '"v1"' for request in api.asked("cutout")[1:])
    assert max(api.waits) < 1.3, "every new byte starts the waits anew"
    assert cached(api, ".hdf5").read_bytes() == api.body(api.gas)


def test_a_server_that_ignores_ranges(api):
    api.ignore_range = True
    api.fail("cutout", Fault(cut=15000), Fault(cut=30000))
    assert fetch(api).halo_id == HALO
    assert cached(api, ".hdf5").read_bytes() == api.body(api.gas)


@pytest.mark.parametrize("etag", [None, 'W/"weak"', '"folded\r\n line"', '"caf\xe9"'])
def test_without_a_strong_tag_there_is_no_resume(api, etag):
    api.etag = etag
    api.fail("cutout", Fault(cut=15000))
    assert fetch(api).halo_id == HALO
    assert [request[3].get("Range") for request in api.asked("cutout")] == [None, None]


def test_resume_by_date(api):
    api.etag = "Sat, 01 Jun 2024 00:00:00 GMT"
    dated = {"ETag": None, "Last-Modified": api.etag}
    api.fail("cutout", Fault(cut=15000, headers=dated), Fault(headers=dated))
    assert fetch(api).halo_id == HALO
    assert api.asked("cutout")[1][3]["If-Range"] == api.etag


def test_a_file_that_changes_meanwhile(api):
    api.fail("cutout", Fault(cut=15000), Fault(etag='"v2"', cut=20000), Fault(etag='"v2"'))
    assert fetch(api).halo_id == HALO
    ranges = [request[3].get("Range") for request in api.asked("cutout")]
    # The second answer is the whole new file (If-Range), which is then gone on with.
    assert ranges == [None, "bytes=15000-", "bytes=20000-"]


def test_a_file_that_changes_all_the_time(api):
    api.fail("cutout", *[Fault(etag=f'"v{k}"', cut=15000) for k in range(99)])
    assert "given up" in failure(api)
    assert len(api.asked("cutout")) < 10


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"v9"'},
        {"Content-Range": "bytes 0-9/10"},
        {"Content-Range": "bytes 15000-20000/20001"},
        {"Content-Range": None},
        {"Content-Range": "nonsense"},
    ],
)
def test_a_piece_of_something_else(api, headers):
    api.fail("cutout", Fault(cut=15000), Fault(headers=headers))
    assert fetch(api).halo_id == HALO
    assert [request[3].get("Range") for request in api.asked("cutout")] == [None, "bytes=15000-", None]
    assert cached(api, ".hdf5").read_bytes() == api.body(api.gas)


def test_range_not_satisfiable(api):
    api.fail("cutout", Fault(cut=15000), Fault(status=416))
    assert fetch(api).halo_id == HALO
    assert [request[3].get("Range") for request in api.asked("cutout")] == [None, "bytes=15000-", None]


def test_content_length_too_large(api):
    api.fail("cutout", Fault(longer=100))
    assert fetch(api).halo_id == HALO
    api.cache = api.cache / "other"
    api.fail("cutout", *[Fault(longer=100)] * 99)
    assert "given up" in failure(api)
    assert len(api.asked("cutout")) < 20


@pytest.mark.parametrize("length", ["-5", "many", "", None])
def test_content_length_nonsense_or_missing(api, length):
    api.fail("cutout", Fault(headers={"Content-Length": length}))
    assert fetch(api).halo_id == HALO


def test_chunked_bodies(api):
    api.fail("cutout", Fault(chunked=True, cut=20000), Fault(cut=30000), Fault(chunked=True))
    assert fetch(api).halo_id == HALO
    ranges = [request[3].get("Range") for request in api.asked("cutout")]
    assert ranges[0] is None and 15000 <= int(ranges[1][6:-1]) <= 20000 < int(ranges[2][6:-1])
    assert cached(api, ".hdf5").read_bytes() == api.body(api.gas)


def test_content_length_too_small(api):
    api.fail("cutout", Fault(longer=-3000))
    assert fetch(api).halo_id == HALO, "a file that ends early is fetched anew"
    assert len(api.asked("cutout")) == 2
    api.cache = api.cache / "other"
    api.fail("cutout", *[Fault(longer=-3000)] * 2)
    assert "damaged, also at the second try" in failure(api, SnapshotError)


def test_corrupt_body(api):
    page = b"<!DOCTYPE html><title>maintenance</title>"
    api.fail("cutout", Fault(body=page))
    assert fetch(api).halo_id == HALO
    api.cache = api.cache / "other"
    api.fail("cutout", Fault(body=page), Fault(body=page))
    assert "no sound HDF5 file" in failure(api, SnapshotError)
    assert cached(api, ".part") is None and cached(api, ".part.json") is None
    api.fail("cutout", Fault(body=b""), Fault(body=b""))
    assert "no sound HDF5 file" in failure(api, SnapshotError)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"CutoutID": np.int64(8)}, "CutoutID in the header is 8, not 7"),
        ({"CutoutType": "subhalo"}, "CutoutType"),
        ({"SimulationName": "L35n2160TNG_DM"}, "SimulationName in the header is L35n2160TNG_DM"),
        ({"SnapshotNumber": np.int64(51)}, "SnapshotNumber"),
        ({"Redshift": 0.5, "Time": 1 / 1.5}, "Redshift in the header is 0.5, not 0.9973"),
        ({"BoxSize": 75000.0}, "BoxSize"),
        ({"HubbleParam": 0.704}, "HubbleParam"),
        ({"NumPart_ThisFile": np.int32([2999, 0, 0, 0, 0, 0])}, "2999 gas cells, the catalogue 3000"),
        ({"NumPart_ThisFile": np.float64(np.nan)}, "no sound HDF5 file"),
        ({"Time": None}, "attribute Time is missing"),
        ({"UnitMass_in_g": 1.0}, "wrong header units"),
    ],
)
def test_a_cutout_of_something_else(api, changes, text):
    wrong = hdf5(api.gas, **changes)
    api.fail("cutout", Fault(body=wrong), Fault(body=wrong))
    assert text in failure(api, SnapshotError)
    assert len(api.asked("cutout")) == 2
    api.fail("cutout", Fault(body=wrong))
    assert fetch(api).halo_id == HALO


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Masses", np.zeros(2999)),
        ("Masses", np.zeros((3000, 2))),
        ("Masses", np.full(3000, b"x")),
        ("Coordinates", np.zeros(3000)),
        ("GFM_Metals", np.zeros(3000)),
    ],
)
def test_fields_of_the_wrong_shape(api, name, values):
    api.gas[name] = values
    wrong = hdf5(api.gas, NumPart_ThisFile=np.int32([3000, 0, 0, 0, 0, 0]))
    api.fail("cutout", Fault(body=wrong), Fault(body=wrong))
    assert name in failure(api, SnapshotError)


def test_header_attributes_that_the_service_adds_may_be_absent(api):
    for name in ("CutoutID", "CutoutType", "SnapshotNumber", "SimulationName", "UnitMass_in_g"):
        del api.header[name]
    del api.simulation["name_alt"], api.simulation["boxsize"], api.snapshot["redshift"]
    assert fetch(api).simulation == SIM


def test_metals_only_where_the_snapshot_has_them(api):
    api.lacking = {"GFM_Metals"}
    halo = fetch(api)
    assert halo.abundances is None and halo.n_cells == len(api.gas["Masses"])
    assert ["GFM_Metals" in request[2] for request in api.asked("cutout")] == [True, False]
    assert fetch(api, api_key=None).abundances is None


def test_metals_left_out_without_a_word(api):
    del api.gas["GFM_Metals"]
    assert fetch(api).abundances is None
    assert len(api.asked("cutout")) == 1


def test_a_gas_field_that_the_run_lacks(api):
    api.lacking = {"ElectronAbundance", "GFM_Metals"}
    text = failure(api, SnapshotError)
    assert "no gas field ElectronAbundance" in text and "Masses" not in text
    api.lacking = set()
    api.requests.clear()
    del api.gas["StarFormationRate"], api.gas["Density"]
    assert "no gas field Density, StarFormationRate" in failure(api, SnapshotError)
    assert len(api.asked("cutout")) == 1, "a sound file without a field is not fetched again"


def test_a_request_that_is_refused_for_another_reason(api):
    api.fail("cutout", *[Fault(status=400, body=b'{"detail": "too many\\n requests today"}')] * 2)
    text = failure(api)
    assert "the server answered 400" in text and text.endswith("too many requests today")


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"", b"\xff\xfe\x00", b"[1, 2", b"[" * 100000])
@pytest.mark.parametrize("kind", ["simulation", "info"])
def test_json_garbage(api, kind, body):
    api.fail(kind, Fault(body=body or b" "))
    assert "did not answer with JSON" in failure(api)


@pytest.mark.parametrize("answer", ["[1, 2]", "null", "3", '"x"'])
def test_json_of_another_kind(api, answer):
    api.fail("snapshot", Fault(body=answer.encode()))
    assert "JSON object" in failure(api)
    api.fail("info", Fault(body=answer.encode()))
    assert "no catalogue fields" in failure(api, SnapshotError)


def test_json_cut_or_too_long(api, monkeypatch):
    api.fail("info", Fault(cut=20), Fault(cut=20))
    assert fetch(api).halo_id == HALO
    monkeypatch.setattr(_http, "_MAX_JSON", 100)
    api.cache = api.cache / "other"
    assert "more than 100 bytes" in failure(api)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("GroupPos", None, "field GroupPos is missing"),
        ("GroupPos", [1, 2], "GroupPos must hold 3 finite numbers"),
        ("GroupPos", ["a", "b", "c"], "GroupPos is not numeric"),
        ("GroupVel", {"x": 1}, "GroupVel is not numeric"),
        ("Group_M_Crit500", float("nan"), "Group_M_Crit500 must hold 1 finite"),
        ("Group_M_Crit500", 0.0, "no M500"),
        ("Group_R_Crit500", -1.0, "no M500"),
        ("GroupLenType", [0, 9, 9, 9, 9, 9], "has no gas"),
    ],
)
def test_catalogue_entries_without_what_is_needed(api, name, value, text):
    api.group[name] = value
    assert text in failure(api, SnapshotError)
    assert api.asked("cutout") == [], "found before anything large is fetched"


def test_gas_that_is_cold(api):
    api.gas["InternalEnergy"][:] = 1.0
    with pytest.raises(SnapshotError, match="no X-ray emitting gas"):
        fetch(api)


def test_gas_that_is_not_finite_names_the_file(api):
    api.gas["Density"][5] = np.nan
    with pytest.raises(SnapshotError, match=r"damaged: density must be finite") as caught:
        fetch(api)
    assert str(cached(api, ".hdf5")) in str(caught.value)


# The cache


def damage(path, action):
    with h5py.File(path, "r+") as handle:
        action(handle)


@pytest.mark.parametrize(
    "action",
    [
        lambda path: path.write_bytes(path.read_bytes()[:30000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x" * 5000),
        lambda path: damage(path, lambda f: f.pop("PartType0/Masses")),
        lambda path: damage(path, lambda f: f.pop("PartType0")),
        lambda path: damage(path, lambda f: f.pop("Header")),
        lambda path: damage(path, lambda f: f["Header"].attrs.update({"CutoutID": 3})),
        lambda path: path.unlink(),
    ],
)
def test_what_is_damaged_in_the_cache_is_fetched_anew(api, action):
    fetch(api)
    action(cached(api, ".hdf5"))
    assert fetch(api).n_cells == len(api.gas["Masses"])
    assert len(api.asked("cutout")) == 2
    fetch(api, api_key=None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"names": 3}', '{"names": [], "header": {}, "group": {}}', None])
def test_a_lost_entry_does_not_cost_the_cutout(api, text):
    fetch(api)
    entry = cached(api, ".json")
    entry.unlink() if text is None else entry.write_text(text)
    assert fetch(api).halo_id == HALO
    assert len(api.asked("info")) == 2 and len(api.asked("cutout")) == 1


def test_damaged_cache_without_key_asks_for_one(api):
    fetch(api)
    cached(api, ".hdf5").write_bytes(b"x")
    with pytest.raises(FetchError, match="TNG_API_KEY"):
        fetch(api, api_key=None)
    api.fail("cutout", *[Fault(status=503)] * 9)
    failure(api)
    assert cached(api, ".hdf5") is None


def test_servers_and_halos_do_not_mix(api):
    fetch(api)
    with pytest.raises(FetchError, match="TNG_API_KEY"):
        fetch(api, api_key=None, base_url=api.base_url.replace("127.0.0.1", "localhost"))
    with pytest.raises(FetchError, match="TNG_API_KEY"):
        fetch(api, api_key=None, halo_id=8)
    assert fetch(api, api_key=None, base_url=api.base_url.rstrip("/")).halo_id == HALO


def test_default_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _fetch._cache_folder(None) == tmp_path / "astroclassify" / "tng"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert _fetch._cache_folder(None) == tmp_path / "home" / ".cache" / "astroclassify" / "tng"
    assert _fetch._cache_folder("~/x") == tmp_path / "home" / "x"


def test_folders_where_files_belong(api):
    fetch(api)
    for ending in (".hdf5", ".json"):
        path = cached(api, ending)
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        assert "is no file" in failure(api, OutputError)
        path.rmdir()
        path.write_bytes(content)
    cached(api, ".lock").unlink()
    (api.cache / "x").write_text("")
    assert "cannot write in the cache folder" in failure(api, OutputError, cache=api.cache / "x")
    part = cached(api, ".hdf5").with_name(cached(api, ".hdf5").name + ".part")
    cached(api, ".hdf5").unlink()
    part.mkdir()
    assert "cannot remove" in failure(api, OutputError)


def test_nothing_is_written_through_links(api, tmp_path):
    fetch(api)
    path = cached(api, ".hdf5")
    victim = tmp_path / "victim"
    victim.write_bytes(b"v" * 100)
    mark = json.dumps({"url": _request(api).cutout_url(["x"]), "validator": '"v1"', "size": 10**6})
    for name, content in ((path.name, None), (path.name + ".part", mark)):
        path.unlink()
        link = path.with_name(name)
        link.symlink_to(victim)
        if content:
            url = api.asked("cutout")[0][2]
            mark = {"url": api.urls["api"].rstrip("/") + url, "validator": '"v1"', "size": 10**6}
            link.with_name(link.name + ".json").write_text(json.dumps(mark))
        assert fetch(api).halo_id == HALO
        assert victim.read_bytes() == b"v" * 100 and not path.is_symlink()
    path.rename(victim)
    path.symlink_to(victim)
    api.stop()
    assert fetch(api, api_key=None).halo_id == HALO, "a link to a sound file is fine"


def _request(api):
    return _fetch._Request(api.base_url, SIM, SNAP, HALO, api.cache)


def test_cache_that_cannot_be_written(api, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_fetch.Path, "mkdir", refuse)
    text = failure(api, OutputError)
    assert "cannot write in the cache folder" in text and text.endswith("Permission denied") and api.requests == []


def test_cache_under_a_file(api, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write in the cache folder" in failure(api, OutputError, cache=tmp_path / "file" / "x")
    assert api.requests == []


class FullDisk(io.FileIO):
    """A file on a disk with room for 40000 bytes."""

    def write(self, data):
        if self.tell() + len(data) > 40000:
            super().write(data[: 40000 - self.tell()])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_disk_full(api, monkeypatch):
    def full(path, mode="r", **kwargs):
        return FullDisk(path, mode) if "b" in mode and str(path).endswith(".part") else open(path, mode, **kwargs)

    monkeypatch.setattr(_http, "open", full, raising=False)
    text = failure(api, OutputError)
    assert "No space left on device; 40000 bytes are kept" in text
    assert "No space left on device" in failure(api, OutputError)
    monkeypatch.undo()
    assert fetch(api).halo_id == HALO
    assert api.asked("cutout")[-1][3]["Range"] == "bytes=40000-"
    assert cached(api, ".part") is None and cached(api, ".part.json") is None


@pytest.mark.parametrize("mark", ["", "{}", "[]", '{"url": 1, "validator": 2, "size": "x"}', None])
def test_a_part_that_nobody_knows(api, mark):
    fetch(api)
    path = cached(api, ".hdf5")
    path.rename(path.with_name(path.name + ".part"))
    if mark is not None:
        path.with_name(path.name + ".part.json").write_text(mark)
    assert fetch(api).halo_id == HALO
    assert "Range" not in api.asked("cutout")[-1][3]


def test_a_whole_part_is_not_fetched_again(api):
    """The program ended between the last byte and the renaming."""
    fetch(api)
    path = cached(api, ".hdf5")
    mark = {
        "url": api.urls["api"].rstrip("/") + api.asked("cutout")[0][2],
        "validator": '"v1"',
        "size": path.stat().st_size,
    }
    part = path.with_name(path.name + ".part")
    path.rename(part)
    part.with_name(part.name + ".json").write_text(json.dumps(mark))
    assert fetch(api).halo_id == HALO
    assert len(api.asked("cutout")) == 1 and cached(api, ".part") is None


# More than one process

SCRIPT = """
import sys
from astroclassify.sim._fetch import fetch_halo
halo = fetch_halo({sim!r}, snapshot={snap}, halo_id={halo}, cache=sys.argv[1], base_url=sys.argv[2])
sys.stdout.write(str(halo.n_cells))
"""


def start(api):
    environment = {**os.environ, "TNG_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    code = SCRIPT.format(sim=SIM, snap=SNAP, halo=HALO)
    command = [sys.executable, "-c", code, str(api.cache), api.base_url]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_two_processes_fetch_once(api, caplog):
    release = threading.Event()
    api.fail("cutout", Fault(cut=30000, hang=release))
    process = start(api)
    wait_for(lambda: len(api.asked("cutout")) == 1)
    threading.Thread(target=lambda: (wait_for(lambda: "waiting" in caplog.text), release.set()), daemon=True).start()
    assert fetch(api).n_cells == 3000
    output = process.communicate(timeout=30)
    assert (process.returncode, output[0]) == (0, "3000") and KEY not in str(output)
    assert "being fetched by another process" in caplog.text
    assert [request[3].get("Range") for request in api.asked("cutout")] == [None, "bytes=30000-"]


def test_going_on_after_kill_9(api):
    release = threading.Event()
    api.fail("cutout", Fault(cut=40000, hang=release))
    process = start(api)
    try:
        wait_for(lambda: (part := cached(api, ".part")) and part.stat().st_size >= 30000)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
    finally:
        release.set()
    kept = cached(api, ".part").stat().st_size
    assert fetch(api).n_cells == len(api.gas["Masses"])
    assert api.asked("cutout")[-1][3]["Range"] == f"bytes={kept}-"
    assert cached(api, ".hdf5").read_bytes() == api.body(api.gas)


def test_file_systems_without_locks(api, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    api.fail("cutout", Fault(cut=30000))
    assert fetch(api).halo_id == HALO
    api.cache = api.cache / "other"
    api.fail("cutout", Fault(cut=30000), *[Fault(status=503)] * 9)
    assert "given up" in failure(api)
    assert cached(api, ".part") is None and cached(api, ".part.json") is None


# Connections that only a real certificate would show


def test_a_certificate_that_is_not_valid(api, monkeypatch):
    client = _http.Client("https://127.0.0.1:1/", KEY)
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"

    def refuse(request, timeout):
        raise urllib.error.URLError(error)

    monkeypatch.setattr(client._opener, "open", refuse)
    with pytest.raises(FetchError, match="certificate is not valid: self-signed"):
        client.get_json("https://127.0.0.1:1/")
    assert api.waits == []


# Against the other reader and real files


def test_same_halo_as_from_the_snapshot(api, tmp_path):
    pytest.importorskip("illustris_python")
    from illustris_python import groupcat, snapshot

    from astroclassify.sim import open_snapshot, write_embedded_snapshot

    base = write_embedded_snapshot(tmp_path / "run", n_halos=1, rng=1, cell_mass=3e9 * u.Msun)
    expected = open_snapshot(base).read_halo(0)
    gas = snapshot.loadHalo(str(base), 99, 0, "gas")
    api.gas = {name: values for name, values in gas.items() if name != "count"}
    with h5py.File(base / "snapdir_099" / "snap_099.0.hdf5") as handle:
        header = dict(handle["Header"].attrs.items())
    api.header = {**header, "CutoutID": 0, "CutoutType": "halo", "NumPart_ThisFile": np.int32([gas["count"]] + [0] * 5)}
    group = groupcat.loadSingle(str(base), 99, haloID=0)
    names = ("Group_M_Crit500", "Group_R_Crit500", "GroupPos", "GroupVel", "GroupLenType")
    api.group = {name: np.asarray(group[name]).tolist() for name in names}
    api.simulation = {"name": "embedded", "boxsize": 205000.0}
    api.snapshot = {"number": 99, "redshift": 2.2e-16}
    answers = {"simulation": api.simulation, "snapshot": api.snapshot, "info": {"Group": api.group}}
    api.answer = lambda kind, path, page: answers[kind]
    halo = fetch(api, simulation="embedded", snapshot=99, halo_id=0)
    for name in ("simulation", "snapshot", "halo_id", "redshift"):
        assert getattr(halo, name) == getattr(expected, name), name
    for name in ("position", "velocity", "mass", "density", "temperature", "n_e", "n_h", "metallicity", "abundances"):
        ours, theirs = getattr(halo, name), getattr(expected, name)
        assert (ours is None and theirs is None) or np.array_equal(ours.value, theirs.value), name
    for name in ("m_500", "r_500", "centre"):
        assert np.allclose(getattr(halo, name).value, getattr(expected, name).value, rtol=1e-12), name
    assert halo.cosmology.is_equivalent(expected.cosmology)


def real_headers(shared_data):
    for path in sorted((shared_data / "tng").glob("*.hdf5")):
        with h5py.File(path) as handle:
            yield path, dict(handle["Header"].attrs.items())


@pytest.mark.real_data
def test_real_headers(api, shared_data):
    for number, (_, header) in enumerate(real_headers(shared_data)):
        n_gas = len(api.gas["Masses"])
        parts = np.int32([n_gas, *header["NumPart_ThisFile"][1:]])
        api.header = {**header, "CutoutType": "halo", "CutoutID": np.int64(HALO), "NumPart_ThisFile": parts}
        api.header["SnapshotNumber"] = np.int64(SNAP)
        api.simulation["name_alt"] = header["SimulationName"]
        api.snapshot["redshift"] = float(header["Redshift"])
        halo = fetch(api, cache=api.cache / str(number))
        assert halo.simulation == header["SimulationName"].removesuffix("_DM") + "_DM" * (number == 0)
        assert halo.redshift == header["Redshift"] and halo.n_cells == n_gas
        assert halo.cosmology.H0.value == pytest.approx(67.74) and halo.cosmology.Ob0 == 0.0486
        assert halo.r_500.to_value(u.kpc) == pytest.approx(400 * header["Time"] / header["HubbleParam"])


@pytest.mark.real_data
def test_real_cutouts_without_gas(api, shared_data):
    for path, header in real_headers(shared_data):
        body = path.read_bytes()
        api.simulation["name_alt"] = header["SimulationName"]
        api.fail("cutout", Fault(body=body), Fault(body=body))
        assert "CutoutType in the header is subhalo, not halo" in failure(api, SnapshotError)
        with h5py.File(buffer := io.BytesIO(body), "r+") as handle:
            handle["Header"].attrs.update({"CutoutType": "halo", "CutoutID": HALO, "SnapshotNumber": SNAP})
        body = buffer.getvalue()
        api.snapshot["redshift"] = float(header["Redshift"])
        api.fail("cutout", Fault(body=body), Fault(body=body))
        assert "has 0 gas cells, the catalogue 3000" in failure(api, SnapshotError)


def test_addresses(api):
    request = _fetch._Request(_fetch.BASE_URL, "TNG300-1", 99, 12, api.cache)
    assert request.cutout_url(["Masses", "Density"]) == (
        "https://www.tng-project.org/api/TNG300-1/snapshots/99/halos/12/cutout.hdf5?gas=Masses,Density"
    )
    assert urlsplit(request.halo_url).path == "/api/TNG300-1/snapshots/99/halos/12/"


def test_no_half_of_a_key_is_shown(api):
    api.fail("info", Fault(body=b"x" * 50 + KEY.encode()))
    assert KEY[:6] not in failure(api)
