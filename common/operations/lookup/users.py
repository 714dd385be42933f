"""All that is stored of one user: to hand it out, or to erase who they are.

What they ordered stays, under an id that nobody has; their own id, the metadata and
what was said of them in events go. Only the tables' owner may do that: no function's
login can change history.
"""

import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from msgspec import Raw, Struct, json

from common.database.engine import Connection, Engine, connect, named, transaction
from common.domain.events import ANALYTICS
from common.domain.orders import FINAL
from common.errors import ConflictError, NotFoundError
from common.messaging.event_rows import ROW, found
from common.operations.lookup import actions
from common.operations.lookup.actions import NewAction
from common.store.reads import MOMENT, ORDER_JSON
from common.store.save import DIGEST_BYTES

STEP = 50_000  # entries of the history that are searched by one statement

_CURRENT = named(
    "users.orders",
    "SELECT id FROM orders WHERE user_id = CAST(:user_id AS uuid) ORDER BY id",
)
# Orders that are deleted are known by their history alone, and it by order.
_DELETED = named(
    "users.deleted_orders",
    """
WITH slice AS MATERIALIZED (
  SELECT id, order_id, kind, changed_by FROM order_history
  WHERE id > CAST(:after AS bigint) ORDER BY id LIMIT CAST(:step AS int)
)
SELECT (SELECT max(id) FROM slice), ARRAY(SELECT DISTINCT order_id FROM slice
  WHERE kind = 'order.created' AND changed_by = CAST(:user_id AS uuid))
""",
)


def orders_of(engine: Engine, user_id: UUID) -> list[int]:
    """Return the ids of a user's orders, deleted ones included, oldest first.

    The history is searched for the latter, a part at a time.
    """
    given: dict[str, object] = {"user_id": str(user_id)}
    with connect(engine) as connection:
        ids = set(connection.execute(_CURRENT, given).scalars())
    after: int | None = 0
    while after is not None:
        part = given | {"after": after, "step": STEP}
        with connect(engine) as connection:
            after, deleted = connection.execute(_DELETED, part).one()
        ids.update(deleted)
    return sorted(ids)


_ORDER = named(
    "users.order",
    f"""
WITH {found("= CAST(:id AS bigint)")}
SELECT CAST(json_build_object('order_id', CAST(:id AS bigint),
  'order', (SELECT CAST({ORDER_JSON} AS json) FROM orders o
    WHERE o.id = CAST(:id AS bigint)),
  'titles', (SELECT json_agg(title ORDER BY id) FROM order_items
    WHERE order_id = CAST(:id AS bigint)),
  'history', (SELECT json_agg(json_build_object('at', {MOMENT.format("h.changed_at")},
      'kind', h.kind, 'item', h.item_id, 'from_status', h.from_status,
      'to_status', h.to_status, 'from_quantity', h.from_quantity,
      'to_quantity', h.to_quantity, 'by', h.actor_kind, 'request_id', h.request_id)
      ORDER BY h.id)
    FROM order_history h WHERE h.order_id = CAST(:id AS bigint)),
  'events', (SELECT json_agg({ROW} ORDER BY created_at, id) FROM found)) AS text)
""",  # noqa: S608 fragments of our own
)
_KEYS = named(
    "users.keys",
    f"""
SELECT CAST(json_build_object('idempotency_key', key, 'scope', scope,
  'status', status, 'body', body, 'created_at', {MOMENT.format("created_at")})
  AS text)
FROM idempotency_records WHERE user_id = CAST(:user_id AS uuid) ORDER BY scope, key
""",  # noqa: S608 fragments of our own
)


def export(engine: Engine, user_id: UUID) -> Iterator[Any]:
    """Yield all that is stored of a user: each order, then each kept response."""
    for order_id in orders_of(engine, user_id):
        with connect(engine) as connection:
            yield Raw(connection.execute(_ORDER, {"id": order_id}).scalar_one())
    with connect(engine) as connection:
        for text in connection.execute(_KEYS, {"user_id": str(user_id)}).scalars():
            yield Raw(text)


class Preview(Struct, frozen=True):
    """What erasing a user would change, and what is in the way of it.

    `destinations` counts the events that told each destination of their orders.
    """

    orders: list[int]
    keys: int
    obstacles: list[str]
    destinations: dict[str, int]


_OBSTACLES = named(
    "users.obstacles",
    """
SELECT (SELECT count(*) FROM outbox WHERE order_id = CAST(:id AS bigint)),
  (SELECT count(*) FROM dead_letters
   WHERE order_id = CAST(:id AS bigint) AND settled_as IS NULL),
  (SELECT count(*) FROM order_items
   WHERE order_id = CAST(:id AS bigint) AND status <> ALL(CAST(:final AS smallint[]))),
  CAST((SELECT json_object_agg(destination, n) FROM (
    SELECT destination, count(*) AS n FROM sent_events
    WHERE order_id = CAST(:id AS bigint) GROUP BY destination) sent) AS text)
""",
)
_COUNT_KEYS = named(
    "users.count_keys",
    """
SELECT count(*), has_table_privilege('order_history', 'UPDATE')
FROM idempotency_records WHERE user_id = CAST(:user_id AS uuid)
""",
)


