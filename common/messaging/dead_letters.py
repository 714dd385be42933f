"""Dead letters: keep messages that can never succeed, replay and discard them.

Bodies are kept as bytes, because a broken one need not be text.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from common.database.engine import Connection, Engine, connect, named
from common.domain.model import parse_uuid
from common.errors import ConflictError, NotFoundError
from common.json import encode
from common.messaging import envelopes
from common.telemetry import logs

log = logs.get("dead_letters")

SOURCES = ("outbox", "approval")


class DeadLetter(Struct, frozen=True):
    """A message that was given up, and why; `source` is 'approval' or 'outbox'."""

    source: str
    reason: str
    body: bytes
    headers: Mapping[str, str]
    event_id: str | None = None
    event_type: str | None = None
    order_id: int | None = None


_INSERT = named(
    "dead_letters.insert",
    """
INSERT INTO dead_letters
  (source, reason, body, headers, event_id, event_type, order_id)
VALUES (CAST(:source AS text), CAST(:reason AS text), CAST(:body AS bytea),
  CAST(:headers AS jsonb), CAST(:event_id AS text), CAST(:event_type AS text),
  CAST(:order_id AS bigint))
""",
)


def keep(connection: Connection, dead_letter: DeadLetter) -> None:
    """Store a dead letter, and log it as an error, for alarms."""
    headers = {_storable(k): _storable(v) for k, v in dead_letter.headers.items()}
    parameters = structs.asdict(dead_letter) | {
        "headers": encode(headers),
        "event_id": dead_letter.event_id and _storable(dead_letter.event_id),
        "event_type": dead_letter.event_type and _storable(dead_letter.event_type),
    }
    connection.execute(_INSERT, parameters)
    fields = {
        "source": dead_letter.source,
        "reason": dead_letter.reason,
        "event_id": dead_letter.event_id,
        "event_type": dead_letter.event_type,
    }
    log.error("a message became a dead letter", extra={"fields": fields})


def _storable(text: str) -> str:
    """Replace what PostgreSQL cannot store as text: NUL and lone surrogates."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


class Kept(Struct, frozen=True):
    """A stored dead letter; `settled_as` is None while it is open.

    `headers` and `body` are None in a list.
    """

    id: int
    source: str
    reason: str
    destination: str | None
    order_id: int | None
    event_id: str | None
    event_type: str | None
    created_at: datetime
    settled_as: str | None
    settled_at: datetime | None
    headers: dict[str, Any] | None = None
    body: bytes | None = None


COLUMNS = """id, source, reason, destination, order_id, event_id, event_type,
  created_at, settled_as, settled_at"""
_ONE = named(
    "dead_letters.one",
    f"""
SELECT {COLUMNS}, headers, body FROM dead_letters WHERE id = CAST(:id AS bigint)
""",  # noqa: S608 fragments of our own
)


