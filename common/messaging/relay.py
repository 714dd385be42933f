"""The relay: publishes pending events, right after a commit or in sweeps.

A write may have claimed its events already; then publishing takes one statement, which
records the results.
"""

import contextvars
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from common.database.engine import Engine, connect
from common.domain import events
from common.errors import ServiceError
from common.messaging import deliveries, outbox
from common.messaging.destination import Destination
from common.messaging.outbox import Claimed, RetryDecision
from common.messaging.pending import PendingEvents
from common.publishing.publisher import THROUGH, Message, Outcome, Publisher, Result
from common.telemetry import logs

log = logs.get("relay")
T = TypeVar("T")

# Until when what was claimed is begun. Analytics then has a minute of its own, and what
# came of it is written down within 10 seconds more: all before the claim ends.
SWEEP_TIMEOUT_SECONDS = 15.0
PUBLISH_TIMEOUT_SECONDS = 2.0
# For how long a sweep waits for analytics when all else is done.
ANALYTICS_PATIENCE_SECONDS = 80.0
HAND_OVER_ROUNDS = 20
# What was sent and is not written down is in doubt: better to wait for a connection.
SETTLE_PATIENCE_SECONDS = 10.0
GLANCE_SECONDS = 0.25
MAX_ATTEMPTS = 20
MAX_BACKOFF_SECONDS = 3600
MAX_DEFERRAL_SECONDS = 60
_IS_COUNTED = (Result.REFUSED, Result.UNCONFIRMED, Result.DEFERRED)


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
        self._hold = hold_doubtful_order_created
        self._destinations = {
            name: Destination(name, publisher) for name, publisher in publishers.items()
        }

    def admit(self) -> tuple[str, ...]:
        """Return the destinations that are worth a try now."""
        return tuple(d.name for d in self._destinations.values() if d.admit())

    def send(self, pending: PendingEvents | None) -> None:
        """Send what a write owes right after its commit, within a short bound.

        Never raises: what does not go out now stays owed and is swept later. A
        destination that was away a moment ago is not tried, so it costs nothing.
        """
        if pending is None:
            return
        names = self.admit() if pending.available is None else pending.available
        available = [self._destinations[name] for name in names]
        if not available:
            return
        try:
            claimed = pending.claimed or self._claim(pending.order_id, names)
            for _ in range(HAND_OVER_ROUNDS):
                if not claimed or not self._send_once(
                    pending.order_id, available, claimed
                ):
                    break
                claimed = self._claim(pending.order_id, names)
        except ServiceError as error:
            log.warning("events stay in the outbox: %s", error.detail)
        except Exception:
            log.exception("events stay in the outbox")

    def _claim(self, order_id: int, names: Iterable[str]) -> list[Claimed]:
        with connect(self._engine) as connection:
            return outbox.claim_order(connection, order_id, names)

    def _send_once(
        self,
        order_id: int,
        destinations: Sequence[Destination],
        claimed: Sequence[Claimed],
    ) -> bool:
        """Send what is claimed of one order; tell whether more of it can go now.

        Analytics is waited for no longer than the others: then it goes on by itself.
        """
        deadline = time.monotonic() + PUBLISH_TIMEOUT_SECONDS

        def publish(destination: Destination) -> list[Outcome]:
            ours = [m for m in claimed if m.destination == destination.name]
            timeout = destination.timeout(PUBLISH_TIMEOUT_SECONDS)
            return self._publish(destination, ours, timeout)

        due = {message.destination for message in claimed}
        ended, slow = _side_by_side(publish, [d for d in destinations if d.name in due])
        outcomes = [outcome for some in ended for outcome in some]
        if slow is not None:
            wait([slow], max(0.0, deadline - time.monotonic()))
            if slow.done():
                outcomes += slow.result()
            else:
                slow.add_done_callback(lambda late: self._settle_late(claimed, late))
        names = [destination.name for destination in destinations]
        has_more = self._settle(claimed, outcomes, order_id, names)
        return has_more and all(o.result in THROUGH for o in outcomes)

    def _settle(
        self,
        claimed: Sequence[Claimed],
        outcomes: Sequence[Outcome],
        order_id: int | None = None,
        names: Iterable[str] = (),
    ) -> bool:
        """Record how attempts ended; see `outbox.settle`."""
        by_id = {message.id: message for message in claimed}
        sent = [o.id for o in outcomes if o.result is Result.SENT]
        verdicts = [
            verdict(by_id[o.id], o) for o in outcomes if o.result is not Result.SENT
        ]
        with connect(self._engine, SETTLE_PATIENCE_SECONDS) as connection:
            return outbox.settle(
                connection, sent, verdicts, order_id=order_id, destinations=names
            )

    def _settle_late(
        self, claimed: Sequence[Claimed], late: "Future[list[Outcome]]"
    ) -> None:
        try:
            self._settle(claimed, late.result())
        except ServiceError as error:  # the claim ends, and it is sent again
            log.warning("nobody knows whether analytics was notified: %s", error.detail)

    def sweep(
        self,
        seconds: float,
        *,
        timeout: float = SWEEP_TIMEOUT_SECONDS,
        analytics_patience: float = ANALYTICS_PATIENCE_SECONDS,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, int]:
        """Send what is due until nothing is, `seconds` have passed, or told to stop.

        Destinations go side by side, each at its own pace. The batches in hand are
        finished, which takes `timeout` seconds at most; analytics is waited for a
        while longer, and then goes on by itself. Returns how many events ended how, by
        `Result` value. Raise DatabaseUnavailableError or BusyError where the
        outbox cannot be read.
        """
        deadline = time.monotonic() + seconds
        busy = set(self._destinations)
        is_over = threading.Event()  # nobody is busy

        def sweep(destination: Destination) -> Counter[str]:
            counts: Counter[str] = Counter()
            try:
                while time.monotonic() < deadline and not should_stop():
                    longest = min(timeout, max(1.0, deadline - time.monotonic()))
                    outcomes = self._sweep_once(destination, longest)
                    counts.update(outcome.result.value for outcome in outcomes)
                    if outcomes:
                        busy.add(destination.name)
                        is_over.clear()
                        continue
                    busy.discard(destination.name)
                    if not busy:
                        break
                    # While another is slow this one may come to be owed more.
                    is_over.wait(GLANCE_SECONDS)
            finally:
                busy.discard(destination.name)
                if not busy:
                    is_over.set()
            return counts

        swept, slow = _side_by_side(sweep, list(self._destinations.values()))
        if slow is not None:
            if wait([slow], analytics_patience).done:
                swept.append(slow.result())
            else:
                slow.add_done_callback(_log_failure)
        return dict(sum(swept, Counter()))

    def _sweep_once(self, destination: Destination, timeout: float) -> list[Outcome]:
        """Send a batch to one destination; nothing is answered where nothing is due."""
        if not destination.admit():
            return []
        with connect(self._engine) as connection:
            claimed = outbox.claim_any(connection, destination.name)
        if not claimed:
            return []
        outcomes: list[Outcome] = []
        try:
            outcomes = self._publish(destination, claimed, timeout)
        finally:
            self._settle(claimed, outcomes)
        return outcomes

    def close(self) -> None:
        """Close every publisher."""
        for destination in self._destinations.values():
            destination.close()

    def _publish(
        self, destination: Destination, messages: Sequence[Message], timeout: float
    ) -> list[Outcome]:
        """Publish to one destination; answer an outcome for every message."""
        open_, held_back = _split(messages) if self._hold else (messages, [])
        began = time.perf_counter()
        passed_on, spans = deliveries.trace(destination.name, open_)
        outcomes = destination.publish(passed_on, timeout) if passed_on else []
        seconds = time.perf_counter() - began
        outcomes += _hold_back(held_back, open_, outcomes)
        deliveries.tell(destination.name, messages, outcomes, seconds)
        deliveries.end(destination.name, spans, outcomes)
        return outcomes


