"""Connections that are shared with others: how many a pool takes, keeps, gives back."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from common import db, pool, prepared
from common.db import Engine, Statement, connect, ping
from common.errors import BusyError
from common.pool import SharingPool
from common.prepared import PreparedConnection
from tests.support.database import execute
from tests.support.link import Link, link_to
from tests.support.relaying import engine_on

PATIENCE_SECONDS = 30
SLEEP = Statement("SELECT pg_sleep(CAST(:seconds AS float8))")


@pytest.fixture
def link(database_url: str) -> Iterator[Link]:
    with link_to(database_url) as link:
        yield link


@pytest.fixture
def limited(link: Link, database_url: str) -> Iterator[Callable[[int], str]]:
    """Answer the URL of a user who may have so many connections, through the link."""
    role = f"guest_{uuid.uuid4().hex}"

    def limit(connections: int) -> str:
        execute(
            database_url,
            f"CREATE ROLE {role} LOGIN PASSWORD 'secret'"
            f" CONNECTION LIMIT {connections}",
        )
        address = link.through(database_url).partition("@")[2]
        return f"postgresql://{role}:secret@{address}"

    yield limit
    execute(database_url, f"DROP ROLE IF EXISTS {role}")


def sleep(engine: Engine, seconds: float) -> None:
    with connect(engine) as connection:
        connection.execute(SLEEP, {"seconds": seconds})


def pool_of(engine: Engine) -> SharingPool:
    found = engine.pool
    assert isinstance(found, SharingPool)
    return found


def test_first_requests_at_once_share_the_first_connection(
    link: Link, database_url: str
) -> None:
    """Eight would each wait for one of their own, and the processor open all eight."""
    with engine_on(link.through(database_url), pool_size=8) as engine:
        ping_slowly = slow_to_open(engine, 0.5)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: ping_slowly(), range(8)))
    assert link.attempts == 1


def slow_to_open(engine: Engine, seconds: float) -> Callable[[], None]:
    """Let opening a connection take longer, and answer what opens one."""
    opened = pool_of(engine)._open_link

    def open_slowly() -> PreparedConnection:
        time.sleep(seconds)
        return opened()

    pool_of(engine)._open_link = open_slowly
    return lambda: ping(engine)


def test_waits_that_cost_more_than_opening_have_another_opened(
    link: Link, database_url: str
) -> None:
    with engine_on(link.through(database_url), pool_size=8) as engine:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: sleep(engine, 0.3), range(12)))
        assert link.attempts == 4


def test_a_server_with_no_connection_left_is_not_asked_by_every_request(
    limited: Callable[[int], str], link: Link
) -> None:
    """A pool lives with what it has, and tries again a few times a second."""
    began = time.monotonic()
    with engine_on(limited(2), pool_size=8) as engine:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: sleep(engine, 0.01), range(200)))
        assert pool_of(engine)._held == 2
    seconds = time.monotonic() - began
    assert 2 < link.attempts <= 3 + seconds / pool.REFUSED_SECONDS[0]


def test_a_pool_with_nothing_at_a_full_server_is_busy_soon_and_asks_seldom(
    limited: Callable[[int], str], link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "REFUSED_SECONDS", (0.6, 0.6))
    url = limited(1)
    with engine_on(url) as early, engine_on(url, pool_size=8) as late, connect(early):
        before, began = link.attempts, time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            tries = [threads.submit(ping, late) for _ in range(8)]
            assert all(isinstance(each.exception(), BusyError) for each in tries)
        seconds = time.monotonic() - began
        assert seconds >= db.POOL_TIMEOUT_SECONDS
        assert link.attempts - before <= 1 + seconds / 0.6


def test_a_process_that_has_none_gets_its_turn_while_others_keep_theirs_busy(
    limited: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell the others that somebody starves; they give back unasked."""
    monkeypatch.setattr(pool, "GIVE_BACK_SECONDS", (0.5, 1.0))
    url = limited(3)
    is_over = False

    def keep_busy(engine: Engine) -> None:
        while not is_over:
            sleep(engine, 0.02)

    with (
        engine_on(url, pool_size=8) as early,
        engine_on(url) as late,
        ThreadPoolExecutor(8) as threads,
    ):
        busy = [threads.submit(keep_busy, early) for _ in range(8)]
        wait_until(lambda: pool_of(early)._held == 3)
        wait_until(lambda: is_served(late))
        is_over = True
        assert [each.exception() for each in busy] == [None] * 8


def is_served(engine: Engine) -> bool:
    try:
        ping(engine)
    except BusyError:
        return False
    return True


def wait_until(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < deadline, "it never comes about"
        time.sleep(0.01)


def test_a_pool_gives_back_what_it_no_longer_needs_but_the_last(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "GIVE_BACK_SECONDS", (0.01, 0.01))
    with engine_on(link.through(database_url)) as engine:
        with connect(engine), connect(engine), connect(engine):
            assert pool_of(engine)._held == 3
        for _ in range(5):
            time.sleep(0.02)
            ping(engine)
        assert pool_of(engine)._held == 1
    assert link.attempts == 3


def test_what_an_idle_process_keeps_the_server_takes_back_unnoticed(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen instance gives nothing back, and holds for minutes what others need."""
    monkeypatch.setattr(prepared, "IDLE_TIMEOUT_SECONDS", 1)
    with engine_on(link.through(database_url)) as engine:
        ping(engine)
        link.wait_until_quiet()
        ping(engine)
    assert link.attempts == 2


def test_a_connection_that_cannot_be_opened_takes_nobodys_place(
    link: Link, database_url: str
) -> None:
    with engine_on(link.through(database_url), pool_size=1) as engine:
        link.refuse()
        for _ in range(3):
            with pytest.raises(db.DatabaseUnavailableError):
                ping(engine)
        link.restore()
        ping(engine)
        assert pool_of(engine)._held == 1
