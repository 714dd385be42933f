"""Every event and the analytics notification, to the letter of what siblings read.

Bodies are compared as text: the order of keys, and ints that are not numeric strings,
are part of the letter.
"""

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CheckConstraint

from common.database import tables
from common.domain import approval, events, orders
from common.domain.model import Actor, Event, Ids, ItemStatus
from common.domain.stock import NOT_READ
from common.publishing.rabbitmq_connection import EXCHANGE
from common.store import timeline
from tests.support import bodies
from tests.support.factories import (
    CREATED_AT,
    NOW,
    OWNER,
    VARIATION,
    item,
    line,
    order,
    snapshot,
)

ROOT = Path(__file__).parents[2]
APPROVED = events.order_approved(order(), NOW)
ORDER = {"order_id": "4", "user_id": bodies.USER}
# Each event with its type and body.
EVERY_EVENT: list[tuple[Event, str, dict[str, Any]]] = [
    (
        events.order_created(order(item()), 42, [events.OrderedLine(VARIATION, 2)]),
        "order.created",
        bodies.order_created(bodies.USER, [(bodies.VARIATION, 2)]),
    ),
    (
        events.item_created(order(), item()),
        "order.item.created",
        bodies.order_item_created(),
    ),
    (
        events.status_updated(
            item(status=ItemStatus.DELIVERED), ItemStatus.SHIPPED, NOW
        ),
        "order.item.status.updated",
        {
            "event_type": "order.item.status.updated",
            "order_item_id": "9",
            "order_id": "4",
            "shop_id": bodies.SHOP,
            "status": 3,
            "previous_status": 2,
            "occurred_at": NOW,
        },
    ),
    (
        APPROVED,
        "order.approved",
        {"event_type": "order.approved", **ORDER, "approved_at": NOW},
    ),
    (
        events.order_deleted(order()),
        "order.deleted",
        {"event_type": "order.deleted", **ORDER},
    ),
    (
        events.analytics_notification(
            order(item(status=ItemStatus.DELIVERED)), APPROVED
        ),
        "analytics.order.completed",
        bodies.completed_order(),
    ),
]


def letter(body: object) -> str:
    """Return `body` as this service spells JSON."""
    return json.dumps(body, separators=(",", ":"))


@pytest.mark.parametrize(
    ("event", "type_", "body"), EVERY_EVENT, ids=[type_ for _, type_, _ in EVERY_EVENT]
)
def test_an_event_has_its_type_its_order_and_its_body_to_the_letter(
    event: Event, type_: str, body: dict[str, Any]
) -> None:
    assert (event.type, event.order_id, event.body) == (type_, 4, letter(body))
    assert event.destination == ("analytics" if "analytics" in type_ else None)


def test_no_event_is_missing_here() -> None:
    published = events.ON_BUS | {events.ANALYTICS_NOTIFICATION}
    named = {
        value
        for name, value in vars(events).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    assert named == published, "correct ON_BUS in common/domain/events.py"
    assert {type_ for _, type_, _ in EVERY_EVENT} == published, "add it to EVERY_EVENT"


# What each rule of an order does; together, every kind of step.
CHANGES = [
    orders.new_order(OWNER, [line()], Ids(4, [11], CREATED_AT), cart_id=42),
    orders.add_item(snapshot(), item(), Actor(OWNER), NOT_READ),
    orders.set_status(snapshot(item()), 9, ItemStatus.SHIPPED, Actor(OWNER)),
    orders.set_quantity(snapshot(item()), 9, 3, Actor(OWNER)),
    orders.remove_item(snapshot(item()), 9, Actor(OWNER)),
    orders.delete_order(snapshot(item()), Actor(OWNER)),
    approval.decide(snapshot(ItemStatus.DELIVERED)),
]


def test_every_step_publishes_the_event_of_its_kind() -> None:
    kinds = set()
    for change in CHANGES:
        assert change
        for entry in change.history:
            kinds.add(entry.kind)
            told = [each.type for each in entry.events if not each.destination]
            assert told == [timeline.EVENTS_BY_KIND[entry.kind]], (
                f"{entry.kind}: correct EVENTS_BY_KIND in common/store/timeline.py"
            )
    assert kinds == timeline.EVENTS_BY_KIND.keys(), "add what causes it to CHANGES"


def test_every_kind_of_history_is_known_to_announce_something() -> None:
    checks = {str(each.name): each for each in tables.order_history.constraints}
    allowed = checks["order_history_kind_check"]
    assert isinstance(allowed, CheckConstraint)
    kinds = set(re.findall(r"'([a-z.]+)'", str(allowed.sqltext)))
    assert kinds == timeline.EVENTS_BY_KIND.keys(), (
        "correct EVENTS_BY_KIND in common/store/timeline.py"
    )


def test_every_event_has_a_uuid_of_its_own() -> None:
    twice = [events.order_deleted(order()) for _ in range(2)]
    assert len({str(uuid.UUID(event.id)) for event in twice}) == 2


def test_an_event_is_expected_to_be_heard_if_a_siblings_queue_is_bound_to_it() -> None:
    given = json.loads((ROOT / "infra" / "rabbitmq" / "definitions.json").read_text())
    heard = {
        each["routing_key"]
        for each in given["bindings"]
        if each["source"] == EXCHANGE and each["destination"] != "order_approval"
    }
    assert heard == events.EXPECTED, "correct EXPECTED in common/domain/events.py"


# Traps.


def test_trap_one_order_created_for_a_whole_cart() -> None:
    reserved = Ids(4, [11, 12, 13], CREATED_AT)
    change = orders.new_order(OWNER, [line()] * 3, reserved, cart_id=42)
    assert [event.type for event in change.events].count("order.created") == 1


@pytest.mark.parametrize("id_", [1, 2**31, 2**63 - 1])
def test_trap_numeric_strings_never_turn_into_floats_or_uuids(id_: int) -> None:
    body = json.loads(events.item_created(order(id=id_), item(id=id_)).body)
    assert body["order_item_id"] == body["order_id"] == str(id_)


# What analytics is told.


def test_analytics_is_told_of_delivered_items_only() -> None:
    told = events.analytics_notification(
        order(*range(ItemStatus.PROCESSING, ItemStatus.CANCELLED + 1)), APPROVED
    )
    assert [each["id"] for each in json.loads(told.body)["items"]] == ["3"]


def test_analytics_is_told_of_an_all_cancelled_order_without_items() -> None:
    event = events.analytics_notification(
        order(ItemStatus.CANCELLED, ItemStatus.CANCELLED), APPROVED
    )
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
