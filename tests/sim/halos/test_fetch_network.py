"""Fetching halos over the TNG API: redirects, busy servers, connections that are cut, and where the key goes."""

import io
import ssl
import threading
import time
import urllib.error
import urllib.request
from email.message import Message

import pytest
from _tng_server import HALO, KEY, SIM, SNAP, Fault, cached, failure, fetch

from astroclassify.exceptions import FetchError, SnapshotError
from astroclassify.sim import fetch_halo

h5py = pytest.importorskip("h5py")


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
    assert ranges == [None, "bytes=20000-", "bytes=20000-"], "an expired link is asked for again"


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


@pytest.mark.parametrize(
    ("base", "location", "receives"),
    [
        ("https", "https://WWW.tng-project.org:443/api/x", True),
        ("https", "https://tng-project.org/", False),
        ("https", "https://www.tng-project.org:8443/", False),
        ("http", "https://www.tng-project.org/api/", True),
        ("http", "https://data.tng-project.org/", False),
        ("http", "/x y", True),
        ("https", "http://www.tng-project.org/api/", None),
    ],
)
def test_hosts_that_receive_the_key(monkeypatch, tmp_path, base, location, receives):
    asked = []

    def redirect_once(self, request, timeout):
        asked.append((request.full_url, request.get_header("Api-key")))
        headers = Message()
        headers["Location"] = location
        raise urllib.error.HTTPError(request.full_url, 302 if len(asked) == 1 else 404, "", headers, io.BytesIO())

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", redirect_once)
    how = {"api_key": KEY, "cache": tmp_path, "base_url": f"{base}://www.tng-project.org/api/"}
    with pytest.raises(FetchError) as caught:
        fetch_halo(SIM, snapshot=SNAP, halo_id=HALO, **how)
    assert KEY not in str(caught.value) and asked[0][1] == KEY
    if receives is None:
        assert "from https to http" in str(caught.value) and len(asked) == 1
    else:
        assert asked[1][1] == (KEY if receives else None)
    if location == "/x y":
        assert asked[1][0] == "http://www.tng-project.org/x%20y"


@pytest.mark.parametrize("kind", ["simulation", "info", "cutout"])
@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_busy_servers_are_asked_again(api, kind, status):
    api.fail(kind, Fault(status=status), Fault(status=status))
    assert fetch(api).halo_id == HALO
    assert len(api.waits) == 2 and 0.7 < api.waits[0] < 1.3 and 1.4 < api.waits[1] < 2.6


def test_retry_after(api):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 500))
    faults = [Fault(status=429, headers={"Retry-After": value}) for value in ("17", date, "9" * 500, "0", "-3")]
    api.fail("cutout", *faults)
    assert fetch(api).halo_id == HALO
    assert api.waits[0] == 17 and 400 < api.waits[1] <= 501 and api.waits[2] < 6 and 6 <= api.waits[3] <= 10


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
    monkeypatch.setattr("astroclassify.sim.halos._http.TIMEOUT", 2.0)  # long enough for every answer of a busy machine
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
    assert max(api.waits) < 1.3, "every new byte resets the waits"
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
    # The second answer is the whole new file (If-Range); the third continues it.
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
    assert fetch(api).halo_id == HALO, "a file that ends early is fetched again"
    assert len(api.asked("cutout")) == 2
    api.cache = api.cache / "other"
    api.fail("cutout", *[Fault(longer=-3000)] * 2)
    assert "damaged, also after a second download" in failure(api, SnapshotError)


def test_json_cut_or_too_long(api, monkeypatch):
    api.fail("info", Fault(cut=20), Fault(cut=20))
    assert fetch(api).halo_id == HALO
    monkeypatch.setattr("astroclassify.sim.halos._http._MAX_JSON", 100)
    api.cache = api.cache / "other"
    assert "more than 100 bytes" in failure(api)


def test_invalid_certificate(api, monkeypatch):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"

    def refuse(self, request, timeout):
        raise urllib.error.URLError(error)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    assert "certificate is not valid: self-signed" in failure(api)
    assert api.waits == []


def test_no_part_of_a_key_is_shown(api):
    api.fail("info", Fault(body=b"x" * 50 + KEY.encode()))
    assert KEY[:6] not in failure(api)
