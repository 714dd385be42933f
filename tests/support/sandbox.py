"""The sandbox as tests use it: what siblings were asked, faults, data and events.

Set `sandbox.environ` before functions are loaded.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from infra.local.http_server import HttpServer
from infra.local.sandbox import analytics, catalogue, product, running, shop, shopcart
from infra.local.sandbox.catalogue import Article
from infra.local.sandbox.control import SIBLINGS, decode_fault
from infra.local.sandbox.event_sink import Event
from infra.local.sandbox.traffic import Call


class Sandbox(running.Sandbox):
    """The sandbox of a local run, its insides within reach; `url` is where it is."""

    url = ""

    @property
    def environ(self) -> dict[str, str]:
        """The variables that point the functions at this sandbox."""
        return {
            "SHOPCART_SERVICE": f"{self.url}/sandbox/shopcart",
            "PRODUCT_SERVICE": f"{self.url}/sandbox/product",
            "SHOP_SERVICE": f"{self.url}/sandbox/shop",
            "ANALYTIC_SERVICE": f"{self.url}/sandbox/analytics",
            "EVENT_BUS": "http",
            "EVENT_SINK_URL": f"{self.url}/events",
        }

    # What was asked of the siblings.

    @property
    def calls(self) -> list[Call]:
        """Every call so far to any sibling or the sink, in the order of arrival."""
        return self.traffic.calls()

    def calls_to(self, *siblings: str, method: str | None = None) -> list[Call]:
        """Return the calls that these siblings got, in the order of arrival."""
        return [
            call
            for call in self.calls
            if call.sibling in siblings and method in (None, call.method)
        ]

    def waits(self, *siblings: str) -> int:
        """Return how many answers had to be waited for one after the other.

        Overlapping calls are one wait. Slow the siblings down first (`fault`), or
        calls sent side by side are answered one by one and do not overlap.
        """
        return count_waits(self.calls_to(*(siblings or SIBLINGS[:-1])))

    def most_at_once(self, sibling: str) -> int:
        """Return the most calls the sibling has had at work at the same time."""
        return self.traffic.most_at_once(sibling)

    def forget_calls(self) -> None:
        """Start a new record of calls."""
        self.traffic.forget()

    # Faults.

    def fault(self, sibling: str, **fault: Any) -> None:
        """Break a sibling, or `sink`; the fields are those of `traffic.Fault`.

        Faults add up: the first that fits a call is met, until its `times` are used.
        """
        if sibling not in SIBLINGS:
            raise ValueError(f"{sibling!r} is none of {', '.join(SIBLINGS)}")
        self.traffic.add_fault(sibling, decode_fault(fault))

    def mend(self, sibling: str | None = None) -> None:
        """Remove the faults of one sibling, or of all."""
        self.traffic.clear_faults(sibling)

    # The siblings' data.

    def add_to_cart(self, user: str, variation: str, quantity: int = 1) -> int:
        """Add a line, with no check at all, and answer its id."""
        return shopcart.add_cart_line(self.store, user, variation, quantity)

    def cart(self, user: str) -> dict[str, Any] | None:
        """Return the user's cart as the service shows it; None: never had one."""
        return shopcart.find_cart(self.store, user)

    def empty_cart(self, user: str) -> None:
        """Take all lines out of the cart, as the user's `order.created` does."""
        event = {"event_type": "order.created"}
        shopcart.hear_event(
            self.store, event | {"data": {"user_uuid": user, "cart_id": 0}}
        )

    def add_article(self, **article: Any) -> str:
        """Add a product with one variation (`catalogue.Article`); answer its id."""
        defaults: dict[str, Any] = {
            "id": str(uuid4()),
            "title": "Thing",
            "amount": 10,
            "price": "9.99",
            "base_price": "10.0",
        }
        added = Article(**(defaults | article))
        catalogue.put_article(self.store, added)
        return added.id

    def stock(self, variation: str) -> int:
        """Return what the product service has of the variation."""
        found = product.find_variation(self.store, variation)
        if found is None:
            raise KeyError(variation)
        return int(found["amount"])

    def restock(self, variation: str, amount: int) -> None:
        """Set what the product service has of the variation."""
        if not product.set_stock(self.store, variation, amount):
            raise KeyError(variation)

    def cache_stock(self, variation: str, amount: int) -> None:
        """Have the product's read cache, and so the shopcart, find this amount."""
        row = product.find_variation(self.store, variation)
        if row is None:
            raise KeyError(variation)
        self.variations.put(row | {"amount": amount})
        self.switches.stock_check = True

    @property
    def shop_rows(self) -> list[dict[str, Any]]:
        """What the shop service has heard of, newest first."""
        return shop.list_rows(self.store)

    @property
    def completed_orders(self) -> list[dict[str, Any]]:
        """What analytics has heard, newest first, each with `times_heard`."""
        return analytics.list_orders(self.store)

    # Events.

    @property
    def events(self) -> list[Event]:
        """What was published to the sink, in the order of arrival."""
        return self.sink.events()

    def events_of(self, event_type: str) -> list[Event]:
        """Return the events of one type, in the order of arrival."""
        return [event for event in self.events if event.type == event_type]

    def hear(self, body: dict[str, Any]) -> None:
        """Hand an event's body to the siblings that listen, past any publisher."""
        attributes = {"ce-id": str(uuid4()), "ce-type": str(body["event_type"])}
        self.sink.accept(Event(attributes=attributes, body=json.dumps(body).encode()))

    def deliver(self) -> int:
        """Deliver what is owed, once, now; for a sandbox that does not by itself."""
        return self.sink.deliver()

    def pending(self, queue: str | None = None) -> int:
        """Return how many deliveries are outstanding, in one queue or in all."""
        queues = self.sink.queues()
        return sum(queues[name]["owed"] for name in ([queue] if queue else queues))

    def wait_until(
        self, question: Callable[[], object], timeout_seconds: float = 10
    ) -> None:
        """Wait until `question()` is true; raise TimeoutError when it stays false."""
        deadline = time.monotonic() + timeout_seconds
        while not question():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {timeout_seconds} s")
            time.sleep(0.01)


@contextlib.contextmanager
def running_sandbox(
    *,
    path: Path | None = None,
    deliver: bool = True,
    approval_url: str | None = None,
    order_service_url: str = "",
) -> Iterator[Sandbox]:
    """Serve a sandbox on a free loopback port while the block runs.

    With `deliver=False` events wait in their queues until `sandbox.deliver()`, so that
    a cart is not emptied, nor stock lowered, between two steps of a test.
    """
    sandbox = Sandbox(
        path=path, approval_url=approval_url, order_service_url=order_service_url
    )
    server = HttpServer(sandbox)
    sandbox.url = server.url
    server.start()
    if deliver:
        sandbox.sink.start()
    try:
        yield sandbox
    finally:
        server.stop()
        sandbox.close()


def count_waits(calls: Iterable[Call]) -> int:
    """Return how many times somebody waited for one answer before the next call.

    Calls that overlap are one wait; give siblings a delay, or fast answers never do.
    """
    waits, last_end = 0, float("-inf")
    for call in sorted(calls, key=lambda call: call.ended_at):
        if call.began_at >= last_end:
            waits, last_end = waits + 1, call.ended_at
    return waits
