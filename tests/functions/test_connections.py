"""Refused requests on kept-alive connections of the real server, and their bodies."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from common.web.app import DISCARD_SECONDS, MAX_BODY_BYTES, MAX_DISCARDED_BYTES
from tests.support.service import FUNCTIONS, Service, new_user
from tests.support.serving import environment, served
from tests.support.shared import service_of_file

USER = new_user()
ORDERS = "/api/orders/"
JSON = {"X-User-ID": USER, "Content-Type": "application/json"}
MUCH = 20 * 1024 * 1024
SILENCE_SECONDS = 1.0  # of this server, in place of ten


service = pytest.fixture(service_of_file, scope="module")


@pytest.fixture(scope="module")
def url(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a function that gunicorn serves, as in production."""
    settings = environment(**service.environ) | {"THREADS": "4", "WORKERS": "1"}
    impatient = tmp_path_factory.mktemp("orders_crud") / "main.py"
    main = (FUNCTIONS / "orders_crud" / "main.py").read_text()
    timeout = f"from common.web import app as a; a.SILENCE_SECONDS = {SILENCE_SECONDS}"
    impatient.write_text(f"{main}\n{timeout}\n")
    with served("orders_crud", settings, source=impatient) as address:
        yield address


class Client:
    """A connection to the server, and what is sent on it, piece by piece."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.link = socket.create_connection((parts.hostname, parts.port), 30)

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Send a request without its body."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.link.sendall("\r\n".join([*lines, "", ""]).encode())

    def response(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Read a response: its status, headers in lower case, and JSON."""
        came = http.client.HTTPResponse(self.link)
        came.begin()
        content = came.read()
        headers = {name.lower(): value for name, value in came.getheaders()}
        return came.status, headers, json.loads(content)

    def is_closed(self) -> bool:
        """Return whether the server has ended the connection."""
        try:
            return self.link.recv(1) == b""
        except ConnectionResetError:
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()


# Method, path, headers of each kind of refusal that leaves its connection open.
REFUSALS: dict[int, tuple[str, str, dict[str, str]]] = {
    401: ("POST", ORDERS, {"Content-Type": "application/json"}),
    404: ("POST", "/api/nothing/", JSON),
    405: ("PUT", ORDERS, JSON),
    415: ("POST", ORDERS, JSON | {"Content-Type": "text/plain"}),
    400: ("POST", ORDERS, JSON),
}
BODY = b'{"metadata": ' + b" " * 100_000  # broken, and more than gunicorn throws away


def encoded(body: bytes, *, is_chunked: bool) -> tuple[dict[str, str], bytes]:
    """Return the headers that announce a body, and the body on the wire."""
    if is_chunked:
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return {"Transfer-Encoding": "chunked"}, chunks
    return {"Content-Length": str(len(body))}, body


