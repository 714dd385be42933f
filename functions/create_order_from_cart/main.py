"""POST /api/orders-from-shopcart/: the caller's cart becomes an order.

Lives here: the order of steps. Not here: the checks (`common/checkout.py`). Surprise:
the cart itself is an idempotency key, looked up before stock is checked; by then the
first checkout may have lowered the very stock that the second would ask for.
"""

import time
from uuid import UUID

import functions_framework
from flask import Request, Response

from common import checkout, http, idempotency, logs, orders, store, wiring
from common.clients import product, shopcart
from common.errors import CartRepairedError, EmptyCartError
from common.idempotency import Answer
from common.schemas import CheckoutReply, encode

wiring.start("DATABASE", "EVENT_BUS", "SHOPCART_SERVICE", "PRODUCT_SERVICE")
app = http.make_app("create_order_from_cart", wiring.check_ready)


@app.post("/api/orders-from-shopcart/")
def create_order() -> Response:
    """Order what is in the cart, or repair the cart; the body is ignored."""
    settings = wiring.settings()
    user_id = http.caller(settings).user_id
    claims = http.claims(user_id)
    if replay := idempotency.replay(wiring.engine(), claims):
        return http.answer(replay)

    deadline = time.monotonic() + settings.upstream_deadline_seconds
    cart = shopcart.read_cart(wiring.shopcart(), user_id, deadline)
    if not cart.items:
        # The same request may have been faster, and its order has emptied the cart.
        if replay := idempotency.replay(wiring.engine(), claims):
            return http.answer(replay)
        raise EmptyCartError
    lines = [(i.id, i.product_variation_id, i.quantity) for i in cart.items]
    claims.append(idempotency.by_cart(user_id, cart.id, lines))
    if replay := idempotency.replay(wiring.engine(), claims):
        return http.answer(replay)
    wanted = [i.variation for i in cart.items if i.variation is not None]
    variations = product.read_variations(wiring.product(), user_id, wanted, deadline)
    review = checkout.review(cart.items, variations)
    if review.fixes:
        # Or its order has lowered the stock that this one found wanting.
        if replay := idempotency.replay(wiring.engine(), claims):
            return http.answer(replay)
        raise _repaired(user_id, cart.id, review.fixes, deadline)

    reserved = store.reserve(wiring.engine(), len(review.lines), wants_order=True)
    change = orders.new_order(user_id, review.lines, reserved, cart_id=cart.id)
    reply = CheckoutReply(
        message="Order created successfully",
        order_id=change.order.id,
        items_count=len(change.order.items),
        total_quantity=sum(item.quantity for item in change.order.items),
        order=change.order,
    )
    location = http.public_path(f"/api/orders/{change.order.id}/", settings)
    headers = {"Location": location, "ETag": http.etag(1)}
    answer = store.create_order(
        wiring.engine(),
        change,
        settings.bus,
        claims,
        Answer(201, headers, encode(reply)),
    )

    if not answer.is_replayed:
        logs.set_order_id(change.order.id)
        wiring.relay().hand_over(change.order.id)
    return http.answer(answer)


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
    """Answer one request; the framework's target."""
    return http.dispatch(app, request)
