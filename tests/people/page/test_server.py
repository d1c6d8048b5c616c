"""The page's server, asked over the loopback interface as a browser, a hostile page and a broken client would ask."""

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from importlib import resources

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.exceptions import OutputError, SchemaError
from astroclassify.images import Cutout, write_image
from astroclassify.people import check_votes, expert_decisions, open_server, stored_votes
from astroclassify.schemes import CLUSTER

Image = pytest.importorskip("PIL.Image")

SHAPE = (60, 80)
VIEW = {"picture": "xray", "stretch": "asinh", "low": "50", "high": "100", "smoothing": "5"}


def bands(*, optical=True):
    """A bright spot right of and above the middle of a faint field, a gap at the left, and a star below."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [40.5, 30.5]
    wcs.wcs.cdelt = [-5 / 3600, 5 / 3600]
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    counts = np.random.default_rng(1).poisson(0.3 + 30 * np.exp(-((x - 60) ** 2 + (y - 45) ** 2) / 18)).astype(float)
    exposure = np.where(x < 8, 0.0, 1e4)
    made = {"xray": CCDData(counts * (exposure > 0), unit=u.ct, wcs=wcs, meta={"exposure_map": exposure})}
    if optical:
        plate = 100 + np.random.default_rng(2).normal(0, 1, SHAPE) + 50 * np.exp(-((x - 20) ** 2 + (y - 10) ** 2) / 8)
        made["optical"] = CCDData(plate, unit=u.adu, wcs=wcs)
    return made


def write_sample(folder, names=("a", "b", "one-band", "none", "broken")):
    (folder / "images").mkdir(parents=True)
    sample = tables.empty(tables.SAMPLE, scheme="candidate")
    for name in names:
        path = f"images/{name}.fits"
        if name == "one-band":
            write_image(bands()["xray"], folder / path)
        elif name == "none":
            path = ""
        elif name == "broken":
            (folder / path).write_bytes(b"SIMPLE  =                    T" + b"x" * 3000)
        else:
            Cutout(name, bands()).write(folder / path)
        values = [np.nan * unit for unit in (1, u.Msun, u.kpc, u.Gyr, u.cm**-3, 1)]
        sample.add_row([name, name, path, "low_z", "", *values, 2])
    tables.write_sample(sample, folder)
    return folder


def write_predictions(path, names):
    p = np.linspace(0, 1, len(names))
    table = QTable({"source_id": list(names), "label_pred": np.where(p < 0.5, "other", "cluster").astype(str)})
    table["p_cluster"], table["p_other"], table["flags"] = p, 1 - p, np.zeros(len(names), int)
    table["p_cluster"][0] = table["p_other"][0] = np.nan
    table.meta["scheme"] = CLUSTER.to_dict()
    return tables.write(table, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("made") / "sample")


@pytest.fixture
def folder(tmp_path, made):
    """A sample folder of its own for each test: votes lie beside the sample."""
    (tmp_path / "sample").mkdir()
    for path in made.rglob("*"):
        target = tmp_path / "sample" / path.relative_to(made)
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    return tmp_path / "sample"


@contextlib.contextmanager
def starting(folder):
    """Function that starts servers on a folder; they are stopped at the end."""
    running = []

    def begin(**settings):
        server = open_server(folder, **settings)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    def end():
        while running:
            server, thread = running.pop()
            server.shutdown()
            thread.join()
            server.server_close()

    begin.end = end
    try:
        yield begin
    finally:
        end()


@pytest.fixture
def start(folder):
    with starting(folder) as begin:
        yield begin


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Server for requests none of which may leave a vote."""
    with starting(write_sample(tmp_path_factory.mktemp("untouched") / "sample")) as begin:
        server = begin()
        yield server
        assert server.session.journal.votes()["source_id"].tolist() == []


def ask(server, path, parameters=None, body=None, headers=None, method=None):
    """(status, headers, body) of a request, with what a browser would send unless ``headers`` say otherwise."""
    target = path if parameters is None else f"{path}?{urllib.parse.urlencode(parameters)}"
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{target}", data=body, method=method)
    sent = {"X-Token": server.token}
    if body is not None:
        sent |= {"Origin": f"http://127.0.0.1:{server.server_port}", "Content-Type": "application/json"}
    for name, value in {**sent, **(headers or {})}.items():
        if value is not None:
            request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def get(server, path, **parameters):
    status, _, body = ask(server, path, parameters)
    assert status == 200, (status, body)
    return json.loads(body)