def _split(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Set apart each doubtful `order.created`, and what comes after it in its order."""
    orders: set[int] = set()
    parts: tuple[list[Message], list[Message]] = ([], [])
    for message in messages:
        if _is_risky(message):
            orders.add(message.order_id)
        parts[message.order_id in orders].append(message)
    return parts


def _hold_back(
    held_back: Sequence[Message],
    published: Sequence[Message],
    outcomes: Sequence[Outcome],
) -> list[Outcome]:
    """Leave a doubtful `order.created` to an operator once it is the next to go."""
    orders = {message.id: message.order_id for message in published}
    stuck = {orders[o.id] for o in outcomes if o.result not in THROUGH}
    answer = []
    for message in held_back:
        result, reason = Result.NOT_TRIED, None
        if _is_risky(message) and message.order_id not in stuck:
            fields = {"event_id": message.event_id, "order_id": message.order_id}
            log.error(
                "an event is held: nobody knows whether it was sent",
                extra={"fields": fields},
            )
            result, reason = Result.HELD, "nobody knows whether it was sent"
        answer.append(Outcome(message.id, result, reason))
    return answer


def _side_by_side(
    call: Callable[[Destination], T], destinations: Sequence[Destination]
) -> "tuple[list[T], Future[T] | None]":
    """Call for each at once, so that one that does not answer delays no other.

    Return what came of it when all have ended but analytics, and that one's future.
    """
    names = [destination.name for destination in destinations]
    if len(names) < 2 and events.ANALYTICS not in names:  # noqa: PLR2004 nobody to delay
        return [call(destination) for destination in destinations], None
    pool = ThreadPoolExecutor(len(names), "relay")
    running = {
        destination.name: pool.submit(contextvars.copy_context().run, call, destination)
        for destination in destinations
    }
    pool.shutdown(wait=False)
    slow = running.pop(events.ANALYTICS, None)
    return [each.result() for each in running.values()], slow


def _log_failure(late: "Future[Counter[str]]") -> None:
    if error := late.exception():
        log.warning("the sweep for analytics did not finish: %s", error)


def _is_risky(message: Message) -> bool:
    """Return whether a resend could lower stock a second time."""
    return message.is_doubtful and message.type == events.ORDER_CREATED


def verdict(message: Message, outcome: Outcome) -> RetryDecision:
    """Return what becomes of an event that was not sent."""
    result = outcome.result
    is_exhausted = result is Result.REFUSED and message.attempts >= MAX_ATTEMPTS
    is_dead = is_exhausted or result is Result.UNROUTABLE
    if is_exhausted:
        fields = {"event_id": message.event_id, "order_id": message.order_id}
        log.error("an event became a dead letter", extra={"fields": fields})
    return RetryDecision(
        id=message.id,
        attempts=message.attempts,
        reason=outcome.reason,
        retry_seconds=_backoff_seconds(result, message.attempts),
        is_counted=result in _IS_COUNTED,
        is_doubtful=result is Result.UNCONFIRMED,
        is_held=result is Result.HELD,
        is_dead=is_dead,
    )


def _backoff_seconds(result: Result, attempts: int) -> float:
    if result not in _IS_COUNTED:
        return 0.0
    doubled = 2.0 ** min(attempts, 30)  # doubtful rows are tried for ever
    longest = MAX_DEFERRAL_SECONDS if result is Result.DEFERRED else MAX_BACKOFF_SECONDS
    return min(longest, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 no secret
