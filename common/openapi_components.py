"""What the API document's operations refer to: schemas, parameters, headers, examples.

Lives here: the parts that are not one operation's own. Not here: which operation uses
them (`openapi_operations.py`), problems (`openapi_problems.py`). Surprise: shapes come
from `schemas.py` as msgspec tells them; only what a type cannot say is added here.
"""

import inspect
from typing import Any

import msgspec

from common import schemas
from common.errors import CartRepairedError
from common.openapi_problems import UUID, problem_shapes
from common.paging import DEFAULT_LIMIT, MAX_LIMIT

BODIES = (
    schemas.CheckoutReply,
    schemas.Order,
    schemas.Item,
    schemas.TimelineEntry,
    schemas.NewOrder,
    schemas.NewItem,
    schemas.OrderPatch,
    schemas.ItemPatch,
    schemas.StatusPatch,
)

ID = {"type": "integer", "format": "int64", "minimum": 1, "maximum": schemas.MAX_ID}
MOMENT = {"type": "string", "format": "date-time"}

USER_ID = "d0d0d0d0-0000-4000-8000-0000000000aa"
ITEM = {
    "id": 9,
    "order": 4,
    "status": schemas.PROCESSING,
    "quantity": 2,
    "product_variation": "a0000000-0000-4000-8000-000000000001",
    "product_id": "b0000000-0000-4000-8000-000000000001",
    "shop_id": "50000000-0000-4000-8000-000000000001",
    "price": 1999,
}
ORDER = {
    "id": 4,
    "user_id": USER_ID,
    "created_at": "2025-12-01T10:00:00.058493Z",
    "is_approved": False,
    "metadata": {"gift": "yes"},
    "items": [ITEM],
}
STEP = {
    "at": "2025-12-02T09:30:00.000000Z",
    "kind": "item.moved",
    "item": 9,
    "from_status": schemas.PROCESSING,
    "to_status": schemas.SHIPPED,
    "from_quantity": None,
    "to_quantity": None,
    "from_cart": None,
    "by": "shop",
    "event": {
        "type": "order.item.status.updated",
        "sent_at": "2025-12-02T09:30:00.041000Z",
    },
}
LINE = {"product_variation": ITEM["product_variation"], "quantity": 2}
REPAIRS = {
    "message": inspect.getdoc(CartRepairedError),
    "issues_found": 2,
    "items_fixed": 2,
    "cart_id": 42,
    "details": [
        {
            "cart_item_id": 7,
            "product_variation_id": ITEM["product_variation"],
            "product_title": "Mug",
            "action": "quantity_updated",
            "old_quantity": 9,
            "new_quantity": 5,
            "reason": "insufficient_stock",
            "fixed": True,
        },
        {
            "cart_item_id": 8,
            "product_variation_id": "a0000000-0000-4000-8000-000000000002",
            "product_title": None,
            "action": "removed",
            "reason": "not_found",
            "fixed": True,
        },
    ],
}
EXAMPLES = {
    "Item": ITEM,
    "Order": ORDER,
    "TimelineEntry": STEP,
    "CheckoutReply": {
        "message": "Order created successfully",
        "order_id": 4,
        "items_count": 1,
        "total_quantity": 2,
        "order": ORDER | {"metadata": {}},
    },
    "NewOrder": {"metadata": {"gift": "yes"}, "items": [LINE]},
    "NewItem": {"order": 4} | LINE,
    "OrderPatch": {"metadata": {"gift": None, "note": "ring twice"}},
    "ItemPatch": {"quantity": 3},
    "StatusPatch": {"status": schemas.SHIPPED},
}


