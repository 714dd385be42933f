"""The API's operations: what each is for, takes, answers, and can fail with.

Lives here: the table that `openapi.py` turns into the document. Not here: shapes
(`schemas.py`) and the routes themselves (`functions/`). Surprise: nothing reads this to
serve a request; a test holds it against the functions' own route tables instead.
"""

from msgspec import Struct

from common import errors
from common.errors import ServiceError

UPSTREAM = (
    errors.UpstreamBrokenError,
    errors.UpstreamUnavailableError,
    errors.UpstreamTimeoutError,
)


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path, told as far as it is not what all of its kind share.

    `body` and `reply` name schemas, `filters` and `parameters` name parameters.
    `filters` makes it a list of `reply`, `is_page` one that has an `ETag`.
    What its kind shares is in `openapi.py`.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str = ""
    body: str | None = None
    reply: str | None = None
    replied: str = "As it is now"
    filters: tuple[str, ...] = ()
    is_page: bool = False
    errors: tuple[type[ServiceError], ...] = ()

    @property
    def has_id(self) -> bool:
        """Tell whether it is about one order or item, which has a version."""
        return "{id}" in self.path


OPERATIONS = (
    Operation(
        method="post",
        path="/api/orders-from-shopcart/",
        name="create_order_from_cart",
        tag="Checkout",
        summary="Order what is in the cart",
        description=(
            "Prices come from the product service. A request body is ignored.\n\n"
            "Safe to repeat without any header: for the very same cart lines the"
            " order that exists is answered, with 200. Where a line cannot be ordered"
            " as it is, the cart is repaired, nothing is ordered, and the answer is a"
            " 409 that lists every repair."
        ),
        reply="CheckoutReply",
        replied="The cart is now an order",
        errors=(
            errors.EmptyCartError,
            errors.CartNotFoundError,
            errors.CartRepairedError,
            *UPSTREAM,
        ),
    ),
    Operation(
        method="get",
        path="/api/orders/",
        name="list_orders",
        tag="Orders",
        summary="List the caller's orders",
        reply="Order",
        replied="A page of orders, newest first",
        filters=("is_approved", "created_after", "created_before"),
    ),
    Operation(
        method="post",
        path="/api/orders/",
        name="create_order",
        tag="Orders",
        summary="Create an order by hand",
        description=(
            "The caller owns it. Items are optional, priced and checked against the"
            " product service; the same variation twice becomes one item."
        ),
        body="NewOrder",
        reply="Order",
        replied="The order",
        errors=(errors.ForbiddenError, errors.ItemUnavailableError, *UPSTREAM),
    ),
    Operation(
        method="get",
        path="/api/orders/{id}/",
        name="get_order",
        tag="Orders",
        summary="Read an order",
        reply="Order",
    ),
    Operation(
        method="get",
        path="/api/orders/{id}/timeline/",
        name="get_timeline",
        tag="Orders",
        summary="Read what happened to an order",
        description=(
            "Oldest first, as it was recorded: an order's items come before the order"
            " itself. Each step tells who acted, and what siblings are told of it."
        ),
        reply="TimelineEntry",
        replied="A page of steps, oldest first",
        is_page=True,
    ),
    Operation(
        method="patch",
        path="/api/orders/{id}/",
        name="patch_order",
        tag="Orders",
        summary="Change an order's metadata, or approve it",
        description=(
            "`metadata` is a JSON merge patch. `is_approved: true` is honoured only"
            " when the order has items and all of them are final; `false` never"
            " revokes an approval."
        ),
        body="OrderPatch",
        reply="Order",
        errors=(
            errors.ForbiddenError,
            errors.OrderNotCompleteError,
            errors.OrderApprovedError,
        ),
    ),
    Operation(
        method="delete",
        path="/api/orders/{id}/",
        name="delete_order",
        tag="Orders",
        summary="Delete an order of which nothing has shipped",
        description="Its open items are announced as Cancelled.",
        errors=(errors.OrderApprovedError, errors.OrderShippedError),
    ),
    Operation(
        method="get",
        path="/api/order-items/",
        name="list_items",
        tag="Order items",
        summary="List the items of the caller's orders",
        reply="Item",
        replied="A page of items, newest first",
        filters=("order", "status", "shop_id", "product_variation"),
    ),
    Operation(
        method="post",
        path="/api/order-items/",
        name="create_item",
        tag="Order items",
        summary="Add an item to an order",
        description=(
            "Price, product and shop come from the product service, never from the"
            " caller. An approved order takes no more items."
        ),
        body="NewItem",
        reply="Item",
        replied="The item",
        errors=(
            errors.NotFoundError,
            errors.OrderApprovedError,
            errors.ItemUnavailableError,
            *UPSTREAM,
        ),
    ),
    Operation(
        method="get",
        path="/api/order-items/{id}/",
        name="get_item",
        tag="Order items",
        summary="Read an item",
        reply="Item",
    ),
    Operation(
        method="patch",
        path="/api/order-items/{id}/",
        name="patch_item",
        tag="Order items",
        summary="Change an item's quantity, or cancel it",
        description=(
            "Only while it is Processing. An owner's one status is 4, Cancelled;"
            " any other status, and any other field, is a 403."
        ),
        body="ItemPatch",
        reply="Item",
        errors=(
            errors.ForbiddenError,
            errors.IllegalTransitionError,
            errors.ItemNotOpenError,
            errors.ItemUnavailableError,
            *UPSTREAM,
        ),
    ),
    Operation(
        method="delete",
        path="/api/order-items/{id}/",
        name="delete_item",
        tag="Order items",
        summary="Delete an item that is Processing",
        description="It is announced as Cancelled.",
        errors=(errors.ItemNotOpenError,),
    ),
    Operation(
        method="patch",
        path="/api/order-items/{id}/status/",
        name="set_item_status",
        tag="Item status",
        summary="Move an item towards its end",
        description=(
            "For the shop that sells the item, through the shop service: a caller with"
            " a token needs the item's shop in its verified claim `shop_uuid`.\n\n"
            "Allowed are 1→2, 1→3, 1→4, 2→3 and 2→4. The same status again is a 200"
            " that changes nothing."
        ),
        body="StatusPatch",
        reply="Item",
        errors=(errors.ForbiddenError, errors.IllegalTransitionError),
    ),
)
