"""What a checkout owes its siblings: exact bodies, in order, once; and delivered."""

import json
from typing import Any

import pytest

from infra.local.sandbox import catalogue
from tests.support.service import Service

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def bodies(service: Service) -> list[Any]:
    """Return the bodies in the outbox, in the order in which they will go out."""
    rows = service.rows("SELECT body FROM outbox ORDER BY id")
    return [json.loads(row["body"]) for row in rows]


@pytest.fixture
def pending(service: Service) -> Service:
    """A service whose event sink is away, so that events stay in the outbox."""
    service.sandbox.fault("sink", status=503)
    return service


def test_outbox_has_each_item_and_then_the_order(pending: Service, user: str) -> None:
    pending.sandbox.add_to_cart(user, catalogue.MUG, 2)
    pending.sandbox.add_to_cart(user, catalogue.NAIL, 5)
    cart = pending.sandbox.cart(user)
    assert cart is not None

    order = pending.checkout(user).get_json()["order"]

    bought = [
        (catalogue.POTTERY, catalogue.MUG, 2, 1999),
        (catalogue.WORKSHOP, catalogue.NAIL, 5, 101),
    ]
    assert bodies(pending) == [
        *(
            {
                "event_type": "order.item.created",
                "order_item_id": str(item["id"]),
                "order_id": str(order["id"]),
                "shop_id": shop,
                "product_id": "b" + variation[1:],
                "product_variation": variation,
                "quantity": quantity,
                "price": price,
                "status": 1,
                "user_id": user,
            }
            for item, (shop, variation, quantity, price) in zip(
                order["items"], bought, strict=True
            )
        ),
        {
            "event": "order.created",
            "event_type": "order.created",
            "data": {
                "order_id": order["id"],
                "user_uuid": user,
                "cart_id": cart["id"],
                "items": [
                    {"product_variation_id": catalogue.MUG, "quantity": 2},
                    {"product_variation_id": catalogue.NAIL, "quantity": 5},
                ],
            },
        },
    ]


def test_each_row_has_type_destination_and_trace(pending: Service, user: str) -> None:
    pending.sandbox.add_to_cart(user, catalogue.MUG)
    order = pending.checkout(user, traceparent=TRACEPARENT).get_json()["order"]
    rows = pending.rows("SELECT * FROM outbox ORDER BY id")
    assert [row["event_type"] for row in rows] == [
        "order.item.created",
        "order.created",
    ]
    assert {row["destination"] for row in rows} == {"http"}
    assert {row["order_id"] for row in rows} == {order["id"]}
    assert {row["traceparent"] for row in rows} == {TRACEPARENT}
    assert len({row["event_id"] for row in rows}) == 2


def test_trap_siblings_understand_and_hear_once(service: Service, user: str) -> None:
    order = service.ordered(user, 3, 2)
    for _ in range(3):
        service.sweep()
    service.sandbox.deliver()
    assert service.sandbox.pending() == 0  # redelivered for ever where not understood
    left = [service.sandbox.stock(i["product_variation"]) for i in order["items"]]
    assert left == [10_000 - 3, 10_000 - 2]
    heard = {row["order_item_id"] for row in service.sandbox.shop_rows}
    assert heard == {item["id"] for item in order["items"]}
    cart = service.sandbox.cart(user)
    assert cart is not None
    assert cart["items"] == []


def test_trap_variation_in_two_lines_is_sent_once(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=9)
    service.sandbox.add_to_cart(user, article, 4)
    service.sandbox.add_to_cart(user, article, 5)
    assert service.checkout(user).status_code == 201
    [event] = service.sandbox.events_of("order.created")
    assert event.json["data"]["items"] == [
        {"product_variation_id": article, "quantity": 9}
    ]
    assert len(service.sandbox.events_of("order.item.created")) == 1


def test_events_go_out_at_once_items_first(service: Service, user: str) -> None:
    service.ordered(user, *[1] * 20)
    types = [event.type for event in service.sandbox.events]
    assert types == ["order.item.created"] * 20 + ["order.created"]
    assert bodies(service) == []


def test_every_bus_gets_its_own_rows(service: Service, user: str) -> None:
    # A broker that is away: what it is owed waits, the other hears at once.
    service.set(
        EVENT_BUS="rabbitmq,http",
        RABBITMQ_HOST="127.0.0.1",
        RABBITMQ_PORT="1",
        RABBITMQ_USER="guest",
        RABBITMQ_PASS="guest",
    )
    service.ordered(user, 1)
    assert len(service.sandbox.events) == 2
    rows = service.rows("SELECT destination, event_type FROM outbox ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("rabbitmq", "order.item.created"),
        ("rabbitmq", "order.created"),
    ]
