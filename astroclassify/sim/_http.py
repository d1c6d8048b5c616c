"""
Requests to a web API with a key: redirects, retries and downloads that go on where they were cut.

The key travels in a header to the API's own host and nowhere else, and is kept out of every message.
"""

import email.utils
import http.client
import json
import logging
import os
import random
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import quote, urljoin, urlsplit

from ..exceptions import FetchError, OutputError

__all__ = ["Client", "StatusError", "check_address", "discard"]

log = logging.getLogger(__name__)

TIMEOUT = 300.0  # s without a byte; the service needs a while to cut a large halo out
ATTEMPTS = 6  # failures in a row, without a new byte in between, until we give up
MAX_REQUESTS = 100  # for one file, however much each of them brings
LONGEST_WAIT = 600.0  # s; a service that asks for more is not waited for
_FIRST_WAIT = 1.0  # s, doubled with every failure
_MAX_REDIRECTS = 5
_MAX_PAGES = 1000
_MAX_JSON = 32 * 2**20
_CHUNK = 2**20
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What a request can die of: http.client's own errors are no OSErrors (urllib's are), a bad host name is a UnicodeError.
_NETWORK_ERRORS = (OSError, http.client.HTTPException, UnicodeError)

sleep = time.sleep  # a name of this module, so that tests need not wait
_jitter = random.Random()  # not the shared generator, whose state belongs to the user


class StatusError(FetchError):
    """The API answered with an error that another try does not mend."""

    def __init__(self, message, status=None):  # one argument is what pickle gives
        super().__init__(message)
        self.status = status


