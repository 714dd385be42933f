"""Dead letters: keep what can never succeed, list, replay and discard it.

The body is kept as bytes, because a broken one need not be text.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from common.database.engine import Connection, Engine, connect, named
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


_BURY = named(
    "dead_letters.bury",
    """
INSERT INTO dead_letters
  (source, reason, body, headers, event_id, event_type, order_id)
VALUES (CAST(:source AS text), CAST(:reason AS text), CAST(:body AS bytea),
  CAST(:headers AS jsonb), CAST(:event_id AS text), CAST(:event_type AS text),
  CAST(:order_id AS bigint))
""",
)


def keep(connection: Connection, letter: DeadLetter) -> None:
    """Keep the letter, and say so loudly enough for an alarm."""
    headers = {_storable(k): _storable(v) for k, v in letter.headers.items()}
    given = structs.asdict(letter) | {
        "headers": encode(headers),
        "event_id": letter.event_id and _storable(letter.event_id),
        "event_type": letter.event_type and _storable(letter.event_type),
    }
    connection.execute(_BURY, given)
    fields = {"source": letter.source, "reason": letter.reason}
    log.error("a message became a dead letter", extra={"fields": fields})


def _storable(given: str) -> str:
    """Return text that PostgreSQL can hold: without NUL and half characters."""
    return given.encode(errors="replace").decode().replace("\0", "\ufffd")


class Kept(Struct, frozen=True):
    """A dead letter as it is kept. `settled_as` None: nobody has dealt with it.

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


_COLUMNS = """id, source, reason, destination, order_id, event_id, event_type,
  created_at, settled_as, settled_at"""
# Two statements, so that the first can use the index of what is open.
_OPEN, _ALL = (
    named(
        f"dead_letters.{name}",
        f"""
SELECT {_COLUMNS} FROM dead_letters
WHERE {condition} AND id > CAST(:after AS bigint)
  AND (CAST(:source AS text) IS NULL OR source = CAST(:source AS text))
ORDER BY id LIMIT CAST(:limit AS int)
""",  # noqa: S608 fragments of our own
    )
    for name, condition in (("open", "settled_as IS NULL"), ("all", "true"))
)
_ONE = named(
    "dead_letters.one",
    f"""
SELECT {_COLUMNS}, headers, body FROM dead_letters WHERE id = CAST(:id AS bigint)
""",  # noqa: S608 fragments of our own
)


def read_many(
    connection: Connection,
    *,
    limit: int,
    source: str | None = None,
    with_settled: bool = False,
    after: int = 0,
) -> list[Kept]:
    """Return letters by id from the first after `after` on, without their contents."""
    given = {"limit": limit, "source": source, "after": after}
    found = connection.execute(_ALL if with_settled else _OPEN, given)
    return [Kept(*row) for row in found]


def read(connection: Connection, letter_id: int) -> Kept:
    """Return one letter, with its headers and body; raise NotFoundError."""
    row = connection.execute(_ONE, {"id": letter_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no dead letter {letter_id}.")
    return Kept(*row)


# Settled and owed again by one statement: of two operators the second finds nothing.
# The event keeps its id, and the time at which it happened.
_REPLAY = named(
    "dead_letters.replay",
    """
WITH letter AS (
  UPDATE dead_letters SET settled_as = 'replayed', settled_at = now()
  WHERE id = CAST(:id AS bigint) AND settled_as IS NULL
  RETURNING *
),
again AS (
  INSERT INTO outbox (destination, order_id, event_id, event_type, body, traceparent,
    created_at, is_resend)
  SELECT l.destination, l.order_id, CAST(l.event_id AS uuid), l.event_type,
    convert_from(l.body, 'UTF8'), l.headers ->> 'traceparent',
    coalesce((SELECT min(h.changed_at) FROM order_history h
      WHERE h.order_id = l.order_id AND CAST(h.event_id AS text) = l.event_id),
      l.created_at), true
  FROM letter l WHERE l.source = 'outbox'
  RETURNING id
)
SELECT (SELECT count(*) FROM letter), pg_notify('outbox', '') FROM
  (SELECT count(*) FROM again) AS written
""",
)

Take = Callable[[Mapping[str, str], bytes], object]


def replay(engine: Engine, letter_id: int, take: Take) -> bool:
    """Try an open letter again; answer False where somebody was faster.

    An event goes back to the outbox, marked as an operator's resend. A message is given
    to `take` (`approval.take` with the rest of its arguments), and settled after that:
    twice does no harm, half does. Raise NotFoundError, or ConflictError where the
    letter is settled, or its message still cannot be understood; it then stays open.
    """
    with connect(engine) as connection:
        letter = read(connection, letter_id)
    _check_open(letter)
    if letter.source == "approval":
        headers, body = letter.headers or {}, letter.body or b""
        try:
            envelopes.read(headers, body)
        except envelopes.UnreadableError as error:
            raise ConflictError(f"Dead letter {letter_id}: still {error}.") from error
        take(headers, body)
    with connect(engine) as connection:
        settled = connection.execute(_REPLAY, {"id": letter_id}).one()[0]
    return bool(settled)


def _check_open(letter: Kept) -> None:
    if letter.settled_as is not None:
        raise ConflictError(f"Dead letter {letter.id} was {letter.settled_as} already.")


_DISCARD = named(
    "dead_letters.discard",
    """
UPDATE dead_letters SET settled_as = 'discarded', settled_at = now()
WHERE id = CAST(:id AS bigint) AND settled_as IS NULL
""",
)


def discard(engine: Engine, letter_id: int) -> bool:
    """Give an open letter up for good; answer False where somebody was faster.

    It stays readable until retention deletes it. Raise NotFoundError, or ConflictError
    where it is settled.
    """
    with connect(engine) as connection:
        _check_open(read(connection, letter_id))
        return connection.execute(_DISCARD, {"id": letter_id}).rowcount > 0


def open_ids(
    engine: Engine, *, source: str | None = None, batch: int = 1000
) -> Sequence[int]:
    """Return the ids of all letters that are open now, oldest first."""
    ids: list[int] = []
    while True:
        with connect(engine) as connection:
            after = ids[-1] if ids else 0
            found = read_many(connection, limit=batch, source=source, after=after)
        ids += [letter.id for letter in found]
        if len(found) < batch:
            return ids
