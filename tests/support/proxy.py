"""A TCP proxy that counts bytes, connections and round trips, and cuts on request.

A round trip is the client sending after the server has, which needs no knowledge of the
protocol.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
KEPT_OF_A_BODY = 10
PATIENCE_SECONDS = 10


class Proxy:
    """Passes everything on to the server of `url`; `self.url` leads through here."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or LOOPBACK, parts.port)
        self._listener = socket.create_server((LOOPBACK, 0), backlog=256)
        port = self._listener.getsockname()[1]
        login, at, _ = parts.netloc.rpartition("@")
        netloc = f"{login}{at}{LOOPBACK}:{port}"
        self.url = urlunsplit(parts._replace(netloc=netloc))
        self._lock = threading.Lock()
        self._turns: list[float] = []
        self._connections = 0
        self._cuts_left = 0
        self._links: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def turns(self) -> list[float]:
        """When (`time.monotonic()`) each round trip began."""
        with self._lock:
            return list(self._turns)

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        with self._lock:
            return self._connections

    def forget(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self._turns.clear()
            self._connections = 0

    def cut(self, times: int) -> None:
        """Hang up in the middle of the body of each of the next `times` answers."""
        with self._lock:
            self._cuts_left = times

    def hang_up(self) -> None:
        """End every connection, and wait until everybody has heard."""
        with self._lock:
            for link in self._links:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._links and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """Stop for good."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections += 1
            thread = threading.Thread(target=self._serve, args=[client], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            for link in (client, server):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._links |= {client, server}
            with contextlib.suppress(OSError), selectors.DefaultSelector() as either:
                either.register(client, selectors.EVENT_READ)
                either.register(server, selectors.EVENT_READ)
                self._pass_on(client, server, either)
            with self._lock:
                self._links -= {client, server}

    def _pass_on(
        self,
        client: socket.socket,
        server: socket.socket,
        either: selectors.BaseSelector,
    ) -> None:
        is_clients_turn = True
        while True:
            source = either.select()[0][0].fileobj
            assert isinstance(source, socket.socket)
            data = source.recv(CHUNK)
            if not data:
                return
            if source is server:
                is_clients_turn = True
                data, is_cut = self._maybe_cut(data)
                client.sendall(data)
                if is_cut:
                    return
                continue
            if is_clients_turn:
                is_clients_turn = False
                with self._lock:
                    self._turns.append(time.monotonic())
            server.sendall(data)

    def _maybe_cut(self, data: bytes) -> tuple[bytes, bool]:
        with self._lock:
            if not self._cuts_left:
                return data, False
            self._cuts_left -= 1
        return data[: data.index(b"\r\n\r\n") + 4 + KEPT_OF_A_BODY], True


@contextlib.contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """Yield a proxy in front of the server of `url`."""
    running = Proxy(url)
    try:
        yield running
    finally:
        running.close()
