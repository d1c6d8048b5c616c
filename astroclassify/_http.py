"""Requests to a web service: a deadline, redirects, retries with longer and longer waits, errors of one line."""

import email.utils
import http.client
import io
import json
import logging
import random
import re
import ssl
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from urllib.parse import quote, urljoin, urlsplit

from .exceptions import FetchError

__all__ = [
    "NETWORK_ERRORS",
    "Client",
    "PassingError",
    "StatusError",
    "bare",
    "check_address",
    "length",
    "may_pass",
    "one_line",
    "origin",
]

log = logging.getLogger(__name__)

LONGEST_WAIT = 600.0  # s between tries, altogether without a new byte; a service that asks for more is not waited for
LEAST_RATE = 1024  # bytes/s of a body, averaged over the timeout: a large file may take hours, one that drips may not
_FIRST_WAIT = 1.0  # s, doubled with every failure
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What a request can die of: http.client's own errors are no OSErrors (urllib's are), a bad host name is a UnicodeError.
NETWORK_ERRORS = (OSError, http.client.HTTPException, UnicodeError)

sleep = time.sleep  # a name of this module, so that tests need not wait
_jitter = random.Random()  # not the shared generator, whose state belongs to the user


class StatusError(FetchError):
    """The service answered with an error that another try does not mend."""

    def __init__(self, message, status=None):  # one argument is what pickle gives
        super().__init__(message)
        self.status = status


class PassingError(Exception):
    """A failure that may not happen again; the service may have said how long to wait [s]."""

    def __init__(self, reason, wait=None):
        super().__init__(reason)
        self.wait = wait


class _SlowError(TimeoutError):
    """A body comes too slowly."""


class _Deadline:
    """
    End of one exchange: ``timeout`` [s] after its start, for redirects, connections and headers together.

    A body moves it on by its bytes over `LEAST_RATE`, but never farther than ``timeout`` from now.
    """

    def __init__(self, timeout):
        self.timeout = timeout
        self.end = time.monotonic() + timeout

    def left(self):
        """Seconds until then; TimeoutError if there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def move(self, n_bytes):
        """Bytes of a body have come."""
        self.end = min(time.monotonic() + self.timeout, self.end + n_bytes / LEAST_RATE)


class _TimedFile(io.RawIOBase):
    """The receiving end of a socket, whose reads end at a deadline: a timeout alone starts anew with every byte."""

    def __init__(self, file, sock, deadline):
        self._file, self._sock, self._deadline = file, sock, deadline
        self.in_body = False

    def readable(self):
        return True

    def readinto(self, buffer):
        """Read what has come; raises TimeoutError at the deadline, _SlowError if that is in the body."""
        try:
            self._sock.settimeout(self._deadline.left())
            size = self._file.readinto(buffer)
        except TimeoutError as error:
            raise _SlowError if self.in_body else error from None
        if self.in_body:  # headers move nothing, or a server could send interim answers for ever
            self._deadline.move(size or 0)
        return size

    def close(self):
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is read before a deadline."""

    def __init__(self, sock, *args, deadline, **keywords):
        super().__init__(sock, *args, **keywords)
        self._timed = _TimedFile(self.fp.detach(), sock, deadline)
        self.fp = io.BufferedReader(self._timed)

    def begin(self):
        """Read the headers."""
        super().begin()
        self._timed.in_body = True


class _TimedConnection:
    """Base of connections that are made, and their answers read, before a deadline."""

    def __init__(self, host, *, deadline, timeout=None, **keywords):
        super().__init__(host, timeout=deadline.left(), **keywords)
        self.response_class = partial(_Response, deadline=deadline)


class _HTTPConnection(_TimedConnection, http.client.HTTPConnection):
    pass


class _HTTPSConnection(_TimedConnection, http.client.HTTPSConnection):
    pass


