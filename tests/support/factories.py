"""Valid items, snapshots, cart lines, variations and messages for tests of rules.

An order's items may be given as statuses alone; their ids then count from 1.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import structs

from common.domain.cart import CartLine, Product, Variation
from common.domain.model import Change, Item, Line, Order, Snapshot
from common.publishing.publisher import Message
from tests.support import bodies

OWNER = UUID(bodies.USER)
STRANGER = UUID("d0d0d0d0-0000-4000-8000-0000000000bb")
VARIATION = UUID(bodies.VARIATION)
PRODUCT = UUID(bodies.PRODUCT)
SHOP = UUID(bodies.SHOP)
CREATED_AT = "2025-12-01T10:00:00.058493Z"
NOW = "2025-12-02T08:30:00.000001Z"

_ITEM = Item(
    id=9,
    order=4,
    status=1,
    quantity=2,
    product_variation=VARIATION,
    product_id=PRODUCT,
    shop_id=SHOP,
    price=1999,
)
_ORDER = Order(
    id=4,
    user_id=OWNER,
    created_at=CREATED_AT,
    is_approved=False,
    metadata={},
    items=[],
)
_PRODUCT = Product(id=PRODUCT, shop_id=SHOP, title="Mug", base_price=Decimal("19.99"))
_VARIATION = Variation(id=VARIATION, amount=5, product_id=PRODUCT, product=_PRODUCT)
_MESSAGE = Message(
    id=1,
    event_id="e0000000-0000-4000-8000-000000000001",
    type="order.item.created",
    order_id=4,
    body="{}",
    traceparent=None,
    created_at=datetime(2025, 12, 1, 10, tzinfo=UTC),
    attempts=1,
    is_doubtful=False,
)


def item(**changes: Any) -> Item:
    """Return item 9 of order 4: two of something at 19.99, Processing."""
    return structs.replace(_ITEM, **changes)


def order(*items: Item | int, **changes: Any) -> Order:
    """Return the owner's order 4 with these items, or items of these statuses."""
    told = [
        item(id=place, status=each) if isinstance(each, int) else each
        for place, each in enumerate(items, start=1)
    ]
    return structs.replace(_ORDER, **{"metadata": {}, "items": told} | changes)


def snapshot(*items: Item | int, version: int = 7, **changes: Any) -> Snapshot:
    """Return a snapshot of `order(*items, **changes)`."""
    told = order(*items, **changes)
    versions = {each.id: 1 for each in told.items}
    return Snapshot(told, version, versions, read_at=NOW)


def product(**changes: Any) -> Product:
    """Return a product of a shop at a base price of 19.99."""
    return structs.replace(_PRODUCT, **changes)


def variation(**changes: Any) -> Variation:
    """Return a sellable variation of which there are 5, without a price of its own."""
    return structs.replace(_VARIATION, **changes)


def cart_line(quantity: int | None = 2, **changes: Any) -> CartLine:
    """Return line 7 of a cart: some of the sellable variation."""
    return structs.replace(CartLine(7, str(VARIATION), quantity), **changes)


def line(**changes: Any) -> Line:
    """Return a line: two pieces at 19.99."""
    return structs.replace(Line(VARIATION, 2, PRODUCT, SHOP, 1999), **changes)


def message(**changes: Any) -> Message:
    """Return outbox row 1 at its first attempt: an `order.item.created` of order 4."""
    return structs.replace(_MESSAGE, **changes)


def published(change: Change | None) -> list[tuple[str, Any]]:
    """Return the type and the item of each event, in order."""
    assert change is not None
    found = [(event.type, json.loads(event.body)) for event in change.events]
    return [(type_, body.get("order_item_id")) for type_, body in found]


def steps(change: Change) -> list[tuple[str, int | None, int | None, int | None]]:
    """Return the history's entries of items: kind, id, from and to."""
    return [
        (e.kind, e.item_id, e.from_status, e.to_status)
        for e in change.history
        if e.item_id is not None
    ]