def preview(engine: Engine, user_id: UUID) -> Preview:
    """Return what erasing a user would do; raise NotFoundError if nothing is stored."""
    orders = orders_of(engine, user_id)
    obstacles: list[str] = []
    told: dict[str, int] = {}
    final = sorted(int(status) for status in FINAL)
    with connect(engine) as connection:
        given = {"user_id": str(user_id)}
        keys, is_owner = connection.execute(_COUNT_KEYS, given).one()
        if not is_owner:
            obstacles.append("only the tables' owner may erase: run it as who migrates")
        for order_id in orders:
            pending, dead, open_, sent = connection.execute(
                _OBSTACLES, {"id": order_id, "final": final}
            ).one()
            for number, what in (
                (open_, "items that are not final"),
                (pending, "events that are not sent"),
                (dead, "open dead letters"),
            ):
                if number:
                    obstacles.append(f"order {order_id} has {number} {what}")
            for name, count in json.decode(sent or "{}").items():
                told[name] = told.get(name, 0) + count
    if not orders and not keys:
        raise NotFoundError(f"Nothing is stored of user {user_id}.")
    return Preview(orders, keys, obstacles, told)


# `erased` is the id that takes the user's place. In the order in which a write locks:
# the order first. Bodies name the user as text, so that a body stays what it was
# otherwise; the digest that the audit compares is that of what is left.
# The history's trigger lets pass what is erased of this order.
_ERASE = tuple(
    named(f"users.erase_{name}", sql)
    for name, sql in {
        "begin": "SELECT set_config('orders.erasing', CAST(:id AS text), true)",
        "order": """
UPDATE orders SET user_id = CAST(:erased AS uuid), metadata = '{}',
  version = version + 1
WHERE id = CAST(:id AS bigint) AND user_id = CAST(:user_id AS uuid)
""",
        "items": """
UPDATE order_items SET user_id = CAST(:erased AS uuid)
WHERE order_id = CAST(:id AS bigint) AND user_id = CAST(:user_id AS uuid)
""",
        "lines": """
UPDATE ordered_lines SET user_id = CAST(:erased AS uuid)
WHERE order_id = CAST(:id AS bigint) AND user_id = CAST(:user_id AS uuid)
""",
        "events": """
UPDATE sent_events
SET body = replace(body, CAST(:user_id AS text), CAST(:erased AS text))
WHERE order_id = CAST(:id AS bigint)
""",
        "dead_letters": """
UPDATE dead_letters
SET body = CAST(replace(encode(body, 'escape'), CAST(:user_id AS text),
    CAST(:erased AS text)) AS bytea),
  headers = CAST(replace(CAST(headers AS text), CAST(:user_id AS text),
    CAST(:erased AS text)) AS jsonb)
WHERE order_id = CAST(:id AS bigint)
""",
        "history": f"""
UPDATE order_history h SET
  changed_by = CASE WHEN h.changed_by = CAST(:user_id AS uuid)
    THEN CAST(:erased AS uuid) ELSE h.changed_by END,
  event_digest = coalesce((
    SELECT substr(sha256(convert_to(s.body, 'UTF8')), 1, {DIGEST_BYTES})
    FROM sent_events s
    WHERE s.order_id = h.order_id AND s.event_id = h.event_id
      AND s.destination <> '{ANALYTICS}' LIMIT 1), (
    SELECT substr(sha256(d.body), 1, {DIGEST_BYTES}) FROM dead_letters d
    WHERE d.order_id = h.order_id AND d.event_id = CAST(h.event_id AS text)
      AND d.source = 'outbox' AND d.destination <> '{ANALYTICS}' LIMIT 1),
    h.event_digest)
WHERE h.order_id = CAST(:id AS bigint)
""",  # noqa: S608 fragments of our own
        "cart": """
UPDATE idempotency_records SET user_id = CAST(:erased AS uuid),
  body = replace(body, CAST(:user_id AS text), CAST(:erased AS text))
WHERE order_id = CAST(:id AS bigint) AND user_id = CAST(:user_id AS uuid)
""",
        # What was entered as metadata; who did it, when and why stays.
        "actions": """
UPDATE operator_actions SET given = given || jsonb_build_object('value', 'erased')
WHERE order_id = CAST(:id AS bigint) AND given ? 'value'
""",
    }.items()
)
_ERASE_KEYS = named(
    "users.erase_keys",
    """
DELETE FROM idempotency_records
WHERE user_id = CAST(:user_id AS uuid) AND order_id IS NULL
""",
)


class Erased(Struct, frozen=True):
    """What was erased, and the id that took the user's place."""

    orders: list[int]
    keys: int
    erased: UUID


def erase(
    engine: Engine, user_id: UUID, *, reason: str, operator: str | None = None
) -> Erased:
    """Erase who a user is, and record it without their id; safe to repeat.

    Each order is one transaction. Raise NotFoundError, or ConflictError if something
    is in the way.
    """
    planned = preview(engine, user_id)
    if planned.obstacles:
        raise ConflictError("; ".join(planned.obstacles[:5]))
    erased = uuid.uuid4()
    who = {"user_id": str(user_id), "erased": str(erased)}
    new = NewAction(
        action="erase-user",
        reason=reason,
        given={"as": str(erased), "orders": str(len(planned.orders))},
        operator=operator,
    )
    with actions.recorded(engine, new) as outcome:
        for order_id in planned.orders:
            with transaction(engine) as connection:
                _erase_order(connection, who | {"id": order_id})
        with connect(engine) as connection:
            given = {"user_id": str(user_id)}
            keys = connection.execute(_ERASE_KEYS, given).rowcount
        outcome.text = f"erased in {len(planned.orders)} orders and {keys} responses"
    return Erased(planned.orders, keys, erased)


def _erase_order(connection: Connection, given: dict[str, Any]) -> None:
    for statement in _ERASE:
        connection.execute(statement, given)
