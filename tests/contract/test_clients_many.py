"""Many calls to one sibling: how many are under way at once, and what that costs."""

import math
import threading
import time
from typing import Any

import pytest

from common.clients import connections
from common.clients.batch import Upstream
from common.clients.connections import MAX_CONNECTIONS
from common.errors import UpstreamBrokenError, UpstreamTimeoutError
from tests.support.odd_server import OddServer, answers, says
from tests.support.paced import paced_server
from tests.support.parallel import at_once
from tests.support.upstreams import GET, OK, send, statuses

DATABASE_CONNECTIONS = 15  # of a product service of its framework's default size


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("calls", "waits"), [(1, 1), (128, 1), (129, 2), (256, 2), (257, 3)]
)
def test_a_sibling_that_answers_all_at_once_is_waited_for_once_for_each_128_calls(
    calls: int, waits: int
) -> None:
    with paced_server(MAX_CONNECTIONS, total=calls) as server:
        upstream = Upstream("product", server.url)
        assert statuses(upstream, *[GET] * calls, seconds=60) == [200] * calls
        assert (server.steps, len(server.requests)) == (waits, calls)
        assert server.most_at_once == min(calls, MAX_CONNECTIONS)
        assert server.connections == min(calls, MAX_CONNECTIONS)
        upstream.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("calls", [200, 256, 1000])
def test_a_sibling_at_the_pace_of_its_database_never_waits_for_us(calls: int) -> None:
    """It takes as many steps as it would if all calls came at once."""
    with paced_server(DATABASE_CONNECTIONS, total=calls) as server:
        upstream = Upstream("product", server.url)
        assert statuses(upstream, *[GET] * calls, seconds=60) == [200] * calls
        assert server.steps == math.ceil(calls / DATABASE_CONNECTIONS)
        assert server.most_at_once <= MAX_CONNECTIONS
        upstream.close()


@pytest.mark.timeout(60)
def test_all_threads_together_keep_to_the_bound_and_none_is_left_out() -> None:
    callers, calls = 8, 50
    with paced_server(MAX_CONNECTIONS, 1, total=callers * calls) as server:
        upstream = Upstream("product", server.url)
        found: list[Any] = at_once(
            [lambda: statuses(upstream, *[GET] * calls, seconds=60)] * callers
        )
        assert found == [[200] * calls] * callers
        assert server.most_at_once == MAX_CONNECTIONS
        upstream.close()


def test_who_finds_no_place_waits_until_the_deadline(
    server: OddServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 0)
    server.replies = (OK,)
    assert statuses(upstream, GET, GET, seconds=0.3) == [UpstreamTimeoutError] * 2
    assert server.requests == []
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    assert statuses(upstream) == [200]


def test_who_waits_for_a_place_goes_before_who_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_waiting = threading.Event()

    class Told(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            is_waiting.set()
            return super().wait(timeout)

    with monkeypatch.context() as patched:
        patched.setattr(threading, "Condition", Told)
        pool = connections.Pool("http://127.0.0.1:1")
    for _ in range(MAX_CONNECTIONS):
        assert pool.reserve(None)
    far = time.monotonic() + 30
    found: list[bool] = []
    waiter = threading.Thread(target=lambda: found.append(pool.reserve(far)))
    waiter.start()
    assert is_waiting.wait(30)
    pool.discard(None)
    assert not pool.reserve(None)
    waiter.join(30)
    assert found == [True]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answers("", 302), 302),
        (says("nonsense\n"), UpstreamBrokenError),
        (answers("{}", 200, "Connection: close"), 200),
        (answers("", 307, "Location: /here"), 307),  # leads to itself
    ],
)
def test_every_place_comes_free_again_whatever_the_answer(
    server: OddServer,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    reply: Any,
    expected: object,
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    server.replies = (reply,) * 20
    for _ in range(3):
        assert statuses(upstream, *[GET] * 5, seconds=20) == [expected] * 5


def test_every_place_comes_free_again_after_an_error_of_our_own(
    server: OddServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    server.replies = (OK, OK)
    with monkeypatch.context() as broken:
        broken.setattr(connections.Connection, "read", lambda _: 1 // 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                send(upstream, GET, GET, GET)
    assert statuses(upstream, GET, GET, GET) == [200] * 3
