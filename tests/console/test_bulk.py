"""Many at once: all dead letters with one reason, and all that waits for its turn."""

import uuid
from typing import Any

import pytest

from tests.support.console import Console, Json, read
from tests.support.service import Service


@pytest.fixture
def group(service: Service, user: str) -> Json:
    """Three dead letters with one reason, and one with another."""
    reason = f"refused {uuid.uuid4()}"
    ids = []
    for n in range(4):
        order = service.ordered(user, 1)
        [row] = service.rows(
            "INSERT INTO dead_letters (source, reason, destination, order_id, event_id,"
            " event_type, headers, body) SELECT 'outbox', :reason, 'http', :id,"
            " CAST(h.event_id AS text), 'order.created', '{}', '{\"a\": 1}'"
            " FROM order_history h WHERE h.order_id = :id AND h.kind = 'order.created'"
            " RETURNING id",
            id=order["id"],
            reason=reason if n < 3 else f"{reason}, too",
        )
        ids.append(int(row["id"]))
    return {"reason": reason, "ids": ids[:3], "other": ids[3]}


def asked(group: Json, up_to: int | None = None) -> dict[str, Any]:
    return {
        "source": "outbox",
        "destination": "http",
        "cause": group["reason"],
        "up_to": up_to or max(group["ids"]),
    }


def settled(service: Service, group: Json) -> list[str | None]:
    rows = service.rows(
        "SELECT settled_as FROM dead_letters WHERE id >= :first ORDER BY id",
        first=min(group["ids"]),
    )
    return [row["settled_as"] for row in rows]


def test_letters_are_listed_by_reason_with_how_many(
    console: Console, group: Json
) -> None:
    text = console.text("letters/")
    assert f"{group['reason']} outbox to http 3" in text
    assert "Replay all 3…" in text


def test_a_preview_says_how_many_and_which(console: Console, group: Json) -> None:
    text = read(console.ask("replay-letters", **asked(group))).text
    first, second, third = group["ids"]
    assert f"3 dead letters: {first}, {second}, {third}." in text
    assert "They are of 3 orders" in text
    assert group["reason"] in text


@pytest.mark.parametrize(
    ("action", "state"),
    [("replay-letters", "replayed"), ("discard-letters", "discarded")],
)
def test_all_of_a_reason_are_settled_and_no_other(
    service: Service, console: Console, group: Json, action: str, state: str
) -> None:
    assert console.act(action, **asked(group)).status_code == 303
    assert settled(service, group) == [state] * 3 + [None]
    made = console.actions()[-1]
    assert made["outcome"] == f"{state} 3 dead letters"
    assert made["given"]["cause"] == group["reason"]
    shown = console.text(f"actions/{made['id']}/")
    assert "dead letters with this reason" in shown


def test_only_what_was_seen_is_settled(
    service: Service, console: Console, group: Json
) -> None:
    """A letter that arrives after the page was made is left for another look."""
    seen = asked(group, up_to=group["ids"][1])
    assert console.act("discard-letters", **seen).status_code == 303
    assert settled(service, group) == ["discarded"] * 2 + [None] * 2


def test_a_group_that_is_gone_is_told(console: Console, group: Json) -> None:
    fields = asked(group)
    console.act("discard-letters", **fields)
    assert console.ask("discard-letters", **fields).status_code == 404


def test_what_waits_for_its_next_attempt_is_due_at_once(
    service: Service, console: Console
) -> None:
    service.has_made_up_events = True
    service.rows(
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " available_at, last_error, failed_at, held_since) SELECT 'elsewhere', 900 + n,"
        " gen_random_uuid(), 'order.deleted', '{}', now() + interval '1 hour',"
        " 'answered 500', now(), CASE WHEN n = 3 THEN now() END"
        " FROM generate_series(1, 3) n RETURNING id"
    )
    home = console.text("")
    assert "elsewhere: 3 pending" in home
    assert "answered 500" in home
    assert "Send to elsewhere now…" in home
    assert (
        "failed events for elsewhere"
        in read(console.ask("send-due", destination="elsewhere")).text
    )
    assert console.act("send-due", destination="elsewhere").status_code == 303
    assert console.actions()[-1]["outcome"] == "2 events are due now"
    rows = service.rows(
        "SELECT available_at <= now() AS is_due FROM outbox"
        " WHERE destination = 'elsewhere' ORDER BY id"
    )
    assert [row["is_due"] for row in rows] == [True, True, False]
