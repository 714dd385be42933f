"""The search box: whatever an operator has in hand leads to what it names."""

import uuid

import pytest

from tests.support.console import Console, Json, read
from tests.support.service import Service

NUMBER = 8_000_000_000  # of no item and no order


def search(console: Console, text: object) -> list[str]:
    """Return where a search leads: to one page, or to links."""
    response = console.client.get(
        "/ops/search/", query_string={"q": str(text)}, headers=console.headers
    )
    if response.status_code == 303:
        return [response.location]
    assert response.status_code == 200
    links = read(response).links
    return [link for link in links if link.count("/") > 2 and link != "/ops/search/"][
        4:
    ]


@pytest.fixture
def order(service: Service, user: str) -> Json:
    made = service.ordered(user, 1, 2)
    body = {"metadata": {"campaign": f"sale {user}", "note": "x"}}
    path = f"/api/orders/{made['id']}/"
    assert service.crud("PATCH", path, user, json=body).status_code == 200
    return made


def page(order: Json) -> str:
    return f"/ops/orders/{order['id']}/"


def test_every_page_has_the_box(console: Console, order: Json) -> None:
    for path in ("", "orders/", "letters/", f"orders/{order['id']}/"):
        text = console.get(path).get_data(as_text=True)
        assert 'action="/ops/search/"' in text
        assert '<label for="q"' in text


def test_a_number_finds_an_order_and_an_item(console: Console, order: Json) -> None:
    item = order["items"][1]["id"]
    assert page(order) in search(console, order["id"])
    assert page(order) in search(console, f" #{order['id']} ")
    assert f"{page(order)}#item-{item}" in search(console, item)


def test_a_number_finds_what_was_deleted(
    service: Service, console: Console, order: Json, user: str
) -> None:
    assert service.crud("DELETE", f"/api/orders/{order['id']}/", user).status_code < 300
    assert page(order) in search(console, order["id"])
    assert page(order) in search(console, order["items"][0]["id"])


def test_a_uuid_finds_user_shop_variation_event_and_request(
    service: Service, console: Console, order: Json, user: str
) -> None:
    item = order["items"][0]
    assert search(console, user) == [f"/ops/orders/?user_id={user}"]
    assert search(console, user.upper().replace("-", "")) == [
        f"/ops/orders/?user_id={user}"
    ]
    assert f"/ops/orders/?shop_id={item['shop_id']}" in search(console, item["shop_id"])
    variation = item["product_variation"]
    assert f"/ops/orders/?product_variation={variation}" in search(console, variation)
    [event, *_] = service.rows(
        "SELECT event_id, request_id FROM order_history WHERE order_id = :id"
        " AND kind = 'order.created'",
        id=order["id"],
    )
    found = search(console, event["event_id"])
    assert found == [f"/ops/events/{order['id']}/{event['event_id']}/"]
    assert search(console, event["request_id"]) == [page(order)]


def test_anything_else_is_looked_for_in_metadata(
    console: Console, order: Json, user: str
) -> None:
    assert search(console, f"sale {user}") == [page(order)]
    assert search(console, f"campaign=sale {user}") == [page(order)]
    assert search(console, f"note=sale {user}") == []
    assert search(console, f"sale {user} ") == [page(order)]  # as it was typed
    assert search(console, "sale") == []


def test_many_orders_with_a_value_are_a_list(
    service: Service, console: Console, user: str
) -> None:
    value = f"x=1 & {uuid.uuid4()}"
    orders = [service.ordered(user, 1) for _ in range(2)]
    for order in orders:
        body = {"metadata": {'a"b': value}}
        service.crud("PATCH", f"/api/orders/{order['id']}/", user, json=body)
    [found] = search(console, value)
    assert found.startswith("/ops/orders/?metadata=")
    text = read(console.client.get(found, headers=console.headers))
    assert {page(order) for order in orders} <= set(text.links)
    assert "Found: 2" in text.text


def test_nothing_is_found_and_said(console: Console) -> None:
    for text in (NUMBER, uuid.uuid4(), "no such thing", "", "%", '"', "$.*", "\\"):
        assert search(console, text) == []


def test_a_dead_letter_is_found_by_its_events_id(
    service: Service, console: Console
) -> None:
    event_id = f"their-{uuid.uuid4()}"
    [row] = service.rows(
        "INSERT INTO dead_letters (source, reason, event_id, body)"
        " VALUES ('approval', 'no', :event, '') RETURNING id",
        event=event_id,
    )
    assert search(console, event_id) == [f"/ops/letters/{row['id']}/"]
