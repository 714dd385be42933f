"""Orders about to be approved, and the envelopes in which a trigger may come.

The sandbox delivers no status event by itself in tests, so an order stays unapproved
until a test triggers approval.
"""

import base64
import json
import random
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.approval import KEPT_BODY_BYTES
from common.messaging.envelopes import MAX_EVENT_BYTES
from tests.support.bodies import STATUS_UPDATED
from tests.support.service import Service

DELIVERED, CANCELLED = 3, 4
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"


def completed(service: Service, user: str, *statuses: int) -> dict[str, Any]:
    """Return an order, one item for each of these final statuses, not yet approved."""
    order = service.ordered(user, *range(1, len(statuses) + 1))
    for item, status in zip(order["items"], statuses, strict=True):
        assert service.move(item["id"], status).status_code == 200
    return order


def is_approved(service: Service, order_id: int) -> bool:
    [row] = service.rows("SELECT is_approved FROM orders WHERE id = :id", id=order_id)
    return bool(row["is_approved"])


def dead_letters(service: Service) -> list[dict[str, Any]]:
    return service.rows("SELECT * FROM dead_letters ORDER BY id")


def kept(body: bytes) -> bytes:
    """Return what a dead letter keeps of a message's body."""
    return body if len(body) <= MAX_EVENT_BYTES else body[:KEPT_BODY_BYTES]


Envelope = tuple[dict[str, str], bytes]  # headers, body


def _attributes(event_type: str = STATUS_UPDATED) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "type": event_type,
        "source": "/order-service",
    }


def _push(content: bytes) -> dict[str, Any]:
    message = {
        "data": base64.b64encode(content).decode(),
        "messageId": "1",
        "orderingKey": "4",
        "attributes": {"event_type": STATUS_UPDATED},
    }
    subscription = "projects/p/subscriptions/s"
    return {"message": message, "subscription": subscription, "deliveryAttempt": 2}


def binary(content: bytes) -> Envelope:
    headers = {f"ce-{name}": value for name, value in _attributes().items()}
    return headers | {"Content-Type": "application/json"}, content


def structured(content: bytes) -> Envelope:
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    event = _attributes() | {"data": json.loads(content)}
    return headers, json.dumps(event).encode()


def structured_base64(content: bytes) -> Envelope:
    headers = {"Content-Type": "application/cloudevents+json"}
    event = _attributes() | {"data_base64": base64.b64encode(content).decode()}
    return headers, json.dumps(event).encode()


def eventarc(content: bytes) -> Envelope:
    headers = {
        f"ce-{name}": value for name, value in _attributes(MESSAGE_PUBLISHED).items()
    }
    body = json.dumps(_push(content)).encode()
    return headers | {"Content-Type": "application/json"}, body


def eventarc_structured(content: bytes) -> Envelope:
    headers = {"Content-Type": "application/cloudevents+json"}
    event = _attributes(MESSAGE_PUBLISHED) | {"data": _push(content)}
    return headers, json.dumps(event).encode()


def raw_push(content: bytes) -> Envelope:
    return {"Content-Type": "application/json"}, json.dumps(_push(content)).encode()


def unwrapped_push(content: bytes) -> Envelope:
    headers = {f"ce-{name}": value for name, value in _attributes().items()}
    return headers | {"x-goog-pubsub-ordering-key": "4"}, content


ENVELOPES = (
    binary,
    structured,
    structured_base64,
    eventarc,
    eventarc_structured,
    raw_push,
    unwrapped_push,
)


# What is recorded in tests/envelopes, all about this order and this event.

RECORDINGS = Path(__file__).parents[1] / "envelopes"
RECORDED_ORDER = 4
RECORDED_EVENT = "7d1c2a90-3f0e-4a53-9a44-0f2d4c1b8e11"
RECORDED = sorted(path.stem for path in RECORDINGS.glob("*.http"))
# With nothing in it that approval could understand.
ATTRIBUTES_ONLY = [name for name in RECORDED if name.endswith("_attributes_only")]
GIVEN_UP = [name for name in RECORDED if name.startswith("given_up_")]
EVENTS = [name for name in RECORDED if name not in ATTRIBUTES_ONLY + GIVEN_UP]


