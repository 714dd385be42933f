"""A destination that threads share: one publishes, for all that wait."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from common.messaging.destination import Destination
from common.publishing.publisher import Message, Outcome, Result
from tests.support.factories import message

SENT, NOT_TRIED = Result.SENT, Result.NOT_TRIED
UNCONFIRMED, UNAVAILABLE = Result.UNCONFIRMED, Result.UNAVAILABLE
PATIENCE_SECONDS = 30.0


class Slow:
    """Takes its time over a batch, until told that it may end; all end as told."""

    def __init__(self, result: Result = SENT) -> None:
        self.result = result
        self.batches: list[list[int]] = []
        self.deadlines: list[float] = []
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        self.batches.append([each.id for each in messages])
        self.deadlines.append(deadline)
        self.has_begun.set()
        assert self.may_end.wait(PATIENCE_SECONDS)
        return [Outcome(each.id, self.result) for each in messages]

    def close(self) -> None:
        """Nothing is open."""


def side_by_side(slow: Slow, timeout: float = PATIENCE_SECONDS) -> list[list[Outcome]]:
    """Publish message 1, and 2 to 5 by as many threads while it is under way."""
    shared = Destination("http", slow)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(shared.publish, [message(id=1)], PATIENCE_SECONDS)
        assert slow.has_begun.wait(PATIENCE_SECONDS)
        others = [
            pool.submit(shared.publish, [message(id=n, order_id=n)], timeout)
            for n in range(2, 6)
        ]
        while len(shared._queue) < 4 and not any(each.done() for each in others):
            time.sleep(0.001)
        if timeout < PATIENCE_SECONDS:
            wait(others, PATIENCE_SECONDS)
        slow.may_end.set()
        return [each.result(PATIENCE_SECONDS) for each in (first, *others)]


def test_who_comes_while_another_publishes_is_sent_along_with_all_who_wait() -> None:
    slow = Slow()
    outcomes = side_by_side(slow)
    assert outcomes == [[Outcome(n, SENT)] for n in range(1, 6)]
    assert slow.batches[0] == [1]
    assert sorted(slow.batches[1]) == [2, 3, 4, 5]
    assert len(slow.batches) == 2


def test_who_waited_for_one_that_found_nobody_there_does_not_try() -> None:
    slow = Slow(UNAVAILABLE)
    outcomes = side_by_side(slow)
    assert outcomes[0] == [Outcome(1, UNAVAILABLE)]
    assert outcomes[1:] == [[Outcome(n, NOT_TRIED)] for n in range(2, 6)]
    assert slow.batches == [[1]]


def test_who_waits_longer_than_patience_has_not_tried() -> None:
    slow = Slow()
    outcomes = side_by_side(slow, timeout=0.05)
    assert outcomes[0] == [Outcome(1, SENT)]
    assert outcomes[1:] == [[Outcome(n, NOT_TRIED)] for n in range(2, 6)]
    assert slow.batches == [[1]]


def test_a_publisher_that_breaks_its_promise_leaves_all_it_was_given_in_doubt() -> None:
    class Broken(Slow):
        def publish(self, messages: Sequence[Message], _deadline: float) -> Any:
            if self.batches:
                raise ZeroDivisionError
            return super().publish(messages, _deadline)

    outcomes = side_by_side(Broken())
    assert outcomes[0] == [Outcome(1, SENT)]
    assert [[each.result for each in some] for some in outcomes[1:]] == [
        [UNCONFIRMED]
    ] * 4


def test_who_has_no_time_left_takes_none_from_those_it_waited_with() -> None:
    slow = Slow()
    shared = Destination("http", slow)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(shared.publish, [message(id=1)], PATIENCE_SECONDS)
        assert slow.has_begun.wait(PATIENCE_SECONDS)
        patient = pool.submit(
            shared.publish, [message(id=2, order_id=2)], PATIENCE_SECONDS
        )
        hasty = pool.submit(shared.publish, [message(id=3, order_id=3)], 1.0)
        while len(shared._queue) < 2:
            time.sleep(0.001)
        [turn] = [each for each in shared._queue if each.messages[0].id == 3]
        turn.deadline = time.monotonic()  # as if nearly all had passed
        slow.may_end.set()
        for each in (first, patient):
            assert [o.result for o in each.result(PATIENCE_SECONDS)] == [SENT]
        assert hasty.result(PATIENCE_SECONDS) == [Outcome(3, NOT_TRIED)]
    assert slow.deadlines[-1] > time.monotonic() + 1
