"""Pages of the console, and dead letters and events to act on."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from common import wiring
from common.database.engine import connect
from common.operations.lookup import find
from common.operations.lookup.charts import TITLES
from tests.support.console import Console, Json, read
from tests.support.service import Service

STATIC_PAGES = (
    *("", "orders/", "events/", "events/?place=held", "events/?place=sent", "letters/"),
    *("letters/?all=true", "actions/", "charts/orders-hours/"),
    *("charts/backlog-days/", "charts/latency-hours/", "search/", "search/?q=x"),
)


@pytest.mark.parametrize("path", STATIC_PAGES)
def test_page_runs_no_script_and_loads_nothing(console: Console, path: str) -> None:
    response = console.get(path)
    text = response.get_data(as_text=True)
    assert response.status_code == 200, text
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert response.headers["Cache-Control"] == "no-store"
    assert not re.findall(r"<script|\son\w+=|style=|<style|https?://", text)


def test_page_has_one_heading_a_way_past_the_menu_and_labels(console: Console) -> None:
    for path in STATIC_PAGES:
        text = console.get(path).get_data(as_text=True)
        assert len(re.findall("<h1>", text)) == 1
        assert 'href="#content"' in text
        assert '<html lang="en">' in text
        fields = re.findall(r'<(?:input|select|textarea) id="([\w-]+)"', text)
        assert all(f'<label for="{name}"' in text for name in fields)


def test_order_page_has_story(service: Service, console: Console, user: str) -> None:
    order = service.ordered(user, 2)
    moved = service.move(order["items"][0]["id"], 2)
    text = console.text(f"orders/{order['id']}/")
    assert f"Order {order['id']}" in text
    assert "by the owner" in text
    assert f"Item {order['items'][0]['id']} changed, Processing to Shipped" in text
    assert moved.headers["X-Request-ID"] in text
    assert "Event order.created to http" in text


def test_unknown_order_is_a_page_that_says_so(console: Console) -> None:
    response = console.get("orders/999999999/")
    assert response.status_code == 404
    assert "There is no order 999999999" in read(response).text


@pytest.mark.parametrize(
    "path", ["nothing/", "charts/orders-weeks/", "do/nothing/?order=1"]
)
def test_what_is_not_there_is_a_page_too(console: Console, path: str) -> None:
    response = console.get(path)
    assert (response.status_code, response.mimetype) == (404, "text/html")


def test_users_text_is_no_markup(service: Service, console: Console, user: str) -> None:
    order = service.ordered(user, 1)
    bad = "<script>alert(1)</script>"
    body = {"metadata": {"note": bad, '"><img src=x>': "x"}}
    service.crud("PATCH", f"/api/orders/{order['id']}/", user, json=body)
    text = console.get(f"orders/{order['id']}/").get_data(as_text=True)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert "<img src=x" not in text


def found(console: Console, query: str) -> list[int]:
    links = read(console.get(f"orders/?{query}")).links
    ids = [re.fullmatch(r"/ops/orders/(\d+)/", link) for link in links]
    return [int(match[1]) for match in ids if match]


def test_orders_found_by_fields(service: Service, console: Console, user: str) -> None:
    first, second = service.ordered(user, 1), service.ordered(user, 1)
    service.move(first["items"][0]["id"], 2)
    shop = first["items"][0]["shop_id"]
    assert found(console, f"user_id={user}") == [second["id"], first["id"]]
    assert found(console, f"user_id={user}&status=2") == [first["id"]]
    assert found(console, f"user_id={user}&status=&shop_id=") != []
    assert first["id"] in found(console, f"shop_id={shop}&limit=200")
    assert found(console, f"user_id={user}&is_approved=true") == []
    assert found(console, f"shop_id={uuid.uuid4()}") == []


def test_orders_found_by_time(service: Service, console: Console, user: str) -> None:
    old, new = service.ordered(user, 1), service.ordered(user, 1)
    now = datetime.now(UTC)
    service.rows(
        "UPDATE orders SET created_at = now() - interval '2 days' WHERE id < :id",
        id=new["id"],
    )
    yesterday = (now - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    assert found(console, f"user_id={user}&created_after={yesterday}") == [new["id"]]
    assert found(console, f"user_id={user}&created_before={yesterday}") == [old["id"]]
    assert new["id"] in found(console, f"created_after={yesterday}")
    assert old["id"] not in found(console, f"created_after={yesterday}&limit=200")


def test_pages_leave_no_gap(service: Service, console: Console, user: str) -> None:
    ids = [service.ordered(user, 1)["id"] for _ in range(5)]
    query, seen = f"user_id={user}&limit=2", []
    while query:
        seen += found(console, query)
        page = read(console.get(f"orders/?{query}"))
        older = [link for link in page.links if "cursor=" in link]
        query = older[0].partition("?")[2] if older else ""
    assert seen == ids[::-1]


def test_search_without_an_index_is_in_steps(service: Service, user: str) -> None:
    ids = [service.ordered(user, 1)["id"] for _ in range(3)]
    seen, after, steps = [], None, 0
    filters = {"status": 2}  # nobody has moved one
    with connect(wiring.engine()) as connection:
        while steps < 3:
            page = find.find(connection, filters, limit=50, after=after, most=1)
            assert page.rows == []
            after, steps = page.next_after, steps + 1
            seen.append(after)
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("user_id=7", "user_id"),
        ("status=5", "status"),
        ("created_after=soon", "created_after"),
        ("cursor=!", "cursor"),
    ],
)
def test_bad_parameter_is_named(console: Console, query: str, name: str) -> None:
    response = console.get(f"orders/?{query}")
    assert response.status_code == 400
    assert f"{name}:" in read(response).text


def counted(console: Console) -> int:
    text = console.get("charts/orders-days/").get_data(as_text=True)
    rows = re.findall(r"<tr><th scope=\"row\">[^<]+</th><td>(\d+)</td>", text)
    assert len(rows) == 30
    return sum(map(int, rows))


def test_chart_counts_orders(service: Service, console: Console, user: str) -> None:
    before = counted(console)
    service.ordered(user, 1)
    assert counted(console) == before + 1


@pytest.mark.parametrize("name", TITLES)
def test_chart_is_an_image_for_light_and_dark(console: Console, name: str) -> None:
    image = console.get(f"charts/{name}.svg")
    assert (image.status_code, image.mimetype) == (200, "image/svg+xml")
    assert b"<script" not in image.data
    assert b"@media (prefers-color-scheme: dark)" in image.data


@pytest.fixture
def order(service: Service, user: str) -> Json:
    return service.ordered(user, 1)


@pytest.fixture
def letter(service: Service, order: Json) -> int:
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
    service: Service, console: Console, letter: int, order: Json
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


def test_settled_letter_is_refused_on_record(console: Console, letter: int) -> None:
    fields = console.form("discard-letter", letter=letter)
    other = console.form("replay-letter", letter=letter)
    console.send("discard-letter", fields)
    refused = console.send("replay-letter", other)
    assert refused.status_code == 409
    assert "was discarded already" in read(refused).text
    assert console.actions()[-1]["outcome"].startswith("refused:")


@pytest.fixture
def held(service: Service, order: Json) -> Json:
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
    service: Service, console: Console, held: Json
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


def test_held_event_is_taken_for_sent(console: Console, held: Json) -> None:
    assert console.act("confirm-event", **held).status_code == 303
    assert console.actions()[-1]["outcome"] == "rabbitmq: confirmed"
    shown = console.text(f"events/{held['order']}/{held['event']}/")
    assert "To rabbitmq: sent" in shown


def test_event_of_nobody_is_not_found(console: Console, order: Json) -> None:
    path = f"events/{order['id']}/7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11/"
    assert console.get(path).status_code == 404
