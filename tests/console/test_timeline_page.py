"""An order's timeline in the console: in words, in pages, and after its deletion."""

import re

import pytest

from tests.support.console import OPERATOR, Console, Json, read
from tests.support.service import Service

LONG = 205  # steps, of which a page has 200


@pytest.fixture
def order(service: Service, user: str) -> Json:
    return service.ordered(user, 1)


def live_long(service: Service, order: Json) -> None:
    """Give the order steps until it has `LONG`, the first of them a day from now."""
    service.rows(
        "INSERT INTO order_history (order_id, kind, item_id, from_status, to_status,"
        " from_quantity, to_quantity, changed_at) SELECT :id, 'item.changed', :item, 1,"
        " 1, n, n + 1, now() + make_interval(days => n)"
        " FROM generate_series(1, :steps - 2) n RETURNING id",
        id=order["id"],
        item=order["items"][0]["id"],
        steps=LONG,
    )


def act(service: Service, order: Json, after: str, reason: str) -> None:
    service.rows(
        "INSERT INTO operator_actions (form_id, operator, action, order_id, reason, at)"
        " VALUES (gen_random_uuid(), :operator, 'approve', :id, :reason,"
        " now() + CAST(:after AS interval)) RETURNING id",
        operator=OPERATOR,
        id=order["id"],
        after=after,
        reason=reason,
    )


def bury(service: Service, order: Json, source: str, after: str) -> None:
    """Bury the event that the order was created, or one that came in by that id."""
    service.rows(
        "INSERT INTO dead_letters (source, reason, order_id, event_id, event_type,"
        " destination, created_at, body) SELECT :source, :reason, :id,"
        " CAST(event_id AS text), 'order.created', 'http',"
        " now() + CAST(:after AS interval), 'x' FROM order_history"
        " WHERE order_id = :id AND kind = 'order.created' RETURNING id",
        source=source,
        reason=f"refused by {source}",
        id=order["id"],
        after=after,
    )


def lines(console: Console, path: str) -> list[str]:
    text = console.get(path).get_data(as_text=True)
    shown = re.findall(r'<li class="\w+">(.*?)</li>', text, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", "", line).split()) for line in shown]


def earlier(console: Console, path: str) -> str:
    """Return the path of the page before, or nothing."""
    links = read(console.get(path)).links
    return next((x.removeprefix("/ops/") for x in links if "before=" in x), "")


def test_long_life_is_shown_in_pages_newest_first_without_a_gap(
    service: Service, console: Console, order: Json
) -> None:
    live_long(service, order)
    newest = f"orders/{order['id']}/"
    older = earlier(console, newest)
    first, second = lines(console, older), lines(console, newest)
    assert len(second) == 200
    found = [re.findall(r"quantity (\d+) to", line) for line in first + second]
    changed = [int(n) for each in found for n in each]
    assert changed == list(range(1, LONG - 1))
    assert earlier(console, older) == ""
    assert f"/ops/{newest}" in read(console.get(older)).links


def test_what_no_step_tells_of_is_on_the_page_of_its_time(
    service: Service, console: Console, order: Json
) -> None:
    live_long(service, order)
    act(service, order, "1 hour", "early")
    act(service, order, "100 days", "late")
    bury(service, order, "approval", "100 days")
    bury(service, order, "outbox", "100 days")
    newest = f"orders/{order['id']}/"
    older = earlier(console, newest)
    said = ("early", "late", "refused by approval", "refused by outbox")
    told = {path: " ".join(lines(console, path)) for path in (older, newest)}
    assert {path: [s for s in said if s in told[path]] for path in told} == {
        older: ["early", "refused by outbox"],
        newest: ["late", "refused by approval"],
    }


@pytest.mark.parametrize("source", ["outbox", "approval"])
def test_dead_letter_is_on_the_page_once_wherever_it_is_from(
    service: Service, console: Console, order: Json, source: str
) -> None:
    bury(service, order, source, "0")
    found = lines(console, f"orders/{order['id']}/")
    [line] = [line for line in found if f"refused by {source}" in line]
    assert re.search(r"Dead letter \d+, open", line)


def test_event_that_waits_is_held_or_forgotten_is_told_apart(
    service: Service, console: Console, order: Json
) -> None:
    service.rows("DELETE FROM sent_events RETURNING id")
    service.rows(
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " attempts, doubts, held_since, sending_since, last_error) SELECT d.name,"
        " h.order_id, h.event_id, 'order.created', '{}', 2, 1, d.held, d.claimed, 'no'"
        " FROM order_history h, (VALUES ('http', now(), NULL), ('rabbitmq', NULL,"
        " now())) d(name, held, claimed)"
        " WHERE h.order_id = :id AND h.kind = 'order.created' RETURNING id",
        id=order["id"],
    )
    path = f"orders/{order['id']}/"
    text = " ".join(lines(console, path))
    html = console.get(path).get_data(as_text=True)
    classes = set(re.findall(r'<li class="(\w+)"', html))
    assert classes == {"history", "held", "pending"}
    assert "Event order.created to http: held, in doubt" in text
    assert "2 attempts; 1 in doubt; no" in text
    assert "Event order.created to rabbitmq: pending" in text
    assert text.count("Its event to http is no longer stored.") == 1


def test_order_that_is_deleted_keeps_operators_actions_and_deliveries(
    console: Console, order: Json, user: str
) -> None:
    response = console.act("delete-order", order=order["id"], version=1)
    assert response.status_code == 303
    text = " ".join(lines(console, f"orders/{order['id']}/"))
    assert f"Order deleted by {OPERATOR}" in text
    assert "This order was deleted" in console.text(f"orders/{order['id']}/")
    assert "Operator: Delete the order: done" in text
    assert "Event order.created to http: sent" in text
    assert f"by {user}" in text


def test_start_that_is_no_id_is_named(console: Console, order: Json) -> None:
    response = console.get(f"orders/{order['id']}/?before=x")
    assert response.status_code == 400
    assert "before:" in read(response).text
