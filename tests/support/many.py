"""Thousands of orders without requests, and clients that post from a list.

The orders' events stay pending until a relay publishes them.
"""

import contextlib
import http.client
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from msgspec import structs

from common import startup, wiring
from common.database.engine import connect
from common.domain import orders
from common.domain.model import INTERNAL, Actor, Change, ItemStatus, Line, Snapshot
from common.messaging.pending import Bus
from common.store import idempotency
from common.store.idempotency import StoredResponse
from common.store.orders import Target, change_order, create_order
from tests.support.crash.nursery import PATIENCE_SECONDS
from tests.support.service import Service

WRITERS = 4


def completed_orders(service: Service, count: int, items: int = 3) -> list[int]:
    """Make orders from carts and all their items final; return the orders' ids.

    Of the items the first is cancelled, if there are others, the rest delivered.
    """
    service.client("orders_crud")
    with ThreadPoolExecutor(WRITERS) as pool:
        ids = list(pool.map(lambda n: _created(n, items), range(count)))
        list(pool.map(_completed, ids))
    return sorted(ids)


def _created(number: int, items: int) -> int:
    lines = [
        Line(uuid.uuid4(), n, uuid.uuid4(), uuid.uuid4(), 1999)
        for n in range(1, items + 1)
    ]
    user, cart = uuid.uuid4(), number + 1
    claims = [idempotency.by_cart(user, cart, [])]
    ids = idempotency.begin(wiring.engine(), claims, items)
    change = orders.new_order(user, lines, ids, cart_id=cart)
    answer = StoredResponse(201, {}, f'{{"order_id":{change.order.id},"order":null}}')
    bus = Bus(startup.settings().bus)
    create_order(wiring.engine(), change, bus, claims, answer)
    return change.order.id


def _completed(order_id: int) -> None:
    target = Target(order_id=order_id)
    bus = Bus(startup.settings().bus)
    with connect(wiring.engine()) as connection:
        change_order(connection, target, _all_final, bus)


def _all_final(snapshot: Snapshot) -> Change | None:
    """Return what moving one item after the other comes to, as one change."""
    whole: Change | None = None
    for position, item in enumerate(snapshot.order.items):
        is_cancelled = position == 0 and len(snapshot.order.items) > 1
        status = ItemStatus.CANCELLED if is_cancelled else ItemStatus.DELIVERED
        step = orders.set_status(
            snapshot, item.id, status, Actor(uuid.uuid4(), INTERNAL)
        )
        assert step is not None
        if whole is not None:
            step.changed = whole.changed + step.changed
            step.history = whole.history + step.history
        snapshot = structs.replace(snapshot, order=step.order)
        whole = step
    return whole


class Delivery(NamedTuple):
    """A request to be posted."""

    headers: dict[str, str]
    body: bytes
    path: str = "/"


def post_all(
    port: int, deliveries: Sequence[Delivery], clients: int = 4
) -> list[int | None]:
    """Post all, a few at a time, on kept-alive connections; answer each status.

    None where the link broke instead. The first is posted first, and so on; who is
    answered first is left to chance.
    """
    statuses: list[int | None] = [None] * len(deliveries)
    numbers = iter(range(len(deliveries)))
    lock = threading.Lock()

    def work() -> None:
        link = http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)
        with contextlib.closing(link):
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                headers, body, path = deliveries[number]
                try:
                    link.request("POST", path, body, headers)
                    answer = link.getresponse()
                    answer.read()
                    statuses[number] = answer.status
                except (OSError, http.client.HTTPException):
                    link.close()

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(work) for _ in range(clients)]:
            done.result()
    return statuses
