"""The sandbox's state: one SQLite file, or memory when no path is given.

Siblings share the file, but not each other's tables.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS cart (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_uuid TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS cart_line (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- a line added again has a new id
    cart_id INTEGER NOT NULL REFERENCES cart (id),
    product_variation_id TEXT NOT NULL,
    quantity INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS cart_line_of_cart ON cart_line (cart_id);
CREATE TABLE IF NOT EXISTS product (
    id TEXT PRIMARY KEY,
    shop_id TEXT,
    title TEXT,
    is_active INTEGER,  -- null: the field is missing from the response
    base_price TEXT
);
CREATE TABLE IF NOT EXISTS variation (
    id TEXT PRIMARY KEY,
    product_id TEXT,
    amount INTEGER NOT NULL,
    price TEXT,
    is_nested INTEGER NOT NULL DEFAULT 1  -- 0: "product" is null in every response
);
CREATE TABLE IF NOT EXISTS shop_row (
    order_item_id INTEGER PRIMARY KEY,
    order_id INTEGER NOT NULL,
    shop_id TEXT NOT NULL,
    product_id TEXT NOT NULL,
    product_variation TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    price INTEGER NOT NULL,
    status INTEGER NOT NULL,
    user_id TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS completed_order (
    id INTEGER PRIMARY KEY,
    times_heard INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    attributes TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL REFERENCES event (id),
    queue TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL DEFAULT 0,
    delivered_at REAL,
    last_error TEXT
);
CREATE INDEX IF NOT EXISTS delivery_owed ON delivery (queue, id)
    WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS delivery_of_event ON delivery (event_id);
"""


class Store:
    """One connection, shared by all threads, one transaction at a time."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            path or ":memory:", check_same_thread=False, isolation_level=None
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        # Data survives the end of this process, which is enough for a sandbox.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(SCHEMA)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit at the end of the block, roll back if it raises; others wait."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def clear(self) -> None:
        """Delete everything, but never use an id again."""
        with self.transaction() as connection:
            for table in (
                "cart_line",
                "cart",
                "variation",
                "product",
                "shop_row",
                "completed_order",
                "delivery",
                "event",
            ):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
