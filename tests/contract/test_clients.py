"""Calls to siblings: connections, retries, the deadline, and what is no response."""

import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from common.clients import connections
from common.clients.batch import Upstream
from common.clients.calls import Call, UpstreamResponse
from common.errors import (
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from tests.support.odd_server import (
    OddServer,
    Reply,
    answers,
    black_hole,
    odd_server,
    says,
)
from tests.support.tls import identity
from tests.support.upstreams import GET, OK, hang_up, send, statuses


def reset(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionError


# Connections.


def test_connections_are_used_again_and_one_that_was_closed_is_replaced(
    server: OddServer, upstream: Upstream
) -> None:
    server.replies = (OK, OK, OK)  # then it hangs up
    for _ in range(3):
        assert statuses(upstream, GET, GET) == [200, 200]
    assert server.connections == 2
    time.sleep(0.1)
    assert statuses(upstream) == [200]
    assert (server.connections, len(server.requests)) == (3, 7)


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 X\nConnection: close\nContent-Length: 2\n\n{}",
        "HTTP/1.1 200 X\n\n{}",
        "HTTP/1.0 200 X\nContent-Length: 2\n\n{}",
    ],
)
def test_a_connection_that_the_sibling_ends_is_not_used_again(
    server: OddServer, upstream: Upstream, head: str
) -> None:
    server.replies = (says(head),)
    for _ in range(2):
        [response] = send(upstream)
        assert isinstance(response, UpstreamResponse)
        assert response.body == b"{}"
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_connection_that_was_idle_for_too_long_is_not_used(
    server: OddServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections.IDLE_SECONDS <= 30
    server.replies = (OK, OK)
    assert statuses(upstream, GET, GET) == [200, 200]
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    time.sleep(0.1)
    assert statuses(upstream) == [200]
    assert server.connections == 3


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("trouble", [hang_up, reset, None])
def test_a_reused_connection_that_fails_or_is_silent_is_tried_again_on_a_new_one(
    server: OddServer, upstream: Upstream, trouble: Reply | None, method: Any
) -> None:
    silent: Reply = lambda _: server.wait(60)  # noqa: E731
    server.replies = (OK, trouble or silent)
    assert statuses(upstream, GET, GET, GET) == [200] * 3
    server.replies = (OK, OK)  # of new connections
    began = time.monotonic()
    call = Call(method, "/x", b"{}" if method == "PUT" else None)
    assert statuses(upstream, call, call, seconds=3) == [200, 200]
    # The third, which was not tried, is as old as the two: it is not used, either.
    assert statuses(upstream, seconds=3) == [200]
    assert time.monotonic() - began < 2.5
    assert server.connections == 5
    assert len(server.requests) == 3 + 2 + 2 + 1


def test_a_new_connection_that_is_silent_is_not_given_up_before_the_deadline(
    server: OddServer, upstream: Upstream
) -> None:
    server.replies = (lambda _: server.wait(60),)
    began = time.monotonic()
    assert statuses(upstream, seconds=0.6) == [UpstreamTimeoutError]
    assert time.monotonic() - began >= 0.6
    assert len(server.requests) == 1


def test_a_base_url_with_tls_verifies_the_server_and_keeps_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = identity(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted.certificate, trusted.key)
    with odd_server(OK, OK, tls=context) as server:
        stranger = Upstream("product", server.url)
        assert statuses(stranger) == [UpstreamUnavailableError]
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", trusted.ca_file)
        upstream = Upstream("product", server.url + "/base/")
        before = server.connections
        assert statuses(upstream) == statuses(upstream) == [200]
        assert server.connections == before + 1
        assert server.requests[0].startswith("GET /base/api/mycart/ HTTP/1.1\r\n")
        upstream.close()


def test_a_base_url_may_have_no_path_and_names_its_port(server: OddServer) -> None:
    server.replies = (OK,)
    upstream = Upstream("product", server.url)
    assert statuses(upstream) == [200]
    upstream.close()
    [request] = server.requests
    assert request.startswith("GET /api/mycart/ HTTP/1.1\r\n")
    assert f"\r\nHost: {server.url.removeprefix('http://')}\r\n" in request


# Retries.


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        *((each, 3) for each in (408, 425, 429, 502, 503, 504)),
        *((each, 1) for each in (500, 501, 507)),
    ],
)
def test_a_status_that_may_pass_is_tried_three_times_and_another_once(
    server: OddServer, upstream: Upstream, status: int, tries: int
) -> None:
    server.replies = (answers("", status),) * tries
    assert statuses(upstream) == [UpstreamUnavailableError]
    assert len(server.requests) == tries
    upstream.close()
    server.replies = (*(answers("", status),) * (tries - 1), OK)
    assert statuses(upstream) == [200]


