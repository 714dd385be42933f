"""What `hold_stock` lets orders take, at every edge of its rule.

Time passes by ageing rows. An amount is what the product service answered at `read`
seconds before now.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import closing

import pg8000.exceptions
import pg8000.native
import pytest

from tests.support.database import connect
from tests.support.shelf import CAP, LONGEST, SETTLE, VARIATION, Shelf

OTHER = uuid.UUID(int=2)
MARGIN = 0.5  # what a test takes at most between two of its statements


@pytest.fixture
def shelf(database_url: str) -> Iterator[Shelf]:
    with closing(connect(database_url)) as connection:
        yield Shelf(connection)


def test_all_there_is_can_be_taken_and_no_more(shelf: Shelf) -> None:
    assert shelf.take(4, 10)
    assert not shelf.take(7, 10)
    assert shelf.take(6, 10)
    assert not shelf.take(1, 10)
    assert len(shelf.held()) == 2


@pytest.mark.parametrize("amount", [10, 6])  # not lowered yet, or already
def test_a_fresh_hold_counts_whole_whatever_was_read(shelf: Shelf, amount: int) -> None:
    order = shelf.take(4, 10)
    shelf.confirm(order, SETTLE - MARGIN)
    assert not shelf.take(amount - 3, amount)
    assert shelf.take(amount - 4, amount)


def test_a_hold_that_is_not_confirmed_never_settles(shelf: Shelf) -> None:
    shelf.take(4, 10)
    shelf.connection.run("UPDATE stock_holds SET created_at = now() - interval '1 day'")
    assert not shelf.take(7, 10)
    assert not shelf.take(3, 6)


def test_a_settled_hold_whose_sign_is_in_the_amount_counts_no_more(
    shelf: Shelf,
) -> None:
    shelf.confirm(shelf.take(4, 10), SETTLE)
    assert not shelf.take(7, 6)
    assert shelf.take(6, 6)


def test_a_settled_hold_without_a_sign_still_counts(shelf: Shelf) -> None:
    """The consumer may be down: what it has not lowered yet is sold."""
    shelf.confirm(shelf.take(4, 10), CAP - 1)
    assert not shelf.take(7, 10)
    assert shelf.take(6, 10)


def test_time_counts_from_when_the_stock_was_read(shelf: Shelf) -> None:
    shelf.confirm(shelf.take(4, 10), SETTLE + 2)
    assert not shelf.take(6, 6, read=3)  # it may have been lowered after that
    assert shelf.take(6, 6, read=1)


def test_after_the_cap_a_hold_blocks_nobody(shelf: Shelf) -> None:
    shelf.confirm(shelf.take(4, 10), CAP + MARGIN)
    assert shelf.take(10, 10)
    assert len(shelf.held()) == 1


def test_what_was_released_counts_until_it_has_settled(shelf: Shelf) -> None:
    order = shelf.take(4, 10)
    shelf.release(order, SETTLE - MARGIN)
    assert not shelf.take(7, 10)
    shelf.release(order, SETTLE)
    assert shelf.take(10, 10)
    assert order not in shelf.held()


def test_a_restock_can_be_bought_although_a_hold_is_not_seen(shelf: Shelf) -> None:
    shelf.confirm(shelf.take(4, 4), SETTLE)
    assert not shelf.take(97, 100)
    assert shelf.take(96, 100)


def test_a_restock_after_the_sign_can_be_bought_whole(shelf: Shelf) -> None:
    shelf.confirm(shelf.take(4, 5), SETTLE)
    assert shelf.take(1, 1)  # whoever buys sees the sign
    assert not shelf.take(100, 100)
    assert shelf.take(99, 100)


def test_no_more_than_the_amount_shows_is_missing(shelf: Shelf) -> None:
    """Two were ordered one after the other; one of them has been lowered."""
    first, second = shelf.take(3, 10), shelf.take(2, 10)
    shelf.confirm(first, SETTLE)
    shelf.confirm(second, SETTLE)
    assert not shelf.take(6, 7)
    assert shelf.take(5, 7)


def test_a_later_hold_may_be_lowered_first(shelf: Shelf) -> None:
    first, second = shelf.take(3, 10), shelf.take(5, 10)
    shelf.confirm(first, SETTLE)
    shelf.confirm(second, SETTLE)
    # 5 were lowered: it looks as if the first had been, and one of the others' two.
    assert not shelf.take(3, 5)
    assert shelf.take(2, 5)


def test_an_earlier_hold_that_is_fresh_counts_beside_a_later_one_that_was_seen(
    shelf: Shelf,
) -> None:
    shelf.take(3, 10)
    shelf.confirm(shelf.take(2, 10), SETTLE)
    assert not shelf.take(3, 5)
    assert shelf.take(2, 5)


def test_what_another_buyer_saw_lowered_counts_for_who_read_before(
    shelf: Shelf,
) -> None:
    shelf.confirm(shelf.take(4, 10), SETTLE + 9)
    assert shelf.take(1, 6)  # sees the sign
    shelf.release(2, SETTLE + 9)
    # This buyer asked earlier, when it was not lowered yet.
    assert not shelf.take(7, 10, read=2)
    assert shelf.take(6, 10, read=2)


def test_who_sees_a_sign_says_when_by_the_clock_and_not_by_when_it_began(
    shelf: Shelf,
) -> None:
    """Its amount was read at some time after `read_at`."""
    shelf.confirm(shelf.take(4, 10), SETTLE + 9)
    assert shelf.take(1, 6, read=3)
    shelf.release(2, SETTLE + 9)
    assert not shelf.take(7, 10, read=2)


def test_what_was_seen_is_forgotten_once_nobody_can_have_read_before(
    shelf: Shelf,
) -> None:
    first = shelf.take(4, 10)
    shelf.confirm(first, SETTLE)
    shelf.take(1, 6)
    assert first in shelf.held()
    shelf.connection.run(
        "UPDATE stock_holds SET seen_at = seen_at - age, counted_at = counted_at - age"
        " FROM make_interval(secs => :seconds) AS age",
        seconds=LONGEST + MARGIN,
    )
    shelf.take(1, 6)
    assert first not in shelf.held()


def test_who_read_too_long_ago_tries_again(shelf: Shelf) -> None:
    with pytest.raises(pg8000.exceptions.DatabaseError) as raised:
        shelf.take(1, 10, read=LONGEST + MARGIN)
    assert raised.value.args[0]["C"] == "55P03"
    assert shelf.take(1, 10, read=LONGEST - 5)


def test_stock_below_zero_holds_nothing(shelf: Shelf) -> None:
    assert not shelf.take(1, -3)


def test_what_is_taken_unasked_is_held_all_the_same(shelf: Shelf) -> None:
    order = shelf.take(4, None)
    assert not shelf.take(7, 10)
    assert shelf.take(6, 10)
    shelf.confirm(order, SETTLE)
    # Nobody knows what its sign would be.
    assert not shelf.take(1, 10)


def test_an_event_for_nobody_needs_no_confirmation(shelf: Shelf) -> None:
    shelf.take(4, 10, events=0)
    shelf.connection.run(
        "UPDATE stock_holds SET confirmed_at = confirmed_at - interval '6s'"
    )
    assert shelf.take(6, 6)


def test_one_line_with_too_little_holds_nothing_of_the_others(shelf: Shelf) -> None:
    lines = [
        {"item_id": n, "variation": str(id_), "quantity": 3, "amount": amount}
        for n, (id_, amount) in enumerate(((OTHER, 9), (VARIATION, 2)))
    ]
    with pytest.raises(pg8000.exceptions.DatabaseError) as raised:
        shelf.connection.run("SELECT hold_stock(1, :asked)", asked=shelf.asked(lines))
    assert raised.value.args[0]["D"] == str(VARIATION)
    assert shelf.held() == []


def test_opposite_orders_of_lines_never_deadlock(database_url: str) -> None:
    rounds, failures = 150, []

    def run(ids: list[uuid.UUID]) -> None:
        with closing(connect(database_url)) as connection:
            shelf = Shelf(connection)
            for order in range(rounds):
                lines = [
                    {"item_id": n, "variation": str(id_)}
                    | {"quantity": 1, "amount": 10_000}
                    for n, id_ in enumerate(ids)
                ]
                try:
                    connection.run(
                        "SELECT hold_stock(:order, :asked)",
                        order=order,
                        asked=shelf.asked(lines),
                    )
                except pg8000.exceptions.DatabaseError as error:
                    failures.append(error)

    ids = [uuid.UUID(int=n) for n in range(6)]
    threads = [threading.Thread(target=run, args=(a,)) for a in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with closing(connect(database_url)) as connection:
        [[held]] = connection.run("SELECT count(*) FROM stock_holds")
    assert held == 2 * rounds * len(ids)


def test_as_many_as_there_are_are_taken_by_many_at_once(database_url: str) -> None:
    taken: list[int] = []

    def run() -> None:
        with closing(connect(database_url)) as connection:
            shelf = Shelf(connection)
            taken.extend(filter(None, (shelf.take(1, 30) for _ in range(10))))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 30
