"""The page's server under connections that send nothing, too little or too slowly: others are answered nevertheless."""

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from astropy import units as u

from astroclassify import tables
from astroclassify.people import open_server

pytest.importorskip("PIL.Image")

POLL = 0.02  # s between two looks of the server at its connections
PATIENCE = 120  # s that a test waits at most


@pytest.fixture
def server(tmp_path):
    sample = tables.empty(tables.SAMPLE, scheme="candidate")
    sample.add_row(["a", "a", "", "", "", *[np.nan * unit for unit in (1, u.Msun, u.kpc, u.Gyr, u.cm**-3, 1)], 0])
    tables.write_sample(sample, tmp_path)
    with open_server(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def connect(server):
    """Opens connections, which are closed at the end."""
    with contextlib.ExitStack() as stack:

        def begin(sent=b""):
            connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE)
            stack.enter_context(connection)
            connection.sendall(sent)
            return connection

        yield begin


def ask(server, path, fields=None):
    """(status, text) of a request as the page makes it."""
    body = None if fields is None else json.dumps(fields).encode()
    address = f"http://127.0.0.1:{server.server_port}"
    headers = {"X-Token": server.token, "Origin": address, "Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address + path, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def head(server, method="GET", path="/api/start", more=""):
    """The head of a request but for its last line."""
    host = f"127.0.0.1:{server.server_port}"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Origin: http://{host}", f"X-Token: {server.token}"]
    return ("\r\n".join(lines) + "\r\n" + more).encode()


def is_dropped(connection):
    """Wait for the server to end a connection; false if it sends something instead."""
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def is_open(connection):
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    finally:
        connection.settimeout(PATIENCE)
    return False


def drip(connection, data=b"x", most=2000):
    """Send one byte after the other until the server ends the connection; false if it takes them all."""
    connection.settimeout(POLL)
    for _ in range(most):
        try:
            connection.sendall(data)
            if connection.recv(1000) == b"":
                return True
        except TimeoutError:
            pass
        except ConnectionError:
            return True
    return False


def votes_of(server):
    return [(row["source_id"], row["voter_id"], row["answer"]) for row in server.session.journal.votes()]


VOTE = {"voter_id": "ann", "source_id": "a", "question": "class", "answer": "low_z"}


def test_more_connections_than_the_server_takes(server, connect):
    threads = threading.active_count()
    silent = [connect() for _ in range(3 * server.most_connections)]
    for number in range(10):
        assert ask(server, "/api/start")[0] == 200, number
    assert ask(server, "/api/vote", VOTE)[0] == 200 and votes_of(server) == [("a", "ann", "low_z")]
    # Those that have waited longest made room.
    assert all(is_dropped(connection) for connection in silent[: 2 * server.most_connections])
    assert is_open(silent[-1])
    assert threading.active_count() <= threads + server.most_connections + 1


@pytest.mark.parametrize("begun", ["", "GET", "GET /api/start HTTP/1.1\r\n", "POST /api/vote HTTP/1.1\r\nX-Token: "])
def test_requests_that_are_begun_only_make_room(server, connect, begun):
    server.most_connections = 8
    begun = [connect(begun.encode()) for _ in range(20)]
    assert ask(server, "/api/start")[0] == 200
    assert all(is_dropped(connection) for connection in begun[:11])


def test_heads_that_drip_are_dropped(server, connect):
    server.longest_request = 0.3
    for connection in [connect(head(server, more="X-Slow: ")) for _ in range(4)]:
        assert drip(connection)
    assert ask(server, "/api/start")[0] == 200


def test_bodies_that_drip_are_dropped(server, connect):
    server.longest_request = 0.3
    kind = "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    for length in (4000, 1 << 20):  # one that is taken, one that is only read to the end
        assert drip(connect(head(server, "POST", "/api/vote", kind.format(length)) + b'{"voter_id": "ann"'), b" ")
    body = json.dumps(VOTE).encode()
    cut = connect(head(server, "POST", "/api/vote", kind.format(len(body))) + body[:-1])
    assert is_dropped(cut) and votes_of(server) == []
    assert ask(server, "/api/vote", VOTE)[0] == 200 and votes_of(server) == [("a", "ann", "low_z")]


def test_silent_connections_are_dropped(server, connect):
    server.longest_idle = 0.3
    assert is_dropped(connect())
    asked = connect(head(server) + b"\r\n")
    assert asked.recv(100).startswith(b"HTTP/1.1 200")
    while asked.recv(1 << 16):  # the rest, and then the end
        pass


def test_a_connection_serves_many_requests(server, connect):
    """The clock of a request begins with its own first byte."""
    server.longest_request = 1.0
    connection = connect()
    reader = connection.makefile("rb")
    pause = threading.Event()
    for _ in range(5):
        pause.wait(0.3)
        connection.sendall(head(server) + b"\r\n")
        assert reader.readline().split()[1] == b"200"
        length = 0
        while (line := reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        assert "questions" in json.loads(reader.read(length))


def test_what_is_being_answered_is_not_dropped(server, connect, monkeypatch):
    """A request that takes longer than all limits is answered; beyond the limit of connections others wait."""
    server.most_connections, server.longest_request, server.longest_idle = 2, 0.1, 0.1
    begun, free = threading.Semaphore(0), threading.Event()
    start = server.session.start

    def slow():
        begun.release()
        assert free.wait(PATIENCE)
        return start()

    monkeypatch.setattr(server.session, "start", slow)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(server, "/api/start"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=PATIENCE)
    refused = connect()
    assert refused.recv(1000).startswith(b"HTTP/1.1 503 ") and is_dropped(refused)
    free.wait(0.5)  # longer than each limit
    free.set()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [200, 200]
    assert ask(server, "/api/start")[0] == 200


def test_votes_are_taken_during_an_attack(server, connect):
    """Dripping heads and silent connections in four threads, votes in another."""
    server.longest_request = 0.3
    over = threading.Event()

    def attack():
        while not over.is_set():
            with contextlib.suppress(ConnectionError):  # dropped before all is sent
                connections = [connect(b"POST /api/vote HTTP/1.1\r\n") for _ in range(20)]
                drip(connections[0], b"x", most=10)
                for connection in connections:
                    connection.close()

    threads = [threading.Thread(target=attack) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        statuses = [ask(server, "/api/vote", {**VOTE, "voter_id": f"voter{number}"})[0] for number in range(30)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 30
    assert votes_of(server) == [("a", f"voter{number}", "low_z") for number in range(30)]
