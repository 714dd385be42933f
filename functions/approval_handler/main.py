"""The HTTP trigger of approval: accepts events in any CloudEvents or Pub/Sub envelope.

It is a plain HTTP function, because the framework's CloudEvent functions reject
unknown envelopes, and an error means redelivery for ever.
"""

from collections.abc import Mapping

import functions_framework
from flask import Request, Response, request

from common import approval, wiring
from common.messaging import envelopes
from common.web.app import body_size, create_app, respond

# Cloud Run's limit. A Pub/Sub message may have 10 MB, which is 13.4 MB in base64, and
# would be redelivered for ever after a 413. Only the start of such a body is kept.
MAX_BODY_BYTES = 32 * 1024 * 1024

wiring.start("DATABASE", "EVENT_BUS")
app = create_app(
    "approval_handler",
    wiring.CHECKS,
    max_body_bytes=MAX_BODY_BYTES,
    kept_body_bytes=envelopes.MAX_EVENT_BYTES,
)


@app.post("/", defaults={"path": ""})
@app.post("/<path:path>")
def take_event(path: str) -> Response:  # noqa: ARG001 triggers call any path
    """Return 204 if the event is processed or can never be; 503 asks for redelivery."""
    pending = approval.take(wiring.engine(), *_message(), wiring.bus())
    wiring.relay().send(pending)
    return Response(status=204)


@app.post("/dead-letters")
def keep_given_up() -> Response:
    """Store a message that the broker's own dead-letter topic or queue forwards."""
    approval.keep_given_up(wiring.engine(), *_message())
    return Response(status=204)


def _message() -> tuple[Mapping[str, str], bytes]:
    """Return the headers, by lower-case name, and the body, a large one truncated."""
    headers = {name.lower(): value for name, value in request.headers}
    body = request.get_data()
    return envelopes.cut(headers, body, body_size(request)), body


@functions_framework.http
def approval_handler(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
