"""`orderctl` as an operator runs it: a process, its words, its exit status."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from common.database import migrations
from common.operations import retention
from common.operations.lookup import letters
from infra.orderctl import main
from tests.support.database import database, execute, plain_engine
from tests.support.orderctl import COMMANDS, NOBODY
from tests.support.orderctl import orderctl as ctl
from tests.support.relaying import owe, pending
from tests.support.sandbox import Sandbox

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    with database(postgres_url) as url:
        yield url


def test_migrate_says_from_where_to_where_and_may_be_run_again(
    empty_database: str,
) -> None:
    first = ctl(empty_database, "migrate")
    head = migrations.head()
    assert (first.status, first.err) == (0, "")
    assert first.out.split() == ["before", "empty", "after", head]
    again = ctl(empty_database, "migrate", "--json")
    assert again.json == {"before": head, "after": head, "granted_to": []}
    assert execute(empty_database, "SELECT count(*) FROM orders") == [[0]]
    # Who goes back to an older release has it migrate, too.
    execute(empty_database, "UPDATE alembic_version SET version_num = '9999'")
    later = ctl(empty_database, "migrate")
    assert (later.status, later.err) == (0, "")
    assert later.out.splitlines() == [
        "before  9999",
        "after   9999",
        "schema  a later release's: nothing to do",
    ]


GROUPS = [["events"], ["dead-letters"], ["orders"], ["actions"], ["users"]]
named = pytest.mark.parametrize("arguments", COMMANDS, ids="-".join)


def words(command: Sequence[str]) -> list[str]:
    """Return the command without its arguments."""
    return [word for word in command if word.replace("-", "").isalpha()][:2]


@pytest.mark.parametrize(
    "command",
    [
        [],
        *GROUPS,
        *([w for w in words(c) if not w.startswith("--")] for c in COMMANDS),
    ],
    ids="-".join,
)
def test_every_command_explains_itself_with_an_example(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: {' '.join(['orderctl', *command])}" in told
    assert f"Example: {' '.join(['orderctl', *command])}" in " ".join(told.split())
    is_group = command == [] or command in GROUPS
    assert is_group or "--json" in told


@named
def test_a_missing_setting_is_one_line_that_names_it(arguments: list[str]) -> None:
    said = ctl("", *arguments)
    assert (said.status, said.out) == (2, "")
    [line] = said.err.splitlines()
    assert line.startswith("orderctl: DATABASE_URL is not set")


def test_the_database_of_the_local_run_is_found_if_none_is_named(
    database_url: str, tmp_path: Path
) -> None:
    kept = tmp_path / "url"
    kept.write_text(database_url)
    said = ctl("", "events", "list", local_run=kept)
    assert (said.status, said.err) == (0, "")
    assert "no pending events" in said.out
    for name in ("DATABASE_URL", "POSTGRES_HOST", "CLOUD_SQL_CONNECTION_NAME"):
        elsewhere = ctl("", "events", "list", local_run=kept, **{name: "elsewhere"})
        assert elsewhere.status == 2


def test_a_process_says_so_too(tmp_path: Path) -> None:
    # Not in the checkout, where there may be a local run.
    command = [sys.executable, "-m", "infra.orderctl", "doctor"]
    done = run(command, folder=tmp_path, PYTHONPATH=str(CHECKOUT))
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("orderctl: DATABASE_URL is not set")


def run(
    command: list[str], folder: Path = CHECKOUT, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run it with nothing of the environment but what a process needs."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        env={"PATH": os.environ.get("PATH", os.defpath)} | settings,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["relay"], ["nonsense"], ["events"], ["dead-letters"]),
        *(["events", "list", "--sent", "--held"], ["events", "list", "--limit", "0"]),
        *(["events", "confirm", NOBODY], ["events", "show", "x"]),
        *(["dead-letters", "discard"], ["audit", "--order", "x"]),
    ],
)
def test_wrong_usage_is_told_with_status_2(arguments: list[str]) -> None:
    said = ctl("postgresql://u:p@127.0.0.1:1/x", *arguments)
    assert said.status == 2
    assert "usage: orderctl" in said.err


@named
def test_an_unreachable_database_is_one_line_without_the_password(
    arguments: list[str],
) -> None:
    said = ctl("postgresql://somebody:hush@127.0.0.1:1/orders", *arguments)
    assert (said.status, said.out) == (1, "")
    [line] = said.err.splitlines()
    assert line.startswith("orderctl: the database 127.0.0.1:1/orders is unreachable")
    assert "check DATABASE_URL" in line
    assert "hush" not in line


@pytest.mark.parametrize("revision", [None, "0001"])
@pytest.mark.parametrize(
    "arguments",
    [command for command in COMMANDS if command[0] not in ("migrate", "doctor")],
    ids="-".join,
)
def test_a_schema_that_is_older_is_one_line(
    older_schemas: dict[str | None, str], arguments: list[str], revision: str | None
) -> None:
    said = ctl(older_schemas[revision], *arguments)
    if revision and arguments in (["orders", "find"], ["orders", "export"]):
        assert said.status == 0  # it had all that these read
        return
    assert (said.status, said.out) == (1, "")
    [line] = said.err.splitlines()
    assert line.endswith("run orderctl migrate")


@pytest.fixture(scope="module")
def older_schemas(postgres_url: str) -> Iterator[dict[str | None, str]]:
    with database(postgres_url) as empty, database(postgres_url) as first:
        with plain_engine(first) as engine:
            migrations.upgrade(engine, "0001")
        yield {None: empty, "0001": first}


def test_a_defect_of_ours_is_not_called_an_old_schema(database_url: str) -> None:
    broken = mock.patch.object(letters, "read_many", side_effect=ZeroDivisionError)
    with broken, pytest.raises(ZeroDivisionError):
        ctl(database_url, "dead-letters", "list")


def test_whoever_reads_may_have_seen_enough(database_url: str) -> None:
    execute(
        database_url,
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
        " SELECT 'bus', n, gen_random_uuid(), 'order.deleted', '{}'"
        " FROM generate_series(1, 2000) n",
    )
    command = f"{sys.executable} -m infra.orderctl events list --limit 2000 | head -1"
    done = run(["bash", "-c", command], DATABASE_URL=database_url)
    assert done.stdout.startswith("ORDER ID")
    assert done.stderr == ""


# relay


def test_relay_once_sends_what_is_owed_and_approves_what_a_lost_trigger_left_behind(
    database_url: str, sandbox: Sandbox
) -> None:
    owe(database_url, 4, '{"first":1}', '{"second":2}', to="http")
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
    done = ctl(database_url, "relay", "--once", **sandbox.environ)
    assert done.status == 0, done.err
    assert dict(line.split() for line in done.out.splitlines()) == {
        "approved": "1",
        "sent": "4",
        "purged_events": "0",
        "purged_keys": "0",
    }
    bodies = [event.body for event in sandbox.events]
    assert [body for body in bodies if b"event_type" not in body] == [
        b'{"first":1}',
        b'{"second":2}',
    ]
    [heard] = sandbox.completed_orders
    assert (heard["id"], heard["items"]) == ("1", [])
    assert execute(database_url, "SELECT is_approved FROM orders") == [[True]]
    assert pending(database_url) == []


def test_relay_once_deletes_what_was_kept_long_enough(
    database_url: str, sandbox: Sandbox
) -> None:
    owe(database_url, 4, '{"first":1}', '{"second":2}', to="http")
    settings = {"EVENT_RETENTION_DAYS": "7", **sandbox.environ}
    ctl(database_url, "relay", "--once", **settings)
    execute(database_url, "UPDATE sent_events SET sent_at = now() - interval '8 days'")
    execute(
        database_url,
        "INSERT INTO idempotency_records (user_id, scope, key, fingerprint, status,"
        " headers, body, expires_at) VALUES (gen_random_uuid(), 'key', 'k', 'f', 201,"
        " '{}', '', now() - interval '1 hour')",
    )
    said = ctl(database_url, "relay", "--once", "--json", **settings)
    assert said.json == {"approved": 0, "purged_events": 2, "purged_keys": 1}


def test_relay_once_deletes_in_steps_while_there_is_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    old = (
        "INSERT INTO sent_events"
        " (id, destination, order_id, event_id, event_type, body, sent_at)"
        " SELECT n, 'http', 4, gen_random_uuid(), 'order.created', '',"
        " now() - interval '31 days' FROM generate_series(1, 9) n"
    )
    execute(database_url, old)
    said = ctl(database_url, "relay", "--once", "--json", "--seconds", 0)
    assert said.json["purged_events"] == 2
    said = ctl(database_url, "relay", "--once", "--json")
    assert said.json["purged_events"] == 7
