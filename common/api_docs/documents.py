"""Read the API's and the events' documents, YAML files beside this module.

They are parsed on first use, once in a process, never at import.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
METHODS = ("get", "post", "put", "patch", "delete")


def source(name: str) -> bytes:
    """Return the YAML of `openapi` or `asyncapi` as it was written."""
    return (FOLDER / f"{name}.yaml").read_bytes()


@functools.cache
def parsed(name: str) -> dict[str, Any]:
    """Return the document; always the same object, which must not be changed."""
    import yaml  # noqa: PLC0415 few requests need it, and it is no part of a start

    # libyaml's parser: eight times as fast as the one in Python.
    document: dict[str, Any] = yaml.load(source(name), Loader=yaml.CSafeLoader)
    return document


def resolve(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return what `part` of the document refers to, or itself."""
    while "$ref" in part:
        target: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation, with the parameters that its path has."""
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method in METHODS:
            if method in item:
                own = item[method].get("parameters", [])
                yield method, path, item[method] | {"parameters": [*shared, *own]}
