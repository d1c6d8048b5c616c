"""The page's server: this computer alone, a fixed list of addresses, and no file of the disk among them."""

import hmac
import json
import logging
import re
import secrets
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from .. import tables
from ..exceptions import AstroclassifyError, OutputError
from ..schemes import ClassScheme
from ..survey import load_workflow
from ._desk import Desk, NotAllowedError, NotFoundError
from ._images import Pictures
from ._store import VoteError, VoteStore, journal_path

__all__ = ["InspectionServer", "open_server", "stored_votes"]

log = logging.getLogger(__name__)

_LONGEST_TARGET = 2000
_LARGEST_BODY = 4096
# What is read of a body that is too large, so that the sender gets to see the answer.
_LARGEST_DRAINED = 1 << 20
_NONCE = b"__NONCE__"
_JSON, _HTML, _PNG, _ECSV = (
    "application/json; charset=utf-8",
    "text/html; charset=utf-8",
    "image/png",
    "text/plain; charset=utf-8",
)
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Which error of the desk is which status.
_STATUS = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (NotAllowedError, HTTPStatus.FORBIDDEN),
    (VoteError, HTTPStatus.CONFLICT),
    (OutputError, HTTPStatus.INSUFFICIENT_STORAGE),
    ((AstroclassifyError, ValueError, OSError), HTTPStatus.UNPROCESSABLE_ENTITY),
)

# (method, path) -> (method of the desk, its arguments, those that may be missing, type of the answer).
_ROUTES = {
    ("GET", "/api/start"): ("start", (), (), _JSON),
    ("GET", "/api/voter"): ("voter", ("voter_id",), (), _JSON),
    ("GET", "/api/source"): ("source", ("voter_id", "source_id"), (), _JSON),
    ("GET", "/api/conflicts"): ("conflicts", ("voter_id",), (), _JSON),
    ("GET", "/api/picture"): (
        "picture",
        ("voter_id", "source_id", "picture", "stretch", "low", "high"),
        ("class_name",),
        _PNG,
    ),
    ("GET", "/api/votes.ecsv"): ("votes", (), (), _ECSV),
    ("POST", "/api/vote"): ("vote", ("voter_id", "source_id", "question", "answer"), (), _JSON),
    ("POST", "/api/undo"): ("undo", ("voter_id",), (), _JSON),
}


class InspectionServer(ThreadingHTTPServer):
    """
    Server of the page on 127.0.0.1.

    Parameters
    ----------
    desk : Desk
        What it serves.
    port : int, optional
        The port; by default a free one.

    Attributes
    ----------
    address : str
        What to open in a browser. The token behind ``#`` is of this start alone; it opens the page to whoever has it,
        and stays in the browser.

    Raises
    ------
    OutputError
        If the port is not free or not allowed.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, desk, *, port=0):
        self.desk = desk
        self.token = secrets.token_urlsafe(24)
        self.page = (Path(__file__).parent / "page.html").read_bytes()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise OutputError(f"port: cannot listen on 127.0.0.1:{port}: {error}") from error
        self.hosts = tuple(f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))
        self.address = f"http://127.0.0.1:{self.server_port}/#{self.token}"

    def server_bind(self):
        """Bind without looking up the name of this computer, which may ask the network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address = self.socket.getsockname()

    def server_close(self):
        """Stop listening and let go of the journal."""
        super().server_close()
        self.desk.store.close()

    def handle_error(self, request, client_address):
        """A browser that has gone away is nothing to tell on the terminal."""
        log.debug("request from %s failed", client_address, exc_info=True)


def open_server(folder, *, workflow=None, predictions=None, model=None, moderators=(), blind=False, port=0):
    """
    Open the page on a sample folder; votes go into a journal beside its table.

    Parameters
    ----------
    folder : str or path-like
        The sample folder.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `~astroclassify.survey.load_workflow`; by default the one question which class it is, of the
        scheme of the predictions, of the sample or of the model, or else of `~astroclassify.schemes.CANDIDATE`.
    predictions : str or path-like, optional
        A PREDICTIONS table whose probabilities are shown.
    model : str or path-like, optional
        A classifier, see `~astroclassify.nn.load_classifier`, whose activation maps can be laid over the pictures.
    moderators : sequence of str, optional
        Names of the voters who see where the others differ.
    blind : bool, optional
        Whether probabilities and activation maps are hidden from a voter until the vote on the source is complete.
    port : int, optional
        The port; by default a free one.

    Returns
    -------
    InspectionServer
        Listening; ``serve_forever`` answers, ``server_close`` ends it.

    Raises
    ------
    FileNotFoundError, SchemaError, ModelError
        If the sample, the workflow, the predictions or the model cannot be used.
    OutputError
        If the journal or the port cannot be used.
    MissingDependencyError
        If Pillow is not installed.

    Examples
    --------
    >>> from astroclassify._inspect._server import open_server
    >>> server = open_server("candidates", moderators=["mia"])  # doctest: +SKIP
    >>> server.address  # doctest: +SKIP
    'http://127.0.0.1:40233/#Xk...'
    >>> server.serve_forever()  # doctest: +SKIP
    """
    sample, predictions, classifier, workflow = _read(folder, workflow, predictions, model)
    pictures = Pictures(sample, classifier)
    store = VoteStore(journal_path(sample.meta["folder"], workflow), workflow, sample["source_id"])
    try:
        desk = Desk(sample, store, pictures, predictions=predictions, moderators=moderators, blind=blind)
        return InspectionServer(desk, port=port)
    except BaseException:
        store.close()
        raise


