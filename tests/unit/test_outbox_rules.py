"""The outbox's rules: which rows an event becomes, and what follows an attempt."""

from collections.abc import Sequence
from typing import Any

import pytest
from pg8000.dbapi import InterfaceError

from common.database.engine import engine_by
from common.database.prepared import PreparedConnection
from common.domain import events
from common.messaging import destination as destinations
from common.messaging import pending
from common.messaging import relay as relays
from common.messaging.outbox import MAX_BACKOFF_SECONDS, RetryDecision
from common.messaging.pending import Bus
from common.messaging.relay import MAX_ATTEMPTS, Relay
from common.publishing.publisher import Message, Outcome, Result
from tests.support.factories import item, message, order
from tests.support.relaying import hand_over

SENT, UNROUTABLE, REFUSED = Result.SENT, Result.UNROUTABLE, Result.REFUSED
DEFERRED = Result.DEFERRED
UNCONFIRMED, UNAVAILABLE = Result.UNCONFIRMED, Result.UNAVAILABLE
HELD, NOT_TRIED = Result.HELD, Result.NOT_TRIED
APPROVED = events.order_approved(order(), "2025-12-01T10:00:00.000000Z")
ANALYTICS = events.analytics_notification(order(), APPROVED)
CREATED = events.item_created(order(), item())


class Destination:
    """Ends each message with the result of its type; SENT by default."""

    def __init__(self, **results: Result) -> None:
        self.results = results
        self.came: list[int] = []

    def publish(self, messages: Sequence[Message], _deadline: float) -> list[Outcome]:
        self.came += [each.id for each in messages]
        return [Outcome(m.id, self.results.get(m.type, SENT)) for m in messages]

    def close(self) -> None:
        """Nothing is open."""


def relay(
    destination: Destination | None = None,
    *,
    hold: bool = False,
    asked: list[str] | None = None,
) -> Relay:
    """Return a relay without a database; attempts to connect are added to `asked`."""

    def connect(_name: str) -> PreparedConnection:
        (asked if asked is not None else []).append("connect")
        raise InterfaceError

    engine = engine_by(connect)
    publishers = {"http": destination or Destination()}
    return Relay(engine, publishers, hold_doubtful_order_created=hold)


def decision(result: Result, **changes: Any) -> RetryDecision:
    return relays.decide_retry(message(**changes), Outcome(1, result, "why"))


def test_an_event_becomes_a_row_for_each_destination_in_order() -> None:
    recorded = [CREATED, ANALYTICS, events.order_deleted(order())]
    rows = pending.rows(recorded, Bus(("rabbitmq", "http")))
    assert [(row.event.type, row.destination) for row in rows] == [
        ("order.item.created", "rabbitmq"),
        ("order.item.created", "http"),
        ("analytics.order.completed", "analytics"),
        ("order.deleted", "rabbitmq"),
        ("order.deleted", "http"),
    ]


def test_analytics_gets_its_notification_also_without_a_bus() -> None:
    rows = pending.rows([CREATED, ANALYTICS], Bus(()))
    assert [row.destination for row in rows] == ["analytics"]


@pytest.mark.parametrize(
    ("result", "set_flags"),
    [
        (UNROUTABLE, {"is_dead"}),
        (REFUSED, {"is_counted"}),
        (DEFERRED, {"is_counted"}),
        (UNCONFIRMED, {"is_counted", "is_doubtful"}),
        (UNAVAILABLE, set()),
        (HELD, {"is_held"}),
        (NOT_TRIED, set()),
    ],
)
def test_row_follows_how_its_attempt_ended(result: Result, set_flags: set[str]) -> None:
    decided = decision(result, attempts=3)
    assert (decided.id, decided.attempts, decided.reason) == (1, 3, "why")
    flags = ("is_dead", "is_counted", "is_doubtful", "is_held")
    assert {flag for flag in flags if getattr(decided, flag)} == set_flags


