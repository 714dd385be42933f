"""`orderctl dead-letters`: looking at what was given up, replaying, discarding."""

import json
from functools import partial
from typing import Any
from unittest import mock

import pytest

from common import approval
from common.database.engine import connect
from common.errors import BusyError
from common.messaging import dead_letters
from common.messaging.dead_letters import DeadLetter, keep
from common.messaging.pending import Bus
from common.operations.lookup import letters as lookup
from tests.support.audited import SINK, Tampering, never
from tests.support.bodies import status_event
from tests.support.database import execute
from tests.support.orderctl import Said, orderctl
from tests.support.parallel import at_once
from tests.support.relaying import column, engine_on
from tests.support.sandbox import Sandbox

JUNK = b"\xff\x00 no text"
EVENT = {"content-type": "application/json", "ce-id": "x", "ce-type": "y"}


def letters(url: str, *arguments: object) -> Said:
    return orderctl(url, "dead-letters", *arguments)


def settled(url: str, *arguments: object) -> tuple[list[int], list[int]]:
    """Return the ids that a command settled, and those that it could not."""
    said = letters(url, *arguments, "--json")
    failed = [failure["id"] for failure in said.json["failed"]]
    assert said.status == (1 if failed else 0), said.err
    return said.json["done"], failed


SURE = ["--yes", "--reason", "a test"]


def open_ids(world: Tampering) -> list[int]:
    return list(lookup.open_ids(world.engine))


def message(world: Tampering, order_id: object, **changes: object) -> int:
    """Keep a message that came in and was given up; return the letter's id."""
    body = json.dumps(status_event(order_id, **changes)).encode()
    with connect(world.engine) as connection:
        keep(connection, DeadLetter("approval", "told so", body, EVENT))
    return max(open_ids(world))


# list and show


def test_open_letters_are_listed_oldest_first(world: Tampering) -> None:
    message(world, 4)
    said = letters(world.url, "list", "--json").json["dead_letters"]
    assert [letter["id"] for letter in said] == open_ids(world)
    assert [letter["source"] for letter in said] == ["outbox", "outbox", "approval"]
    assert {letter["settled_as"] for letter in said} == {None}
    assert {"headers", "body"}.isdisjoint(said[0])
    only = letters(world.url, "list", "--source", "approval", "--json").json
    assert [letter["source"] for letter in only["dead_letters"]] == ["approval"]


def test_settled_letters_are_listed_where_all_are_asked_for(world: Tampering) -> None:
    said = letters(world.url, "list", "--all", "--json").json["dead_letters"]
    kinds = [letter["settled_as"] for letter in said]
    assert kinds == ["discarded"] * 2 + ["replayed"] * 2 + [None] * 2
    page = letters(world.url, "list", "--all", "--after", said[3]["id"], "--json").json
    assert [letter["id"] for letter in page["dead_letters"]] == open_ids(world)


def test_a_person_sees_a_table_of_letters(world: Tampering) -> None:
    first, _ = open_ids(world)
    said = letters(world.url, "list", "--limit", 1).out.splitlines()
    assert said[0].split("  ")[0] == "ID"
    assert said[1].startswith(f"{first}  ")
    assert said[1].endswith("answered 422")
    assert said[2] == f"… perhaps more: --after {first}"
    world.run("TRUNCATE dead_letters")
    assert letters(world.url, "list").out == "no dead letters\n"


def test_a_letter_is_shown_with_headers_and_body(world: Tampering) -> None:
    letter_id = message(world, "4")
    said = letters(world.url, "show", letter_id, "--json").json
    assert json.loads(said["body_text"]) == status_event("4")
    assert said["headers"] == EVENT
    told = letters(world.url, "show", letter_id).out
    assert said["body_text"] in told
    assert "  ce-id         x\n" in told


@pytest.mark.parametrize("body", [JUNK, b"\x1b[2J", b"a\0b"])
def test_a_body_that_is_no_text_is_shown_in_hexadecimal(
    world: Tampering, body: bytes
) -> None:
    with connect(world.engine) as connection:
        keep(connection, DeadLetter("approval", "told so", body, {}))
    letter_id = max(open_ids(world))
    assert (
        letters(world.url, "show", letter_id, "--json").json["body_hex"] == body.hex()
    )
    told = letters(world.url, "show", letter_id).out
    assert f"body, in hexadecimal:\n{body.hex(' ', 4)}\n" in told


