"""The local event bus: takes CloudEvents over HTTP into its consumers' queues.

A refused message waits for its next attempt without blocking others; an event that is
sent twice is two messages, as with a broker.
"""

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import requests
from flask import Response, request

from infra.local.sandbox.routes import Route, complain, reply
from infra.local.sandbox.store import Store

QUEUES = {
    "product": "order.created",
    "shopcart": "order.created",
    "shop": "order.item.created",
    "approval_handler": "order.item.status.updated",
}
REQUIRED_ATTRIBUTES = ("ce-id", "ce-type", "ce-source", "ce-specversion")
KEPT_EVENTS = 10_000
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 30.0
DELIVERY_TIMEOUT_SECONDS = 30
WAITING = "queue = :queue AND delivered_at IS NULL AND attempts = 0"
# Late, but in order.
ENQUEUE = f"""
INSERT INTO delivery (event_id, queue, due_at)
SELECT :event, :queue, max(:due_at, coalesce(max(due_at), 0))
FROM delivery WHERE {WAITING}"""  # noqa: S608 a fragment of our own
HASTEN = f"UPDATE delivery SET due_at = :at WHERE due_at > :at AND {WAITING}"  # noqa: S608

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One message. `attributes` are its HTTP headers, names in lower case."""

    attributes: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The event's own id, the same on every resend."""
        return self.attributes.get("ce-id", "")

    @property
    def type(self) -> str:
        """The event's name, such as `order.created`."""
        return self.attributes.get("ce-type", "")

    @property
    def json(self) -> Any:  # noqa: ANN401
        """The body, decoded."""
        return json.loads(self.body)


Consumer = Callable[[Event], None]


