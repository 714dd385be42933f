"""What the event document is made from: what each event means, headers, guarantees.

Lives here: what no type can say of a message, and examples, which the service's own
functions make. Not here: bodies (`events.py`), and how the parts become a document
(`asyncapi.py`). Surprise: each transport spells the same facts in its own way, so the
headers of a message have one schema a transport.
"""

from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from common import events
from common.events import Event
from common.schemas import DELIVERED, SHIPPED, Item, Order

USER = UUID("d0d0d0d0-0000-4000-8000-0000000000aa")
EVENT_ID = "e0000000-0000-4000-8000-000000000001"
MOMENT = "2025-12-02T08:30:00.000001Z"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Kind(NamedTuple):
    """One kind of message: its body's type, what it means, who listens, an example."""

    body: type
    title: str
    meaning: str
    listeners: str
    example: Event


class Guarantee(NamedTuple):
    """One thing that consumers can rely on."""

    title: str
    text: str


_ITEM = Item(
    id=9,
    order=4,
    status=DELIVERED,
    quantity=2,
    product_variation=UUID("a0000000-0000-4000-8000-000000000001"),
    product_id=UUID("b0000000-0000-4000-8000-000000000001"),
    shop_id=UUID("50000000-0000-4000-8000-000000000001"),
    price=1999,
)
_ORDER = Order(
    id=4,
    user_id=USER,
    created_at="2025-12-01T10:00:00.058493Z",
    is_approved=False,
    metadata={},
    items=[_ITEM],
)
_NEW = msgspec.structs.replace(_ITEM, status=1)
_APPROVED = events.order_approved(_ORDER, MOMENT)

KINDS = {
    events.ITEM_CREATED: Kind(
        events.ItemCreated,
        "An item was ordered from a shop",
        "One for each item that belongs to a shop's product, from whichever request"
        " the item comes. An item without a shop or a product is not announced.",
        "The shop service, in its queue `shop_order_items_queue`.",
        events.item_created(_ORDER, _NEW),
    ),
    events.ORDER_CREATED: Kind(
        events.OrderCreated,
        "A cart became an order",
        "One for each order from a cart, and none for an order that came without one."
        " The product service takes the quantities from its stock; the shopcart"
        " service empties the cart. The body is nested and its ids are ints, unlike"
        " in all other events.",
        "The product service (`product_events`) and the shopcart service"
        " (`shopcart_events`).",
        events.order_created(_ORDER, 42),
    ),
    events.STATUS_UPDATED: Kind(
        events.StatusUpdated,
        "An item's status changed",
        "Each change, by the shop or by a cancellation, also of an item that is"
        " deleted (as Cancelled). The same status again is no change. An item"
        " without a shop or a product is not announced.",
        "This service's own approval, in its queue `order_approval`.",
        events.status_updated(_ITEM, SHIPPED, MOMENT),
    ),
    events.ORDER_APPROVED: Kind(
        events.OrderApproved,
        "Every item is final, and the order approved",
        "Once in an order's life: when its last open item was delivered or cancelled.",
        "Nobody yet: open to who wants to.",
        _APPROVED,
    ),
    events.ORDER_DELETED: Kind(
        events.OrderDeleted,
        "An order was deleted",
        "Follows a status event (Cancelled) for each of its items that was Processing.",
        "Nobody yet: open to who wants to.",
        events.order_deleted(_ORDER),
    ),
    events.ANALYTICS_NOTIFICATION: Kind(
        events.CompletedOrder,
        "An order is complete (for analytics)",
        "What was delivered of an approved order, with prices in major units. An"
        " order of which all was cancelled has no items here. It is the event"
        " `order.approved` in other words.",
        "The analytics service, called until it has answered 200 or 201; it is"
        " idempotent by order id.",
        events.analytics_notification(_ORDER, _APPROVED),
    ),
}

