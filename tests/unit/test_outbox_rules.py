"""The outbox's rules: which rows an event becomes, and what follows an attempt."""

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy

from common import events, logs, outbox
from common.errors import ServiceError
from common.outbox import MAX_ATTEMPTS, MAX_BACKOFF_SECONDS, Relay
from common.publishing import Message, Outcome, Result
from tests.support.factories import item, message, order

SENT, UNROUTABLE, REFUSED = Result.SENT, Result.UNROUTABLE, Result.REFUSED
DEFERRED = Result.DEFERRED
UNCONFIRMED, UNAVAILABLE = Result.UNCONFIRMED, Result.UNAVAILABLE
NOT_TRIED = Result.NOT_TRIED
ANALYTICS = events.analytics_notification(order())
CREATED = events.item_created(order(), item())
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Destination:
    """Takes what it is sent, ending each message as told; SENT where nothing is."""

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
    """Answer a relay without a database; `asked` is told when it looks for one."""

    def connect() -> None:
        (asked if asked is not None else []).append("connect")
        raise ConnectionRefusedError

    engine = sqlalchemy.create_engine("postgresql+pg8000://", creator=connect)
    publishers = {"http": destination or Destination()}
    return Relay(engine, publishers, hold_doubtful_order_created=hold)


def verdict(result: Result, **changes: Any) -> dict[str, Any]:
    return relay()._verdict(message(**changes), Outcome(1, result, "why"))


# Rows.


def test_an_event_becomes_a_row_for_each_destination_in_order() -> None:
    recorded = [CREATED, ANALYTICS, events.order_deleted(order())]
    told = outbox.rows(recorded, ("rabbitmq", "http"))
    assert [
        (row["position"], row["event_type"], row["destination"]) for row in told
    ] == [
        (0, "order.item.created", "rabbitmq"),
        (1, "order.item.created", "http"),
        (2, "analytics.order.completed", "analytics"),
        (3, "order.deleted", "rabbitmq"),
        (4, "order.deleted", "http"),
    ]


def test_analytics_is_owed_its_notification_also_without_a_bus() -> None:
    told = outbox.rows([CREATED, ANALYTICS], ())
    assert [row["destination"] for row in told] == ["analytics"]


def test_an_events_id_and_body_are_the_same_for_every_destination() -> None:
    told = outbox.rows([CREATED], ("rabbitmq", "http"))
    pairs = {(row["event_id"], row["body"]) for row in told}
    assert pairs == {(CREATED.id, CREATED.body)}


def test_a_row_carries_the_trace_of_the_request_that_caused_it() -> None:
    with logs.request_context(None, TRACEPARENT):
        [inside] = outbox.rows([CREATED], ("http",))
    [outside] = outbox.rows([CREATED], ("http",))
    assert (inside["traceparent"], outside["traceparent"]) == (TRACEPARENT, None)


# Verdicts.


@pytest.mark.parametrize(
    ("result", "is_sent", "is_dead", "is_counted"),
    [
        (SENT, True, False, False),
        (UNROUTABLE, False, True, False),
        (REFUSED, False, False, True),
        (DEFERRED, False, False, True),
        (UNCONFIRMED, False, False, True),
        (UNAVAILABLE, False, False, False),
        (NOT_TRIED, False, False, False),
    ],
)
def test_what_becomes_of_a_row_follows_from_how_the_attempt_ended(
    result: Result, *, is_sent: bool, is_dead: bool, is_counted: bool
) -> None:
    told = verdict(result)
    assert (told["id"], told["reason"]) == (1, "why")
    outcome = (told["is_sent"], told["is_dead"], told["is_counted"])
    assert outcome == (is_sent, is_dead, is_counted)


@pytest.mark.parametrize(
    ("attempts", "is_dead"), [(MAX_ATTEMPTS - 1, False), (MAX_ATTEMPTS, True)]
)
def test_what_is_refused_too_often_becomes_a_dead_letter(
    attempts: int, *, is_dead: bool
) -> None:
    assert verdict(REFUSED, attempts=attempts)["is_dead"] is is_dead


@pytest.mark.parametrize("result", [DEFERRED, UNCONFIRMED, UNAVAILABLE, NOT_TRIED])
def test_what_was_never_refused_stays_owed_for_ever(result: Result) -> None:
    assert verdict(result, attempts=10_000)["is_dead"] is False


@pytest.mark.parametrize("result", [REFUSED, DEFERRED, UNAVAILABLE, NOT_TRIED])
@pytest.mark.parametrize("before", [False, True])
def test_an_attempt_that_sent_nothing_leaves_doubt_as_it_was(
    result: Result, *, before: bool
) -> None:
    assert verdict(result, is_doubtful=before)["is_doubtful"] is before


