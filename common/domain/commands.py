"""Bodies of requests that ask for a change, and the replies to a checkout.

msgspec rejects `true`, `3.0` and `"3"` where an int belongs; UNSET (absent) differs
from null.
"""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from common.domain.model import Id, Order, Quantity, Status
from common.json import NO_NUL

MAX_LINES = 200
MAX_METADATA_KEYS = 50
MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS = 40, 500

MetadataKey = Annotated[
    str, Meta(min_length=1, max_length=MAX_KEY_CHARACTERS, pattern=NO_NUL)
]
MetadataValue = Annotated[str, Meta(max_length=MAX_VALUE_CHARACTERS, pattern=NO_NUL)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue], Meta(max_length=MAX_METADATA_KEYS)
]
MetadataPatch = Annotated[
    dict[MetadataKey, MetadataValue | None], Meta(max_length=MAX_METADATA_KEYS)
]


class NewLine(Struct):
    """One line of a new order."""

    product_variation: UUID
    quantity: Quantity = 1


class NewOrder(Struct):
    """The body of `POST /api/orders/`."""

    user_id: UUID | None = None
    metadata: Metadata = msgspec.field(default_factory=dict)
    items: Annotated[list[NewLine], Meta(max_length=MAX_LINES)] = msgspec.field(
        default_factory=list
    )


class NewItem(Struct):
    """The body of `POST /api/order-items/`."""

    order: Id
    product_variation: UUID
    quantity: Quantity = 1


class OrderPatch(Struct):
    """The body of `PATCH /api/orders/{id}/`; `metadata` is a JSON merge patch."""

    user_id: UUID | UnsetType | None = UNSET
    is_approved: bool | UnsetType = UNSET
    metadata: MetadataPatch | UnsetType | None = UNSET


class ItemPatch(Struct):
    """The body of `PATCH /api/order-items/{id}/`: one of `quantity` and `status`.

    The other fields are known so that an attempt to change them can be refused.
    """

    quantity: Quantity | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    order: Any = UNSET
    product_variation: Any = UNSET
    product_id: Any = UNSET
    shop_id: Any = UNSET
    price: Any = UNSET


class StatusPatch(Struct):
    """The body of `PATCH /api/order-items/{id}/status/`."""

    status: Status


class CheckoutReply(Struct):
    """The body of a successful checkout."""

    message: str
    order_id: Id
    items_count: int
    total_quantity: int
    order: Order


class ValidatedItem(Struct):
    """An item that a checkout would order, and the cart lines that it comes from."""

    product_variation: UUID
    product_id: UUID | None
    shop_id: UUID | None
    product_title: str | None
    quantity: Quantity
    price: Annotated[int, Meta(ge=0)]
    cart_item_ids: list[int]


class ValidationReply(Struct):
    """What a checkout would order. `total` is in minor units, as prices are."""

    valid: bool
    items_count: int
    total_quantity: int
    total: Annotated[int, Meta(ge=0)]
    items: list[ValidatedItem]