def post(server, path, **fields):
    status, _, body = ask(server, path, body=json.dumps(fields).encode())
    return status, json.loads(body)


def vote(server, voter, source, answer, question="class"):
    status, answer = post(server, "/api/vote", voter_id=voter, source_id=source, question=question, answer=answer)
    assert status == 200, answer
    return answer


# --- use


def test_page_loads_nothing_from_outside(start):
    server = start()
    status, headers, body = ask(server, "/", headers={"X-Token": None})
    assert status == 200 and server.token.encode() not in body
    page, policy = body.decode(), headers["Content-Security-Policy"]
    nonces = set(re.findall(r'nonce="([^"]+)"', page))
    assert len(nonces) == 1 and f"script-src 'nonce-{nonces.pop()}'" in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert re.findall(r"https?://|@import|url\(|innerHTML|src=\"", page) == []
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert ask(server, "/")[2] != body  # another nonce each time


def test_a_vote_from_question_to_table(start, folder):
    server = start(workflow="hunt")
    begin = get(server, "/api/start")
    rows = get(server, "/api/rows", voter_id="ann")["rows"]
    assert [row["source_id"] for row in rows] == ["a", "b", "one-band", "none", "broken"] and begin["voters"] == []
    assert [question["name"] for question in begin["questions"]][:2] == ["emission", "border"]
    source = get(server, "/api/source", voter_id="ann", source_id="a")
    assert source["question"] == "emission" and source["answers"] == {} and source["outcome"] == ""
    assert source["position"] == {"degrees": "150.00000 +2.00000", "sexagesimal": "10:00:00.00 +02:00:00.00"}
    assert source["facts"]["flags"] == "masked" and source["bands"] == ["xray", "optical"]
    assert source["facts"]["field"].startswith("6.67'") and "low_z" not in json.dumps(source)
    assert vote(server, "ann", "a", "yes", "emission")["question"] == "border"
    ended = vote(server, "ann", "a", "yes", "border")
    assert ended["question"] is None and ended["outcome"] == "edge"
    assert get(server, "/api/voter", voter_id=" ann ") == {
        "voter_id": "ann", "moderator": False, "outcomes": {"a": "edge"},
    }  # fmt: skip
    assert post(server, "/api/undo", voter_id="ann")[1]["answers"] == {"emission": "yes"}
    status, headers, text = ask(server, "/api/votes.ecsv")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    votes = tables.validate(QTable.read(text.decode(), format="ascii.ecsv"), tables.VOTES)
    assert votes["answer"].tolist() == ["yes"] and len(check_votes(votes)) == 0
    assert post(server, "/api/undo", voter_id="ann")[1]["question"] == "emission"
    assert post(server, "/api/undo", voter_id="ann") == (200, {"source_id": None})
    assert (folder / "votes-hunt.jsonl").is_file()


def test_default_question_is_which_class(start, tmp_path):
    server = start()  # the scheme is the sample's
    assert [len(question["answers"]) for question in get(server, "/api/start")["questions"]] == [6]  # five and "unsure"
    start.end()
    server = start(predictions=write_predictions(tmp_path / "p.ecsv", ["a", "b", "none"]))
    assert get(server, "/api/start")["workflow"] == "cluster"


def test_probabilities_hidden_until_voted_if_asked(start, tmp_path):
    path = write_predictions(tmp_path / "p.ecsv", ["a", "b", "none"])
    server = start(predictions=path, show_predictions=True)
    seen = get(server, "/api/source", voter_id="ann", source_id="none")
    assert seen["probabilities"] == {"cluster": 1.0, "other": 0.0} and seen["predicted"] == "cluster"
    assert get(server, "/api/source", voter_id="ann", source_id="a")["probabilities"] == {
        "cluster": None,
        "other": None,
    }
    assert get(server, "/api/source", voter_id="ann", source_id="broken")["probabilities"] is None
    assert get(server, "/api/rows", voter_id="ann")["rows"][3]["p"] == 1.0
    start.end()
    server = start(predictions=path)
    for _ in range(2):
        hidden = get(server, "/api/source", voter_id="ann", source_id="b")
        row = get(server, "/api/rows", voter_id="ann")["rows"][1]
        assert (row["predicted"], row["p"], row["outcome"]) == ("", None, "")
        assert hidden["hidden"] and hidden["probabilities"] is None and hidden["predicted"] is None
        assert not vote(server, "ann", "b", "other")["hidden"]
        assert get(server, "/api/source", voter_id="ann", source_id="b")["probabilities"]["other"] == 0.5
        row = get(server, "/api/rows", voter_id="ann")["rows"][1]
        assert (row["predicted"], row["p"], row["outcome"]) == ("cluster", 0.5, "other")
        assert get(server, "/api/source", voter_id="bob", source_id="b")["probabilities"] is None
        post(server, "/api/undo", voter_id="ann")


