"""Idempotency: the first answer to a POST is kept with its write, and replayed.

Lives here: keys, fingerprints, finding and writing records. Not here: the write itself,
which the record is part of (`store.py`). Surprise: there are two kinds of key, the
caller's Idempotency-Key header (24 hours) and the cart itself (as long as its order
exists); a race on either ends as a unique violation, and the loser replays the winner.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct, json

from common.db import Connection, Engine, connect, named
from common.errors import InFlightError, KeyReusedError
from common.placeholders import Ids, fill, template

CONSTRAINT = "idempotency_records_pkey"
KEEP_HOURS = 24


class Earlier(Struct, frozen=True):
    """A record as it was found: the answer, and of which of the claims asked for."""

    position: int
    fingerprint: str
    status: int
    headers: dict[str, str]
    body: str


class AlreadyAnsweredError(Exception):
    """Somebody else's write claimed the same key first; nothing was written.

    `earlier` is what it was answered with, None where that is not known yet.
    """

    def __init__(self, earlier: Earlier | None = None) -> None:
        self.earlier = earlier
        super().__init__("the key is taken")


class Claim(Struct, frozen=True):
    """A caller's right to one answer: `scope` is 'key' or 'cart'."""

    user_id: UUID
    scope: str
    key: str
    fingerprint: str


class Answer(Struct, frozen=True):
    """An answer as it goes out: status, headers beyond the usual, body as JSON text."""

    status: int
    headers: dict[str, str]
    body: str
    is_replayed: bool = False

    def filled(self, ids: Ids) -> "Answer":
        """Answer this with what was drawn in place of placeholders."""
        headers = {name: fill(value, ids) for name, value in self.headers.items()}
        return Answer(self.status, headers, fill(self.body, ids))


def by_header(user_id: UUID, key: str, path: str, body: bytes) -> Claim:
    """Answer the claim of an Idempotency-Key, bound to this path and body."""
    fingerprint = hashlib.sha256(path.encode() + b"\n" + body).hexdigest()
    return Claim(user_id, "key", key, fingerprint)


def by_cart(user_id: UUID, cart_id: int, lines: Iterable[tuple[Any, ...]]) -> Claim:
    """Answer the claim of a cart: its id, and each line's id, variation, quantity."""
    content = json.encode([cart_id, sorted(lines, key=json.encode)])
    digest = hashlib.sha256(content).hexdigest()
    return Claim(user_id, "cart", digest, digest)


_FIND = named(
    "idempotency.find",
    """
WITH wanted AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(CAST(:claims AS jsonb)) AS w(
    position int, user_id uuid, scope text, key text)
),
expired AS (
  DELETE FROM idempotency_records r USING wanted w
  WHERE r.user_id = w.user_id AND r.scope = w.scope AND r.key = w.key
    -- Not as the index on it has it: a key is looked up, not all that have expired.
    AND coalesce(r.expires_at, 'infinity') <= now()
)
SELECT CAST(json_build_object('position', w.position, 'fingerprint', r.fingerprint,
  'status', r.status, 'headers', r.headers, 'body', r.body) AS text)
FROM wanted w JOIN idempotency_records r USING (user_id, scope, key)
WHERE r.expires_at IS NULL OR r.expires_at > now()
ORDER BY w.position LIMIT 1
""",
)


def replay(engine: Engine, claims: Sequence[Claim]) -> Answer | None:
    """Answer what the first of `claims` that was used before was answered with.

    One round trip, one moment: of two claims that one write made, both are seen or
    neither is. Raises KeyReusedError where the key was used for another request.
    """
    if not claims:
        return None
    wanted = [
        {"position": n, "user_id": c.user_id, "scope": c.scope, "key": c.key}
        for n, c in enumerate(claims)
    ]
    with connect(engine) as connection:
        parameters = {"claims": json.encode(wanted).decode()}
        found = connection.execute(_FIND, parameters).value_or_none()
    return None if found is None else _again(json.decode(found, type=Earlier), claims)


def _again(earlier: Earlier, claims: Sequence[Claim]) -> Answer:
    claim = claims[earlier.position]
    if earlier.fingerprint != claim.fingerprint:
        raise KeyReusedError
    status = 200 if claim.scope == "cart" else earlier.status
    return Answer(status, earlier.headers, earlier.body, is_replayed=True)


def rows(claims: Iterable[Claim], answer: Answer) -> list[dict[str, Any]]:
    """Answer the records that keep `answer`, for the statement that writes.

    Headers and body are templates, as the answer may hold placeholders.
    """
    headers = template(json.encode(answer.headers).decode())
    body = template(answer.body)
    return [
        {
            "position": position,
            "user_id": claim.user_id,
            "scope": claim.scope,
            "key": claim.key,
            "fingerprint": claim.fingerprint,
            "status": answer.status,
            "headers": headers,
            "body": body,
            "keep_hours": KEEP_HOURS if claim.scope == "key" else None,
        }
        for position, claim in enumerate(claims)
    ]


def earlier(
    engine: Engine, claims: Sequence[Claim], error: AlreadyAnsweredError
) -> Answer:
    """Answer what whoever was faster was answered with.

    Raises KeyReusedError, or InFlightError where its order was deleted in between.
    """
    if error.earlier is not None:
        return _again(error.earlier, claims)
    answer = replay(engine, claims)
    if answer is None:
        raise InFlightError from error
    return answer


_PURGE = named(
    "idempotency.purge",
    """
WITH gone AS (
  DELETE FROM idempotency_records
  WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM idempotency_records
    WHERE expires_at <= now()
      AND expires_at >= coalesce(CAST(:after AS timestamptz), '-infinity')
    ORDER BY expires_at LIMIT CAST(:batch AS int)))
  RETURNING expires_at
)
SELECT count(*), max(expires_at) FROM gone
""",
)


def purge(
    connection: Connection, batch: int, after: datetime | None = None
) -> tuple[int, datetime | None]:
    """Delete up to `batch` expired records, oldest first; answer how many.

    And `after` which moment of expiry the next batch goes on, so that it need not pass
    over what is deleted already; None where there is nothing more.
    """
    parameters = {"batch": batch, "after": after}
    deleted, last = connection.execute(_PURGE, parameters).one()
    return deleted, last if deleted == batch else None
