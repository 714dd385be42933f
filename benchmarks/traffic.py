"""The requests of each operation, and the orders they need.

Requests are formatted before timing starts, except those that can be sent only once.
"""

import contextlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pg8000.native

from benchmarks.siblings import caller
from tests.support import database

LINES = 5
CALLERS = 200
OWNERS = 40
ORDERS_AN_OWNER = 60  # more than a page
MOVED_ORDERS = 10_000
_SHIPPED, _DELIVERED = 2, 3
CHECKOUT_PATH = "/api/orders-from-shopcart/"

Requests = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Operation:
    """Something a caller does: the server and its requests.

    `server` is a function's name, except where one function is served twice. `requests`
    goes on where the last period ended, if each may be sent only once.
    """

    name: str
    server: str
    requests: Requests
    expected: frozenset[int] = frozenset({200})
    allowed: frozenset[int] = frozenset()


def request(
    method: str, path: str, user: str, body: object = None, **headers: str
) -> bytes:
    """Return a complete HTTP request."""
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: bench", f"X-User-ID: {user}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method != "GET":
        head.append(f"Content-Length: {len(content)}")
    if content:
        head.append("Content-Type: application/json")
    return "\r\n".join([*head, "", ""]).encode() + content


def hello() -> Operation:
    """Return the bare framework's one operation."""
    return repeated("hello", "hello", [request("GET", "/", caller(0, 0))])


def health(function: str) -> Operation:
    """Return a function's liveness probe."""
    return repeated("health", function, [request("GET", "/health/live", caller(0, 0))])


def checkout(
    lines: int = LINES, name: str = "checkout", allowed: Sequence[int] = ()
) -> Operation:
    """Return checkouts of carts with this number of lines; each is a new order."""
    users = [caller(number, lines) for number in range(CALLERS)]
    found = [request("POST", CHECKOUT_PATH, user) for user in users]
    return repeated(name, "create_order_from_cart", found, 201, allowed)


def keyed_checkout() -> Operation:
    """Return checkouts that each have an Idempotency-Key of their own."""

    def requests() -> Iterator[bytes]:
        for number in itertools.count():
            key = uuid.uuid4().hex
            yield _keyed(caller(number % CALLERS, LINES), key)

    return Operation("first call", "create_order_from_cart", requests, frozenset({201}))


def first_calls(keyed: Sequence[bytes]) -> Operation:
    """Return requests with a key, each of them once."""
    created = frozenset({201})
    return Operation(
        "first calls", "create_order_from_cart", lambda: iter(keyed), created
    )


def replay(keyed: Sequence[bytes]) -> Operation:
    """Return the same requests once more, which are recognised by their keys."""
    return repeated("replay", "create_order_from_cart", keyed, 201)


def keyed(count: int) -> list[bytes]:
    """Return checkouts to be made once and then replayed."""
    run = uuid.uuid4().hex
    return [_keyed(caller(n % CALLERS, LINES), f"{run}-{n}") for n in range(count)]


def _keyed(user: str, key: str) -> bytes:
    return request("POST", CHECKOUT_PATH, user, Idempotency_Key=key)


def repeated(
    name: str,
    server: str,
    requests: Sequence[bytes],
    status: int = 200,
    allowed: Sequence[int] = (),
) -> Operation:
    """Return an operation whose requests may be sent any number of times."""
    return Operation(
        name,
        server,
        lambda: itertools.cycle(requests),
        frozenset({status}),
        frozenset(allowed),
    )


class Orders:
    """Orders to read, list and change, written directly to the database."""

    def __init__(self, url: str, moved_orders: int = MOVED_ORDERS) -> None:
        """Fill the tables; takes a few seconds."""
        run = uuid.uuid4().hex[:4]
        self._owners = [f"{run}0000-0000-4000-9000-{n:012x}" for n in range(OWNERS)]
        with contextlib.closing(database.connect(url)) as connection:
            self._read = [
                (order_id, owner)
                for owner in self._owners
                for order_id in insert_orders(connection, owner, ORDERS_AN_OWNER)
            ]
            mover = f"{run}0000-0000-4000-a000-000000000000"
            moved = insert_orders(connection, mover, moved_orders)
            rows = connection.run(
                "SELECT id FROM order_items WHERE order_id = ANY(:ids)"
                " ORDER BY row_number() OVER (PARTITION BY order_id ORDER BY id), id",
                ids=moved,
            )
            connection.run("VACUUM ANALYZE orders, order_items")
        self._moves = self._each_move([row[0] for row in rows])

    def read(self) -> Operation:
        """Return reads of one order."""
        found = [
            request("GET", f"/api/orders/{order_id}/", owner)
            for order_id, owner in self._read
        ]
        return repeated("read", "orders_crud", found)

    def page(self) -> Operation:
        """Return first pages of 50 orders with their items."""
        found = [request("GET", "/api/orders/", owner) for owner in self._owners]
        return repeated("list", "orders_crud", found)

    def move(self) -> Operation:
        """Return status changes; none of one order soon after another."""
        return Operation("status", "item_status", lambda: self._moves)

    @staticmethod
    def _each_move(items: Sequence[int]) -> Iterator[bytes]:
        shop = caller(0, 0)
        for status in (_SHIPPED, _DELIVERED):
            for item_id in items:
                path = f"/api/order-items/{item_id}/status/"
                yield request("PATCH", path, shop, {"status": status})


def insert_orders(
    connection: pg8000.native.Connection, owner: str, orders: int
) -> list[int]:
    """Insert orders of five items each; return their ids."""
    rows = connection.run(
        f"""
        WITH made AS (
          INSERT INTO orders (user_id) SELECT CAST(:owner AS uuid)
          FROM generate_series(1, CAST(:orders AS int)) RETURNING id, user_id),
        filled AS (
          INSERT INTO order_items (order_id, user_id, quantity, product_variation,
            product_id, shop_id, price)
          SELECT id, user_id, 2, gen_random_uuid(), gen_random_uuid(),
            gen_random_uuid(), 1999
          FROM made, generate_series(1, {LINES}))
        SELECT id FROM made ORDER BY id""",  # noqa: S608 a number of our own
        owner=owner,
        orders=orders,
    )
    return [row[0] for row in rows]
