"""Hold what was published against what the event document says of it.

Shapes are closed here, though the document leaves them open: a field that is sent and
not documented is a mistake of ours.
"""

import copy
import functools
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import jsonschema_rs

from common.api_docs import documents
from common.domain.events import ANALYTICS, ANALYTICS_NOTIFICATION
from tests.support.sandbox import Sandbox

# The headers of each transport; that of analytics is no transport of the bus.
HEADERS = {
    "rabbitmq": "RabbitMQHeaders",
    "pubsub": "PubSubAttributes",
    "http": "HttpHeaders",
    ANALYTICS: "AnalyticsHeaders",
}
# What HTTP itself brings along.
UNREMARKABLE = {
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "user-agent",
}


def _is_uuid(value: str) -> bool:
    # Unknown to draft 7, which the event document is written in.
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False


@functools.cache
def closed_document() -> dict[str, Any]:
    """Return the document, with no room for fields that it does not name."""
    found = copy.deepcopy(documents.parsed("asyncapi"))
    for schema in found["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return found


@functools.cache
def _validator(name: str, *, is_made_up: bool) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(
        # Beside a `$ref` nothing counts.
        {
            "allOf": [{"$ref": f"#/components/schemas/{name}"}],
            "components": closed_document()["components"],
        },
        validate_formats=not is_made_up,
        formats={"uuid": _is_uuid},
    )


def _hold(name: str, value: object, *, is_made_up: bool = False) -> None:
    """Fail unless `value` has the shape of the schema `name`."""
    for error in _validator(name, is_made_up=is_made_up).iter_errors(value):
        where = "".join(f".{step}" for step in error.instance_path)
        raise AssertionError(f"{name}{where}: {error.message}")


def published(
    transport: str,
    event_type: str,
    headers: Mapping[str, Any],
    body: bytes | str,
    properties: Mapping[str, Any] | None = None,
    *,
    is_made_up: bool = False,
) -> None:
    """Fail unless headers, properties and body are as the document has them.

    What is made up, for tests of transports, has any id and any body.
    """
    found = closed_document()
    message = found["components"]["messages"].get(event_type, {})
    channel = found["channels"][transport]["messages"]
    assert event_type in channel, f"{event_type} is not documented for {transport}"
    _hold(HEADERS[transport], dict(headers), is_made_up=is_made_up)
    if properties is not None:
        _hold("RabbitMQProperties", dict(properties), is_made_up=is_made_up)
    for name, value in (*headers.items(), *(properties or {}).items()):
        if _bare(name) in ("type", "event_type"):
            assert value == event_type, f"{event_type}, but {name} says {value}"
    if is_made_up:
        return
    told = json.loads(body)
    _hold(message["payload"]["$ref"].rpartition("/")[2], told)
    _agree(headers, properties or {}, told)


def _bare(name: str) -> str:
    return name.removeprefix("cloudEvents:").removeprefix("ce-")


def _agree(
    headers: Mapping[str, Any], properties: Mapping[str, Any], body: dict[str, Any]
) -> None:
    """Fail unless an id that is told in several places is the same in all of them."""
    bare = [(_bare(name), value) for name, value in headers.items()]
    ids = {value for name, value in bare if name in ("id", "event_id")}
    ids |= {properties[name] for name in ("message_id",) if name in properties}
    assert len(ids) <= 1, f"one message, several ids: {ids}"
    orders = {value for name, value in bare if name in ("subject", "order_id")}
    told = body.get("order_id") or body.get("data", {}).get("order_id")
    assert not orders or orders == {str(told)}, (
        f"order {told}, but headers say {orders}"
    )


def remarkable(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers without what HTTP itself brings along."""
    return {k: v for k, v in headers.items() if k not in UNREMARKABLE}


def properties_of(properties: Any) -> dict[str, Any]:
    """Return what is documented of the properties that pika hands to a consumer."""
    known = closed_document()["components"]["schemas"]["RabbitMQProperties"]
    return {name: getattr(properties, name) for name in known["properties"]}


def published_to_rabbitmq(delivery: Any, properties: Any, body: bytes) -> None:
    """Hold what pika hands to a consumer."""
    told = properties_of(properties)
    published("rabbitmq", delivery.routing_key, properties.headers or {}, body, told)


def published_to_pubsub(message: Any) -> None:
    """Hold a message as Google's client has it."""
    attributes = dict(message.attributes)
    published("pubsub", attributes.get("event_type", "?"), attributes, message.data)
    assert message.ordering_key == attributes["order_id"]


def published_to_sandbox(sandbox: Sandbox, *, is_made_up: bool = False) -> int:
    """Hold what the sandbox's sink and its analytics got; return how many."""
    count = 0
    for event in sandbox.events:
        if event.attributes.keys() == {"ce-id", "ce-type"}:  # by `Sandbox.hear`
            continue
        headers = remarkable(event.attributes)
        published("http", event.type, headers, event.body, is_made_up=is_made_up)
        count += 1
    analytics = closed_document()["channels"][ANALYTICS]["address"]
    for call in sandbox.calls:
        if (call.method, call.path) == ("POST", analytics):
            headers = remarkable({k.lower(): v for k, v in call.headers.items()})
            published(ANALYTICS, ANALYTICS_NOTIFICATION, headers, call.body)
            count += 1
    return count