def test_moderators_see_and_resolve_conflicts(start):
    server = start(moderators=["mia", " mia "])
    assert get(server, "/api/start")["moderators"] == ["mia"] and get(server, "/api/voter", voter_id="mia")["moderator"]
    vote(server, "ann", "a", "low_z")
    assert get(server, "/api/source", voter_id="mia", source_id="a")["others"] == {}
    vote(server, "ann", "b", "point")
    vote(server, "bob", "a", "high_z")
    vote(server, "bob", "b", "point")
    (conflict,) = get(server, "/api/conflicts", voter_id="mia")["conflicts"]
    assert (conflict["source_id"], conflict["status"], conflict["mine"]) == ("a", "conflict", "")
    seen = get(server, "/api/source", voter_id="mia", source_id="a")["others"]
    assert seen == {"ann": "low_z", "bob": "high_z"}
    assert "others" not in get(server, "/api/source", voter_id="ann", source_id="a")
    vote(server, "mia", "a", "galaxy")
    (settled,) = get(server, "/api/conflicts", voter_id="mia")["conflicts"]
    assert (settled["status"], settled["decision"], settled["mine"]) == ("moderated", "galaxy", "galaxy")
    decisions = expert_decisions(server.session.journal.votes(), moderators=["mia"])
    assert decisions["decision"].tolist() == ["galaxy", "point"]
    status, _, body = ask(server, "/api/conflicts", {"voter_id": "ann"})
    assert status == 403 and b"are for moderators" in body


def test_several_voters_at_once(start, folder):
    server = start()
    answers = {"ann": "low_z", "bob": "high_z", "cy": "point", "di": "other"}
    errors = []

    def work(voter):
        try:
            for source in ("a", "b", "one-band", "none", "broken"):
                get(server, "/api/source", voter_id=voter, source_id=source)
                ask(server, "/api/picture", {**VIEW, "voter_id": voter, "source_id": source})
                vote(server, voter, source, "galaxy")
                vote(server, voter, source, answers[voter])
            vote(server, voter, "a", "galaxy")
            post(server, "/api/undo", voter_id=voter)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(voter,)) for voter in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start.end()
    assert errors == []
    server = start()  # the journal has them all
    votes = server.session.journal.votes()
    assert len(votes) == 20 and len(check_votes(votes, workflow="candidate")) == 0
    assert {(row["voter_id"], row["answer"]) for row in votes} == set(answers.items())
    assert server.session.journal.problems == [] and get(server, "/api/start")["notice"] == ""


def test_the_queue_leaves_out_what_needs_no_more_votes(start, tmp_path):
    path = write_predictions(tmp_path / "p.ecsv", ["a", "b", "none"])
    server = start(predictions=path)
    names = ["a", "b", "one-band", "none", "broken"]
    assert sorted(get(server, "/api/queue", voter_id="ann")["queue"]) == sorted(names)
    for voter in ("ann", "bob", "cy", "di"):
        vote(server, voter, "none", "cluster")
    vote(server, "eve", "a", "unsure")
    left = get(server, "/api/queue", voter_id="eve")["queue"]
    assert "none" not in left and set(left) <= set(names)


def test_two_servers_on_one_folder(start, folder):
    pytest.importorskip("fcntl")
    start()
    with pytest.raises(OutputError, match="in use by another process"):
        open_server(folder)


# --- requests that are refused

