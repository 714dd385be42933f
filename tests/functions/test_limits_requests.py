"""Requests that are too large, have too much of something, or come too slowly.

Lives here: the edges of each limit, and a real server for what only that does. Not
here: what is in a body (`test_bad_input_bodies.py`). Surprise: a body that does not
arrive is waited for by a thread, so only that of a known user is.
"""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Self
from urllib.parse import urlsplit

import pytest

from common import admission
from tests.support.observed import problem
from tests.support.service import Service, new_user
from tests.support.serving import environment, send, served
from tests.support.shared import shared_service

USER = new_user()
ORDERS = "/api/orders/"


@pytest.fixture(scope="module")
def service(postgres_url: str, template_database: str) -> Iterator[Service]:
    with shared_service(postgres_url, template_database) as running:
        yield running


def addressed(path: str, length: int) -> str:
    return path + "x" * (length - len(path))


def test_a_path_may_be_so_long_and_no_longer(service: Service) -> None:
    most = admission.MAX_PATH_BYTES
    longest = service.crud("GET", addressed(ORDERS, most), USER)
    problem(longest, 404, "not-found")
    for method in ("GET", "POST", "PATCH", "DELETE"):
        over = service.crud(method, addressed(ORDERS, most + 1), USER)
        assert str(most) in problem(over, 414, "uri-too-long")["detail"]


def test_a_query_may_be_so_long_and_no_longer(service: Service) -> None:
    most = admission.MAX_QUERY_BYTES
    assert service.crud("GET", f"{ORDERS}?{'x' * most}", USER).status_code == 200
    over = service.crud("GET", f"{ORDERS}?{'x' * (most + 1)}", USER)
    assert str(most) in problem(over, 414, "uri-too-long")["detail"]


def test_a_query_may_have_so_many_parameters_and_no_more(service: Service) -> None:
    most = admission.MAX_PARAMETERS
    query = "&".join(["x=1"] * most)
    assert service.crud("GET", f"{ORDERS}?{query}", USER).status_code == 200
    over = service.crud("GET", f"{ORDERS}?{query}&x=1", USER)
    assert str(most) in problem(over, 414, "uri-too-long")["detail"]


def test_so_many_headers_may_come_and_no_more(service: Service) -> None:
    def ask(count: int) -> int:
        headers = {f"X-Extra-{n}": "1" for n in range(count)}
        answer = service.crud("GET", ORDERS, USER, headers=headers)
        if answer.status_code != 200:
            said = problem(answer, 431, "headers-too-large")["detail"]
            assert str(admission.MAX_HEADERS) in said
        return answer.status_code

    own = 4  # Host, User-Agent, X-User-ID, and the framework's Function-Execution-Id
    assert ask(admission.MAX_HEADERS - own) == 200
    assert ask(admission.MAX_HEADERS - own + 1) == 431


