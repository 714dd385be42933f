"""Replies and messages that are not as the documents have them are noticed.

That is what all tests rely on that call a function or receive a message.
"""

import copy
import json
import re
from typing import Any

import pytest
from jsonschema_rs import ValidationError

from common import events, http
from common.api_docs.documents import parsed
from tests.support import documented
from tests.support.published import published
from tests.support.shapes import GONE

REPLY = parsed("openapi")["components"]["schemas"]["Item"]["examples"][0]
REPLY_HEADERS = {"Content-Type": http.JSON, "ETag": '"1"', "X-Request-ID": "r"}
BUSY = parsed("openapi")["components"]["examples"]["busy"]["value"]
PROBLEM = {"Content-Type": "application/problem+json", "X-Request-ID": "r"}


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (201, REPLY_HEADERS, REPLY),
        (200, REPLY_HEADERS | {"Colour": "red"}, REPLY),
        (200, {k: v for k, v in REPLY_HEADERS.items() if k != "X-Request-ID"}, REPLY),
        (200, REPLY_HEADERS | {"Content-Type": "text/html"}, REPLY),
        (200, REPLY_HEADERS, REPLY | {"colour": "red"}),
        (200, REPLY_HEADERS, REPLY | {"price": "1999"}),
        (200, REPLY_HEADERS, REPLY | {"shop_id": "mine"}),
        (200, REPLY_HEADERS, {k: v for k, v in REPLY.items() if k != "price"}),
        (503, PROBLEM, BUSY | {"type": "/problems/lost"}),
        (503, PROBLEM, BUSY | {"colour": "red"}),
        (500, PROBLEM, BUSY | {"type": "/problems/method-not-allowed"}),
        (418, PROBLEM, BUSY),
    ],
)
def test_a_reply_that_is_not_as_documented_is_noticed(
    status: int, headers: dict[str, str], body: dict[str, Any]
) -> None:
    operation = documented.operation_for("GET", "/api/order-items/9")
    assert operation
    documented.check(operation, 200, REPLY_HEADERS, json.dumps(REPLY).encode())
    documented.check(operation, 503, PROBLEM, json.dumps(BUSY).encode())
    with pytest.raises((AssertionError, ValidationError)):
        documented.check(operation, status, headers, json.dumps(body).encode())


EVENT_ID = "e0000000-0000-4000-8000-000000000001"
MESSAGE: dict[str, dict[str, Any]] = {
    "headers": {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": EVENT_ID,
        "cloudEvents:type": events.STATUS_UPDATED,
        "cloudEvents:source": "/order-service",
        "cloudEvents:subject": "4",
        "cloudEvents:time": "2025-12-02T08:30:00.000001+00:00",
    },
    "properties": {
        "message_id": EVENT_ID,
        "type": events.STATUS_UPDATED,
        "app_id": "order-service",
        "timestamp": 1764664200,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
    },
    "body": parsed("asyncapi")["components"]["messages"][events.STATUS_UPDATED][
        "examples"
    ][0]["payload"],
}


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("body", "shop_id", GONE, '"shop_id" is a required property'),
        ("body", "order_id", 4, '4 is not of type "string"'),
        ("body", "status", "3", '"3" is not of type "integer"'),
        ("body", "status", 5, "5 is greater than the maximum"),
        ("body", "shop_id", None, 'null is not of type "string"'),
        ("body", "shop_id", "mine", '"mine" is not a "uuid"'),
        ("body", "occurred_at", "today", '"today" is not a "date-time"'),
        ("body", "colour", "red", "'colour' was unexpected"),
        ("body", "event_type", "order.created", "event_type"),
        ("body", "order_id", "5", "order 5, but headers say {'4'}"),
        ("headers", "cloudEvents:id", GONE, '"cloudEvents:id" is a required'),
        ("headers", "cloudEvents:type", "order.created", "says order.created"),
        ("headers", "tenant", "7", "'tenant' was unexpected"),
        ("headers", "traceparent", "me", '"me" does not match'),
        ("properties", "app_id", GONE, '"app_id" is a required property'),
        ("properties", "type", "order.created", "says order.created"),
        ("properties", "delivery_mode", 1, "2 was expected"),
        ("properties", "timestamp", "now", '"now" is not of type "integer"'),
        ("properties", "message_id", "mine", "message_id"),
    ],
)
def test_a_message_that_is_not_as_documented_is_noticed(
    part: str, name: str, value: object, said: str
) -> None:
    def hold(message: dict[str, dict[str, Any]]) -> None:
        body = json.dumps(message["body"])
        kind = events.STATUS_UPDATED
        published("rabbitmq", kind, message["headers"], body, message["properties"])

    hold(MESSAGE)
    broken = copy.deepcopy(MESSAGE)
    if value is GONE:
        del broken[part][name]
    else:
        broken[part][name] = value
    with pytest.raises(AssertionError, match=re.escape(said)):
        hold(broken)


def test_a_message_that_nobody_has_documented_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"order\.lost is not documented"):
        published("http", "order.lost", {}, "{}")
