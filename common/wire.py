"""HTTP/1.1 on the wire: a kept-alive link to one host, a request out, an answer in.

Lives here: sockets, request bytes, parsing by httptools. Not here: which link to take,
retries and what a broken answer means (`clients/`, `publishing/http.py`). Surprise:
sending and reading are two calls, so that many requests can be on their way before the
first is read. It is done by hand because a call then costs a quarter of what
`http.client` takes.
"""

import socket
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import httptools
from msgspec import Struct

from common.links import has_spoken

MAX_ANSWER_BYTES = 4 * 1024 * 1024
_CHUNK = 64 * 1024
_FINAL = 200  # an answer below it announces another


class MalformedAnswerError(Exception):
    """What came is no HTTP, or too much of it."""


class Answer(Struct, frozen=True):
    """A sibling's answer, whole."""

    status: int
    body: bytes


class Address(Struct, frozen=True):
    """Where a service is; `tls` is the context to speak TLS with, None for none."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str) -> "Address":
        """Answer the address that a checked URL means (`config.py`)."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        return cls(
            host=parts.hostname or "",
            port=parts.port or (443 if is_tls else 80),
            path=parts.path.rstrip("/"),
            tls=ssl.create_default_context() if is_tls else None,
        )

    @property
    def authority(self) -> str:
        """Answer what the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == (80 if self.tls is None else 443)
        return host if is_usual else f"{host}:{self.port}"


def head(headers: Mapping[str, str]) -> bytes:
    """Answer headers as they are sent; what many requests share is made once."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return "".join(lines).encode("latin-1")


def request(method: str, path: str, shared: bytes, body: bytes | None) -> bytes:
    """Answer a request with these headers and, where there is one, a JSON body."""
    line = f"{method} {path} HTTP/1.1\r\n".encode("ascii")
    if body is None:
        return line + shared + b"\r\n"
    about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return b"".join((line, shared, about.encode("ascii"), body))


class Link:
    """One connection. For one thread, and one request, at a time."""

    def __init__(self, address: Address, timeout: float) -> None:
        """Connect within `timeout` seconds; raises OSError."""
        link = socket.create_connection((address.host, address.port), timeout)
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls is not None:
                link = address.tls.wrap_socket(link, server_hostname=address.host)
        except BaseException:
            link.close()
            raise
        self._socket = link

    def is_closed(self) -> bool:
        """Tell whether the other side has hung up on this idle link (2 µs)."""
        return has_spoken(self._socket)

    def send(self, request: bytes, deadline: float) -> None:
        """Send a whole request; raises OSError, TimeoutError at `deadline`."""
        self._wait_until(deadline)
        self._socket.sendall(request)

    def read(self, deadline: float) -> tuple[Answer, bool]:
        """Answer what was answered, and whether the link may be used again.

        No byte is waited for past `deadline` (monotonic seconds). Raises OSError where
        not all of it came, MalformedAnswerError.
        """
        reading = _Reading()
        size = 0
        while not reading.is_whole:
            self._wait_until(deadline)
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                return reading.ended_by_link(), False
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise MalformedAnswerError("the answer is too large")
            reading.feed(chunk)
        return reading.answer(), reading.is_kept_alive

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _wait_until(self, deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))


class _Reading:
    """One answer as it comes in. The parser calls what is named `on_…`."""

    def __init__(self) -> None:
        self.is_whole = False
        self.is_kept_alive = False
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._chunks: list[bytes] = []
        self._has_length = False

    def feed(self, chunk: bytes) -> None:
        """Take what came; raises MalformedAnswerError."""
        try:
            self._parser.feed_data(chunk)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_whole:
                raise MalformedAnswerError("that was no HTTP") from error
            self.is_kept_alive = False  # whatever that is behind the answer

    def answer(self) -> Answer:
        """Answer the answer. The last call, as it lets go of the parser."""
        del self._parser  # each holds the other
        return Answer(self._status, b"".join(self._chunks))

    def ended_by_link(self) -> Answer:
        """Answer what the end of the link has ended; raises ConnectionResetError."""
        if self._status < _FINAL or self._has_length:
            raise ConnectionResetError("the answer was cut off")
        return self.answer()

    def on_message_begin(self) -> None:
        if self.is_whole:  # nobody asked for another answer
            self.is_kept_alive = False

    def on_header(self, name: bytes, _value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        if not self.is_whole:
            self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if not self.is_whole:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self.is_whole:
            return
        self._has_length = False
        self.is_whole = self._status >= _FINAL
        self.is_kept_alive = self.is_whole and self._parser.should_keep_alive()