BAD_PATHS = [
    "/../sample.ecsv",
    "/sample.ecsv",
    "/images/a.fits",
    "/api/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/api/picture/../../../etc/passwd",
    "/..%5c..%5cetc/passwd",
    "//etc/passwd",
    "/page.html",
    "/_server.py",
    "/?x=1",
    "/api/start/",
    "/API/start",
    "/api",
    "/votes-candidate.jsonl",
    "/favicon.ico",
    "http://example.org/",
    "*",
    "/api/vote",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_unknown_addresses(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=300)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{server.server_port}")
    connection.putheader("X-Token", server.token)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404 and set(json.loads(body)) == {"error"}


@pytest.mark.parametrize(
    "name", ["../sample", "/etc/passwd", "..", "", "a\x00", "images/a", "a.fits", "z", "%61", "a" * 900, "\u2025/x"]
)
def test_unknown_sources(server, name):
    for path, more in (("/api/source", {}), ("/api/picture", VIEW)):
        status, _, body = ask(server, path, {"voter_id": "ann", "source_id": name, **more})
        assert status == 404 and b"source_id must be one of the sample's" in body
    status, answer = post(server, "/api/vote", voter_id="ann", source_id=name, question="class", answer="low_z")
    assert status == 404 and len(server.session.journal.votes()) == 0, answer


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}",
     "0.0.0.0:{port}", "[::1]:{port}", "localhost:{port}.", "user@127.0.0.1:{port}", ""],
)  # fmt: skip
def test_other_hosts(server, host):
    host = host.format(port=server.server_port)
    for path in ("/", "/api/start"):
        assert ask(server, path, headers={"Host": host})[0] == 421
    body = json.dumps({"voter_id": "ann", "source_id": "a", "question": "class", "answer": "low_z"}).encode()
    assert ask(server, "/api/vote", body=body, headers={"Host": host, "Origin": f"http://{host}"})[0] == 421
    assert len(server.session.journal.votes()) == 0


def test_localhost_is_this_computer_too(server):
    host = f"localhost:{server.server_port}"
    body = json.dumps({"voter_id": "ann"}).encode()
    assert ask(server, "/api/undo", body=body, headers={"Host": host, "Origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1", "http://localhost:{port}",
     "http://127.0.0.1:{port}/", "http://127.0.0.1:{port}.evil.example", "", None],
)  # fmt: skip
def test_other_origins(server, origin):
    origin = origin and origin.format(port=server.server_port)
    body = json.dumps({"voter_id": "ann", "source_id": "a", "question": "class", "answer": "low_z"}).encode()
    status, headers, _ = ask(server, "/api/vote", body=body, headers={"Origin": origin})
    assert status == 403 and len(server.session.journal.votes()) == 0
    assert not [name for name in headers if name.lower().startswith("access-control")]
    if origin is not None:
        assert ask(server, "/api/start", headers={"Origin": origin})[0] == 403


def test_preflights_are_not_answered(server):
    status, headers, _ = ask(server, "/api/vote", method="OPTIONS", headers={"Origin": "http://evil.example"})
    assert status == 501 and "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("token", [None, "", "x", "{token}x", "\xe9" * 32])
def test_wrong_tokens(server, token):
    token = token and token.format(token=server.token)
    body = json.dumps({"voter_id": "ann", "source_id": "a", "question": "class", "answer": "low_z"}).encode()
    assert ask(server, "/api/vote", body=body, headers={"X-Token": token})[0] == 401
    for path in ("/api/start", "/api/votes.ecsv", "/nowhere"):
        assert ask(server, path, headers={"X-Token": token})[0] == 401
    assert len(server.session.journal.votes()) == 0


def test_every_start_has_a_token_of_its_own(start):
    first = start().token
    start.end()
    assert start().token != first and len(first) >= 32


def test_server_listens_on_this_computer_only(start):
    server = start()
    assert server.socket.getsockname()[0] == "127.0.0.1" and server.address.startswith("http://127.0.0.1:")
    with pytest.raises(OutputError, match="port: cannot listen"):
        start(port=70000, workflow="hunt")
    with pytest.raises(OutputError, match="port: cannot listen"):
        start(port=server.server_port, workflow="hunt")
    start(workflow="hunt")  # the journal of a server that could not start is free


# --- malformed requests

BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b'[["voter_id", "ann"]]',
    b"null",
    b'"x"',
    b"{}",
    b'{"voter_id": 1, "source_id": "a", "question": "class", "answer": "low_z"}',
    b'{"voter_id": "ann", "source_id": {"a": "b"}, "question": "class", "answer": "low_z"}',
    b'{"voter_id": "ann", "source_id": "a", "question": "class"}',
    b'{"voter_id": "ann", "source_id": "a", "question": "class", "answer": "low_z", "self": "x"}',
    b'{"voter_id": "ann", "voter_id": "bob", "source_id": "a", "question": "class", "answer": "low_z"}',
    b"\xff\xfe\x00",
    b"[" * 4000,
    b'{"a":' * 800,
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_malformed_bodies(server, body):
    status, _, answer = ask(server, "/api/vote", body=body)
    assert status == 400 and "error" in json.loads(answer) and len(server.session.journal.votes()) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": "pink"}, "answer to 'class' must be one of"),
        ({"question": "colour"}, "question must be one of"),
        ({"voter_id": "<script>"}, "voter_id must begin"),
        ({"voter_id": "x" * 200}, "voter_id must begin"),
    ],
)
def test_votes_outside_the_workflow(server, fields, message):
    fields = {"voter_id": "ann", "source_id": "a", "question": "class", "answer": "low_z", **fields}
    status, answer = post(server, "/api/vote", **fields)
    assert status == 409 and message in answer["error"] and len(server.session.journal.votes()) == 0


