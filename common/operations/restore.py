"""Prepare a restored database for use: skip ids, move versions, doubt old events.

A database that went back in time would draw the same ids again for other customers,
reach the same versions with other contents, and send events a second time.
"""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy
from msgspec import Struct

from common.database.engine import Connection, Engine, connect, named, transaction
from common.domain.events import ORDER_CREATED
from common.json import encode

ACTION = "after-restore"  # in `operator_actions`
# Orders are many in a sale, and few in the night of a backup.
SAFETY_FACTOR = 10
LEAST_MARGIN = 10_000
# At least as many orders a minute are assumed. The margin has to grow with time: if the
# same backup is restored again, ids that were drawn after the first time are known too.
LEAST_BUSY = 60
# A version is the second of the last restore times this, plus the number of changes.
VERSION_STEP = 10**6
BATCH = 5000
ORDERS_BATCH = 1000
MANY = 100_000  # where counting ends
_RECENT = 500_000  # orders among which the busiest minute is looked for


class Skip(Struct, frozen=True):
    """The ids that a sequence skips: those between `last` and `next`.

    `table` is the table whose rows it numbers.
    """

    sequence: str
    table: str | None
    last: int
    next: int

    @property
    def is_needed(self) -> bool:
        """Return whether any id is skipped."""
        return self.next > self.last + 1


class Margin(Struct, frozen=True):
    """How many orders to allow for, and the figures that this was computed from.

    The figures are None if the number was given; `lost_seconds` also if the database
    has no history.
    """

    orders: int
    lost_seconds: int | None = None
    busiest_minute: int | None = None


class Backlog(Struct, frozen=True):
    """Pending events of the restored database, and its open dead letters.

    Each is counted to 100,000. `events` are not held yet, and include `to_hold`.
    """

    events: int
    to_hold: int
    held: int
    dead_letters: int


class Plan(Struct, frozen=True):
    """What has to be done after a restore."""

    skips: list[Skip]
    margin: Margin
    backlog: Backlog


class GivenUp(Struct, frozen=True):
    """Ids that a sequence skipped, from `first` to `last`, and why."""

    sequence: str
    first: int
    last: int
    at: datetime
    operator: str
    reason: str


_SEQUENCES = named(
    "restore.sequences",
    """
SELECT quote_ident(s.sequencename), coalesce(s.last_value, 0), s.max_value,
  CAST(t.relname AS text), CAST(a.attname AS text)
FROM pg_sequences s
JOIN pg_class c ON c.relname = s.sequencename AND c.relkind = 'S'
  AND c.relnamespace = CAST(quote_ident(s.schemaname) AS regnamespace)
LEFT JOIN pg_depend d ON d.objid = c.oid AND d.classid = CAST('pg_class' AS regclass)
  AND d.refclassid = d.classid AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
LEFT JOIN pg_class t ON t.oid = d.refobjid
LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE s.schemaname = current_schema()
ORDER BY s.sequencename
""",
)
_LOST = named(
    "restore.lost",
    f"""
WITH recent AS MATERIALIZED (
  SELECT created_at FROM orders ORDER BY id DESC LIMIT {_RECENT}
),
minutes AS (
  SELECT count(*) AS orders FROM recent GROUP BY date_trunc('minute', created_at)
)
SELECT
  (SELECT CAST(ceil(extract(epoch FROM clock_timestamp() - changed_at)) AS bigint)
   FROM order_history ORDER BY id DESC LIMIT 1),
  (SELECT coalesce(max(orders), 0) FROM minutes)
""",  # noqa: S608 fragments of our own
)
_BACKLOG = named(
    "restore.backlog",
    f"""
SELECT count(*) FILTER (WHERE held_since IS NULL),
  count(*) FILTER (WHERE held_since IS NULL AND event_type = '{ORDER_CREATED}'),
  count(held_since),
  (SELECT count(*) FROM (SELECT FROM dead_letters WHERE settled_as IS NULL
    ORDER BY id LIMIT {MANY}) AS letters)
FROM (SELECT held_since, event_type FROM outbox ORDER BY id LIMIT {MANY}) AS events
""",  # noqa: S608 fragments of our own
)


