"""Connections of the page's server: so few that threads and files do not run out, and none held without a request."""

import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["BoundedHandler", "BoundedServer"]

log = logging.getLogger(__name__)

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 54\r\n"
    b"Connection: close\r\n\r\nall connections are busy; try again in a few seconds.\n"
)
# What a connection does: nothing, sending its request, or having it answered.
_IDLE, _SENDING, _ANSWERED = "idle", "sending a request", "being answered"


class BoundedServer(ThreadingHTTPServer):
    """
    Server that drops connections which take too long to send a request, and has at most so many.

    When all are taken, the one that has been without a whole request for the longest time makes room; if each is being
    answered, the new one gets status 503.
    """

    daemon_threads = True
    request_queue_size = 64
    most_connections = 64
    longest_idle = 60.0  # s before the first byte of a request
    longest_request = 10.0  # s from there to its last byte, however many come in between

    def __init__(self, *arguments):
        self._states = {}  # socket -> (what it does, since when)
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def verify_request(self, request, client_address):
        """Whether there is room for a new connection, which is made if it can be."""
        with self._lock:
            if len(self._states) < self.most_connections or self._drop_oldest():
                self._states[request] = (_IDLE, time.monotonic())
                return True
        log.warning("a connection was refused: all %d are being answered", self.most_connections)
        request.setblocking(False)
        try:
            request.send(_FULL)
        except OSError:
            pass  # the other side has gone
        return False

    def shutdown_request(self, request):
        """Close a connection and forget it."""
        with self._lock:
            self._states.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self):
        """Drop what has waited for too long; called between connections and at each poll."""
        now, limits = time.monotonic(), {_IDLE: self.longest_idle, _SENDING: self.longest_request}
        with self._lock:
            for request, (state, since) in list(self._states.items()):
                if state in limits and now - since > limits[state]:
                    self._drop(request, state)

    def is_now(self, request, state):
        """Note what a connection does; one that was dropped stays so."""
        with self._lock:
            if request in self._states:
                self._states[request] = (state, time.monotonic())

    def _drop_oldest(self):
        waiting = [(since, request) for request, (state, since) in self._states.items() if state != _ANSWERED]
        if waiting:
            _, request = min(waiting, key=lambda pair: pair[0])
            self._drop(request, self._states[request][0])
        return bool(waiting)

    def _drop(self, request, state):
        """End a connection: its thread, which waits for more, finds the end of the request and closes it."""
        log.debug("a connection was dropped: too long %s", state)
        del self._states[request]
        try:
            request.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was first


class BoundedHandler(BaseHTTPRequestHandler):
    """Handler that tells its `BoundedServer` how far each request is; ``received`` is to be called when it is whole."""

    timeout = 60  # s in which an answer must be taken

    def handle_one_request(self):
        self.server.is_now(self.connection, _IDLE)
        try:
            self.rfile.peek(1)
        except TimeoutError:
            self.close_connection = True
            return
        self.server.is_now(self.connection, _SENDING)
        super().handle_one_request()

    def received(self):
        """Note that the request is whole."""
        self.server.is_now(self.connection, _ANSWERED)
