"""Delete expired keys and old sent events, settle holds of stock, seal the ledger.

Several relays may do it at once: the second waits for a batch, finds it deleted, and
goes on.
"""

import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from msgspec import Struct, json

from common.clients import product
from common.clients.batch import Upstream
from common.database.engine import Connection, Engine, connect, named
from common.errors import BusyError, ServiceError
from common.json import encode
from common.messaging import outbox
from common.store import idempotency, seals
from common.store.holds import CAP_SECONDS, LONGEST_SECONDS
from common.telemetry import logs

log = logs.get("retention")

T = TypeVar("T")

# A batch takes a fiftieth of a second, and locks nothing that a request needs.
BATCH = 5000
# About as long as it takes to delete a minute's rows at a thousand orders a second.
SECONDS = 4.0


class Purged(Struct, frozen=True):
    """How many rows were deleted."""

    keys: int
    events: int


def purge(engine: Engine, event_days: int, seconds: float = SECONDS) -> Purged:
    """Delete expired keys, and events sent `event_days` ago; return how many.

    At least a batch of each is deleted, and more until `seconds` have passed. Before,
    orders that are new are sealed, so that none vanishes unnoticed. Where
    the database is busy the rest is left to the next time. Raise
    DatabaseUnavailableError; batches deleted before stay deleted.
    """
    began_at = time.monotonic()
    try:
        seals.seal(engine, seconds / 2)
    except BusyError:
        log.warning("new orders were not sealed: the database is busy")
    with connect(engine) as connection:
        return Purged(
            keys=_purge_batches(
                lambda after: idempotency.purge(connection, BATCH, after),
                began_at + seconds / 2,
            ),
            events=_purge_batches(
                lambda after: outbox.purge(connection, event_days, BATCH, after),
                began_at + seconds,
            ),
        )


def _purge_batches(
    purge_batch: Callable[[T | None], tuple[int, T | None]], deadline: float
) -> int:
    """Delete one batch after the other; return how many rows were deleted."""
    total = 0
    after: T | None = None
    while True:
        try:
            deleted, after = purge_batch(after)
        except BusyError:
            log.warning("expired rows were not deleted: the database is busy")
            return total
        total += deleted
        if after is None or time.monotonic() >= deadline:
            return total


VARIATIONS = 100  # the rest is left to the next sweep
# Of the oldest holds: the others are hardly overdue, or have no broker either.
SAMPLE = 10_000
READ_SECONDS = 3.0  # with all else a sweep does it is within its request's 120 s
NOBODY = UUID(int=0)  # the product service shows its stock to anybody

# The time is drawn before the product service is asked, as a buyer's is.
_OVERDUE = named(
    "retention.overdue_holds",
    f"""
SELECT CAST(clock_timestamp() AS text), CAST(coalesce(json_agg(v), '[]') AS text)
FROM (
  SELECT DISTINCT product_variation FROM (
    SELECT product_variation FROM (
      SELECT * FROM stock_holds ORDER BY id LIMIT {SAMPLE}) AS oldest
    WHERE seen_at IS NULL AND least(confirmed_at, released_at)
      <= now() - make_interval(secs => CAST(:settle AS float8))
    LIMIT {VARIATIONS}) AS holds) AS variations(v)
""",  # noqa: S608 fragments of our own
)
# Locked in the order of `hold_stock`.
_SETTLE = named(
    "retention.settle_holds",
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
# Those that have ended by time for every write, whatever its amount and its age.
_PURGE_HOLDS = named(
    "retention.purge_holds",
    f"""
DELETE FROM stock_holds WHERE id = ANY(ARRAY(
  SELECT h.id
  FROM (SELECT * FROM stock_holds ORDER BY id LIMIT {SAMPLE}) h
  WHERE h.seen_at < now() - interval '{LONGEST_SECONDS}s'
    OR h.confirmed_at < now() - interval '{CAP_SECONDS + LONGEST_SECONDS}s'
    OR h.released_at < now()
      - make_interval(secs => CAST(:settle AS float8) + {LONGEST_SECONDS})
  LIMIT {BATCH} FOR UPDATE OF h SKIP LOCKED))
""",  # noqa: S608 fragments of our own
)
# A relay of an earlier release sends events and confirms no holds.
_CONFIRM = named(
    "retention.confirm_holds",
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


def settle_holds(
    engine: Engine, upstream: Upstream | None, settle_seconds: float
) -> int:
    """Settle holds where no buyer does; return of how many variations.

    A hold ends when a later write finds its sign in the amount that it read. Where
    nobody buys, nobody reads: then this does, so that what is restocked is not held.

    Without a product service, or where it cannot be read, only those end that end by
    time. Raise DatabaseUnavailableError.
    """
    parameters: dict[str, object] = {"settle": settle_seconds}
    try:
        with connect(engine) as connection:
            connection.execute(_CONFIRM)
            _purge_batches(
                lambda _: _purge_holds(connection, settle_seconds),
                time.monotonic() + SECONDS / 2,
            )
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


def _purge_holds(
    connection: Connection, settle_seconds: float
) -> tuple[int, int | None]:
    found = connection.execute(_PURGE_HOLDS, {"settle": settle_seconds})
    return found.rowcount, found.rowcount if found.rowcount == BATCH else None


def _amounts(upstream: Upstream | None, variations: list[UUID]) -> dict[UUID, int]:
    if upstream is None:
        return {}
    deadline = time.monotonic() + READ_SECONDS
    try:
        found = product.get_variations(upstream, NOBODY, variations, deadline)
    except ServiceError:  # it is logged
        return {}
    return {id_: variation.amount for id_, variation in found.items() if variation}
