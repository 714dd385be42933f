"""Settle holds of stock when no buyer does.

A hold ends when a later write finds its sign in the amount that it read. Where nobody
buys, nobody reads: then this does, so that what is restocked later is not held, and
rows of variations that nobody buys again are deleted.
"""

import time
from uuid import UUID

from msgspec import json

from common.clients import product
from common.clients.batch import Upstream
from common.database.engine import Engine, connect, named
from common.errors import BusyError, ServiceError
from common.json import encode
from common.store.holds import CAP_SECONDS, LONGEST_SECONDS
from common.telemetry import logs

log = logs.get("stock")

BATCH = 100  # variations; the rest is left to the next sweep
# Of the oldest holds: the others are hardly overdue, or have no broker either.
SAMPLE = 10_000
READ_SECONDS = 8.0
NOBODY = UUID(int=0)  # the product service shows its stock to anybody

# The time is drawn before the product service is asked, as a buyer's is.
_OVERDUE = named(
    "stock.overdue",
    f"""
SELECT CAST(clock_timestamp() AS text), CAST(coalesce(json_agg(v), '[]') AS text)
FROM (
  SELECT DISTINCT product_variation FROM (
    SELECT product_variation FROM (
      SELECT * FROM stock_holds ORDER BY id LIMIT {SAMPLE}) AS oldest
    WHERE CASE WHEN seen_at IS NULL
      THEN least(confirmed_at, released_at)
        <= now() - make_interval(secs => CAST(:settle AS float8))
      ELSE seen_at < now() - interval '{LONGEST_SECONDS}s' END
    LIMIT {BATCH}) AS holds) AS variations(v)
""",  # noqa: S608 fragments of our own
)
# Locked in the order of `hold_stock`.
_SETTLE = named(
    "stock.settle",
    f"""
SELECT count(CAST(settle_stock(l.variation, l.amount, CAST(:read_at AS timestamptz),
  make_interval(secs => CAST(:settle AS float8)), interval '{CAP_SECONDS}s',
  interval '{LONGEST_SECONDS}s') AS text))
FROM (
  SELECT * FROM jsonb_to_recordset(CAST(:lines AS jsonb))
    AS l(variation uuid, amount bigint)
  ORDER BY hashtextextended(CAST(l.variation AS text), 0) OFFSET 0) l
""",  # noqa: S608 fragments of our own
)
# A relay of an earlier release sends events and confirms no holds.
_CONFIRM = named(
    "stock.confirm",
    f"""
UPDATE stock_holds SET confirmed_at = now(), unsent = 0
WHERE id = ANY(ARRAY(
  SELECT h.id
  FROM (SELECT * FROM stock_holds ORDER BY id LIMIT {SAMPLE}) h
  WHERE h.confirmed_at IS NULL AND h.released_at IS NULL
    AND (SELECT o.id FROM (
      SELECT * FROM outbox WHERE order_id = h.order_id OFFSET 0) o
      WHERE o.event_id = h.event_id LIMIT 1) IS NULL
    AND (SELECT d.id FROM (
      SELECT * FROM dead_letters WHERE order_id = h.order_id OFFSET 0) d
      WHERE d.event_id = CAST(h.event_id AS text) AND d.settled_as IS NULL
      LIMIT 1) IS NULL
  FOR UPDATE OF h SKIP LOCKED))
""",  # noqa: S608 fragments of our own
)


def settle(engine: Engine, upstream: Upstream | None, settle_seconds: float) -> int:
    """Settle holds that should have ended; return of how many variations.

    Without a product service, or where it cannot be read, only those end that end by
    time. Raise DatabaseUnavailableError.
    """
    parameters: dict[str, object] = {"settle": settle_seconds}
    try:
        with connect(engine) as connection:
            connection.execute(_CONFIRM)
            read_at, text = connection.execute(_OVERDUE, parameters).one()
        variations = json.decode(text, type=list[UUID])
        if not variations:
            return 0
        amounts = _amounts(upstream, variations)
        lines = [{"variation": v, "amount": amounts.get(v)} for v in variations]
        parameters |= {"lines": encode(lines), "read_at": read_at}
        with connect(engine) as connection:
            connection.execute(_SETTLE, parameters)
    except BusyError:
        log.warning("stock was not settled: the database is busy")
        return 0
    return len(variations)


def _amounts(upstream: Upstream | None, variations: list[UUID]) -> dict[UUID, int]:
    if upstream is None:
        return {}
    deadline = time.monotonic() + READ_SECONDS
    try:
        found = product.get_variations(upstream, NOBODY, variations, deadline)
    except ServiceError:  # it is logged
        return {}
    return {id_: variation.amount for id_, variation in found.items() if variation}
