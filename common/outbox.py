"""The outbox: events wait here, from the commit that caused them until confirmed.

Lives here: rows for new events, the claim on what is due, what becomes of each attempt,
and the relay. Not here: how a destination is spoken to (`publishing/`). Surprise: a
claim is committed before the first byte is sent. A row whose claim ran out unsettled is
therefore known to be in doubt, and not taken for one that was never tried.
"""

import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, text

from common import events, logs
from common.db import connect
from common.errors import ServiceError
from common.publishing import THROUGH, Message, Outcome, Publisher, Result
from common.schemas import encode

log = logs.get("outbox")

CLAIM_SECONDS = 60
SWEEP_PATIENCE_SECONDS = 20.0
HAND_OVER_PATIENCE_SECONDS = 2.0
BATCH = 200
MAX_ATTEMPTS = 20
MAX_BACKOFF_SECONDS = 3600
MAX_DEFERRAL_SECONDS = 60
# How long nobody tries a destination again that was not there or did not answer.
PAUSE_SECONDS = 5.0
HAND_OVER_ROUNDS = 20
_IS_COUNTED = (Result.REFUSED, Result.UNCONFIRMED, Result.DEFERRED)
_IS_AWAY = (Result.UNAVAILABLE, Result.UNCONFIRMED)


def rows(recorded: Iterable[events.Event], bus: Sequence[str]) -> list[dict[str, Any]]:
    """Answer the outbox rows, in order: one for each event and destination."""
    context = logs.current()
    pairs = [
        (event, destination)
        for event in recorded
        for destination in ((event.destination,) if event.destination else bus)
    ]
    return [
        {
            "position": position,
            "destination": destination,
            "event_id": event.id,
            "event_type": event.type,
            "body": event.body,
            "traceparent": context.traceparent if context else None,
        }
        for position, (event, destination) in enumerate(pairs)
    ]


# Two relays never get rows of the same order and destination at once:
_CLAIM = """
WITH due AS (
  SELECT o.id, o.sending_since
  FROM outbox o
  WHERE o.destination = ANY(CAST(:destinations AS text[]))
    AND o.available_at <= now()
    {order_filter}
    -- Nothing older of the same order is being sent or waits for its next attempt.
    AND NOT EXISTS (
      SELECT FROM outbox older
      WHERE older.destination = o.destination AND older.order_id = o.order_id
        AND older.id < o.id AND older.available_at > now())
  ORDER BY o.id
  LIMIT CAST(:batch AS int)
  FOR UPDATE OF o SKIP LOCKED
)
UPDATE outbox o
SET available_at = now() + make_interval(secs => CAST(:seconds AS int)),
    sending_since = now(),
    attempts = o.attempts + 1
FROM due
WHERE o.id = due.id
  -- Another relay may hold the older rows that were skipped as locked.
  AND NOT EXISTS (
    SELECT FROM outbox older
    WHERE older.destination = o.destination AND older.order_id = o.order_id
      AND older.id < o.id AND older.id NOT IN (SELECT id FROM due))
RETURNING o.id, CAST(o.event_id AS text), o.event_type AS type, o.order_id, o.body,
  o.traceparent, o.created_at, o.attempts, due.sending_since IS NOT NULL AS is_doubtful,
  o.destination
"""
_CLAIM_ORDER = text(
    _CLAIM.format(order_filter="AND o.order_id = CAST(:order_id AS bigint)")
)
_CLAIM_ANY = text(_CLAIM.format(order_filter=""))

