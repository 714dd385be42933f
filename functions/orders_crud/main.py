"""/api/orders/ and /api/order-items/: owners read and change their orders.

Another owner's order is treated like one that does not exist.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from uuid import UUID

import functions_framework
from flask import Request, Response, request
from msgspec import UNSET

from common import startup, wiring
from common.clients import product
from common.database.engine import connect
from common.domain import approval, checkout, orders
from common.domain.cart import Variation
from common.domain.commands import (
    ItemPatch,
    NewItem,
    NewOrder,
    OrderPatch,
)
from common.domain.model import Actor, Change, Item, Order, Snapshot
from common.domain.stock import NOT_READ, Stock
from common.json import encode
from common.store import idempotency, paging, reads, timeline
from common.store.idempotency import AlreadyProcessedError, StoredResponse
from common.store.orders import Target, add_item, change_order, create_order, load
from common.web import keys, replies, requests
from common.web.app import create_app, respond
from common.web.conditions import etag, if_match

wiring.start("DATABASE", "EVENT_BUS", "IDENTITY", "PRODUCT_SERVICE")
app = create_app("orders_crud", wiring.CHECKS)

ORDER_FILTERS = {
    "is_approved": paging.parse_bool,
    "created_after": paging.parse_moment,
    "created_before": paging.parse_moment,
}
ITEM_FILTERS = {
    "order": paging.parse_id,
    "status": paging.parse_status,
    "shop_id": paging.parse_uuid_filter,
    "product_variation": paging.parse_uuid_filter,
}


@app.get("/api/orders")
def list_orders() -> Response:
    """Return a page of the caller's orders."""
    return _list("orders", ORDER_FILTERS)


@app.get("/api/order-items")
def list_items() -> Response:
    """Return a page of the caller's order items."""
    return _list("order_items", ITEM_FILTERS)


@app.get("/api/orders/<id:order_id>")
def get_order(order_id: int) -> Response:
    """Return one order."""
    user_id = _user_id()
    with connect(wiring.engine()) as connection:
        return replies.document(reads.read_order(connection, order_id, user_id))


@app.get("/api/orders/<id:order_id>/timeline")
def get_timeline(order_id: int) -> Response:
    """Return a page of what happened to one order, oldest first."""
    user_id = _user_id()
    query = paging.parse_query(request.args, {})
    with connect(wiring.engine()) as connection:
        page, next_after = timeline.read_page(connection, order_id, user_id, query)
    return _with_link(replies.document(page), query, next_after)


@app.get("/api/order-items/<id:item_id>")
def get_item(item_id: int) -> Response:
    """Return one order item."""
    user_id = _user_id()
    with connect(wiring.engine()) as connection:
        return replies.document(reads.read_item(connection, item_id, user_id))


@app.post("/api/orders")
def post_order() -> Response:
    """Create an order without a cart, checked and priced by the product service."""
    user_id = _user_id()
    body = requests.body(NewOrder)
    orders.check_owner(body.user_id, user_id)
    claims = keys.claims(user_id)
    try:
        ids = idempotency.begin(wiring.engine(), claims, len(body.items))
        variations = _get_variations(
            user_id, [line.product_variation for line in body.items]
        )
        lines = checkout.price(body.items, variations)

        change = orders.new_order(
            user_id,
            lines,
            ids,
            stock=Stock(variations, ids.at),
            metadata=body.metadata,
        )
        created = _created(f"/api/orders/{change.order.id}/", change.order)
        pending = create_order(wiring.engine(), change, wiring.bus(), claims, created)
    except AlreadyProcessedError as earlier:
        return keys.to_response(earlier.response)
    wiring.relay().send(pending)
    return keys.to_response(created)


@app.patch("/api/orders/<id:order_id>")
def patch_order(order_id: int) -> Response:
    """Change metadata, or approve a complete order."""
    user_id = _user_id()
    patch = requests.body(OrderPatch)
    orders.check_owner(patch.user_id, user_id)

    target = Target(order_id=order_id, user_id=user_id, versions=if_match())
    rule = partial(approval.patch_order, patch=patch, actor=Actor(user_id))
    after = _change(target, rule)
    return replies.json_response(after.order, headers={"ETag": etag(after.version)})


