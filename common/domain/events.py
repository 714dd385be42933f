"""Names and exact bodies of what is published.

One struct and one function per event, and the notification for analytics, exactly as
the consumers read them; tests compare `common/api_docs/asyncapi.yaml` with the structs.
Ids are ints in `order.created` and numeric strings everywhere else, because the
consumers are older than this service.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final, Literal
from uuid import UUID

from msgspec import Meta, Struct

from common.domain.model import Event, Id, Item, ItemStatus, Order, Quantity, Status
from common.json import encode

ORDER_CREATED: Final = "order.created"
ITEM_CREATED: Final = "order.item.created"
STATUS_UPDATED: Final = "order.item.status.updated"
ORDER_APPROVED: Final = "order.approved"
ORDER_DELETED: Final = "order.deleted"
ANALYTICS_NOTIFICATION = "analytics.order.completed"

ANALYTICS = "analytics"
# What the bus carries. A subscription without a filter brings all of it to approval,
# which knows by this what is this service's own.
ON_BUS = frozenset(
    {ORDER_CREATED, ITEM_CREATED, STATUS_UPDATED, ORDER_APPROVED, ORDER_DELETED}
)
# Events that have consumers: one that reaches no queue is worth a warning.
EXPECTED = frozenset({ORDER_CREATED, ITEM_CREATED})

NumericString = Annotated[
    str, Meta(pattern="^[1-9][0-9]{0,18}$", description="A 64-bit int, as a string")
]
MinorUnits = Annotated[
    int, Meta(ge=0, description="For one piece, in the smallest unit of the currency")
]
Timestamp = Annotated[
    str, Meta(description="RFC 3339, in UTC", extra_json_schema={"format": "date-time"})
]


class OrderedLine(Struct):
    """One line of what was ordered."""

    product_variation_id: UUID
    quantity: Quantity


class OrderCreatedData(Struct):
    """What was ordered. All numbers are ints; `cart_id` is null if it was by hand."""

    order_id: Id
    user_uuid: UUID
    cart_id: int | None
    items: list[OrderedLine]


class OrderCreated(Struct):
    """The body of `order.created`: nested, unlike all others."""

    event: Literal["order.created"]
    event_type: Literal["order.created"]
    data: OrderCreatedData


class ItemCreated(Struct):
    """The body of `order.item.created`: flat, and without a null."""

    event_type: Literal["order.item.created"]
    order_item_id: NumericString
    order_id: NumericString
    shop_id: UUID
    product_id: UUID
    product_variation: UUID
    quantity: Quantity
    price: MinorUnits
    status: Status
    user_id: UUID


class StatusUpdated(Struct):
    """The body of `order.item.status.updated`."""

    event_type: Literal["order.item.status.updated"]
    order_item_id: NumericString
    order_id: NumericString
    shop_id: UUID
    status: Status
    previous_status: Status
    occurred_at: Timestamp


class OrderApproved(Struct):
    """The body of `order.approved`."""

    event_type: Literal["order.approved"]
    order_id: NumericString
    user_id: UUID
    approved_at: Timestamp


class OrderDeleted(Struct):
    """The body of `order.deleted`."""

    event_type: Literal["order.deleted"]
    order_id: NumericString
    user_id: UUID


class CompletedItem(Struct):
    """A delivered item of a completed order."""

    id: NumericString
    quantity: Quantity
    product_variation: UUID
    price: Annotated[
        str, Meta(pattern=r"^[0-9]+\.[0-9]{2}$", description="In major units")
    ]


class CompletedOrder(Struct):
    """The notification for analytics: the delivered items, possibly none.

    `created_at` ends in `+00:00`, where events say `Z`.
    """

    id: NumericString
    user_id: UUID
    created_at: Timestamp
    items: list[CompletedItem]


def order_created(
    order: Order, cart_id: int | None, lines: Sequence[OrderedLine]
) -> Event:
    """Return the event for product and shopcart: nested; ints stay ints.

    The product service lowers the stock by `lines`. The shopcart service empties the
    cart; it ignores an event without one.
    """
    data = OrderCreatedData(order.id, order.user_id, cart_id, list(lines))
    body = OrderCreated(ORDER_CREATED, ORDER_CREATED, data)
    return Event(ORDER_CREATED, order.id, encode(body))


def item_created(order: Order, item: Item) -> Event:
    """Return the event for the shop: flat, with numeric strings as ids, and no nulls.

    Only for items of a shop (`has_shop`): the shop's consumer would requeue an event
    with a null, or with a UUID in place of an int, forever.
    """
    assert item.shop_id is not None
    assert item.product_id is not None
    body = ItemCreated(
        event_type=ITEM_CREATED,
        order_item_id=str(item.id),
        order_id=str(order.id),
        shop_id=item.shop_id,
        product_id=item.product_id,
        product_variation=item.product_variation,
        quantity=item.quantity,
        price=item.price,
        status=item.status,
        user_id=order.user_id,
    )
    return Event(ITEM_CREATED, order.id, encode(body))


def status_updated(item: Item, previous: int, occurred_at: str) -> Event:
    """Return the event for a change of status (`has_shop`); it triggers approval."""
    assert item.shop_id is not None
    body = StatusUpdated(
        event_type=STATUS_UPDATED,
        order_item_id=str(item.id),
        order_id=str(item.order),
        shop_id=item.shop_id,
        status=item.status,
        previous_status=previous,
        occurred_at=occurred_at,
    )
    return Event(STATUS_UPDATED, item.order, encode(body))


def order_approved(order: Order, approved_at: str) -> Event:
    """Return the event for an order whose items are all final and which is approved."""
    body = OrderApproved(ORDER_APPROVED, str(order.id), order.user_id, approved_at)
    return Event(ORDER_APPROVED, order.id, encode(body))


def order_deleted(order: Order) -> Event:
    """Return the event for a deleted order."""
    body = OrderDeleted(ORDER_DELETED, str(order.id), order.user_id)
    return Event(ORDER_DELETED, order.id, encode(body))


def analytics_notification(order: Order, approved: Event) -> Event:
    """Return the event for analytics: what was delivered, in major units.

    It has the id of `approved`: it is the same event in another format.
    """
    body = CompletedOrder(
        id=str(order.id),
        user_id=order.user_id,
        created_at=order.created_at.replace("Z", "+00:00"),
        items=[
            CompletedItem(
                id=str(item.id),
                quantity=item.quantity,
                product_variation=item.product_variation,
                price=major_units(item.price),
            )
            for item in order.items
            if item.status == ItemStatus.DELIVERED
        ],
    )
    return Event(ANALYTICS_NOTIFICATION, order.id, encode(body), ANALYTICS, approved.id)


def has_shop(item: Item) -> bool:
    """Return whether events about `item` are published at all."""
    return item.shop_id is not None and item.product_id is not None


def major_units(price_minor: int) -> str:
    """Return 1999 as '19.99'."""
    return str(Decimal(price_minor).scaleb(-2))
