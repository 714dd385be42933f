"""Households of clients that order, look, cancel and try again, all at once.

The devices of one household share its user, its cart and its orders, and send the same
key at the same time, as people do who press twice. Now and then a client is the shop.
"""

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tests.support.history.check import orders_in
from tests.support.history.model import CANCELLED, CHANGES
from tests.support.history.record import NEVER, Operation, parsed
from tests.support.history.shops import Shops
from tests.support.wire import Wire

CHECKOUT, ORDERS = "/api/orders-from-shopcart/", "/api/orders/"
DEVICES = 4
PAUSE_SECONDS = 0.5  # at most, between two requests of a client
RETRY_SECONDS = 0.2  # at most, before one is sent again
ANSWER_SECONDS = 20
RECENT = 3  # orders that are likely to be chosen
PER_USER = 25  # orders, after which a household goes on as another user
KINDS = {
    "checkout": 16,
    "create": 12,
    "list": 16,
    "read": 12,
    "read item": 6,
    "ship": 18,
    "cancel": 10,
    "remove": 3,
    "delete": 5,
    "look at another's": 2,
}
ITEM_KINDS = ("read item", "ship", "cancel", "remove")
FUNCTIONS = {"checkout": "create_order_from_cart", "ship": "item_status"}

T = TypeVar("T")


class Household:
    """One user's orders as its devices know them."""

    def __init__(self) -> None:
        self.user_id = str(uuid.uuid4())
        self.orders: dict[int, list[int]] = {}  # items by order
        # What was told last of an order's or an item's version, and before that.
        self.versions: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        self.creations: list[Operation] = []  # by hand, sent, whatever came of them
        self.cart_keys = [str(uuid.uuid4())]  # the last one for what is in the cart

    def learn(self, operation: Operation) -> None:
        """Remember what an answer tells."""
        for order in orders_in(operation):
            self.orders[order["id"]] = [item["id"] for item in order["items"]]
        answer = operation.answer
        if answer is None or answer.version is None:
            return
        if operation.kind == "checkout" and operation.key == self.cart_keys[-1]:
            self.cart_keys.append(str(uuid.uuid4()))
        if operation.item_id is not None:
            self.versions["item", operation.item_id].append(answer.version)
        elif orders := orders_in(operation):
            self.versions["order", orders[0]["id"]].append(answer.version)


