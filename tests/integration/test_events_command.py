"""`orderctl events`: finding events wherever they are, sending again, confirming."""

import json
import uuid
from contextlib import closing
from typing import Any

import pytest

from common.operations import event_log
from tests.support.audited import SINK, Tampering
from tests.support.database import connect
from tests.support.orderctl import orderctl
from tests.support.parallel import at_once
from tests.support.relaying import Recorder, column, engine_on, owe, relay_to

NOBODY = uuid.UUID(int=9)

SURE = ["--yes", "--reason", "a test"]


def event_of(
    world: Tampering, name: str, kind: str = "order.created"
) -> tuple[str, int]:
    """Return the event's id, and its order's."""
    [[event_id]] = world.run(
        f"SELECT event_id FROM order_history WHERE order_id = {{{name}}}"
        f" AND kind = '{kind}'"
    )
    return str(event_id), world.orders[name]


def listed(world: Tampering, *arguments: object) -> list[dict[str, Any]]:
    said = orderctl(world.url, "events", "list", "--json", *arguments)
    assert (said.status, said.err) == (0, "")
    found: list[dict[str, Any]] = said.json["events"]
    return found


def places(url: str, event_id: str, order_id: int) -> list[tuple[str, bool]]:
    said = orderctl(url, "events", "show", event_id, "--order", order_id, "--json")
    assert said.status == 0, said.err
    return [(row["place"], row["is_resend"]) for row in said.json["events"]]


# list


def test_pending_events_are_listed_oldest_first(world: Tampering) -> None:
    found = listed(world)
    assert [row["id"] for row in found] == column(world.url, "id")
    assert {row["order_id"] for row in found} == {
        world.orders["held"],
        world.orders["owed"],
    }
    assert [row["place"] for row in found] == ["held"] + ["pending"] * 6
    assert all(row["body"] is None for row in found)
    assert found[1]["reason"] == "answered 503"


def test_the_list_can_be_narrowed(world: Tampering) -> None:
    pending, held = world.orders["owed"], world.orders["held"]
    owe(world.url, 77, "{}", to="analytics", event_type="order.deleted")
    assert {row["order_id"] for row in listed(world, "--order", pending)} == {pending}
    assert [row["order_id"] for row in listed(world, "--held")] == [held]
    assert listed(world, "--held", "--order", pending) == []
    assert [r["order_id"] for r in listed(world, "--destination", "analytics")] == [77]
    assert [r["order_id"] for r in listed(world, "--type", "order.deleted")] == [77]
    types = {r["event_type"] for r in listed(world, "--type", "order.approved")}
    assert types == {"order.approved"}
    both = "--order", 77, "--destination", SINK
    assert listed(world, *both) == []
    assert len(listed(world, "--limit", 2)) == 2


def test_sent_events_are_listed_newest_first(world: Tampering) -> None:
    found = listed(world, "--sent", "--limit", 500)
    assert [row["id"] for row in found] == column(world.url, "id", "sent_events")[::-1]
    assert all(row["place"] == "sent" and row["sent_at"] for row in found)
    approved = world.orders["approved"]
    of_one = listed(world, "--sent", "--order", approved, "--destination", "analytics")
    assert [row["order_id"] for row in of_one] == [approved]
    assert len(listed(world, "--sent", "--order", approved, "--limit", 2)) == 2


def test_a_person_sees_a_table(world: Tampering) -> None:
    said = orderctl(world.url, "events", "list", "--limit", 2)
    heading, first, second, more = said.out.splitlines()
    assert heading.split("  ")[0] == "ORDER ID"
    assert heading.index("EVENT ID") == first.index(event_of(world, "held")[0])
    assert first.split()[0] == str(world.orders["held"])
    assert "answered 503" in second
    assert more.startswith("… perhaps more: --after ")
    none = orderctl(world.url, "events", "list", "--order", 999)
    assert none.out == "no pending events\n"


# show


def test_an_event_is_shown_for_each_destination(world: Tampering) -> None:
    event_id, order_id = event_of(world, "approved", "order.approved")
    said = orderctl(world.url, "events", "show", event_id, "--json")
    rows = {row["destination"]: row for row in said.json["events"]}
    assert rows.keys() == {"analytics", SINK}
    assert json.loads(rows["analytics"]["body"])["id"] == str(order_id)
    assert rows[SINK]["event_type"] == "order.approved"
    told = orderctl(world.url, "events", "show", event_id.upper())
    assert rows[SINK]["body"] in told.out
    assert f"order     {order_id}\n" in told.out


