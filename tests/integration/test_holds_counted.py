"""The newest hold's totals: when they spare a write the counting, and when not."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.database import connect
from tests.support.shelf import CAP, LONGEST, SETTLE, VARIATION, Shelf


@pytest.fixture
def shelf(database_url: str) -> Iterator[Shelf]:
    with closing(connect(database_url)) as connection:
        yield Shelf(connection)


def test_what_a_write_reads_does_not_grow_with_the_holds_that_stock_never_shows(
    shelf: Shelf,
) -> None:
    # The product service's consumer is down, and everybody buys the same.
    def pages() -> int:
        asked = shelf.asked(
            [{"item_id": 1, "variation": str(VARIATION), "quantity": 1, "amount": 9999}]
        )
        [[plan]] = shelf.connection.run(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT hold_stock(1, :asked)",
            asked=asked,
        )
        return int(plan[0]["Plan"]["Shared Hit Blocks"])

    shelf.take(1, 9999)
    pages()
    few = pages()
    for _ in range(1000):
        shelf.take(1, 9999)
    shelf.connection.run("UPDATE stock_holds SET confirmed_at = now() - interval '9 s'")
    pages()  # counts them all, once in a while
    assert pages() < few + 50


def test_what_was_counted_before_others_looked_is_counted_again(shelf: Shelf) -> None:
    first, second = shelf.take(4, 10), shelf.take(1, 10)
    shelf.confirm(first, SETTLE)
    shelf.connection.run(
        "SELECT settle_stock(:variation, 6, clock_timestamp(),"
        " :settle, :cap, :longest)",
        variation=VARIATION,
        settle=f"{SETTLE}s",
        cap=f"{CAP}s",
        longest=f"{LONGEST}s",
    )
    third = shelf.take(1, 20)  # put in since
    assert shelf.expected(second) == 5
    assert shelf.expected(third) == 20 - 1 - 1


def test_the_amount_is_held_against_all_holds_that_nobody_has_seen(
    shelf: Shelf,
) -> None:
    first, second = shelf.take(4, 10), shelf.take(1, 10)
    shelf.confirm(first, SETTLE)
    third = shelf.take(1, 6)  # shows the first, but not the second
    fourth = shelf.take(1, 26)  # put in since
    assert shelf.expected(second) == 5
    assert shelf.expected(third) == 4
    assert shelf.expected(fourth) == 26 - 1 - 1 - 1
