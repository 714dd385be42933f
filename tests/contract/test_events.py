"""Every event and the analytics notification, to the letter of what siblings read.

Bodies are compared as text: the order of keys, and ints that are not numeric strings,
are part of the letter.
"""

import json
import uuid

import pytest

from common import events, orders
from common.events import Event
from common.schemas import CANCELLED, DELIVERED, PROCESSING, SHIPPED, Ids
from tests.support import bodies
from tests.support.factories import CREATED_AT, NOW, OWNER, item, line, order

APPROVED = events.order_approved(order(), NOW)
EVERY_EVENT: list[Event] = [
    events.order_created(order(item()), 42),
    events.item_created(order(), item()),
    events.status_updated(item(status=DELIVERED), SHIPPED, NOW),
    APPROVED,
    events.order_deleted(order()),
    events.analytics_notification(order(item(status=DELIVERED)), APPROVED),
]


def letter(body: object) -> str:
    """Answer `body` as this service spells JSON."""
    return json.dumps(body, separators=(",", ":"))


# Each body, to the letter.


def test_order_created_to_the_letter() -> None:
    event = events.order_created(order(item()), 42)
    assert event.body == letter(
        bodies.order_created(bodies.USER, [(bodies.VARIATION, 2)])
    )


def test_order_item_created_to_the_letter() -> None:
    event = events.item_created(order(), item())
    assert event.body == letter(bodies.order_item_created())


def test_order_item_status_updated_to_the_letter() -> None:
    event = events.status_updated(item(status=DELIVERED), SHIPPED, NOW)
    assert event.body == letter(
        {
            "event_type": "order.item.status.updated",
            "order_item_id": "9",
            "order_id": "4",
            "shop_id": bodies.SHOP,
            "status": 3,
            "previous_status": 2,
            "occurred_at": "2025-12-02T08:30:00.000001Z",
        }
    )


def test_order_approved_to_the_letter() -> None:
    event = events.order_approved(order(), NOW)
    assert event.body == letter(
        {
            "event_type": "order.approved",
            "order_id": "4",
            "user_id": bodies.USER,
            "approved_at": "2025-12-02T08:30:00.000001Z",
        }
    )


def test_order_deleted_to_the_letter() -> None:
    event = events.order_deleted(order())
    assert event.body == letter(
        {"event_type": "order.deleted", "order_id": "4", "user_id": bodies.USER}
    )


def test_analytics_notification_to_the_letter() -> None:
    event = events.analytics_notification(order(item(status=DELIVERED)), APPROVED)
    assert event.body == letter(bodies.completed_order())


# What goes with a body.


@pytest.mark.parametrize(
    ("event", "type_"),
    [
        (EVERY_EVENT[0], "order.created"),
        (EVERY_EVENT[1], "order.item.created"),
        (EVERY_EVENT[2], "order.item.status.updated"),
        (EVERY_EVENT[3], "order.approved"),
        (EVERY_EVENT[4], "order.deleted"),
        (EVERY_EVENT[5], "analytics.order.completed"),
    ],
)
def test_an_event_has_its_routing_key_and_its_order(event: Event, type_: str) -> None:
    assert (event.type, event.order_id) == (type_, 4)


@pytest.mark.parametrize("event", EVERY_EVENT[:-1], ids=lambda event: event.type)
def test_the_body_names_its_own_type(event: Event) -> None:
    assert json.loads(event.body)["event_type"] == event.type


@pytest.mark.parametrize("event", EVERY_EVENT[:-1], ids=lambda event: event.type)
def test_an_event_goes_to_every_destination_of_the_bus(event: Event) -> None:
    assert event.destination is None


def test_the_notification_goes_to_analytics_only() -> None:
    assert EVERY_EVENT[-1].destination == "analytics"


def test_every_event_has_a_uuid_of_its_own() -> None:
    twice = [events.order_deleted(order()) for _ in range(2)]
    assert len({str(uuid.UUID(event.id)) for event in twice}) == 2


