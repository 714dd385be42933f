"""The database busy, gone, and back: what a request is told, and that it recovers."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from common.database import sessions
from common.database.engine import Engine, Statement, connect, ping, transaction
from common.errors import BusyError, DatabaseUnavailableError
from infra.local.postgres import postgres_server
from tests.support.database import connect as plain_connection
from tests.support.database import execute, scratch_folder
from tests.support.link import Link, link_to
from tests.support.relaying import engine_on

LOCK_AND_READ = Statement("SELECT id FROM word WHERE id = CAST(:id AS int) FOR UPDATE")


@pytest.fixture
def link(database_url: str) -> Iterator[Link]:
    with link_to(database_url) as link:
        yield link


@pytest.fixture
def engine(link: Link, database_url: str) -> Iterator[Engine]:
    """An engine behind a link, on a table with one row."""
    execute(database_url, "CREATE TABLE word AS SELECT 1 AS id")
    with engine_on(link.through(database_url), pool_size=2) as engine:
        yield engine


def test_a_pool_that_is_lent_out_is_busy_serves_again_and_never_grows(
    engine: Engine, link: Link
) -> None:
    with connect(engine), connect(engine), pytest.raises(BusyError), connect(engine):
        pass
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ping(engine), range(80)))
    assert link.attempts <= 2


def test_a_lock_that_somebody_keeps_is_busy_not_a_hang(
    engine: Engine, database_url: str
) -> None:
    holder = plain_connection(database_url)
    try:
        holder.run("BEGIN")
        holder.run("SELECT id FROM word FOR UPDATE")
        with pytest.raises(BusyError), transaction(engine) as connection:
            connection.execute(LOCK_AND_READ, {"id": 1})
    finally:
        holder.close()
    with transaction(engine) as connection:
        assert connection.execute(LOCK_AND_READ, {"id": 1}).scalar_one() == 1


def test_two_that_wait_for_each_other_do_so_in_vain_and_one_goes_through(
    engine: Engine, database_url: str
) -> None:
    execute(database_url, "INSERT INTO word VALUES (2)")

    def lock_both(first: int, second: int) -> str:
        try:
            with transaction(engine) as connection:
                connection.execute(LOCK_AND_READ, {"id": first})
                time.sleep(0.3)
                connection.execute(LOCK_AND_READ, {"id": second})
        except BusyError:
            return "busy"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        ends = sorted(pool.map(lock_both, (1, 2), (2, 1)))
    assert ends == ["busy", "done"]


def test_a_statement_that_takes_too_long_is_ended(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(sessions, "STATEMENT_TIMEOUT_SECONDS", 1)
    with engine_on(link.through(database_url)) as engine:
        sleep = Statement("SELECT pg_sleep(CAST(:seconds AS float8))")
        with connect(engine) as connection:  # longer than connecting may take
            connection.execute(sleep, {"seconds": 0.8})
        with pytest.raises(BusyError), connect(engine) as connection:
            connection.execute(sleep, {"seconds": 30})
        ping(engine)


def test_a_server_that_stops_talking_is_given_up(
    link: Link, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "READ_TIMEOUT_SECONDS", 1)
    with engine_on(link.through(database_url)) as engine:
        ping(engine)
        link.is_mute = True
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailableError), connect(engine) as connection:
            connection.execute(Statement("SELECT 1"))
        assert time.monotonic() - began < sessions.CONNECT_TIMEOUT_SECONDS - 1
        link.restore()
        ping(engine)


def test_an_idle_connection_that_was_closed_is_replaced_unnoticed(
    engine: Engine, link: Link, database_url: str
) -> None:
    with connect(engine), connect(engine):
        pass
    execute(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database()"
        " AND application_name LIKE 'order-service/%'",
    )
    link.wait_until_quiet()
    with connect(engine) as first, connect(engine) as second:
        for connection in (first, second):
            assert connection.execute(Statement("SELECT 1")).scalar_one() == 1
    assert link.attempts == 4


def test_a_link_cut_in_the_middle_is_unavailable_and_the_next_request_succeeds(
    engine: Engine, link: Link, database_url: str
) -> None:
    two = {"id": 2}

    def write_and_lose_the_link() -> None:
        with transaction(engine) as connection:
            connection.execute(
                Statement("INSERT INTO word VALUES (CAST(:id AS int))"), two
            )
            link.cut()
            connection.execute(LOCK_AND_READ, two)

    with pytest.raises(DatabaseUnavailableError):
        write_and_lose_the_link()
    ping(engine)
    assert execute(database_url, "SELECT id FROM word") == [[1]]


def test_a_server_that_restarts_is_used_again_without_a_restart_of_ours() -> None:
    with scratch_folder() as folder, ExitStack() as stack:
        with postgres_server(folder, durable=False) as url:
            link = stack.enter_context(link_to(url))
            engine = stack.enter_context(engine_on(link.through(url)))
            with connect(engine), connect(engine), connect(engine):
                pass
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                ping(engine)
        with postgres_server(folder, durable=False) as url:
            link.restore(urlsplit(url).port)
            for _ in range(3):
                ping(engine)


def test_a_defect_of_ours_is_not_taken_for_an_outage(engine: Engine) -> None:
    with (
        pytest.raises(Exception, match="nothing_here") as caught,
        connect(engine) as connection,
    ):
        connection.execute(Statement("SELECT CAST(1 AS nothing_here)"))
    assert not isinstance(caught.value, DatabaseUnavailableError | BusyError)
    with pytest.raises(BrokenPipeError), connect(engine):
        raise BrokenPipeError
    ping(engine)
