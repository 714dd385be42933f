"""Connections of ours: prepared statements, transactions, what holds on each link."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from common.database import prepared as prepared_connections
from common.database.engine import (
    Connection,
    Engine,
    Statement,
    StatementError,
    connect,
    transaction,
)
from tests.support.database import execute
from tests.support.proxy import proxy
from tests.support.relaying import engine_on

PREPARED = "SELECT statement FROM pg_prepared_statements"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    execute(database_url, "CREATE TABLE word (id int PRIMARY KEY, said text)")
    with engine_on(database_url, pool_size=1) as engine:
        yield engine


def say(connection: Connection, number: int, said: str = "a") -> None:
    statement = Statement("INSERT INTO word VALUES (:id, :said)")
    connection.execute(statement, {"id": number, "said": said})


def words(database_url: str) -> list[Any]:
    return [row for (row,) in execute(database_url, "SELECT id FROM word ORDER BY id")]


def prepared(engine: Engine) -> list[str]:
    """Return what is prepared on the pool's one connection."""
    with connect(engine) as connection:
        return connection.exec_driver_sql(PREPARED).scalars().all()


def test_a_statement_is_prepared_once_and_then_used_again(engine: Engine) -> None:
    for number in range(5):
        with connect(engine) as connection:
            say(connection, number)
    assert prepared(engine) == ["INSERT INTO word VALUES ($1, $2)"]


def test_a_statement_used_before_is_one_round_trip(database_url: str) -> None:
    with proxy(database_url) as wire, engine_on(wire.url) as engine:
        statement = Statement("SELECT CAST(:number AS int)")
        with connect(engine) as connection:
            connection.execute(statement, {"number": 1})
        wire.count_anew()
        with connect(engine) as connection:
            assert connection.execute(statement, {"number": 7}).scalar_one() == 7
        assert len(wire.turns) == 1


def test_a_transaction_of_two_statements_is_four_round_trips(
    database_url: str,
) -> None:
    with proxy(database_url) as wire, engine_on(wire.url) as engine:
        statement = Statement("SELECT CAST(:number AS int)")
        for _ in range(2):
            wire.count_anew()
            with transaction(engine) as connection:
                for number in range(2):
                    connection.execute(statement, {"number": number})
        assert len(wire.turns) == 4  # BEGIN, two statements, COMMIT


def test_the_server_keeps_a_bounded_number_of_prepared_statements(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_connections, "PREPARED_STATEMENTS", 3)
    for number in (1, 2, 3, 1, 4, 5):
        with connect(engine) as connection:
            statement = Statement(f"SELECT {number} + CAST(:added AS int)")
            found = connection.execute(statement, {"added": 1}).scalar_one()
            assert found == number + 1
        assert len(prepared(engine)) <= 3


# A pooler between us and the server may give each transaction another session of the
# server's: what one has prepared another may lack, or have from somebody else.
ONE = Statement("SELECT 1 + CAST(:added AS int)")


def add_one(engine: Engine) -> int:
    with connect(engine) as connection:
        found: int = connection.execute(ONE, {"added": 1}).scalar_one()
        return found


def test_a_statement_that_the_server_no_longer_knows_is_prepared_again(
    engine: Engine,
) -> None:
    add_one(engine)
    with connect(engine) as connection:
        connection.exec_driver_sql("DEALLOCATE ALL")
    assert [add_one(engine) for _ in range(2)] == [2, 2]


def test_a_statement_that_somebody_else_prepared_in_this_session_is_used(
    engine: Engine,
) -> None:
    add_one(engine)
    with connect(engine) as connection:
        [[name, sql]] = connection.exec_driver_sql(
            "SELECT name, statement FROM pg_prepared_statements"
        )
        connection.invalidate()
        connection.rollback()
        connection.exec_driver_sql(f"PREPARE {name}(int) AS {sql}")
    assert [add_one(engine) for _ in range(2)] == [2, 2]


def test_two_statements_never_have_one_name_in_whatever_sessions_they_are(
    database_url: str,
) -> None:
    """A counted name is another statement's in another session: its result is ours."""
    names = {}
    for number in (1, 2):
        with engine_on(database_url, pool_size=1) as engine, connect(engine) as each:
            each.execute(Statement(f"SELECT {number} + CAST(:a AS int)"), {"a": 1})
            [[name]] = each.exec_driver_sql("SELECT name FROM pg_prepared_statements")
            names[number] = name
    assert names[1] != names[2]


def test_a_statement_whose_first_run_failed_is_run_again_and_a_broken_one_not_kept(
    engine: Engine,
) -> None:
    broken = Statement("SELECT CAST(:x AS nothing_here)")
    with connect(engine) as connection, pytest.raises(StatementError, match="nothing"):
        connection.execute(broken, {"x": 1})
    assert prepared(engine) == []
    divide = Statement("SELECT 6 / CAST(:by AS int)")
    with connect(engine) as connection, pytest.raises(StatementError, match="22012"):
        connection.execute(divide, {"by": 0})
    with transaction(engine) as connection:
        assert connection.execute(divide, {"by": 2}).scalar_one() == 3


def test_a_migration_that_changes_a_result_breaks_no_request(
    engine: Engine, database_url: str
) -> None:
    statement = Statement("SELECT * FROM word WHERE id = CAST(:id AS int)")
    with connect(engine) as connection:
        say(connection, 1)
        connection.execute(statement, {"id": 1})
    execute(database_url, "ALTER TABLE word ADD COLUMN loud boolean DEFAULT true")
    for _ in range(2):
        with connect(engine) as connection:
            assert connection.execute(statement, {"id": 1}).one() == (1, "a", True)


def test_a_transaction_commits_at_its_end_and_outside_of_one_each_statement_does(
    engine: Engine, database_url: str
) -> None:
    with connect(engine) as connection:
        say(connection, 1)
        assert words(database_url) == [1]
    with transaction(engine) as connection:
        say(connection, 2)
        say(connection, 3)
        assert words(database_url) == [1]
    assert words(database_url) == [1, 2, 3]


def test_a_transaction_rolls_back_when_its_block_raises(
    engine: Engine, database_url: str
) -> None:
    def write_and_fail() -> None:
        with transaction(engine) as connection:
            say(connection, 1)
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert words(database_url) == []


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT CAST(1 AS nothing_here)"])
def test_after_a_transaction_its_connection_commits_by_itself_again(
    engine: Engine, database_url: str, statement: str
) -> None:
    with contextlib.suppress(StatementError), transaction(engine) as connection:
        connection.execute(Statement(statement))
    with connect(engine) as connection:
        say(connection, 2)
        assert words(database_url) == [2]


def test_every_connection_keeps_the_services_own_limits(engine: Engine) -> None:
    with connect(engine) as connection:
        for name, value in {
            "TimeZone": "UTC",
            "lock_timeout": "2s",
            "statement_timeout": "10s",
            "idle_in_transaction_session_timeout": "15s",
            "plan_cache_mode": "force_generic_plan",
        }.items():
            found = connection.execute(Statement(f"SHOW {name}")).scalar_one()
            assert (name, found) == (name, value)


def test_percent_signs_and_colons_in_values_stay_what_they_are(
    engine: Engine,
) -> None:
    said = "100% :id $1 %s '; DROP TABLE word"
    with connect(engine) as connection:
        say(connection, 1, said)
        found = connection.execute(Statement("SELECT said FROM word")).scalar_one()
    assert found == said
