"""Every client ends an exchange that drips, wherever it drips, and waits for one that is merely slow."""

import itertools
import socket
import threading
import time

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from astroclassify.exceptions import FetchError
from astroclassify.sim import fetch_halo
from astroclassify.survey import HipsOptical, SkyViewOptical

TIMEOUT = 0.4  # s
OK = b"HTTP/1.1 200 OK\r\n"
# What is sent at once, what is sent again and again every 20 ms, and the reason that the error gives.
DRIPS = {
    "nothing": (b"", b"", "no answer within 0.4 s"),
    "status line": (b"HTTP/1.1 200 ", b"O", "no answer within 0.4 s"),
    "a header": (OK + b"X: ", b"y", "no answer within 0.4 s"),
    "headers": (OK, b"X: y\r\n", "no answer within 0.4 s"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "no answer within 0.4 s"),
    "body": (OK + b"Content-Length: 999999\r\n\r\n", b"y", "slower than 1024 bytes/s for 0.4 s"),
    "body without end": (OK + b"\r\n", b"y", "slower than 1024 bytes/s for 0.4 s"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n", "slower than 1024 bytes/s for 0.4 s"),
    "body of an error": (b"HTTP/1.1 404 No\r\nContent-Length: 99999\r\n\r\n", b"y", "404"),
    "redirects": (b"HTTP/1.1 302 Go\r\nLocation: /on\r\nContent-Length: 9\r\n\r\n", b"", "more than 5 redirects"),
}


class Dripping:
    """A server on the loopback that sends ``start`` after a delay [s] and then one of ``drops`` every 20 ms."""

    def __init__(self, start, drops, delay=0.0):
        self.start, self.drops, self.delay = start, drops, delay
        self.stop = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/api"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.stop.is_set():
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            try:
                client.recv(65536)
                self.stop.wait(self.delay)
                client.sendall(self.start)
                for drop in self.drops:
                    if self.stop.wait(0.02):
                        return
                    client.sendall(drop)
            except OSError:  # the client has gone
                pass

    def close(self):
        self.stop.set()
        self.socket.close()


@pytest.fixture
def dripping(monkeypatch):
    """Function that starts such a server."""
    servers = []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def start(*args, **keywords):
        servers.append(Dripping(*args, **keywords))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def optical(kind):
    def ask(url, tmp_path, monkeypatch):
        service = kind(url=url, timeout=TIMEOUT * u.s, attempts=1)
        return service(SkyCoord(30 * u.deg, 10 * u.deg), 7 * u.arcmin)

    return ask


def halo(url, tmp_path, monkeypatch):
    pytest.importorskip("h5py")
    monkeypatch.setattr("astroclassify.sim.halos._http.TIMEOUT", TIMEOUT)
    monkeypatch.setattr("astroclassify.sim.halos._http.ATTEMPTS", 1)
    return fetch_halo("TNG300-1", snapshot=99, halo_id=0, api_key="k", cache=tmp_path, base_url=url)


CLIENTS = {"hips": optical(HipsOptical), "skyview": optical(SkyViewOptical), "tng": halo}


@pytest.mark.parametrize("drip", DRIPS)
def test_an_exchange_that_drips_ends(dripping, tmp_path, monkeypatch, drip):
    start, drop, reason = DRIPS[drip]
    server = dripping(start, itertools.repeat(drop))
    with pytest.raises(FetchError, match=reason):  # without a deadline this would not end
        CLIENTS["hips"](server.url, tmp_path, monkeypatch)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_has_the_deadline(dripping, tmp_path, monkeypatch, client):
    server = dripping(DRIPS["body"][0], itertools.repeat(b"y"))
    with pytest.raises(FetchError, match="slower than 1024 bytes/s"):
        CLIENTS[client](server.url, tmp_path, monkeypatch)


def test_redirects_share_one_deadline(dripping, tmp_path, monkeypatch):
    """Each of them is quicker than the timeout; all together are not."""
    server = dripping(DRIPS["redirects"][0], [], delay=0.6 * TIMEOUT)
    with pytest.raises(FetchError, match="no answer within 0.4 s"):
        CLIENTS["hips"](server.url, tmp_path, monkeypatch)


def test_waits_that_a_server_asks_for_have_an_end(dripping, monkeypatch):
    """Not one of them is longer than what is waited for, but all together are."""
    waits = []
    monkeypatch.setattr("astroclassify._http.sleep", waits.append)
    server = dripping(b"HTTP/1.1 503 Busy\r\nRetry-After: 290\r\nContent-Length: 0\r\n\r\n", [])
    service = HipsOptical(url=server.url, timeout=20 * u.s, attempts=100)
    with pytest.raises(FetchError, match="asks to come back in 290 s"):
        service(SkyCoord(30 * u.deg, 10 * u.deg), 7 * u.arcmin)
    assert waits == [290, 290]


def test_a_slow_answer_is_waited_for(dripping):
    """Three times as long as the timeout, which is long enough for a busy machine, at more than the least rate."""
    timeout = 1.0
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": 10.0})
    header.update({"CRPIX1": 10.0, "CRPIX2": 10.0, "CDELT1": -0.01, "CDELT2": 0.01})
    hdu = fits.PrimaryHDU(np.arange(400.0).reshape(20, 20), header)
    body = hdu.header.tostring().encode() + hdu.data.astype(">f8").tobytes()
    body += bytes(-len(body) % 2880)
    size = len(body) // (3 * round(timeout / 0.02))
    start = OK + b"Content-Type: image/fits\r\nContent-Length: %d\r\n\r\n" % len(body)
    server = dripping(start, [body[first : first + size] for first in range(0, len(body), size)])
    begin = time.monotonic()
    image = HipsOptical(url=server.url, timeout=timeout * u.s, attempts=1)(
        SkyCoord(30 * u.deg, 10 * u.deg), 5 * u.arcmin
    )
    assert image.shape == (20, 20)
    assert time.monotonic() - begin > 2 * timeout  # which a busy machine makes only longer
