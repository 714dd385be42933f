"""POST /api/orders-from-shopcart/: the caller's cart becomes an order.

The checks are in `common/domain/checkout.py`. The cart itself is an idempotency key: it
is looked up before the order is written, and also before a cart is repaired or refused,
because the first checkout may have taken the stock that a repeated one finds missing,
or emptied the cart. Every such look-up raises AlreadyProcessedError if there is a
response to replay, and CartSettlingError if some of the lines are ordered already.

`validate_only` makes the same checks, and neither writes nor looks up anything here.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import functions_framework
from flask import Request, Response, request

from common import startup, wiring
from common.clients import product, shopcart
from common.clients.repairs import Repair, Siblings, repair
from common.domain import checkout, orders
from common.domain.cart import Cart, Variation
from common.domain.checkout import Fix, Review
from common.domain.commands import CheckoutReply, ValidationReply
from common.domain.stock import Stock
from common.errors import CartRepairedError, EmptyCartError, ServiceError
from common.json import encode
from common.messaging.pending import PendingEvents
from common.store import idempotency, paging
from common.store.idempotency import AlreadyProcessedError, Claim, StoredResponse
from common.store.orders import create_order
from common.telemetry import logs
from common.web import keys, requests
from common.web.app import create_app, respond
from common.web.conditions import etag
from common.web.replies import json_response

# How many item ids are drawn with the look-up of a header's key, when the cart has not
# been read yet. A cart with more lines takes another round trip.
SPARE_ITEM_IDS = 100

log = logs.get("checkout")
wiring.start("DATABASE", "EVENT_BUS", "IDENTITY", "SHOPCART_SERVICE", "PRODUCT_SERVICE")
app = create_app("create_order_from_cart", wiring.CHECKS)


@app.post("/api/orders-from-shopcart")
def order_cart() -> Response:
    """Order what is in the cart, or repair the cart; the body is ignored.

    With `validate_only` say what would become of it, and change nothing.
    """
    user_id = requests.caller(startup.settings()).user_id
    claims = keys.claims(user_id)
    parsers = {"validate_only": paging.parse_bool}
    if paging.parse_parameters(request.args, parsers).get("validate_only"):
        return json_response(_validate(user_id))
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
    stock_read_at = ids.at if ids else None

    deadline = time.monotonic() + settings.upstream_deadline_seconds
    try:
        cart = shopcart.get_shopcart_data(wiring.shopcart(), user_id, deadline)
        claims = [*claims, _claim(user_id, cart)]
        asked_at = time.monotonic()
        variations, review = _review(user_id, cart, deadline)
    except ServiceError:
        # A repetition of this request may have ordered and emptied the cart …
        idempotency.check(engine, claims)
        raise
    if review.fixes:
        # … or taken the stock that is missing now.
        idempotency.check(engine, claims)
        siblings = Siblings(wiring.shopcart(), wiring.product(), user_id, deadline)
        repairs = repair(siblings, cart, variations, review.fixes)
        return _repaired(cart, repairs, claims), None

    if ids is None or len(ids.item_ids) < len(review.lines):
        ids = idempotency.begin(engine, claims, len(review.lines))
        # By the database's clock, as holds are.
        stock_read_at = ids.seconds_before(time.monotonic() - asked_at)
    change = orders.new_order(
        user_id,
        review.lines,
        ids,
        cart_id=cart.id,
        stock=Stock(variations, stock_read_at),
    )
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


def _validate(user_id: UUID) -> ValidationReply:
    """Return what a checkout would order.

    Raise CartRepairedError if it would repair the cart, and its other errors.
    """
    deadline = time.monotonic() + startup.settings().upstream_deadline_seconds
    cart = shopcart.get_shopcart_data(wiring.shopcart(), user_id, deadline)
    variations, review = _review(user_id, cart, deadline)
    if review.fixes:
        unfixed = [(fix, False) for fix in review.fixes]
        raise _refusal(cart, checkout.NOTHING_CHANGED, unfixed)
    return checkout.preview(cart.items, variations, review.lines)


def _review(
    user_id: UUID, cart: Cart, deadline: float
) -> tuple[Mapping[UUID, Variation | None], Review]:
    """Return the cart's variations and what is to be done with its lines.

    Raise EmptyCartError, or OrderFullError before the product service is called.
    """
    if not cart.items:
        raise EmptyCartError
    ids = {line.variation for line in cart.items if line.variation is not None}
    orders.check_size(len(ids))
    variations = product.get_variations(wiring.product(), user_id, ids, deadline)
    return variations, checkout.review(cart.items, variations)


def _repaired(
    cart: Cart, repairs: Sequence[Repair], claims: Sequence[Claim]
) -> StoredResponse:
    """Return the response to a cart that was repaired as far as possible.

    It is stored under the header's key if the cart may have changed, so that the same
    key never orders what its caller has not seen. If it cannot be stored, or after a
    crash before that, the same key orders the repaired cart.
    """
    message = checkout.repair_message([r.fix for r in repairs if not r.is_fixed])
    fixes = [(r.fix, r.is_fixed) for r in repairs]
    response = keys.to_stored(_refusal(cart, message, fixes))
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


def _refusal(
    cart: Cart, message: str, fixes: Iterable[tuple[Fix, bool]]
) -> CartRepairedError:
    """Return the error that lists each fix, and whether the cart took it."""
    details = [checkout.describe(fix, is_fixed=is_fixed) for fix, is_fixed in fixes]
    return CartRepairedError(
        message,
        extra={
            "message": message,
            "issues_found": len(details),
            "items_fixed": sum(each["fixed"] for each in details),
            "cart_id": cart.id,
            "details": details,
        },
    )


@functions_framework.http
def create_order_from_cart(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
