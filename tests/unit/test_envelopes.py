"""Incoming events in every envelope they come in, and those nobody can read."""

import base64
import json
from typing import Any

import pytest

from common.envelopes import Incoming, UnreadableError, read
from common.events import status_updated
from common.schemas import MAX_ID
from tests.support import bodies
from tests.support.factories import NOW, item

TYPE = "order.item.status.updated"
OWN = json.loads(status_updated(item(status=3), 2, NOW).body)
READ = Incoming(TYPE, 4)
BINARY = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-type": TYPE,
    "ce-source": "/order-service",
}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
EVENTARC = BINARY | {"ce-type": MESSAGE_PUBLISHED}


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def pushed(body: object) -> dict[str, Any]:
    """Answer what Pub/Sub pushes, with all that it adds."""
    message = {
        "data": encoded(body),
        "attributes": {"event_type": "order.item.status.updated"},
        "messageId": "1",
        "orderingKey": "4",
    }
    subscription = "projects/p/subscriptions/s"
    return {"message": message, "subscription": subscription, "deliveryAttempt": 5}


def structured(**content: Any) -> dict[str, Any]:
    attributes = {"specversion": "1.0", "id": "1", "source": "/x", "type": TYPE}
    return attributes | content


ENVELOPES: dict[str, tuple[dict[str, str], object]] = {
    "binary": (BINARY, OWN),
    "structured": (STRUCTURED, structured(data=OWN)),
    "structured, base64": (STRUCTURED, structured(data_base64=encoded(OWN))),
    "Eventarc, binary": (EVENTARC, pushed(OWN)),
    "Eventarc, structured": (
        STRUCTURED,
        structured(type=MESSAGE_PUBLISHED, data=pushed(OWN)),
    ),
    "raw push": ({"content-type": "application/json"}, pushed(OWN)),
    "bare body": ({}, OWN),
    "unwrapped push": (BINARY | {"x-goog-pubsub-ordering-key": "4"}, OWN),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_event_is_read_from_every_envelope(name: str) -> None:
    headers, content = ENVELOPES[name]
    assert read(headers, json.dumps(content).encode()) == READ


def test_the_body_is_believed_where_the_envelope_names_another_type() -> None:
    headers = BINARY | {"ce-type": "order.created"}
    assert read(headers, json.dumps(OWN).encode()) == READ


@pytest.mark.parametrize(
    "body",
    [
        bodies.order_created(bodies.USER, []),
        bodies.order_item_created(),
        {"event_type": "somebody.elses", "order_id": "x"},
    ],
)
@pytest.mark.parametrize("wrap", [lambda body: body, pushed], ids=["bare", "pushed"])
def test_events_that_approval_does_not_follow_name_no_order(
    body: dict[str, Any], wrap: Any
) -> None:
    found = read({}, json.dumps(wrap(body)).encode())
    assert found == Incoming(body["event_type"], None)


@pytest.mark.parametrize("order_id", ["1", "04", str(MAX_ID)])
def test_an_order_id_is_a_numeric_string_of_64_bits(order_id: str) -> None:
    body = json.dumps(OWN | {"order_id": order_id}).encode()
    assert read({}, body).order_id == int(order_id)


@pytest.mark.parametrize(
    "order_id",
    [
        4,
        None,
        "",
        "0",
        "-4",
        "+4",
        " 4",
        "4\n",
        "4.0",
        "0x4",
        "\N{ARABIC-INDIC DIGIT FOUR}",
        bodies.USER,
        str(MAX_ID + 1),
        "0" * 19 + "1" + "9" * 50,
        "9" * 5000,
        ["4"],
    ],
)
def test_a_status_event_without_an_order_id_is_unreadable(order_id: object) -> None:
    with pytest.raises(UnreadableError, match="order_id"):
        read({}, json.dumps(OWN | {"order_id": order_id}).encode())


def without(*path: str, wrapped: dict[str, Any]) -> dict[str, Any]:
    """Answer a copy of `wrapped` without the member at `path`."""
    copied: dict[str, Any] = json.loads(json.dumps(wrapped))
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copied


ATTRIBUTES_ONLY = without("message", "data", wrapped=pushed(OWN))
UNREADABLE: dict[str, tuple[dict[str, str], object]] = {
    "attribute-only push": ({}, ATTRIBUTES_ONLY),
    "attribute-only, by Eventarc": (EVENTARC, ATTRIBUTES_ONLY),
    "push of nothing": ({}, {"message": {"data": ""}}),
    "push of null": ({}, {"message": {"data": None}}),
    "push of a list": ({}, pushed([OWN])),
    "push of text": ({}, {"message": {"data": base64.b64encode(b"hello").decode()}}),
    "base64 garbage": ({}, {"message": {"data": "!!!"}}),
    "base64, cut": ({}, {"message": {"data": encoded(OWN)[:-1]}}),
    "base64, with spaces": ({}, {"message": {"data": " " + encoded(OWN)}}),
    "base64, not ascii": ({}, {"message": {"data": "é"}}),
    "Eventarc without message": (EVENTARC, {"subscription": "s"}),
    "Eventarc around a bare body": (EVENTARC, OWN),
    "batch": ({"content-type": "application/cloudevents-batch+json"}, [OWN]),
    "structured batch": (STRUCTURED, [structured(data=OWN)]),
    "structured without data": (STRUCTURED, structured()),
    "structured with text": (STRUCTURED, structured(data=json.dumps(OWN))),
    "structured, base64 of garbage": (STRUCTURED, structured(data_base64="!")),
    "structured, base64 of null": (STRUCTURED, structured(data_base64=None)),
    "structured Eventarc without data": (
        STRUCTURED,
        structured(type=MESSAGE_PUBLISHED),
    ),
    "list": ({}, [OWN]),
    "text": ({}, "hello"),
    "null": ({}, None),
    "empty object": ({}, {}),
    "foreign": (BINARY, {"kind": "storage#object", "name": "x"}),
    "message is text": ({}, {"message": "hello"}),
    "event_type is no string": ({}, OWN | {"event_type": 5}),
    "event_type is null": ({}, OWN | {"event_type": None}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_can_never_be_understood_is_unreadable(name: str) -> None:
    headers, content = UNREADABLE[name]
    with pytest.raises(UnreadableError):
        read(headers, json.dumps(content).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        json.dumps(OWN).encode()[:-1],
        b"\xff\xfe",
        b'{"event_type": "\xff"}',
        b'{"event_type": "\\ud800"}',
        b"[" * 100_000,
        json.dumps(OWN).encode("utf-16"),
    ],
    ids=lambda body: body[:20],
)
@pytest.mark.parametrize("headers", [{}, BINARY, STRUCTURED, EVENTARC])
def test_a_truncated_or_broken_body_is_unreadable(
    headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(UnreadableError, match="not JSON"):
        read(headers, body)
