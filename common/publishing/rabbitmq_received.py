"""Messages from RabbitMQ: any content in bounded memory, with headers as in HTTP."""

import time
from collections.abc import Mapping
from typing import Any

import pika
import pika.channel
import pika.frame
import pika.spec
from msgspec import Struct

from common.telemetry import logs

log = logs.get("approval.worker")

# Headers that a copy must not have: more queues to route to, and the broker's counts.
_NOT_COPIED = frozenset({"CC", "x-delivery-count", "x-acquired-count"})


class Received(Struct):
    """An unacknowledged message; a large body is truncated."""

    tag: int
    routing_key: str
    properties: Any
    headers: Mapping[str, str]
    body: bytes
    size: int  # of the body, before it was truncated
    received_at: float  # by the monotonic clock
    due_at: float
    pause_seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Return whether `body` was not truncated."""
        return self.size == len(self.body)


def install(max_body_bytes: int) -> None:
    """Make pika truncate larger bodies, and accept properties that it cannot decode.

    By itself it keeps a body of any size in memory, and closes the connection at each
    delivery of such properties, for ever.
    """
    pika.spec.props[pika.BasicProperties.INDEX] = _Properties
    _Content.max_body_bytes = max_body_bytes
    pika.channel.ContentFrameAssembler = _Content


def received(
    delivery: Any,  # noqa: ANN401 pika's
    properties: Any,  # noqa: ANN401 pika's
    body: bytes,
) -> Received:
    """Return the message that pika has delivered."""
    now = time.monotonic()
    return Received(
        tag=delivery.delivery_tag,
        routing_key=delivery.routing_key,
        properties=properties,
        headers=_headers(delivery, properties),
        body=body,
        size=properties.body_size,
        received_at=now,
        due_at=now,
    )


def copied(message: Received) -> Any:  # noqa: ANN401 pika's
    """Return the properties for publishing a message again."""
    properties = message.properties
    given = properties.headers or {}
    properties.headers = {k: v for k, v in given.items() if k not in _NOT_COPIED}
    properties.user_id = None  # the broker refuses another user's
    return properties


def _headers(delivery: Any, properties: Any) -> dict[str, str]:  # noqa: ANN401 pika's
    """Return a message's headers as in HTTP, by lower-case name.

    CloudEvents' attributes become `ce-…`; AMQP's properties fill in missing ones.
    """
    items = (properties.headers or {}).items()
    headers = {_text(name).lower(): _text(value) for name, value in items}
    for name in [name for name in headers if name.startswith("cloudevents")]:
        prefix, attribute = name[:12], name[12:]
        if prefix in ("cloudevents:", "cloudevents_"):  # the AMQP binding allows both
            headers[f"ce-{attribute}"] = headers.pop(name)
    defaults = {
        "ce-id": properties.message_id,
        "ce-type": properties.type or delivery.routing_key,
    }
    for name, value in defaults.items():
        if value:
            headers.setdefault(name, _text(value))
    headers["content-type"] = _text(properties.content_type or "application/json")
    encoding = _text(properties.content_encoding or "")
    if encoding.lower() not in ("", "utf-8"):  # a charset is often put there
        headers["content-encoding"] = encoding
    return headers


def _text(value: object) -> str:
    # pika returns bytes for a string that is not UTF-8.
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    try:
        return str(value)
    except RecursionError:  # of nested tables
        return f"({type(value).__name__} of too many levels)"


class _Properties(pika.BasicProperties):  # type: ignore[misc] # it has no types
    """Properties that tolerate invalid values, such as a date in the year 50 000."""

    body_size = 0

    def decode(self, encoded: bytes, offset: int = 0) -> "_Properties":
        """Decode the properties; keep the raw bytes as a header if that fails."""
        try:
            super().decode(encoded, offset)
        except Exception as error:  # noqa: BLE001 publishers may send anything
            log.warning("a message's properties cannot be read: %s", error)
            self.headers = {"x-undecoded": encoded.hex()}
        return self


class _Content(pika.channel.ContentFrameAssembler):  # type: ignore[misc]
    """Assembles messages, truncating bodies that are larger than `max_body_bytes`.

    `body_size` of the properties is the size before that.
    """

    max_body_bytes = 0
    _left = 0  # bytes of the body that are still to come
    _wanted = 0  # bytes of these to keep
    _content: Any = None

    def process(self, frame_value: Any) -> Any:  # noqa: ANN401 pika's
        """Return method, header and body once the message is complete, else None."""
        if isinstance(frame_value, pika.frame.Header):
            self._left = frame_value.properties.body_size = frame_value.body_size
            self._wanted = min(self._left, self.max_body_bytes)
            frame_value.body_size = self._wanted
        if not isinstance(frame_value, pika.frame.Body):
            return super().process(frame_value)
        self._left -= len(frame_value.fragment)
        if self._wanted:
            frame_value.fragment = frame_value.fragment[: self._wanted]
            self._wanted -= len(frame_value.fragment)
            self._content = super().process(frame_value)
        return None if self._left > 0 else self._content
