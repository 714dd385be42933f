"""The sweep, called each minute by a scheduler: publishes pending events.

It first approves complete orders whose trigger was lost, so that their events go out in
the same sweep.
"""

import functions_framework
from flask import Request, Response

from common import approval, startup, wiring
from common.operations import lag, retention
from common.web import replies
from common.web.app import create_app, respond

# With a slow statement or two, a call takes less than a minute, after which the
# scheduler calls again and does the rest. Only analytics may take longer, up to 80
# seconds, because no work goes on after the response; then two sweeps overlap.
APPROVE_SECONDS = 10.0
SWEEP_SECONDS = 25.0

wiring.start("DATABASE", "EVENT_BUS")
app = create_app("outbox_relay", wiring.CHECKS)


@app.post("/", defaults={"path": ""})
@app.post("/<path:path>")
def sweep(path: str) -> Response:  # noqa: ARG001 schedulers call any path
    """Approve, publish, settle stock, purge old rows, and report the lag."""
    engine, settings = wiring.engine(), startup.settings()
    approved = approval.sweep(engine, settings.bus, APPROVE_SECONDS)
    sent = wiring.relay().sweep(SWEEP_SECONDS, served_by="outbox_relay")
    settled = retention.settle_holds(
        engine, wiring.optional_product(), settings.stock_settle_seconds
    )
    purged = retention.purge(engine, settings.event_retention_days)
    lag.report(engine, len(approved))
    return replies.json_response(
        {
            "approved": approved,
            "events": sent,
            "settled_variations": settled,
            "purged_keys": purged.keys,
            "purged_events": purged.events,
        }
    )


@functions_framework.http
def outbox_relay(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