def test_an_event_is_found_by_its_id_alone(
    world: Tampering, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 3, 50_000):
        monkeypatch.setattr(event_log, "STEP", step)
        for name in ("fresh", "owed", "held", "dead"):
            event_id, order_id = event_of(world, name)
            found = event_log.find_order(world.engine, uuid.UUID(event_id))
            assert found == order_id


def test_a_dead_event_says_why_it_died_and_what_became_of_it(world: Tampering) -> None:
    for name, settled in (("dead", None), ("discarded", "discarded")):
        event_id, _ = event_of(world, name)
        said = orderctl(world.url, "events", "show", event_id, "--json")
        [row] = said.json["events"]
        assert (row["place"], row["settled_as"]) == ("dead", settled)
        assert (row["reason"], row["attempts"]) == ("answered 422", 20)
        told = orderctl(world.url, "events", "show", event_id).out
        assert f"dead, {settled or 'open'}" in told


def test_a_message_that_came_in_with_the_id_of_an_event_is_not_taken_for_it(
    world: Tampering,
) -> None:
    event_id, order_id = event_of(world, "fresh")
    world.run(
        "INSERT INTO dead_letters (source, reason, event_id, order_id, body)"
        f" VALUES ('approval', 'x', '{event_id}', 5, '')"
    )
    assert event_log.find_order(world.engine, uuid.UUID(event_id)) == order_id
    assert places(world.url, event_id, order_id) == [("sent", False)]


@pytest.mark.parametrize("command", ["show", "resend", "confirm"])
def test_an_event_that_nobody_knows_is_told_in_a_line(
    world: Tampering, command: str
) -> None:
    more = {"resend": ["--yes"], "confirm": ["--destination", SINK, *SURE]}
    given = [command, NOBODY, *more.get(command, [])]
    said = orderctl(world.url, "events", *given)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith(f"orderctl: There is no event {NOBODY}")
    said = orderctl(world.url, "events", *given, "--order", 1)
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert orderctl(world.url, "events", command, "x").status == 2


# resend


def resend(url: str, *arguments: object) -> dict[str, str]:
    said = orderctl(url, "events", "resend", "--yes", "--json", *arguments)
    assert said.status == 0, said.err
    return {done["destination"]: done["action"] for done in said.json["done"]}


def test_a_held_event_is_released_and_then_goes_out(world: Tampering) -> None:
    event_id, order_id = event_of(world, "held")
    world.run("DELETE FROM outbox WHERE order_id <> {held}")
    assert resend(world.url, event_id) == {SINK: "released"}
    assert places(world.url, event_id, order_id) == [("pending", True)]
    sink = Recorder()
    with relay_to(world.url, hold_doubtful_order_created=True, **{SINK: sink}) as relay:
        relay.sweep(5)
    assert [message.event_id for message in sink.sent] == [event_id]
    assert places(world.url, event_id, order_id) == [("sent", True)]
    assert world.differences() == {("owed", "event-lost")}


def test_a_sent_event_becomes_owed_once_more_as_the_same_event(
    world: Tampering,
) -> None:
    event_id, order_id = event_of(world, "fresh")
    shared = "event_id, event_type, destination, order_id, body, traceparent"
    [sent] = world.run(
        f"SELECT {shared}, created_at FROM sent_events WHERE event_id = '{event_id}'"
    )
    assert resend(world.url, event_id) == {SINK: "resent"}
    [again] = world.run(
        f"SELECT {shared}, created_at FROM outbox WHERE order_id = {{fresh}}"
    )
    assert again == sent
    assert places(world.url, event_id, order_id) == [("sent", False), ("pending", True)]
    # Once more, before that has gone out, is no third time.
    assert resend(world.url, event_id) == {SINK: "due"}
    assert column(world.url, "order_id").count(order_id) == 1
    assert world.differences() == set()


def test_a_pending_event_is_due_now(world: Tampering) -> None:
    event_id, order_id = event_of(world, "owed")
    later = "UPDATE outbox SET available_at = now() + interval '1 hour', attempts = 7"
    world.run(later)
    assert resend(world.url, event_id, "--order", order_id) == {SINK: "due"}
    due = "SELECT event_id, is_resend FROM outbox WHERE available_at <= now()"
    assert world.run(due) == [[uuid.UUID(event_id), False]]