class _PassingError(Exception):
    """A failure that may not happen again."""

    def __init__(self, reason, wait=None):
        super().__init__(reason)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by the client itself: urllib would send the key along."""

    def http_error_302(self, *args):
        return None  # which leaves the answer to the handler that makes an HTTPError of it

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _one_line(text, length=200):
    """A text that others wrote, on one line, without control characters, not too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _origin(url):
    """Scheme, host and port of an address; ValueError for what has none or is no web address."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not a web address")
    return scheme, parts.hostname.lower(), parts.port or _DEFAULT_PORTS[scheme]


def check_address(name, url):
    """An http or https address that ends in a slash, or a ValueError that names the argument."""
    try:
        _origin(url)
        sound = not any(c in url for c in "?#\\") and url.isascii() and url.isprintable() and " " not in url
    except (AttributeError, TypeError, ValueError):
        sound = False
    if not sound:
        # What stands before an @ would be a password.
        shown = url.split("@")[-1] if isinstance(url, str) else type(url).__name__
        raise ValueError(f"{name} must be an http or https address, got {_one_line(shown)!r}")
    return url if url.endswith("/") else f"{url}/"


def _bare(url):
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


def _length(headers):
    """The Content-Length, or None where it is missing or nonsense."""
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _size(path):
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def discard(part):
    """Remove what a download has left so far, if anything."""
    for path in (part, _Mark.path(part)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {str(path)!r}: {error.strerror}") from error


@dataclass(frozen=True)
class _Mark:
    """What a part belongs to: the address asked for, the version of the file there, and its size (None: unknown)."""

    url: str
    validator: str | None
    size: int | None

    @staticmethod
    def path(part):
        return part.with_name(part.name + ".json")

    @classmethod
    def read(cls, part):
        """The mark beside a part, or None."""
        try:
            mark = cls(**json.loads(cls.path(part).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        sound = isinstance(mark.url, str) and isinstance(mark.validator, str | None)
        return mark if sound and isinstance(mark.size, int | None) else None

    @classmethod
    def of(cls, url, response):
        """The mark of a whole answer."""
        etag = response.headers.get("ETag")
        # A weak tag says "about the same", which is not enough to put two pieces together.
        strong = etag is not None and not etag.startswith("W/")
        validator = etag if strong else response.headers.get("Last-Modified", "")
        # It is sent back as a header, which cannot hold everything that may come in one.
        sound = validator.isascii() and validator.isprintable()
        return cls(url, validator if sound and validator else None, _length(response.headers))

    def write(self, part):
        """Write the mark, where there is none yet."""
        with open(self.path(part), "x", encoding="utf-8") as handle:
            json.dump(vars(self), handle)


@dataclass(frozen=True)
class Client:
    """
    Asks an API for JSON and files.

    Parameters
    ----------
    base_url : str
        Address of the API, ending in a slash.
    key : str
        The key, sent as the header ``api-key`` to that host alone.
    """

    base_url: str
    key: str = field(repr=False)

    def __post_init__(self):
        opener = urllib.request.build_opener(_NoRedirect)
        opener.addheaders = [("User-Agent", f"astroclassify/{version('astroclassify')}")]
        object.__setattr__(self, "_opener", opener)

    def get_json(self, url):
        """The JSON answer at an address, as Python objects."""

        def read():
            with self._open(url, {"Accept": "application/json"}) as response:
                try:
                    body = response.read(_MAX_JSON + 1)
                except _NETWORK_ERRORS as error:
                    raise _PassingError(self._reason(error)) from error
                expected = _length(response.headers)
            if len(body) > _MAX_JSON:
                raise FetchError(f"{_bare(url)} answered with more than {_MAX_JSON} bytes of JSON")
            if expected is not None and len(body) < expected:
                raise _PassingError(f"the connection was cut after {len(body)} of {expected} bytes")
            return body

        body = self._retry(url, read)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            start = self._safe(body[:60].decode("utf-8", "replace"))
            raise FetchError(f"{_bare(url)} did not answer with JSON but with {start!r}") from None

    def pages(self, url, name):
        """The entries of a list: bare, under its name, or in pages of ``count``, ``next`` and ``results``."""
        found, seen = [], set()
        while url not in seen and len(seen) < _MAX_PAGES:
            seen.add(url)
            page = self.get_json(url)
            if not isinstance(page, dict):
                page = {"results": page}
            results = page.get("results", page.get(name))
            if not isinstance(results, list):
                raise FetchError(f"{_bare(url)} did not answer with a list")
            found += results
            if page.get("next"):
                # Only its query: the service's own links name http, and the key goes to our address alone.
                url = urljoin(url, "?" + urlsplit(str(page["next"])).query)
        return found

    def probe(self, url):
        """Status of the answer at an address, 200 or that of a `StatusError`; the body is not read."""

        def ask():
            with self._open(url, {}):
                return 200

        try:
            return self._retry(url, ask)
        except StatusError as error:
            return error.status

    def download(self, url, part):
        """
        Fetch a file into ``part``, going on where an earlier call or a cut connection left it.

        A piece is only added to one of the same version of the file: the server must give a strong ETag or a
        modification date and honour ``If-Range``. Otherwise the file is fetched from its start.

        Parameters
        ----------
        url : str
            The address. What is there may redirect.
        part : `~pathlib.Path`
            The file; beside it lies ``<part>.json`` with what it belongs to. After an error both stay, to go on later.

        Raises
        ------
        FetchError
            If the server refuses or fails for good.
        OutputError
            If the file cannot be written.
        """

        self._retry(url, lambda: self._download_once(url, part), lambda: _size(part))

    def _download_once(self, url, part):
        mark, done = _Mark.read(part), 0
        if mark is not None and mark.url == url and mark.validator and part.is_file() and not part.is_symlink():
            done = _size(part)
        if done and done == mark.size:
            return
        if mark is not None and mark.size is not None and done > mark.size:
            done = 0
        try:
            with self._open(url, {"Range": f"bytes={done}-", "If-Range": mark.validator} if done else {}) as response:
                if response.status == 206 and done:
                    mark = self._check_piece(response, mark, done, part)
                elif response.status == 200:
                    mark, done = _Mark.of(url, response), 0
                    log.info("fetching %s (%s bytes)", _bare(url), "?" if mark.size is None else mark.size)
                else:
                    raise FetchError(f"{_bare(url)}: unexpected status {response.status}")
                self._store(response, part, mark, done)
        except StatusError as error:
            if not (done and error.status == 416):
                raise
            discard(part)
            raise _PassingError("the file changed on the server") from None

    @staticmethod
    def _check_piece(response, mark, done, part):
        """The mark with the size, if a partial answer is the piece asked for; else the next try starts from nothing."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        etag = response.headers.get("ETag")
        same = etag in (None, mark.validator) or not mark.validator.startswith('"')
        if not (same and found and int(found[1]) == done and (not mark.size or found[2] in ("*", str(mark.size)))):
            discard(part)
            raise _PassingError("the file changed on the server")
        return mark if found[2] == "*" else replace(mark, size=int(found[2]))

    def _store(self, response, part, mark, done):
        """Append the body of an answer to the part, or start the part with it."""
        if not done:
            # Removed and made anew, so that nothing is written through a link.
            discard(part)
        try:
            if not done:
                mark.write(part)
            with open(part, "ab" if done else "xb") as handle:
                while chunk := self._read(response, _CHUNK if mark.size is None else min(_CHUNK, mark.size - done)):
                    handle.write(chunk)
                    done += len(chunk)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            size = _size(part) if mark.validator else 0
            kept = f"; {size} bytes are kept, the next call goes on from there" if size else ""
            raise OutputError(f"cannot write {str(part)!r}: {error.strerror or error}{kept}") from error
        if mark.size is not None and done < mark.size:
            raise _PassingError(f"the connection was cut after {done} of {mark.size} bytes")

    def _read(self, response, most):
        """The next bytes of a body as they come: with ``read`` a cut would lose those before it."""
        try:
            return response.read1(most) if most else b""
        except _NETWORK_ERRORS as error:
            raise _PassingError(self._reason(error)) from error

    def _retry(self, url, action, reached=lambda: 0):
        """Call ``action`` again, after longer and longer waits, as long as it fails in a way that may pass."""
        best = failures = tries = 0
        while tries < MAX_REQUESTS:
            tries += 1
            try:
                return action()
            except _PassingError as error:
                reason, wait = str(error), error.wait
            # What came counts only beyond the farthest point so far, or a file that ends too early would never end.
            if reached() > best:
                best, failures = reached(), 0
            failures += 1
            if failures >= ATTEMPTS:
                break
            if wait is not None and wait > LONGEST_WAIT:
                raise FetchError(f"{_bare(url)}: {reason}; the server asks to come back in {wait:.0f} s")
            # Not all at the same moment: many workers may have been turned away together.
            backoff = _FIRST_WAIT * 2 ** (failures - 1) * _jitter.uniform(0.75, 1.25)
            wait = max(wait or 0.0, backoff)
            log.warning("%s: %s; next try in %.0f s", _bare(url), reason, wait)
            sleep(wait)
        raise FetchError(f"{_bare(url)}: {reason} (given up after {tries} tries)")

    def _open(self, url, headers):
        """The answer at an address, behind at most a few redirects."""
        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            own = self._is_own(target)
            request = urllib.request.Request(target, headers={"Accept-Encoding": "identity", **headers})
            if own:
                request.add_header("api-key", self.key)
            try:
                return self._opener.open(request, timeout=TIMEOUT)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _REDIRECTS:
                        raise self._status_error(url, error, own) from None
                    location = error.headers.get("Location", "")
            except _NETWORK_ERRORS as error:
                cause = getattr(error, "reason", error)
                if isinstance(cause, ssl.SSLCertVerificationError):
                    raise FetchError(f"{_bare(url)}: the certificate is not valid: {cause.verify_message}") from error
                raise _PassingError(self._reason(error)) from error
            target = self._redirected(target, location)
        raise FetchError(f"{_bare(url)}: more than {_MAX_REDIRECTS} redirects")

    def _is_own(self, url):
        """Whether an address is on the API's own host, through the same door or from http to https."""
        own, other = _origin(self.base_url), _origin(url)
        upgraded = own[1] == other[1] and (own[0], own[2], other[0], other[2]) == ("http", 80, "https", 443)
        return own == other or upgraded

    def _redirected(self, url, location):
        try:
            target = quote(urljoin(url, location), safe="%/:=&?~#+!$,;'@()*[]")
            scheme, host, _ = _origin(target)
        except ValueError:
            raise FetchError(f"{_bare(url)} redirects to what is no web address") from None
        if urlsplit(url).scheme.lower() == "https" and scheme == "http":
            raise FetchError(f"{_bare(url)} redirects from https to http, on {self._safe(host)}: refused")
        return target

    def _status_error(self, url, error, own):
        """What to raise for an answer that is an error: something passing, or a line that says what is wrong."""
        code, reason = error.code, f"the server answered {error.code} {self._safe(error.reason)}".rstrip()
        if code in (408, 429) or code >= 500:
            return _PassingError(reason, _seconds(error.headers.get("Retry-After")))
        if code == 416:
            return StatusError(f"{_bare(url)}: {reason}", code)
        # The links that the API redirects to are valid for some time only: the next try asks the API for a new one.
        if not own:
            return _PassingError(f"the data host answered {code}")
        if code in (401, 403):
            text = f"the key is refused ({code}{self._detail(error)}); check api_key or TNG_API_KEY"
            return StatusError(f"{_bare(url)}: {text}", code)
        return StatusError(f"{_bare(url)}: {reason}{self._detail(error)}", code)

    def _detail(self, error):
        """What the body of an error says, if it is short text or JSON with a ``detail``."""
        try:
            text = error.read(2000).decode("utf-8", "replace")
        except _NETWORK_ERRORS:
            return ""
        try:
            text = str(json.loads(text)["detail"])
        except (ValueError, TypeError, KeyError):
            if "<" in text:
                return ""
        text = self._safe(text)
        return f": {text}" if text else ""

    def _reason(self, error):
        """A network error in a few words."""
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):
            return f"no answer within {TIMEOUT:g} s"
        if isinstance(cause, http.client.IncompleteRead):
            return "the connection was cut"
        text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        return f"the connection failed: {self._safe(text)}"

    def _safe(self, text):
        """A text of the server's, on one line and without the key, should it have been echoed."""
        return _one_line(str(text).replace(self.key, "***"))