def test_bodies_too_large_or_without_length(server):
    large = json.dumps({"voter_id": "x" * 5000}).encode()
    assert ask(server, "/api/undo", body=large)[0] == 413
    assert ask(server, "/api/undo", body=b"{}", headers={"Content-Length": "99999999999999999999"})[0] == 411
    assert ask(server, "/api/undo", body=b"{}", headers={"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "/api/start", {"x": "y" * 3000})[0] == 414
    for length in ("-1", "1e3", "\xb2", "2, 2"):
        assert ask(server, "/api/undo", body=b"{}", headers={"Content-Length": length})[0] == 411
    for head, status in (
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Content-Length: 2\r\nContent-Length: 2", b"411"),
        (b"Content-Length: 90", b"400"),
    ):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=300) as raw:
            raw.sendall(b"POST /api/undo HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n\r\n{}")
            raw.shutdown(socket.SHUT_WR)
            assert raw.makefile("rb").readline().split()[1] == status
    assert ask(server, "/api/start")[0] == 200


@pytest.mark.parametrize(
    "query", ["", "voter_id", "voter_id=ann&voter_id=bob&source_id=a", "voter_id=ann", "source_id=a&voter_id=ann&x=1",
              "&".join(f"a{number}=1" for number in range(20)), "voter_id=%ff&source_id=a"],
)  # fmt: skip
def test_malformed_queries(server, query):
    assert ask(server, f"/api/source?{query}")[0] == 400


@pytest.mark.parametrize(
    "change",
    [{"stretch": "cube"}, {"low": "x"}, {"low": "nan"}, {"high": "inf"}, {"low": "60", "high": "60"}, {"high": "101"},
     {"low": "-1"}, {"picture": "../x"}, {"picture": ""}, {"class_name": "low_z"}, {"smoothing": "-1"},
     {"smoothing": "nan"}, {"layer": "x"}, {"source_id": "one-band", "picture": "optical"}, {"source_id": "none"},
     {"source_id": "broken"}],
)  # fmt: skip
def test_unavailable_pictures(start, change):
    server = start(show_predictions=True)
    status, _, body = ask(server, "/api/picture", {**VIEW, "voter_id": "ann", "source_id": "a", **change})
    assert status == 422 and set(json.loads(body)) == {"error"}


def test_a_source_without_image_can_be_voted_on(start):
    server = start()
    for name in ("none", "broken"):
        facts = get(server, "/api/source", voter_id="ann", source_id=name)["facts"]
        assert name in facts["image"] or "FITS" in facts["image"]
        assert vote(server, "ann", name, "other")["outcome"] == "other"


def test_an_image_outside_the_sample_is_not_shown(start, folder, tmp_path):
    Cutout("a", bands()).write(tmp_path / "secret.fits")
    (folder / "images" / "a.fits").unlink()
    (folder / "images" / "a.fits").symlink_to(tmp_path / "secret.fits")
    server = start()
    status, _, body = ask(server, "/api/picture", {**VIEW, "voter_id": "ann", "source_id": "a"})
    assert status == 422 and b"lies outside the sample folder" in body
    start.end()
    sample = tables.read_sample(folder)
    sample["path"] = [f"../{each}" for each in sample["path"]]
    tables.write(sample, folder / "sample.ecsv", overwrite=True)
    with pytest.raises(SchemaError, match="must lie inside the sample folder"):
        open_server(folder)


def test_invalid_settings(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a sample"):
        open_server(tmp_path)
    with pytest.raises(SchemaError, match="workflow must be one of"):
        open_server(folder, workflow="nothing")
    with pytest.raises(SchemaError, match="voter_id must begin"):
        open_server(folder, moderators=["<mia>"])
    with pytest.raises(SchemaError, match="predictions must be of sources of the sample, got 'x'"):
        open_server(folder, predictions=write_predictions(tmp_path / "p.ecsv", ["x", "y"]))
    with open_server(folder):  # none of these keeps the journal
        pass


def test_internal_errors_are_logged_only(start, monkeypatch, caplog):
    server = start()

    def fail(*args):
        raise RuntimeError("a secret")

    monkeypatch.setattr(server.session, "start", fail)
    status, _, body = ask(server, "/api/start")
    assert status == 500 and b"secret" not in body and "a secret" in caplog.text


def test_a_vote_that_cannot_be_written_is_not_confirmed(start, folder):
    server = start()
    vote(server, "ann", "a", "low_z")
    journal = folder / "votes-candidate.jsonl"
    journal.rename(folder / "kept.jsonl")
    status, answer = post(server, "/api/vote", voter_id="ann", source_id="b", question="class", answer="low_z")
    assert status == 507 and "was moved or replaced" in answer["error"]
    (folder / "kept.jsonl").rename(journal)
    assert get(server, "/api/voter", voter_id="ann")["outcomes"] == {"a": "low_z"}
    vote(server, "ann", "b", "low_z")


# --- kill -9

SERVED = """
import sys
from astroclassify.people import open_server
server = open_server(sys.argv[1])
print(server.server_port, server.token, flush=True)
server.serve_forever()
"""


def test_kill_9_in_mid_vote_loses_nothing_that_was_confirmed(start, folder):
    process = subprocess.Popen([sys.executable, "-c", SERVED, str(folder)], stdout=subprocess.PIPE, text=True)
    port, token = process.stdout.readline().split()
    confirmed, answers = {}, ["low_z", "high_z", "galaxy", "point", "other"]

    class Remote:
        server_port = int(port)

    Remote.token = token

    def work(voter):
        try:
            for number in range(10_000):
                source = ("a", "b", "none")[number % 3]
                answer = answers[number // 3 % 5]
                vote(Remote, voter, source, answer)
                confirmed[voter, source] = (number, answer)
                if len(confirmed) == 6 and number > 12:
                    os.kill(process.pid, signal.SIGKILL)
        except (OSError, http.client.HTTPException):
            pass  # killed

    threads = [threading.Thread(target=work, args=(voter,)) for voter in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    server = start()
    kept = {(row["voter_id"], row["source_id"]): row["answer"] for row in server.session.journal.votes()}
    assert set(kept) >= set(confirmed) and len(confirmed) == 6
    for key, (number, answer) in confirmed.items():
        # What stands is the vote that was confirmed last, or one that was written and not confirmed any more.
        assert kept[key] in (answer, answers[(number + 3) // 3 % 5])
    assert server.session.journal.problems == []
    vote(server, "ann", "a", "point")


# --- the verb


def run_verb(*arguments):
    return main(["inspect", *map(str, arguments)])


def test_verb_serves_until_it_is_ended(folder, monkeypatch, capsys):
    def serve(server):
        assert server.session.moderators == ("mia", "moe") and server.session.blind
        vote(Remote(server), "ann", "a", "no", "emission")
        raise KeyboardInterrupt

    class Remote:
        """The same server, answered for by a thread."""

        def __init__(self, server):
            self.server_port, self.token = server.server_port, server.token
            threading.Thread(target=server.handle_request).start()

    monkeypatch.setattr(socketserver.BaseServer, "serve_forever", serve)
    assert run_verb(folder, "--workflow", "hunt", "--moderators", "moe", "mia") == 0
    printed = capsys.readouterr().err
    assert re.search(r"open http://127\.0\.0\.1:\d+/#\S{32} in a browser", printed) and "votes-hunt.jsonl" in printed
    assert run_verb(folder, "--workflow", "hunt", "--export", folder / "votes.ecsv") == 0
    assert tables.read(folder / "votes.ecsv", tables.VOTES)["answer"].tolist() == ["no"]
    assert run_verb(folder, "--workflow", "hunt", "--export", folder / "votes.ecsv") == 2
    assert "exists already" in capsys.readouterr().err


def test_export_finds_the_votes(folder, start, tmp_path, capsys):
    text = (resources.files("astroclassify.data") / "workflow_hunt.json").read_text(encoding="utf-8")
    own = tmp_path / "own.json"
    own.write_text(text.replace('"hunt"', '"own"'), encoding="utf-8")
    vote(start(workflow=own), "ann", "a", "no", "emission")
    start.end()
    own.unlink()  # the journal knows its questions
    assert run_verb(folder, "--export", tmp_path / "1.ecsv") == 0
    assert "1 votes in the workflow 'own'" in capsys.readouterr().err
    server = start()
    vote(server, "ann", "a", "unsure")
    assert post(server, "/api/note", voter_id="ann", source_id="a", note="  very  faint ")[1]["note"] == "very faint"
    post(server, "/api/note", voter_id="ann", source_id="b", note="a note alone")
    start.end()
    assert run_verb(folder, "--export", tmp_path / "2.ecsv") == 2
    assert "workflow: name one of those with votes" in (error := capsys.readouterr().err) and "candidate, own" in error
    assert run_verb(folder, "--export", tmp_path / "2.ecsv", "--workflow", "candidate") == 0
    votes = tables.read(tmp_path / "2.ecsv", tables.VOTES)
    rows = list(zip(*(votes[name].tolist() for name in ("source_id", "question", "answer", "note")), strict=True))
    assert rows == [("a", "class", "unsure", "very faint"), ("b", "", "", "a note alone")]
    assert all(len(time) == 24 for time in votes["time"].tolist())
    with pytest.raises(FileNotFoundError, match="nobody has voted yet in the workflow 'hunt', but in candidate, own"):
        stored_votes(folder, workflow="hunt")


def test_verb_with_invalid_options(folder, start, capsys):
    assert run_verb(folder, "--export", folder / "votes.ecsv") == 2
    assert "nobody has voted yet on" in capsys.readouterr().err
    assert not list(folder.glob("*.jsonl"))
    assert run_verb(folder, "--report", folder / "report.html") == 2
    assert "--report needs --predictions" in capsys.readouterr().err
    for wrong in (["--port", "70000"], ["--export", "x.ecsv", "--report", "x.html"]):
        with pytest.raises(SystemExit, match="2"):
            run_verb(folder, *wrong)
    assert "must be from 0 to 65535, got 70000" in capsys.readouterr().err


# --- pictures


def picture_of(server, **change):
    status, headers, body = ask(server, "/api/picture", {**VIEW, "voter_id": "ann", "source_id": "a", **change})
    assert status == 200 and headers["Content-Type"] == "image/png", body
    return np.asarray(Image.open(io.BytesIO(body)))


def test_pictures_of_a_source(server):
    drawn = {name: picture_of(server, picture=name, low="1") for name in get(server, "/api/start")["pictures"]}
    assert {each.shape for each in drawn.values()} == {(480, 640, 3)} and "filtered" in drawn
    y, x = np.unravel_index(np.argmax(drawn["xray"].sum(axis=2)), (480, 640))
    assert np.hypot(x - 60.5 * 8, y - (60 - 45.5) * 8) < 16  # the spot, north up
    y, x = np.unravel_index(np.argmax(drawn["optical"].sum(axis=2)), (480, 640))
    assert np.hypot(x - 20.5 * 8, y - (60 - 10.5) * 8) < 16  # the star
    for band in ("xray", "optical"):
        lines = (drawn[band] != drawn[f"{band}_contours"]).any(axis=2)
        rows, columns = np.nonzero(lines)
        around = np.hypot(columns - 60.5 * 8, rows - (60 - 45.5) * 8)
        assert around.size and around.min() < 40 and np.median(around) < 120
    assert (drawn["xray"][:, :60] == (58, 58, 72)).all()  # the gap
    assert picture_of(server, source_id="one-band").shape == (480, 640, 3)


def test_stretch_and_scale_change_the_picture(server):
    stretches = get(server, "/api/start")["stretches"]
    drawn = {name: picture_of(server, picture="optical", stretch=name, low="1") for name in stretches}
    levels = {name: picture.mean() for name, picture in drawn.items()}
    assert levels["linear"] < levels["sqrt"] and levels["linear"] < levels["asinh"] < levels["log"]
    assert picture_of(server, picture="optical", low="1", high="90").mean() > drawn["asinh"].mean()


class Looking:
    """A classifier whose map says "for" in the upper half and "against" in the lower."""

    class scheme:
        classes = ("CC", "NCC")

    def __init__(self, coordinates):
        self.coordinates, self.asked = coordinates, []

    def activation_map(self, image, class_name, *, redshift=None):
        self.asked.append((sorted(image.bands), class_name, redshift))
        wcs = None
        if self.coordinates:  # 6 x 8 cells of 10 pixels on the middle of the image, north up
            wcs = image.bands["xray"].wcs.deepcopy()
            wcs.wcs.cdelt, wcs.wcs.crpix = wcs.wcs.cdelt * 5, [4.5, 3.5]
        data = np.ones((6, 8))
        data[:3] = -1.0
        return CCDData(data, unit=u.dimensionless_unscaled, wcs=wcs)


@pytest.mark.parametrize("coordinates", [True, False])
def test_activation_map_lies_where_its_cells_look(start, coordinates):
    classifier = Looking(coordinates)
    server = start(classifier=classifier, show_predictions=True)
    scale = get(server, "/api/start")["scales"]["optical"]
    for _ in range(2):
        asked = {"picture": "optical", "class_name": "CC", **scale}
        drawn = picture_of(server, layer="blended", **asked).astype(int)
    assert classifier.asked == [(["optical", "xray"], "CC", None)]  # kept
    red, blue = drawn[:, :, 0] > drawn[:, :, 2], drawn[:, :, 0] < drawn[:, :, 2]
    if coordinates:  # cells of 5 pixels, 40 x 30 pixels in all
        expected = np.zeros((480, 640), bool)
        expected[15 * 8 : 30 * 8, 20 * 8 : 60 * 8] = True
        assert (red == expected).all() and (blue == expected[::-1]).all()
    else:
        assert red[:240].all() and blue[240:].all()
    lined, plain = picture_of(server, **asked), picture_of(server, picture="optical", **scale)
    changed = (lined != plain).any(axis=2)
    assert 0 < changed.mean() < 0.1  # lines leave the picture as it is
    border = np.zeros((480, 640), bool)
    border[240 - 3 * 8 : 240 + 3 * 8] = True  # between the halves of the map
    assert changed[border].any()


def test_activation_maps_wait_for_the_vote_too(start):
    server = start(classifier=Looking(False))
    asked = {**VIEW, "voter_id": "ann", "source_id": "a", "class_name": "CC"}
    assert ask(server, "/api/picture", asked)[0] == 403
    vote(server, "ann", "a", "low_z")
    assert ask(server, "/api/picture", asked)[0] == 200


def test_packaged_model_on_a_candidate(tmp_path):
    from astroclassify.nn import load_classifier
    from astroclassify.sim import simulate_candidates

    sample = simulate_candidates(1, rng=1, out=tmp_path / "s", classes=["low_z"], shape=(128, 128), progress=False)
    name = str(sample["source_id"][0])
    with starting(tmp_path / "s") as begin:
        server = begin(classifier=load_classifier("cluster-xmm"), show_predictions=True)
        plain, mapped = (picture_of(server, source_id=name, **more) for more in ({}, {"class_name": "low_z"}))
        assert (plain != mapped).any()
        asked = {**VIEW, "voter_id": "ann", "source_id": name, "class_name": "cluster"}
        status, _, body = ask(server, "/api/picture", asked)
    assert status == 422 and b"cluster" in body


def test_pages_are_in_the_package():
    assert (resources.files("astroclassify.people.page") / "desk" / "page.html").is_file()
