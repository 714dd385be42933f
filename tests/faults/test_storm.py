"""Processes killed at random moments under load: nothing is lost or duplicated.

FAULT_SECONDS is how long it goes on. STORM_SEED repeats a run's choices, though not its
exact timing.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.approvals import CANCELLED, DELIVERED
from tests.support.crash.nursery import Child
from tests.support.crash.trials import Tally, audit, compare_books_with_brokers
from tests.support.crash.world import Request, World
from tests.support.service import new_user

SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))
SEED = int(os.environ.get("STORM_SEED", "7"))
CLIENTS = 4
PATIENCE_SECONDS = 60
OK = (200, 201)
FUNCTIONS = ("create_order_from_cart", "item_status")
WORKERS = {"approval_worker": (), "relay_worker": ("--poll-seconds", "0.2")}

pytestmark = pytest.mark.timeout(180 + 3 * SECONDS)


class Crowd:
    """Clients who order and shops who deliver, and who never take no for an answer."""

    def __init__(self, world: World) -> None:
        self.instances: dict[str, Child] = {}
        self.orders = 0
        self._world = world
        self._is_over = threading.Event()
        self._broken: list[BaseException] = []
        self._lock = threading.Lock()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
        assert not self._broken, self._broken

    def _work(self) -> None:
        try:
            while not self._is_over.is_set():
                self._buy()
                with self._lock:
                    self.orders += 1
        except BaseException as error:  # noqa: BLE001 told by who waits for the thread
            self._broken.append(error)

    def _buy(self) -> None:
        user, sandbox = new_user(), self._world.sandbox
        for quantity in (1, 2):
            sandbox.add_to_cart(user, sandbox.add_article(amount=100), quantity)
        checkout = Request("POST", "/api/orders-from-shopcart/", {"X-User-ID": user})
        self._ask("create_order_from_cart", checkout)
        items = self._world.service.rows(
            "SELECT id FROM order_items WHERE user_id = CAST(:user AS uuid)", user=user
        )
        assert len(items) == 2, "the cart became another number of orders than one"
        for item, status in zip(items, (DELIVERED, CANCELLED), strict=True):
            path = f"/api/order-items/{item['id']}/status/"
            headers = {"X-User-ID": new_user()}
            self._ask(
                "item_status", Request("PATCH", path, headers, {"status": status})
            )

    def _ask(self, function: str, request: Request) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (got := self._world.send(self.instances[function], request)) not in OK:
            assert time.monotonic() < deadline, f"{request.path} is only answered {got}"
            time.sleep(0.02)


def test_processes_killed_at_random_under_load_lose_and_double_nothing(
    world: World,
) -> None:
    chance = random.Random(SEED)
    crowd = Crowd(world)

    def start(role: str) -> None:
        crowd.instances[role] = world.start(role, *WORKERS.get(role, ()))

    for role in (*FUNCTIONS, *WORKERS):
        start(role)
    kills = 0
    with crowd.at_work():
        ends_at = time.monotonic() + SECONDS
        while time.monotonic() < ends_at:
            world.channel.connection.sleep(chance.uniform(0.02, 0.3))
            role = chance.choice((*FUNCTIONS, *WORKERS))
            world.nursery.kill(crowd.instances[role])
            start(role)
            kills += 1
    for child in crowd.instances.values():
        world.nursery.kill(child)

    eventually(world, lambda: not unapproved(world))
    world.settle()
    tally = Tally(kills=kills)
    compare_books_with_brokers(world, tally)
    audit(world, tally)
    print(  # noqa: T201 with pytest -rP
        f"{crowd.orders} orders, {tally.kills} processes killed, {tally.events} events"
        f" owed, 0 lost, {len(tally.repeated)} twice, all of them among the"
        f" {len(tally.doubtful)} reported in doubt"
    )
    assert crowd.orders > CLIENTS
    assert kills > SECONDS


def unapproved(world: World) -> bool:
    return bool(world.service.rows("SELECT id FROM orders WHERE NOT is_approved"))


def eventually(world: World, question: Callable[[], bool]) -> None:
    """Sweep as the scheduler does until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < deadline, "orders stay unapproved"
        world.service.sweep()
