"""Several relays and approval workers at once, over thousands of orders.

Nothing fails here, so no event may come twice unless a process logs that it gave up
waiting for a confirm.
"""

import os
import time

import pytest

from tests.support.books import compare
from tests.support.crash.nursery import Child
from tests.support.crash.world import World
from tests.support.load import stay
from tests.support.many import completed_orders

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
ORDERS = 1000
ITEMS = 3
CROWD = 3  # of each kind
PATIENCE_SECONDS = 120
GAVE_UP = "an event was not sent: unconfirmed"
pytestmark = pytest.mark.timeout(300 * (1 + ROUNDS))


def test_relays_and_workers_at_once_tell_everything_once_and_approve_once(
    world: World,
) -> None:
    relays = [start(world, "relay_worker") for _ in range(CROWD)]
    workers = [start(world, "approval_worker") for _ in range(CROWD)]
    children = relays + workers
    for worker in workers:
        assert world.wait_until(
            lambda w=worker: "consuming" in w.log.read_text(), worker
        )
    began = time.monotonic()
    orders = [
        o for _ in range(ROUNDS) for o in completed_orders(world.service, ORDERS, ITEMS)
    ]
    made = time.monotonic()
    wait_until_all_is_done(world, len(orders))
    done = time.monotonic()
    for child in children:
        world.nursery.stop(child)
    said = [child.log.read_text() for child in children]
    figures = compare(world.service, world.channel, world.queue)
    print(f"\n{figures} {made - began:.1f} s, and {done - made:.1f} s more")  # noqa: T201
    # Two creations, three moves, an approval and what analytics hears; once each.
    assert figures.orders == len(orders) == ORDERS * ROUNDS
    assert figures.events == len(orders) * (ITEMS + 1 + ITEMS + 1)
    gave_up = sum(text.count(GAVE_UP) for text in said)
    assert figures.doubtful <= gave_up
    assert figures.repeated <= gave_up
    heard = world.sandbox.completed_orders
    assert sorted(int(order["id"]) for order in heard) == orders
    assert sum(order["times_heard"] - 1 for order in heard) <= gave_up
    assert all("order approved" in text for text in said[CROWD:])


def start(world: World, role: str) -> Child:
    settings = {**world.service.environ, "THREADS": "4", "LOG_LEVEL": "INFO"}
    return world.nursery.start(role, settings)


def wait_until_all_is_done(world: World, orders: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS * ROUNDS
    while True:
        [row] = world.service.rows(
            "SELECT (SELECT count(*) FROM orders WHERE is_approved) AS approved,"
            " (SELECT count(*) FROM outbox) AS owed"
        )
        if row == {"approved": orders, "owed": 0}:
            return
        assert time.monotonic() < deadline, row
        stay(world.channel, 0.1)