@app.delete("/api/orders/<id:order_id>")
def delete_order(order_id: int) -> Response:
    """Delete an order of which nothing has shipped."""
    user_id = _user_id()

    target = Target(order_id=order_id, user_id=user_id, versions=if_match())
    _change(target, partial(orders.delete_order, actor=Actor(user_id)))
    return Response(status=204)


@app.post("/api/order-items")
def create_item() -> Response:
    """Add an item to an order that is not approved."""
    user_id = _user_id()
    body = requests.body(NewItem)
    claims = keys.claims(user_id)
    target = Target(order_id=body.order, user_id=user_id)
    try:
        ids = idempotency.begin(wiring.engine(), claims, 1, body.order)
        with connect(wiring.engine()) as connection:
            before = load(connection, target)
        orders.check_not_approved(before)
        variations = _get_variations(user_id, [body.product_variation])
        [line] = checkout.price([body], variations, "product_variation")

        item = orders.new_item(body.order, ids.item_ids[0], line)
        created = _created(f"/api/order-items/{item.id}/", item)

        rule = partial(
            orders.add_item,
            item=item,
            actor=Actor(user_id),
            stock=Stock(variations, before.read_at),
            title=line.title,
        )
        pending = add_item(wiring.engine(), before, rule, wiring.bus(), claims, created)
    except AlreadyProcessedError as earlier:
        return keys.to_response(earlier.response)
    wiring.relay().send(pending)
    return keys.to_response(created)


@app.patch("/api/order-items/<id:item_id>")
def patch_item(item_id: int) -> Response:
    """Change the quantity of an item that is Processing, or cancel it."""
    user_id = _user_id()
    patch = requests.body(ItemPatch)
    orders.check_item_patch(patch)
    target = Target(item_id=item_id, user_id=user_id, versions=if_match())
    before, stock = None, NOT_READ
    if patch.quantity is not UNSET:
        with connect(wiring.engine()) as connection:
            before = load(connection, target)
        target.check(before)
        orders.set_quantity(before, item_id, patch.quantity, Actor(user_id))
        item = before.item(item_id)
        if patch.quantity > item.quantity:
            variations = _get_variations(user_id, [item.product_variation])
            stock = Stock(variations, before.read_at)

    rule = partial(
        orders.patch_item,
        item_id=item_id,
        patch=patch,
        actor=Actor(user_id),
        stock=stock,
    )
    after = _change(target, rule, before)
    version = after.item_versions[item_id]
    return replies.json_response(after.item(item_id), headers={"ETag": etag(version)})


@app.delete("/api/order-items/<id:item_id>")
def delete_item(item_id: int) -> Response:
    """Delete an item that is Processing."""
    user_id = _user_id()

    target = Target(item_id=item_id, user_id=user_id, versions=if_match())
    _change(target, partial(orders.remove_item, item_id=item_id, actor=Actor(user_id)))
    return Response(status=204)


def _user_id() -> UUID:
    return requests.caller(startup.settings()).user_id


def _get_variations(user_id: UUID, ids: Iterable[UUID]) -> dict[UUID, Variation | None]:
    deadline = time.monotonic() + startup.settings().upstream_deadline_seconds
    return product.get_variations(wiring.product(), user_id, ids, deadline)


def _change(
    target: Target,
    rule: Callable[[Snapshot], Change | None],
    before: Snapshot | None = None,
) -> Snapshot:
    """Change an order and send the events; return the order after that."""
    with connect(wiring.engine()) as connection:
        changed = change_order(connection, target, rule, wiring.bus(), snapshot=before)
    wiring.relay().send(changed.pending)
    return changed.snapshot


def _list(table: str, parsers: Mapping[str, paging.Parser]) -> Response:
    user_id = _user_id()
    query = paging.parse_query(request.args, parsers)
    with connect(wiring.engine()) as connection:
        page = reads.read_page(connection, table, user_id, query)
    return _with_link(replies.json_response(page.body), query, page.next_after)


def _with_link(
    response: Response, query: paging.ListQuery, next_after: int | None
) -> Response:
    """Add the link to the next page, if there is one."""
    if next_after is not None:
        path = requests.public_path(request.path, startup.settings())
        response.headers["Link"] = paging.next_link(path, query, next_after)
    return response


def _created(path: str, resource: Order | Item) -> StoredResponse:
    headers = {
        "Location": requests.public_path(path, startup.settings()),
        "ETag": etag(1),
    }
    return StoredResponse(201, headers, encode(resource))


@functions_framework.http
def orders_crud(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