def test_an_unconfirmed_attempt_is_in_doubt() -> None:
    assert verdict(UNCONFIRMED)["is_doubtful"] is True


def test_a_confirmed_attempt_ends_all_doubt() -> None:
    assert verdict(SENT, is_doubtful=True)["is_doubtful"] is False


# Backoff.


@pytest.mark.parametrize("result", [REFUSED, UNCONFIRMED])
@pytest.mark.parametrize("attempts", [1, 2, 5, 11])
def test_the_wait_doubles_with_each_attempt(result: Result, attempts: int) -> None:
    waits = [outbox._backoff_seconds(result, attempts) for _ in range(200)]
    assert 2**attempts * 0.5 <= min(waits) < max(waits) <= 2**attempts


@pytest.mark.parametrize("attempts", [12, 20, 1024, 10_000, 2**31 - 1])
def test_the_wait_never_exceeds_an_hour(attempts: int) -> None:
    wait = outbox._backoff_seconds(UNCONFIRMED, attempts)
    assert MAX_BACKOFF_SECONDS / 2 <= wait <= MAX_BACKOFF_SECONDS == 3600


def test_what_was_put_off_comes_back_within_a_minute() -> None:
    waits = [outbox._backoff_seconds(DEFERRED, 1000) for _ in range(200)]
    assert 30 <= min(waits) <= max(waits) <= 60


@pytest.mark.parametrize("result", [UNAVAILABLE, NOT_TRIED])
def test_what_was_not_tried_need_not_wait(result: Result) -> None:
    assert outbox._backoff_seconds(result, 5) == 0


# Doubt about `order.created`.

IN_DOUBT = {"type": "order.created", "is_doubtful": True}


def ends(relay_: Relay, *batch: Message) -> dict[int, Result]:
    outcomes = relay_._publish("http", list(batch), 10.0)
    assert len(outcomes) == len(batch)
    return {outcome.id: outcome.result for outcome in outcomes}


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "order.created"},
        {"is_doubtful": True},
        {"type": "order.approved", "is_doubtful": True},
    ],
)
def test_only_a_doubtful_order_created_is_held(changes: dict[str, Any]) -> None:
    destination = Destination()
    assert ends(relay(destination, hold=True), message(**changes)) == {1: SENT}


def test_trap_a_doubtful_order_created_waits_for_an_operator_where_asked() -> None:
    destination = Destination()
    found = ends(relay(destination, hold=True), message(**IN_DOUBT))
    assert found == {1: UNCONFIRMED}
    assert destination.came == []


def test_a_doubtful_order_created_is_resent_by_default() -> None:
    destination = Destination()
    assert ends(relay(destination), message(**IN_DOUBT)) == {1: SENT}
    assert destination.came == [1]


def test_a_held_event_holds_back_what_follows_in_its_order_only() -> None:
    destination = Destination()
    batch = [message(**IN_DOUBT), message(id=2), message(id=3, order_id=5)]
    found = ends(relay(destination, hold=True), *batch)
    assert found == {1: UNCONFIRMED, 2: NOT_TRIED, 3: SENT}
    assert destination.came == [3]


# A destination that is away.


@pytest.mark.parametrize(
    ("result", "is_paused"),
    [
        (SENT, False),
        (UNROUTABLE, False),
        (REFUSED, False),
        (UNCONFIRMED, True),
        (UNAVAILABLE, True),
    ],
)
def test_a_destination_that_is_away_is_left_alone_for_a_while(
    result: Result, *, is_paused: bool
) -> None:
    destination = Destination(**{"order.item.created": result})
    paused = relay(destination)
    ends(paused, message())
    assert (paused._paused_until["http"] > outbox._now()) is is_paused


@pytest.mark.parametrize(("result", "asks"), [(SENT, True), (UNAVAILABLE, False)])
def test_a_destination_that_is_away_costs_a_hand_over_and_a_sweep_nothing(
    result: Result, *, asks: bool
) -> None:
    asked: list[str] = []
    tried = relay(Destination(**{"order.item.created": result}), asked=asked)
    ends(tried, message())
    tried.hand_over(4)
    with contextlib.suppress(ConnectionRefusedError, ServiceError):
        tried.sweep(10.0)
    assert bool(asked) is asks


def test_a_hand_over_never_raises() -> None:
    asked: list[str] = []
    relay(asked=asked).hand_over(4)
    assert asked
