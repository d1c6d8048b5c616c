"""The page's server: on this computer only, with a fixed list of addresses, none of which is a file on disk."""

import hmac
import json
import logging
import re
import secrets
import socket
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError, OutputError, SchemaError
from astroclassify.schemes import ClassScheme

from .._workflow import load_workflow
from ._connections import BoundedHandler, BoundedServer
from ._facts import Facts
from ._journal import VoteJournal
from ._records import VoteError, journal_path, journals_in, workflow_of
from ._session import NotAllowedError, NotFoundError, Session
from ._sources import Sources

__all__ = ["InspectionServer", "open_server", "stored_votes"]

log = logging.getLogger(__name__)

_LONGEST_TARGET = 2000
_LARGEST_BODY = 4096
# How much of a body that is too large is read, so that the sender receives the answer.
_LARGEST_DRAINED = 1 << 20
_NONCE = b"__NONCE__"
# Scripts of the page, in the order in which they need each other.
_SCRIPTS = ("ask", "pictures", "view", "sources", "votes", "panel", "keys")
_JSON, _HTML, _ECSV = (f"{kind}; charset=utf-8" for kind in ("application/json", "text/html", "text/plain"))
_PNG = "image/png"
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
# HTTP status of each error of the session.
_STATUS = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (NotAllowedError, HTTPStatus.FORBIDDEN),
    (VoteError, HTTPStatus.CONFLICT),
    (OutputError, HTTPStatus.INSUFFICIENT_STORAGE),
    ((AstroclassifyError, ValueError, OSError), HTTPStatus.UNPROCESSABLE_ENTITY),
)

_VIEW = ("voter_id", "source_id", "picture", "stretch", "low", "high", "smoothing")
# (method, path) -> (method of the session, its arguments, those that may be missing, type of the answer).
_ROUTES = {
    ("GET", "/api/start"): ("start", (), (), _JSON),
    ("GET", "/api/voter"): ("voter", ("voter_id",), (), _JSON),
    ("GET", "/api/rows"): ("rows", ("voter_id",), (), _JSON),
    ("GET", "/api/queue"): ("queue", ("voter_id",), (), _JSON),
    ("GET", "/api/source"): ("source", ("voter_id", "source_id"), (), _JSON),
    ("GET", "/api/conflicts"): ("conflicts", ("voter_id",), (), _JSON),
    ("GET", "/api/picture"): ("picture", _VIEW, ("class_name", "layer"), _PNG),
    ("GET", "/api/votes.ecsv"): ("votes", (), (), _ECSV),
    ("POST", "/api/vote"): ("vote", ("voter_id", "source_id", "question", "answer"), (), _JSON),
    ("POST", "/api/note"): ("note", ("voter_id", "source_id", "note"), (), _JSON),
    ("POST", "/api/undo"): ("undo", ("voter_id",), (), _JSON),
}


class InspectionServer(BoundedServer):
    """
    Server of a `Session` on 127.0.0.1; ``address`` is what to open in a browser. The token behind ``#``, new at each
    start, opens the page to whoever has it.
    """

    def __init__(self, session, *, port=0):
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self.page = _page()
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
        self.session.journal.close()

    def handle_error(self, request, client_address):
        """A browser that has closed the connection is not worth a traceback."""
        log.debug("request from %s failed", client_address, exc_info=True)


def _page():
    """The page with its style and its scripts in it, so that it is one answer and one nonce covers all."""
    folder = Path(__file__).parent / "desk"
    scripts = b"".join((folder / f"{name}.js").read_bytes() for name in _SCRIPTS)
    page = (folder / "page.html").read_bytes()
    return page.replace(b"__STYLE__", (folder / "page.css").read_bytes()).replace(b"__SCRIPT__", scripts)


def open_server(
    folder,
    *,
    workflow=None,
    predictions=None,
    classifier=None,
    catalogues=None,
    optical=None,
    moderators=(),
    show_predictions=False,
    port=0,
):
    """
    Open the page on a sample folder; votes go into a journal beside its table.

    Parameters
    ----------
    folder : str or path-like
        The sample folder.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `~astroclassify.people.load_workflow`; by default the single question of the class, in the
        scheme of the predictions, of the sample or of the classifier, or else in `~astroclassify.schemes.CANDIDATE`.
    predictions : str or path-like, optional
        A PREDICTIONS table whose probabilities are shown.
    classifier : CutoutClassifier, optional
        As `~astroclassify.nn.load_classifier` returns it; its activation maps can be laid over the pictures.
    catalogues : dict, optional
        Name -> table with ``source_id``, ``sky_position`` and perhaps ``redshift``, as
        `~astroclassify.survey.read_catalogue` returns it; the entries near a source are listed and marked.
    optical : callable or sequence of three callables, optional
        Optical images in place of the sample's: takes a position and the side of a square and gives a CCDData, as
        `~astroclassify.survey.LocalHips` does; three are red, green and blue.
    moderators : sequence of str, optional
        Names of the voters who see where the others differ.
    show_predictions : bool, optional
        Whether probabilities and activation maps are shown before the vote; by default a voter sees them when the vote
        on the source is complete.
    port : int, optional
        The port; by default a free one.

    Returns
    -------
    InspectionServer
        Listening; ``serve_forever`` answers, ``server_close`` ends it.

    Raises
    ------
    FileNotFoundError, SchemaError
        If the sample, the workflow, the predictions or a catalogue cannot be used.
    OutputError
        If the journal or the port cannot be used.
    MissingDependencyError
        If Pillow is not installed.

    Examples
    --------
    >>> from astroclassify.people import open_server
    >>> server = open_server("candidates", moderators=["mia"])  # doctest: +SKIP
    >>> server.address  # doctest: +SKIP
    'http://127.0.0.1:40233/#Xk...'
    >>> server.serve_forever()  # doctest: +SKIP
    """
    sample, predictions, workflow = _read(folder, workflow, predictions, classifier)
    sources, facts = Sources(sample, classifier, optical), Facts(sample, catalogues)
    journal = VoteJournal(journal_path(sample.meta["folder"], workflow), workflow, sample["source_id"])
    try:
        how = {"predictions": predictions, "moderators": moderators, "show_predictions": show_predictions}
        session = Session(sample, journal, sources, facts, **how)
        return InspectionServer(session, port=port)
    except BaseException:
        journal.close()
        raise


