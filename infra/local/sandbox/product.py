"""The sandbox's product service: a catalogue with stock, lowered by `order.created`.

A read without `Cache-Control: no-store` may return the previous row without its
product, and one with `no-cache` refreshes the cached row; each `order.created`,
repeated or not, lowers stock.
"""

import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from flask import Response, request

from infra.local.sandbox.routes import Route, complain, normal_uuid, reply
from infra.local.sandbox.store import Store


class ReadCache:
    """Behave like the real service's cache, which holds the last row without a key."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return `row`, or what a read through the cache returns instead."""
        result = row
        asked = request.headers.get("Cache-Control", "")
        if "no-store" not in asked and "no-cache" not in asked:
            result = self._last or row
            if "product" in result:
                result = {**result, "product": None}
        self._last = row
        return result


def product_routes(store: Store) -> list[Route]:
    """Return the routes, relative to the service's base URL."""
    read_variation = partial(_read_variation, store, ReadCache())
    read_product = partial(_read_product, store, ReadCache())
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


def cache_stock(store: Store, variation_id: str, amount: int) -> None:
    """Have the read cache hold this stock of a variation, whatever is true."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO cached_stock VALUES (?, ?)", (variation_id, amount)
        )


def find_cached_stock(store: Store, variation_id: str) -> int | None:
    """Return the stock that the read cache holds, None if it was not set."""
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT amount FROM cached_stock WHERE variation_id = ?", (variation_id,)
        ).fetchone()
    return row["amount"] if row else None


def _read_variation(store: Store, cache: ReadCache, variation_id: str) -> Response:
    key = normal_uuid(variation_id)
    if key is None:
        return complain(422, "variation_id: not a valid UUID")
    row = find_variation(store, key)
    if row is None:
        return complain(404, "Variation not found")
    if "no-cache" in request.headers.get("Cache-Control", ""):
        with store.transaction() as connection:
            forget = "DELETE FROM cached_stock WHERE variation_id = ?"
            connection.execute(forget, (key,))
    return reply(cache.read(row))


def _read_product(store: Store, cache: ReadCache, product_id: str) -> Response:
    key = normal_uuid(product_id)
    if key is None:
        return complain(422, "product_id: not a valid UUID")
    with store.transaction() as connection:
        row = _find_product(connection, key)
    if row is None:
        return complain(404, "Product not found")
    return reply(cache.read(row))


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