@pytest.mark.parametrize("command", ["show", "replay", "discard"])
def test_a_letter_that_does_not_exist_is_told_in_a_line(
    world: Tampering, command: str
) -> None:
    yes = SURE if command == "discard" else []
    said = letters(world.url, command, 999, *yes)
    assert said.status == 1
    assert "There is no dead letter 999." in said.out + said.err


# replay


def test_an_event_goes_back_to_the_outbox_as_the_same_event(world: Tampering) -> None:
    first, second = open_ids(world)
    shared = "destination, order_id, CAST(event_id AS text), event_type"
    [letter] = world.run(
        f"SELECT {shared}, convert_from(body, 'UTF8'), headers ->> 'traceparent'"
        f" FROM dead_letters WHERE id = {second}"
    )
    assert settled(world.url, "replay", second) == ([second], [])
    [row] = world.run(
        f"SELECT {shared}, body, traceparent FROM outbox WHERE order_id = {{dead}}"
    )
    assert row == letter
    [[attempts, doubts, is_resend]] = world.run(
        "SELECT attempts, doubts, is_resend FROM outbox WHERE order_id = {dead}"
    )
    assert (attempts, doubts, is_resend) == (0, 0, True)
    [[moments]] = world.run(  # as when it happened
        "SELECT count(*) FROM outbox o JOIN order_history h USING (order_id, event_id)"
        " WHERE o.order_id = {dead} AND o.created_at = h.changed_at"
    )
    assert moments == 1
    assert open_ids(world) == [first]
    assert world.differences() == set()


def test_a_replayed_event_that_is_refused_again_is_one_open_letter(
    world: Tampering, sandbox: Sandbox
) -> None:
    [first, *_] = open_ids(world)
    settled(world.url, "replay", first)
    world.run("UPDATE outbox SET attempts = 19 WHERE order_id = {dead}")
    sandbox.fault("sink", status=422)
    orderctl(world.url, "relay", "--once", **sandbox.environ)
    again = "SELECT count(*) FROM dead_letters d WHERE settled_as IS NULL AND"
    same = f"event_id = (SELECT event_id FROM dead_letters WHERE id = {first})"
    assert world.run(f"{again} {same}") == [[1]]
    assert world.differences() == set()


def complete(world: Tampering) -> int:
    return world.orders["complete"]


def is_approved(world: Tampering) -> bool:
    [[approved]] = world.run("SELECT is_approved FROM orders WHERE id = {complete}")
    return bool(approved)


def test_a_message_is_read_again_and_does_what_it_would_have_done(
    world: Tampering,
) -> None:
    """`world.engine` has one connection: what waits for a second waits for ever."""
    letter_id = message(world, complete(world))

    def take(headers: Any, body: bytes) -> object:
        return approval.take(world.engine, headers, body, Bus((SINK,)))

    assert dead_letters.replay(world.engine, letter_id, take)
    assert is_approved(world)
    assert letter_id not in open_ids(world)
    assert world.differences() == set()


def test_a_message_that_still_makes_no_sense_stays_one_open_letter(
    world: Tampering,
) -> None:
    letter_id = message(world, "none")
    count = column(world.url, "id", "dead_letters")
    for _ in range(2):
        assert settled(world.url, "replay", letter_id) == ([], [letter_id])
    told = letters(world.url, "replay", letter_id)
    assert f"! Dead letter {letter_id}: still order_id must be" in told.out
    assert column(world.url, "id", "dead_letters") == count
    assert letter_id in open_ids(world)


def test_a_message_that_could_not_be_taken_for_now_stays_open(world: Tampering) -> None:
    letter_id = message(world, complete(world))
    with mock.patch.object(approval, "take", side_effect=BusyError):
        said = letters(world.url, "replay", letter_id)
    assert (said.status, said.err) == (1, "orderctl: the database is busy: try again\n")
    assert letter_id in open_ids(world)


