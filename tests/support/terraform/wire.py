"""Encode the messages of Terraform's plugin protocol 6 that the stand-in needs.

They are encoded by hand, since a dozen messages need three kinds of field.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

_NESTING = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}
_TEXT = 2  # the wire type of what has a length


def provider_schema(schema: dict[str, Any]) -> bytes:
    """Answer a GetProviderSchema.Response with the provider, resources and data."""
    parts = [_nested(1, _schema(schema["provider"]))]
    for number, kind in ((2, "resource_schemas"), (3, "data_source_schemas")):
        for name, each in schema[kind].items():
            parts.append(_nested(number, _text(1, name) + _nested(2, _schema(each))))
    return b"".join(parts)


def configuration(request: bytes) -> tuple[str, Any]:
    """Answer type and values of a Validate(Data)ResourceConfig.Request.

    What is not known yet is a msgspec.msgpack.Ext.
    """
    fields = _fields(request)
    values = _fields(fields[2])[1]  # a DynamicValue's msgpack
    return fields[1].decode(), msgspec.msgpack.decode(values)


def errors(summary: str, found: Iterable[tuple[Sequence[str | int], str]]) -> bytes:
    """Answer a Validate(Data)ResourceConfig.Response: path and detail of each error."""
    return b"".join(
        _nested(1, _number(1, 1) + _text(2, summary) + _text(3, detail) + _path(path))
        for path, detail in found
    )


def _path(path: Sequence[str | int]) -> bytes:
    steps = (
        _text(1, step) if isinstance(step, str) else _number(3, step) for step in path
    )
    return _nested(4, b"".join(_nested(1, step) for step in steps))


def _schema(block: dict[str, Any]) -> bytes:
    return _nested(2, _block(block))


def _block(block: dict[str, Any]) -> bytes:
    attributes = (_nested(2, _attribute(*each)) for each in block["attributes"].items())
    blocks = (_nested(3, _nested_block(*each)) for each in _blocks(block))
    return b"".join([*attributes, *blocks])


def _blocks(block: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(block.get("blocks", {}).items())


def _attribute(name: str, attribute: dict[str, Any]) -> bytes:
    flags = (("required", 4), ("optional", 5), ("computed", 6), ("write_only", 11))
    parts = [_text(1, name), _text(2, json.dumps(attribute["type"]))]
    parts += [_number(number, 1) for flag, number in flags if attribute.get(flag)]
    return b"".join(parts)


def _nested_block(name: str, block: dict[str, Any]) -> bytes:
    parts = [_text(1, name), _nested(2, _block(block))]
    parts.append(_number(3, _NESTING[block["nesting"]]))
    parts.append(_number(4, block.get("min_items", 0)))
    parts.append(_number(5, block.get("max_items", 0)))
    return b"".join(parts)


def _text(number: int, text: str) -> bytes:
    return _nested(number, text.encode())


def _nested(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _TEXT) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Answer seven bits a byte, the lowest first, the eighth where more follow."""
    answer = bytearray()
    while value >= 0x80:
        answer.append(value & 0x7F | 0x80)
        value >>= 7
    answer.append(value)
    return bytes(answer)


def _fields(message: bytes) -> dict[int, bytes]:
    """Answer the contents of each field, by its number; all must have a length."""
    fields = {}
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        length, position = _read_varint(message, position)
        fields[tag >> 3] = message[position : position + length]
        position += length
    return fields


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Answer the number at `position`, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
