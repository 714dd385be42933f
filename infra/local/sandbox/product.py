"""The sandbox's product service: a catalogue with stock, lowered by `order.created`.

A read without `Cache-Control: no-store` may return the previous row without its
product, and one with `no-cache` refreshes the cached row; each `order.created`,
repeated or not, lowers stock.
"""

import sqlite3
import time
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from flask import Response, request

from infra.local.sandbox.routes import Route, complain, normal_uuid, reply
from infra.local.sandbox.store import Store
from infra.local.sandbox.switches import Switches

CACHE_SECONDS = 60


class ReadCache:
    """Behave like the real service's cache, which holds one row, whatever its id.

    With `no-store` it is neither read nor filled; with `no-cache` it is filled.
    """

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._row: dict[str, Any] | None = None
        self._put_at = 0.0

    def read(self, row: dict[str, Any], cache_control: str = "") -> dict[str, Any]:
        """Return `row`, or what a read through the cache returns instead."""
        if not self._switches.read_cache or "no-store" in cache_control:
            return row
        is_old = time.monotonic() - self._put_at > CACHE_SECONDS
        if self._row is None or is_old or "no-cache" in cache_control:
            self.put(row)
        if self._row is None or "no-cache" in cache_control:
            return row
        return self._row | ({"product": None} if "product" in self._row else {})

    def put(self, row: dict[str, Any]) -> None:
        """Hold this row."""
        self._row, self._put_at = row, time.monotonic()

    def clear(self) -> None:
        """Hold no row."""
        self._row = None


def product_routes(
    store: Store, variations: ReadCache, products: ReadCache
) -> list[Route]:
    """Return the routes, relative to the service's base URL."""
    read_variation = partial(_read_variation, store, variations)
    read_product = partial(_read_product, store, products)
    return [
        ("GET", "/api/products/variations/", partial(_list_variations, store)),
        ("GET", "/api/products/variations/<variation_id>", read_variation),
        ("GET", "/api/products/<product_id>", read_product),
    ]


def hear_event(store: Store, event: dict[str, Any]) -> None:
    """Lower the stock of what was ordered, below zero if need be, every time."""
    data = event.get("data")
    if event.get("event_type") != "order.created" or not isinstance(data, dict):
        return
    with store.transaction() as connection:
        for item in data["items"]:
            connection.execute(
                "UPDATE variation SET amount = amount - ? WHERE id = ?",
                (int(item["quantity"]), str(UUID(item["product_variation_id"]))),
            )


def find_variation(store: Store, variation_id: str) -> dict[str, Any] | None:
    """Return the variation as the service shows it, its product inside."""
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT * FROM variation WHERE id = ?", (variation_id,)
        ).fetchone()
        return _show_variation(connection, row) if row else None


def list_catalogue(store: Store) -> list[dict[str, Any]]:
    """Return every variation."""
    with store.transaction() as connection:
        rows = connection.execute("SELECT * FROM variation ORDER BY id").fetchall()
        return [_show_variation(connection, row) for row in rows]


def set_stock(store: Store, variation_id: str, amount: int) -> bool:
    """Set the stock; return False if there is no such variation."""
    with store.transaction() as connection:
        changed = connection.execute(
            "UPDATE variation SET amount = ? WHERE id = ?", (amount, variation_id)
        )
        return changed.rowcount == 1


def _read_variation(store: Store, cache: ReadCache, variation_id: str) -> Response:
    key = normal_uuid(variation_id)
    if key is None:
        return complain(422, "variation_id: not a valid UUID")
    row = find_variation(store, key)
    if row is None:
        return complain(404, "Variation not found")
    return reply(cache.read(row, request.headers.get("Cache-Control", "")))


def _read_product(store: Store, cache: ReadCache, product_id: str) -> Response:
    key = normal_uuid(product_id)
    if key is None:
        return complain(422, "product_id: not a valid UUID")
    with store.transaction() as connection:
        row = _find_product(connection, key)
    if row is None:
        return complain(404, "Product not found")
    return reply(cache.read(row, request.headers.get("Cache-Control", "")))


def _list_variations(store: Store) -> Response:
    return reply(list_catalogue(store))


def _show_variation(
    connection: sqlite3.Connection, row: Mapping[str, Any]
) -> dict[str, Any]:
    product = None
    if row["is_nested"] and row["product_id"]:
        product = _find_product(connection, row["product_id"])
    return {
        "id": row["id"],
        "product_id": row["product_id"],
        "amount": row["amount"],
        # Decoys: neither is the stock.
        "count": 999,
        "amount_limit": 1,
        "price": _price(row["price"]),
        "product": product,
    }


def _find_product(
    connection: sqlite3.Connection, product_id: str
) -> dict[str, Any] | None:
    row = connection.execute(
        "SELECT * FROM product WHERE id = ?", (product_id,)
    ).fetchone()
    if row is None:
        return None
    product = {
        "id": row["id"],
        "shop_id": row["shop_id"],
        "title": row["title"],
        "base_price": _price(row["base_price"]),
    }
    if row["is_active"] is not None:
        product["is_active"] = bool(row["is_active"])
    return product


def _price(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