def read(connection: Connection, dead_letter_id: int) -> Kept:
    """Return one dead letter, with its headers and body; raise NotFoundError."""
    row = connection.execute(_ONE, {"id": dead_letter_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no dead letter {dead_letter_id}.")
    return Kept(*row)


# Settled and pending again by one statement, so that only one of two operators replays
# it. The event keeps its id, and the time at which it happened.
_REPLAY = named(
    "dead_letters.replay",
    """
WITH dead_letter AS (
  UPDATE dead_letters SET settled_as = 'replayed', settled_at = now()
  WHERE id = CAST(:id AS bigint) AND settled_as IS NULL
  RETURNING *
),
requeued AS (
  INSERT INTO outbox (destination, order_id, event_id, event_type, body, traceparent,
    created_at, is_resend)
  SELECT d.destination, d.order_id, CAST(d.event_id AS uuid), d.event_type,
    convert_from(d.body, 'UTF8'), d.headers ->> 'traceparent',
    coalesce((SELECT min(h.changed_at) FROM order_history h
      WHERE h.order_id = d.order_id AND CAST(h.event_id AS text) = d.event_id),
      d.created_at), true
  FROM dead_letter d WHERE d.source = 'outbox'
  RETURNING id
)
SELECT (SELECT count(*) FROM dead_letter), pg_notify('outbox', '') FROM
  (SELECT count(*) FROM requeued) AS written
""",
)

Take = Callable[[Mapping[str, str], bytes], object]


def replay(engine: Engine, dead_letter_id: int, take: Take) -> bool:
    """Replay an open dead letter; return False if someone else settled it meanwhile.

    An event goes back to the outbox, marked as an operator's resend. A message is
    passed to `take` (`approval.take` with its other arguments) and settled afterwards,
    because taking it twice does no harm and losing it does. Raise NotFoundError, or
    ConflictError if it is settled, or its message still cannot be understood; then it
    stays open.
    """
    with connect(engine) as connection:
        dead_letter = read(connection, dead_letter_id)
    _check_open(dead_letter)
    if dead_letter.source == "approval":
        headers, body = dead_letter.headers or {}, dead_letter.body or b""
        try:
            envelopes.read(headers, body)
        except envelopes.UnreadableError as error:
            detail = f"Dead letter {dead_letter_id}: still {error}."
            raise ConflictError(detail) from error
        take(headers, body)
    elif not _is_event(dead_letter):
        raise ConflictError(f"Dead letter {dead_letter_id} is no event of an order.")
    with connect(engine) as connection:
        settled = connection.execute(_REPLAY, {"id": dead_letter_id}).one()[0]
    return bool(settled)


_DISCARD = named(
    "dead_letters.discard",
    """
WITH discarded AS (
  UPDATE dead_letters SET settled_as = 'discarded', settled_at = now()
  WHERE id = CAST(:id AS bigint) AND settled_as IS NULL
  RETURNING *
),
released AS (  -- the product service is not told, so its amounts stay as they are
  UPDATE stock_holds SET released_at = now()
  WHERE id = ANY(ARRAY(
    SELECT h.id FROM discarded d JOIN stock_holds h ON h.order_id = d.order_id
    WHERE CAST(h.event_id AS text) = d.event_id AND h.released_at IS NULL
    ORDER BY h.id FOR UPDATE OF h))
)
SELECT count(*) FROM discarded
""",
)


def discard(engine: Engine, dead_letter_id: int) -> bool:
    """Discard an open dead letter; return False if someone else settled it meanwhile.

    It stays readable until retention deletes it. Raise NotFoundError, or ConflictError
    if it is settled.
    """
    with connect(engine) as connection:
        _check_open(read(connection, dead_letter_id))
        discarded = connection.execute(_DISCARD, {"id": dead_letter_id}).scalar_one()
        return bool(discarded)


def _check_open(dead_letter: Kept) -> None:
    if dead_letter.settled_as is not None:
        raise ConflictError(
            f"Dead letter {dead_letter.id} was {dead_letter.settled_as} already."
        )


def _is_event(dead_letter: Kept) -> bool:
    """Return whether the outbox can take it back; not so if somebody edited the row."""
    with contextlib.suppress(UnicodeDecodeError):
        (dead_letter.body or b"").decode()
        is_known = None not in (dead_letter.order_id, dead_letter.destination)
        return is_known and parse_uuid(dead_letter.event_id) is not None
    return False


ALREADY_SETTLED = "another operator was faster"  # of one that is no longer open


class Settled(Struct, frozen=True):
    """The dead letters that were settled, why others were not, and how many are left.

    Of those that are left none was tried, because the time was over.
    """

    done: list[int]
    failed: dict[int, str]
    left: int


def settle_each(
    ids: Sequence[int], settle: Callable[[int], bool], seconds: float = math.inf
) -> Settled:
    """Replay or discard each; one that cannot be does not stop the others."""
    done: list[int] = []
    failed: dict[int, str] = {}
    deadline = time.monotonic() + seconds
    for id_ in dict.fromkeys(ids):
        if time.monotonic() > deadline:
            break
        try:
            if settle(id_):
                done.append(id_)
            else:
                failed[id_] = f"Another operator was faster with dead letter {id_}."
        except (ConflictError, NotFoundError) as error:
            failed[id_] = error.detail
    return Settled(done, failed, len(set(ids)) - len(done) - len(failed))
