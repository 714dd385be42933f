"""Find what holds up orders and events, and make the repairs that are safe.

What is younger than a few minutes counts as in progress.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from msgspec import Raw, Struct, json, structs

from common import approval
from common.database.engine import Connection, Engine, connect, named
from common.domain.events import ANALYTICS
from common.messaging.event_rows import DESTINATIONS
from common.messaging.relay import Relay

PATIENCE_SECONDS = 120
STUCK_ATTEMPTS = 3
LISTED = 20  # of each kind
MANY = 100_000  # where counting ends
_SAMPLE = 10_000  # rows of a destination that are looked at one by one


class Finding(Struct, frozen=True):
    """An event that does not go on. `since` is when it was recorded, held or leased."""

    order_id: int
    event_id: str
    event_type: str
    destination: str
    since: datetime
    seconds: int
    attempts: int
    doubts: int
    reason: str | None


class Letter(Struct, frozen=True):
    """A dead letter that nobody has dealt with."""

    id: int
    source: str
    order_id: int | None
    event_type: str | None
    since: datetime
    seconds: int
    reason: str


class Unapproved(Struct, frozen=True):
    """An order that is complete, and not approved; since its last change."""

    order_id: int
    since: datetime
    seconds: int


class Backlog(Struct, frozen=True):
    """What one destination is owed, `since` its oldest event; counted to 100,000.

    `is_served` tells whether this process knows how to send there.
    """

    destination: str
    pending: int
    since: datetime
    seconds: int
    is_served: bool = False


class Diagnosis(Struct, kw_only=True):
    """What was found, the oldest of each kind; `complaints` is empty where all is well.

    `stuck`: events that were tried in vain and block their orders. `leased`: whose
    attempt was never settled.
    """

    stuck: list[Finding]
    held: list[Finding]
    leased: list[Finding]
    analytics: list[Finding]
    dead_letters: list[Letter]
    open_dead_letters: int
    unapproved: list[Unapproved]
    backlog: list[Backlog]
    complaints: list[str] = []


_AGE = """'since', {since},
  'seconds', CAST(greatest(extract(epoch FROM now() - {since}), 0) AS bigint)"""
_YOUNG = "now() - make_interval(secs => CAST(:patience AS int))"


def _listing(source: str, since: str, condition: str = "true") -> str:
    """Return the SQL that lists the oldest of some rows as JSON."""
    return f"""(SELECT coalesce(json_agg(shown ORDER BY since, id), '[]') FROM (
    SELECT to_jsonb(e) || jsonb_build_object({_AGE.format(since=since)}), {since}, e.id
    FROM {source} e WHERE {condition}
    ORDER BY {since}, e.id LIMIT {LISTED}) AS oldest(shown, since, id))"""  # noqa: S608 fragments of our own


_UNSETTLED = "e.sending_since IS NOT NULL AND e.available_at <= now()"
# Both ends of each destination's queue: what is due for longest, and what was put off
# furthest. What is in between was not tried yet, or is on its way.
_EVENTS = named(
    "diagnosis.events",
    f"""
WITH {DESTINATIONS},
sample AS MATERIALIZED (
  SELECT id, order_id, event_id, event_type, destination, created_at, available_at,
    attempts, doubts, is_resend, last_error AS reason, sending_since, held_since
  FROM outbox WHERE id IN (
    SELECT e.id FROM destinations d CROSS JOIN LATERAL (
      (SELECT x.id FROM outbox x WHERE x.destination = d.name
       ORDER BY x.available_at, x.id LIMIT {_SAMPLE})
      UNION ALL
      (SELECT x.id FROM outbox x WHERE x.destination = d.name
       ORDER BY x.available_at DESC, x.id DESC LIMIT {_SAMPLE})) e)
),
heads AS MATERIALIZED (
  SELECT s.* FROM sample s
  WHERE (s.attempts >= {STUCK_ATTEMPTS} OR s.held_since IS NOT NULL)
    AND NOT EXISTS (SELECT FROM outbox older
      WHERE older.destination = s.destination AND older.order_id = s.order_id
        AND older.id < s.id)
)
SELECT CAST(json_build_object(
  'stuck', {_listing("heads", "e.created_at", "e.held_since IS NULL")},
  'held', {_listing("heads", "e.held_since", "e.held_since IS NOT NULL")},
  'leased', {_listing("sample", "e.sending_since", _UNSETTLED)},
  'analytics', {
        _listing(
            "sample",
            "e.created_at",
            f"e.destination = '{ANALYTICS}' AND NOT e.is_resend"
            f" AND e.created_at < {_YOUNG}",
        )
    }) AS text)
""",  # noqa: S608 fragments of our own
)

_REST = named(
    "diagnosis.rest",
    f"""
