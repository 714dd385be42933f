"""Kept-alive connections to one sibling service, by `http.client`.

Its own time-outs are for one read each, so a sibling that drips would never meet one,
and it reads a body without end. So it reads from a `_Reader`, which has one deadline
and one bound over all of a response.
"""

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from common.sockets import has_spoken

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_TIMEOUT_SECONDS = 1.0
IDLE_SECONDS = 30.0  # whatever lies between may forget one that is idle for longer
MAX_IDLE = 128
MAX_RESPONSE_BYTES = 4 * 1024 * 1024
# Of the time left, a reused connection gets this part until the first byte: it may have
# been forgotten on the way. A new one gets the rest.
PART_FOR_A_REUSED_ONE = 1 / 3
_FINAL = 200


class Pool:
    """Where a sibling is, and connections to it that are idle.

    Safe to share between threads; belongs to one process.
    """

    def __init__(self, base_url: str) -> None:
        """Take a base URL that `environment.url` has checked."""
        parts = urlsplit(base_url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self._tls else 80)
        self.path = parts.path.rstrip("/")
        self._idle: list[Connection] = []  # the one put back last is taken first
        self._lock = threading.Lock()

    def take(self) -> "Connection | None":
        """Return an idle connection that is still open, None where there is none."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()

    def connect(self, deadline: float) -> "Connection":
        """Return a new connection; raise OSError."""
        seconds = min(CONNECT_TIMEOUT_SECONDS, _remaining(deadline))
        if self._tls is None:
            link = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        else:
            link = http.client.HTTPSConnection(
                self.host, self.port, timeout=seconds, context=self._tls
            )
        return Connection(link)

    def put_back(self, connection: "Connection") -> None:
        """Keep a connection whose response was read, unless the sibling closes it."""
        connection.idle_since = time.monotonic()
        with self._lock:
            if connection.is_open() and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def own_path(self, location: str) -> str | None:
        """Return the path of a URL on this very host, None of any other."""
        try:
            parts = urlsplit(location)
            here = (parts.hostname or self.host, parts.port or self.port)
        except ValueError:
            return None
        path = parts._replace(scheme="", netloc="", fragment="").geturl()
        is_path = path.startswith("/") and path.isascii() and " " not in path
        is_here = here == (self.host, self.port)
        return path if is_here and is_path and path.isprintable() else None


class Connection:
    """A connection. For one thread, and one request, at a time."""

    def __init__(self, link: http.client.HTTPConnection) -> None:
        """Connect; raise OSError."""
        try:
            link.connect()
        except BaseException:
            link.close()
            raise
        self._link = link
        self._socket = _Socket(link.sock)
        link.sock = cast("socket.socket", self._socket)
        self.idle_since: float | None = None  # None: it is new

    def is_open(self) -> bool:
        """Return whether it may be used again after a response."""
        return self._link.sock is not None

    def is_usable(self) -> bool:
        """Return whether it was used lately, and the sibling has not hung up."""
        idle_seconds = time.monotonic() - (self.idle_since or 0.0)
        return idle_seconds <= IDLE_SECONDS and not has_spoken(self._socket.link)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: float,
    ) -> None:
        """Send a request whose response is due by `deadline`; raise OSError."""
        left = _remaining(deadline)
        self._socket.deadline = deadline
        self._socket.first_by = deadline
        if self.idle_since is not None:
            self._socket.first_by -= left * (1 - PART_FOR_A_REUSED_ONE)
        self._link.request(method, path, body, headers)

    def read(self) -> tuple[int, bytes, str | None]:
        """Return the status, body and Location; raise OSError or HTTPException."""
        with self._link.getresponse() as response:
            if response.status < _FINAL:
                raise http.client.HTTPException("the response is not the last one")
            if response.length is None:
                # Bounded: it would allocate whatever a chunk says of its length.
                body = response.read(MAX_RESPONSE_BYTES)
            elif response.length > MAX_RESPONSE_BYTES:
                raise TooLargeError
            else:
                body = response.read()
            return response.status, body, response.getheader("Location")

    def close(self) -> None:
        """Hang up."""
        self._link.close()


class TooLargeError(http.client.HTTPException):
    """The response is longer than any that makes sense."""


class _Socket:
    """What `http.client` needs of a socket."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.deadline = self.first_by = 0.0

    def sendall(self, data: bytes) -> None:
        self.link.settimeout(_remaining(self.deadline))
        self.link.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        self.link.close()


class _Reader(io.RawIOBase):
    """What one response is read from: in time, and not without end."""

    def __init__(self, owner: _Socket) -> None:
        super().__init__()
        self._owner = owner
        self._raw = owner.link.makefile("rb", buffering=0)
        self._by = owner.first_by
        self._left = MAX_RESPONSE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        self._owner.link.settimeout(_remaining(self._by))
        count = self._raw.readinto(buffer)
        self._by = self._owner.deadline
        self._left -= count or 0
        if self._left < 0:
            raise TooLargeError
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _remaining(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
