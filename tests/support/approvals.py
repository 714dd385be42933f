"""Orders on the brink of approval, and the envelopes that a trigger may come in.

Lives here: states and wire formats for tests of approval. Not here: assertions.
Surprise: the sandbox delivers no status event by itself in tests, so an order stays
complete and unapproved until a test triggers it.
"""

import base64
import json
import uuid
from typing import Any

from tests.support.service import Service

DELIVERED, CANCELLED = 3, 4
STATUS_UPDATED = "order.item.status.updated"
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"


def completed(service: Service, user: str, *statuses: int) -> dict[str, Any]:
    """Answer an order, one item for each of these final statuses, not yet approved."""
    order = service.ordered(user, *range(1, len(statuses) + 1))
    for item, status in zip(order["items"], statuses, strict=True):
        assert service.move(item["id"], status).status_code == 200
    return order


def is_approved(service: Service, order_id: int) -> bool:
    [row] = service.rows("SELECT is_approved FROM orders WHERE id = :id", id=order_id)
    return bool(row["is_approved"])


def dead_letters(service: Service) -> list[dict[str, Any]]:
    return service.rows("SELECT * FROM dead_letters ORDER BY id")


def status_event(order_id: object, /, **changes: object) -> dict[str, Any]:
    """Answer the body of a status event, as the contract spells it."""
    body = {
        "event_type": STATUS_UPDATED,
        "order_item_id": "1",
        "order_id": str(order_id),
        "shop_id": "50000000-0000-4000-8000-000000000001",
        "status": 3,
        "previous_status": 2,
        "occurred_at": "2025-12-01T10:00:00.000000Z",
    }
    return body | changes


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