class _HTTPHandler(urllib.request.HTTPHandler):
    """Opens http addresses for requests with a deadline."""

    def http_open(self, req):
        return self.do_open(partial(_HTTPConnection, deadline=req.deadline), req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    """Opens https addresses for requests with a deadline."""

    def https_open(self, req):
        return self.do_open(partial(_HTTPSConnection, deadline=req.deadline), req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by the client itself: urllib would send all headers along, and from https to http."""

    def http_error_302(self, *args):
        return None  # which leaves the answer to the handler that makes an HTTPError of it

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def one_line(text, longest=200):
    """A text that others wrote, on one line, without control characters, not too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def origin(url):
    """Scheme, host and port of an address; ValueError for what has none or is no web address."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not a web address")
    return scheme, parts.hostname.lower(), parts.port or _DEFAULT_PORTS[scheme]


def check_address(name, url):
    """An http or https address without a query, or a ValueError that names the argument."""
    try:
        origin(url)
        sound = not any(c in url for c in "?#\\") and url.isascii() and url.isprintable() and " " not in url
    except (AttributeError, TypeError, ValueError):
        sound = False
    if not sound:
        # What stands before an @ would be a password.
        shown = url.split("@")[-1] if isinstance(url, str) else type(url).__name__
        raise ValueError(f"{name} must be an http or https address, got {one_line(shown)!r}")
    return url


def bare(url):
    """An address without its query, which may hold a signature or a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _seconds(text):
    """Seconds of a Retry-After header, a number or a date; None if there is none."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def length(headers):
    """The Content-Length, or None where it is missing or nonsense."""
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def may_pass(code):
    """Whether an answer with this status may be another one at the next try."""
    return code in (408, 429) or code >= 500


class Client:
    """
    Asks a web service; what may pass is tried again. A subclass for a service with a key adds and hides it.

    A try ends after ``timeout`` [s] without headers, or over which fewer than `LEAST_RATE` bytes/s of the body came. It
    gives up after ``attempts`` failures in a row without a new byte in between, or ``max_requests`` tries altogether.
    """

    def __init__(self, timeout, attempts, max_requests=100):
        self.timeout, self.attempts, self.max_requests = timeout, attempts, max_requests
        self._opener = urllib.request.build_opener(_NoRedirect, _HTTPHandler, _HTTPSHandler)
        self._opener.addheaders = [("User-Agent", f"astroclassify/{version('astroclassify')}")]

    def get(self, url, *, most, headers=None):
        """The whole answer at an address (at most ``most`` bytes) and its media type in lower case."""

        def read():
            with self.open(url, headers or {}) as response:
                try:
                    body = response.read(most + 1)
                except NETWORK_ERRORS as error:
                    raise PassingError(self.reason(error)) from error
                expected, kind = length(response.headers), response.headers.get_content_type().lower()
            if len(body) > most:
                raise FetchError(f"{bare(url)} answered with more than {most} bytes")
            if expected is not None and len(body) < expected:
                raise PassingError(f"the connection was cut after {len(body)} of {expected} bytes")
            return body, kind

        return self.retry(url, read)

    def retry(self, url, action, reached=lambda: 0):
        """Call ``action`` again, after longer and longer waits, as long as it fails in a way that may pass."""
        best = failures = tries = 0
        waited = 0.0
        while tries < self.max_requests:
            tries += 1
            try:
                return action()
            except PassingError as error:
                reason, wait = str(error), error.wait
            # Only bytes beyond the farthest point are progress, or a file that ends too early would be tried for ever.
            if reached() > best:
                best, failures, waited = reached(), 0, 0.0
            failures += 1
            if failures >= self.attempts:
                break
            if wait is not None and waited + wait > LONGEST_WAIT:
                raise FetchError(f"{bare(url)}: {reason}; the server asks to come back in {wait:.0f} s")
            # Not all at the same moment: many workers may have been turned away together.
            backoff = _FIRST_WAIT * 2 ** (failures - 1) * _jitter.uniform(0.75, 1.25)
            wait = max(wait or 0.0, backoff)
            log.warning("%s: %s; next try in %.0f s", bare(url), reason, wait)
            sleep(wait)
            waited += wait
        raise FetchError(f"{bare(url)}: {reason} (given up after {tries} tries)")

    def open(self, url, headers):
        """The answer at an address, behind at most a few redirects."""
        target, deadline = url, _Deadline(self.timeout)
        for _ in range(_MAX_REDIRECTS + 1):
            sent = {"Accept-Encoding": "identity", **headers, **self.own_headers(target)}
            request = urllib.request.Request(target, headers=sent)
            request.deadline = deadline
            try:
                return self._opener.open(request, timeout=self.timeout)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _REDIRECTS:
                        raise self.status_error(url, error, target) from None
                    location = error.headers.get("Location", "")
            except NETWORK_ERRORS as error:
                cause = getattr(error, "reason", error)
                if isinstance(cause, ssl.SSLCertVerificationError):
                    raise FetchError(f"{bare(url)}: the certificate is not valid: {cause.verify_message}") from error
                raise PassingError(self.reason(error)) from error
            target = self._redirected(target, location)
        raise FetchError(f"{bare(url)}: more than {_MAX_REDIRECTS} redirects")

    def own_headers(self, target):
        """Headers that only some addresses are sent."""
        return {}

    def safe(self, text):
        """A text of the server's, fit to be shown."""
        return one_line(text)

    def status_error(self, url, error, target):
        """What to raise for an answer that is an error: something passing, or a line that says what is wrong."""
        code, reason = error.code, f"the server answered {error.code} {self.safe(error.reason)}".rstrip()
        if may_pass(code):
            return PassingError(reason, _seconds(error.headers.get("Retry-After")))
        return StatusError(f"{bare(url)}: {reason}{self.detail(error)}", code)

    def detail(self, error):
        """What the body of an error says, if it is short text or JSON with a ``detail``."""
        try:
            text = error.read(2000).decode("utf-8", "replace")
        except NETWORK_ERRORS:
            return ""
        try:
            text = str(json.loads(text)["detail"])
        except (ValueError, TypeError, KeyError):
            if "<" in text:
                return ""
        text = self.safe(text)
        return f": {text}" if text else ""

    def reason(self, error):
        """A network error in a few words."""
        cause = getattr(error, "reason", error)
        if isinstance(cause, _SlowError):
            return f"the answer came slower than {LEAST_RATE} bytes/s for {self.timeout:g} s"
        if isinstance(cause, TimeoutError):
            return f"no answer within {self.timeout:g} s"
        if isinstance(cause, http.client.IncompleteRead):
            return "the connection was cut"
        text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        return f"the connection failed: {self.safe(text)}"

    def _redirected(self, url, location):
        try:
            target = quote(urljoin(url, location), safe="%/:=&?~#+!$,;'@()*[]")
            scheme, host, _ = origin(target)
        except ValueError:
            raise FetchError(f"{bare(url)} redirects to what is no web address") from None
        if urlsplit(url).scheme.lower() == "https" and scheme == "http":
            raise FetchError(f"{bare(url)} redirects from https to http, on {self.safe(host)}: refused")
        return target
