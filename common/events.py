"""Names and exact bodies of what is published.

Lives here: one function an event, and the notification for analytics, each to the
letter of what the consumers read. Not here: when they are due (`orders.py`,
`approval.py`) and how they travel. Surprise: ids are ints in `order.created` and
numeric strings everywhere else, because the consumers are older than this service.
"""

import uuid
from decimal import Decimal

from msgspec import Struct, field

from common.schemas import DELIVERED, Item, Order, encode

ORDER_CREATED = "order.created"
ITEM_CREATED = "order.item.created"
STATUS_UPDATED = "order.item.status.updated"
ORDER_APPROVED = "order.approved"
ORDER_DELETED = "order.deleted"
ANALYTICS_NOTIFICATION = "analytics.order.completed"

ANALYTICS = "analytics"
# Somebody is known to listen: nobody listening is worth a warning.
EXPECTED = frozenset({ORDER_CREATED, ITEM_CREATED})


class Event(Struct, frozen=True):
    """One thing that happened; `body` is JSON text to the byte.

    `destination` None means every destination of the event bus.
    """

    type: str
    order_id: int
    body: str
    destination: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


def order_created(order: Order, cart_id: int) -> Event:
    """Tell product and shopcart. Nested, and ints are ints: flat is discarded."""
    data = {
        "order_id": order.id,
        "user_uuid": order.user_id,
        "cart_id": cart_id,
        "items": [
            {"product_variation_id": i.product_variation, "quantity": i.quantity}
            for i in order.items
        ],
    }
    body = {"event": ORDER_CREATED, "event_type": ORDER_CREATED, "data": data}
    return Event(ORDER_CREATED, order.id, encode(body))


def item_created(order: Order, item: Item) -> Event:
    """Tell the shop. Flat, with numeric strings as ids, and no nulls.

    For items of a shop only (`has_shop`): the shop's consumer redelivers a null or a
    UUID in place of an int for ever.
    """
    body = {
        "event_type": ITEM_CREATED,
        "order_item_id": str(item.id),
        "order_id": str(order.id),
        "shop_id": item.shop_id,
        "product_id": item.product_id,
        "product_variation": item.product_variation,
        "quantity": item.quantity,
        "price": item.price,
        "status": item.status,
        "user_id": order.user_id,
    }
    return Event(ITEM_CREATED, order.id, encode(body))


def status_updated(item: Item, previous: int, occurred_at: str) -> Event:
    """Tell whoever follows an item; approval listens to this one."""
    body = {
        "event_type": STATUS_UPDATED,
        "order_item_id": str(item.id),
        "order_id": str(item.order),
        "shop_id": item.shop_id,
        "status": item.status,
        "previous_status": previous,
        "occurred_at": occurred_at,
    }
    return Event(STATUS_UPDATED, item.order, encode(body))


def order_approved(order: Order, approved_at: str) -> Event:
    """Tell that every item is final and the order approved."""
    body = {
        "event_type": ORDER_APPROVED,
        "order_id": str(order.id),
        "user_id": order.user_id,
        "approved_at": approved_at,
    }
    return Event(ORDER_APPROVED, order.id, encode(body))


def order_deleted(order: Order) -> Event:
    """Tell that the order is gone."""
    body = {
        "event_type": ORDER_DELETED,
        "order_id": str(order.id),
        "user_id": order.user_id,
    }
    return Event(ORDER_DELETED, order.id, encode(body))


def analytics_notification(order: Order, approved: Event) -> Event:
    """Tell analytics of a completed order: what was delivered, in major units.

    The same event as `approved`, and so under its id; only told in other words.
    """
    body = {
        "id": str(order.id),
        "user_id": order.user_id,
        "created_at": order.created_at.replace("Z", "+00:00"),
        "items": [
            {
                "id": str(item.id),
                "quantity": item.quantity,
                "product_variation": item.product_variation,
                "price": major_units(item.price),
            }
            for item in order.items
            if item.status == DELIVERED
        ],
    }
    return Event(ANALYTICS_NOTIFICATION, order.id, encode(body), ANALYTICS, approved.id)


def has_shop(item: Item) -> bool:
    """Tell whether anything is published about `item` at all."""
    return item.shop_id is not None and item.product_id is not None


def major_units(price_minor: int) -> str:
    """Answer 1999 as '19.99'."""
    return str(Decimal(price_minor).scaleb(-2))
