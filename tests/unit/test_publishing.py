"""What every publisher promises: order within an order, and bounded time."""

import time
from collections.abc import Mapping

import pytest

from common.publishing import Message, Result, publish_each
from tests.support.factories import message

SENT, UNROUTABLE, REFUSED = Result.SENT, Result.UNROUTABLE, Result.REFUSED
UNCONFIRMED, UNAVAILABLE = Result.UNCONFIRMED, Result.UNAVAILABLE
NOT_TRIED = Result.NOT_TRIED
A_MINUTE = 60.0


class Wire:
    """Answers each message as told, SENT where nothing is told; keeps what came."""

    def __init__(self, results: Mapping[int, Result] | None = None) -> None:
        self.results = results or {}
        self.came: list[int] = []
        self.patience: list[float] = []

    def send(self, sent: Message, seconds: float) -> tuple[Result, str | None]:
        self.came.append(sent.id)
        self.patience.append(seconds)
        result = self.results.get(sent.id, SENT)
        return result, None if result is SENT else f"why {sent.id}"


def published(
    wire: Wire, *order_ids: int, seconds: float = A_MINUTE
) -> list[tuple[int, Result]]:
    """Publish messages 1, 2, ... of these orders; answer how each ended."""
    batch = [message(id=n, order_id=o) for n, o in enumerate(order_ids, start=1)]
    outcomes = publish_each(batch, time.monotonic() + seconds, wire.send)
    return [(outcome.id, outcome.result) for outcome in outcomes]


def test_messages_are_sent_in_the_order_given() -> None:
    wire = Wire()
    assert published(wire, 4, 5, 4) == [(1, SENT), (2, SENT), (3, SENT)]
    assert wire.came == [1, 2, 3]


def test_nothing_is_nothing() -> None:
    assert published(Wire()) == []


def test_a_refused_event_holds_back_its_own_order_only() -> None:
    wire = Wire({1: REFUSED})
    ends = published(wire, 4, 5, 4, 5, 4)
    assert [result for _, result in ends] == [REFUSED, SENT, NOT_TRIED, SENT, NOT_TRIED]
    assert wire.came == [1, 2, 4]


def test_an_event_nobody_listens_to_holds_back_nobody() -> None:
    wire = Wire({1: UNROUTABLE})
    assert published(wire, 4, 4) == [(1, UNROUTABLE), (2, SENT)]


@pytest.mark.parametrize("away", [UNAVAILABLE, UNCONFIRMED])
def test_a_destination_that_is_away_is_not_tried_again(away: Result) -> None:
    wire = Wire({2: away})
    ends = published(wire, 4, 5, 6, 7)
    assert [result for _, result in ends] == [SENT, away, NOT_TRIED, NOT_TRIED]
    assert wire.came == [1, 2]


def test_every_message_has_one_outcome_with_its_reason() -> None:
    batch = [message(id=n, order_id=n) for n in (1, 2)]
    wire = Wire({1: REFUSED})
    outcomes = publish_each(batch, time.monotonic() + A_MINUTE, wire.send)
    assert [(o.id, o.reason) for o in outcomes] == [(1, "why 1"), (2, None)]


@pytest.mark.parametrize("seconds", [0.0, -A_MINUTE])
def test_nothing_is_sent_after_the_deadline(seconds: float) -> None:
    wire = Wire()
    ends = published(wire, 4, 5, seconds=seconds)
    assert ends == [(1, NOT_TRIED), (2, NOT_TRIED)]
    assert wire.came == []


def test_a_message_may_take_the_time_that_is_left() -> None:
    wire = Wire()
    published(wire, 4, 5, seconds=A_MINUTE)
    first, second = wire.patience
    assert A_MINUTE - 5 < second <= first <= A_MINUTE
