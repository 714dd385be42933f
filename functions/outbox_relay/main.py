"""The sweep, called each minute by a scheduler: sends what is still owed.

Lives here: the order of chores and their time. Not here: how events are sent
(`common/outbox.py`). Surprise: it also approves complete orders whose trigger was lost,
first, so that what those approvals owe goes out in the same sweep.
"""

import functions_framework
from flask import Request, Response

from common import approval, http, idempotency, wiring
from common.db import connect

SWEEP_SECONDS = 25.0

wiring.start("DATABASE", "EVENT_BUS")
app = http.make_app("outbox_relay", wiring.check_ready)


@app.post("/", defaults={"path": ""})
@app.post("/<path:path>")
def sweep(path: str) -> Response:  # noqa: ARG001 schedulers call any path
    """Approve what was forgotten, send what is owed, forget what expired."""
    engine = wiring.engine()
    approved = approval.sweep(engine, wiring.settings().bus)
    sent = wiring.relay().sweep(SWEEP_SECONDS)
    with connect(engine) as connection:
        purged = idempotency.purge(connection)
    return http.json_response(
        {"approved": approved, "events": sent, "purged_keys": purged}
    )


@functions_framework.http
def outbox_relay(request: Request) -> Response:
    """Answer one request; the framework's target."""
    return http.dispatch(app, request)