_SETTLE = text("""
WITH result AS (
  SELECT * FROM jsonb_to_recordset(CAST(:results AS jsonb)) AS r(
    id bigint, attempts int, is_sent boolean, is_dead boolean, retry_seconds float8,
    is_counted boolean, is_doubtful boolean, reason text)
),
-- A row whose claim ran out may be another relay's now: only a success still counts.
ours AS (
  SELECT r.* FROM result r JOIN outbox o USING (id) WHERE o.attempts = r.attempts
),
buried AS (  -- what the destination will never take, or nobody listened to
  INSERT INTO dead_letters
    (source, reason, destination, order_id, event_id, event_type, headers, body)
  SELECT 'outbox', r.reason, o.destination, o.order_id, o.event_id, o.event_type,
    jsonb_build_object('traceparent', o.traceparent, 'attempts', o.attempts),
    convert_to(o.body, 'UTF8')
  FROM outbox o JOIN ours r USING (id)
  WHERE r.is_dead
),
gone AS (
  DELETE FROM outbox o USING result r
  WHERE o.id = r.id AND (r.is_sent OR r.id IN (SELECT id FROM ours WHERE is_dead))
),
kept AS (
  UPDATE outbox o
  SET available_at = now() + make_interval(secs => r.retry_seconds),
      attempts = o.attempts - CASE WHEN r.is_counted THEN 0 ELSE 1 END,
      sending_since = CASE WHEN r.is_doubtful THEN o.sending_since END,
      last_error = coalesce(r.reason, o.last_error)
  FROM ours r
  WHERE o.id = r.id AND NOT r.is_sent AND NOT r.is_dead
)
-- Has somebody recorded more for the order, and found it claimed by us?
SELECT EXISTS (
  SELECT FROM outbox o
  WHERE o.order_id = CAST(:order_id AS bigint)
    AND o.destination = ANY(CAST(:destinations AS text[]))
    AND o.available_at <= now() AND o.id NOT IN (SELECT id FROM result))
""")


class Relay:
    """Sends what is owed. Safe to share between threads; any number may run at once."""

    def __init__(
        self,
        engine: Engine,
        publishers: Mapping[str, Publisher],
        *,
        hold_doubtful_order_created: bool = False,
    ) -> None:
        """Take `publishers` by destination; others' rows are left to other relays."""
        self._engine = engine
        self._publishers = publishers
        self._hold = hold_doubtful_order_created
        self._locks = {name: threading.Lock() for name in publishers}
        self._paused_until = dict.fromkeys(publishers, 0.0)

    def hand_over(self, order_id: int) -> None:
        """Send one order's events right after their commit, within a short bound.

        Never raises: what does not go out now stays owed and is swept later. A
        destination that was away a moment ago is not tried, so it costs nothing.
        """
        awake = [n for n, until in self._paused_until.items() if until < _now()]
        if not awake:
            return
        try:
            for _ in range(HAND_OVER_ROUNDS):
                if not self._send(awake, HAND_OVER_PATIENCE_SECONDS, order_id)[1]:
                    break
        except ServiceError as error:
            log.warning("events stay owed: %s", error.detail)
        except Exception:
            log.exception("events stay owed")

    def sweep(self, seconds: float) -> dict[str, int]:
        """Send what is due until nothing is or `seconds` have passed.

        Answers how many events ended how, by `Result` value. Raises
        DatabaseUnavailableError or BusyError where the outbox cannot be read.
        """
        deadline = _now() + seconds
        counts: dict[str, int] = {}
        idle: set[str] = set()
        while _now() < deadline and len(idle) < len(self._publishers):
            for name in self._publishers:
                if name in idle:
                    continue
                if self._paused_until[name] > _now():
                    idle.add(name)
                    continue
                patience = min(SWEEP_PATIENCE_SECONDS, max(1.0, deadline - _now()))
                outcomes, _ = self._send([name], patience)
                for outcome in outcomes:
                    key = outcome.result.value
                    counts[key] = counts.get(key, 0) + 1
                if len(outcomes) < BATCH:
                    idle.add(name)
        return counts

    def close(self) -> None:
        """Close every publisher."""
        for publisher in self._publishers.values():
            publisher.close()

    def _send(
        self, destinations: list[str], patience: float, order_id: int | None = None
    ) -> tuple[list[Outcome], bool]:
        """Claim, publish, settle; tell also whether more of the order can go now."""
        with connect(self._engine) as connection:
            claimed = _claim(connection, destinations, order_id)
        if not claimed:
            return [], False
        outcomes: list[Outcome] = []
        try:
            for name, messages in claimed.items():
                outcomes += self._publish(name, messages, patience)
        finally:
            sent = {m.id: m for messages in claimed.values() for m in messages}
            results = [self._verdict(sent[o.id], o) for o in outcomes]
            with connect(self._engine) as connection:
                has_more = _settle(connection, results, destinations, order_id)
        return outcomes, has_more and all(o.result in THROUGH for o in outcomes)

    def _publish(
        self, name: str, messages: list[Message], patience: float
    ) -> list[Outcome]:
        """Publish to one destination; answer an outcome for every message."""
        held = {m.order_id for m in messages if self._hold and _is_risky(m)}
        outcomes = [_hold_back(m) for m in messages if m.order_id in held]
        messages = [m for m in messages if m.order_id not in held]
        if not messages:
            return outcomes
        deadline = _now() + patience
        # A publisher serves one thread at a time; waiting for it has a bound, too.
        if not self._locks[name].acquire(timeout=patience):
            return outcomes + [Outcome(m.id, Result.NOT_TRIED) for m in messages]
        try:
            outcomes += self._try(name, messages, deadline)
        finally:
            self._locks[name].release()
        for outcome in outcomes:
            if outcome.reason:
                fields = {"destination": name, "reason": outcome.reason}
                said = f"an event was not sent: {outcome.result.value}"
                log.warning(said, extra={"fields": fields})
        return outcomes

    def _try(
        self, name: str, messages: list[Message], deadline: float
    ) -> list[Outcome]:
        if self._paused_until[name] > _now():  # whoever went first found it away
            return [Outcome(m.id, Result.NOT_TRIED) for m in messages]
        try:
            outcomes = self._publishers[name].publish(messages, deadline)
        except Exception as error:  # a defect, which must not keep others' events
            log.exception("a publisher broke its promise")
            reason = type(error).__name__
            outcomes = [Outcome(m.id, Result.UNCONFIRMED, reason) for m in messages]
        if any(outcome.result in _IS_AWAY for outcome in outcomes):
            self._paused_until[name] = _now() + PAUSE_SECONDS
        return outcomes

    def _verdict(self, message: Message, outcome: Outcome) -> dict[str, Any]:
        """Answer what becomes of a row after an attempt, as `_SETTLE` reads it."""
        result = outcome.result
        is_exhausted = result is Result.REFUSED and message.attempts >= MAX_ATTEMPTS
        is_dead = is_exhausted or result is Result.UNROUTABLE
        if is_exhausted:
            fields = {"event_id": message.event_id, "order_id": message.order_id}
            log.error("an event became a dead letter", extra={"fields": fields})
        is_doubtful = result is Result.UNCONFIRMED
        return {
            "id": message.id,
            "attempts": message.attempts,
            "is_sent": result is Result.SENT,
            "is_dead": is_dead,
            "retry_seconds": _backoff_seconds(result, message.attempts),
            "is_counted": result in _IS_COUNTED,
            "is_doubtful": is_doubtful
            or (message.is_doubtful and result is not Result.SENT),
            "reason": outcome.reason,
        }


