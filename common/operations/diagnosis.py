"""Find what holds up orders and events, and make the repairs that are safe.

Anything younger than the grace period counts as in progress.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Raw, Struct, json

from common import approval
from common.database import snapshots
from common.database.engine import Connection, Engine, connect, named
from common.database.sessions import APPLICATION
from common.database.snapshots import Snapshot
from common.domain.events import ANALYTICS
from common.errors import BusyError
from common.messaging.destination import read_reports
from common.messaging.event_rows import CLAIMABLE, DESTINATIONS, DUE, POSTPONED
from common.messaging.marks import AHEAD
from common.messaging.relay import Relay
from common.operations.lookup import destinations
from common.operations.lookup.destinations import MAX_COUNTED, Backlog, Cause, Finding

GRACE_SECONDS = 120
STUCK_ATTEMPTS = 3
MAX_LISTED = 20  # of each kind
_SAMPLE = 10_000  # rows of a destination that are looked at one by one


class StuckEvent(Struct, frozen=True):
    """An event that is not sent; `since`: when it was recorded, held or leased."""

    order_id: int
    event_id: str
    event_type: str
    destination: str
    since: datetime
    seconds: int
    attempts: int
    doubts: int
    reason: str | None


class OpenDeadLetter(Struct, frozen=True):
    """A dead letter that has not been replayed or discarded."""

    id: int
    source: str
    order_id: int | None
    event_type: str | None
    since: datetime
    seconds: int
    reason: str


class Unapproved(Struct, frozen=True):
    """An order that is complete but not approved, `since` its last change."""

    order_id: int
    since: datetime
    seconds: int


class OverdueHold(Struct, frozen=True):
    """Stock held for an order, `since` its event was confirmed, and not lowered yet."""

    order_id: int
    item_id: int
    product_variation: str
    quantity: int
    since: datetime
    seconds: int


class Diagnosis(Struct, kw_only=True):
    """The oldest of each kind of problem, and what is found of each kind.

    `stuck`: events whose attempts failed, and which block their orders. `leased`:
    events with an attempt that never recorded its result. `ahead`: recorded,
    claimed or postponed before the database's clock went back. `snapshots`: those held
    for longer than the grace, by whom. `most_connections`: what the processes that are
    connected may open together; `allowed_connections`: what the server lets them.
    """

    stuck: list[StuckEvent]
    held: list[StuckEvent]
    leased: list[StuckEvent]
    analytics: list[StuckEvent]
    ahead: list[StuckEvent]
    dead_letters: list[OpenDeadLetter]
    open_dead_letters: int
    unapproved: list[Unapproved]
    overdue_holds: list[OverdueHold]
    backlog: list[Backlog]
    causes: list[Cause]
    snapshots: list[Snapshot] = []
    most_connections: int = 0
    allowed_connections: int = 0
    findings: list[Finding] = []


_AGE = """'since', {since},
  'seconds', CAST(greatest(extract(epoch FROM now() - {since}), 0) AS bigint)"""
_GRACE_BEGAN = "now() - make_interval(secs => CAST(:grace_seconds AS int))"


def _listing(source: str, since: str, condition: str = "true") -> str:
    """Return the SQL that lists the oldest of some rows as JSON."""
    return f"""(SELECT coalesce(json_agg(row ORDER BY since, id), '[]') FROM (
    SELECT to_jsonb(e) || jsonb_build_object({_AGE.format(since=since)}), {since}, e.id
    FROM {source} e WHERE {condition}
    ORDER BY {since}, e.id LIMIT {MAX_LISTED}) AS oldest(row, since, id))"""  # noqa: S608 fragments of our own


_LEASE_EXPIRED = "e.sending_since IS NOT NULL AND e.available_at <= now()"
# All that is due or, where dead rows are in the way, all that a claim would find.
_SINCE = "CASE WHEN NOT CAST(:is_whole AS boolean) THEN d.due_from END"
_DUE = DUE.format(since=_SINCE)
# The sample holds both ends of each destination's queue: events due for longest, and
# events postponed furthest; and held ones. The rest has not been tried yet, or is being
# sent.
_EVENTS = named(
    "diagnosis.events",
    f"""
