"""The event document: AsyncAPI 3.0, from the structs that the messages are made of.

Lives here: servers, channels, operations, and how messages refer to their parts. Not
here: what each event means (`asyncapi_parts.py`), the readable page
(`asyncapi_page.py`). Surprise: a message stands here once for each transport, because
its headers differ; its body is one schema that all of them refer to.
"""

import functools
import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from common import events
from common.asyncapi_parts import (
    GUARANTEES,
    HEADERS,
    KINDS,
    Kind,
    example_headers,
)

API_VERSION = "1.0.0"
EXCHANGE = "order_events"
TOPIC = "order-events"
APPROVAL_QUEUE = "order_approval"
ANALYTICS_PATH = "/api/analitic-order-completed/"
JSON = "application/json"

INTRODUCTION = """\
What happens to orders, for services that want to know. A deployment publishes to
RabbitMQ, to Google Cloud Pub/Sub, or to an HTTP sink of CloudEvents; the body of an
event is the same, to the byte, wherever it goes."""

# The schema of a transport's headers; that of analytics is no transport of the bus.
TRANSPORTS = {
    "rabbitmq": "RabbitMQHeaders",
    "pubsub": "PubSubAttributes",
    "http": "HttpHeaders",
    events.ANALYTICS: "AnalyticsHeaders",
}
BUS = tuple(name for name in KINDS if name != events.ANALYTICS_NOTIFICATION)


