"""Decode incoming events from any envelope into what approval needs.

An event's type is taken from its body, not from the envelope.
"""

import base64
import binascii
import contextlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from common.domain import events
from common.domain.model import MAX_ID

MESSAGE_PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

# The largest event, in any envelope; a larger body is not parsed. `order.created` of a
# full order has some 82,000 bytes, and a third more in base64.
MAX_EVENT_BYTES = 128 * 1024
# The header of a truncated body: its size in bytes before that.
CUT_FROM = "x-cut-from-bytes"

_ONLY_ATTRIBUTES = "is missing or empty: attributes alone are no event"
_MESSAGE_ID = "x-goog-pubsub-message-id"
_DELIVERIES = "cloudpubsubdeadlettersourcedeliverycount"
# Attributes by the names they have in a message, and as headers of an unwrapped one.
_IDS = ("event_id", "event-id", "ce-id", _MESSAGE_ID)
_TYPES = ("event_type", "event-type", "ce-type")
_ORDER_IDS = ("order_id", "order-id")
_QUOTED = 100  # characters of a sender's text that a reason quotes

# Headers, attributes or a JSON object: anything that describes an event.
Layer = Mapping[str, Any]


class UnreadableError(Exception):
    """Approval will never be able to understand the message; the text says why."""


class Incoming(Struct, frozen=True):
    """An event that arrived. `order_id` is None for events that approval ignores."""

    type: str
    order_id: int | None


class Traits(Struct, frozen=True):
    """What is known of a message, readable or not; None if it does not say."""

    event_id: str | None = None
    event_type: str | None = None
    order_id: int | None = None
    deliveries: int | None = None  # until its broker gave up


def cut(headers: Mapping[str, str], body: bytes, size: int) -> Mapping[str, str]:
    """Return the headers of a body of `size` bytes, of which `body` is the start.

    A truncated body has the header `CUT_FROM`; a sender's own is removed.
    """
    kept = {name: value for name, value in headers.items() if name != CUT_FROM}
    return kept | {CUT_FROM: str(size)} if size > len(body) else kept


def size(headers: Mapping[str, str], body: bytes) -> int:
    """Return the body's size in bytes, before it was truncated."""
    return max(len(body), _number(headers.get(CUT_FROM)) or 0)


def read(headers: Mapping[str, str], body: bytes) -> Incoming:
    """Return the event in `body`; `headers` by lower-case name.

    Raise UnreadableError if no redelivery could ever help.
    """
    if (bytes_ := size(headers, body)) > MAX_EVENT_BYTES:
        raise UnreadableError(
            f"the body has {bytes_} bytes, more than any event; only its start is kept"
        )
    layers: list[Layer] = [headers]
    _open(layers, body, "the body")
    event_type = layers[-1].get("event_type")
    if event_type is None:
        outer_type = _first(layers, _TYPES)
        hint = f"; its envelope says {outer_type[:_QUOTED]!r}" if outer_type else ""
        raise UnreadableError(f"the body has no event_type{hint}")
    if not isinstance(event_type, str):
        raise UnreadableError("event_type must be a string")
    if event_type not in events.ON_BUS:
        quoted = repr(event_type[:_QUOTED])
        raise UnreadableError(f"event_type {quoted} is foreign: none of this service's")
    if event_type != events.STATUS_UPDATED:
        return Incoming(event_type, None)
    order_id = _number(layers[-1].get("order_id"))
    if order_id is None:
        raise UnreadableError("order_id must be a numeric string of 1 to 2^63-1")
    return Incoming(event_type, order_id)


def describe(headers: Mapping[str, str], body: bytes) -> Traits:
    """Return what is known of a message, however broken; never raise.

    Inner layers take precedence over outer ones. Too large a body is not parsed.
    """
    layers: list[Layer] = [headers]
    if size(headers, body) <= MAX_EVENT_BYTES:
        with contextlib.suppress(UnreadableError):
            _open(layers, body, "the body")
    deliveries = _first(layers, (_DELIVERIES,))
    return Traits(
        event_id=_first(layers, _IDS),
        event_type=_first(layers, _TYPES),
        order_id=next(filter(None, map(_order_id, reversed(layers))), None),
        deliveries=None if deliveries is None else _number(deliveries),
    )


