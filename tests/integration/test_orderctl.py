"""`orderctl` as an operator runs it: a process, its words, its exit status."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import migrations
from infra.local.sandbox import Sandbox, running_sandbox
from tests.support.database import database, execute
from tests.support.relaying import owe, owed

CHECKOUT = Path(__file__).parents[2]


def orderctl(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run it with nothing of the environment but what a process needs."""
    return subprocess.run(
        [sys.executable, "-m", "infra.orderctl", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=60,
        env={"PATH": os.environ.get("PATH", os.defpath)} | settings,
    )


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    with database(postgres_url) as url:
        yield url


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(deliver=False) as running:
        yield running


def test_migrate_says_from_where_to_where_and_may_be_run_again(
    empty_database: str,
) -> None:
    first = orderctl("migrate", DATABASE_URL=empty_database)
    again = orderctl("migrate", "--json", DATABASE_URL=empty_database)
    head = migrations.head()
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.split() == ["before", "empty", "after", head]
    assert again.returncode == 0
    assert json.loads(again.stdout) == {"before": head, "after": head}
    assert execute(empty_database, "SELECT count(*) FROM orders") == [[0]]


@pytest.mark.parametrize("arguments", [["--help"], ["migrate", "--help"]])
def test_help_needs_no_settings(arguments: list[str]) -> None:
    done = orderctl(*arguments)
    assert done.returncode == 0
    assert "usage: orderctl" in done.stdout


@pytest.mark.parametrize("arguments", [["migrate"], ["relay", "--once"]])
def test_a_missing_setting_is_one_line_that_names_it(arguments: list[str]) -> None:
    done = orderctl(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("orderctl: DATABASE_URL is not set")


@pytest.mark.parametrize("arguments", [[], ["relay"], ["nonsense"]])
def test_wrong_usage_is_told_with_status_2(arguments: list[str]) -> None:
    done = orderctl(*arguments, DATABASE_URL="postgresql://u:p@127.0.0.1:1/x")
    assert done.returncode == 2
    assert "usage: orderctl" in done.stderr


def test_an_unreachable_database_is_one_line_without_the_password() -> None:
    address = "postgresql://somebody:hush@127.0.0.1:1/orders"
    done = orderctl("migrate", DATABASE_URL=address)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("orderctl: ")
    assert "hush" not in line


def test_relay_once_sends_what_is_owed_and_counts_it(
    database_url: str, sandbox: Sandbox
) -> None:
    owe(database_url, 4, '{"first":1}', '{"second":2}', to="http")
    settings = {"DATABASE_URL": database_url, **sandbox.environ}
    done = orderctl("relay", "--once", "--json", **settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"approved": 0, "sent": 2}
    assert [event.body for event in sandbox.events] == [
        b'{"first":1}',
        b'{"second":2}',
    ]
    assert owed(database_url) == []


def test_relay_once_approves_what_a_lost_trigger_left_behind(
    database_url: str, sandbox: Sandbox
) -> None:
    user = "00000000-0000-4000-8000-000000000001"
    execute(
        database_url,
        f"INSERT INTO orders (user_id, is_complete) VALUES ('{user}', true)",
    )
    execute(
        database_url,
        "INSERT INTO order_items (order_id, user_id, product_variation, quantity,"
        f" price, status) VALUES (1, '{user}', '{user}', 1, 5, 4)",
    )
    settings = {"DATABASE_URL": database_url, **sandbox.environ}
    done = orderctl("relay", "--once", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["approved", "1", "sent", "2"]
    [heard] = sandbox.completed_orders
    assert (heard["id"], heard["items"]) == ("1", [])
    assert execute(database_url, "SELECT is_approved FROM orders") == [[True]]
