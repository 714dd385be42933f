"""Shapes of requests and replies as msgspec structs, with errors that name the field.

msgspec rejects `true`, `3.0` and `"3"` where an int belongs; UNSET (absent) differs
from null.
"""

import re
import threading
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from common.errors import InvalidRequestError

MAX_ID = 2**63 - 1
MAX_QUANTITY = 10_000
MAX_LINES = 200
MAX_METADATA_KEYS = 50

PROCESSING, SHIPPED, DELIVERED, CANCELLED = 1, 2, 3, 4

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Quantity = Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]
Status = Annotated[
    int,
    Meta(
        ge=PROCESSING,
        le=CANCELLED,
        description="1 Processing, 2 Shipped, 3 Delivered, 4 Cancelled",
    ),
]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=40)]
MetadataValue = Annotated[str, Meta(max_length=500)]

T = TypeVar("T")

# To decode a mebibyte takes up to 50 ms, in which no other thread gets its turn; of
# several such threads each would get one before anybody else does.
LARGE_BODY_BYTES = 32 * 1024
_one_large_body = threading.Lock()


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


class NewLine(Struct):
    """One line of a new order."""

    product_variation: UUID
    quantity: Quantity = 1


class NewOrder(Struct):
    """The body of `POST /api/orders/`."""

    user_id: UUID | None = None
    metadata: dict[MetadataKey, MetadataValue] = msgspec.field(default_factory=dict)
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
    metadata: dict[MetadataKey, MetadataValue | None] | UnsetType | None = UNSET


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


def decode(body: bytes, shape: type[T]) -> T:
    """Answer `body` as `shape`; raises InvalidRequestError naming field and rule."""
    if len(body) <= LARGE_BODY_BYTES:
        return _decode(body, shape)
    with _one_large_body:
        return _decode(body, shape)


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        # As text: msgspec does not look into the bytes of what it ignores.
        return msgspec.json.decode(body.decode(), type=shape)
    except msgspec.ValidationError as error:
        field, rule = _field_and_rule(str(error))
        raise InvalidRequestError.of(field, rule) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError("The body is not valid JSON.") from error


def encode(value: object) -> str:
    """Answer `value` as JSON text."""
    return msgspec.json.encode(value).decode()


_PLACE = re.compile(r" - at (`key` in )?`\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<field>\w+)`")


def _field_and_rule(message: str) -> tuple[str, str]:
    """Split msgspec's message; a missing field is named itself, not its parent."""
    place = _PLACE.search(message)
    path = place["path"] if place else ""
    rule = _PLACE.sub("", message).replace("`", "")
    if missing := _MISSING.search(message):
        field = missing["field"]
        return (f"{path}.{field}" if path else field), "is required"
    rule = rule[:1].lower() + rule[1:]
    return path or "body", f"key: {rule}" if place and place[1] else rule


def check_metadata(metadata: Mapping[str, str | None]) -> None:
    """Raise InvalidRequestError for what PostgreSQL cannot store or is too much."""
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidRequestError.of("metadata", f"at most {MAX_METADATA_KEYS} keys")
    for key, value in metadata.items():
        if "\x00" in key or "\x00" in (value or ""):
            rule = "must not contain NUL characters"
            raise InvalidRequestError.of("metadata", rule)


_UUID = re.compile(
    r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}"
)


def parse_uuid(value: str | None) -> UUID | None:
    """Answer the UUID, in any case, with all its dashes or none; None for all else."""
    if value is None or not _UUID.fullmatch(value.lower()):
        return None
    return UUID(value)
