"""What `orderctl` changes is recorded as the console's actions are: who and why."""

import csv
import io
import json
import sys
from typing import Any

import pytest

from common.operations.lookup import find, takeaway
from tests.support.audited import SINK, Tampering
from tests.support.database import execute
from tests.support.orderctl import Said, orderctl
from tests.support.relaying import owe
from tests.support.sandbox import Sandbox

WHO = ["--operator", "olga@example.com", "--reason", "a test"]


def recorded(world: Tampering) -> list[tuple[Any, ...]]:
    columns = "action, operator, reason, order_id, outcome"
    return [
        tuple(row)
        for row in execute(
            world.url, f"SELECT {columns} FROM operator_actions ORDER BY id"
        )
    ]


def new_ones(world: Tampering, *arguments: object, **settings: str) -> Any:
    """Run a command; return what it has recorded."""
    before = len(recorded(world))
    said = orderctl(world.url, *arguments, **settings)
    assert said.status == 0, said.err + said.out
    return recorded(world)[before:]


def letter(world: Tampering) -> tuple[int, int]:
    [[id_, order_id], *_] = execute(
        world.url,
        "SELECT id, order_id FROM dead_letters WHERE settled_as IS NULL ORDER BY id",
    )
    return id_, order_id


@pytest.mark.parametrize(
    ("command", "participle"), [("replay", "replayed"), ("discard", "discarded")]
)
def test_a_dead_letter_that_is_settled(
    world: Tampering, command: str, participle: str
) -> None:
    id_, order_id = letter(world)
    sure = ["--yes"] if command == "discard" else []
    [made] = new_ones(world, "dead-letters", command, id_, *sure, *WHO)
    assert made == (
        f"{command}-letter",
        "olga@example.com",
        "a test",
        order_id,
        participle,
    )


def test_all_letters_of_one_reason(world: Tampering) -> None:
    execute(
        world.url,
        "INSERT INTO dead_letters (source, reason, body)"
        " SELECT 'approval', 'unreadable', '' FROM generate_series(1, 3)",
    )
    given = ["--all", "--cause", "unreadable", "--yes", *WHO]
    [made] = new_ones(world, "dead-letters", "discard", *given)
    assert (made[0], made[4]) == ("discard-letters", "discarded 3 of 3 dead letters")
    left = "SELECT count(*) FROM dead_letters WHERE settled_as IS NULL"
    assert execute(world.url, left) == [[2]]


def test_an_event_that_is_confirmed_or_sent_again(world: Tampering) -> None:
    [[event_id, order_id]] = execute(
        world.url, "SELECT event_id, order_id FROM outbox WHERE held_since IS NOT NULL"
    )
    given = [event_id, "--destination", SINK, "--yes", *WHO]
    [made] = new_ones(world, "events", "confirm", *given)
    assert made[0] == "confirm-event"
    assert made[3:] == (order_id, f"{SINK}: confirmed")
    [made] = new_ones(world, "events", "resend", event_id, "--yes", *WHO)
    assert made[0] == "resend-event"
    assert made[3:] == (order_id, f"{SINK}: resent")


def test_repairs_and_sweeps(world: Tampering, sandbox: Sandbox) -> None:
    [made] = new_ones(world, "relay", "--once", **sandbox.environ)
    assert made[:1] == ("relay-once",)
    assert made[2] == "no reason given"
    before = len(recorded(world))
    orderctl(world.url, "doctor", "--fix", *WHO, **sandbox.environ)
    [fixed] = recorded(world)[before:]
    assert fixed[:3] == ("doctor-fix", "olga@example.com", "a test")
    assert fixed[4].startswith("approved ")


def test_what_is_refused(world: Tampering) -> None:
    id_, order_id = letter(world)
    orderctl(world.url, "dead-letters", "discard", id_, "--yes", *WHO)
    before = len(recorded(world))
    said = orderctl(world.url, "dead-letters", "replay", id_)
    assert said.status == 1
    [made] = recorded(world)[before:]
    assert made[3] == order_id
    assert made[4].startswith("refused: ")


@pytest.mark.parametrize(
    "command",
    [
        ["dead-letters", "discard", 1, "--yes"],
        ["events", "confirm", "0" * 32, "--destination", SINK, "--yes"],
    ],
)
def test_what_is_given_up_needs_a_reason(world: Tampering, command: list[Any]) -> None:
    said = orderctl(world.url, *command)
    assert said.status == 2
    assert "--reason" in said.err
    assert orderctl(world.url, *command, "--reason", " ").status == 2


