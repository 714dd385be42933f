"""One variation's holds in a database, as orders make them."""

import itertools
import uuid
from typing import Any

import pg8000.exceptions
import pg8000.native

from common.store import holds

SETTLE = 5
CAP = holds.CAP_SECONDS
LONGEST = holds.LONGEST_SECONDS
VARIATION = uuid.UUID(int=1)


class Shelf:
    """One variation's holds, as orders make them; orders count from 1."""

    def __init__(self, connection: pg8000.native.Connection) -> None:
        self.connection = connection
        self._orders = itertools.count(1)

    def take(
        self, quantity: int, amount: int | None, *, read: float = 0, events: int = 1
    ) -> int:
        """Hold so many; return the order's id, 0 if there is too little."""
        order = next(self._orders)
        line = {"item_id": order, "variation": str(VARIATION)}
        asked = self.asked([line | {"quantity": quantity, "amount": amount}], read)
        asked["destinations"] = events
        try:
            self.connection.run(
                "SELECT hold_stock(:order, :asked)", order=order, asked=asked
            )
        except pg8000.exceptions.DatabaseError as error:
            told = error.args[0]
            if told.get("n") != "stock_is_settling":
                raise
            assert told["D"] == str(VARIATION)
            return 0
        return order

    def asked(self, lines: list[dict[str, Any]], read: float = 0) -> dict[str, Any]:
        [[now]] = self.connection.run(
            "SELECT CAST(clock_timestamp() - make_interval(secs => :read) AS text)",
            read=read,
        )
        return {
            "event_id": str(uuid.uuid4()),
            "destinations": 1,
            "read_at": now,
            "settle": f"{SETTLE}s",
            "cap": f"{CAP}s",
            "longest": f"{LONGEST}s",
            "lines": lines,
        }

    def confirm(self, order: int, seconds: float = 0) -> None:
        """Have the order's event been confirmed so many seconds ago."""
        self._at("confirmed_at", order, seconds)

    def release(self, order: int, seconds: float = 0) -> None:
        self._at("released_at", order, seconds)

    def _at(self, column: str, order: int, seconds: float) -> None:
        self.connection.run(
            f"UPDATE stock_holds SET {column} = clock_timestamp()"
            " - make_interval(secs => :seconds) WHERE order_id = :order",
            seconds=seconds,
            order=order,
        )

    def held(self) -> list[int]:
        """Return the orders with a row, seen or not."""
        found = self.connection.run("SELECT order_id FROM stock_holds ORDER BY id")
        return [order for [order] in found]

    def expected(self, order: int) -> int:
        [[expected]] = self.connection.run(
            "SELECT expected FROM stock_holds WHERE order_id = :order", order=order
        )
        return int(expected)