@pytest.mark.parametrize(
    "cut",
    [
        "",
        'HTTP/1.1 200 X\nContent-Length: 99\n\n{"id"',
        'HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n63\n{"id"',
        "HTTP/1.1 200 X\nContent-Length: 99\n\n",
    ],
)
def test_a_response_that_is_cut_is_asked_for_three_times_in_all(
    server: OddServer, upstream: Upstream, cut: str
) -> None:
    server.replies = (says(cut),)
    assert statuses(upstream) == [UpstreamUnavailableError]
    assert len(server.requests) == 3


def test_retries_end_at_the_deadline(server: OddServer, upstream: Upstream) -> None:
    def late(link: socket.socket) -> None:
        server.wait(0.7)
        answers("", 503)(link)

    server.replies = (late,)
    [result] = statuses(upstream, seconds=1)
    assert result in {UpstreamUnavailableError, UpstreamTimeoutError}
    assert len(server.requests) <= 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "http://nobody.invalid"])
def test_a_sibling_that_is_not_there_is_unavailable(url: str) -> None:
    assert statuses(Upstream("product", url)) == [UpstreamUnavailableError]


def test_a_sibling_that_lets_nobody_in_costs_one_wait_however_many_calls() -> None:
    with black_hole() as url:
        began = time.monotonic()
        found = statuses(Upstream("product", url), *[GET] * 20, seconds=60)
        assert found == [UpstreamUnavailableError] * 20
        assert time.monotonic() - began < 10


# The deadline, and bounds.


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 X\nContent-Length: 4000\n\n",
        "HTTP/1.1 200 X\nConnection: close\n\n",
        "HTTP/1.0 200 X\n\n",
        "HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\nfa0\n",
        "HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n",
        "HTTP/1.1 200 X\nX-Slow:",
        "HTTP/1.1 2",
    ],
)
@pytest.mark.timeout(30)
def test_a_response_that_drips_in_is_cut_off_at_the_deadline(
    server: OddServer, upstream: Upstream, head: str
) -> None:
    server.replies = (server.drips(head, seconds=0.2),)
    began = time.monotonic()
    assert statuses(upstream, seconds=0.8) == [UpstreamTimeoutError]
    assert time.monotonic() - began < 5
    assert len(server.requests) == 1


def endless(head: str, chunk: bytes) -> Reply:
    def send_on(link: socket.socket) -> None:
        says(head)(link)
        while True:
            link.sendall(chunk)

    return send_on


@pytest.mark.parametrize(
    "reply",
    [
        endless("HTTP/1.1 200 X\nContent-Length: 900000000000000\n\n", b"[" * 9999),
        endless("HTTP/1.1 200 X\n\n", b"[" * 9999),
        endless("HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n", b"2\r\n[[\r\n" * 99),
        endless(
            "HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\n9000000000000\n", b"[" * 999
        ),
        endless("HTTP/1.1 200 X\n", b"X: y\r\n" * 99),
        endless("HTTP/1.1 200 X\nX: ", b"y" * 9999),
        endless("", b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
        says("220 mail.example ESMTP\n"),
        says("HTTP/1.1 twohundred OK\n\n"),
        says("HTTP/2 200\n\n"),
        says("HTTP/1.1 101 X\nUpgrade: x\nConnection: Upgrade\n\n"),
        says("HTTP/1.1 103 Early Hints\n\n"),
    ],
)
@pytest.mark.timeout(60)
def test_what_is_no_http_or_has_no_end_is_invalid_and_not_asked_for_again(
    server: OddServer, upstream: Upstream, reply: Reply
) -> None:
    server.replies = (reply,)
    assert statuses(upstream, seconds=30) == [UpstreamBrokenError]
    assert len(server.requests) == 1