WITH {DESTINATIONS},
sample AS MATERIALIZED (
  SELECT id, order_id, event_id, event_type, destination, created_at, available_at,
    attempts, doubts, is_resend, last_error AS reason, failed_at, sending_since,
    held_since
  FROM outbox WHERE id = ANY(ARRAY(
    SELECT e.id FROM destinations d CROSS JOIN LATERAL (
      (SELECT x.id {_DUE} ORDER BY x.available_at, x.id LIMIT {_SAMPLE})
      UNION ALL
      (SELECT x.id {POSTPONED} ORDER BY x.available_at DESC, x.id DESC
       LIMIT {_SAMPLE})) e
    UNION ALL
    (SELECT id FROM outbox WHERE held_since IS NOT NULL ORDER BY id LIMIT {_SAMPLE})))
),
heads AS MATERIALIZED (
  SELECT s.* FROM sample s
  WHERE (s.attempts >= {STUCK_ATTEMPTS} OR s.held_since IS NOT NULL)
    AND (SELECT older.id FROM outbox older
      WHERE older.destination = s.destination AND older.order_id = s.order_id
        AND older.id + 0 < s.id LIMIT 1) IS NULL
)
SELECT CAST(json_build_object(
  'stuck', {_listing("heads", "e.created_at", "e.held_since IS NULL")},
  'held', {_listing("heads", "e.held_since", "e.held_since IS NOT NULL")},
  'leased', {_listing("sample", "e.sending_since", _LEASE_EXPIRED)},
  'ahead', {_listing("sample", "e.created_at", AHEAD.format("e"))},
  'causes', {destinations.CAUSES},
  'analytics', {
        _listing(
            "sample",
            "e.created_at",
            f"e.destination = '{ANALYTICS}' AND NOT e.is_resend"
            f" AND e.created_at < {_GRACE_BEGAN}",
        )
    }) AS text)
""",  # noqa: S608 fragments of our own
)

_REST = named(
    "diagnosis.rest",
    f"""
WITH {DESTINATIONS},
open_dead_letters AS MATERIALIZED (
  SELECT id, source, order_id, event_type, created_at, reason FROM dead_letters
  WHERE settled_as IS NULL ORDER BY id LIMIT {MAX_LISTED}
),
unapproved AS MATERIALIZED (
  SELECT o.id, o.id AS order_id, coalesce((SELECT h.changed_at FROM order_history h
    WHERE h.order_id = o.id ORDER BY h.id DESC LIMIT 1), o.created_at) AS since
  FROM orders o WHERE o.is_complete AND NOT o.is_approved ORDER BY o.id LIMIT {_SAMPLE}
),
holds AS MATERIALIZED (
  SELECT id, order_id, item_id, product_variation, quantity, confirmed_at
  FROM (SELECT * FROM stock_holds ORDER BY id LIMIT {_SAMPLE}) AS oldest
  WHERE seen_at IS NULL AND released_at IS NULL AND confirmed_at < {_GRACE_BEGAN}
  ORDER BY id LIMIT {MAX_LISTED}
)
SELECT CAST(json_build_object(
  'dead_letters', {_listing("open_dead_letters", "e.created_at")},
  'open_dead_letters', (SELECT count(*) FROM (SELECT FROM dead_letters
     WHERE settled_as IS NULL LIMIT {MAX_COUNTED}) AS counted),
  'unapproved', {_listing("unapproved", "e.since", f"e.since < {_GRACE_BEGAN}")},
  'overdue_holds', {_listing("holds", "e.confirmed_at")},
  'backlog', {destinations.backlog(_AGE, _SINCE)}) AS text)
""",  # noqa: S608 fragments of our own
)


# A process says in its connections' name how many it may open. Ours ends soon.
_CONNECTIONS = named(
    "diagnosis.connections",
    f"""
SELECT (SELECT CAST(coalesce(sum(CAST(p.size AS bigint)), 0) AS bigint) FROM (
    SELECT DISTINCT substring(application_name FROM '/([0-9]{{1,9}}) ') AS size,
      application_name
    FROM pg_stat_activity
    WHERE datname = current_database()
      AND application_name LIKE '{APPLICATION}/%'
      AND application_name <> current_setting('application_name')) p),
  CAST(current_setting('max_connections') AS int)
    - CAST(current_setting('superuser_reserved_connections') AS int)
    - coalesce(CAST(current_setting('reserved_connections', true) AS int), 0)
