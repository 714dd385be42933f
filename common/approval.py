"""Approve an order once all its items are final, and notify analytics.

Analytics gets its event through the outbox like any broker, so an approval never waits
for it.
"""

import time
from collections.abc import Mapping, Sequence

from common.database.engine import Engine, connect, named
from common.domain.approval import decide
from common.errors import BusyError, NotFoundError, ServiceError
from common.messaging import dead_letters, envelopes
from common.messaging.dead_letters import DeadLetter
from common.messaging.pending import Bus, PendingEvents
from common.store.orders import Target, change_order
from common.telemetry import logs, tracing

log = logs.get("approval")


def approve(engine: Engine, order_id: int, bus: Bus) -> PendingEvents | None:
    """Approve the order if it is due, and return the events to send; else return None.

    Of any number of concurrent calls exactly one approves. Raise NotFoundError.
    """
    with connect(engine) as connection:
        changed = change_order(connection, Target(order_id=order_id), decide, bus)
    pending = changed.pending
    if pending is not None:
        log.info("order approved", extra={"fields": {"order_id": order_id}})
    return pending


def take(
    engine: Engine, headers: Mapping[str, str], body: bytes, bus: Bus
) -> PendingEvents | None:
    """Process one incoming event; return what to send, None if there can be nothing.

    Returning acknowledges it. Duplicates, late events, and events of deleted or unknown
    orders do no harm; an unreadable one becomes a dead letter. Raise BusyError or
    DatabaseUnavailableError if a redelivery will help.
    """
    try:
        incoming = envelopes.read(headers, body)
    except envelopes.UnreadableError as error:
        traits = envelopes.describe(headers, body)
        _keep(engine, headers, body, str(error), traits)
        return None
    if incoming.order_id is None:
        return None
    logs.set_order_id(incoming.order_id)
    attributes: dict[str, str | int] = {
        "messaging.operation.type": "process",
        "order.id": incoming.order_id,
    }
    try:
        with tracing.within(
            f"process {incoming.type}", tracing.Kind.CONSUMER, attributes
        ):
            pending = approve(engine, incoming.order_id, bus)
    except NotFoundError:
        log.info("the order no longer exists")
        return None
    return pending or PendingEvents(incoming.order_id)


def keep_given_up(engine: Engine, headers: Mapping[str, str], body: bytes) -> None:
    """Make a message a dead letter that its broker has delivered too often.

    This is the last resort: if that fails, store the message without its headers. Raise
    BusyError or DatabaseUnavailableError if a redelivery will help.
    """
    reason = "given up by the broker"
    try:
        traits = envelopes.describe(headers, body)
        if traits.deliveries is not None:
            reason += f" after {traits.deliveries} deliveries"
        if (size := envelopes.size(headers, body)) > envelopes.MAX_EVENT_BYTES:
            reason += f"; the body has {size} bytes, only its start is kept"
        _keep(engine, headers, body, reason, traits)
    except ServiceError:
        raise
    except Exception:
        log.exception("a dead letter is stored without its headers")
        reason = "given up by the broker; its headers could not be stored"
        _keep(engine, {}, body, reason, envelopes.Traits())


SWEEP_BATCH = 500
SWEEP_SECONDS = 20.0
_FORGOTTEN = named(
    "approval.forgotten",
    """
SELECT id FROM orders WHERE is_complete AND NOT is_approved
ORDER BY id LIMIT CAST(:limit AS int)
""",
)


def sweep(
    engine: Engine, bus: Sequence[str], seconds: float = SWEEP_SECONDS
) -> list[int]:
    """Approve complete orders that no trigger approved; return their ids.

    Approve one batch at most, and start no more once `seconds` have passed. The relay's
    next sweep sends their events.
    """
    deadline = time.monotonic() + seconds
    try:
        with connect(engine) as connection:
            rows = connection.execute(_FORGOTTEN, {"limit": SWEEP_BATCH})
            found = rows.scalars().all()
    except BusyError:  # events must not wait for what was not found in time
        log.warning("complete orders were not looked for: the database is busy")
        return []
    approved = []
    for order_id in found:
        if time.monotonic() >= deadline:
            break
        try:
            if approve(engine, order_id, Bus(tuple(bus))):
                approved.append(order_id)
        except NotFoundError:  # deleted since it was found
            continue
        except BusyError:  # another request has locked it: left to the next sweep
            log.warning(
                "an order is locked by another request",
                extra={"fields": {"order_id": order_id}},
            )
    return approved


# Headers that are not kept, because they hold credentials or claims.
_SECRET = frozenset(
    {
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-apigateway-api-userinfo",
        "x-forwarded-authorization",
        "x-goog-iap-jwt-assertion",
        "x-serverless-authorization",
    }
)
_MAX_TRAIT_CHARACTERS = 255  # of an id or type that another system chose
KEPT_BODY_BYTES = 4096  # of a body that is larger than any event
_MAX_HEADERS = 100
_MAX_NAME_CHARACTERS = 256
_MAX_VALUE_CHARACTERS = 1024


def _keep(
    engine: Engine,
    headers: Mapping[str, str],
    body: bytes,
    reason: str,
    traits: envelopes.Traits,
) -> None:
    """Make a message a dead letter, with what an operator may search for."""
    if traits.order_id is not None:
        logs.set_order_id(traits.order_id)
    kept: Mapping[str, str] = _bounded(headers)
    if (size := envelopes.size(headers, body)) > envelopes.MAX_EVENT_BYTES:
        body = body[:KEPT_BODY_BYTES]
        kept = envelopes.cut(kept, body, size)
    dead_letter = DeadLetter(
        source="approval",
        reason=reason,
        body=body,
        headers=kept,
        event_id=traits.event_id and traits.event_id[:_MAX_TRAIT_CHARACTERS],
        event_type=traits.event_type and traits.event_type[:_MAX_TRAIT_CHARACTERS],
        order_id=traits.order_id,
    )
    with connect(engine) as connection:
        dead_letters.keep(connection, dead_letter)


def _bounded(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers to keep, by lower-case name, without secrets.

    Truncate long ones; if there are too many, keep the shortest, and add how many were
    left out.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    names = [name for name in lower if name not in _SECRET]
    left_out = len(names) - _MAX_HEADERS
    if left_out > 0:
        names.sort(key=lambda name: len(name) + len(lower[name]))
    kept = {
        _truncated(name, _MAX_NAME_CHARACTERS): _truncated(
            lower[name], _MAX_VALUE_CHARACTERS
        )
        for name in names[:_MAX_HEADERS]
    }
    if left_out > 0:
        kept["x-headers-left-out"] = str(left_out)
    return kept


def _truncated(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
