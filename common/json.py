"""JSON in and out, by msgspec; errors name the field and the rule."""

import re
import threading
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from common.errors import InvalidRequestError

# What columns, events and their consumers can hold.
BigInt = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$")]

T = TypeVar("T")


def encode(value: object) -> str:
    """Return `value` as JSON text."""
    return msgspec.json.encode(value).decode()


# Decoding a mebibyte holds the interpreter lock for up to 50 ms. Large bodies are
# decoded one at a time, so that other threads wait for one of them at most.
LARGE_BODY_BYTES = 32 * 1024
_large_body_lock = threading.Lock()


def decode(body: bytes, shape: type[T]) -> T:
    """Return `body` as `shape`; raise InvalidRequestError naming field and rule."""
    if len(body) <= LARGE_BODY_BYTES:
        return _decode(body, shape)
    with _large_body_lock:
        return _decode(body, shape)


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        # As text, because msgspec does not check the bytes of fields that it ignores.
        return msgspec.json.decode(body.decode(), type=shape)
    except msgspec.ValidationError as error:
        field, rule = _field_and_rule(str(error))
        raise InvalidRequestError.of(field, rule) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError("The body is not valid JSON.") from error


_LOCATION = re.compile(r" - at (`key` in )?`\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<field>\w+)`")


def _field_and_rule(message: str) -> tuple[str, str]:
    """Split msgspec's message, which names the parent of a missing field."""
    location = _LOCATION.search(message)
    path = location["path"] if location else ""
    rule = _LOCATION.sub("", message).replace("`", "")
    if missing := _MISSING.search(message):
        field = missing["field"]
        return (f"{path}.{field}" if path else field), "is required"
    rule = rule[:1].lower() + rule[1:]
    return path or "body", f"key: {rule}" if location and location[1] else rule
