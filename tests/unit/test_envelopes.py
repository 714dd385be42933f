"""Incoming events in every envelope they come in, and those nobody can read."""

import base64
import gzip
import json
from typing import Any

import pytest

from common.domain.events import OrderedLine, order_created, status_updated
from common.domain.model import MAX_ID, MAX_QUANTITY
from common.messaging.envelopes import Incoming, UnreadableError, read
from tests.support import approvals, bodies
from tests.support.approvals import MESSAGE_PUBLISHED
from tests.support.factories import NOW, item, order

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
EVENTARC = BINARY | {"ce-type": MESSAGE_PUBLISHED}


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def pushed(body: object, attributes: object = None) -> dict[str, Any]:
    """Return what Pub/Sub pushes, with all that it adds."""
    message = {
        "data": encoded(body),
        "attributes": attributes or {"event_type": "order.item.status.updated"},
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
    "structured, text": (STRUCTURED, structured(data=json.dumps(OWN))),
    "structured, shouted": (
        {"content-type": "APPLICATION/CloudEvents+JSON;Charset=UTF-8"},
        structured(data=OWN),
    ),
    "Eventarc, binary": (EVENTARC, pushed(OWN)),
    "Eventarc, structured": (
        STRUCTURED,
        structured(type=MESSAGE_PUBLISHED, data=pushed(OWN)),
    ),
    "Eventarc, structured, base64": (
        STRUCTURED,
        structured(type=MESSAGE_PUBLISHED, data_base64=encoded(pushed(OWN))),
    ),
    "raw push": ({"content-type": "application/json"}, pushed(OWN)),
    "raw push, charset": (
        {"content-type": "application/json; charset=utf-8"},
        pushed(OWN),
    ),
    "raw push of a structured event": (
        {"content-type": "application/json"},
        pushed(structured(data=OWN), {"Content-Type": "application/cloudevents+json"}),
    ),
    "raw push with attributes that are none": ({}, pushed(OWN, 7)),
    "bare body": ({}, OWN),
    "bare body with a message in it": ({}, OWN | {"message": {"data": "e30="}}),
    "unwrapped push": (BINARY | {"x-goog-pubsub-ordering-key": "4"}, OWN),
    "content-encoding that is none": ({"content-encoding": "identity"}, OWN),
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
        {"event_type": "order.approved", "order_id": "4"},
        {"event_type": "order.deleted", "order_id": "x"},
    ],
)
@pytest.mark.parametrize("wrap", [lambda body: body, pushed], ids=["bare", "pushed"])
def test_other_events_of_ours_name_no_order(body: dict[str, Any], wrap: Any) -> None:
    found = read({}, json.dumps(wrap(body)).encode())
    assert found == Incoming(body["event_type"], None)


@pytest.mark.parametrize(
    "event_type", ["somebody.elses", "", "Order.Created", "order.item", "\0", "x" * 999]
)
@pytest.mark.parametrize("wrap", [lambda body: body, pushed], ids=["bare", "pushed"])
def test_event_that_is_none_of_ours_is_unreadable(event_type: str, wrap: Any) -> None:
    body = {"event_type": event_type, "order_id": "4"}
    with pytest.raises(UnreadableError, match=r"^event_type '.*' is foreign") as found:
        read({}, json.dumps(wrap(body)).encode())
    assert len(str(found.value)) < 200
    assert "\0" not in str(found.value)


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
    """Return a copy of `wrapped` without the member at `path`."""
    copied: dict[str, Any] = json.loads(json.dumps(wrapped))
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copied


