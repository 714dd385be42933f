"""A threaded HTTP/1.1 server for WSGI apps on loopback, with kept connections.

Werkzeug's server closes each connection and idles 10 ms after each request, which would
hide what connection pools gain.
"""

import contextlib
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

LOOPBACK = "127.0.0.1"
MAX_BODY_BYTES = 16 * 1024 * 1024
IDLE_SECONDS = 75
DROP_CONNECTION = "infra.drop_connection"  # an app sets it to close the connection

logger = logging.getLogger(__name__)


class HttpServer:
    """Serves one WSGI app; port 0 takes a free one. The port is taken at once.

    On another `host` than loopback only where nobody from outside gets to, such as in a
    container. Raise OSError when the port is taken. Nothing is answered before
    `start()`.
    """

    def __init__(
        self, app: "WSGIApplication", port: int = 0, host: str = LOOPBACK
    ) -> None:
        self._server = _ThreadedServer((host, port), _Handler)
        self._server.app = app
        self.port = int(self._server.server_address[1])
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name=f"http-{self.port}",
            daemon=True,
        )

    def start(self) -> None:
        """Start serving, in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Close all connections, free the port and wait for threads to end."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.hang_up()


@contextlib.contextmanager
def serving(app: "WSGIApplication", port: int = 0) -> Iterator[str]:
    """Serve `app` on loopback while the block runs; yields its base URL."""
    server = HttpServer(app, port)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


class _ThreadedServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # idle kept-alive connections would block it for ever
    request_queue_size = 512
    app: "WSGIApplication"

    def __init__(self, address: tuple[str, int], handler: type["_Handler"]) -> None:
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Condition()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        super().shutdown_request(request)
        with self._connections_lock:
            self._connections.discard(request)
            self._connections_lock.notify_all()

    def hang_up(self, patience_seconds: float = 5) -> None:
        """Close every open connection and wait until its thread has ended."""
        with self._connections_lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._connections_lock.wait_for(
                lambda: not self._connections, patience_seconds
            )

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            logger.error("a connection ended: %r", error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each kept-alive response waits 40 ms
    wbufsize = -1  # status, headers and body leave in one packet
    timeout = IDLE_SECONDS
    server: _ThreadedServer

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            # Where the client has gone it fails before it gets there, and the link
            # would stay open for as long as its reader lives.
            self.rfile.close()

    def handle_one_request(self) -> None:
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        try:
            target = urlsplit(self.path)
        except ValueError:
            self.send_error(400, "Bad address")
            self.close_connection = True
            return
        body = self._read_body()
        if body is None:
            return
        environ = self._environ(target, body)
        status, headers, content = self._call_app(environ)
        if environ.get(DROP_CONNECTION):
            self.close_connection = True
            return
        self._answer(status, headers, content)
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        answer = super().handle_expect_100()
        self.wfile.flush()
        return answer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        logger.debug(format, *args)

    def _read_body(self) -> bytes | None:
        """Return the whole body, so that the next request starts where this ends."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        text = self.headers.get("Content-Length", "0")
        if not (text.isascii() and text.isdigit()):
            self.send_error(400, "Bad Content-Length")
        elif int(text) > MAX_BODY_BYTES:
            self.send_error(413)
        else:
            body = self.rfile.read(int(text))
            if len(body) == int(text):
                return body
        self.close_connection = True
        return None

    def _read_chunks(self) -> bytes | None:
        body = bytearray()
        with contextlib.suppress(ValueError):
            while size := int(self.rfile.readline(1024).split(b";")[0], 16):
                if len(body) + size > MAX_BODY_BYTES:
                    self.send_error(413)
                    self.close_connection = True
                    return None
                body += self.rfile.read(size)
                self.rfile.readline(3)
            while self.rfile.readline(1024).strip():
                pass
            return bytes(body)
        self.send_error(400, "Bad chunk")
        self.close_connection = True
        return None

    def _environ(self, target: SplitResult, body: bytes) -> "WSGIEnvironment":
        environ: WSGIEnvironment = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(target.path, "latin-1"),
            "QUERY_STRING": target.query,
            "RAW_URI": self.path,
            "REMOTE_ADDR": self.client_address[0],
            "SERVER_NAME": LOOPBACK,
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": self.request_version,
        }
        for name, value in self.headers.items():
            # X_User_ID would pass for X-User-ID: real front ends drop such names too.
            if "_" in name:
                continue
            key = f"HTTP_{name.upper().replace('-', '_')}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        if body or "HTTP_CONTENT_LENGTH" in environ:
            environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_CONTENT_LENGTH", None)
        return environ

    def _call_app(
        self, environ: "WSGIEnvironment"
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []

        def start_response(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: object = None,  # noqa: ARG001
        ) -> Any:  # noqa: ANN401
            started.append((status, headers))
            return written.append

        try:
            chunks = self.server.app(environ, start_response)
            try:
                written.extend(chunks)
            finally:
                if hasattr(chunks, "close"):
                    chunks.close()
            status, headers = started[-1]
        except Exception:
            logger.exception("%s %s failed", self.command, self.path)
            return "500 Internal Server Error", [("Content-Length", "0")], b""
        return status, headers, b"".join(written)

    def _answer(
        self, status: str, headers: list[tuple[str, str]], content: bytes
    ) -> None:
        code, _, reason = status.partition(" ")
        self.send_response_only(int(code), reason)
        names = set()
        for name, value in headers:
            names.add(name.lower())
            self.send_header(name, value)
        if "date" not in names:
            self.send_header("Date", self.date_time_string())
        bodiless = code in {"204", "304"} or code.startswith("1")
        if "content-length" not in names and not bodiless:
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and not bodiless:
            self.wfile.write(content)