@functools.cache
def document() -> dict[str, Any]:
    """Answer the document; the same object every time, which nobody may change."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Order service: events",
            "version": API_VERSION,
            "description": _introduction(),
        },
        "defaultContentType": JSON,
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "schemas": _schemas(),
            "messages": _messages(),
            "securitySchemes": {
                "broker": {
                    "type": "userPassword",
                    "description": "A user of the broker",
                }
            },
        },
    }


def message_name(transport: str, event_type: str) -> str:
    """Answer the name of a message, as one transport carries it."""
    return f"{transport}.{event_type}"


def _introduction() -> str:
    parts = [f"## {title}\n\n{text}" for title, text in GUARANTEES]
    return "\n\n".join([INTRODUCTION, *parts])


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "/".join(("#", *path))}


def _servers() -> dict[str, Any]:
    return {
        "rabbitmq": {
            "host": "{host}:{port}",
            "pathname": "/{vhost}",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "title": "RabbitMQ",
            "description": (
                f"The topic exchange `{EXCHANGE}`, durable. The routing key is the"
                " event's name. With TLS where the deployment says so (`amqps`, port"
                " 5671)."
            ),
            "variables": {
                "host": {"description": "Where the deployment's broker is"},
                "port": {"default": "5672"},
                "vhost": {"default": "", "description": "Empty for the vhost `/`"},
            },
            "security": [_ref("components", "securitySchemes", "broker")],
        },
        "pubsub": {
            "host": "pubsub.googleapis.com",
            "protocol": "googlepubsub",
            "title": "Google Cloud Pub/Sub",
            "description": (
                f"The topic `{TOPIC}` of the deployment's project. Each consumer has a"
                " subscription of its own, with message ordering enabled where order"
                " matters to it."
            ),
        },
        "http": {
            "host": "{host}",
            "pathname": "/{path}",
            "protocol": "https",
            "title": "A sink of CloudEvents",
            "description": (
                "The address that the deployment names: each event is a POST, in binary"
                " mode. An answer of 200, 201, 202 or 204 takes it; any other"
                " makes it come again."
            ),
            "variables": {
                "host": {"description": "The sink's host"},
                "path": {"default": "", "description": "The sink's path"},
            },
        },
        events.ANALYTICS: {
            "host": "{host}",
            "protocol": "http",
            "title": "The analytics service",
            "description": "Told of completed orders by a POST, until it has them.",
            "variables": {"host": {"description": "Where the deployment has it"}},
        },
    }


def _channels() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in BUS:
        found[message_name("rabbitmq", name)] = _channel(
            "rabbitmq",
            name,
            [name],
            f"Routing key `{name}` of the exchange `{EXCHANGE}`.",
            {"is": "routingKey", "exchange": _exchange(), "bindingVersion": "0.3.0"},
        )
    found["pubsub"] = _channel(
        "pubsub", TOPIC, BUS, "One topic for all events; filter by `event_type`."
    )
    found["http"] = _channel("http", "/", BUS, "One address for all events.")
    found[events.ANALYTICS] = _channel(
        events.ANALYTICS,
        ANALYTICS_PATH,
        [events.ANALYTICS_NOTIFICATION],
        "What is POSTed of a completed order.",
    )
    queue = {"name": APPROVAL_QUEUE, "durable": True, "exclusive": False}
    found[APPROVAL_QUEUE] = _channel(
        "rabbitmq",
        APPROVAL_QUEUE,
        [events.STATUS_UPDATED],
        f"This service's own queue, bound to `{events.STATUS_UPDATED}`: a quorum"
        " queue (`x-queue-type`) that gives a message up after 20 redeliveries"
        " (`x-delivery-limit`), to the exchange `order_approval.dead`"
        " (`x-dead-letter-exchange`) and the queue of that name.",
        {
            "is": "queue",
            "queue": queue | {"autoDelete": False},
            "bindingVersion": "0.3.0",
        },
    )
    return found


def _exchange() -> dict[str, Any]:
    return {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}


def _channel(
    transport: str,
    address: str,
    names: Iterable[str],
    description: str,
    amqp: dict[str, Any] | None = None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": address,
        "description": description,
        "servers": [_ref("servers", transport)],
        "messages": {
            name: _ref("components", "messages", message_name(transport, name))
            for name in names
        },
    }
    return found if amqp is None else found | {"bindings": {"amqp": amqp}}


def _operations() -> dict[str, Any]:
    found = {}
    for channel, told in _channels().items():
        is_ours = channel == APPROVAL_QUEUE
        # Names are for code that is made from the document: no dots.
        words = channel.replace(".", "_").replace("-", "_")
        operation: dict[str, Any] = {
            "action": "receive" if is_ours else "send",
            "channel": _ref("channels", channel),
            "summary": (
                "Approve the order when its last item is final"
                if is_ours
                else f"Publish to {told['address']}"
            ),
            "messages": [
                _ref("channels", channel, "messages", name) for name in told["messages"]
            ],
        }
        if channel in ("http", events.ANALYTICS):
            method = {"method": "POST", "bindingVersion": "0.3.0"}
            operation["bindings"] = {"http": method}
        elif channel != "pubsub":
            how = {"ack": True} if is_ours else {"deliveryMode": 2}
            amqp = how | {"bindingVersion": "0.3.0"}
            operation["bindings"] = {"amqp": amqp}
        found[f"{operation['action']}_{words}"] = operation
    return found


def _messages() -> dict[str, Any]:
    return {
        message_name(transport, name): _message(transport, name, kind)
        for transport in TRANSPORTS
        for name, kind in KINDS.items()
        if (transport == events.ANALYTICS) == (name == events.ANALYTICS_NOTIFICATION)
    }


def _message(transport: str, name: str, kind: Kind) -> dict[str, Any]:
    headers = TRANSPORTS[transport]
    found: dict[str, Any] = {
        "name": name,
        "title": kind.title,
        "summary": kind.meaning,
        "description": f"{kind.meaning}\n\nWho listens: {kind.listeners}",
        "contentType": JSON,
        "headers": _of_type(headers, name),
        "payload": _ref("components", "schemas", kind.body.__name__),
        "examples": [
            {
                "name": "one",
                "headers": example_headers(headers, kind.example),
                "payload": msgspec.json.decode(kind.example.body),
            }
        ],
    }
    if transport == "rabbitmq":
        properties = "RabbitMQProperties"
        found["bindings"] = {
            "amqp": {
                "contentEncoding": "utf-8",
                "messageType": name,
                "bindingVersion": "0.3.0",
            }
        }
        # AsyncAPI's binding has no words for these.
        found["x-amqp-properties"] = _of_type(properties, name) | {
            "examples": [example_headers(properties, kind.example)]
        }
    return found


def _of_type(schema: str, event_type: str) -> dict[str, Any]:
    """Answer the schema of headers that name this very type, wherever they do."""
    named = [
        name
        for name in HEADERS[schema]["properties"]
        if name.removeprefix("cloudEvents:") in ("type", "ce-type", "event_type")
    ]
    if not named:
        return _ref("components", "schemas", schema)
    types = {name: {"type": "string", "const": event_type} for name in named}
    narrowed = {"type": "object", "properties": types}
    return {"allOf": [_ref("components", "schemas", schema), narrowed]}


def _schemas() -> dict[str, Any]:
    bodies = [kind.body for kind in KINDS.values()]
    _, found = msgspec.json.schema_components(
        bodies, ref_template="#/components/schemas/{name}"
    )
    for body in (*bodies, events.OrderCreatedData, events.OrderedLine):
        found[body.__name__]["description"] = inspect.getdoc(body)
    return found | HEADERS
