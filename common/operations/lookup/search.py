"""One search for all that an operator may have in hand: a number, a UUID, a text.

Each kind of thing is one look-up in an index, so that a search costs the same however
many orders there are.
"""

import re
from urllib.parse import quote

from msgspec import Struct

from common.database.engine import Connection, named
from common.domain.model import MAX_ID, parse_uuid
from common.operations.lookup import find

MAX_TEXT = 500
_MANY = 20  # orders of one request, or with one text


class Hit(Struct, frozen=True):
    """Something found: what it is, and where it is shown, below the console's root."""

    what: str
    path: str


# An order whose history is known may be deleted. Items and orders share numbers.
_NUMBER = named(
    "search.number",
    """
SELECT 'order', CAST(:id AS bigint)
WHERE EXISTS (SELECT FROM orders WHERE id = CAST(:id AS bigint))
  OR EXISTS (SELECT FROM order_history WHERE order_id = CAST(:id AS bigint))
UNION ALL
SELECT 'item', order_id FROM order_items WHERE id = CAST(:id AS bigint)
UNION ALL
SELECT 'removed item', order_id FROM deleted_items WHERE id = CAST(:id AS bigint)
UNION ALL
SELECT 'dead letter', id FROM dead_letters WHERE id = CAST(:id AS bigint)
""",
)
_UUID = named(
    "search.uuid",
    """
(SELECT 'user', id FROM orders WHERE user_id = CAST(:id AS uuid) LIMIT 1)
UNION ALL
(SELECT 'shop', order_id FROM order_items WHERE shop_id = CAST(:id AS uuid) LIMIT 1)
UNION ALL
(SELECT 'variation', order_id FROM order_items
 WHERE product_variation = CAST(:id AS uuid) LIMIT 1)
UNION ALL
(SELECT 'event', order_id FROM order_history
 WHERE event_id = CAST(:id AS uuid) LIMIT 1)
""",
)
_TEXT = named(
    "search.text",
    f"""
(SELECT 'request', order_id FROM order_history
 WHERE request_id = CAST(:text AS text) GROUP BY order_id LIMIT {_MANY})
UNION ALL
(SELECT 'dead letter', id FROM dead_letters
 WHERE event_id = CAST(:text AS text) LIMIT {_MANY})
""",  # noqa: S608 fragments of our own
)


def search(connection: Connection, text: str) -> list[Hit]:
    """Return what a text names: the most likely thing first, nothing if it is empty.

    A number is an order or an item; a UUID a user, shop, variation, event or request;
    anything may be a request's id or a value of an order's metadata.
    """
    text = text.strip()[:MAX_TEXT].replace("\0", "")
    if not text:
        return []
    hits: list[Hit] = []
    if re.fullmatch(r"#?[0-9]{1,19}", text):
        hits += _of_number(connection, int(text.removeprefix("#")))
    if (uuid := parse_uuid(text)) is not None:
        rows = connection.execute(_UUID, {"id": str(uuid)})
        hits += [_of_uuid(what, id_, str(uuid)) for what, id_ in rows]
    for spelled in dict.fromkeys((text, *([str(uuid)] if uuid else []))):
        for what, id_ in connection.execute(_TEXT, {"text": spelled}):
            hits.append(_numbered(what, id_, spelled))
        hits += _of_metadata(connection, spelled)
    return list({hit.path: hit for hit in reversed(hits)}.values())[::-1]


def _of_number(connection: Connection, number: int) -> list[Hit]:
    if not 1 <= number <= MAX_ID:
        return []
    rows = connection.execute(_NUMBER, {"id": number}).all()
    return [_numbered(what, id_, str(number)) for what, id_ in rows]


def _numbered(what: str, id_: int, text: str) -> Hit:
    match what:
        case "order":
            return Hit(f"Order {id_}", f"orders/{id_}/")
        case "dead letter":
            return Hit(f"Dead letter {id_}", f"letters/{id_}/")
        case "request":
            return Hit(f"Request {text}: order {id_}", f"orders/{id_}/")
        case _:
            anchor = f"#item-{text}" if what == "item" else ""
            return Hit(
                f"{what.capitalize()} {text} of order {id_}", f"orders/{id_}/{anchor}"
            )


def _of_uuid(what: str, order_id: int, uuid: str) -> Hit:
    if what == "event":
        return Hit(f"Event {uuid} of order {order_id}", f"events/{order_id}/{uuid}/")
    name = {"user": "user_id", "shop": "shop_id"}.get(what, "product_variation")
    return Hit(f"Orders of {what} {uuid}", f"orders/?{name}={uuid}")


def _of_metadata(connection: Connection, text: str) -> list[Hit]:
    found = find.find(connection, {"metadata": text}, limit=_MANY).rows
    if not found:
        return []
    if len(found) == 1:
        return [Hit(f"Order {found[0].id}, by its metadata", f"orders/{found[0].id}/")]
    return [Hit(f"Orders with the metadata {text}", f"orders/?metadata={quote(text)}")]
