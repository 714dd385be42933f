"""Buyers of what is scarce: each wants one order, and repeats what a cut link hides.

A buyer who is told to wait for stock to settle comes again after the others.
"""

import contextlib
import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.load import CHECKOUT
from tests.support.sandbox import Sandbox
from tests.support.service import new_user

ANSWER_SECONDS = 20
PATIENCE_SECONDS = 60
AGAIN_SECONDS = 0.1
MOST_WAITS = 3  # for stock to settle, before a buyer leaves
OK, CREATED, CONFLICT = 200, 201, 409
# What only the product service's amount may say, and then the cart is repaired.
CERTAIN = {"out_of_stock", "insufficient_stock"}


@dataclass
class Answer:
    """What a function said; no status where the link broke before it said anything."""

    status: int | None = None
    slug: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Buyer:
    """Somebody with a cart, and how it ended: `bought`, `sold out` or `settling`."""

    user: str
    end: str = ""
    order_id: int | None = None
    waits: int = 0
    cart: Any = None  # as it was when the link was first cut
    key: str = field(default_factory=lambda: str(uuid.uuid4()))


class Buyers:
    """Clients of several instances at once, whose ports may change meanwhile."""

    def __init__(
        self, sandbox: Sandbox, ports: Callable[[], Sequence[int]], seed: int
    ) -> None:
        self.buyers: list[Buyer] = []
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._sandbox = sandbox
        self._ports = ports
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._waiting: deque[Buyer] = deque()
        self._done = 0

    @property
    def done(self) -> int:
        """Return how many have been answered so far, those who wait included."""
        return self._done

    def add(self, count: int, variations: Sequence[str]) -> list[Buyer]:
        """Fill the carts of new buyers: one to three of some of the variations."""
        found = []
        for _ in range(count):
            buyer = Buyer(new_user())
            several = self._chance.random() < 0.2
            for variation in (
                variations if several else [self._chance.choice(variations)]
            ):
                self._sandbox.add_to_cart(
                    buyer.user, variation, self._chance.randint(1, 3)
                )
            found.append(buyer)
        self.buyers += found
        return found

    def start(self, buyers: Iterable[Buyer], clients: int) -> list[threading.Thread]:
        """Have them all come, so many at a time; the threads end when all are done."""
        self._waiting.extend(buyers)
        threads = [threading.Thread(target=self._work) for _ in range(clients)]
        for thread in threads:
            thread.start()
        return threads

    def refused(self) -> list[Buyer]:
        """Return those who left because stock did not settle while they waited."""
        return [buyer for buyer in self.buyers if buyer.end == "settling"]

    def _work(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                buyer = self._waiting.popleft()
                try:
                    self._visit(buyer)
                except Exception as error:  # noqa: BLE001 told at the end
                    self.wrong.append(f"{buyer}: {error!r}")
                with self._lock:
                    self._done += 1

    def _visit(self, buyer: Buyer) -> None:
        """Ask until there is a clear answer, or until stock has to settle first."""
        buyer.end = ""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not buyer.end:
            assert time.monotonic() < deadline, "no clear answer"
            cart = self._sandbox.cart(buyer.user)
            answer = self._ask(buyer)
            with self._lock:
                self.answers[f"{answer.status or 'cut'} {answer.slug}".strip()] += 1
            if answer.status is None or answer.slug == "request-in-flight":
                buyer.cart = buyer.cart or cart
                time.sleep(AGAIN_SECONDS)  # another instance, or its outcome
            elif answer.status in (OK, CREATED):
                buyer.end, buyer.order_id = "bought", answer.body["order_id"]
            elif answer.slug == "stock-settling":
                self._settling(buyer, answer, cart)
            elif answer.slug == "cart-repaired":
                self._repaired(buyer, answer)
            elif answer.slug == "empty-cart" and buyer.cart:
                self._emptied(buyer)
            else:
                self.wrong.append(f"{buyer}: {answer}")
                buyer.end = "wrong"

    def _settling(self, buyer: Buyer, answer: Answer, cart: Any) -> None:
        """Leave, with the cart as it was, and come again after those who wait."""
        if int(answer.headers.get("retry-after", 0)) < 1:
            self.wrong.append(f"{buyer}: no Retry-After")
        if self._sandbox.cart(buyer.user) != cart:
            self.wrong.append(f"{buyer}: a hold changed the cart")
        buyer.end = "settling"
        buyer.waits += 1
        if buyer.waits % MOST_WAITS:
            self._waiting.append(buyer)

    def _repaired(self, buyer: Buyer, answer: Answer) -> None:
        """Look at the new cart; what is left in it is another request."""
        for fix in answer.body["details"]:
            amount = self._sandbox.stock(fix["product_variation_id"])
            is_certain = fix["reason"] in CERTAIN and fix["fixed"]
            # Stock only falls here, so an amount that was read is still the most.
            if not is_certain or amount > max(0, fix.get("new_quantity", 0)):
                self.wrong.append(f"{buyer}: repaired with {amount} left: {fix}")
        buyer.key = str(uuid.uuid4())
        cart = self._sandbox.cart(buyer.user)
        if not cart or not cart["items"]:
            buyer.end = "sold out"

    def _emptied(self, buyer: Buyer) -> None:
        """Leave: the cart was repaired, and whoever did it was killed before saying so.

        That there is no order is seen at the end.
        """
        for line in buyer.cart["items"]:
            if (amount := self._sandbox.stock(line["product_variation_id"])) > 0:
                self.wrong.append(f"{buyer}: emptied with {amount} left")
        buyer.end = "sold out"

    def _ask(self, buyer: Buyer) -> Answer:
        port = self._chance.choice(self._ports())
        link = http.client.HTTPConnection("127.0.0.1", port, ANSWER_SECONDS)
        headers = {"X-User-ID": buyer.user, "Idempotency-Key": buyer.key}
        with contextlib.closing(link):
            try:
                link.request("POST", CHECKOUT, b"", headers)
                reply = link.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException):
                return Answer()
        body = json.loads(content)
        slug = body.get("type", "").rpartition("/")[2]
        found = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, slug, found, body)
