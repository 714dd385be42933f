"""PATCH /api/order-items/{id}/status/: a shop changes an item's status.

The shop service accepts only 200 and stores the `status` of the response. So a repeated
status is a 200, too, and so is Cancelled for what its owner has taken back meanwhile.
"""

from functools import partial

import functions_framework
from flask import Request, Response

from common import startup, wiring
from common.database.engine import connect
from common.domain import orders
from common.domain.commands import StatusPatch
from common.domain.model import INTERNAL, SHOP, Actor
from common.errors import (
    IllegalTransitionError,
    NotFoundError,
    PreconditionFailedError,
)
from common.store import cancelled
from common.store.cancelled import CancelledItem
from common.store.orders import Target, change_order, load
from common.web import replies, requests
from common.web.app import create_app, respond
from common.web.conditions import etag, if_match
from common.web.identity import check_shop

wiring.start("DATABASE", "EVENT_BUS", "IDENTITY")
app = create_app("item_status", wiring.CHECKS)


@app.patch("/api/order-items/<id:item_id>/status")
def set_status(item_id: int) -> Response:
    """Change the item's status, publish the event, and return the item."""
    settings = startup.settings()
    accepts_internal = not settings.status_requires_shop_claim
    caller = requests.caller(settings, accepts_internal=accepts_internal)
    patch = requests.body(StatusPatch)
    actor = Actor(caller.user_id, SHOP if caller.has_token else INTERNAL)
    target = Target(item_id=item_id, versions=if_match())

    rule = partial(orders.set_status, item_id=item_id, status=patch.status, actor=actor)

    with connect(wiring.engine()) as connection:
        try:
            snapshot = load(connection, target)
            # Once is enough, because an item's shop never changes.
            check_shop(caller, snapshot.item(item_id).shop_id, settings)
            changed = change_order(
                connection, target, rule, wiring.bus(), snapshot=snapshot
            )
        except (NotFoundError, IllegalTransitionError):
            if caller.has_token or not accepts_internal:
                raise
            found = cancelled.read_item(connection, item_id)
            if found is None:
                raise
            return _reply(found, target)
    wiring.relay().send(changed.pending)
    version = changed.snapshot.item_versions[item_id]
    item = changed.snapshot.item(item_id)
    return replies.json_response(item, headers={"ETag": etag(version)})


def _reply(found: CancelledItem, target: Target) -> Response:
    """Return the item that the shop's row is to follow."""
    if found.version is not None:
        return replies.json_response(found.body, headers={"ETag": etag(found.version)})
    if target.versions is not None:
        raise PreconditionFailedError
    return replies.json_response(found.body)


@functions_framework.http
def item_status(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