def test_an_order_is_shown_with_what_was_done_to_it(world: Tampering) -> None:
    id_, order_id = letter(world)
    orderctl(world.url, "dead-letters", "discard", id_, "--yes", *WHO)
    said = orderctl(world.url, "orders", "show", order_id)
    assert said.status == 0, said.err
    assert "Order created" in said.out
    assert f"Operator: Discard dead letter {id_}: discarded" in said.out
    found = orderctl(world.url, "orders", "show", order_id, "--json").json
    assert found["order"]["id"] == found["id"] == order_id
    assert found["timeline"]
    assert orderctl(world.url, "orders", "show", 10**9).status == 1


def lines(said: Said) -> list[str]:
    assert (said.status, said.err) == (0, "")
    return said.out.splitlines()


def test_orders_are_found_and_taken_away(world: Tampering) -> None:
    [[total]] = execute(world.url, "SELECT count(*) FROM orders")
    found = orderctl(world.url, "orders", "find", "--json", "--limit", 2).json
    assert (found["count"], len(found["orders"])) == (total, 2)
    rest = orderctl(
        world.url, "orders", "find", "--json", "--after", found["next_after"]
    ).json
    assert len(rest["orders"]) == total - 2
    given = ["--filter", "is_approved=true"]
    approved = orderctl(world.url, "orders", "find", "--json", *given).json
    assert 0 < len(approved["orders"]) < total
    assert all(order["is_approved"] for order in approved["orders"])
    rows = list(csv.DictReader(lines(orderctl(world.url, "orders", "export"))))
    assert len(rows) == total
    last = rows[1]["id"]
    resumed = lines(orderctl(world.url, "orders", "export", "--resume", last))
    assert len(resumed) == total - 2
    as_json = lines(
        orderctl(world.url, "orders", "export", "--format", "ndjson", *given)
    )
    assert [json.loads(line)["id"] for line in as_json] == [
        order["id"] for order in approved["orders"]
    ]
    assert lines(orderctl(world.url, "orders", "export", "--json", *given)) == as_json


def test_a_list_is_printed_as_it_is_read(
    world: Tampering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page is read before the lines of the one before it are out."""
    printed, read_page = [], find.find

    def read(*arguments: Any, **named: Any) -> Any:
        assert isinstance(sys.stdout, io.StringIO)
        printed.append(sys.stdout.getvalue().count("\n"))
        return read_page(*arguments, **named)

    monkeypatch.setattr(takeaway, "PAGE", 2)
    monkeypatch.setattr(find, "find", read)
    lines(orderctl(world.url, "orders", "export", "--format", "ndjson"))
    assert len(printed) > 2
    assert printed == list(range(0, 2 * len(printed), 2))


@pytest.mark.parametrize("given", ["x", "x=1", "status=9", "created_after=soon"])
def test_a_wrong_filter_is_wrong_usage(world: Tampering, given: str) -> None:
    for command in ("find", "export"):
        said = orderctl(world.url, "orders", command, "--filter", given)
        assert said.status == 2
        assert "--filter" in said.err


def test_other_lists_are_taken_away(world: Tampering) -> None:
    pending = lines(orderctl(world.url, "events", "export", "--json"))
    assert len(pending) == len(execute(world.url, "SELECT id FROM outbox"))
    given = ["--filter", "all=true", "--json"]
    letters = lines(orderctl(world.url, "dead-letters", "export", *given))
    assert len(letters) == len(execute(world.url, "SELECT id FROM dead_letters"))
    actions = lines(orderctl(world.url, "actions", "export", "--json"))
    assert len(actions) == len(recorded(world))


def test_events_are_hurried(database_url: str) -> None:
    owe(database_url, 4, "{}", to=SINK)
    execute(
        database_url,
        "UPDATE outbox SET available_at = now() + interval '1 hour', last_error = 'x'",
    )
    failed = orderctl(database_url, "events", "list", "--failed", "--json").json
    assert len(failed["events"]) == 1
    said = orderctl(database_url, "events", "hurry", "--destination", SINK, "--json")
    assert said.json == {"due": 1}
    due = "SELECT available_at <= now() FROM outbox"
    assert execute(database_url, due) == [[True]]
