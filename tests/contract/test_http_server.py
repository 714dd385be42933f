"""The local HTTP server: keeps connections alive and never loses its place in one."""

import http.client
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from infra.local.http_server import DROP_CONNECTION, MAX_BODY_BYTES, HttpServer, serving


def app(environ: dict[str, Any], start_response: Any) -> Any:
    """Return what was understood of the request."""
    request = Request(environ)
    if request.path == "/fail":
        raise RuntimeError("on purpose")
    if request.path == "/drop":
        environ[DROP_CONNECTION] = True
    if request.path == "/empty":
        return Response(status=204)(environ, start_response)
    seen = f"{request.method} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
    if request.path != "/unread":
        seen += f" {len(request.get_data())} {request.headers.get('X-User-ID')}"
    return Response(seen)(environ, start_response)


@pytest.fixture
def connection() -> Iterator[http.client.HTTPConnection]:
    with serving(app) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        yield connection
        connection.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, **kwargs: Any
) -> tuple[int, str]:
    connection.request(method, path, **kwargs)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_many_requests_share_a_connection(
    connection: http.client.HTTPConnection,
) -> None:
    headers = {"X_User_ID": "forged"}  # not the header that it looks like to WSGI
    seen = ask(connection, "GET", "/a?b=c", headers=headers)
    assert seen == (200, "GET /a?b=c 0 None")
    link = connection.sock
    assert ask(connection, "POST", "/a", body=b"x" * 9) == (200, "POST /a? 9 None")
    # A body that the app does not read must not be taken for the next request.
    assert ask(connection, "POST", "/unread", body=b"GET / HTTP/1.1\r\n\r\n")[0] == 200
    assert ask(connection, "HEAD", "/a") == (200, "")
    assert ask(connection, "GET", "/empty") == (204, "")
    assert ask(connection, "GET", "/fail") == (500, "")
    chunks = iter([b"ab", b"cde"])
    assert ask(connection, "PUT", "/a", body=chunks, encode_chunked=True) == (
        200,
        "PUT /a? 5 None",
    )
    assert connection.sock is link


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Length": str(MAX_BODY_BYTES + 1)}, None, 413),
        ({"Content-Length": "-1"}, None, 400),
        ({"Content-Length": "abc"}, None, 400),
        ({"Content-Length": b"\xb2"}, None, 400),
        ({"Transfer-Encoding": "chunked"}, b"zz\r\n", 400),
    ],
)
def test_a_body_without_bound_or_of_no_length_is_refused(
    connection: http.client.HTTPConnection,
    headers: dict[str, Any],
    body: bytes | None,
    status: int,
) -> None:
    assert ask(connection, "POST", "/a", headers=headers, body=body)[0] == status


def test_a_client_that_asks_first_may_send_its_body(
    connection: http.client.HTTPConnection,
) -> None:
    connection.connect()
    connection.sock.sendall(
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 100 Continue")
    connection.sock.sendall(b"ab")
    assert b"POST /a? 2" in connection.sock.recv(1000)


def test_a_malformed_address_is_refused(
    connection: http.client.HTTPConnection,
) -> None:
    assert ask(connection, "GET", "http://elsewhere/a")[1] == "GET /a? 0 None"
    connection.sock.sendall(b"GET http://[/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_leaves_in_the_middle_harms_nobody(
    connection: http.client.HTTPConnection,
) -> None:
    with socket.create_connection((connection.host, connection.port or 0)) as leaving:
        leaving.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(connection, "GET", "/drop")  # as the app has it
    assert ask(connection, "GET", "/a")[0] == 200


def test_stopping_hangs_up_and_frees_the_port() -> None:
    server = HttpServer(app)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    assert ask(connection, "GET", "/a")[0] == 200
    with pytest.raises(OSError, match="in use"):
        HttpServer(app, server.port)
    server.stop()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(connection, "GET", "/a")
    connection.close()
    HttpServer(app, server.port).stop()
