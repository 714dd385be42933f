"""POST /api/orders-from-shopcart/: the caller's cart becomes an order.

Lives here: the order of steps. Not here: the checks (`common/checkout.py`). Surprise:
the cart itself is an idempotency key. The write looks it up; before a cart is repaired
or refused it is looked up, too, because the first checkout may have lowered the very
stock that the second asks for.
"""

import time
from uuid import UUID

import functions_framework
from flask import Request, Response

from common import checkout, http, idempotency, orders, store, wiring
from common.app import create_app, respond
from common.clients import product, shopcart
from common.errors import CartRepairedError, EmptyCartError, ServiceError
from common.idempotency import Answer, Claim
from common.placeholders import placeholders
from common.schemas import CheckoutReply, encode

wiring.start("DATABASE", "EVENT_BUS", "IDENTITY", "SHOPCART_SERVICE", "PRODUCT_SERVICE")
app = create_app("create_order_from_cart", wiring.check_ready)


@app.post("/api/orders-from-shopcart/")
def create_order() -> Response:
    """Order what is in the cart, or repair the cart; the body is ignored."""
    settings = wiring.settings()
    user_id = http.caller(settings).user_id
    claims = http.claims(user_id)
    if replay := idempotency.replay(wiring.engine(), claims):
        return http.answer(replay)

    deadline = time.monotonic() + settings.upstream_deadline_seconds
    try:
        cart = shopcart.get_shopcart_data(wiring.shopcart(), user_id, deadline)
        if not cart.items:
            raise EmptyCartError
        claims.append(_claim(user_id, cart))
        review = _review(user_id, cart, deadline)
    except ServiceError:
        # The same request may have been faster, and its order has emptied the cart …
        if replay := idempotency.replay(wiring.engine(), claims):
            return http.answer(replay)
        raise
    if review.fixes:
        # … or has lowered the stock that this one found wanting.
        if replay := idempotency.replay(wiring.engine(), claims):
            return http.answer(replay)
        raise _repaired(user_id, cart.id, review.fixes, deadline)

    ids = placeholders(len(review.lines))
    change = orders.new_order(user_id, review.lines, ids, cart_id=cart.id)
    reply = CheckoutReply(
        message="Order created successfully",
        order_id=change.order.id,
        items_count=len(change.order.items),
        total_quantity=sum(item.quantity for item in change.order.items),
        order=change.order,
    )
    location = http.public_path(f"/api/orders/{change.order.id}/", settings)
    headers = {"Location": location, "ETag": http.etag(1)}
    answer, owed = store.create_order(
        wiring.engine(),
        change,
        wiring.bus(),
        claims,
        Answer(201, headers, encode(reply)),
    )
    wiring.relay().send(owed)
    return http.answer(answer)


def _claim(user_id: UUID, cart: shopcart.Cart) -> Claim:
    lines = [(i.id, i.product_variation_id, i.quantity) for i in cart.items]
    return idempotency.by_cart(user_id, cart.id, lines)


def _review(user_id: UUID, cart: shopcart.Cart, deadline: float) -> checkout.Review:
    """Check the cart against what the product service says, all lines at once."""
    wanted = [i.variation for i in cart.items if i.variation is not None]
    variations = product.get_variations(wiring.product(), user_id, wanted, deadline)
    return checkout.review(cart.items, variations)


def _repaired(
    user_id: UUID, cart_id: int, fixes: list[checkout.Fix], deadline: float
) -> CartRepairedError:
    """Repair the cart, all lines side by side, and answer what the caller is told."""
    repairs = [(fix.line.id, fix.new_quantity) for fix in fixes]
    done = shopcart.repair(wiring.shopcart(), user_id, repairs, deadline)
    details = [
        checkout.describe(fix, is_fixed=fixed)
        for fix, fixed in zip(fixes, done, strict=True)
    ]
    message = CartRepairedError.__doc__
    return CartRepairedError(
        extra={
            "message": message,
            "issues_found": len(fixes),
            "items_fixed": sum(done),
            "cart_id": cart_id,
            "details": details,
        }
    )


@functions_framework.http
def create_order_from_cart(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