GUARANTEES = (
    Guarantee(
        "Nothing is lost",
        "An event is stored in the same transaction as the change that it tells of,"
        " and published afterwards, until the destination has confirmed it. A broker"
        " that is away fails no request; what it missed follows when it is back.",
    ),
    Guarantee(
        "At least once",
        "A message whose confirm was lost may come again. Every copy has the same id:"
        " `message_id` in AMQP, `event_id` in Pub/Sub, `ce-id` over HTTP. Remember"
        " the ids that you have dealt with, in the transaction that does the work, and"
        " acknowledge a repeat without doing anything. For a status, it is enough to"
        " set it: the same one twice does no harm. As a second `order.created` would"
        " lower stock twice, a deployment may hold one whose confirm was lost, with"
        " what follows it in its order, until an operator has decided.",
    ),
    Guarantee(
        "In order, for each order",
        "Events of one order are published in the order in which they happened;"
        " none overtakes an earlier one that is still owed. Events of different"
        " orders may come in any order. A consumer that puts a message back, or has"
        " several workers, may see an older one after a newer one. With Pub/Sub the"
        " order holds for subscriptions that have message ordering enabled; the"
        " ordering key is the order's id.",
    ),
    Guarantee(
        "At checkout",
        "First `order.item.created` for each item of a shop, in no certain order"
        " among themselves, then one `order.created`.",
    ),
    Guarantee(
        "What may change",
        "Fields may be added to bodies and headers: ignore what you do not know. A"
        " field that is here keeps its name, its type and its meaning.",
    ),
    Guarantee(
        "Traces",
        "`traceparent` (W3C Trace Context) is that of the request which caused the"
        " event; an event that no request has caused has none.",
    ),
)

# The CloudEvents attributes, which every transport has under names of its own.
_TEXT = {"type": "string"}
_UUID = {"type": "string", "format": "uuid", "description": "The same on every resend"}
_TRACE = {
    "type": "string",
    "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    "description": "W3C Trace Context; absent where no request was the cause",
}
_ORDER_ID = {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "specversion": {"type": "string", "const": "1.0"},
    "id": _UUID,
    "type": _TEXT | {"description": "The event's name"},
    "source": {"type": "string", "const": "/order-service"},
    "subject": _ORDER_ID | {"description": "The order's id"},
    "time": {
        "type": "string",
        "format": "date-time",
        "description": "When the change was stored",
    },
}


def _headers(
    prefix: str,
    others: dict[str, dict[str, Any]],
    description: str,
    attributes: dict[str, dict[str, Any]] = ATTRIBUTES,
) -> dict[str, Any]:
    named = {f"{prefix}{name}": schema for name, schema in attributes.items()}
    return {
        "type": "object",
        "description": description,
        "properties": others | named | {"traceparent": _TRACE},
        "required": [*others, *named],
    }


_JSON = {"type": "string", "const": "application/json"}
HEADERS = {
    "RabbitMQHeaders": _headers(
        "cloudEvents:", {}, "Application headers, as CloudEvents' AMQP binding has them"
    ),
    "RabbitMQProperties": {
        "type": "object",
        "description": "Properties of the AMQP message itself",
        "properties": {
            "message_id": _UUID,
            "type": _TEXT | {"description": "The event's name, as is the routing key"},
            "app_id": {"type": "string", "const": "order-service"},
            "timestamp": {
                "type": "integer",
                "description": "When the change was stored, in seconds since 1970",
            },
            "content_type": _JSON,
            "content_encoding": {"type": "string", "const": "utf-8"},
            "delivery_mode": {
                "type": "integer",
                "const": 2,
                "description": "Persistent",
            },
        },
        "required": [
            "message_id",
            "type",
            "app_id",
            "timestamp",
            "content_type",
            "content_encoding",
            "delivery_mode",
        ],
    },
    "PubSubAttributes": _headers(
        "ce-",
        {
            "event_type": _TEXT | {"description": "The event's name"},
            "event_id": _UUID,
            "order_id": _ORDER_ID | {"description": "The ordering key, too"},
            "content-type": _JSON,
        },
        "Attributes of the Pub/Sub message. The ordering key is the order's id.",
    ),
    "HttpHeaders": _headers(
        "ce-",
        {"content-type": _JSON},
        "HTTP headers: a CloudEvent in binary mode",
    ),
    "AnalyticsHeaders": _headers(
        "", {"content-type": _JSON}, "HTTP headers of the request", {}
    ),
}


def example_headers(schema: str, event: Event) -> dict[str, Any]:
    """Answer headers, attributes or properties that fit one of `HEADERS`."""
    known = {
        "specversion": "1.0",
        "id": EVENT_ID,
        "type": event.type,
        "source": "/order-service",
        "subject": str(event.order_id),
        "time": "2025-12-02T08:30:00.000001+00:00",
        "event_id": EVENT_ID,
        "event_type": event.type,
        "order_id": str(event.order_id),
        "message_id": EVENT_ID,
        "app_id": "order-service",
        "timestamp": 1764664200,
        "content_type": "application/json",
        "content-type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "traceparent": TRACE,
    }
    names = HEADERS[schema]["properties"]
    return {
        name: known[name.removeprefix("cloudEvents:").removeprefix("ce-")]
        for name in names
    }
