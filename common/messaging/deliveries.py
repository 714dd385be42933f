"""Write a log line and a span for each attempt to publish an event.

Events published together share their duration.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from common.publishing.publisher import Message, Outcome, Result
from common.telemetry import logs, tracing

if TYPE_CHECKING:
    from common.telemetry.otel import Span

log = logs.get("relay")
_SYSTEMS = {"pubsub": "gcp_pubsub"}  # as semantic conventions name them


def log_attempts(
    destination: str,
    messages: Sequence[Message],
    outcomes: Sequence[Outcome],
    seconds: float,
) -> None:
    """Log a line for each event that was tried, a warning if it was not sent.

    An event that is sent at once is the rule, and logged at DEBUG only: a line for each
    would be half of all that is logged.
    """
    if not log.isEnabledFor(logging.WARNING):
        return
    by_id = {message.id: message for message in messages}
    for outcome in outcomes:
        is_ok = outcome.reason is None
        if outcome.result is Result.NOT_TRIED and is_ok:
            continue
        message = by_id[outcome.id]
        level = logging.WARNING
        if is_ok:
            level = logging.INFO if message.attempts > 1 else logging.DEBUG
        if not log.isEnabledFor(level):
            continue
        fields = {
            "event_id": message.event_id,
            "event_type": message.type,
            "order_id": message.order_id,
            "destination": destination,
            "outcome": outcome.result.value,
            "attempt": message.attempts,
            "milliseconds": round(seconds * 1000, 2),
        }
        if message.traceparent:
            fields |= logs.trace_fields(message.traceparent)
        ending = "sent"
        if not is_ok:
            fields["reason"] = outcome.reason or ""
            ending = f"not sent: {outcome.result.value}"
        logs.write(log, level, f"an event was {ending}", fields)


def start_spans(
    destination: str, messages: Sequence[Message]
) -> tuple[Sequence[Message], "dict[int, Span]"]:
    """Start a span for each event, in the trace of the request that recorded it.

    Return the messages to publish, which carry these spans to their consumers, and the
    spans by the message's id.
    """
    if not tracing.is_on():
        return messages, {}
    spans: dict[int, Span] = {}
    for message in messages:
        attributes: dict[str, str | int] = {
            "messaging.system": _SYSTEMS.get(destination, destination),
            "messaging.destination.name": destination,
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.message.id": message.event_id,
            "event.type": message.type,
            "event.attempt": message.attempts,
            "order.id": message.order_id,
        }
        name = f"publish {message.type}"
        parent = message.traceparent
        span = tracing.start(name, tracing.Kind.PRODUCER, attributes, parent=parent)
        if span is not None:
            spans[message.id] = span
    traced = [
        structs.replace(message, traceparent=spans[message.id].traceparent)
        if message.id in spans
        else message
        for message in messages
    ]
    return traced, spans


def end_spans(
    destination: str, spans: "Mapping[int, Span]", outcomes: Sequence[Outcome]
) -> None:
    """Count attempts and end their spans; drop the spans of events not tried."""
    if (sdk := tracing.sdk()) is None:
        return
    for outcome in outcomes:
        if outcome.result is Result.NOT_TRIED:
            continue
        result = outcome.result.value
        sdk.deliveries.add(1, {"destination": destination, "outcome": result})
        if span := spans.get(outcome.id):
            span.end(error=None if outcome.result is Result.SENT else result)
