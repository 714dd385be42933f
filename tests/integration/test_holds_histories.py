"""Random histories of one variation: never too much is sold, and never too little.

What is really there is refused only while something is unsettled: an order's event is
not confirmed, or was not STOCK_SETTLE_SECONDS before the amount was read; or stock rose
before anybody has seen the order lowered, for fifteen minutes. HISTORIES is how many
are tried, HISTORIES_SEED picks others.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import pg8000.native
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support.database import connect
from tests.support.histories import History, Holds, Step

HISTORIES = int(os.environ.get("HISTORIES", "200"))
SEED = int(os.environ.get("HISTORIES_SEED", "1"))
BATCH = 250  # histories of a test
BATCHES = [min(BATCH, HISTORIES - begun) for begun in range(0, HISTORIES, BATCH)]
WEIGHTS = {
    "buy": 6,
    "read": 1,
    "write": 2,
    "race": 1,
    "send": 3,
    "publish": 1,
    "confirm": 1,
    "lower": 3,
    "cancel": 1,
    "restock": 1,
    "look": 1,
    "pass": 3,
}
NAMES = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
AMOUNTS = st.integers(4, 12)
STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 6)), min_size=8, max_size=40
)
Play = Callable[[int, list[Step]], None]


@pytest.fixture
def connection(database_url: str) -> Iterator[pg8000.native.Connection]:
    with closing(connect(database_url)) as connection:
        yield connection


def tried(play: Play, number: int, size: int, *phases: Phase) -> None:
    """Play so many histories; fail with one that fails."""
    configured = settings(
        max_examples=size,
        database=None,
        deadline=None,
        phases=[Phase.generate, *phases],
        suppress_health_check=list(HealthCheck),
    )(given(AMOUNTS, STEPS)(play))
    seed(f"{SEED} {number}")(configured)()


@pytest.mark.parametrize(("number", "size"), list(enumerate(BATCHES)))
def test_no_more_and_no_less_is_sold_than_is_there(
    connection: pg8000.native.Connection, number: int, size: int
) -> None:
    sold = refused = 0

    def play(amount: int, steps: list[Step]) -> None:
        nonlocal sold, refused
        history = History(Holds(connection), amount)
        history.play(steps)
        sold += len(history.orders)
        refused += history.refusals

    tried(play, number, size, Phase.shrink)
    print(f"{size} histories, {sold} orders, {refused} refusals")  # noqa: T201
    assert sold > size
    assert refused > size / 2


FAULTS = {
    "without fresh holds": ("line.amount - fresh - least(", "line.amount - least("),
    "without late holds": ("fresh - least(", "fresh - 0 * least("),
    "fresh for too long": ("read_at - settle", "read_at - interval '15 min'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_rule_is_found(
    connection: pg8000.native.Connection, fault: str
) -> None:
    replace(connection, "hold_stock", *FAULTS[fault])

    def play(amount: int, steps: list[Step]) -> None:
        History(Holds(connection), amount).play(steps)

    with pytest.raises(AssertionError, match=r"refused although|more is sold"):
        tried(play, 0, 1000)


# What chance seldom finds: one asks and is told before stock is lowered, another after
# that, and the first one orders last. What is taken for seen then, he must count.
TOO_EARLY = {
    "when the other one asked": (6, "seen_at = read_at"),
    "always": (7, "seen_at = '-infinity'"),
}


@pytest.mark.parametrize("taken", TOO_EARLY)
def test_who_read_before_the_lowering_counts_what_others_have_seen_lowered(
    connection: pg8000.native.Connection, taken: str
) -> None:
    quantity, fault = TOO_EARLY[taken]
    steps: list[Step] = [("buy", 4), ("send", 1), ("pass", 3), ("race", quantity)]
    right = History(Holds(connection), 10)
    right.play(steps)
    assert [order.quantity for order in right.orders] == [4, 1]
    replace(connection, "settle_stock", "seen_at = clock_timestamp()", fault)
    with pytest.raises(AssertionError, match="more is sold"):
        History(Holds(connection), 10).play(steps)


def replace(
    connection: pg8000.native.Connection, function: str, right: str, wrong: str
) -> None:
    """Put a fault into a function of this database."""
    [[text]] = connection.run(
        "SELECT pg_get_functiondef(CAST(CAST(:name AS regproc) AS oid))", name=function
    )
    assert right in text
    connection.run(text.replace(right, wrong))
