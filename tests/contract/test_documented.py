"""Replies and messages that are not as the documents have them are noticed.

That is what all tests rely on that call a function or receive a message.
"""

import json
from typing import Any

import pytest
from jsonschema_rs import ValidationError

from common.api_docs.documents import parsed
from common.domain import events
from common.web import replies
from tests.support import documented
from tests.support.published import published

REPLY = parsed("openapi")["components"]["schemas"]["Item"]["examples"][0]
HEADERS = {"Content-Type": replies.JSON, "ETag": '"1"', "X-Request-ID": "r"}
BUSY = parsed("openapi")["components"]["examples"]["busy"]["value"]
PROBLEM = {"Content-Type": "application/problem+json", "X-Request-ID": "r"}


def test_a_reply_that_is_not_as_documented_is_noticed() -> None:
    operation = documented.operation_for("GET", "/api/order-items/9")
    assert operation
    documented.check(operation, 200, HEADERS, json.dumps(REPLY).encode())
    documented.check(operation, 503, PROBLEM, json.dumps(BUSY).encode())
    for status, headers, body in (
        (201, HEADERS, REPLY),
        (200, HEADERS | {"Colour": "red"}, REPLY),
        (200, HEADERS | {"Content-Type": "text/html"}, REPLY),
        (200, HEADERS, REPLY | {"colour": "red"}),
        (200, HEADERS, REPLY | {"price": "1999"}),
        (503, PROBLEM, BUSY | {"type": "/problems/lost"}),
    ):
        with pytest.raises((AssertionError, ValidationError)):
            documented.check(operation, status, headers, json.dumps(body).encode())


KIND = events.STATUS_UPDATED
[EXAMPLE] = parsed("asyncapi")["components"]["messages"][KIND]["examples"]
ID = "e0000000-0000-4000-8000-000000000001"
MESSAGE: dict[str, dict[str, Any]] = {
    "headers": {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": ID,
        "cloudEvents:type": KIND,
        "cloudEvents:source": "/order-service",
        "cloudEvents:subject": "4",
        "cloudEvents:time": "2025-12-02T08:30:00.000001+00:00",
    },
    "properties": {
        "message_id": ID,
        "type": KIND,
        "app_id": "order-service",
        "timestamp": 1764664200,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
    },
    "body": EXAMPLE["payload"],
}


def hold(message: dict[str, dict[str, Any]], kind: str = KIND) -> None:
    body = json.dumps(message["body"])
    published("rabbitmq", kind, message["headers"], body, message["properties"])


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("body", {"order_id": 4}),
        ("body", {"order_id": "5"}),
        ("body", {"colour": "red"}),
        ("headers", {"cloudEvents:type": "order.created"}),
        ("headers", {"tenant": "7"}),
        ("properties", {"delivery_mode": 1}),
        ("properties", {"message_id": "mine"}),
    ],
)
def test_a_message_that_is_not_as_documented_is_noticed(
    part: str, changed: dict[str, object]
) -> None:
    hold(MESSAGE)
    with pytest.raises(AssertionError):
        hold(MESSAGE | {part: MESSAGE[part] | changed})
    with pytest.raises(AssertionError, match=r"order\.lost is not documented"):
        hold(MESSAGE, "order.lost")
