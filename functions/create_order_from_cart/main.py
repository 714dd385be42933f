"""POST /api/orders-from-shopcart/: the caller's cart becomes an order.

The order of steps; the checks are in `common/domain/checkout.py`. The cart itself is an
idempotency key: it is looked up before the order is written, and before a cart is
repaired or refused, too, because the first checkout may have lowered the very stock
that the second asks for. Whichever step finds the request answered raises that answer.
"""

import time
from uuid import UUID

import functions_framework
from flask import Request, Response

from common import startup, wiring
from common.clients import product, shopcart
from common.domain import checkout, orders
from common.domain.cart import Cart
from common.domain.commands import CheckoutReply
from common.errors import CartRepairedError, EmptyCartError, ServiceError
from common.json import encode
from common.messaging.pending import PendingEvents
from common.store import idempotency
from common.store.idempotency import AlreadyAnsweredError, Claim, StoredResponse
from common.store.orders import create_order
from common.telemetry import logs
from common.web import keys, requests
from common.web.app import create_app, respond
from common.web.conditions import etag

# Ids drawn with the look-up of a header's key, when nobody has read the cart yet. A
# cart of more lines takes one more round trip.
SPARE_ITEM_IDS = 100

log = logs.get("checkout")
wiring.start("DATABASE", "EVENT_BUS", "IDENTITY", "SHOPCART_SERVICE", "PRODUCT_SERVICE")
app = create_app("create_order_from_cart", wiring.check_ready)


@app.post("/api/orders-from-shopcart")
def order_cart() -> Response:
    """Order what is in the cart, or repair the cart; the body is ignored."""
    user_id = requests.caller(startup.settings()).user_id
    claims = keys.claims(user_id)
    try:
        answer, pending = _check_out(user_id, claims)
    except AlreadyAnsweredError as earlier:
        return keys.answer(earlier.answer)
    wiring.relay().send(pending)
    return keys.answer(answer)


def _check_out(
    user_id: UUID, claims: list[Claim]
) -> tuple[StoredResponse, PendingEvents | None]:
    """Return the answer, and what is to be sent; raise what was answered earlier."""
    settings, engine = startup.settings(), wiring.engine()
    ids = idempotency.begin(engine, claims, SPARE_ITEM_IDS) if claims else None

    deadline = time.monotonic() + settings.upstream_deadline_seconds
    try:
        cart = shopcart.get_shopcart_data(wiring.shopcart(), user_id, deadline)
        if not cart.items:
            raise EmptyCartError
        claims = [*claims, _claim(user_id, cart)]
        review = _review(user_id, cart, deadline)
    except ServiceError:
        # The same request may have been faster, and its order has emptied the cart …
        idempotency.check(engine, claims)
        raise
    if review.fixes:
        # … or has lowered the stock that this one found wanting.
        idempotency.check(engine, claims)
        return _repair(user_id, cart.id, review.fixes, claims, deadline), None

    if ids is None or len(ids.item_ids) < len(review.lines):
        ids = idempotency.begin(engine, claims, len(review.lines))
    change = orders.new_order(user_id, review.lines, ids, cart_id=cart.id)
    reply = CheckoutReply(
        message="Order created successfully",
        order_id=change.order.id,
        items_count=len(change.order.items),
        total_quantity=sum(item.quantity for item in change.order.items),
        order=change.order,
    )
    location = requests.public_path(f"/api/orders/{change.order.id}/", settings)
    answer = StoredResponse(201, {"Location": location, "ETag": etag(1)}, encode(reply))
    return answer, create_order(engine, change, wiring.bus(), claims, answer)


def _claim(user_id: UUID, cart: Cart) -> Claim:
    lines = [(i.id, i.product_variation_id, i.quantity) for i in cart.items]
    return idempotency.by_cart(user_id, cart.id, lines)


def _review(user_id: UUID, cart: Cart, deadline: float) -> checkout.Review:
    """Check the cart against what the product service says, all lines at once."""
    wanted = [i.variation for i in cart.items if i.variation is not None]
    variations = product.get_variations(wiring.product(), user_id, wanted, deadline)
    return checkout.review(cart.items, variations)


def _repair(
    user_id: UUID,
    cart_id: int,
    fixes: list[checkout.Fix],
    claims: list[Claim],
    deadline: float,
) -> StoredResponse:
    """Repair the cart, all lines side by side, and return what the caller is told.

    That is kept under the header's key if the cart has changed: the same key must not
    order what its caller has not seen. A crash in between leaves no answer, and the
    next request finds the cart as it is.
    """
    repairs = [(fix.line.id, fix.new_quantity) for fix in fixes]
    done = shopcart.repair(wiring.shopcart(), user_id, repairs, deadline)
    details = [
        checkout.describe(fix, is_fixed=fixed)
        for fix, fixed in zip(fixes, done, strict=True)
    ]
    message = CartRepairedError.__doc__
    answer = keys.refusal(
        CartRepairedError(
            extra={
                "message": message,
                "issues_found": len(fixes),
                "items_fixed": sum(done),
                "cart_id": cart_id,
                "details": details,
            }
        )
    )
    if any(done):
        try:
            idempotency.keep(wiring.engine(), claims, answer)
        except ServiceError as error:  # the caller must know of the repair anyway
            log.warning("a repaired cart's reply is not stored: %s", error.detail)
    return answer


@functions_framework.http
def create_order_from_cart(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
