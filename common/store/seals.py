"""Seals record which orders the history has known, so that none vanishes unnoticed.

They are made after the fact, by sweeps and audits, and so cost a write nothing.
"""

import time
from collections.abc import Iterator

from common.database.engine import Engine, connect, named
from common.domain.model import MAX_ID

BLOCK = 1024  # orders of one row, a bit each
# Before the newest seal; ids that were drawn earlier may have been committed since.
_BLOCKS_AGAIN = 8
_BLOCKS_AT_ONCE = 16

_NEXT = named(
    "seals.next",
    f"""
SELECT min(order_id) FROM order_history
WHERE order_id >= greatest(0, coalesce(CAST(:low AS bigint),
  (SELECT max(block) - {_BLOCKS_AGAIN} FROM ledger_seals) * {BLOCK}))
""",  # noqa: S608 fragments of our own
)
# Nothing is written where nothing is new.
_SEAL = named(
    "seals.seal",
    f"""
WITH known AS MATERIALIZED (
  SELECT DISTINCT order_id FROM order_history
  WHERE order_id >= CAST(:low AS bigint) AND order_id <= CAST(:high AS bigint)
),
blocks AS MATERIALIZED (
  SELECT order_id / {BLOCK} AS block, bit_or(set_bit(CAST(B'0' AS bit({BLOCK})),
    CAST(order_id % {BLOCK} AS int), 1)) AS orders
  FROM known GROUP BY 1
)
INSERT INTO ledger_seals AS s (block, orders)
SELECT b.block, b.orders FROM blocks b
LEFT JOIN ledger_seals old ON old.block = b.block
WHERE old.block IS NULL OR (old.orders | b.orders) <> old.orders
ORDER BY b.block
ON CONFLICT (block) DO UPDATE SET orders = s.orders | excluded.orders
""",  # noqa: S608 fragments of our own
)

# Of the next blocks of a range, the last one, and which of their orders are gone.
_VANISHED = named(
    "seals.vanished",
    f"""
WITH blocks AS MATERIALIZED (
  SELECT block, orders FROM ledger_seals
  WHERE block >= CAST(:low AS bigint) / {BLOCK}
    AND block <= CAST(:high AS bigint) / {BLOCK}
  ORDER BY block LIMIT {_BLOCKS_AT_ONCE}
),
sealed AS (
  SELECT b.block * {BLOCK} + n AS id
  FROM blocks b CROSS JOIN LATERAL generate_series(0, {BLOCK - 1}) n
  WHERE get_bit(b.orders, n) = 1
)
SELECT (SELECT max(block) FROM blocks), ARRAY(
  SELECT s.id FROM sealed s
  WHERE s.id BETWEEN CAST(:low AS bigint) AND CAST(:high AS bigint)
    AND (SELECT h.id FROM order_history h WHERE h.order_id = s.id LIMIT 1) IS NULL
    AND (SELECT o.id FROM orders o WHERE o.id = s.id) IS NULL
  ORDER BY s.id)
""",  # noqa: S608 fragments of our own
)


def seal(engine: Engine, seconds: float = 2.0) -> None:
    """Seal the orders of the newest history entries, and of older ones if never done.

    The latter go on at the next call once `seconds` have passed. Raise
    DatabaseUnavailableError or BusyError.
    """
    deadline = time.monotonic() + seconds
    low: int | None = None
    with connect(engine) as connection:
        while True:
            low = connection.execute(_NEXT, {"low": low}).scalar_one()
            if low is None:
                return
            low -= low % BLOCK
            high = min(low + _BLOCKS_AT_ONCE * BLOCK - 1, MAX_ID)
            connection.execute(_SEAL, {"low": low, "high": high})
            if high == MAX_ID or time.monotonic() >= deadline:
                return
            low = high + 1


def vanished(engine: Engine, low: int, high: int) -> Iterator[int]:
    """Yield the orders between two ids, both included, that are sealed and are gone.

    Neither they nor their history exist. Raise DatabaseUnavailableError or BusyError.
    """
    while low <= high:
        with connect(engine) as connection:
            bounds = {"low": low, "high": high}
            last, ids = connection.execute(_VANISHED, bounds).one()
        yield from ids
        if last is None:
            return
        low = (last + 1) * BLOCK
