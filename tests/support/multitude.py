"""Hundreds of clients, and siblings that respond at once, in one thread.

Every second client ignores Retry-After.
"""

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.wire import Wire, serve

CHECKOUT = "/api/orders-from-shopcart/"
LINES = 2
PATIENCE_SECONDS = 60
UNAVAILABLE = 503
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Sample:
    """One request: what was asked, when the answer was there, how long it took."""

    kind: str
    at: float
    seconds: float
    status: int | None  # None: the link broke before there was an answer
    slug: str = ""
    retry_after: str = ""
    is_polite: bool = False


@dataclass
class Customer:
    """Who wanted one order, and how that ended."""

    user_id: str
    order_id: int | None = None


@dataclass
class Tally:
    """What came back within a time."""

    seconds: float
    samples: list[Sample] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Return the requests a second that were served."""
        return sum(1 for s in self.samples if s.status in (200, 201)) / self.seconds

    @property
    def refused(self) -> list[Sample]:
        """Return what was told to come back later."""
        return [s for s in self.samples if s.status == UNAVAILABLE]

    @property
    def statuses(self) -> dict[str, int]:
        """Return how many answers there were of each status and problem."""
        return dict(Counter(f"{s.status} {s.slug}".strip() for s in self.samples))

    def percentile(self, part: float, *, refused: bool = False) -> float:
        """Return the milliseconds within which that part was served, or refused."""
        wanted = (UNAVAILABLE,) if refused else (200, 201)
        seconds = sorted(s.seconds for s in self.samples if s.status in wanted)
        return 1000 * seconds[int(part * (len(seconds) - 1))] if seconds else 0.0


def merged(tallies: Sequence[Tally]) -> Tally:
    """Return what came back within several times, as if they were one."""
    samples = [sample for tally in tallies for sample in tally.samples]
    return Tally(sum(tally.seconds for tally in tallies), samples)


class Multitude:
    """Clients at work, as many as is said at the moment. Used from any other thread."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.customers: list[Customer] = []
        self.broken: list[BaseException] = []
        self.siblings_port = 0
        self._wanted = 0
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ports: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @contextlib.contextmanager
    def ready(self) -> Iterator["Multitude"]:
        """Have siblings answer while the block runs, and clients when told."""
        self._thread.start()
        server = self._do(serve(_answer))
        self.siblings_port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.rest()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_SECONDS)
            server.close()
            self._loop.close()

    def set(self, clients: int, ports: Mapping[str, int] | None = None) -> None:
        """Have so many clients at work from now on; others stop where they are."""
        self._ports.update(ports or {})

        async def change() -> None:
            self._wanted = clients
            self._is_over = False
            while len(self._tasks) < clients:
                task = asyncio.create_task(self._live(len(self._tasks)))
                self._tasks.append(task)
            self._changed.set()
            self._changed = asyncio.Event()

        self._do(change())

    def measure(self, seconds: float) -> Tally:
        """Let time pass and answer what came back in it."""
        first, began = len(self.samples), time.perf_counter()
        time.sleep(seconds)
        last, ended = len(self.samples), time.perf_counter()
        return Tally(ended - began, self.samples[first:last])

    def seconds_until_calm(self) -> float:
        """Return after how long a second went by in which nobody was refused."""
        began = time.monotonic()
        while True:
            at = time.monotonic() - began
            tally = self.measure(1)
            if tally.goodput and not tally.refused:
                return at
            assert at < PATIENCE_SECONDS, "somebody is always refused"

    def rest(self) -> None:
        """Wait until every client has bought what it was about to buy."""
        self._do(self._finish())

    def _do(self, work: Any) -> Any:
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        return running.result(PATIENCE_SECONDS * 2)

    async def _finish(self) -> None:
        self._is_over = True
        self._changed.set()
        for task in self._tasks:
            await task
        self._tasks.clear()

    async def turn(self, number: int) -> float:
        """Wait until the client of that number is wanted; return how long it took."""
        began = time.perf_counter()
        while number >= self._wanted and not self._is_over:
            await self._changed.wait()
        return time.perf_counter() - began

    async def _live(self, number: int) -> None:
        client = _Client(self, self._ports, number)
        try:
            while not self._is_over:
                await client.buy()
        except Exception as error:  # noqa: BLE001 told by who looks at the end
            self.broken.append(error)
        finally:
            client.close()