""",  # noqa: S608 a name of our own
)


def examine(connection: Connection, grace_seconds: int = GRACE_SECONDS) -> Diagnosis:
    """Return what is wrong."""
    held = snapshots.read(connection, grace_seconds)
    parameters = {"grace_seconds": grace_seconds, "is_whole": not held}
    try:
        texts = _texts(connection, parameters)
    except BusyError:  # dead rows are in the way, by a snapshot that is not shown to us
        texts = _texts(connection, parameters | {"is_whole": False})
    members = [json.decode(text, type=dict[str, Raw]) for text in texts]
    diagnosis = json.decode(json.encode(members[0] | members[1]), type=Diagnosis)
    diagnosis.backlog = destinations.join(
        diagnosis.backlog, diagnosis.causes, read_reports(connection)
    )
    diagnosis.snapshots = held[:MAX_LISTED]
    row = connection.execute(_CONNECTIONS).one()
    diagnosis.most_connections, diagnosis.allowed_connections = row
    diagnosis.findings = _findings(diagnosis, grace_seconds)
    return diagnosis


def _texts(connection: Connection, parameters: dict[str, int]) -> list[str]:
    return [connection.execute(s, parameters).scalar_one() for s in (_EVENTS, _REST)]


def _findings(diagnosis: Diagnosis, grace_seconds: int) -> list[Finding]:
    """Return what is wrong: with destinations first, as other problems follow."""
    findings = destinations.findings(diagnosis.backlog, grace_seconds)
    kinds: list[tuple[Sequence[Struct], str, str]] = [
        (diagnosis.stuck, "failing events that block their orders", "events show"),
        (diagnosis.held, "held events", "events confirm, or events resend"),
        (diagnosis.leased, "unfinished attempts", "relay --once, or doctor --fix"),
        (
            diagnosis.analytics,
            "approved orders that analytics has not been notified of",
            "relay --once",
        ),
        (
            diagnosis.ahead,
            "events that wait since the database's clock went back",
            "relay --once",
        ),
        (diagnosis.unapproved, "complete orders that are not approved", "doctor --fix"),
        (
            diagnosis.overdue_holds,
            "items whose stock the product service should have lowered by now",
            "does it consume order.created, and has the relay PRODUCT_SERVICE?",
        ),
    ]
    findings += [
        Finding(f"{what}: {_count(len(listed))}", remedy)
        for listed, what, remedy in kinds
        if listed
    ]
    if diagnosis.open_dead_letters:
        number = _count(diagnosis.open_dead_letters, MAX_COUNTED)
        findings.append(Finding(f"open dead letters: {number}", "dead-letters list"))
    for oldest in diagnosis.snapshots[:1]:
        age = f"{oldest.seconds} seconds" if oldest.seconds is not None else "long"
        text = (
            f"a snapshot has been held for {age} by {oldest.owner}, and dead rows stay"
            " until it ends"
        )
        findings.append(Finding(text, f"{oldest.remedy}, or wait"))
    most, allowed = diagnosis.most_connections, diagnosis.allowed_connections
    if most > allowed:
        text = (
            f"the processes that are connected may open {most} connections, and the"
            f" server allows them {allowed}"
        )
        remedy = "fewer instances, fewer THREADS, or a higher max_connections"
        findings.append(Finding(text, remedy))
    return findings


def _count(number: int, most: int = MAX_LISTED) -> str:
    return f"{number} or more" if number >= most else str(number)


# As the next claim would do; an attempt without a result leaves its event in doubt.
_RELEASE = named(
    "diagnosis.release",
    f"""
WITH {DESTINATIONS},
expired AS MATERIALIZED (
  SELECT x.id FROM destinations d CROSS JOIN LATERAL (
    SELECT x.id, x.sending_since {DUE.format(since=CLAIMABLE)}
    ORDER BY x.available_at, x.id LIMIT {_SAMPLE}) x
  WHERE x.sending_since IS NOT NULL
)
UPDATE outbox SET sending_since = NULL, doubts = doubts + 1
WHERE id = ANY(ARRAY(SELECT id FROM expired))
  AND sending_since IS NOT NULL AND available_at <= now()
""",  # noqa: S608 fragments of our own
)


class Repairs(Struct, frozen=True):
    """The repairs made: orders approved, leases released, events counted by result."""

    approved: list[int]
    released: int
    events: dict[str, int]


def repair(
    engine: Engine, relay: Relay, bus: Sequence[str], seconds: float = 20.0
) -> Repairs:
    """Make the repairs that can do no harm; send events for at most `seconds`.

    Complete orders are approved, expired leases released, due events sent. Held events
    and dead letters stay as they are. Raise DatabaseUnavailableError or BusyError.
    """
    approved = approval.sweep(engine, bus)
    with connect(engine) as connection:
        released = connection.execute(_RELEASE).rowcount
    return Repairs(approved, released, relay.sweep(seconds))
