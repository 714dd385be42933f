"""Carts, products and the sink of events, as households of clients need them."""

import asyncio
import json
import random
import time
import uuid
from itertools import count
from typing import Any

LATEST_SECONDS = 0.5  # until an ordered line has left its cart
STALE_SECONDS = 3  # after which somebody else than the event empties a cart
_PRODUCT = {"id": str(uuid.UUID(int=1)), "shop_id": str(uuid.UUID(int=2)), "title": "T"}


class Shops:
    """Responds as siblings do; each line of each cart has a variation of its own."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._carts: dict[str, dict[int, str]] = {}  # variations by line
        self._filled: dict[str, float] = {}
        self._lines = count(1)

    def fill(self, user_id: str) -> None:
        """Put new lines into a cart if it is empty, or in place of what stays in it.

        Its event may never come: the process that was to send it may be dead.
        """
        cart = self._carts.setdefault(user_id, {})
        now = time.monotonic()
        if now - self._filled.get(user_id, 0) > STALE_SECONDS:
            cart.clear()
        if not cart or self._chance.random() < 0.3:
            self._filled[user_id] = now
            for _ in range(self._chance.randint(1, 3)):
                cart[next(self._lines)] = str(uuid.uuid4())

    def answer(self, path: str, user_id: str, body: bytes) -> dict[str, Any]:
        """Return the body of an answer."""
        if path.endswith("/api/mycart/"):
            items = [
                {"id": line, "product_variation_id": variation, "quantity": 1}
                for line, variation in self._carts.get(user_id, {}).items()
            ]
            cart_id = uuid.UUID(user_id).int % 2**31
            return {"id": cart_id, "user_uuid": user_id, "items": items}
        if "/variations/" in path:
            sold = {"amount": 1000, "price": 19.99, "product": _PRODUCT}
            variation = path.rpartition("/")[2]
            return {"id": variation, "product_id": _PRODUCT["id"], **sold}
        if path == "/events":
            self._hear(json.loads(body))
        return {}

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event_type"] == "order.created":
            later = self._chance.uniform(0, LATEST_SECONDS)
            asyncio.get_running_loop().call_later(later, self._empty, event["data"])

    def _empty(self, ordered: dict[str, Any]) -> None:
        cart = self._carts.get(ordered["user_uuid"], {})
        gone = {item["product_variation_id"] for item in ordered["items"]}
        for line in [line for line, variation in cart.items() if variation in gone]:
            del cart[line]
