"""Orders, items and their changes, as plain structs.

`Order` and `Item` are also the bodies that callers see, so their types are the schema.
"""

import dataclasses
import enum
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct, field

from common.errors import NotFoundError

MAX_ID = 2**63 - 1
MAX_QUANTITY = 10_000
MAX_ITEMS = 1000  # of an order


class ItemStatus(enum.IntEnum):
    """An item's status; callers and siblings use the numbers."""

    PROCESSING = 1
    SHIPPED = 2
    DELIVERED = 3
    CANCELLED = 4

    @property
    def label(self) -> str:
        """Return the status as people read it."""
        return self.name.capitalize()


Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Quantity = Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]
Status = Annotated[
    int,
    Meta(
        ge=int(min(ItemStatus)),
        le=int(max(ItemStatus)),
        description=", ".join(f"{status} {status.label}" for status in ItemStatus),
    ),
]


class Item(Struct):
    """An order item as callers see it. `price` is in minor units."""

    id: Id
    order: Id
    status: Status
    quantity: Quantity
    product_variation: UUID
    product_id: UUID | None
    shop_id: UUID | None
    price: Annotated[int, Meta(ge=0)]


class Order(Struct):
    """An order as callers see it. `created_at` is RFC 3339 in UTC."""

    id: Id
    user_id: UUID
    created_at: str
    is_approved: bool
    metadata: dict[str, str]
    items: list[Item]


class Snapshot(Struct, frozen=True):
    """An order with its items and their versions, as of `read_at` (RFC 3339)."""

    order: Order
    version: int
    item_versions: dict[int, int]
    read_at: str

    def item(self, item_id: int) -> Item:
        """Return the item; raise NotFoundError if the order has no such item."""
        for item in self.order.items:
            if item.id == item_id:
                return item
        raise NotFoundError


class Event(Struct, frozen=True):
    """An event to publish; `body` is sent byte for byte.

    `destination` is None for every destination of the event bus.
    """

    type: str
    order_id: int
    body: str
    destination: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Line(Struct, frozen=True):
    """A line to order, as the product service knows it. `price` is in minor units."""

    product_variation: UUID
    quantity: int
    product_id: UUID | None
    shop_id: UUID | None
    price: int
    title: str | None = None


class Hold(Struct, frozen=True):
    """What a change takes of a variation's stock, of which `amount` was read.

    None: it is taken whatever there is.
    """

    item_id: int
    product_variation: UUID
    quantity: int
    amount: int | None


class Ids(Struct, frozen=True):
    """The ids that are drawn for a write before it: its order's and its new items'.

    There may be more ids than items. `at` is the time of the write (RFC 3339, in UTC).
    """

    order_id: int
    item_ids: list[int]
    at: str

    def seconds_before(self, seconds: float) -> str:
        """Return the time so many seconds before `at`."""
        moment = datetime.fromisoformat(self.at) - timedelta(seconds=seconds)
        return moment.isoformat().replace("+00:00", "Z")


# The owner; a shop, by its token's claim; the shop service, without a token; this
# service itself; an operator, whose name and reason the console records.
USER, SHOP, INTERNAL, SYSTEM, OPERATOR = (
    "user",
    "shop",
    "internal",
    "system",
    "operator",
)


class Actor(Struct, frozen=True):
    """Who changes an order; `id` is None for the service itself.

    `kind` is one of USER, SHOP, INTERNAL, SYSTEM and OPERATOR.
    """

    id: UUID | None
    kind: str = USER


SERVICE = Actor(None, SYSTEM)


class Entry(Struct, frozen=True):
    """One entry of an order's history, with the events that announce it, if any.

    `kind` is one of `tables.order_history`. The events share an id, and each has its
    own destinations. `from_status` is None if the item was created.
    """

    kind: str
    item_id: int | None = None
    from_status: int | None = None
    to_status: int | None = None
    events: tuple[Event, ...] = ()
    from_quantity: int | None = None
    to_quantity: int | None = None


@dataclass(kw_only=True)
class Change:
    """What one request changes in one order: saved completely or not at all.

    `order` is the order after the change. `version` is the one before it, 0 for a new
    order. Entries of `history` and their events are recorded in this order. `holds` are
    taken from stock, as it was known at `stock_read_at` or, if that is None, at `at`.
    `titles` are those of the products of added items, by the item's id.
    """

    order: Order
    version: int
    at: str
    changed: list[Item] = dataclasses.field(default_factory=list)
    added: list[Item] = dataclasses.field(default_factory=list)
    removed: list[int] = dataclasses.field(default_factory=list)
    history: list[Entry] = dataclasses.field(default_factory=list)
    is_complete: bool = False
    is_deletion: bool = False
    actor: Actor
    cart_id: int | None = None
    holds: list[Hold] = dataclasses.field(default_factory=list)
    titles: dict[int, str] = dataclasses.field(default_factory=dict)
    stock_read_at: str | None = None

    @property
    def events(self) -> list[Event]:
        """Return the events to publish, in the order in which they happened."""
        return [event for entry in self.history for event in entry.events]


def status_label(status: int | None) -> str:
    """Return the label of a recorded status, '?' if none was recorded."""
    return "?" if status is None else ItemStatus(status).label


_UUID = re.compile(
    r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}"
)


def parse_uuid(value: str | None) -> UUID | None:
    """Return the UUID, None if it is not one; upper case or no dashes will do."""
    if value is None or not _UUID.fullmatch(value.lower()):
        return None
    return UUID(value)
