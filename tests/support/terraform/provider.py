"""A gRPC stand-in for the Google provider that serves the committed schema.

Terraform neither starts nor stops it, but finds it by TF_REATTACH_PROVIDERS.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import grpc  # type: ignore[import-untyped]

from tests.support.terraform import wire

SCHEMA = Path(__file__).with_name("google_schema.json")
SOURCE = "registry.terraform.io/hashicorp/google"

_HEALTH = "/grpc.health.v1.Health/Check"
_PROVIDER = "/tfplugin6.Provider"
_IS_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
_Path: TypeAlias = tuple[str | int, ...]
_LARGEST = 64 << 20  # bytes in a message


@contextmanager
def serving(schema: Path = SCHEMA) -> Iterator[dict[str, str]]:
    """Serve `schema`; yield the environment that makes Terraform use it."""
    known = json.loads(schema.read_text(encoding="utf-8"))
    encoded = wire.provider_schema(known)
    answers: dict[str, Callable[[bytes], bytes]] = {
        _HEALTH: lambda _: _IS_SERVING,
        f"{_PROVIDER}/GetProviderSchema": lambda _: encoded,
        f"{_PROVIDER}/ValidateResourceConfig": lambda request: refusals(
            known["resource_schemas"], request
        ),
        f"{_PROVIDER}/ValidateDataResourceConfig": lambda request: refusals(
            known["data_source_schemas"], request
        ),
    }
    with (
        tempfile.TemporaryDirectory(prefix="order-service-") as folder,
        ThreadPoolExecutor(max_workers=4) as threads,
    ):
        socket = Path(folder) / "provider"
        server = grpc.server(
            threads, options=[("grpc.max_send_message_length", _LARGEST)]
        )
        server.add_generic_rpc_handlers([_Handler(answers)])
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        attach = {
            "Protocol": "grpc",
            "ProtocolVersion": 6,
            "Pid": os.getpid(),
            "Test": True,  # so that Terraform does not end this process
            "Addr": {"Network": "unix", "String": str(socket)},
        }
        try:
            yield {"TF_REATTACH_PROVIDERS": json.dumps({SOURCE: attach})}
        finally:
            server.stop(grace=None).wait()


def refusals(schemas: Mapping[str, Any], request: bytes) -> bytes:
    """Return what is wrong with a configuration that fits the schema, as a message.

    Terraform itself lets an attribute be set that the provider alone decides.
    """
    name, values = wire.configuration(request)
    return wire.errors(
        "Value for unconfigurable attribute",
        (
            (path, f"Can't configure a value for {path[-1]}: the provider decides it.")
            for path in _decided(schemas[name], values)
        ),
    )


def _decided(block: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[_Path]:
    """Yield the path of each attribute that is set, but may only be read."""
    for name, attribute in block["attributes"].items():
        is_free = "optional" in attribute or "required" in attribute
        if not is_free and values[name] is not None:
            yield (name,)
    for name, nested in block.get("blocks", {}).items():
        found = values[name]
        if isinstance(found, dict):
            yield from ((name, *path) for path in _decided(nested, found))
        elif isinstance(found, list):
            for number, each in enumerate(found):
                for path in _decided(nested, each):
                    yield (name, number, *path)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Replies as it has been told, and with an empty message to the provider's rest."""

    def __init__(self, answers: Mapping[str, Callable[[bytes], bytes]]) -> None:
        self._answers = answers

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        answer = self._answers.get(method)
        if answer is None and not method.startswith(_PROVIDER):
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, _: answer(request) if answer else b""
        )
