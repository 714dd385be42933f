"""Sibling services in one small process that respond late and use little time.

A caller's id contains the number of its cart's lines. Each read gives them new ids, so
that every checkout is a new order.
"""

import argparse
import itertools
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

PRODUCT = "b0000000-0000-4000-8000-000000000001"
SHOP = "c0000000-0000-4000-8000-000000000001"
_VARIATION = (
    b'{"id":"%s","product_id":"' + PRODUCT.encode() + b'","amount":1000000,'
    b'"count":1,"amount_limit":1,"price":19.99,"product":{"id":"'
    + PRODUCT.encode()
    + b'",'
    b'"shop_id":"' + SHOP.encode() + b'","title":"T1","is_active":true,'
    b'"base_price":19.99}}'
)
_TAKEN = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
_ABSENT = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"
_VARIATIONS_PATH = b"/api/products/variations/"


def caller(number: int, lines: int) -> str:
    """Return the id of a caller whose cart has this number of lines."""
    return f"{lines:08x}-0000-4000-8000-{number:012x}"


@dataclass(slots=True)
class _Connection:
    """A connection, and what it has received of a request so far."""

    socket: socket.socket
    received: bytes = b""


class Siblings:
    """Serves carts and variations `delay` seconds after the request.

    Each line has a variation of its own, or all carts have the same (`is_hot`).
    """

    def __init__(self, delay: float, *, is_hot: bool) -> None:
        self._delay = delay
        self._is_hot = is_hot
        self._late: deque[tuple[float, _Connection, bytes]] = deque()
        # Different from those of another process on the same database.
        self._line_ids = itertools.count(time.time_ns() // 1000)
        self._selector = selectors.DefaultSelector()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._is_over = False

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        port: int = self._server.getsockname()[1]
        return port

    def serve_until_closed(self, lifeline: int) -> None:
        """Serve until the file descriptor `lifeline` is closed at its other end."""
        self._selector.register(lifeline, selectors.EVENT_READ, self._end)
        late = self._late
        while not self._is_over:
            seconds = max(0.0, late[0][0] - time.monotonic()) if late else None
            for key, _ in self._selector.select(seconds):
                if isinstance(key.data, _Connection):
                    self._receive(key.data)
                else:
                    key.data()
            now = time.monotonic()
            while late and late[0][0] <= now:
                _, connection, response = late.popleft()
                self._send(connection, response)

    def _accept(self) -> None:
        accepted, _ = self._server.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(accepted, selectors.EVENT_READ, _Connection(accepted))

    def _end(self) -> None:
        self._is_over = True

    def _receive(self, connection: _Connection) -> None:
        try:
            received = connection.socket.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._selector.unregister(connection.socket)
            connection.socket.close()
            return
        connection.received += received
        while (end := _end_of_request(connection.received)) is not None:
            request = connection.received[:end]
            connection.received = connection.received[end:]
            is_read, response = self._respond(request)
            if is_read and self._delay:
                due_at = time.monotonic() + self._delay
                self._late.append((due_at, connection, response))
            else:
                self._send(connection, response)

    def _send(self, connection: _Connection, response: bytes) -> None:
        try:
            connection.socket.sendall(response)
        except OSError:
            return  # the client is gone; reading will show that, too

    def _respond(self, request: bytes) -> tuple[bool, bytes]:
        """Return whether siblings delay this response, and the response."""
        method, path, _ = request.split(b" ", 2)
        if method != b"GET":
            return False, _TAKEN
        if _VARIATIONS_PATH in path:
            return True, _ok(_VARIATION % path.rpartition(b"/")[2])
        if path.endswith(b"/api/mycart/"):
            return True, _ok(self._cart(request))
        return False, _ABSENT

    def _cart(self, request: bytes) -> bytes:
        mark = b"\r\nx-user-id:"
        user = request.lower().split(mark, 1)[1].split(b"\r\n", 1)[0].strip()
        line_ids = itertools.islice(self._line_ids, int(user[:8], 16))
        lines = ",".join(
            f'{{"id":{line_id},"product_variation_id":"a0000000-0000-4000-8000-'
            f'{index if self._is_hot else line_id % 2**48:012x}","quantity":2}}'
            for index, line_id in enumerate(line_ids)
        )
        cart = f'{{"id":42,"user_uuid":"{user.decode()}","items":[{lines}]}}'
        return cart.encode()


def _ok(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d"
    return head % len(body) + b"\r\n\r\n" + body


def _end_of_request(received: bytes) -> int | None:
    """Return where the first request ends, None if it is incomplete."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = 0
    if not received.startswith(b"GET "):
        _, found, rest = received[:head].lower().partition(b"content-length:")
        length = int(rest.split(b"\r\n", 1)[0]) if found else 0
    end = head + 4 + length
    return end if len(received) >= end else None


def main(argv: Sequence[str] | None = None) -> None:
    """Print the port on standard output; serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=5.0, help="in milliseconds")
    parser.add_argument("--hot", action="store_true", help="the same variations always")
    given = parser.parse_args(argv)
    siblings = Siblings(given.delay / 1000, is_hot=given.hot)
    print(siblings.port, flush=True)
    siblings.serve_until_closed(sys.stdin.fileno())


if __name__ == "__main__":
    main()