def recorded_bytes(name: str) -> bytes:
    """Return a whole request, to be sent as it is."""
    return (RECORDINGS / f"{name}.http").read_bytes()


def recorded(name: str) -> Envelope:
    """Return a recording as a server hands it on: headers by lower-case name, body."""
    head, body = recorded_bytes(name).split(b"\r\n\r\n", 1)
    pairs = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value for name, _, value in pairs}, body


def sendable(headers: dict[str, str]) -> dict[str, str]:
    """Leave out what a test client writes itself, and what gunicorn drops."""
    own = ("host", "connection", "content-length")
    return {k: v for k, v in headers.items() if k not in own and "_" not in k}


def next_order_is(service: Service, order_id: int) -> None:
    """Have the next order made get this id."""
    sequence = "pg_get_serial_sequence('orders', 'id')"
    service.rows(f"SELECT setval({sequence}, :last)", last=order_id - 1)


_MEDIA_TYPES = (
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/x-www-form-urlencoded",
    "APPLICATION/CLOUDEVENTS+JSON;charset=utf-16",
    ";",
    "",
)
_EVENT_TYPES = (STATUS_UPDATED, MESSAGE_PUBLISHED, "order.created", "x", "")
_NONSENSE: tuple[Any, ...] = (
    *(None, True, 0, -1, 4, 2**70, 1.5, "", "4", "x", "e30=", "\0", "\ud800"),
    *([], ["4"], {}, {"message": {}}, {"data": {"data": "e30="}}, [[[[]]]]),
)


def spoiled(seed: int, count: int) -> Iterator[Envelope]:
    """Return recordings to which something was done: the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        headers, body = recorded(chance.choice(RECORDED))
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            spoil = chance.choice((_spoil_headers, _spoil_bytes, _spoil_json))
            headers, body = spoil(chance, headers, body)
        yield headers, body


def _spoil_headers(
    chance: random.Random, headers: dict[str, str], body: bytes
) -> Envelope:
    changed = dict(headers)
    if changed and chance.random() < 0.4:
        del changed[chance.choice(sorted(changed))]
    changed |= chance.choice(
        (
            {"content-type": chance.choice(_MEDIA_TYPES)},
            {"ce-type": chance.choice(_EVENT_TYPES)},
            {"content-encoding": chance.choice(("gzip", "identity", ""))},
            {},
        )
    )
    return changed, body


def _spoil_bytes(
    chance: random.Random, headers: dict[str, str], body: bytes
) -> Envelope:
    place = chance.randrange(len(body) + 1)
    noise = chance.randbytes(chance.randrange(1, 4))
    pieces = (
        body[:place],
        body[place:],
        body[:place] + noise + body[place:],
        body[:place] + noise + body[place + len(noise) :],
        body + body,
        b"[" + body + b"]",
        body.decode("latin-1").encode("utf-16"),
    )
    return headers, chance.choice(pieces)


def _spoil_json(
    chance: random.Random, headers: dict[str, str], body: bytes
) -> Envelope:
    """Change one member: of the body, of the base64 in it, or of what that contains."""
    try:
        content = json.loads(body)
    except ValueError:
        return headers, body
    holders = [holder for holder in _objects(content) if holder]
    if not holders:
        return headers, body
    holder = chance.choice(holders)
    name = chance.choice(sorted(holder))
    value = holder[name]
    if isinstance(value, str) and re.fullmatch(r"([A-Za-z0-9+/]{4}){20,}", value):
        spoil = chance.choice((_spoil_json, _spoil_bytes))
        _, inner = spoil(chance, {}, base64.b64decode(value))
        holder[name] = base64.b64encode(inner).decode()
    elif chance.random() < 0.3:
        del holder[name]
    else:
        holder[name] = chance.choice(_NONSENSE)
    return headers, json.dumps(content).encode()


def _objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for member in value.values():
            yield from _objects(member)