@pytest.mark.parametrize(
    "name",
    ["Authorization", "If-None-Match", "Idempotency-Key", "traceparent", "X-Any"],
)
def test_headers_together_may_be_so_large_and_no_larger(
    service: Service, name: str
) -> None:
    most = admission.MAX_HEADER_BYTES
    over = service.crud("GET", ORDERS, USER, headers={name: "a" * most})
    assert str(most) in problem(over, 431, "headers-too-large")["detail"]
    many = {f"X-Extra-{n}": "a" * (most // 40) for n in range(45)}
    over = service.crud("GET", ORDERS, USER, headers=many)
    problem(over, 431, "headers-too-large")


def test_names_of_headers_count_as_much_as_their_values(service: Service) -> None:
    names = {"X-" + "a" * 8000 + str(n): "" for n in range(3)}
    over = service.crud("GET", ORDERS, USER, headers=names)
    problem(over, 431, "headers-too-large")


def test_the_limits_hold_for_every_function(service: Service) -> None:
    path = f"/health/live?{'x' * (admission.MAX_QUERY_BYTES + 1)}"
    for function in ("api_docs", "approval_handler", "item_status", "outbox_relay"):
        problem(service.call(function, "GET", path), 414, "uri-too-long")


def test_a_body_that_is_too_large_is_told_the_limit(service: Service) -> None:
    size = admission.MAX_BODY_BYTES
    over = service.crud("POST", ORDERS, USER, data=b" " * (size + 1))
    assert str(size) in problem(over, 413, "body-too-large")["detail"]


def test_what_the_server_refuses_itself_lies_beyond_our_limits(
    service: Service,
) -> None:
    """gunicorn answers in HTML, and a path it does not limit at all."""
    with served("orders_crud", environment(**service.environ)) as url:
        headers = {"X-User-ID": USER}
        long = send("GET", addressed(f"{url}{ORDERS}", 20_000), headers=headers)
        wide = send("GET", url + ORDERS, headers=headers | {"X-A": "a" * 8000})
        many = {f"X-Extra-{n}": "1" for n in range(90)}
        crowded = send("GET", url + ORDERS, headers=headers | many)
    assert long.json()["type"] == "/problems/uri-too-long"
    assert wide.status_code == 200
    assert crowded.json()["type"] == "/problems/headers-too-large"


# What does not come.


class Slow:
    """A client that sends the head of a request, and of its body what it is told."""

    def __init__(self, url: str, head: dict[str, str], method: str = "POST") -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.link = socket.create_connection((parts.hostname, parts.port), 20)
        path = f"{parts.path}?{parts.query}"
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        lines += [f"{name}: {value}" for name, value in head.items()]
        self.link.sendall("\r\n".join([*lines, "", ""]).encode())

    def answer(self) -> str:
        """Answer what came back, whole."""
        came = ""
        while (piece := self.link.recv(65536).decode()) and not _is_whole(came + piece):
            came += piece
        return came + piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()


def _is_whole(answer: str) -> bool:
    head, end, body = answer.partition("\r\n\r\n")
    length = re.search(r"content-length: (\d+)", head.lower())
    return bool(end and length and len(body) >= int(length[1]))


HEAD = {"X-User-ID": USER, "Content-Type": "application/json"}
SIZED, CHUNKED = {"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    """The address of a function that a real server serves."""
    settings = environment(**service.environ) | {"THREADS": "4", "WORKERS": "1"}
    with served("orders_crud", settings) as address:
        yield address + ORDERS


def test_a_body_that_does_not_arrive_is_given_up_and_told_so(url: str) -> None:
    with Slow(url, HEAD | SIZED) as sized, Slow(url, HEAD | CHUNKED) as chunked:
        sized.link.sendall(b"{")
        chunked.link.sendall(b"1\r\n{\r\n")
        for client in (sized, chunked):
            head, _, body = client.answer().partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 408 ")
            assert json.loads(body)["type"] == "/problems/request-timeout"


@pytest.mark.parametrize("size", [SIZED, CHUNKED], ids=["sized", "chunked"])
def test_the_body_of_an_unknown_caller_is_not_waited_for(
    url: str, size: dict[str, str]
) -> None:
    """Neither by a thread nor by the one that takes connections, which gunicorn does:
    up to five seconds, and two for each client that leaves its connection open.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(
                Slow(url, HEAD | size | {"X-User-ID": "nobody"})
            )
            assert client.answer().startswith("HTTP/1.1 401 ")
        assert send("GET", url.replace(ORDERS, "/health/live")).status_code == 200
        assert time.monotonic() - began < admission.STALL_SECONDS


def test_a_body_that_comes_in_pieces_is_taken(url: str) -> None:
    with Slow(url, HEAD | CHUNKED) as client:
        for piece in (b"1\r\n{\r\n", b"1\r\n}\r\n", b"0\r\n\r\n"):
            time.sleep(0.05)
            client.link.sendall(piece)
        assert client.answer().startswith("HTTP/1.1 201 ")


BROKEN = {
    "no size": b"Z\r\n{}\r\n0\r\n\r\n",
    "another size": b"1\r\n{}\r\n0\r\n\r\n",
    "a trailer too large": b"2\r\n{}\r\n0\r\na: " + b"x" * 9000 + b"\r\n\r\n",
    "no end": b"2\r\n{}\r\n",
}


@pytest.mark.parametrize("why", BROKEN)
def test_chunks_that_make_no_sense_are_400(url: str, why: str) -> None:
    with Slow(url, HEAD | CHUNKED) as client:
        client.link.sendall(BROKEN[why])
        client.link.shutdown(socket.SHUT_WR)
        assert client.answer().startswith("HTTP/1.1 400 ")


def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(
    service: Service, url: str
) -> None:
    user = new_user()
    with Slow(url, HEAD | {"X-User-ID": user, "Content-Length": "9"}) as client:
        client.link.sendall(b"{}")
        client.link.shutdown(socket.SHUT_WR)
        assert client.answer().startswith("HTTP/1.1 400 ")
    assert service.crud("GET", ORDERS, user).get_json() == []


def test_an_answer_that_is_not_fetched_keeps_a_place_and_that_for_seconds_only(
    service: Service,
) -> None:
    user, other = {"X-User-ID": new_user()}, {"X-User-ID": new_user()}
    service.rows(
        "INSERT INTO orders (user_id, metadata) SELECT CAST(:user_id AS uuid),"
        " (SELECT jsonb_object_agg(n, repeat('x', 500)) FROM generate_series(1, 50) n)"
        " FROM generate_series(1, 200) RETURNING id",
        user_id=user["X-User-ID"],
    )
    settings = {"THREADS": "2", "WORKERS": "1", "USER_CONCURRENCY": "1"}
    with served("orders_crud", environment(**service.environ) | settings) as root:
        path = f"{root}{ORDERS}?limit=200"
        assert len(send("GET", path, headers=user).content) > 5_000_000
        with Slow(path, user, "GET"):
            time.sleep(0.5)  # it is on its way
            assert send("GET", path, headers=user).status_code == 429
            assert send("GET", path, headers=other).status_code == 200
            deadline = time.monotonic() + 4 * admission.STALL_SECONDS
            while send("GET", path, headers=user).status_code == 429:
                assert time.monotonic() < deadline, "the place is not given back"
                time.sleep(0.1)
