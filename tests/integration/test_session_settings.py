"""Settings of a server, a database or a role do not change what the service does."""

from collections.abc import Iterator
from typing import Any

import pytest

from common.database.engine import connect, transaction
from common.operations.audit import audit
from tests.support.audited import World
from tests.support.database import database, execute
from tests.support.orderctl import orderctl
from tests.support.relaying import engine_on
from tests.support.sandbox import running_sandbox
from tests.support.service import Service

ODD = {
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'sql_standard'",
    "TimeZone": "'Pacific/Chatham'",
    "array_nulls": "off",
    "bytea_output": "'escape'",
    "client_encoding": "'SQL_ASCII'",
    "default_transaction_isolation": "'serializable'",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "backslash_quote": "off",
    "client_min_messages": "debug1",
    "xmloption": "document",
    "lc_numeric": "'C'",
    "lc_time": "'C'",
    "lc_monetary": "'C'",
}
VALUES = """
SELECT TIMESTAMPTZ '2026-11-30 10:00:00+00', INTERVAL '1 day 2 hours',
  BYTEA '\\x00ff5c', DOUBLE PRECISION '0.1' + DOUBLE PRECISION '0.2',
  CAST('{NULL}' AS text[]), 'a\\b', current_schema(), quote_ident('a'),
  (SELECT count(*) FROM orders WHERE cart_id = NULL), U&'\\20ac'
"""


class OwnSessions(World):
    """A world whose own SQL runs in the service's sessions, too."""

    def run(self, statement: str) -> list[list[Any]]:
        """Run SQL."""
        with connect(self.engine) as connection:
            result = connection.exec_driver_sql(statement)
            return [list(row) for row in result] if result.returns_rows else []


@pytest.fixture
def odd(postgres_url: str) -> Iterator[str]:
    """A database without tables, of which every default is odd, also for its login."""
    with database(postgres_url) as url:
        [[name, login]] = execute(url, "SELECT current_database(), current_user")
        for setting, value in ODD.items():
            set_it = f"SET {setting} TO {value}"
            execute(url, f'ALTER DATABASE "{name}" {set_it}')
            execute(url, f'ALTER ROLE "{login}" IN DATABASE "{name}" {set_it}')
        yield url


def test_values_are_read_and_meant_the_same_whatever_is_set(
    odd: str, database_url: str
) -> None:
    assert orderctl(odd, "migrate").status == 0
    seen = []
    for url in (odd, database_url):
        with engine_on(url, 1) as engine, connect(engine) as connection:
            seen.append(connection.exec_driver_sql(VALUES).one())
        with engine_on(url, 1) as engine, transaction(engine) as connection:
            isolation = connection.exec_driver_sql("SHOW transaction_isolation")
            assert isolation.scalar_one() == "read committed"
    assert seen[0] == seen[1]


def test_all_work_is_done_whatever_is_set(odd: str) -> None:
    assert orderctl(odd, "migrate").status == 0
    with running_sandbox(deliver=False) as sandbox:
        service = Service(odd, sandbox)
        service.environ["LOG_LEVEL"] = "ERROR"
        world = OwnSessions(service, odd)
        try:
            world.make()
            assert audit(world.engine).differences == []
        finally:
            service.close()
    for command in ("doctor", "audit", "events list", "events list --sent --limit 5"):
        said = orderctl(odd, *command.split(), "--json")
        assert said.json, said.err
    [letter, _] = orderctl(odd, "dead-letters", "list", "--json").json["dead_letters"]
    shown = orderctl(odd, "dead-letters", "show", letter["id"], "--json").json
    assert shown["body_text"].startswith("{")
    assert orderctl(odd, "after-restore", "--yes").status == 0
    assert orderctl(odd, "audit").status == 0