@pytest.mark.parametrize(
    ("attempts", "is_dead"), [(MAX_ATTEMPTS - 1, False), (MAX_ATTEMPTS, True)]
)
def test_many_refusals_make_a_dead_letter(attempts: int, *, is_dead: bool) -> None:
    assert decision(REFUSED, attempts=attempts).is_dead is is_dead


@pytest.mark.parametrize("result", [DEFERRED, UNCONFIRMED, UNAVAILABLE, NOT_TRIED])
def test_an_event_that_was_never_refused_is_retried_for_ever(result: Result) -> None:
    assert decision(result, attempts=10_000).is_dead is False


@pytest.mark.parametrize("result", [REFUSED, UNCONFIRMED])
@pytest.mark.parametrize("attempts", [1, 2, 5, 11])
def test_the_wait_doubles_with_each_attempt(result: Result, attempts: int) -> None:
    waits = [relays._backoff_seconds(result, attempts) for _ in range(200)]
    assert 2**attempts * 0.5 <= min(waits) < max(waits) <= 2**attempts


@pytest.mark.parametrize("attempts", [12, 20, 1024, 10_000, 2**31 - 1])
def test_the_wait_never_exceeds_an_hour(attempts: int) -> None:
    wait = relays._backoff_seconds(UNCONFIRMED, attempts)
    assert MAX_BACKOFF_SECONDS / 2 <= wait <= MAX_BACKOFF_SECONDS == 3600


def test_what_was_put_off_comes_back_within_a_minute() -> None:
    waits = [relays._backoff_seconds(DEFERRED, 1000) for _ in range(200)]
    assert 30 <= min(waits) <= max(waits) <= 60


@pytest.mark.parametrize("result", [UNAVAILABLE, NOT_TRIED])
def test_what_was_not_tried_need_not_wait(result: Result) -> None:
    assert relays._backoff_seconds(result, 5) == 0


# Doubt about `order.created`.

IN_DOUBT = {"type": "order.created", "is_doubtful": True}


def ends(relay_: Relay, *batch: Message) -> dict[int, Result]:
    outcomes = relay_._publish(relay_._destinations["http"], list(batch), 10.0)
    assert len(outcomes) == len(batch)
    return {outcome.id: outcome.result for outcome in outcomes}


@pytest.mark.parametrize(
    ("first", "expected"),
    [(SENT, [SENT, HELD, NOT_TRIED]), (REFUSED, [REFUSED, NOT_TRIED, NOT_TRIED])],
)
def test_doubtful_event_waits_for_others(first: Result, expected: list[Result]) -> None:
    """Held back with it, it would wait for an operator who sees no reason."""
    destination = Destination(**{"order.item.created": first})
    batch = [message(), message(id=2, **IN_DOUBT), message(id=3)]
    found = ends(relay(destination, hold=True), *batch)
    assert [found[id_] for id_ in (1, 2, 3)] == expected
    assert destination.came == [1]


def test_each_failure_doubles_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(destinations, "_now", lambda: clock[0])
    tried = relay(Destination(**{"order.item.created": UNAVAILABLE}))
    pauses = []
    for _ in range(6):
        ends(tried, message())
        began_at = clock[0]
        while not tried._destinations["http"].allow_attempt():
            clock[0] += 0.25
        pauses.append(clock[0] - began_at)
    assert pauses == [1, 2, 4, 8, 8, 8]


def test_after_a_pause_one_by_one_may_try_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(destinations, "_now", lambda: clock[0])
    destination = Destination(**{"order.item.created": UNAVAILABLE})
    tried = relay(destination)
    ends(tried, message())
    clock[0] += 1.5
    found = tried._destinations["http"]
    assert [found.allow_attempt() for _ in range(3)] == [True, False, False]
    assert found.timeout(2.0) == destinations.PROBE_TIMEOUT_SECONDS
    destination.results = {}
    ends(tried, message())
    assert [found.allow_attempt() for _ in range(3)] == [True] * 3
    assert found.timeout(2.0) == 2.0


def test_a_hand_over_never_raises() -> None:
    asked: list[str] = []
    hand_over(relay(asked=asked), 4)
    assert asked