def plan(
    engine: Engine, margin: int | None = None, told: Mapping[str, int] | None = None
) -> Plan:
    """Return what has to be done; only read.

    `told` is the greatest id of a table's rows that anybody has seen: that table's
    sequence continues after it. Every other sequence skips what `margin` orders would
    have drawn; the default margin is computed.
    """
    told = told or {}
    with connect(engine) as connection:
        rows = connection.execute(_SEQUENCES).all()
        last = {row[0]: max(row[1], _greatest(connection, *row[3:])) for row in rows}
        orders = next((last[row[0]] for row in rows if row[3] == "orders"), 0)
        lost = max(0, told.get("orders", 0) - orders)
        assumed = _margin(connection, lost) if margin is None else Margin(margin)
        backlog = Backlog(*connection.execute(_BACKLOG).one())
    skips = []
    for name, _, most, table, _ in rows:
        # An order has several items, and more entries and events.
        each = max(1, -(-last[name] // orders)) if orders else 1
        to = told.get(table, last[name] + assumed.orders * each)
        skips.append(Skip(name, table, last[name], min(max(to, last[name]), most) + 1))
    return Plan(skips, assumed, backlog)


def _greatest(connection: Connection, table: str | None, column: str | None) -> int:
    """Return the greatest id in a table, as rows can be restored without sequences."""
    if table is None or column is None:
        return 0
    ids: sqlalchemy.ColumnElement[int] = sqlalchemy.column(column)
    query = sqlalchemy.select(sqlalchemy.func.max(ids))
    found = connection.execute(query.select_from(sqlalchemy.table(table)))
    return found.scalar_one() or 0


def _margin(connection: Connection, lost: int) -> Margin:
    """Return the margin, given that at least `lost` orders are known to be missing.

    It assumes that every minute since the newest entry was as busy as the busiest one.
    """
    seconds, busiest = connection.execute(_LOST).one()
    assumed = max(0, seconds or 0) * max(LEAST_BUSY, busiest) // 60
    orders = LEAST_MARGIN + SAFETY_FACTOR * max(lost, assumed)
    return Margin(orders, seconds, busiest)


# Never moves backwards, even if ids are drawn meanwhile.
_SKIP = named(
    "restore.skip",
    """
SELECT setval(CAST(:sequence AS regclass), greatest(CAST(:to AS bigint),
  nextval(CAST(:sequence AS regclass))))
""",
)
_RECORD = named(
    "restore.record",
    f"""
INSERT INTO operator_actions (form_id, operator, action, given, reason)
VALUES (gen_random_uuid(), coalesce(CAST(:operator AS text), current_user), '{ACTION}',
  CAST(:given AS jsonb), CAST(:reason AS text))
RETURNING id, CAST(extract(epoch FROM at) AS bigint)
""",  # noqa: S608 fragments of our own
)
_DOUBT = named(
    "restore.doubt",
    f"""
WITH batch AS MATERIALIZED (
  SELECT id FROM outbox
  WHERE id > CAST(:after AS bigint) AND id <= CAST(:up_to AS bigint)
  ORDER BY id LIMIT {BATCH}
),
doubtful AS (
  UPDATE outbox
  SET doubts = doubts + 1, sending_since = NULL,
    held_since = CASE WHEN event_type = '{ORDER_CREATED}' THEN now() END,
    last_error = 'pending in a restored backup: it may have been sent since'
  WHERE id = ANY(ARRAY(SELECT id FROM batch)) AND held_since IS NULL
  RETURNING held_since
)
SELECT (SELECT max(id) FROM batch), count(*), count(held_since) FROM doubtful
""",  # noqa: S608 fragments of our own
)
_VERSIONS = named(
    "restore.versions",
    f"""
WITH batch AS MATERIALIZED (
  SELECT id FROM orders WHERE id > CAST(:after AS bigint)
  ORDER BY id LIMIT {ORDERS_BATCH}
),
moved AS (
  UPDATE orders
  SET version = CAST(:second AS bigint) * {VERSION_STEP} + version % {VERSION_STEP}
  WHERE id = ANY(ARRAY(SELECT id FROM batch))
  RETURNING id, is_approved
),
items AS (  -- those of an approved order no longer change
  UPDATE order_items i
  SET version = CAST(:second AS bigint) * {VERSION_STEP} + i.version % {VERSION_STEP}
  FROM moved m WHERE i.order_id = m.id AND NOT m.is_approved
)
SELECT max(id) FROM batch
""",  # noqa: S608 fragments of our own
)
_END = named(
    "restore.end",
    """
UPDATE operator_actions SET outcome = CAST(:outcome AS text)
WHERE id = CAST(:id AS bigint)
""",
)


class Done(Struct, frozen=True):
    """How many pending events are in doubt, and how many of them are held."""

    in_doubt: int
    held: int


def carry_out(
    engine: Engine, plan: Plan, *, reason: str, operator: str | None = None
) -> Done:
    """Carry out the plan, and record it as an action of `operator`.

    Without a name, the operator is the database's login. Every pending event is marked
    as in doubt. An `order.created` is also held, because sending it twice would lower
    stock twice. Safe to repeat.
    """
    needed = [skip for skip in plan.skips if skip.is_needed]
    given = {skip.sequence: f"{skip.last + 1}-{skip.next - 1}" for skip in needed}
    with transaction(engine) as connection:
        for skip in needed:
            where = {"sequence": skip.sequence, "to": skip.next - 1}
            connection.execute(_SKIP, where)
        record = {"operator": operator, "given": encode(given), "reason": reason}
        id_, second = connection.execute(_RECORD, record).one()
    _move_versions(engine, second)
    # Events that are recorded from now on are not in doubt.
    last = next((skip.last for skip in plan.skips if skip.table == "outbox"), 0)
    done = _doubt_events(engine, last)
    with connect(engine) as connection:
        outcome = f"done: {done.in_doubt} events in doubt, {done.held} of them held"
        connection.execute(_END, {"id": id_, "outcome": outcome})
    return done


def _move_versions(engine: Engine, second: int) -> None:
    """Move every version that could come to stand for other contents than before."""
    after: int | None = 0
    while after is not None:
        with connect(engine) as connection:
            batch = {"after": after, "second": second}
            after = connection.execute(_VERSIONS, batch).scalar_one()


def _doubt_events(engine: Engine, up_to: int) -> Done:
    """Mark pending events as in doubt, up to a row of the outbox."""
    in_doubt = held = 0
    after: int | None = 0
    while after is not None:
        batch = {"after": after, "up_to": up_to}
        with connect(engine) as connection:
            after, doubtful, kept = connection.execute(_DOUBT, batch).one()
        in_doubt, held = in_doubt + doubtful, held + kept
    return Done(in_doubt, held)


_GIVEN_UP = named(
    "restore.given_up",
    f"""
SELECT s.key, CAST(split_part(s.value, '-', 1) AS bigint),
  CAST(split_part(s.value, '-', 2) AS bigint), a.at, a.operator, a.reason
FROM operator_actions a CROSS JOIN LATERAL jsonb_each_text(a.given) s
WHERE a.action = '{ACTION}' ORDER BY a.id, s.key
""",  # noqa: S608 fragments of our own
)


def given_up(connection: Connection) -> list[GivenUp]:
    """Return the ids that were skipped after restores, oldest first."""
    return [GivenUp(*row) for row in connection.execute(_GIVEN_UP)]
