"""
Requests to a web API with a key: its JSON, its lists, and downloads that go on where they were cut.

The key travels in a header to the API's own host and nowhere else, and is kept out of every message.
"""

import json
import logging
import os
import re
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from astroclassify._http import NETWORK_ERRORS, PassingError, StatusError, bare, length, may_pass, origin
from astroclassify._http import Client as WebClient
from astroclassify._http import check_address as check_web_address
from astroclassify.exceptions import FetchError, OutputError

__all__ = ["Client", "StatusError", "check_address", "discard"]

log = logging.getLogger(__name__)

TIMEOUT = 300.0  # s without a byte; the service needs a while to cut a large halo out
ATTEMPTS = 6  # failures in a row, without a new byte in between, until we give up
_MAX_PAGES = 1000
_MAX_JSON = 32 * 2**20
_CHUNK = 2**20


def check_address(name, url):
    """An http or https address that ends in a slash, or a ValueError that names the argument."""
    url = check_web_address(name, url)
    return url if url.endswith("/") else f"{url}/"


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
    """Origin of a part: the address asked for, the version of the file there, and its size (None: unknown)."""

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
        return cls(url, validator if sound and validator else None, length(response.headers))

    def write(self, part):
        """Write the mark, where there is none yet."""
        with open(self.path(part), "x", encoding="utf-8") as handle:
            json.dump(vars(self), handle)


class Client(WebClient):
    """Asks an API for JSON and files; ``base_url`` ends in a slash, the header ``api-key`` goes to that host alone."""

    def __init__(self, base_url, key):
        super().__init__(TIMEOUT, ATTEMPTS)
        self.base_url, self.key = base_url, key

    def get_json(self, url):
        """The JSON answer at an address, as Python objects."""
        body, _ = self.get(url, most=_MAX_JSON, headers={"Accept": "application/json"})
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            # Hidden before the cut, which could leave one half of a key.
            start = self.safe(body[:2000].decode("utf-8", "replace"))[:60]
            raise FetchError(f"{bare(url)} did not answer with JSON but with {start!r}") from None

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
                raise FetchError(f"{bare(url)} did not answer with a list")
            found += results
            if page.get("next"):
                # Only its query: the service's own links name http, and the key goes to our address alone.
                url = urljoin(url, "?" + urlsplit(str(page["next"])).query)
        return found

    def probe(self, url):
        """Status of the answer at an address, 200 or that of a `StatusError`; the body is not read."""

        def ask():
            with self.open(url, {}):
                return 200

        try:
            return self.retry(url, ask)
        except StatusError as error:
            return error.status

    def download(self, url, part):
        """
        Fetch a file into ``part``, going on where an earlier call or a cut connection left it.

        A piece is only added to one of the same version of the file: the server must give a strong ETag or a
        modification date and honour ``If-Range``. Beside the file lies ``<part>.json`` with what it belongs to.
        """

        self.retry(url, lambda: self._download_once(url, part), lambda: _size(part))

    def _download_once(self, url, part):
        mark, done = _Mark.read(part), 0
        if mark is not None and mark.url == url and mark.validator and part.is_file() and not part.is_symlink():
            done = _size(part)
        if done and done == mark.size:
            return
        if mark is not None and mark.size is not None and done > mark.size:
            done = 0
        try:
            with self.open(url, {"Range": f"bytes={done}-", "If-Range": mark.validator} if done else {}) as response:
                if response.status == 206 and done:
                    mark = self._check_piece(response, mark, done, part)
                elif response.status == 200:
                    mark, done = _Mark.of(url, response), 0
                    log.info("fetching %s (%s bytes)", bare(url), "?" if mark.size is None else mark.size)
                else:
                    raise FetchError(f"{bare(url)}: unexpected status {response.status}")
                self._store(response, part, mark, done)
        except StatusError as error:
            if not (done and error.status == 416):
                raise
            discard(part)
            raise PassingError("the file changed on the server") from None

    @staticmethod
    def _check_piece(response, mark, done, part):
        """The mark with the size, if a partial answer is the piece asked for; else the next try starts from nothing."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        etag = response.headers.get("ETag")
        same = etag in (None, mark.validator) or not mark.validator.startswith('"')
        if not (same and found and int(found[1]) == done and (not mark.size or found[2] in ("*", str(mark.size)))):
            discard(part)
            raise PassingError("the file changed on the server")
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
            raise PassingError(f"the connection was cut after {done} of {mark.size} bytes")

    def _read(self, response, most):
        """The next bytes of a body as they come: with ``read`` a cut would lose those before it."""
        try:
            return response.read1(most) if most else b""
        except NETWORK_ERRORS as error:
            raise PassingError(self.reason(error)) from error

    def _is_own(self, url):
        """Whether an address is on the API's own host, at the same port or from http to https."""
        own, other = origin(self.base_url), origin(url)
        upgraded = own[1] == other[1] and (own[0], own[2], other[0], other[2]) == ("http", 80, "https", 443)
        return own == other or upgraded

    def own_headers(self, target):
        """The key, where the address is the API's own."""
        return {"api-key": self.key} if self._is_own(target) else {}

    def safe(self, text):
        """A text of the server's, on one line and without the key, should it have been echoed."""
        return super().safe(str(text).replace(self.key, "***"))

    def status_error(self, url, error, target):
        """Exception for an answer that is an error; a refused key and an expired link have messages of their own."""
        own, code = self._is_own(target), error.code
        if own and code in (401, 403):
            text = f"the key is refused ({code}{self.detail(error)}); check api_key or TNG_API_KEY"
            return StatusError(f"{bare(url)}: {text}", code)
        if own or code == 416 or may_pass(code):
            return super().status_error(url, error, target)
        # The links that the API redirects to are valid for some time only: the next try asks the API for a new one.
        return PassingError(f"the data host answered {code}")