WITH {DESTINATIONS},
letters AS MATERIALIZED (
  SELECT id, source, order_id, event_type, created_at, reason FROM dead_letters
  WHERE settled_as IS NULL ORDER BY id LIMIT {LISTED}
),
unapproved AS MATERIALIZED (
  SELECT o.id, o.id AS order_id, coalesce((SELECT h.changed_at FROM order_history h
    WHERE h.order_id = o.id ORDER BY h.id DESC LIMIT 1), o.created_at) AS since
  FROM orders o WHERE o.is_complete AND NOT o.is_approved ORDER BY o.id LIMIT {_SAMPLE}
)
SELECT CAST(json_build_object(
  'dead_letters', {_listing("letters", "e.created_at")},
  'open_dead_letters', (SELECT count(*) FROM (SELECT FROM dead_letters
     WHERE settled_as IS NULL LIMIT {MANY}) AS counted),
  'unapproved', {_listing("unapproved", "e.since", f"e.since < {_YOUNG}")},
  'backlog', (SELECT coalesce(json_agg(json_build_object('destination', d.name,
     'pending', (SELECT count(*) FROM (SELECT FROM outbox x
        WHERE x.destination = d.name LIMIT {MANY}) AS counted),
     {_AGE.format(since="o.created_at")}) ORDER BY d.name), '[]')
   FROM destinations d CROSS JOIN LATERAL (
     -- What is sent once more is as old as what happened, and waits since today.
     SELECT coalesce((SELECT x.created_at FROM outbox x
       WHERE x.destination = d.name AND NOT x.is_resend
       ORDER BY x.id LIMIT 1), now()) AS created_at) o)) AS text)
""",  # noqa: S608 fragments of our own
)


def examine(
    connection: Connection,
    served: Collection[str],
    patience_seconds: int = PATIENCE_SECONDS,
) -> Diagnosis:
    """Return how things stand; `served` are the destinations that are sent to."""
    given = {"patience": patience_seconds}
    texts = [connection.execute(s, given).scalar_one() for s in (_EVENTS, _REST)]
    members = [json.decode(text, type=dict[str, Raw]) for text in texts]
    found = json.decode(json.encode(members[0] | members[1]), type=Diagnosis)
    found.backlog = [
        structs.replace(one, is_served=one.destination in served)
        for one in found.backlog
    ]
    found.complaints = _complaints(found, patience_seconds)
    return found


def _complaints(found: Diagnosis, patience_seconds: int) -> list[str]:
    """Return a sentence for each kind of trouble, and what to do about it."""
    kinds: list[tuple[Sequence[Struct], str, str]] = [
        (found.stuck, "events tried in vain, blocking their orders", "events show"),
        (found.held, "held events", "events confirm, or events resend"),
        (found.leased, "attempts without an end", "relay --once, or doctor --fix"),
        (
            found.analytics,
            "approved orders that analytics does not know",
            "relay --once",
        ),
        (found.unapproved, "complete orders that are not approved", "doctor --fix"),
    ]
    said = [
        f"{what}: {_count(len(listed))}; {remedy}"
        for listed, what, remedy in kinds
        if listed
    ]
    if found.open_dead_letters:
        number = _count(found.open_dead_letters, MANY)
        said.append(f"open dead letters: {number}; dead-letters list")
    for one in found.backlog:
        if not one.is_served:
            is_analytics = one.destination == ANALYTICS
            setting = "ANALYTIC_SERVICE" if is_analytics else "EVENT_BUS"
            said.append(
                f"events for {one.destination}, to which nobody sends here:"
                f" {_count(one.pending, MANY)}; {setting}"
            )
        elif one.seconds > patience_seconds:
            said.append(
                f"the oldest event for {one.destination} waits for"
                f" {one.seconds} seconds; is the relay running?"
            )
    return said


def _count(number: int, most: int = LISTED) -> str:
    return f"{number} or more" if number >= most else str(number)


# As the next claim would: nobody knows how that attempt ended.
_RELEASE = named(
    "diagnosis.release",
    f"""
WITH {DESTINATIONS},
expired AS MATERIALIZED (
  SELECT x.id FROM destinations d CROSS JOIN LATERAL (
    SELECT o.id, o.sending_since FROM outbox o
    WHERE o.destination = d.name AND o.available_at <= now()
    ORDER BY o.available_at, o.id LIMIT {_SAMPLE}) x
  WHERE x.sending_since IS NOT NULL
)
UPDATE outbox SET sending_since = NULL, doubts = doubts + 1
WHERE id IN (SELECT id FROM expired)
  AND sending_since IS NOT NULL AND available_at <= now()
""",  # noqa: S608 fragments of our own
)


class Repairs(Struct, frozen=True):
    """What was done: orders approved, leases released, events by how they ended."""

    approved: list[int]
    released: int
    events: dict[str, int]


def repair(
    engine: Engine, relay: Relay, bus: Sequence[str], seconds: float = 20.0
) -> Repairs:
    """Do what can do no harm, sending for at most `seconds`.

    Approves what is complete, lets go of leases that ran out, sends what is due. Leaves
    held events and dead letters alone. Raise DatabaseUnavailableError or BusyError.
    """
    approved = approval.sweep(engine, bus)
    with connect(engine) as connection:
        released = connection.execute(_RELEASE).rowcount
    return Repairs(approved, released, relay.sweep(seconds))
