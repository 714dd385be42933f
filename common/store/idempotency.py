"""Idempotency: the first response to a POST is stored with its write, and replayed.

There are two kinds of key, the caller's Idempotency-Key header (24 hours) and the cart
itself (as long as its order exists). A cart also claims its lines: each is ordered
once, as long as its order exists. A race on any of them ends in a unique violation, and
the loser looks again: it replays the winner's response, or learns that some of its
lines are ordered.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from msgspec import Struct, json

from common.database.engine import (
    Connection,
    Engine,
    StatementError,
    connect,
    named,
    read,
)
from common.database.sqlstates import is_waiting_for, violated_constraint
from common.domain.model import Ids
from common.errors import BusyError, CartSettlingError, InFlightError, KeyReusedError
from common.json import encode
from common.store.reads import MOMENT

KEY, CART = "key", "cart"
KEEP_HOURS = 24
# How long an emptied cart stands for the order that was made of it, and among how many
# of the caller's newest orders that order is looked for.
EMPTIED_SECONDS = 60
NEWEST_ORDERS = 100


_CLAIMED = ("idempotency_records", "ordered_lines")  # by primary key


class Claim(Struct, frozen=True):
    """A key of a caller's request, and the request's digest; `scope` is KEY or CART.

    A cart's claim has the ids of its lines, or else, of a cart without any, its own id.
    """

    user_id: UUID
    scope: str
    key: str
    fingerprint: str
    lines: tuple[int, ...] = ()
    empty_cart_id: int | None = None


class StoredResponse(Struct, frozen=True):
    """A response: status, headers other than the usual ones, body as JSON text."""

    status: int
    headers: dict[str, str]
    body: str
    is_replayed: bool = False


class AlreadyProcessedError(Exception):
    """The request was processed before, with `response`; nothing was written."""

    def __init__(self, response: StoredResponse) -> None:
        self.response = response
        super().__init__("the request was processed before")


class KeyTakenError(Exception):
    """Another write has used one of the keys or lines since they were looked up."""


def by_header(user_id: UUID, key: str, path: str, body: bytes) -> Claim:
    """Return the claim of an Idempotency-Key, bound to this path and body."""
    fingerprint = hashlib.sha256(path.encode() + b"\n" + body).hexdigest()
    return Claim(user_id, KEY, key, fingerprint)


def by_cart(user_id: UUID, cart_id: int, lines: Iterable[tuple[Any, ...]]) -> Claim:
    """Return the claim of a cart: its id, and each line's id, variation, quantity."""
    found = sorted(lines, key=json.encode)
    digest = hashlib.sha256(json.encode([cart_id, found])).hexdigest()
    line_ids = tuple(line[0] for line in found)
    empty_cart_id = None if found else cart_id
    return Claim(user_id, CART, digest, digest, line_ids, empty_cart_id)


# The record with the whole key of a claim `q`. A join might read all records, if it was
# planned when there were few.
_RECORD = """(
  SELECT ctid AS place, * FROM idempotency_records
  WHERE user_id = q.user_id AND scope = q.scope AND key = q.key LIMIT 1)"""
_BEGIN = named(
    "idempotency.begin",
    f"""
WITH requested AS MATERIALIZED (
  SELECT * FROM ROWS FROM (jsonb_to_recordset(CAST(:claims AS jsonb)) AS (
    user_id uuid, scope text, key text, fingerprint text, lines bigint[],
    empty_cart_id bigint))
    WITH ORDINALITY AS q(user_id, scope, key, fingerprint, lines, empty_cart_id,
      position)
),
found AS MATERIALIZED (  -- in one snapshot, so that both keys of a write are seen
  SELECT q.position, r.scope, r.fingerprint = q.fingerprint AS is_same, r.status,
    r.headers, r.body
  FROM requested q, LATERAL {_RECORD} r
  WHERE r.expires_at IS NULL OR r.expires_at > now()
  UNION ALL
  SELECT q.position, r.scope, true, r.status, r.headers, r.body
  FROM requested q, LATERAL (
    SELECT n.id FROM (  -- from the newest on, as no index has the cart
      SELECT o.id, o.cart_id, o.created_at FROM orders o
      WHERE o.user_id = q.user_id ORDER BY o.id DESC LIMIT {NEWEST_ORDERS}) n
    WHERE n.cart_id = q.empty_cart_id
      AND n.created_at > now() - interval '{EMPTIED_SECONDS}s'
    ORDER BY n.id DESC LIMIT 1) newest, LATERAL (
    SELECT * FROM idempotency_records
    WHERE order_id = newest.id AND scope = '{CART}' LIMIT 1) r
  WHERE q.empty_cart_id IS NOT NULL
  ORDER BY position LIMIT 1
),
ordered AS MATERIALIZED (  -- though not with these very lines
  SELECT json_agg(json_build_object('cart_item_id', line.id, 'order_id', l.order_id)
    ORDER BY line.id) AS lines
  FROM requested q, unnest(q.lines) AS line(id), LATERAL (  -- each by the whole key
    SELECT order_id FROM ordered_lines
    WHERE user_id = q.user_id AND line_id = line.id LIMIT 1) l
  WHERE NOT EXISTS (SELECT FROM found)
),
expired AS (
  DELETE FROM idempotency_records WHERE ctid = ANY(ARRAY(
    SELECT r.place FROM requested q, LATERAL {_RECORD} r WHERE r.expires_at <= now()))
),
kept AS (  -- the response found by the cart is stored under the header's key, too
  INSERT INTO idempotency_records
    (user_id, scope, key, fingerprint, status, headers, body, expires_at)
  SELECT q.user_id, q.scope, q.key, q.fingerprint, 200, f.headers, f.body,
    now() + interval '{KEEP_HOURS} hours'
  FROM found f JOIN requested q ON q.scope = '{KEY}'
  WHERE f.scope = '{CART}'
  ON CONFLICT DO NOTHING  -- a concurrent repetition of the request has stored it
),
drawn AS (  -- gaps do no harm, but a request that writes nothing needs no ids
  SELECT coalesce(CAST(:order_id AS bigint), nextval('orders_id_seq')) AS order_id,
    ARRAY(SELECT nextval('order_items_id_seq')
      FROM generate_series(1, CAST(:items AS int))) AS item_ids,
    {MOMENT.format("clock_timestamp()")} AS at
  WHERE NOT EXISTS (SELECT FROM found) AND (SELECT lines FROM ordered) IS NULL
)
SELECT CAST((SELECT row_to_json(found) FROM found) AS text),
  CAST((SELECT lines FROM ordered) AS text),
  CAST((SELECT row_to_json(drawn) FROM drawn) AS text)
""",  # noqa: S608 fragments of our own
)