class _Client:
    """A customer and a shop in one, with a kept-alive connection to each function."""

    def __init__(
        self, multitude: Multitude, ports: Mapping[str, int], number: int
    ) -> None:
        self._multitude = multitude
        self._number = number
        self._is_polite = number % 2 == 0
        self._links = {name: Wire(port) for name, port in ports.items()}

    async def buy(self) -> None:
        """Order two things, look at them, and have them shipped and delivered."""
        customer = Customer(str(uuid.uuid4()))
        self._multitude.customers.append(customer)
        answer = await self._ask(
            "checkout", "create_order_from_cart", "POST", CHECKOUT, customer.user_id
        )
        order = json.loads(answer)
        customer.order_id = order["order_id"]
        order_path = f"/api/orders/{customer.order_id}/"
        for item, status in zip(order["order"]["items"], (2, 3), strict=True):
            await self._ask("read", "orders_crud", "GET", order_path, customer.user_id)
            await self._ask(
                "list", "orders_crud", "GET", "/api/orders/", customer.user_id
            )
            path = f"/api/order-items/{item['id']}/status/"
            await self._ask(
                "move",
                "item_status",
                "PATCH",
                path,
                customer.user_id,
                json.dumps({"status": status}).encode(),
            )

    async def _ask(  # noqa: PLR0917 a request has that many parts
        self,
        kind: str,
        function: str,
        method: str,
        path: str,
        user_id: str,
        body: bytes = b"",
    ) -> bytes:
        """Ask until it is answered with success; any other answer is the end."""
        lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-User-ID: {user_id}\r\n"
        if body:
            lines += "Content-Type: application/json\r\n"
        lines += f"Content-Length: {len(body)}\r\n\r\n"
        request = lines.encode() + body
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while True:
            deadline += await self._multitude.turn(self._number)
            began = time.perf_counter()
            status, headers, content = await self._links[function].ask(request)
            now = time.perf_counter()
            is_problem = headers.get("content-type") == PROBLEM
            sample = Sample(
                kind,
                now,
                now - began,
                status,
                json.loads(content)["type"].rpartition("/")[2] if is_problem else "",
                headers.get("retry-after", ""),
                self._is_polite,
            )
            self._multitude.samples.append(sample)
            if status in (200, 201):
                return content
            if now > deadline:
                raise AssertionError(f"{path} is never answered: {sample}")
            if self._is_polite and sample.retry_after:
                await asyncio.sleep(float(sample.retry_after))
            elif status != UNAVAILABLE:
                await asyncio.sleep(0.1)

    def close(self) -> None:
        for link in self._links.values():
            link.close()


# Siblings: everybody has a cart of two things, of which there is always enough.


def _variation(user_id: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{user_id} {number}"))


def _answer(path: str, user_id: str, body: bytes) -> dict[str, object]:
    del body
    if path.endswith("/api/mycart/"):
        items = [
            {"id": n, "product_variation_id": _variation(user_id, n), "quantity": n}
            for n in range(1, LINES + 1)
        ]
        cart_id = uuid.UUID(user_id).int % 2**31
        return {"id": cart_id, "user_uuid": user_id, "items": items}
    if "/variations/" in path:
        product_id = str(uuid.UUID(int=1))
        shop = {"id": product_id, "shop_id": str(uuid.UUID(int=2)), "title": "Thing"}
        sold = {"amount": 1000, "price": 19.99, "product": shop}
        return {"id": path.rpartition("/")[2], "product_id": product_id, **sold}
    return {}
