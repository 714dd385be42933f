"""A server that answers anything at all: what no framework would let a sibling say.

Lives here: raw bytes over TCP. Not here: siblings that behave (`infra.local.sandbox`).
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

LOOPBACK = "127.0.0.1"

# Gets the connection, after the request has come; to return is to hang up.
Reply = Callable[[socket.socket], object]


def says(text: str) -> Reply:
    """Answer `text` as it is; a line feed stands for both its characters."""
    content = text.replace("\n", "\r\n").encode()
    return lambda link: link.sendall(content)


class OddServer:
    """Answers each request with `reply`; `requests` are the heads that came."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._listener = socket.create_server((LOOPBACK, 0))
        self.url = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
        self.requests: list[str] = []
        self._is_closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop; a reply that pauses with `wait` ends early."""
        self._is_closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def wait(self, seconds: float) -> None:
        """Do nothing for a while; raises ConnectionError when closed meanwhile."""
        if self._is_closed.wait(seconds):
            raise ConnectionError

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=[link], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            link.settimeout(10)
            head = b""
            while b"\r\n\r\n" not in head:
                received = link.recv(65536)
                if not received:
                    return
                head += received
            self.requests.append(head.decode())
            self._reply(link)


@contextlib.contextmanager
def odd_server(reply: Reply) -> Iterator[OddServer]:
    """Yield a server that answers every request with `reply` and hangs up."""
    running = OddServer(reply)
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def dripping_server(head: str, seconds: float) -> Iterator[OddServer]:
    """Yield a server that answers `head` and then a blank every now and then."""

    def drip(link: socket.socket) -> None:
        link.sendall(head.replace("\n", "\r\n").encode())
        while True:
            running.wait(seconds)
            link.sendall(b" ")

    running = OddServer(drip)
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Yield the URL of a server that lets nobody in: a connect gets no answer."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):  # nobody accepts: the queue is full after one or two
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 socket's own
            waiting.connect_ex(address)
        yield f"http://{LOOPBACK}:{address[1]}"