def test_an_event_that_is_being_sent_is_left_alone(world: Tampering) -> None:
    event_id, _ = event_of(world, "owed")
    world.run(
        "UPDATE outbox SET sending_since = now(),"
        " available_at = now() + interval '1 minute'"
    )
    before = world.run("SELECT CAST(x AS text) FROM outbox x ORDER BY id")
    assert resend(world.url, event_id) == {SINK: "sending"}
    assert world.run("SELECT CAST(x AS text) FROM outbox x ORDER BY id") == before
    world.run("UPDATE outbox SET available_at = now() - interval '1 minute'")
    assert resend(world.url, event_id) == {SINK: "due"}


def test_an_event_is_sent_to_all_or_to_the_one_that_is_named(world: Tampering) -> None:
    event_id, order_id = event_of(world, "approved", "order.approved")
    done = resend(world.url, event_id, "--destination", "analytics")
    assert done == {"analytics": "resent"}
    assert resend(world.url, event_id) == {"analytics": "due", SINK: "resent"}
    assert column(world.url, "order_id").count(order_id) == 2
    given = "resend", event_id, "--yes", "--destination", "nowhere"
    said = orderctl(world.url, "events", *given)
    assert said.status == 1
    assert f"is not for nowhere, but for analytics, {SINK}." in said.err


def test_a_dead_event_is_not_sent_past_its_letter(world: Tampering) -> None:
    for name, said in (("dead", "replay that"), ("discarded", "was discarded")):
        event_id, _ = event_of(world, name)
        answer = orderctl(world.url, "events", "resend", event_id, "--yes")
        assert (answer.status, answer.out) == (1, "")
        assert said in answer.err
    assert world.differences() == set()


def test_two_operators_at_once_send_it_once_more(world: Tampering) -> None:
    event_id, order_id = event_of(world, "fresh")
    with engine_on(world.url, 6) as engine:
        done = at_once(
            [lambda: event_log.resend(engine, uuid.UUID(event_id), order_id)] * 6
        )
    actions = sorted(one.action for [one] in done)
    assert actions == ["due"] * 5 + ["resent"]
    assert column(world.url, "order_id").count(order_id) == 1


# confirm


def test_a_confirmed_event_counts_as_sent_and_its_order_goes_on(
    world: Tampering,
) -> None:
    event_id, order_id = event_of(world, "held")
    given = "confirm", event_id, "--destination", SINK, *SURE
    said = orderctl(world.url, "events", *given, "--json")
    assert said.json == {
        "event_id": event_id,
        "order_id": order_id,
        "done": [{"destination": SINK, "action": "confirmed"}],
    }
    assert places(world.url, event_id, order_id) == [("sent", False)]
    [[doubts]] = world.run(
        f"SELECT doubts FROM sent_events WHERE event_id = '{event_id}'"
    )
    assert doubts == 0
    assert world.differences() == set()
    again = orderctl(world.url, "events", *given)
    assert (again.status, again.err.count("\n")) == (1, 1)
    assert "is not held" in again.err


def test_only_a_held_event_can_be_confirmed(world: Tampering) -> None:
    for name in ("fresh", "owed", "dead"):
        event_id, order_id = event_of(world, name)
        before = places(world.url, event_id, order_id)
        given = "confirm", event_id, "--destination", SINK, *SURE
        assert orderctl(world.url, "events", *given).status == 1
        assert places(world.url, event_id, order_id) == before


# Both ask, and tell relays.


@pytest.mark.parametrize("command", ["resend", "confirm"])
@pytest.mark.parametrize(
    ("answer", "status"), [(None, 2), ("", 2), ("n", 2), ("y", 0), ("YES", 0)]
)
def test_it_is_done_only_where_somebody_says_yes(
    world: Tampering, command: str, answer: str | None, status: int
) -> None:
    event_id, order_id = event_of(world, "held")
    given = ["events", command, event_id, "--destination", SINK, *SURE[1:]]
    said = orderctl(world.url, *given, answer=answer)
    assert said.status == status
    is_held = places(world.url, event_id, order_id) == [("held", False)]
    assert is_held == (status != 0)
    if answer is None:
        assert said.err == "orderctl: cannot ask without a terminal: use --yes\n"
    else:
        assert f"of order {order_id}" in said.err
        assert said.err.count("[y/N]") == 1


@pytest.mark.parametrize("command", ["resend", "confirm"])
def test_relays_hear_of_it_at_once(world: Tampering, command: str) -> None:
    event_id, _ = event_of(world, "held")
    with closing(connect(world.url)) as listener:
        listener.run("LISTEN outbox")
        given = ["events", command, event_id, "--destination", SINK, *SURE]
        assert orderctl(world.url, *given).status == 0
        listener.run("SELECT 1")
        assert [channel for _, channel, _ in listener.notifications] == ["outbox"]
