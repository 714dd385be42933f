"""The schema's history: up, twice, side by side, down and up again."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command

from common.database import migrations
from tests.support.database import (
    connect,
    database,
    differences,
    execute,
    plain_engine,
)
from tests.support.relaying import engine_on

TABLES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = 'public' ORDER BY 1
"""


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    with database(postgres_url) as url:
        yield url


def test_a_second_upgrade_finds_it_done_and_loses_nothing(database_url: str) -> None:
    user = "00000000-0000-4000-8000-000000000001"
    execute(database_url, f"INSERT INTO orders (user_id) VALUES ('{user}')")
    with plain_engine(database_url) as engine:
        assert migrations.upgrade(engine) == (migrations.head(), migrations.head())
    assert execute(database_url, "SELECT count(*) FROM orders") == [[1]]


def test_the_models_are_what_the_migrations_make(database_url: str) -> None:
    with plain_engine(database_url) as engine:
        assert differences(engine) == []
        execute(database_url, "ALTER TABLE orders ADD COLUMN stray int")
        assert "stray" in str(differences(engine))


def test_everything_can_be_taken_back_and_applied_again(database_url: str) -> None:
    with plain_engine(database_url) as engine:
        with engine.begin() as connection:
            command.downgrade(migrations._config(connection), "base")
        assert execute(database_url, TABLES) == [["alembic_version"]]
        functions = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'order_history%'"
        assert execute(database_url, functions) == [[0]]
        assert migrations.upgrade(engine)[1] == migrations.head()
        assert differences(engine) == []


def test_an_upgrade_that_broke_off_between_its_steps_goes_through_again(
    database_url: str,
) -> None:
    """0005 looks through history in a step of its own, and may be ended before it."""
    unchecked = (
        "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
        " AND conrelid = CAST('order_history' AS regclass)"
    )
    execute(
        database_url,
        "ALTER TABLE order_history DROP CONSTRAINT order_history_kind_check,"
        " ADD CONSTRAINT order_history_kind_check CHECK (kind <> 'x') NOT VALID",
    )
    execute(database_url, "ALTER TABLE order_history DROP COLUMN to_quantity")
    execute(database_url, "UPDATE alembic_version SET version_num = '0004'")
    with plain_engine(database_url) as engine:
        assert migrations.upgrade(engine, "0005") == ("0004", "0005")
    assert execute(database_url, unchecked) == [[0]]


def test_two_upgrades_at_once_apply_it_once_and_wait_however_long_it_takes(
    empty_database: str,
) -> None:
    with (
        engine_on(empty_database) as first,
        engine_on(empty_database) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        blocker = connect(empty_database)
        blocker.run(f"SELECT pg_advisory_lock({migrations.LOCK})")
        runs = [pool.submit(migrations.upgrade, engine) for engine in (first, second)]
        time.sleep(2.3)  # longer than a request may wait for a lock
        assert not any(run.done() for run in runs)
        assert execute(empty_database, TABLES) == []
        blocker.close()
        before = sorted(run.result(30)[0] for run in runs)
    assert before == [migrations.head(), "empty"]


def test_an_upgrade_that_fails_leaves_nothing_and_lets_go_of_the_lock(
    empty_database: str,
) -> None:
    execute(empty_database, "CREATE TABLE order_items (id int)")  # in its way
    with plain_engine(empty_database) as engine:
        with pytest.raises(Exception, match="order_items"):
            migrations.upgrade(engine)
        assert execute(empty_database, TABLES) == [["order_items"]]
        execute(empty_database, "DROP TABLE order_items")
        assert migrations.upgrade(engine) == ("empty", migrations.head())