class _Found(Struct):
    scope: str
    is_same: bool
    status: int
    headers: dict[str, str]
    body: str


def begin(
    engine: Engine, claims: Sequence[Claim], items: int, order_id: int | None = None
) -> Ids:
    """Look the claims up, and draw ids for the write if none was processed before.

    Draw ids for `items` items of a new order, or of `order_id`. One round trip. Raise
    AlreadyProcessedError if one of the claims was processed before, or a cart without
    lines was ordered a moment ago, KeyReusedError if a key was used for another
    request, CartSettlingError if some of a cart's lines are ordered already.
    """
    parameters = {"claims": encode(claims), "items": items, "order_id": order_id}
    with connect(engine) as connection:
        try:
            found, ordered, drawn = read(connection, _BEGIN, parameters).one()
        except (StatementError, BusyError) as error:
            reraise(error)
    if found is None and ordered is not None:
        raise CartSettlingError(extra={"ordered": json.decode(ordered)})
    if found is None:
        return json.decode(drawn, type=Ids)
    record = json.decode(found, type=_Found)
    if not record.is_same:
        raise KeyReusedError
    status = 200 if record.scope == CART else record.status
    raise AlreadyProcessedError(
        StoredResponse(status, record.headers, record.body, is_replayed=True)
    )


def check(engine: Engine, claims: Sequence[Claim]) -> None:
    """Look the claims up; raise as `begin` does."""
    if claims:
        begin(engine, claims, items=0, order_id=0)


_KEEP = named(
    "idempotency.keep",
    f"""
INSERT INTO idempotency_records
  (user_id, scope, key, fingerprint, status, headers, body, expires_at)
SELECT user_id, scope, key, fingerprint, status, headers, body,
  now() + interval '{KEEP_HOURS} hours'
FROM jsonb_to_recordset(CAST(:records AS jsonb)) AS r(
  user_id uuid, scope text, key text, fingerprint text, status smallint,
  headers jsonb, body text)
WHERE scope = '{KEY}'
""",  # noqa: S608 fragments of our own
)


def keep(engine: Engine, claims: Sequence[Claim], response: StoredResponse) -> None:
    """Store a response that wrote no order under the header's key, if there is one.

    Raise as `check` does if another write has used the key meanwhile.
    """
    if all(claim.scope != KEY for claim in claims):
        return
    parameters = {"records": encode(records(claims, response))}
    try:
        with connect(engine) as connection:
            try:
                connection.execute(_KEEP, parameters)
            except (StatementError, BusyError) as error:
                reraise(error)
    except KeyTakenError:
        check(engine, claims)


def reraise(error: StatementError | BusyError) -> NoReturn:
    """Raise the error that a failed write of records stands for.

    KeyTakenError: another write has committed one of the keys or lines. InFlightError:
    another write with one of them is taking long. Any other error is raised as it is.
    """
    if violated_constraint(error) in {f"{table}_pkey" for table in _CLAIMED}:
        raise KeyTakenError from error
    if isinstance(error, BusyError) and any(is_waiting_for(error, t) for t in _CLAIMED):
        raise InFlightError from error
    raise error


def records(claims: Iterable[Claim], response: StoredResponse) -> list[dict[str, Any]]:
    """Return the records that store `response`, for the statement that writes."""
    return [
        {
            "user_id": claim.user_id,
            "scope": claim.scope,
            "key": claim.key,
            "fingerprint": claim.fingerprint,
            "status": response.status,
            "headers": response.headers,
            "body": response.body,
            "keep_hours": KEEP_HOURS if claim.scope == KEY else None,
            "lines": claim.lines,
        }
        for claim in claims
    ]


_PURGE = named(
    "idempotency.purge",
    """
WITH purged AS (
  DELETE FROM idempotency_records
  WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM idempotency_records
    WHERE expires_at <= now()
      AND expires_at >= coalesce(CAST(:after AS timestamptz), '-infinity')
    ORDER BY expires_at LIMIT CAST(:batch AS int)))
  RETURNING expires_at
)
SELECT count(*), max(expires_at) FROM purged
""",
)


def purge(
    connection: Connection, batch: int, after: datetime | None = None
) -> tuple[int, datetime | None]:
    """Delete up to `batch` expired records, oldest first; return how many.

    Also return `after` for the next batch, None if there is none: the expiry time to go
    on from, so that it does not scan rows that are deleted already.
    """
    parameters = {"batch": batch, "after": after}
    deleted, last_expiry = connection.execute(_PURGE, parameters).one()
    return deleted, last_expiry if deleted == batch else None
