"""A TCP link on a fixed port that can be cut, muted, refused, and pointed elsewhere."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16


class Link:
    """Leads from its own `port` to `target`, a port, or to nowhere."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_mute = False  # the server's answers are swallowed
        self.is_hanging_up = False  # who connects is sent away at once
        self.attempts = 0  # connections that were asked for
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._forgotten: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port = 0
        self._listener = self._listen()

    def through(self, url: str) -> str:
        """Return `url` as it leads through here."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{LOOPBACK}:{self.port}"))

    def refuse(self) -> None:
        """Cut everybody off, and let nobody in until `restore`."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def restore(self, target: int | None = None) -> None:
        """Work again, with `target` behind it if it has moved."""
        self.target = target or self.target
        self.is_mute = self.is_hanging_up = False
        if self._listener.fileno() < 0:
            self._listener = self._listen()

    def cut(self) -> None:
        """End every open connection, without a word."""
        with self._lock:
            self._forgotten.clear()
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Carry nothing more between those who are connected, and tell neither."""
        with self._lock:
            self._forgotten |= self._open

    def wait_until_quiet(self, seconds: float = 10) -> None:
        """Wait until nobody is connected any more; fails when somebody stays."""
        deadline = time.monotonic() + seconds
        while self._open:
            assert time.monotonic() < deadline, "somebody is still connected"
            time.sleep(0.01)

    def close(self) -> None:
        """Let go of everything."""
        self.refuse()
        for thread in self._threads:
            thread.join(10)

    def _listen(self) -> socket.socket:
        listener = socket.create_server((LOOPBACK, self.port), backlog=256)
        self.port = listener.getsockname()[1]
        self._start(self._accept, listener)
        return listener

    def _start(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.attempts += 1
            if self.is_hanging_up:
                reset = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                client.close()
                continue
            try:
                server = socket.create_connection((LOOPBACK, self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            self._start(self._carry, client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        for end in (client, server):  # a small packet does not wait for more
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, server:
            back = threading.Thread(target=self._copy, args=(server, client, True))
            back.start()
            self._copy(client, server, is_answer=False)
            back.join()
            with self._lock:
                self._open -= {client, server}

    def _copy(
        self,
        source: socket.socket,
        sink: socket.socket,
        is_answer: bool,  # noqa: FBT001 a thread's argument
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if (is_answer and self.is_mute) or source in self._forgotten:
                    continue
                client = sink if is_answer else source
                passed = self._passed(data, client, is_answer=is_answer)
                sink.sendall(passed)
                if len(passed) < len(data):
                    break
        while source in self._forgotten:
            time.sleep(0.05)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _passed(self, data: bytes, client: socket.socket, *, is_answer: bool) -> bytes:
        """Return what passes of `data`; less than all of it is followed by a cut."""
        del client, is_answer
        return data


@contextlib.contextmanager
def link_to(target: int | str) -> Iterator[Link]:
    """Yield a link to a port, or to the port of a URL or of `host:port`."""
    running = Link(target if isinstance(target, int) else port_of(target))
    try:
        yield running
    finally:
        running.close()


def port_of(target: str) -> int:
    """Return the port of a URL or of `host:port`."""
    port = urlsplit(target if "//" in target else f"//{target}").port
    assert port
    return port
