"""A server that says anything at all: what no framework would let a sibling say.

It speaks raw bytes over TCP. Siblings that behave are `infra.local.sandbox`.
"""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

LOOPBACK = "127.0.0.1"

# Gets the connection, after the request has come.
Reply = Callable[[socket.socket], object]


def says(text: str) -> Reply:
    """Send `text` as it is; a line feed stands for both its characters."""
    content = text.replace("\n", "\r\n").encode()
    return lambda link: link.sendall(content)


def answers(body: str, status: int = 200, *headers: str) -> Reply:
    """Send a whole response, after which the connection may be used again.

    A body that is not UTF-8 has its other bytes as `surrogateescape` reads them.
    """
    content = body.encode(errors="surrogateescape")
    length = f"Content-Length: {len(content)}"
    head = "\r\n".join([f"HTTP/1.1 {status} X", length, *headers, "", ""])
    return lambda link: link.sendall(head.encode() + content)


class OddServer:
    """Serves the requests of each connection with `replies` in turn, then hangs up.

    `requests` are the heads that came. Replies may be replaced at any time.
    """

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None) -> None:
        self.replies = replies
        self.requests: list[str] = []
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        port = self._listener.getsockname()[1]
        self.url = f"https://localhost:{port}" if tls else f"http://{LOOPBACK}:{port}"
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
        """Do nothing for a while; raise ConnectionError when closed meanwhile."""
        if self._is_closed.wait(seconds):
            raise ConnectionError

    def drips(self, head: str, seconds: float) -> Reply:
        """Send `head`, and then a blank every now and then."""

        def drip(link: socket.socket) -> None:
            says(head)(link)
            while True:
                self.wait(seconds)
                link.sendall(b" ")

        return drip

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=[link], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            link.settimeout(10)
            if self._tls is not None:
                link = self._tls.wrap_socket(link, server_side=True)
            with link:
                for reply in self.replies:
                    if not self._has_request(link):
                        return
                    reply(link)
        link.close()

    def _has_request(self, link: socket.socket) -> bool:
        """Read one request; tell whether there was one."""
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = link.recv(65536)
            if not chunk:
                return False
            received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        self.requests.append(head.decode() + "\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += link.recv(65536)
        return True


@contextlib.contextmanager
def odd_server(
    *replies: Reply, tls: ssl.SSLContext | None = None
) -> Iterator[OddServer]:
    """Yield a server that answers each connection's requests with `replies`."""
    running = OddServer(*replies, tls=tls)
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