NO_DATA = without("message", "data", wrapped=pushed(OWN))
NO_TYPE = without("event_type", wrapped=OWN)
BATCH = "application/cloudevents-batch+json; charset=utf-8"
# Each with the sentence that tells an operator of it.
UNREADABLE: dict[str, tuple[dict[str, str], object, str]] = {
    "attribute-only push": ({}, NO_DATA, "^message.data is missing or empty"),
    "attribute-only, by Eventarc": (EVENTARC, NO_DATA, "^message.data is missing"),
    "push of nothing": ({}, {"message": {"data": ""}}, "^message.data is missing"),
    "push of null": ({}, {"message": {"data": None}}, "^message.data is missing"),
    "push of a number": ({}, {"message": {"data": 7}}, "^message.data must be a str"),
    "push of a list": ({}, pushed([OWN]), "^message.data is an array"),
    "push of text": (
        {},
        {"message": {"data": base64.b64encode(b"hello").decode()}},
        "^message.data is not JSON$",
    ),
    "push of gzip": (
        {},
        {
            "message": {
                "data": base64.b64encode(gzip.compress(b"{}")).decode(),
                "attributes": {"Content-Encoding": "gzip"},
            }
        },
        "^message.data is not JSON: its content-encoding is 'gzip'$",
    ),
    "push of a batch": (
        {},
        pushed([structured(data=OWN)], {"content-type": BATCH}),
        "^message.data is a batch: events must come one by one$",
    ),
    "push of a foreign type": (
        {},
        pushed(NO_TYPE, {"event_type": "x.y"}),
        "^the body has no event_type; its envelope says 'x.y'$",
    ),
    "base64 garbage": ({}, {"message": {"data": "!!!"}}, "^message.data must be base"),
    "base64, cut": ({}, {"message": {"data": encoded(OWN)[:-1]}}, "must be base64$"),
    "base64, with spaces": ({}, {"message": {"data": " " + encoded(OWN)}}, "base64$"),
    "base64, not ascii": ({}, {"message": {"data": "é"}}, "must be base64$"),
    "Eventarc without message": (EVENTARC, {"subscription": "s"}, "^message must be"),
    "Eventarc around a bare body": (EVENTARC, OWN, "^message must be a JSON object$"),
    "Eventarc around a list": (EVENTARC, {"message": [OWN]}, "^message must be"),
    "batch": ({"content-type": BATCH}, [OWN], "^the body is a batch"),
    "batch that is none": ({"content-type": BATCH}, OWN, "^the body is a batch"),
    "structured batch": (STRUCTURED, [structured(data=OWN)], "^the body is an array"),
    "structured without data": (STRUCTURED, structured(), "^data is missing or empty"),
    "structured with null": (STRUCTURED, structured(data=None), "^data is missing"),
    "structured with a list": (STRUCTURED, structured(data=[OWN]), "^data is an array"),
    "structured with a number": (
        STRUCTURED,
        structured(data=5),
        "^data must be a JSON",
    ),
    "structured with text": (STRUCTURED, structured(data="hi"), "^data is not JSON$"),
    "structured with no text": (STRUCTURED, structured(data=""), "is empty$"),
    "structured, base64 of garbage": (
        STRUCTURED,
        structured(data_base64="!"),
        "^data_base64 must be base64$",
    ),
    "structured, base64 of null": (
        STRUCTURED,
        structured(data_base64=None),
        "^data_base64 must be a string$",
    ),
    "structured Eventarc without data": (
        STRUCTURED,
        structured(type=MESSAGE_PUBLISHED),
        "^data is missing",
    ),
    "list": ({}, [OWN], "^the body is an array, not the object of one event$"),
    "text": ({}, "hello", "^the body must be a JSON object$"),
    "null": ({}, None, "^the body must be a JSON object$"),
    "empty object": ({}, {}, "^the body has no event_type$"),
    "foreign": (
        BINARY | {"ce-type": "google.cloud.storage.object.v1.finalized"},
        {"kind": "storage#object", "name": "x"},
        "^the body has no event_type; its envelope says 'google.cloud.storage",
    ),
    "message is text": ({}, {"message": "hello"}, "^the body has no event_type$"),
    "event_type is no string": ({}, OWN | {"event_type": 5}, "^event_type must be a"),
    "event_type is null": ({}, OWN | {"event_type": None}, "has no event_type$"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_can_never_be_understood_is_unreadable(name: str) -> None:
    headers, content, reason = UNREADABLE[name]
    with pytest.raises(UnreadableError, match=reason):
        read(headers, json.dumps(content).encode())


def test_a_broken_body_is_not_called_compressed_where_it_says_it_is_not() -> None:
    with pytest.raises(UnreadableError, match=r"^the body is not JSON$"):
        read(BINARY | {"content-encoding": "identity"}, b"{")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip"])
def test_a_compressed_body_is_unreadable_and_the_reason_says_so(encoding: str) -> None:
    body = gzip.compress(json.dumps(OWN).encode())
    with pytest.raises(UnreadableError, match=f"content-encoding is '{encoding}'"):
        read(BINARY | {"content-encoding": encoding}, body)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", json.dumps(OWN).encode()[:-1], b"\xff\xfe", b'{"event_type": "\xff"}'),
        *(b'{"event_type": "\\ud800"}', b"[" * 100_000),
        json.dumps(OWN).encode("utf-16"),
    ],
    ids=lambda body: body[:20],
)
@pytest.mark.parametrize("headers", [{}, BINARY, STRUCTURED, EVENTARC])
def test_broken_body_is_unreadable(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(UnreadableError, match="not JSON"):
        read(headers, body)


@pytest.mark.parametrize("envelope", approvals.ENVELOPES)
def test_an_event_of_a_full_order_is_not_too_large(envelope: Any) -> None:
    items = [item(id=n, quantity=MAX_QUANTITY) for n in range(1, 1001)]
    lines = [OrderedLine(each.product_variation, each.quantity) for each in items]
    event = order_created(order(*items, id=MAX_ID), MAX_ID, lines)
    headers, body = envelope(event.body.encode())
    headers = {name.lower(): value for name, value in headers.items()}
    assert read(headers, body) == Incoming("order.created", None)
