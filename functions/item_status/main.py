"""PATCH /api/order-items/{id}/status/: a shop changes an item's status.

The shop service accepts only 200 and stores the `status` it returns, so a repeated
status is a 200, too.
"""

import functions_framework
from flask import Request, Response

from common import startup, wiring
from common.domain import orders
from common.domain.commands import StatusPatch
from common.domain.model import INTERNAL, SHOP, Change, Snapshot
from common.store.orders import Target, change_order
from common.web import replies, requests
from common.web.app import create_app, respond
from common.web.conditions import check_if_match, etag
from common.web.identity import check_shop

wiring.start("DATABASE", "EVENT_BUS", "IDENTITY")
app = create_app("item_status", wiring.check_ready)


@app.patch("/api/order-items/<id:item_id>/status")
def set_status(item_id: int) -> Response:
    """Move the item, tell whoever follows it, answer it as it is now."""
    settings = startup.settings()
    accepts_internal = not settings.status_requires_shop_claim
    caller = requests.caller(settings, accepts_internal=accepts_internal)
    wanted = requests.body(StatusPatch)

    def decide(snapshot: Snapshot) -> Change | None:
        check_shop(caller, snapshot.item(item_id).shop_id, settings)
        check_if_match(snapshot.item_versions[item_id])
        change = orders.set_status(snapshot, item_id, wanted.status, caller.user_id)
        if change is not None:
            change.actor_kind = SHOP if caller.has_token else INTERNAL
        return change

    target = Target(item_id=item_id)
    done = change_order(wiring.engine(), target, decide, wiring.bus())
    wiring.relay().send(done.owed)
    version = done.after.item_versions[item_id]
    item = done.after.item(item_id)
    return replies.json_response(item, headers={"ETag": etag(version)})


@functions_framework.http
def item_status(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
