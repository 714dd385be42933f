"""Approve an order once all its items are final, and report it to analytics.

Analytics gets its event through the outbox like any broker, so an approval never waits
for it.
"""

import time
from collections.abc import Mapping, Sequence

from common.database.engine import Engine, connect, named
from common.domain.approval import decide
from common.errors import (
    BusyError,
    NotFoundError,
)
from common.messaging import envelopes
from common.messaging.dead_letters import DeadLetter, keep
from common.messaging.pending import Bus, PendingEvents
from common.store.orders import Target, change_order
from common.telemetry import logs, tracing

log = logs.get("approval")

SWEEP_BATCH = 500
SWEEP_SECONDS = 20.0
# Headers that nobody may read later: whose they are, or who they say is calling.
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
_MAX_TRAIT = 255  # characters of an id or type that somebody else chose


def approve(engine: Engine, order_id: int, bus: Bus) -> PendingEvents | None:
    """Approve the order if it is due; return what is owed then, None where it is not.

    Of any number of calls at once exactly one approves. Raise NotFoundError.
    """
    pending = change_order(engine, Target(order_id=order_id), decide, bus).pending
    if pending is not None:
        log.info("order approved", extra={"fields": {"order_id": order_id}})
    return pending


def take(
    engine: Engine, headers: Mapping[str, str], body: bytes, bus: Bus
) -> PendingEvents | None:
    """Take one event that arrived; return what is to be sent now, if anything may be.

    Returning acknowledges. Duplicates, latecomers, and events about deleted or unknown
    orders do no harm; what can never be understood becomes a dead letter. Raises
    BusyError or DatabaseUnavailableError where a redelivery will help.
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
    told: dict[str, str | int] = {
        "messaging.operation.type": "process",
        "order.id": incoming.order_id,
    }
    try:
        with tracing.within(f"process {incoming.type}", tracing.Kind.CONSUMER, told):
            pending = approve(engine, incoming.order_id, bus)
    except NotFoundError:
        log.info("the order no longer exists")
        return None
    return pending or PendingEvents(incoming.order_id)


def keep_given_up(engine: Engine, headers: Mapping[str, str], body: bytes) -> None:
    """Keep a message that its broker has delivered in vain too often, readable or not.

    Raise DatabaseUnavailableError where a redelivery will help.
    """
    traits = envelopes.describe(headers, body)
    count = traits.deliveries
    after = "" if count is None else f" after {count} deliveries"
    _keep(engine, headers, body, f"given up by the broker{after}", traits)


def _keep(
    engine: Engine,
    headers: Mapping[str, str],
    body: bytes,
    reason: str,
    traits: envelopes.Traits,
) -> None:
    """Make a message a dead letter, with what an operator may look for."""
    if traits.order_id is not None:
        logs.set_order_id(traits.order_id)
    lower = {name.lower(): value for name, value in headers.items()}
    kept = {name: lower[name] for name in lower if name not in _SECRET}
    letter = DeadLetter(
        source="approval",
        reason=reason,
        body=body,
        headers=kept,
        event_id=traits.event_id and traits.event_id[:_MAX_TRAIT],
        event_type=traits.event_type and traits.event_type[:_MAX_TRAIT],
        order_id=traits.order_id,
    )
    with connect(engine) as connection:
        keep(connection, letter)


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
    """Approve complete orders that no trigger approved; answer their ids.

    A batch at most, and none is begun when `seconds` have passed. Their events are
    left to the relay's next sweep.
    """
    deadline = time.monotonic() + seconds
    with connect(engine) as connection:
        found = connection.execute(_FORGOTTEN, {"limit": SWEEP_BATCH}).scalars().all()
    approved = []
    for order_id in found:
        if time.monotonic() >= deadline:
            break
        try:
            if approve(engine, order_id, Bus(tuple(bus))):
                approved.append(order_id)
        except NotFoundError:  # deleted since it was found
            continue
        except BusyError:  # somebody holds it: the next sweep's, and no other's loss
            log.warning(
                "an order is locked by another request",
                extra={"fields": {"order_id": order_id}},
            )
    return approved
