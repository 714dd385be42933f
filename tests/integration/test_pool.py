"""The pool: how many connections it opens, when it waits, and what it replaces."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.database import engine as db
from common.database import prepared, sessions
from common.database.engine import Engine, Statement, connect, engine_by, ping
from common.database.prepared import PreparedConnection
from common.errors import BusyError, DatabaseUnavailableError
from tests.support.cloud_sql import PASSWORD, role
from tests.support.database import execute
from tests.support.link import Link, link_to
from tests.support.relaying import database_at, engine_on

SLEEP = Statement("SELECT pg_sleep(CAST(:seconds AS float8))")


@pytest.fixture
def link(database_url: str) -> Iterator[Link]:
    with link_to(database_url) as link:
        yield link


def test_nobody_is_refused_while_the_first_connections_take_long_to_open(
    database_url: str,
) -> None:
    database = database_at(database_url)

    def open_slowly(name: str) -> PreparedConnection:
        time.sleep(db.POOL_TIMEOUT_SECONDS + 0.5)
        return sessions.connect(database, [False], name)

    engine = engine_by(open_slowly, pool_size=8)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: ping(engine), range(8)))
    engine.dispose()


def test_who_comes_one_by_one_shares_one_connection(
    link: Link, database_url: str
) -> None:
    with engine_on(link.through(database_url), pool_size=8) as engine:
        for _ in range(5):
            ping(engine)
    assert link.attempts == 1


def test_a_server_with_no_connection_left_is_busy_and_serves_who_has_one(
    postgres_url: str, database_url: str
) -> None:
    with role(postgres_url, f"guest_{uuid.uuid4().hex}") as guest:
        execute(database_url, f'ALTER ROLE "{guest}" CONNECTION LIMIT 1')
        address = database_url.partition("@")[2]
        be_refused_and_served(f"postgresql://{guest}:{PASSWORD}@{address}")


def be_refused_and_served(url: str) -> None:
    with engine_on(url) as early, engine_on(url) as late:
        with connect(early) as connection:
            for _ in range(3):
                with pytest.raises(BusyError):
                    ping(late)
            connection.execute(SLEEP, {"seconds": 0})
        early.dispose()
        wait_until_served(late)


def wait_until_served(engine: Engine) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            return ping(engine)
        except BusyError:
            time.sleep(0.05)
    raise AssertionError("it is never served")


def test_what_an_idle_process_keeps_the_server_takes_back_unnoticed(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen instance gives nothing back, and holds for minutes what others need."""
    monkeypatch.setattr(sessions, "IDLE_TIMEOUT_SECONDS", 1)
    with engine_on(link.through(database_url)) as engine:
        ping(engine)
        link.wait_until_quiet()
        ping(engine)
    assert link.attempts == 2


def test_a_connection_that_cannot_be_opened_takes_nobodys_place(
    link: Link, database_url: str
) -> None:
    with engine_on(link.through(database_url), pool_size=1) as engine:
        ping(engine)
        link.refuse()
        for _ in range(3):
            with pytest.raises(DatabaseUnavailableError):
                ping(engine)
        link.restore()
        ping(engine)


# Links that something in between forgot, such as a NAT: what is sent there is lost, and
# nobody says so.
POOLED = 5
WRITE = Statement("INSERT INTO word VALUES (CAST(:number AS int))")


def fill(engine: Engine) -> None:
    connections = [connect(engine) for _ in range(POOLED)]
    for connection in connections:
        connection.close()


def test_links_that_were_forgotten_while_idle_cost_one_short_wait_and_no_request(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "IDLE_SECONDS", 0)
    monkeypatch.setattr(prepared, "TEST_TIMEOUT_SECONDS", 1)
    execute(database_url, "CREATE TABLE word (number int)")
    with engine_on(link.through(database_url), pool_size=POOLED) as engine:
        fill(engine)
        assert link.attempts == POOLED
        link.forget()
        began = time.monotonic()
        for number in range(POOLED):
            with connect(engine) as connection:
                connection.execute(WRITE, {"number": number})
        assert time.monotonic() - began < (POOLED - 1) * 1
    assert len(execute(database_url, "SELECT number FROM word")) == POOLED
    assert link.attempts == POOLED + 1


def test_a_read_on_a_forgotten_link_is_tried_once_more_and_tells_the_others(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "READ_TIMEOUT_SECONDS", 1)
    with engine_on(link.through(database_url), pool_size=POOLED) as engine:
        fill(engine)
        link.forget()
        began = time.monotonic()
        for _ in range(POOLED):
            ping(engine)
        assert time.monotonic() - began < (POOLED - 1) * 1


def test_a_write_on_a_forgotten_link_is_not_repeated_and_tells_the_others(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have arrived: who sent it is told, and asks again under the same key."""
    monkeypatch.setattr(sessions, "READ_TIMEOUT_SECONDS", 1)
    execute(database_url, "CREATE TABLE word (number int)")
    with engine_on(link.through(database_url), pool_size=POOLED) as engine:
        fill(engine)
        link.is_mute = True  # what is sent arrives
        with (
            pytest.raises(DatabaseUnavailableError),
            connect(engine) as connection,
        ):
            connection.execute(WRITE, {"number": 1})
        link.restore()
        began = time.monotonic()
        for number in range(2, 2 + POOLED):
            with connect(engine) as connection:
                connection.execute(WRITE, {"number": number})
        assert time.monotonic() - began < (POOLED - 1) * 1
    found = execute(database_url, "SELECT number FROM word ORDER BY number")
    assert [number for (number,) in found] == [1, *range(2, 2 + POOLED)]
