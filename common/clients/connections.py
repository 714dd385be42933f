"""Kept-alive connections to one sibling service, with `http.client`.

Its timeouts apply to each read, so a sibling that sends byte by byte would never exceed
one, and it reads a body of any size. So it is given a `_Reader`, which has one deadline
and one limit for the whole response.
"""

import heapq
import http.client
import io
import itertools
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar, cast
from urllib.parse import urlsplit

from common.sockets import has_data

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_TIMEOUT_SECONDS = 1.0
IDLE_SECONDS = 30.0  # proxies in between may drop one that is idle for longer
# To one sibling, for all threads together: 256 lines wait twice for their products.
MAX_CONNECTIONS = 128
MAX_RESPONSE_BYTES = 4 * 1024 * 1024
# A reused connection may be dead without our knowing. It gets this share of the time
# left until the first byte; what remains is for a new connection.
REUSED_CONNECTION_SHARE = 1 / 3
_FIRST_FINAL_STATUS = 200

T = TypeVar("T")


class Pool:
    """The address of a sibling, and at most MAX_CONNECTIONS to it.

    Whoever wants to connect, or to use an idle connection, reserves one of these places
    first, and leaves it by `release` or `discard`.

    Safe to share between threads; belongs to one process.
    """

    def __init__(self, base_url: str) -> None:
        """Make an empty pool; `environment.url` has checked the URL."""
        parts = urlsplit(base_url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self._tls else 80)
        self.path = parts.path.rstrip("/")
        self._idle: list[Connection] = []  # last in, first out
        self._lock = threading.Lock()
        self._has_left = threading.Condition(self._lock)
        self._reserved = self._waiting = 0

    def reserve(self, deadline: float | None) -> bool:
        """Take a place; return whether there was one before the deadline.

        Without a deadline do not wait, and let those who do go first: who has a place
        already, and may leave it soon, must not wait for another one.
        """
        with self._has_left:
            if deadline is not None:
                self._waiting += 1
                try:
                    self._has_left.wait_for(self._is_free, _remaining(deadline))
                finally:
                    self._waiting -= 1
            is_taken = self._is_free() and (deadline is not None or not self._waiting)
            self._reserved += is_taken
            return is_taken

    def acquire(self) -> "Connection | None":
        """Return an idle connection that is still open, None if there is none."""
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
            connection = http.client.HTTPConnection(
                self.host, self.port, timeout=seconds
            )
        else:
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=seconds, context=self._tls
            )
        return Connection(connection)

    def release(self, connection: "Connection") -> None:
        """Keep a connection whose response was read, unless it is closed."""
        connection.idle_since = time.monotonic()
        with self._has_left:
            open_connections = self._reserved + len(self._idle)
            if connection.is_open() and open_connections <= MAX_CONNECTIONS:
                self._idle.append(connection)
                self._leave()
                return
        self.discard(connection)

    def discard(self, connection: "Connection | None") -> None:
        """Close a connection, or give up the place of one that was not made."""
        if connection is not None:
            connection.close()
        with self._has_left:
            self._leave()

    def _is_free(self) -> bool:
        return self._reserved < MAX_CONNECTIONS

    def _leave(self) -> None:
        self._reserved -= 1
        self._has_left.notify()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def own_path(self, location: str) -> str | None:
        """Return the path of a URL on the same host, None for another host."""
        try:
            parts = urlsplit(location)
            address = (parts.hostname or self.host, parts.port or self.port)
        except ValueError:
            return None
        path = parts._replace(scheme="", netloc="", fragment="").geturl()
        is_path = path.startswith("/") and path.isascii() and " " not in path
        is_same_host = address == (self.host, self.port)
        return path if is_same_host and is_path and path.isprintable() else None