def test_all_open_letters_are_replayed_and_failures_hold_up_no_other(
    world: Tampering,
) -> None:
    events = open_ids(world)
    broken = message(world, "none")
    good = message(world, complete(world))
    by_source = settled(world.url, "replay", "--all", "--source", "outbox")
    assert by_source == (events, [])
    assert settled(world.url, "replay", "--all") == ([good], [broken])
    assert open_ids(world) == [broken]


def test_many_letters_are_found_in_steps(world: Tampering) -> None:
    for _ in range(3):
        message(world, 4)
    found = lookup.open_ids(world.engine, lookup.Query(limit=2))
    assert list(found) == open_ids(world)
    assert len(found) == 5


@pytest.mark.parametrize(
    "arguments", [[], [1, "--all"], [1, "--source", "outbox"], ["x"], [0]]
)
def test_which_letters_are_meant_must_be_said(
    world: Tampering, arguments: list[Any]
) -> None:
    said = letters(world.url, "replay", *arguments)
    assert (said.status, said.out) == (2, "")


# discard


def test_a_discarded_letter_is_settled_and_can_still_be_read(world: Tampering) -> None:
    first, second = open_ids(world)
    assert settled(world.url, "discard", first, *SURE) == ([first], [])
    assert open_ids(world) == [second]
    assert letters(world.url, "show", first, "--json").json["settled_as"] == "discarded"
    assert world.differences() == set()


@pytest.mark.parametrize(
    ("answer", "status"), [(None, 2), ("", 2), ("no", 2), ("y", 0)]
)
def test_letters_are_discarded_only_where_somebody_says_yes(
    world: Tampering, answer: str | None, status: int
) -> None:
    ids = open_ids(world)
    said = orderctl(
        world.url, "dead-letters", "discard", *ids, *SURE[1:], answer=answer
    )
    assert said.status == status
    assert open_ids(world) == ([] if status == 0 else ids)


@pytest.mark.parametrize("command", [["replay"], ["discard", *SURE]])
def test_what_is_settled_is_not_settled_again(
    world: Tampering, command: list[str]
) -> None:
    found = letters(world.url, "list", "--all", "--json").json["dead_letters"]
    for kind in ("discarded", "replayed"):
        letter_id = next(each["id"] for each in found if each["settled_as"] == kind)
        before = execute(world.url, "SELECT count(*) FROM outbox")
        assert settled(world.url, *command, letter_id) == ([], [letter_id])
        assert f"was {kind} already" in letters(world.url, *command, letter_id).out
        assert execute(world.url, "SELECT count(*) FROM outbox") == before


# Two operators at once.


def test_operators_at_once_settle_a_letter_once(world: Tampering) -> None:
    first, second = open_ids(world)

    def attempt(what: Any, *arguments: Any) -> bool:
        try:
            return bool(what(engine, *arguments))
        except dead_letters.ConflictError:
            return False

    with engine_on(world.url, 6) as engine:
        replay = partial(attempt, dead_letters.replay, first, never)
        assert sorted(at_once([replay] * 6)) == [False] * 5 + [True]
        assert column(world.url, "order_id").count(world.orders["dead"]) == 1
        replay = partial(attempt, dead_letters.replay, second, never)
        discard = partial(attempt, dead_letters.discard, second)
        assert sorted(at_once([replay, discard] * 3)) == [False] * 5 + [True]
    assert world.differences() == set()


def test_who_comes_second_changes_nothing(
    world: Tampering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the letter open; the first has settled it since."""
    [first, *_] = open_ids(world)
    assert dead_letters.discard(world.engine, first)
    monkeypatch.setattr(dead_letters, "_check_open", lambda _letter: None)
    before = world.run("SELECT CAST(d AS text) FROM dead_letters d ORDER BY id")
    assert not dead_letters.discard(world.engine, first)
    assert not dead_letters.replay(world.engine, first, never)
    after = world.run("SELECT CAST(d AS text) FROM dead_letters d ORDER BY id")
    assert after == before
    assert letters(world.url, "discard", first, *SURE, "--json").json["failed"] == [
        {
            "id": first,
            "reason": f"Another operator was faster with dead letter {first}.",
        }
    ]
