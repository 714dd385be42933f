"""What an order consists of, and what a change of one is.

`Order` and `Item` are what callers see; msgspec holds their fields to these types.
"""

import dataclasses
import enum
import re
import uuid
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct, field

from common.errors import NotFoundError

MAX_ID = 2**63 - 1
MAX_QUANTITY = 10_000


class ItemStatus(enum.IntEnum):
    """How far an item is, by the numbers that callers and siblings know."""

    PROCESSING = 1
    SHIPPED = 2
    DELIVERED = 3
    CANCELLED = 4

    @property
    def label(self) -> str:
        """Return the word that people read."""
        return self.name.capitalize()


def status_label(status: int | None) -> str:
    """Return the word for a status of long ago, '?' where none was recorded."""
    return "?" if status is None else ItemStatus(status).label


Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Quantity = Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]
Status = Annotated[
    int,
    Meta(
        ge=int(min(ItemStatus)),
        le=int(max(ItemStatus)),
        description=", ".join(f"{each} {each.label}" for each in ItemStatus),
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


class Ids(Struct, frozen=True):
    """What a write is given beforehand: its order, new items' ids, and the moment.

    There may be more ids than items. `at` is RFC 3339, in UTC.
    """

    order_id: int
    item_ids: list[int]
    at: str


_UUID = re.compile(
    r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}"
)


def parse_uuid(value: str | None) -> UUID | None:
    """Return the UUID, in any case, with all its dashes or none; None for all else."""
    if value is None or not _UUID.fullmatch(value.lower()):
        return None
    return UUID(value)


class Event(Struct, frozen=True):
    """One thing that happened; `body` is JSON text to the byte.

    `destination` None means every destination of the event bus.
    """

    type: str
    order_id: int
    body: str
    destination: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Line(Struct, frozen=True):
    """What is ordered, as the product service knows it. `price` is in minor units."""

    product_variation: UUID
    quantity: int
    product_id: UUID | None
    shop_id: UUID | None
    price: int


# Who acts: the owner; a shop by its token's claim; the shop service, without a token;
# the service itself; an operator, of whom the console keeps who it was and why.
USER, SHOP, INTERNAL, SYSTEM, OPERATOR = (
    "user",
    "shop",
    "internal",
    "system",
    "operator",
)


class Actor(Struct, frozen=True):
    """Who changes an order: their id, None for the service itself, and what they are.

    `kind` is one of USER, SHOP, INTERNAL, SYSTEM and OPERATOR.
    """

    id: UUID | None
    kind: str = USER


SERVICE = Actor(None, SYSTEM)


class Entry(Struct, frozen=True):
    """One entry of an order's history, and the events that tell of it, if any must.

    `kind` as in `tables.order_history`. They share an event id; each has other
    destinations. `from_status` None: the item was created.
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
    """What one request does to one order: saved whole or not at all.

    `order` is the order as it will be. `version` is the one it was decided on, 0 for a
    new order. What `history` says, and its events, are recorded in its order.
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

    @property
    def events(self) -> list[Event]:
        """Return what is to be told, in the order in which it happened."""
        return [event for entry in self.history for event in entry.events]


class Snapshot(Struct, frozen=True):
    """An order with its items at one moment (`read_at`, RFC 3339), and its versions."""

    order: Order
    version: int
    item_versions: dict[int, int]
    read_at: str

    def item(self, item_id: int) -> Item:
        """Return the item; raise NotFoundError."""
        for item in self.order.items:
            if item.id == item_id:
                return item
        raise NotFoundError