class Connection:
    """A connection, for one thread and one request at a time."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        """Connect; raise OSError."""
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._socket = _Socket(connection.sock)
        connection.sock = cast("socket.socket", self._socket)
        self.idle_since: float | None = None  # None if it is new

    def is_open(self) -> bool:
        """Return whether it can be used again after a response."""
        return self._connection.sock is not None

    def is_usable(self) -> bool:
        """Return whether it was used recently and is not closed by the sibling."""
        idle_seconds = time.monotonic() - (self.idle_since or 0.0)
        return idle_seconds <= IDLE_SECONDS and not has_data(self._socket.socket)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: float,
    ) -> None:
        """Send a request whose response is due by `deadline`; raise OSError."""
        remaining = _remaining(deadline)
        self._socket.deadline = deadline
        self._socket.first_byte_deadline = deadline
        if self.idle_since is not None:
            self._socket.first_byte_deadline -= remaining * (
                1 - REUSED_CONNECTION_SHARE
            )
        self._connection.request(method, path, body, headers)

    def read(self) -> tuple[int, bytes, str | None]:
        """Return the status, body and Location; raise OSError or HTTPException."""
        with self._connection.getresponse() as response:
            if response.status < _FIRST_FINAL_STATUS:
                raise http.client.HTTPException("the response is not a final one")
            if response.length is None:
                # With a limit, or it would allocate whatever length a chunk states.
                body = response.read(MAX_RESPONSE_BYTES)
            elif response.length > MAX_RESPONSE_BYTES:
                raise TooLargeError
            else:
                body = response.read()
            return response.status, body, response.getheader("Location")

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.socket.fileno()

    @property
    def first_byte_deadline(self) -> float:
        """Return until when a response must have begun."""
        return self._socket.first_byte_deadline

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class InFlight(Generic[T]):
    """Calls that wait for their responses, by connection, and which is due first.

    Looking at all of them before each wait would take the square of their number.
    """

    def __init__(self) -> None:
        self._selector = selectors.PollSelector()
        self._calls: dict[Connection, tuple[int, T]] = {}
        self._due: list[tuple[float, int, Connection]] = []  # a heap; some have ended
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, connection: Connection, call: T) -> None:
        """Add a call that was sent over `connection`."""
        self._selector.register(connection, selectors.EVENT_READ, connection)
        number = next(self._numbers)
        self._calls[connection] = number, call
        heapq.heappush(self._due, (connection.first_byte_deadline, number, connection))

    def answered(self) -> list[tuple[Connection, T]]:
        """Wait until a response begins; return those that have, or the one overdue."""
        while not self._is_waiting(*self._due[0][1:]):
            heapq.heappop(self._due)
        due_at, _, first_due = self._due[0]
        ready = self._selector.select(max(0.0, due_at - time.monotonic()))
        connections = [key.data for key, _ in ready] or [first_due]
        return [(each, self._calls[each][1]) for each in connections]

    def _is_waiting(self, number: int, connection: Connection) -> bool:
        """Return whether it is still this call that was sent over the connection."""
        return self._calls.get(connection, (None,))[0] == number

    def remove(self, connection: Connection) -> None:
        """Remove the call that was sent over `connection`."""
        self._selector.unregister(connection)
        del self._calls[connection]

    def close(self) -> list[T]:
        """Return the calls that are left, and watch none any more."""
        self._selector.close()
        return [call for _, call in self._calls.values()]


class TooLargeError(http.client.HTTPException):
    """The response is longer than MAX_RESPONSE_BYTES."""


class _Socket:
    """What `http.client` needs of a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.deadline = self.first_byte_deadline = 0.0

    def sendall(self, data: bytes) -> None:
        self.socket.settimeout(_remaining(self.deadline))
        self.socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        self.socket.close()


class _Reader(io.RawIOBase):
    """Reads one response, within its deadline and MAX_RESPONSE_BYTES."""

    def __init__(self, owner: _Socket) -> None:
        super().__init__()
        self._owner = owner
        self._raw = owner.socket.makefile("rb", buffering=0)
        self._deadline = owner.first_byte_deadline
        self._bytes_left = MAX_RESPONSE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        self._owner.socket.settimeout(_remaining(self._deadline))
        count = self._raw.readinto(buffer)
        self._deadline = self._owner.deadline
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise TooLargeError
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _remaining(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