@pytest.mark.parametrize("is_chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("status", REFUSALS)
def test_the_next_request_on_the_connection_of_a_refused_one_is_served(
    url: str, status: int, *, is_chunked: bool
) -> None:
    """Whenever the body comes: with the head, or a moment later."""
    method, path, headers = REFUSALS[status]
    announced, body = encoded(BODY, is_chunked=is_chunked)
    with Client(url) as client:
        for turn in range(30):
            client.head(method, path, headers | announced)
            time.sleep(0.01 * (turn % 3))
            client.link.sendall(body)
            found, told, problem = client.response()
            assert (found, told["connection"]) == (status, "keep-alive")
            assert problem["status"] == status
            client.head("GET", ORDERS, {"X-User-ID": USER})
            assert client.response()[0] == 200, f"turn {turn}"


TOO_LARGE = {
    "sized": ({"Content-Length": str(MUCH)}, b"x" * MUCH),
    "chunked": (
        {"Transfer-Encoding": "chunked"},
        (b"10000\r\n" + b"x" * 65536 + b"\r\n") * (MUCH // 65536) + b"0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
@pytest.mark.parametrize("status", [401, 404, 405])
def test_who_sends_a_body_that_is_too_large_before_reading_hears_so_and_that_it_ends(
    url: str, status: int, kind: str
) -> None:
    method, path, headers = REFUSALS[status]
    announced, body = TOO_LARGE[kind]
    for _ in range(3):
        with Client(url) as client:
            client.head(method, path, headers | announced)
            client.link.sendall(body)
            found, told, problem = client.response()
            assert (found, told["connection"]) == (413, "close")
            assert problem["type"] == "/problems/body-too-large"
            assert str(MAX_BODY_BYTES) in problem["detail"]
            assert client.is_closed()


def test_who_waits_to_hear_hears_at_once_that_a_body_is_too_large(url: str) -> None:
    with Client(url) as client:
        began = time.monotonic()
        client.head("POST", ORDERS, JSON | {"Content-Length": str(MUCH)})
        found, told, _ = client.response()
        assert (found, told["connection"]) == (413, "close")
        assert time.monotonic() - began < 2
        client.link.shutdown(socket.SHUT_WR)
        assert client.is_closed()


def test_a_body_without_an_end_is_read_for_a_while_only(url: str) -> None:
    sent = 0
    with Client(url) as client:
        client.head("POST", ORDERS, JSON | {"Content-Length": str(10**12)})
        assert client.response()[0] == 413
        with contextlib.suppress(ConnectionError):
            while sent < 4 * MAX_DISCARDED_BYTES:
                sent += client.link.send(b"x" * 65536)
    assert MUCH < sent < 4 * MAX_DISCARDED_BYTES


@pytest.mark.parametrize("is_chunked", [False, True], ids=["sized", "chunked"])
def test_body_may_be_as_large_as_the_limit(url: str, *, is_chunked: bool) -> None:
    for size, status in ((MAX_BODY_BYTES, 201), (MAX_BODY_BYTES + 1, 413)):
        announced, body = encoded(
            b"{" + b" " * (size - 2) + b"}", is_chunked=is_chunked
        )
        with Client(url) as client:
            client.head("POST", ORDERS, JSON | announced)
            client.link.sendall(body)
            assert client.response()[0] == status


def test_a_client_that_asks_first_may_send_its_body(url: str) -> None:
    with Client(url) as client:
        asks = {"Content-Length": "2", "Expect": "100-continue"}
        client.head("POST", ORDERS, JSON | asks)
        assert client.link.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.link.sendall(b"{}")
        assert client.response()[0] == 201


def test_a_body_that_comes_in_pieces_is_taken(url: str) -> None:
    with Client(url) as client:
        client.head("POST", ORDERS, JSON | {"Transfer-Encoding": "chunked"})
        for piece in (b"1\r\n{\r\n", b"1\r\n}\r\n", b"0\r\n\r\n"):
            time.sleep(0.05)
            client.link.sendall(piece)
        assert client.response()[0] == 201


BROKEN = {
    "no size": b"Z\r\n{}\r\n0\r\n\r\n",
    "another size": b"1\r\n{}\r\n0\r\n\r\n",
    "a trailer too large": b"2\r\n{}\r\n0\r\na: " + b"x" * 9000 + b"\r\n\r\n",
    "no end": b"2\r\n{}\r\n",
}


@pytest.mark.parametrize("why", [*BROKEN, "less than announced"])
def test_a_body_that_breaks_off_or_makes_no_sense_is_400_and_ends_the_connection(
    service: Service, url: str, why: str
) -> None:
    user = new_user()
    sized = {"Content-Length": "9"}
    announced = {"Transfer-Encoding": "chunked"} if why in BROKEN else sized
    with Client(url) as client:
        client.head("POST", ORDERS, JSON | announced | {"X-User-ID": user})
        client.link.sendall(BROKEN.get(why, b"{}"))
        client.link.shutdown(socket.SHUT_WR)
        status, told, _ = client.response()
        assert (status, told["connection"]) == (400, "close")
        assert client.is_closed()
    assert service.crud("GET", ORDERS, user).get_json() == []


def test_a_client_that_falls_silent_in_a_body_gives_its_thread_back(url: str) -> None:
    with Client(url) as client:
        client.head("POST", ORDERS, JSON | {"Content-Length": "9"})
        client.link.sendall(b"{")
        began = time.monotonic()
        status, told, _ = client.response()
        assert (status, told["connection"]) == (400, "close")
        answered = time.monotonic()
        assert SILENCE_SECONDS <= answered - began < SILENCE_SECONDS + 5
        client.link.settimeout(20)
        assert client.link.recv(1) == b""
        assert time.monotonic() - answered < DISCARD_SECONDS + 3


# What never reaches a route.

ODD_PATHS = [
    *("/%0A", "/api/orders/%0A", "/api/orders/1%0A/", "/%0D%0A", "/api/%0a/orders/"),
    *("//", "///", "/%00", "/%2F", "/api%2Fnothing%2F", "/%ff", "/%", "/%zz", "/\\"),
    *("/..", "/../api/orders", "/robots.txt", "/favicon.ico", "/*", "/" + "x" * 60_000),
    *("/?" + "x" * 60_000, "/api/nothing?x=%0A"),
]


@pytest.mark.parametrize("path", ODD_PATHS, ids=lambda path: path[:20])
def test_an_odd_path_is_a_404_problem_with_a_request_id(url: str, path: str) -> None:
    with Client(url) as client:
        for method in ("GET", "POST", "OPTIONS", "BREW"):
            length = {"Content-Length": "2"} if method == "POST" else {}
            client.head(method, path, {"X-Request-ID": "odd"} | length)
            client.link.sendall(b"{}" if length else b"")
            status, told, problem = client.response()
            assert status == 404
            assert told["content-type"] == "application/problem+json"
            assert told["x-request-id"] == "odd"
            assert problem["type"] == "/problems/not-found"
        client.head("GET", ORDERS, {"X-User-ID": USER})
        assert client.response()[0] == 200


def test_a_long_query_is_read_as_any(url: str) -> None:
    with Client(url) as client:
        client.head("GET", f"{ORDERS}?{'x' * 60_000}", {"X-User-ID": USER})
        assert client.response()[0] == 200
