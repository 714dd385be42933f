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


def tell(
    destination: str,
    messages: Sequence[Message],
    outcomes: Sequence[Outcome],
    seconds: float,
) -> None:
    """Log a line for each event that was tried, a warning where it was not sent."""
    if not log.isEnabledFor(logging.WARNING):
        return
    by_id = {message.id: message for message in messages}
    for outcome in outcomes:
        is_well = outcome.reason is None
        if outcome.result is Result.NOT_TRIED and is_well:
            continue
        level = logging.INFO if is_well else logging.WARNING
        if not log.isEnabledFor(level):
            continue
        message = by_id[outcome.id]
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
        if not is_well:
            fields["reason"] = outcome.reason or ""
        said = f"not sent: {outcome.result.value}" if not is_well else "sent"
        logs.write(log, level, f"an event was {said}", fields)


def trace(
    destination: str, messages: Sequence[Message]
) -> tuple[Sequence[Message], "dict[int, Span]"]:
    """Begin a span for each event, in the trace it waited with.

    Answers the messages as they are to go out, so that who gets them is its child.
    """
    if not tracing.is_on():
        return messages, {}
    spans: dict[int, Span] = {}
    for message in messages:
        told: dict[str, str | int] = {
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
        span = tracing.start(name, tracing.Kind.PRODUCER, told, parent=parent)
        if span is not None:
            spans[message.id] = span
    passed_on = [
        structs.replace(message, traceparent=spans[message.id].traceparent)
        if message.id in spans
        else message
        for message in messages
    ]
    return passed_on, spans


def end(
    destination: str, spans: "Mapping[int, Span]", outcomes: Sequence[Outcome]
) -> None:
    """Count what was tried, and end its spans; of what was not none remains."""
    if (sdk := tracing.sdk()) is None:
        return
    for outcome in outcomes:
        if outcome.result is Result.NOT_TRIED:
            continue
        how = outcome.result.value
        sdk.deliveries.add(1, {"destination": destination, "outcome": how})
        if span := spans.get(outcome.id):
            span.end(error=None if outcome.result is Result.SENT else how)