def _open(layers: list[Layer], body: bytes, name: str) -> None:
    """Decode `body`, which the last of `layers` describes, and append its layers."""
    headers = layers[-1]
    media_type = _text(headers, "content-type").split(";")[0].strip().lower()
    if media_type == BATCH:
        raise UnreadableError(f"{name} is a batch: events must come one by one")
    content = _object(body, name, _text(headers, "content-encoding"))
    event_type = headers.get("ce-type")
    if media_type == STRUCTURED:
        layers.append({f"ce-{key}": value for key, value in content.items()})
        event_type = content.get("type")
        content = _data(content)
    is_bare = "event_type" in content or not isinstance(content.get("message"), dict)
    if event_type != MESSAGE_PUBLISHED and is_bare:
        layers.append(content)
    else:
        _open_push(layers, content.get("message"))


def _open_push(layers: list[Layer], message: object) -> None:
    """Decode a Pub/Sub message: its attributes describe its data, as headers do."""
    if not isinstance(message, dict):
        raise UnreadableError("message must be a JSON object")
    # Pub/Sub writes both names; not every emulator does.
    layers.append({_MESSAGE_ID: message.get("messageId") or message.get("message_id")})
    attributes = message.get("attributes")
    named = attributes.items() if isinstance(attributes, dict) else ()
    layers.append({key.lower(): value for key, value in named})
    data = message.get("data")
    if data is None or data == "":
        raise UnreadableError(f"message.data {_ONLY_ATTRIBUTES}")
    _open(layers, _decoded(data, "message.data"), "message.data")


def _data(content: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a structured CloudEvent: an object, its text, or base64."""
    if "data_base64" in content:
        decoded = _decoded(content["data_base64"], "data_base64")
        return _object(decoded, "data_base64")
    data = content.get("data")
    if data is None:
        raise UnreadableError(f"data {_ONLY_ATTRIBUTES}")
    if isinstance(data, str):
        return _object(data.encode(), "data")
    return _as_object(data, "data")


def _object(body: bytes, name: str, encoding: str = "") -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{name} is not JSON{_why(body, encoding)}") from error
    return _as_object(value, name)


def _why(body: bytes, encoding: str) -> str:
    if not body:
        return ": it is empty"
    if encoding.strip().lower() not in ("", "identity"):
        return f": its content-encoding is {encoding[:_QUOTED]!r}"
    return ""


def _as_object(value: object, name: str) -> dict[str, Any]:
    if isinstance(value, list):
        raise UnreadableError(f"{name} is an array, not the object of one event")
    if not isinstance(value, dict):
        raise UnreadableError(f"{name} must be a JSON object")
    return value


def _decoded(data: object, name: str) -> bytes:
    if not isinstance(data, str):
        raise UnreadableError(f"{name} must be a string")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableError(f"{name} must be base64") from error


def _number(value: object) -> int | None:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,19}", value):
        return None
    return int(value) if 0 < int(value) <= MAX_ID else None


def _text(layer: Layer, name: str) -> str:
    value = layer.get(name)
    return value if isinstance(value, str) else ""


def _first(layers: list[Layer], names: tuple[str, ...]) -> str | None:
    """Return the innermost layer's text under the first of `names` that has one."""
    texts = (_text(layer, name) for layer in reversed(layers) for name in names)
    return next(filter(None, texts), None)


def _order_id(layer: Layer) -> int | None:
    """Return the order id of a layer, even if a consumer would refuse it."""
    nested = layer.get("data")  # order.created keeps it there, as an int
    values = [layer.get(name) for name in _ORDER_IDS]
    values += [nested.get("order_id")] if isinstance(nested, dict) else []
    if _text(layer, "ce-type") in events.ON_BUS:  # then the subject is the order
        values.append(layer.get("ce-subject"))
    texts = (str(value) if isinstance(value, int) else value for value in values)
    return next(filter(None, map(_number, texts)), None)
