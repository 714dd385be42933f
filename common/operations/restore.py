"""After a restore: give up ids that may have been drawn since, and doubt old events.

A database that went back in time draws the same ids again, for other customers, and
sends again what was sent since the backup.
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
BATCH = 5000
MANY = 100_000  # where counting ends
_RECENT = 500_000  # orders among which the busiest minute is looked for


class Skip(Struct, frozen=True):
    """The ids that a sequence gives up: those between `last` and `next`.

    `table` is the one whose rows it numbers.
    """

    sequence: str
    table: str | None
    last: int
    next: int

    @property
    def is_needed(self) -> bool:
        """Return whether any id is given up."""
        return self.next > self.last + 1


class Margin(Struct, frozen=True):
    """How many orders may have been lost.

    The rest says what that was computed from; None where the number was given, and
    `lost_minutes` where the database has no history.
    """

    orders: int
    lost_minutes: int | None = None
    busiest_minute: int | None = None


class Backlog(Struct, frozen=True):
    """What the restored database has still to send, and its open dead letters.

    Each is counted to 100,000. `to_hold` are some of the `events`, `held` are none.
    """

    events: int
    to_hold: int
    held: int
    dead_letters: int


class Plan(Struct, frozen=True):
    """What is done after a restore."""

    skips: list[Skip]
    margin: Margin
    backlog: Backlog


class GivenUp(Struct, frozen=True):
    """Ids that a sequence gave up, from `first` to `last`, and why."""

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
  (SELECT CAST(ceil(extract(epoch FROM clock_timestamp() - changed_at) / 60) AS bigint)
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
    """Return what has to be done; reads only.

    `told` is the greatest id that anybody was told of a table's rows: that table's
    sequence goes on after it. Every other gives up what `margin` orders would have
    drawn; without a margin one is computed.
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
    """Return the greatest id in a table: who restores its rows may forget the rest."""
    if table is None or column is None:
        return 0
    ids: sqlalchemy.ColumnElement[int] = sqlalchemy.column(column)
    query = sqlalchemy.select(sqlalchemy.func.max(ids))
    found = connection.execute(query.select_from(sqlalchemy.table(table)))
    return found.scalar_one() or 0


def _margin(connection: Connection, lost: int) -> Margin:
    """Return the margin for the time since the newest entry; `lost` orders are known.

    As if each minute of it had been the busiest one that is known.
    """
    minutes, busiest = connection.execute(_LOST).one()
    lost = max(lost, max(1, minutes or 0) * busiest)
    return Margin(max(LEAST_MARGIN, SAFETY_FACTOR * lost), minutes, busiest)


# Never backwards, whoever draws meanwhile.
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
RETURNING id
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
_END = named(
    "restore.end",
    """
UPDATE operator_actions SET outcome = CAST(:outcome AS text)
WHERE id = CAST(:id AS bigint)
""",
)


def carry_out(
    engine: Engine, plan: Plan, *, reason: str, operator: str | None = None
) -> tuple[int, int]:
    """Do it, and record who did it and why; return how many events are in doubt, held.

    Every pending event may have been sent since the backup, so it is in doubt; an
    `order.created` is held, because a second one lowers stock again. The operator is
    the database's login where none is named. Safe to repeat.
    """
    needed = [skip for skip in plan.skips if skip.is_needed]
    given = {skip.sequence: f"{skip.last + 1}-{skip.next - 1}" for skip in needed}
    with transaction(engine) as connection:
        for skip in needed:
            where = {"sequence": skip.sequence, "to": skip.next - 1}
            connection.execute(_SKIP, where)
        record = {"operator": operator, "given": encode(given), "reason": reason}
        id_ = connection.execute(_RECORD, record).scalar_one()
    # What is written from now on is not in doubt.
    up_to = next((skip.last for skip in plan.skips if skip.table == "outbox"), 0)
    after: int | None = 0
    in_doubt = held = 0
    while after is not None:
        batch = {"after": after, "up_to": up_to}
        with connect(engine) as connection:
            after, doubtful, kept = connection.execute(_DOUBT, batch).one()
        in_doubt, held = in_doubt + doubtful, held + kept
    with connect(engine) as connection:
        outcome = f"done: {in_doubt} events in doubt, {held} of them held"
        connection.execute(_END, {"id": id_, "outcome": outcome})
    return in_doubt, held


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
    """Return the ids that were given up after restores, oldest first."""
    return [GivenUp(*row) for row in connection.execute(_GIVEN_UP)]
