"""The messages of Terraform's plugin protocol 6 that the stand-in needs.

Of `tfplugin6.proto` these are the fields in use, by the numbers that they have there.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

_PACKAGE = "tfplugin6"
_MESSAGES = {
    "GetProviderSchema": "1:provider:Schema 2:resources:Entry* 3:data_sources:Entry*",
    "Entry": "1:key:string 2:value:Schema",
    "Schema": "2:block:Block",
    "Block": "2:attributes:Attribute* 3:block_types:NestedBlock*",
    "Attribute": "1:name:string 2:type:bytes 4:required:bool 5:optional:bool"
    " 6:computed:bool 11:write_only:bool",
    "NestedBlock": "1:type_name:string 2:block:Block 3:nesting:int64 4:min_items:int64"
    " 5:max_items:int64",
    "ValidateRequest": "1:type_name:string 2:config:DynamicValue",
    "DynamicValue": "1:msgpack:bytes",
    "ValidateResponse": "1:diagnostics:Diagnostic*",
    "Diagnostic": "1:severity:int64 2:summary:string 3:detail:string 4:attribute:Path",
    "Path": "1:steps:Step*",
    "Step": "1:attribute_name:string 3:element_key_int:int64",
}
_NESTING = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}
_IS_ERROR = 1


def _declared() -> dict[str, Any]:
    """Return the class of each message."""
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package=_PACKAGE)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, told in (each.split(":") for each in fields.split()):
            kind = told.removesuffix("*")
            added = message.field.add(name=field, number=int(number))
            added.label = 1 if kind == told else 3  # optional, repeated
            if kind in _MESSAGES:
                added.type_name = f".{_PACKAGE}.{kind}"
            else:
                added.type = added.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in _MESSAGES
    }


_CLASSES = _declared()


def provider_schema(schema: dict[str, Any]) -> bytes:
    """Return a GetProviderSchema.Response with the provider, resources and data."""

    def entries(kind: str) -> list[dict[str, Any]]:
        blocks = schema[kind].items()
        return [
            {"key": name, "value": {"block": _block(each)}} for name, each in blocks
        ]

    message = _CLASSES["GetProviderSchema"](
        provider={"block": _block(schema["provider"])},
        resources=entries("resource_schemas"),
        data_sources=entries("data_source_schemas"),
    )
    return bytes(message.SerializeToString())


def _block(block: dict[str, Any]) -> dict[str, Any]:
    return {
        "attributes": [
            each | {"name": name, "type": json.dumps(each["type"]).encode()}
            for name, each in block["attributes"].items()
        ],
        "block_types": [
            {
                "type_name": name,
                "block": _block(each),
                "nesting": _NESTING[each["nesting"]],
                "min_items": each.get("min_items", 0),
                "max_items": each.get("max_items", 0),
            }
            for name, each in block.get("blocks", {}).items()
        ],
    }


def configuration(request: bytes) -> tuple[str, Any]:
    """Return type and values of a Validate(Data)ResourceConfig.Request.

    What is not known yet is a msgspec.msgpack.Ext.
    """
    message = _CLASSES["ValidateRequest"].FromString(request)
    return message.type_name, msgspec.msgpack.decode(message.config.msgpack)


def errors(summary: str, found: Iterable[tuple[Sequence[str | int], str]]) -> bytes:
    """Return a Validate(Data)ResourceConfig.Response: path and detail of each error."""
    diagnostics = [
        {
            "severity": _IS_ERROR,
            "summary": summary,
            "detail": detail,
            "attribute": {"steps": [_step(each) for each in path]},
        }
        for path, detail in found
    ]
    message = _CLASSES["ValidateResponse"](diagnostics=diagnostics)
    return bytes(message.SerializeToString())


def _step(step: str | int) -> dict[str, str | int]:
    name = "attribute_name" if isinstance(step, str) else "element_key_int"
    return {name: step}