def stored_votes(folder, *, workflow=None):
    """
    Votes that the page has taken on a sample folder, without opening it.

    Parameters
    ----------
    folder : str or path-like
        The sample folder.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `~astroclassify.people.load_workflow`, or the name of a workflow with votes; by default that
        of the only one with votes.

    Returns
    -------
    `~astropy.table.QTable`
        A VOTES table, with the voter's ``note`` on the source. A note on a source without a vote has a row with an
        empty question and answer; an answer ``unsure`` is none of the workflow's and counts for no outcome.

    Raises
    ------
    FileNotFoundError
        If nobody has voted yet, or a file is missing.
    SchemaError
        If several workflows have votes and none is named, or there is no such workflow.
    OutputError
        If the page is open: it exports the votes itself.

    Examples
    --------
    >>> from astroclassify.people import stored_votes
    >>> stored_votes("candidates")["voter_id", "answer", "note"]  # doctest: +SKIP
    """
    sample = tables.read_sample(folder)
    journals = journals_in(sample.meta["folder"])
    if not journals:
        raise FileNotFoundError(f"votes: nobody has voted yet on {str(folder)!r}")
    if workflow is None and len(journals) > 1:
        raise SchemaError(f"workflow: name one of those with votes on {str(folder)!r}, {', '.join(journals)}")
    chosen = next(iter(journals)) if workflow is None else str(workflow)
    known = workflow_of(journals[chosen]) if chosen in journals else load_workflow(workflow)
    if known.name not in journals:
        raise FileNotFoundError(
            f"votes: nobody has voted yet in the workflow {known.name!r}, but in {', '.join(journals)}"
        )
    with VoteJournal(journals[known.name], known, sample["source_id"]) as journal:
        return journal.votes()


def _read(folder, workflow, predictions, classifier):
    """Sample, predictions and workflow."""
    sample = tables.read_sample(folder)
    if predictions is not None:
        predictions = tables.read(predictions, tables.PREDICTIONS)
    if workflow is None:
        workflow = _scheme_of(predictions, sample, classifier)
    return sample, predictions, load_workflow(workflow)


def _scheme_of(predictions, sample, classifier):
    for table in (predictions, sample):
        if table is not None and "scheme" in table.meta:
            return ClassScheme.from_dict(dict(table.meta["scheme"]))
    return "candidate" if classifier is None else classifier.scheme


class _RefusedError(Exception):
    """A request that is refused, with its HTTP status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class _Handler(BoundedHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "astroclassify", ""

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def log_message(self, format, *args):
        log.debug(format, *args)

    def _answer(self, method):
        try:
            body = self._read_body() if method == "POST" else b""
            self.received()
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
            answer = getattr(self.server.session, name)(**arguments)
            data = json.dumps(answer, allow_nan=False) if kind == _JSON else answer
            return self._send(HTTPStatus.OK, kind, data if isinstance(data, bytes) else data.encode())
        except _RefusedError as error:
            self.close_connection = True
            return self._send_error(error.status, error)
        except (ConnectionError, TimeoutError):
            raise  # the browser has closed the connection or sends nothing more: there is nobody to answer
        except Exception as error:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
            if status is None:
                log.exception("a request failed")
                return self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why")
            return self._send_error(status, error)

    def _check_origin(self, method):
        """Refuse pages of other sites, including those whose name was made to resolve to this computer."""
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
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "open the full address that the server gave when it started")

    def _read_body(self):
        """Body of a request; read even where it is refused, since the connection would break otherwise."""
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
        # Pairs, since of a repeated name a dict would keep the last value only.
        pairs = json.loads(body, object_pairs_hook=list)
        is_object = body.lstrip()[:1] == b"{"
    except (ValueError, RecursionError):
        is_object = False
    if not is_object or not all(isinstance(value, str) for _, value in pairs):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "a JSON object of strings is needed")
    return _once(pairs)


def _once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "each name may appear only once")
    return dict(pairs)
