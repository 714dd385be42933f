"""The relay: publishes pending events, right after a commit or in sweeps.

If the write has already claimed its events, publishing takes a single statement, which
records the results.
"""

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait

from common.database.engine import Engine, connect
from common.domain import events
from common.errors import ServiceError
from common.messaging import deliveries, outbox
from common.messaging.destination import Destination, Reports, in_parallel
from common.messaging.marks import Marks, Probe, Probes
from common.messaging.outbox import MAX_BACKOFF_SECONDS, Claimed, RetryDecision
from common.messaging.pending import PendingEvents
from common.publishing.publisher import THROUGH, Message, Outcome, Publisher, Result
from common.telemetry import logs

log = logs.get("relay")

# Claimed events are started within 15 seconds. Analytics then has a minute to respond,
# and results are recorded within 10 seconds more: all before the claim runs out.
SWEEP_TIMEOUT_SECONDS = 15.0
PUBLISH_TIMEOUT_SECONDS = 2.0
# How long a sweep waits for analytics once everything else is done.
ANALYTICS_TIMEOUT_SECONDS = 80.0
MAX_PUBLISH_ROUNDS = 20
# How long to wait for a connection: a sent event without a recorded result is in doubt.
RECORD_TIMEOUT_SECONDS = 10.0
IDLE_POLL_SECONDS = 0.25