def shapes() -> dict[str, Any]:
    """Answer the schemas of all bodies and problems."""
    template = "#/components/schemas/{name}"
    _, found = msgspec.json.schema_components(BODIES, ref_template=template)
    for name, shape in found.items():
        shape["description"] = inspect.cleandoc(shape["description"])
        if not shape["required"]:
            del shape["required"]
        # Fields of any type are only there to be refused.
        shape["properties"] = {k: v for k, v in shape["properties"].items() if v}
        for field in shape["properties"].values():
            if field.get("maximum") == schemas.MAX_ID:
                field["format"] = "int64"
        if name in EXAMPLES:
            shape["examples"] = [EXAMPLES[name]]
    found["Order"]["properties"]["created_at"] = MOMENT
    found["TimelineEntry"]["properties"]["at"] = MOMENT
    sent_at = {"type": ["string", "null"], "format": "date-time"}
    found["TimelineEvent"]["properties"]["sent_at"] = sent_at
    found["ItemPatch"]["not"] = {"required": ["quantity", "status"]}
    return found | problem_shapes()


def _parameter(
    where: str, name: str, description: str, schema: dict[str, Any]
) -> dict[str, Any]:
    found = {"name": name, "in": where, "description": description, "schema": schema}
    return found | ({"required": True} if where == "path" else {})


_TAG = r'(W/)?"[!#-~]*"'
_TAGS = {
    "type": "string",
    "pattern": rf"^ *(\*|{_TAG}( *, *{_TAG})*) *$",
    "examples": ['"3"'],
}
_LIMIT = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_LIMIT,
    "default": DEFAULT_LIMIT,
}
_STATUS = {"type": "integer", "enum": [1, 2, 3, 4]}
_KEY = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}

PARAMETERS = {
    "id": _parameter("path", "id", "The id of the order or item", ID),
    "limit": _parameter("query", "limit", "How many at most", _LIMIT),
    "cursor": _parameter(
        "query",
        "cursor",
        "Where the page starts: opaque, from the `Link` of the page before",
        {"type": "string"},
    ),
    "is_approved": _parameter(
        "query", "is_approved", "Only those (not) approved", {"type": "boolean"}
    ),
    "created_after": _parameter(
        "query", "created_after", "Only those created later than this", MOMENT
    ),
    "created_before": _parameter(
        "query", "created_before", "Only those created earlier than this", MOMENT
    ),
    "order": _parameter("query", "order", "Only the items of this order", ID),
    "status": _parameter(
        "query",
        "status",
        "1 Processing, 2 Shipped, 3 Delivered, 4 Cancelled",
        _STATUS,
    ),
    "shop_id": _parameter("query", "shop_id", "Only those of this shop", UUID),
    "product_variation": _parameter(
        "query", "product_variation", "Only those of this variation", UUID
    ),
    "Idempotency-Key": _parameter(
        "header",
        "Idempotency-Key",
        "The caller's name for this request: for 24 hours the same request under it"
        " gets the first answer again, another request is a 422",
        _KEY,
    ),
    "If-Match": _parameter(
        "header", "If-Match", "Only change the version with this `ETag`", _TAGS
    ),
    "If-None-Match": _parameter(
        "header", "If-None-Match", "304 where this is still the `ETag`", _TAGS
    ),
    "X-Request-ID": _parameter(
        "header",
        "X-Request-ID",
        "Comes back with the answer and is in every log line; made where absent",
        {"type": "string"},
    ),
}


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "schema": schema}


def _always(description: str) -> dict[str, Any]:
    """Answer a header that no answer lacks for which it is told."""
    return _header(description, _TEXT) | {"required": True}


_TEXT = {"type": "string"}
HEADERS = {
    "ETag": _always("The version, strong"),
    "Location": _always("Where what was created is"),
    "Link": _header('`<…>; rel="next"` (RFC 8288) while there is more', _TEXT),
    "Retry-After": _header("Seconds to wait before another try", {"type": "integer"}),
    "X-Request-ID": _always("The request's id, in every log line"),
    "Idempotency-Replayed": _header("`true` on an earlier answer, given again", _TEXT),
    "WWW-Authenticate": _always("`Bearer`"),
    "Cache-Control": _always("How long it may be kept, and by whom"),
    "Vary": _always("What else the answer depends on: `Accept`"),
    "Allow": _always("The methods that this path has"),
}
