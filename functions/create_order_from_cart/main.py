"""POST /api/orders-from-shopcart/: the caller's cart becomes an order.

The checks are in `common/domain/checkout.py`. The cart itself is an idempotency key: it
is looked up before the order is written, and also before a cart is repaired or refused,
because the first checkout may have taken the stock that a repeated one finds missing.
Every such look-up raises AlreadyProcessedError if there is a response to replay.
"""

import time
from collections.abc import Sequence
from uuid import UUID

import functions_framework
from flask import Request, Response

from common import startup, wiring
from common.clients import product, shopcart
from common.clients.repairs import Repair, Siblings, repair
from common.domain import checkout, orders
from common.domain.cart import Cart, Variation
from common.domain.commands import CheckoutReply
from common.errors import CartRepairedError, EmptyCartError, ServiceError
from common.json import encode
from common.messaging.pending import PendingEvents
from common.store import idempotency
from common.store.idempotency import AlreadyProcessedError, Claim, StoredResponse
from common.store.orders import create_order
from common.telemetry import logs
from common.web import keys, requests
from common.web.app import create_app, respond
from common.web.conditions import etag

# How many item ids are drawn with the look-up of a header's key, when the cart has not
# been read yet. A cart with more lines takes another round trip.
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
        response, pending = _check_out(user_id, claims)
    except AlreadyProcessedError as earlier:
        return keys.to_response(earlier.response)
    wiring.relay().send(pending)
    return keys.to_response(response)


def _check_out(
    user_id: UUID, claims: list[Claim]
) -> tuple[StoredResponse, PendingEvents | None]:
    """Return the response and the events to send; raise AlreadyProcessedError."""
    settings, engine = startup.settings(), wiring.engine()
    ids = idempotency.begin(engine, claims, SPARE_ITEM_IDS) if claims else None

    deadline = time.monotonic() + settings.upstream_deadline_seconds
    try:
        cart = shopcart.get_shopcart_data(wiring.shopcart(), user_id, deadline)
        if not cart.items:
            raise EmptyCartError
        claims = [*claims, _claim(user_id, cart)]
        orders.check_size(len({line.variation for line in cart.items} - {None}))
        variations = _get_variations(user_id, cart, deadline)
    except ServiceError:
        # A repetition of this request may have ordered and emptied the cart …
        idempotency.check(engine, claims)
        raise
    review = checkout.review(cart.items, variations)
    if review.fixes:
        # … or taken the stock that is missing now.
        idempotency.check(engine, claims)
        siblings = Siblings(wiring.shopcart(), wiring.product(), user_id, deadline)
        repairs = repair(siblings, cart, variations, review.fixes)
        return _repaired(cart, repairs, claims), None

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
    headers = {"Location": location, "ETag": etag(1)}
    response = StoredResponse(201, headers, encode(reply))
    return response, create_order(engine, change, wiring.bus(), claims, response)


def _claim(user_id: UUID, cart: Cart) -> Claim:
    lines = [(line.id, line.product_variation_id, line.quantity) for line in cart.items]
    return idempotency.by_cart(user_id, cart.id, lines)


def _get_variations(
    user_id: UUID, cart: Cart, deadline: float
) -> dict[UUID, Variation | None]:
    ids = [line.variation for line in cart.items if line.variation is not None]
    return product.get_variations(wiring.product(), user_id, ids, deadline)


def _repaired(
    cart: Cart, repairs: Sequence[Repair], claims: Sequence[Claim]
) -> StoredResponse:
    """Return the response to a cart that was repaired as far as possible.

    It is stored under the header's key if the cart may have changed, so that the same
    key never orders what its caller has not seen. If it cannot be stored, or after a
    crash before that, the same key orders the repaired cart.
    """
    message = checkout.repair_message([r.fix for r in repairs if not r.is_fixed])
    response = keys.to_stored(
        CartRepairedError(
            message,
            extra={
                "message": message,
                "issues_found": len(repairs),
                "items_fixed": sum(r.is_fixed for r in repairs),
                "cart_id": cart.id,
                "details": [
                    checkout.describe(r.fix, is_fixed=r.is_fixed) for r in repairs
                ],
            },
        )
    )
    if any(r.has_changed for r in repairs):
        try:
            idempotency.keep(wiring.engine(), claims, response)
        except ServiceError as error:  # the caller must know of the repair anyway
            log.warning(
                "the reply to a repaired cart is not stored, so its key orders the"
                " repaired cart if it is sent again: %s",
                error.detail,
            )
    return response


@functions_framework.http
def create_order_from_cart(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