class Clients:
    """Clients at work in one event loop; `operations` is what they asked and heard."""

    def __init__(
        self,
        ports: Mapping[str, Sequence[int]],
        shops: Shops,
        chance: random.Random,
        connect: Callable[[int], Wire] = Wire,
    ) -> None:
        self.operations: list[Operation] = []
        self.households: list[Household] = []  # those that have moved on, too
        self.ports = ports
        self.shops = shops
        self.chance = chance
        self.connect = connect

    async def work(self, clients: int, is_over: Callable[[], bool]) -> None:
        """Have so many clients at work until it is over."""
        homes = [self._moved_in() for _ in range(max(1, clients // DEVICES))]
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                home, device = number % len(homes), number // len(homes)
                name = f"{home}/{'abcdefgh'[device % 8]}"
                group.create_task(self._live(name, homes, home, is_over))

    async def look_again(self) -> None:
        """List every order that there is, when nothing is under way any more."""
        client = Client("last", self)
        for home in self.households:
            page = await client.send(
                home, client.asked(home, "list", query="limit=200")
            )
            while page.answer and page.answer.next:
                page = await client.send(home, client.following(home, page))
        client.close()

    def _moved_in(self) -> Household:
        self.households.append(Household())
        return self.households[-1]

    async def _live(
        self,
        name: str,
        homes: list[Household],
        number: int,
        is_over: Callable[[], bool],
    ) -> None:
        client = Client(name, self)
        while not is_over():
            await asyncio.sleep(self.chance.uniform(0, PAUSE_SECONDS))
            if len(homes[number].orders) >= PER_USER:
                homes[number] = self._moved_in()
            await client.act(homes[number])
        client.close()


class Client:
    """One device, with a connection to each process of the service."""

    def __init__(self, name: str, clients: Clients) -> None:
        self._name = name
        self._clients = clients
        self._chance = clients.chance
        self._wires = {
            function: [clients.connect(port) for port in ports]
            for function, ports in clients.ports.items()
        }

    async def act(self, home: Household) -> None:
        """Send a request that somebody in this household may want to send.

        Send it again, mostly, where no answer came, and look at the next page.
        """
        [kind] = self._chance.choices(list(KINDS), list(KINDS.values()))
        operation = self._chosen(home, kind)
        while operation is not None:
            done = await self.send(home, operation)
            if done.answer is None:
                await asyncio.sleep(self._chance.uniform(0, RETRY_SECONDS))
                is_tried_again = self._chance.random() < 0.8
                operation = done if is_tried_again else None
            elif done.answer.next and self._chance.random() < 0.5:
                operation = self.following(home, done)
            else:
                operation = None

    def asked(self, home: Household, kind: str, **fields: Any) -> Operation:
        """Return a request that has not been sent yet."""
        return Operation(
            client=self._name, user_id=home.user_id, kind=kind, invoked=0.0, **fields
        )

    def following(self, home: Household, page: Operation) -> Operation:
        """Return the request for the next page."""
        assert page.answer
        below = min(order["id"] for order in orders_in(page))
        return self.asked(home, "list", query=page.answer.next, below=below)

    async def send(self, home: Household, operation: Operation) -> Operation:
        """Send a request and record it; return it with its answer."""
        function, request = _request(operation)
        wire = self._chance.choice(self._wires[function])
        invoked = time.monotonic()
        answer = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                status, headers, content = await wire.ask(request)
                answer = status and parsed(status, headers, content)
        returned = time.monotonic() if answer else NEVER
        done = replace(
            operation, invoked=invoked, returned=returned, answer=answer or None
        )
        self._clients.operations.append(done)
        home.learn(done)
        return done

    def close(self) -> None:
        for wires in self._wires.values():
            for wire in wires:
                wire.close()

    def _chosen(self, home: Household, kind: str) -> Operation | None:
        if kind == "checkout":
            self._clients.shops.fill(home.user_id)
            key = self._chance.choice(("", self._recent(home.cart_keys)))
            return self.asked(home, kind, key=key)
        if kind == "create":
            if not home.creations or self._chance.random() < 0.5:
                lines = tuple(
                    str(uuid.uuid4()) for _ in range(self._chance.randint(1, 3))
                )
                created = self.asked(home, kind, key=str(uuid.uuid4()), lines=lines)
                home.creations.append(created)  # others send it before it is answered
            return replace(self._recent(home.creations), client=self._name)
        if kind == "list":
            limit = self._chance.choice((2, 5, 50))
            return self.asked(home, kind, query=f"limit={limit}")
        if kind == "look at another's":
            other = self._chance.choice(self._clients.households)
            known = self._recent([*home.orders, *other.orders] or [0])
            return self.asked(home, "read", order_id=known) if known else None
        if not home.orders:
            return None
        return self._about(home, kind, self._recent(list(home.orders)))

    def _about(self, home: Household, kind: str, order_id: int) -> Operation | None:
        """Return a request about an order that the household knows."""
        fields: dict[str, Any] = {"order_id": order_id}
        about = ("order", order_id)
        if kind in ITEM_KINDS:
            if not home.orders[order_id]:
                return None
            item_id = self._chance.choice(home.orders[order_id])
            fields["item_id"] = item_id
            about = ("item", item_id)
        if kind == "ship":
            fields["status"] = self._chance.choice((1, 2, 2, 2, 3, 3, 4))
        known = home.versions[about][-2:]
        condition = self._chance.choice((None, None, *known))
        if kind == "read":
            fields["if_none_match"] = condition
        elif kind in CHANGES:
            fields["if_match"] = condition
        return self.asked(home, kind, **fields)

    def _recent(self, things: Sequence[T]) -> T:
        """Return one of the latest, so that several clients choose the same."""
        recent = things[-RECENT:] if self._chance.random() < 0.8 else things
        return self._chance.choice(recent)


def _request(operation: Operation) -> tuple[str, bytes]:
    """Return the function to ask, and the request as it is sent."""
    method, path, body = _wanted(operation)
    user_id = operation.user_id
    if operation.kind == "ship":  # the shop's owner is somebody else
        user_id = str(uuid.uuid5(uuid.NAMESPACE_OID, user_id))
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: x",
        f"X-User-ID: {user_id}",
        f"Content-Length: {len(content)}",
    ]
    if body is not None:
        lines.append("Content-Type: application/json")
    if operation.key:
        lines.append(f"Idempotency-Key: {operation.key}")
    if operation.if_match:
        lines.append(f'If-Match: "{operation.if_match}"')
    if operation.if_none_match:
        lines.append(f'If-None-Match: "{operation.if_none_match}"')
    function = FUNCTIONS.get(operation.kind, "orders_crud")
    return function, "\r\n".join([*lines, "", ""]).encode() + content


def _wanted(operation: Operation) -> tuple[str, str, Any]:
    """Return method, path and body."""
    order = f"{ORDERS}{operation.order_id}/"
    item = f"/api/order-items/{operation.item_id}/"
    lines = [{"product_variation": variation} for variation in operation.lines]
    wanted: dict[str, tuple[str, str, Any]] = {
        "checkout": ("POST", CHECKOUT, None),
        "create": ("POST", ORDERS, {"items": lines}),
        "list": ("GET", f"{ORDERS}?{operation.query}", None),
        "read": ("GET", order, None),
        "read item": ("GET", item, None),
        "delete": ("DELETE", order, None),
        "cancel": ("PATCH", item, {"status": CANCELLED}),
        "remove": ("DELETE", item, None),
        "ship": ("PATCH", f"{item}status/", {"status": operation.status}),
    }
    return wanted[operation.kind]
