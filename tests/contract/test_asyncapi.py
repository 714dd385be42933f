"""The event document: well-formed, complete, and true of what the service declares.

Lives here: AsyncAPI 3.0's rules that count, since no package on PyPI has its schema:
required and known members, patterns of names, references that lead where they must.
Not here: messages on the wire, which `tests/support/published.py` holds against it.
Surprise: a reference to a message goes through its channel, and to no component.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from common import asyncapi, config, events, publishing
from common.asyncapi import BUS, TRANSPORTS, document, message_name
from common.asyncapi_parts import HEADERS, KINDS, example_headers
from common.publishing import rabbitmq_link
from tests.support.published import published

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads(json.dumps(document()))
COMPONENTS = DOCUMENT["components"]
NAME = re.compile(r"^[\w\d.\-_]+$", re.ASCII)
# Members of each kind of object: required, and also allowed.
MEMBERS = {
    "document": (
        {"asyncapi", "info"},
        {"channels", "components", "defaultContentType", "id", "operations", "servers"},
    ),
    "info": ({"title", "version"}, {"description"}),
    "server": (
        {"host", "protocol"},
        {
            "description",
            "pathname",
            "protocolVersion",
            "security",
            "title",
            "variables",
        },
    ),
    "channel": ({"address"}, {"bindings", "description", "messages", "servers"}),
    "operation": ({"action", "channel"}, {"bindings", "messages", "summary"}),
    "message": (
        {"headers", "payload"},
        {
            "bindings",
            "contentType",
            "description",
            "examples",
            "name",
            "summary",
            "title",
        },
    ),
    "components": (set(), {"messages", "schemas", "securitySchemes"}),
}
OBJECTS: list[tuple[str, str, dict[str, Any]]] = [
    ("document", "document", DOCUMENT),
    ("info", "info", DOCUMENT["info"]),
    ("components", "components", COMPONENTS),
    *(("server", name, each) for name, each in DOCUMENT["servers"].items()),
    *(("channel", name, each) for name, each in DOCUMENT["channels"].items()),
    *(("operation", name, each) for name, each in DOCUMENT["operations"].items()),
    *(("message", name, each) for name, each in COMPONENTS["messages"].items()),
]


def resolved(reference: dict[str, str]) -> Any:
    """Answer what a reference leads to, one step."""
    found: Any = DOCUMENT
    for step in reference["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(part: Any) -> Iterator[dict[str, str]]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


# The document's own form.


def test_it_is_of_the_version_that_it_says() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"


@pytest.mark.parametrize(
    ("kind", "name", "found"), OBJECTS, ids=[f"{k} {n}" for k, n, _ in OBJECTS]
)
def test_an_object_has_what_it_must_and_nothing_unknown(
    kind: str, name: str, found: dict[str, Any]
) -> None:
    required, allowed = MEMBERS[kind]
    told = {member for member in found if not member.startswith("x-")}
    assert required <= told, name
    assert told <= required | allowed, name
    assert NAME.match(name)


def test_every_reference_leads_somewhere_and_repeats_nothing() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert reference.keys() == {"$ref"}
        assert resolved(reference)


def test_an_operation_names_messages_of_its_own_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert channel.startswith("#/channels/")
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")


def test_every_channel_has_servers_and_an_operation() -> None:
    used = {each["channel"]["$ref"] for each in DOCUMENT["operations"].values()}
    assert used == {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    for channel in DOCUMENT["channels"].values():
        assert [each["$ref"].split("/")[1] for each in channel["servers"]] == [
            "servers"
        ]


def test_every_message_goes_through_a_channel() -> None:
    through = {
        each["$ref"].rpartition("/")[2]
        for channel in DOCUMENT["channels"].values()
        for each in channel["messages"].values()
    }
    assert through == COMPONENTS["messages"].keys()


def test_a_servers_variables_are_those_that_its_address_has() -> None:
    for server in DOCUMENT["servers"].values():
        address = server["host"] + server.get("pathname", "")
        assert set(re.findall(r"{(\w+)}", address)) == set(server.get("variables", ()))


@pytest.mark.parametrize("name", COMPONENTS["schemas"])
def test_a_schema_is_one(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(COMPONENTS["schemas"][name])


# What it tells of.


def test_every_event_there_is_goes_through_every_transport() -> None:
    named = {
        value
        for name, value in vars(events).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    assert named == KINDS.keys()
    expected = {message_name(t, name) for t in list(TRANSPORTS)[:3] for name in BUS}
    expected |= {message_name(events.ANALYTICS, events.ANALYTICS_NOTIFICATION)}
    assert COMPONENTS["messages"].keys() == expected


@pytest.mark.parametrize("name", COMPONENTS["messages"])
def test_an_example_is_such_a_message(name: str) -> None:
    message = COMPONENTS["messages"][name]
    [example] = message["examples"]
    transport = name.partition(".")[0]
    properties = message.get("x-amqp-properties", {}).get("examples", [None])[0]
    body = json.dumps(example["payload"])
    published(transport, message["name"], example["headers"], body, properties)


def test_exchange_topic_and_sender_are_those_that_are_used() -> None:
    assert asyncapi.EXCHANGE == rabbitmq_link.EXCHANGE
    sent = HEADERS["RabbitMQProperties"]["properties"]
    assert sent["app_id"]["const"] == rabbitmq_link.APP_ID
    source = HEADERS["HttpHeaders"]["properties"]["ce-source"]
    assert source["const"] == publishing.SOURCE
    environ = {"EVENT_BUS": "pubsub", "PUBSUB_PROJECT": "shop"}
    where = config.load(environ, needs=("EVENT_BUS",)).pubsub
    assert where is not None
    assert where.topic == asyncapi.TOPIC


def test_the_queue_that_is_consumed_is_the_one_that_brokers_are_given() -> None:
    given = json.loads((ROOT / "infra" / "rabbitmq" / "definitions.json").read_text())
    channel = DOCUMENT["channels"]["order_approval"]
    told = channel["bindings"]["amqp"]["queue"]
    [queue] = [each for each in given["queues"] if each["name"] == told["name"]]
    assert (told["durable"], told["autoDelete"]) == (
        queue["durable"],
        queue["auto_delete"],
    )
    for name, value in queue["arguments"].items():
        assert f"`{name}`" in channel["description"]
        assert str(value) in channel["description"]
    keys = [
        each["routing_key"]
        for each in given["bindings"]
        if each["destination"] == told["name"]
    ]
    assert keys == list(channel["messages"])


@pytest.mark.parametrize("name", BUS)
def test_listeners_are_told_by_the_queues_that_brokers_are_given(name: str) -> None:
    given = json.loads((ROOT / "infra" / "rabbitmq" / "definitions.json").read_text())
    queues = {
        each["destination"] for each in given["bindings"] if each["routing_key"] == name
    }
    assert set(re.findall(r"`(\w+)`", KINDS[name].listeners)) == queues


# That messages are held against it.


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda part: part.pop(name)


def _with(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda part: part.update({name: value})


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("body", _without("shop_id"), "'shop_id' is a required property"),
        ("body", _with("order_id", 4), "4 is not of type 'string'"),
        ("body", _with("status", "3"), "'3' is not of type 'integer'"),
        ("body", _with("status", 5), "5 is greater than the maximum"),
        ("body", _with("shop_id", None), "None is not of type 'string'"),
        ("body", _with("shop_id", "mine"), "'mine' is not a 'uuid'"),
        ("body", _with("occurred_at", "today"), "'today' is not a 'date-time'"),
        ("body", _with("colour", "red"), "'colour' was unexpected"),
        ("body", _with("event_type", "order.created"), "event_type"),
        ("body", _with("order_id", "5"), "order 5, but headers say {'4'}"),
        ("headers", _without("cloudEvents:id"), "'cloudEvents:id' is a required"),
        ("headers", _with("cloudEvents:type", "order.created"), "was expected"),
        ("headers", _with("tenant", "7"), "'tenant' was unexpected"),
        ("headers", _with("traceparent", "me"), "'me' does not match"),
        ("properties", _without("app_id"), "'app_id' is a required property"),
        ("properties", _with("delivery_mode", 1), "2 was expected"),
        ("properties", _with("timestamp", "now"), "'now' is not of type 'integer'"),
        ("properties", _with("message_id", events.uuid.UUID(int=1).hex), "message_id"),
    ],
)
def test_a_message_that_is_not_as_documented_is_noticed(
    part: str, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    event = KINDS[events.STATUS_UPDATED].example
    message = {
        "headers": example_headers("RabbitMQHeaders", event),
        "properties": example_headers("RabbitMQProperties", event),
        "body": json.loads(event.body),
    }
    broken = copy.deepcopy(message)
    change(broken[part])
    for told in (message, broken):
        called = (
            "rabbitmq",
            event.type,
            told["headers"],
            json.dumps(told["body"]),
            told["properties"],
        )
        if told is message:
            published(*called)
        else:
            with pytest.raises(AssertionError, match=re.escape(said)):
                published(*called)


def test_a_message_that_nobody_has_documented_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"http\.order\.lost is not documented"):
        published("http", "order.lost", {}, "{}")