class Relay:
    """Publishes pending events. Thread-safe; any number of relays may run at once."""

    def __init__(
        self,
        engine: Engine,
        publishers: Mapping[str, Publisher],
        *,
        hold_doubtful_order_created: bool = False,
    ) -> None:
        """Publish to the destinations of `publishers`; leave others to other relays."""
        self._engine = engine
        self._hold = hold_doubtful_order_created
        self._marks = Marks()
        self._reports = Reports()
        self._probes = Probes()
        self._destinations = {
            name: Destination(name, publisher) for name, publisher in publishers.items()
        }

    def available_destinations(self) -> tuple[str, ...]:
        """Return the destinations to which an attempt is allowed now."""
        return tuple(d.name for d in self._destinations.values() if d.allow_attempt())

    def send(self, pending: PendingEvents | None) -> None:
        """Publish a write's events right after its commit, for a short time at most.

        Never raise: events that are not sent now stay pending, and a sweep sends them.
        A destination that has just failed is not tried, so it costs no time.
        """
        if pending is None:
            return
        names = pending.destinations
        if names is None:
            names = self.available_destinations()
        destinations = [self._destinations[name] for name in names]
        if not destinations:
            return
        try:
            claimed = pending.claimed or self._claim(pending.order_id, names)
            for _ in range(MAX_PUBLISH_ROUNDS):
                if not claimed or not self._send_once(
                    pending.order_id, destinations, claimed
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
        """Send claimed events of one order; return whether it has more to send now.

        When analytics takes longer than the others, its call goes on in the background.
        """
        deadline = time.monotonic() + PUBLISH_TIMEOUT_SECONDS

        def publish(destination: Destination) -> list[Outcome]:
            messages = [m for m in claimed if m.destination == destination.name]
            timeout = destination.timeout(PUBLISH_TIMEOUT_SECONDS)
            return self._publish(destination, messages, timeout)

        due = {message.destination for message in claimed}
        results, slow = in_parallel(publish, [d for d in destinations if d.name in due])
        outcomes = [outcome for batch in results for outcome in batch]
        if slow is not None:
            wait([slow], max(0.0, deadline - time.monotonic()))
            if slow.done():
                outcomes += slow.result()
            else:
                slow.add_done_callback(lambda late: self._record_late(claimed, late))
        names = [destination.name for destination in destinations]
        has_more = self._record_results(claimed, outcomes, order_id, names)
        return has_more and all(o.result in THROUGH for o in outcomes)

    def _record_results(
        self,
        claimed: Sequence[Claimed],
        outcomes: Sequence[Outcome],
        order_id: int | None = None,
        names: Iterable[str] = (),
    ) -> bool:
        """Record how attempts ended; see `outbox.record_results`."""
        by_id = {message.id: message for message in claimed}
        sent = [o.id for o in outcomes if o.result is Result.SENT]
        decisions = [
            decide_retry(by_id[o.id], o)
            for o in outcomes
            if o.result is not Result.SENT
        ]
        with connect(self._engine, RECORD_TIMEOUT_SECONDS) as connection:
            return outbox.record_results(
                connection, sent, decisions, order_id=order_id, destinations=names
            )

    def _record_late(
        self, claimed: Sequence[Claimed], late: "Future[list[Outcome]]"
    ) -> None:
        try:
            self._record_results(claimed, late.result())
        except ServiceError as error:  # the claim runs out, and the event is sent again
            log.warning(
                "it is unknown whether analytics was notified: %s", error.detail
            )

    def sweep(
        self,
        seconds: float,
        *,
        timeout: float = SWEEP_TIMEOUT_SECONDS,
        analytics_timeout: float = ANALYTICS_TIMEOUT_SECONDS,
        should_stop: Callable[[], bool] = lambda: False,
        served_by: str | None = None,
    ) -> dict[str, int]:
        """Send due events until none is left, `seconds` have passed, or `should_stop`.

        With `served_by`, the name of a process, the pass is reported to operators.
        Destinations are swept in parallel, each at its own pace. Batches in progress
        are finished, which takes `timeout` seconds at most. Wait `analytics_timeout`
        seconds for analytics, which then goes on in the background. Return the number
        of events by the value of their `Result`. Raise DatabaseUnavailableError or
        BusyError if the outbox cannot be read.
        """
        deadline = time.monotonic() + seconds
        self._marks.search(self._engine)
        busy = set(self._destinations)
        all_idle = threading.Event()

        def sweep(destination: Destination) -> Counter[str]:
            counts: Counter[str] = Counter()
            self._report(served_by, destination)  # a call of analytics may take long
            try:
                while time.monotonic() < deadline and not should_stop():
                    longest = min(timeout, max(1.0, deadline - time.monotonic()))
                    outcomes = self._sweep_once(destination, longest)
                    counts.update(outcome.result.value for outcome in outcomes)
                    if outcomes:
                        busy.add(destination.name)
                        all_idle.clear()
                        continue
                    busy.discard(destination.name)
                    if not busy:
                        break
                    # While another one is slow, new events may arrive for this one.
                    all_idle.wait(IDLE_POLL_SECONDS)
            finally:
                busy.discard(destination.name)
                if not busy:
                    all_idle.set()
            self._report(served_by, destination)
            return counts

        counts, slow = in_parallel(sweep, list(self._destinations.values()))
        if slow is not None:
            if wait([slow], analytics_timeout).done:
                counts.append(slow.result())
            else:
                slow.add_done_callback(_log_failure)
        return dict(sum(counts, Counter()))

    def _report(self, served_by: str | None, destination: Destination) -> None:
        if served_by is not None:
            where = f"{served_by} on {socket.gethostname()}"
            self._reports.write(self._engine, where, destination)

    def _sweep_once(self, destination: Destination, timeout: float) -> list[Outcome]:
        """Send a batch to one destination, or probe it; return no outcomes if idle."""
        if not destination.allow_attempt():
            return []
        with connect(self._engine) as connection:
            self._marks.advance(connection, destination.name)
            claimed: Sequence[Claimed] = outbox.claim_any(connection, destination.name)
            probes = [] if claimed else self._probes.claim(connection, destination.name)
        if not (claimed := claimed or probes):
            return []
        outcomes: list[Outcome] = []
        try:
            outcomes = self._publish(destination, claimed, timeout)
        finally:
            self._record_results(claimed, outcomes)
        if not all(outcome.result in THROUGH for outcome in outcomes):
            self._probes.wait(destination.name)
        if probes and any(outcome.result is Result.SENT for outcome in outcomes):
            with connect(self._engine) as connection:
                self._probes.release(connection, destination.name)
        return outcomes

    def close(self) -> None:
        """Close every publisher."""
        for destination in self._destinations.values():
            destination.close()

    def _publish(
        self, destination: Destination, messages: Sequence[Message], timeout: float
    ) -> list[Outcome]:
        """Publish to one destination; return an outcome for every message."""
        sendable, held_back = _split(messages) if self._hold else (messages, [])
        began = time.perf_counter()
        traced, spans = deliveries.start_spans(destination.name, sendable)
        outcomes = destination.publish(traced, timeout) if traced else []
        seconds = time.perf_counter() - began
        outcomes += _hold_back(held_back, sendable, outcomes)
        deliveries.log_attempts(destination.name, messages, outcomes, seconds)
        deliveries.end_spans(destination.name, spans, outcomes)
        return outcomes


def _split(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Set apart each doubtful `order.created`, and the later events of its order."""
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
    """Hold a doubtful `order.created` for an operator once it is its order's next."""
    orders = {message.id: message.order_id for message in published}
    stuck = {orders[o.id] for o in outcomes if o.result not in THROUGH}
    held_outcomes = []
    for message in held_back:
        result, reason = Result.NOT_TRIED, None
        if _is_risky(message) and message.order_id not in stuck:
            fields = {"event_id": message.event_id, "order_id": message.order_id}
            log.error(
                "an event is held: it is unknown whether it was sent",
                extra={"fields": fields},
            )
            result, reason = Result.HELD, "it is unknown whether it was sent"
        held_outcomes.append(Outcome(message.id, result, reason))
    return held_outcomes


def _log_failure(late: "Future[Counter[str]]") -> None:
    if error := late.exception():
        log.warning("the sweep for analytics did not finish: %s", error)


def _is_risky(message: Message) -> bool:
    """Return whether a resend could lower stock a second time."""
    return message.is_doubtful and message.type == events.ORDER_CREATED


MAX_ATTEMPTS = 20
MAX_DEFERRAL_SECONDS = 60
_IS_COUNTED = (Result.REFUSED, Result.UNCONFIRMED, Result.DEFERRED)


def decide_retry(message: Message, outcome: Outcome) -> RetryDecision:
    """Return what to do with an event that was not sent."""
    result = outcome.result
    is_exhausted = result is Result.REFUSED and message.attempts >= MAX_ATTEMPTS
    is_counted = result in _IS_COUNTED
    retry_seconds = _backoff_seconds(result, message.attempts)
    if isinstance(message, Probe):
        is_exhausted, is_counted, retry_seconds = False, False, message.wait_seconds
    is_dead = is_exhausted or result is Result.UNROUTABLE
    if is_dead:
        fields = {
            "event_id": message.event_id,
            "event_type": message.type,
            "order_id": message.order_id,
            "reason": outcome.reason,
        }
        log.error("an event became a dead letter", extra={"fields": fields})
    return RetryDecision(
        id=message.id,
        attempts=message.attempts,
        reason=outcome.reason,
        retry_seconds=retry_seconds,
        is_counted=is_counted,
        is_doubtful=result is Result.UNCONFIRMED,
        is_held=result is Result.HELD,
        is_dead=is_dead,
    )


def _backoff_seconds(result: Result, attempts: int) -> float:
    if result not in _IS_COUNTED:
        return 0.0
    doubled = 2.0 ** min(attempts, 30)  # doubtful events are retried for ever
    longest = MAX_DEFERRAL_SECONDS if result is Result.DEFERRED else MAX_BACKOFF_SECONDS
    return min(longest, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 no secret
