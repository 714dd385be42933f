"""Dead letters and events: looked at, tried again, confirmed, given up; each once."""

from typing import Any

import pytest

from tests.support.console import Console, read
from tests.support.service import Service


@pytest.fixture
def order(service: Service, user: str) -> dict[str, Any]:
    return service.ordered(user, 1)


@pytest.fixture
def letter(service: Service, order: dict[str, Any]) -> int:
    """An event of the order that nobody took."""
    [row] = service.rows(
        "INSERT INTO dead_letters (source, reason, destination, order_id, event_id,"
        " event_type, headers, body) SELECT 'outbox', 'refused: <b>no</b>', 'http',"
        " :id, CAST(h.event_id AS text), 'order.created', '{}', '{\"a\": 1}'"
        " FROM order_history h WHERE h.order_id = :id AND h.kind = 'order.created'"
        " RETURNING id",
        id=order["id"],
    )
    return int(row["id"])


def test_letter_is_shown_with_why_and_what(console: Console, letter: int) -> None:
    assert "refused: <b>no</b>" in console.text("letters/")
    shown = console.text(f"letters/{letter}/")
    assert "order.created" in shown
    assert '{"a": 1}' in shown
    assert "<b>" not in console.get(f"letters/{letter}/").get_data(as_text=True)


def test_letter_is_replayed_once(
    service: Service, console: Console, letter: int, order: dict[str, Any]
) -> None:
    fields = console.form("replay-letter", letter=letter)
    first = console.send("replay-letter", fields)
    second = console.send("replay-letter", fields)
    assert (first.status_code, first.location) == (303, second.location)
    made = console.actions()[-1]
    assert (made["outcome"], made["order_id"]) == ("replayed", order["id"])
    again = service.rows(
        "SELECT is_resend FROM outbox WHERE order_id = :id AND is_resend",
        id=order["id"],
    )
    assert len(again) == 1
    assert "replayed" in console.text(f"letters/{letter}/")


def test_letter_is_given_up(console: Console, letter: int) -> None:
    assert console.act("discard-letter", letter=letter).status_code == 303
    assert f"Letter {letter}" not in console.text("letters/")
    assert "discarded" in console.text("letters/?all=true")


def test_letter_that_is_settled_is_refused_and_that_is_kept(
    console: Console, letter: int
) -> None:
    fields = console.form("discard-letter", letter=letter)
    other = console.form("replay-letter", letter=letter)
    console.send("discard-letter", fields)
    refused = console.send("replay-letter", other)
    assert refused.status_code == 409
    assert "was discarded already" in read(refused).text
    assert console.actions()[-1]["outcome"].startswith("refused:")


@pytest.fixture
def held(service: Service, order: dict[str, Any]) -> dict[str, Any]:
    """An event of the order that is held in doubt."""
    [row] = service.rows(
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " attempts, doubts, held_since) VALUES ('rabbitmq', :id, gen_random_uuid(),"
        " 'order.created', '{}', 1, 1, now())"
        " RETURNING order_id, CAST(event_id AS text) AS event_id",
        id=order["id"],
    )
    return {"order": row["order_id"], "event": row["event_id"]} | {
        "destination": "rabbitmq"
    }


def test_held_event_is_on_the_first_page_and_is_released(
    service: Service, console: Console, held: dict[str, Any]
) -> None:
    assert "held in doubt" in console.text("")
    assert str(held["order"]) in console.text("events/?place=held")
    assert console.act("resend-event", **held).status_code == 303
    assert console.actions()[-1]["outcome"] == "rabbitmq: released"
    [row] = service.rows(
        "SELECT held_since FROM outbox WHERE event_id = CAST(:id AS uuid)",
        id=held["event"],
    )
    assert row["held_since"] is None


def test_held_event_is_taken_for_sent(console: Console, held: dict[str, Any]) -> None:
    assert console.act("confirm-event", **held).status_code == 303
    assert console.actions()[-1]["outcome"] == "rabbitmq: confirmed"
    shown = console.text(f"events/{held['order']}/{held['event']}/")
    assert "To rabbitmq: sent" in shown


def test_event_of_nobody_is_not_found(console: Console, order: dict[str, Any]) -> None:
    path = f"events/{order['id']}/7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11/"
    assert console.get(path).status_code == 404