def _hold_back(message: Message) -> Outcome:
    """Leave a doubtful `order.created` to an operator, and its order's rest waiting."""
    if _is_risky(message):
        return Outcome(message.id, Result.UNCONFIRMED, "held: in doubt")
    return Outcome(message.id, Result.NOT_TRIED)


def _now() -> float:
    return time.monotonic()


def _is_risky(message: Message) -> bool:
    """Tell whether a resend could lower stock a second time."""
    return message.is_doubtful and message.type == events.ORDER_CREATED


def _backoff_seconds(result: Result, attempts: int) -> float:
    if result not in _IS_COUNTED:
        return 0.0
    doubled = 2.0 ** min(attempts, 30)  # doubtful rows are tried for ever
    longest = MAX_DEFERRAL_SECONDS if result is Result.DEFERRED else MAX_BACKOFF_SECONDS
    return min(longest, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 no secret


def _claim(
    connection: Connection, destinations: list[str], order_id: int | None
) -> dict[str, list[Message]]:
    """Answer the claimed messages by destination, oldest first."""
    parameters: dict[str, Any] = {
        "destinations": "{" + ",".join(destinations) + "}",
        "batch": BATCH,
        "seconds": CLAIM_SECONDS,
    }
    if order_id is None:
        found = connection.execute(_CLAIM_ANY, parameters)
    else:
        found = connection.execute(_CLAIM_ORDER, parameters | {"order_id": order_id})
    claimed: dict[str, list[Message]] = {}
    for *values, destination in sorted(found):
        claimed.setdefault(destination, []).append(Message(*values))
    return claimed


def _settle(
    connection: Connection,
    results: list[dict[str, Any]],
    destinations: list[str],
    order_id: int | None,
) -> bool:
    """Write down how attempts ended; tell whether more of the order is due."""
    parameters = {
        "results": encode(results),
        "destinations": "{" + ",".join(destinations) + "}",
        "order_id": order_id,
    }
    has_more: bool = connection.execute(_SETTLE, parameters).scalar_one()
    return has_more
