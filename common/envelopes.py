"""Incoming events: from whatever envelope they arrive in to what approval needs.

Lives here: CloudEvents in binary and structured mode, Pub/Sub's push and Eventarc's
`messagePublished`, and the bare body that RabbitMQ carries. Not here: what is done
about an event. Surprise: the envelope's own type is not trusted where the body says it
too; the body is what the publisher signed off.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from common.events import STATUS_UPDATED
from common.schemas import MAX_ID

MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"


class UnreadableError(Exception):
    """The message is none that approval can ever understand; the text says why."""


class Incoming(Struct, frozen=True):
    """An event that arrived. `order_id` is None for events that approval ignores."""

    type: str
    order_id: int | None


def read(headers: Mapping[str, str], body: bytes) -> Incoming:
    """Answer the event in `body`; `headers` by lower-case name.

    Raises UnreadableError where no redelivery could ever help.
    """
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    content = _object(body)
    if content_type == "application/cloudevents+json":
        return _from_structured(content)
    if headers.get("ce-type") == MESSAGE_PUBLISHED:
        return _from_push(content)
    if "event_type" in content:
        return _from_body(content)
    if isinstance(content.get("message"), dict):
        return _from_push(content)
    raise UnreadableError("the body has no event_type")


def _from_structured(content: dict[str, Any]) -> Incoming:
    if content.get("type") == MESSAGE_PUBLISHED:
        return _from_push(_as_object(content.get("data")))
    if "data_base64" in content:
        return _from_body(_object(_decoded(content["data_base64"])))
    return _from_body(_as_object(content.get("data")))


def _from_push(content: dict[str, Any]) -> Incoming:
    message = _as_object(content.get("message"))
    return _from_body(_object(_decoded(message.get("data"))))


def _from_body(content: dict[str, Any]) -> Incoming:
    event_type = content.get("event_type")
    if not isinstance(event_type, str):
        raise UnreadableError("event_type is not a string")
    if event_type != STATUS_UPDATED:
        return Incoming(event_type, None)
    order_id = content.get("order_id")
    text = order_id if isinstance(order_id, str) else ""
    if not re.fullmatch(r"[0-9]{1,19}", text) or not 0 < int(text) <= MAX_ID:
        raise UnreadableError("order_id is not a numeric string")
    return Incoming(event_type, int(text))


def _object(body: bytes) -> dict[str, Any]:
    try:
        return _as_object(msgspec.json.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError("the body is not JSON") from error


def _as_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableError("a JSON object was expected")
    return value


def _decoded(data: object) -> bytes:
    if not isinstance(data, str):
        raise UnreadableError("the message has no data")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableError("the message's data is not base64") from error