def test_somebody_is_known_to_listen_to_what_the_siblings_queues_are_bound_to() -> None:
    assert {"order.created", "order.item.created"} == events.EXPECTED


# Traps.


def test_trap_order_created_is_nested_and_its_ints_are_ints() -> None:
    body = json.loads(events.order_created(order(item(), item(id=10)), 42).body)
    assert list(body) == ["event", "event_type", "data"]
    told = body["data"]
    quantities = [each["quantity"] for each in told["items"]]
    numbers = [told["order_id"], told["cart_id"], *quantities]
    assert [type(each) for each in numbers] == [int] * 4


def test_trap_one_order_created_for_a_whole_cart() -> None:
    reserved = Ids(4, [11, 12, 13], CREATED_AT)
    change = orders.new_order(OWNER, [line()] * 3, reserved, cart_id=42)
    assert [event.type for event in change.events].count("order.created") == 1


@pytest.mark.parametrize(
    "event", [EVERY_EVENT[1], EVERY_EVENT[2]], ids=lambda event: event.type
)
def test_trap_ids_of_flat_events_are_numeric_strings(event: Event) -> None:
    body = json.loads(event.body)
    assert (body["order_item_id"], body["order_id"]) == ("9", "4")


@pytest.mark.parametrize("id_", [1, 2**31, 2**63 - 1])
def test_trap_numeric_strings_never_turn_into_floats_or_uuids(id_: int) -> None:
    body = json.loads(events.item_created(order(id=id_), item(id=id_)).body)
    assert body["order_item_id"] == body["order_id"] == str(id_)


def test_trap_order_item_created_has_no_null_and_no_uuid_where_an_int_belongs() -> None:
    body = json.loads(events.item_created(order(), item()).body)
    assert None not in body.values()
    numbers = (body["quantity"], body["price"], body["status"])
    assert [type(each) for each in numbers] == [int] * 3


@pytest.mark.parametrize("missing", ["shop_id", "product_id"])
def test_trap_items_without_shop_or_product_are_not_announced(missing: str) -> None:
    lines = [line(**{missing: None}), line()]
    change = orders.new_order(OWNER, lines, Ids(4, [9, 10], NOW))
    ids = [json.loads(event.body)["order_item_id"] for event in change.events]
    assert ids == ["10"]


def test_trap_analytics_takes_ids_as_numeric_strings_and_price_as_a_decimal() -> None:
    body = json.loads(EVERY_EVENT[-1].body)
    [told] = body["items"]
    assert (body["id"], told["id"], told["price"]) == ("4", "9", "19.99")
    assert type(told["quantity"]) is int


# What analytics is told.


def test_analytics_is_told_of_delivered_items_only() -> None:
    told = events.analytics_notification(
        order(*range(PROCESSING, CANCELLED + 1)), APPROVED
    )
    assert [each["id"] for each in json.loads(told.body)["items"]] == ["3"]


def test_analytics_is_told_of_an_all_cancelled_order_without_items() -> None:
    event = events.analytics_notification(order(CANCELLED, CANCELLED), APPROVED)
    assert event.body == letter(bodies.completed_order(items=[]))


@pytest.mark.parametrize(
    ("minor", "major"),
    [
        (0, "0.00"),
        (5, "0.05"),
        (10, "0.10"),
        (100, "1.00"),
        (1999, "19.99"),
        (100_000, "1000.00"),
        (2**53 - 1, "90071992547409.91"),
    ],
)
def test_analytics_reads_prices_in_major_units(minor: int, major: str) -> None:
    assert events.major_units(minor) == major


@pytest.mark.parametrize(
    "numbers", [{"quantity": 10_000}, {"price": 0}, {"price": 2**53 - 1}]
)
def test_an_items_own_numbers_are_told(numbers: dict[str, int]) -> None:
    event = events.item_created(order(), item(**numbers))
    assert event.body == letter(bodies.order_item_created(**numbers))