class EventSink:
    """Queues in front of `consumers`; a consumer refuses a message by raising.

    Messages are delivered after `start()`, or by `deliver()`. With `is_fed_by_broker`
    the queues take only what a broker has in its own, so that an event which is sent
    to both is not delivered twice. `delays` are those of `set_delay`, at first.
    """

    def __init__(
        self,
        store: Store,
        consumers: Mapping[str, Consumer],
        *,
        is_fed_by_broker: bool = False,
        delays: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self._store = store
        self._is_fed_by_broker = is_fed_by_broker
        self._consumers = dict(consumers)
        self._changed = threading.Condition()
        self._paused: set[str] = set()
        self._first_delays = dict(delays or {})
        self._delays = dict(self._first_delays)
        self._stopping = False
        self._workers: list[threading.Thread] = []

    def start(self) -> None:
        """Start delivery, one thread for each queue, beginning with older messages."""
        self._trim()
        for queue in self._consumers:
            worker = threading.Thread(
                target=self._work, args=(queue,), name=f"queue-{queue}", daemon=True
            )
            worker.start()
            self._workers.append(worker)

    def stop(self) -> None:
        """Finish current deliveries; the rest stays pending."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join(DELIVERY_TIMEOUT_SECONDS)

    def accept(self, event: Event, queue: str | None = None) -> None:
        """Store the event in every queue that wants its type, or in `queue` only."""
        queues = [queue] if queue else self._bound_to(event.type)
        with self._store.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO event (attributes, body) VALUES (?, ?)",
                (json.dumps(dict(event.attributes)), event.body),
            )
            for name in queues:
                row = {"event": cursor.lastrowid, "queue": name}
                if name in self._consumers:
                    connection.execute(ENQUEUE, row | {"due_at": self._due_at(name)})
        self._wake()

    def pause(self, queue: str) -> None:
        """Let the queue's consumer fall behind until `resume`."""
        with self._changed:
            self._paused.add(queue)

    def resume(self, queue: str) -> None:
        """Let the queue's consumer catch up."""
        with self._changed:
            self._paused.discard(queue)
            self._changed.notify_all()

    def set_delay(self, queue: str, shortest: float, longest: float) -> None:
        """Let the queue's consumer act so many seconds after each event."""
        with self._changed, self._store.transaction() as connection:
            self._delays[queue] = (shortest, longest)
            connection.execute(HASTEN, {"queue": queue, "at": time.time() + longest})
            self._changed.notify_all()

    def reset(self) -> None:
        """Resume all queues, with the delays that they had at first."""
        with self._changed:
            self._paused.clear()
            self._delays = dict(self._first_delays)
            self._changed.notify_all()

    def deliver(self) -> int:
        """Try every pending message once, in order; return how many were accepted."""
        with self._store.transaction() as connection:
            pending = connection.execute(
                "SELECT id, queue FROM delivery WHERE delivered_at IS NULL ORDER BY id"
            ).fetchall()
        return sum(
            self._try(delivery["id"])
            for delivery in pending
            if not self._is_idle(delivery)
        )

    def queues(self) -> dict[str, dict[str, Any]]:
        """Return each queue's state; `owed` counts pending messages, paused or not."""
        with self._store.transaction() as connection:
            rows = connection.execute(
                "SELECT queue, count(*) AS owed, max(last_error) AS error FROM delivery"
                " WHERE delivered_at IS NULL GROUP BY queue"
            ).fetchall()
        found = {row["queue"]: row for row in rows}
        with self._changed:
            return {
                queue: {
                    "event_type": QUEUES[queue],
                    "owed": found[queue]["owed"] if queue in found else 0,
                    "last_error": found[queue]["error"] if queue in found else None,
                    "paused": queue in self._paused,
                    "delay_seconds": self._delays.get(queue, (0.0, 0.0)),
                }
                for queue in self._consumers
            }

    def events(self, limit: int = KEPT_EVENTS) -> list[Event]:
        """Return the last `limit` events, in the order of arrival."""
        with self._store.transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM event ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [_event(row) for row in reversed(rows)]

    def _bound_to(self, event_type: str) -> list[str]:
        if self._is_fed_by_broker:
            return []
        return [queue for queue, wanted in QUEUES.items() if wanted == event_type]

    def _due_at(self, queue: str) -> float:
        delay = random.uniform(*self._delays.get(queue, (0.0, 0.0)))  # noqa: S311 no secret
        return time.time() + delay if delay else 0.0

    def _work(self, queue: str) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                delivery_id, wait_seconds = self._next(queue)
                if delivery_id is None:
                    self._changed.wait(wait_seconds)
                    continue
            self._try(delivery_id)

    def _next(self, queue: str) -> tuple[int | None, float | None]:
        """Return the oldest message that is due, or None and how long to wait."""
        if queue in self._paused:
            return None, None
        now = time.time()
        with self._store.transaction() as connection:
            due = connection.execute(
                "SELECT id FROM delivery WHERE queue = ? AND delivered_at IS NULL"
                " AND due_at <= ? ORDER BY id LIMIT 1",
                (queue, now),
            ).fetchone()
            if due:
                return int(due["id"]), 0
            soonest = connection.execute(
                "SELECT min(due_at) FROM delivery"
                " WHERE queue = ? AND delivered_at IS NULL",
                (queue,),
            ).fetchone()[0]
        return None, None if soonest is None else max(0.01, soonest - now)

    def _try(self, delivery_id: int) -> bool:
        with self._store.transaction() as connection:
            row = connection.execute(
                "SELECT delivery.*, attributes, body FROM delivery"
                " JOIN event ON event.id = event_id WHERE delivery.id = ?",
                (delivery_id,),
            ).fetchone()
        if row is None:
            return False
        event = _event(row)
        try:
            self._consumers[row["queue"]](event)
        except Exception as error:  # noqa: BLE001  a consumer may refuse in any way
            self._refused(row, event, error)
            return False
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE delivery SET delivered_at = ? WHERE id = ?",
                (time.time(), delivery_id),
            )
        self._wake()
        return True

    def _refused(self, row: Mapping[str, Any], event: Event, error: Exception) -> None:
        attempts = row["attempts"] + 1
        wait = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(attempts, 12))
        reason = f"{type(error).__name__}: {error}"
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE delivery SET attempts = ?, due_at = ?, last_error = ?"
                " WHERE id = ?",
                (attempts, time.time() + wait, reason, row["id"]),
            )
        # At the 1st, 2nd, 4th, 8th … try: poison is seen without flooding the screen.
        if attempts & (attempts - 1) == 0:
            logger.warning(
                "%s refuses %s %s (try %d): %s",
                row["queue"],
                event.type,
                event.id,
                attempts,
                reason,
            )

    def _is_idle(self, delivery: Mapping[str, Any]) -> bool:
        with self._changed:
            return delivery["queue"] in self._paused

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _trim(self) -> None:
        with self._store.transaction() as connection:
            old = (
                "(SELECT id FROM event WHERE id <="
                " (SELECT max(id) FROM event) - ? AND id NOT IN"
                " (SELECT event_id FROM delivery WHERE delivered_at IS NULL))"
            )
            for statement in (
                f"DELETE FROM delivery WHERE event_id IN {old}",  # noqa: S608
                f"DELETE FROM event WHERE id IN {old}",  # noqa: S608
            ):
                connection.execute(statement, (KEPT_EVENTS,))


def sink_routes(sink: EventSink) -> list[Route]:
    """Return the route that publishers post to."""
    accept = partial(_accept_event, sink)
    return [("POST", "/events", accept), ("POST", "/events/", accept)]


def post_events_to(url: str) -> Consumer:
    """Return a consumer that posts each event, in binary mode, to a CloudEvent target.

    Anything but a 2xx leaves the message in its queue.
    """
    session = requests.Session()
    session.trust_env = False  # no proxy stands between two local servers

    def post_event(event: Event) -> None:
        with contextlib.closing(
            session.post(
                url,
                data=event.body,
                headers=dict(event.attributes),
                timeout=DELIVERY_TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        ) as reply:
            if not reply.status_code // 100 == 2:  # noqa: PLR2004
                raise RuntimeError(f"{url} answered {reply.status_code}")

    return post_event


def _accept_event(sink: EventSink) -> Response:
    missing = [name for name in REQUIRED_ATTRIBUTES if not request.headers.get(name)]
    if missing:
        return complain(400, f"{missing[0]} is missing")
    kept = ("content-type", "traceparent", "tracestate")
    attributes = {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower() in kept or name.lower().startswith("ce-")
    }
    sink.accept(Event(attributes=attributes, body=request.get_data()))
    return reply({"accepted": request.headers["ce-id"]}, 202)


def _event(row: Mapping[str, Any]) -> Event:
    return Event(attributes=json.loads(row["attributes"]), body=row["body"])
