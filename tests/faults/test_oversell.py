"""Scarce stock of a service that lowers it later is sold once, whoever is killed.

OVERSELL_RUNS and OVERSELL_BUYERS are how often, and to how many it is sold. The same
runs without the check oversell: so these tests can fail.
"""

import os
from collections.abc import Iterator

import pytest

from tests.support.books import audited
from tests.support.crash.nursery import Nursery
from tests.support.rush import Rush, rush, take_the_check_out

RUNS = int(os.environ.get("OVERSELL_RUNS", "1"))
BUYERS = int(os.environ.get("OVERSELL_BUYERS", "200"))
IS_LONG = BUYERS >= 1000
STOCK = (50, 7) if IS_LONG else (20, 7)
KILLS = 30 if IS_LONG else 5
UNCHECKED_BUYERS = min(BUYERS, 400)
pytestmark = pytest.mark.timeout(120 + BUYERS)


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """A line for each run, shown at the end."""
    lines: list[str] = []
    yield lines
    print("\n\n" + "\n".join(lines))  # noqa: T201


@pytest.fixture
def running(
    postgres_url: str, template_database: str, forks: Nursery
) -> Iterator[Rush]:
    with rush(postgres_url, template_database, forks, STOCK) as running:
        yield running


@pytest.mark.parametrize("run", range(1, RUNS + 1))
def test_exactly_what_is_there_is_sold(
    running: Rush, table: list[str], run: int
) -> None:
    outcome = running.run(BUYERS, KILLS, seed=run)
    show(table, f"run {run:2}: {outcome}")
    assert outcome.wrong == []
    assert outcome.sold == list(STOCK)
    assert outcome.left == [0, 0]
    assert set(outcome.ends) == {"bought", "sold out"}
    assert outcome.ends.total() == BUYERS
    assert running.holds_left() == []
    audited(running.service)


@pytest.mark.parametrize("run", range(1, RUNS + 1))
def test_without_the_check_more_is_sold_than_is_there(
    running: Rush, table: list[str], run: int
) -> None:
    take_the_check_out(running)
    outcome = running.run(UNCHECKED_BUYERS, KILLS, seed=run)
    show(table, f"run {run:2}, unchecked: {outcome}")
    assert all(sold > stock for sold, stock in zip(outcome.sold, STOCK, strict=True))
    assert all(left < 0 for left in outcome.left)


def show(table: list[str], line: str) -> None:
    print(line, flush=True)  # noqa: T201
    table.append(line)