def stored_votes(folder, *, workflow=None, predictions=None, model=None):
    """
    Votes that the page has taken on a sample folder, without opening it.

    Parameters
    ----------
    folder, workflow, predictions, model
        As for `open_server`.

    Returns
    -------
    `~astropy.table.QTable`
        A VOTES table.

    Raises
    ------
    FileNotFoundError
        If nobody has voted yet, or a file is missing.
    OutputError
        If the page is open: it exports the votes itself.
    """
    sample, _, _, workflow = _read(folder, workflow, predictions, model)
    path = journal_path(sample.meta["folder"], workflow)
    if not path.is_file():
        raise FileNotFoundError(f"votes: nobody has voted yet in the workflow {workflow.name!r} (no {str(path)!r})")
    with VoteStore(path, workflow, sample["source_id"]) as store:
        return store.votes()


def _read(folder, workflow, predictions, model):
    """Sample, predictions, classifier and workflow from what users give."""
    sample = tables.read_sample(folder)
    if predictions is not None:
        predictions = tables.read(predictions, tables.PREDICTIONS)
    classifier = None
    if model is not None:
        from ..nn import load_classifier

        classifier = load_classifier(model)
    if workflow is None:
        workflow = _scheme_of(predictions, sample, classifier)
    return sample, predictions, classifier, load_workflow(workflow)


def _scheme_of(predictions, sample, classifier):
    for table in (predictions, sample):
        if table is not None and "scheme" in table.meta:
            return ClassScheme.from_dict(dict(table.meta["scheme"]))
    return "candidate" if classifier is None else classifier.scheme


class _RefusedError(Exception):
    """A request that is not answered."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "astroclassify", ""
    timeout = 60  # s, for a browser that says nothing more

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def log_message(self, format, *args):
        log.debug(format, *args)

    def _answer(self, method):
        try:
            body = self._read_body() if method == "POST" else b""
            self._check_origin(method)
            target = urlsplit(self.path)
            if (method, self.path) == ("GET", "/"):
                return self._send_page()
            self._check_token()
            if (method, target.path) not in _ROUTES:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such address")
            name, wanted, optional, kind = _ROUTES[method, target.path]
            arguments = _from_json(body) if method == "POST" else _from_query(target.query)
            missing, unknown = set(wanted) - set(arguments), set(arguments) - {*wanted, *optional}
            if missing or unknown:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, f"missing {sorted(missing)}, unknown {len(unknown)}")
            answer = getattr(self.server.desk, name)(**arguments)
            data = json.dumps(answer, allow_nan=False) if kind == _JSON else answer
            return self._send(HTTPStatus.OK, kind, data if isinstance(data, bytes) else data.encode())
        except _RefusedError as error:
            self.close_connection = True
            return self._send_error(error.status, error)
        except (ConnectionError, TimeoutError):
            raise  # the browser has gone or says nothing more: there is nobody to answer
        except Exception as error:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
            if status is None:
                log.exception("a request failed")
                return self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its terminal says why")
            return self._send_error(status, error)

    def _check_origin(self, method):
        """A page of another site, also one whose name was made to lead here, gets nothing."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, f"open http://{self.server.hosts[0]} (same port)")
        origins = self.headers.get_all("Origin", [])
        if any(origin != f"http://{hosts[0]}" for origin in origins) or (method == "POST" and len(origins) != 1):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "requests must come from the page itself")
        if len(self.path) > _LONGEST_TARGET:
            raise _RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long")

    def _check_token(self):
        tokens = self.headers.get_all("X-Token", [])
        given = tokens[0].encode("latin-1", "replace") if len(tokens) == 1 else b""
        if not hmac.compare_digest(given, self.server.token.encode()):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "open the address that astroclassify has printed at its start")

    def _read_body(self):
        """Body of a request: read even where it will be refused, since the connection would break otherwise."""
        if self.headers.get("Transfer-Encoding"):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is needed")
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) != 1 or not re.fullmatch(r"[0-9]{1,19}", lengths[0]):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is needed")
        length = int(lengths[0])
        if length > _LARGEST_BODY:
            self.rfile.read(min(length, _LARGEST_DRAINED))
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_LARGEST_BODY} bytes are taken")
        body = self.rfile.read(length)
        if len(body) != length:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "the request ends too early")
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "application/json is needed")
        return body

    def _send_page(self):
        nonce = secrets.token_urlsafe(16)
        page = self.server.page.replace(_NONCE, nonce.encode())
        self._send(HTTPStatus.OK, _HTML, page, {"Content-Security-Policy": _POLICY.format(nonce=nonce)})

    def _send_error(self, status, error):
        text = json.dumps({"error": " ".join(str(error).split())[:500] or type(error).__name__})
        self._send(status, _JSON, text.encode())

    def _send(self, status, kind, data, headers=None):
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Security-Policy": "default-src 'none'", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _from_query(query):
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=9)
    except ValueError:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "the address cannot be read") from None
    return _once(pairs)


def _from_json(body):
    try:
        # Pairs, since a name that comes twice would otherwise be what came last.
        pairs = json.loads(body, object_pairs_hook=list)
        is_object = body.lstrip()[:1] == b"{"
    except (ValueError, RecursionError):
        is_object = False
    if not is_object or not all(isinstance(value, str) for _, value in pairs):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "a JSON object of texts is needed")
    return _once(pairs)


def _once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "each name may come once")
    return dict(pairs)
