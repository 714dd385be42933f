"""AMQP 0-9-1 on the wire, as far as publishing an event needs it.

Lives here: the bytes of one message, from the method's frame to the body's last. Not
here: links, confirms, what the properties mean (`rabbitmq.py`). Surprise: pika can do
the same, at eight times the cost and with three system calls for each message; it was
most of what an event cost the relay. A test holds both to the byte.
"""

import functools
from collections.abc import Mapping
from struct import pack

from msgspec import Struct

_METHOD, _HEADER, _BODY = 1, 2, 3
_END = b"\xce"
_OVERHEAD = 8  # bytes of a frame around its payload
_BASIC, _PUBLISH = 60, 40
_MANDATORY = 1
_PERSISTENT = 2
# Which properties follow: content_type, content_encoding, headers, delivery_mode,
# message_id, timestamp, type, app_id; each at its bit.
_PRESENT = 1 << 15 | 1 << 14 | 1 << 13 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 3


class Publication(Struct, frozen=True):
    """One persistent message; `type` is its routing key, too."""

    type: str
    body: bytes
    headers: Mapping[str, str]
    message_id: str
    timestamp: int
    is_mandatory: bool


class Encoder:
    """Encodes for one exchange, sender, channel, and the frame size agreed upon."""

    def __init__(
        self, exchange: str, app_id: str, channel: int, frame_max: int
    ) -> None:
        self._exchange = exchange
        self._channel = channel
        self._part = frame_max - _OVERHEAD
        self._app_id = _short(app_id)

    def encode(self, publication: Publication) -> bytes:
        """Answer the message's frames."""
        told = publication
        table = b"".join(
            _short(name) + _long(value) for name, value in told.headers.items()
        )
        properties = b"".join(
            (
                pack(">HHQH", _BASIC, 0, len(told.body), _PRESENT),
                _short("application/json"),
                _short("utf-8"),
                pack(">I", len(table)),
                table,
                pack(">B", _PERSISTENT),
                _short_once(told.message_id),
                pack(">Q", told.timestamp),
                _short(told.type),
                self._app_id,
            )
        )
        key = self._channel, self._exchange, told.type, told.is_mandatory
        frames = [_publish(*key), self._frame(_HEADER, properties)]
        frames += [
            self._frame(_BODY, told.body[start : start + self._part])
            for start in range(0, len(told.body), self._part)
        ]
        return b"".join(frames)

    def _frame(self, kind: int, payload: bytes) -> bytes:
        return pack(">BHI", kind, self._channel, len(payload)) + payload + _END


@functools.lru_cache(maxsize=200)
def _publish(channel: int, exchange: str, key: str, is_mandatory: bool) -> bytes:  # noqa: FBT001 a key of the cache
    payload = pack(">HHH", _BASIC, _PUBLISH, 0) + _short(exchange) + _short(key)
    payload += pack(">B", _MANDATORY if is_mandatory else 0)
    return pack(">BHI", _METHOD, channel, len(payload)) + payload + _END


def _short_once(text: str) -> bytes:
    encoded = text.encode()
    return pack(">B", len(encoded)) + encoded


# What comes again and again: names and types.
_short = functools.lru_cache(maxsize=200)(_short_once)


def _long(text: str) -> bytes:
    encoded = text.encode()
    return pack(">cI", b"S", len(encoded)) + encoded
