"""The event document: well-formed, and as the structs and the brokers have it.

No package has AsyncAPI 3.0's schema, so the rules of it that matter here are the first
tests. Messages on the wire are held against it by tests/support/published.py.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from common.api_docs.documents import parsed, resolve
from common.config import settings
from common.domain import events
from common.domain.model import Event
from common.publishing import publisher, rabbitmq_connection
from tests.support.published import HEADERS
from tests.support.shapes import differences, structs_of

ROOT = Path(__file__).parents[2]
Document = dict[str, Any]
# Members of each kind of object: required, and also allowed.
MEMBERS = {
    "servers": (
        {"host", "protocol", "title", "description"},
        {"pathname", "protocolVersion", "security", "variables"},
    ),
    "channels": (
        {"address", "description", "messages", "servers"},
        {"bindings", "parameters"},
    ),
    "operations": ({"action", "channel", "summary"}, {"bindings", "messages"}),
    "messages": (
        {"headers", "payload", "name", "title", "summary", "description", "examples"},
        {"bindings", "contentType"},
    ),
}
STRUCTS = [each for each in structs_of(events) if each is not Event]


def references(part: Any) -> Iterator[dict[str, str]]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


# The rules.


def objects_have_what_they_must(told: Document) -> Iterator[str]:
    if told["asyncapi"] != "3.0.0" or not told.keys() >= {"info", "channels"}:
        yield "the document itself"
    kinds = {kind: told.get(kind, {}) for kind in MEMBERS}
    kinds["messages"] = told["components"]["messages"]
    for kind, found in kinds.items():
        required, allowed = MEMBERS[kind]
        for name, each in found.items():
            if not required <= each.keys() <= required | allowed:
                yield f"{kind} {name}"
            if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
                yield f"{kind} {name!r}"


def references_lead_somewhere(told: Document) -> Iterator[str]:
    for reference in references(told):
        if reference.keys() != {"$ref"}:  # beside it nothing counts in Draft 7
            yield str(reference)
        try:
            resolve(told, reference)
        except KeyError as error:
            yield f"{reference}: {error}"


def everything_is_used(told: Document) -> Iterator[str]:
    used = {each["$ref"] for each in references(told)}
    for kind in ("schemas", "messages"):
        for name in told["components"][kind]:
            # Of AMQP's properties AsyncAPI's binding has no words.
            if f"#/components/{kind}/{name}" not in used | {
                "#/components/schemas/RabbitMQProperties"
            }:
                yield f"{kind} {name}"
    for name in told["channels"]:
        if f"#/channels/{name}" not in used:
            yield f"channel {name}"
    for server in told["servers"].values():
        address = server["host"] + server.get("pathname", "")
        if set(re.findall(r"{(\w+)}", address)) != set(server.get("variables", ())):
            yield f"variables of {server['title']}"


def bodies_are_those_of_the_structs(told: Document) -> Iterator[str]:
    yield from differences(told["components"]["schemas"], STRUCTS)


def every_event_goes_through_every_transport(told: Document) -> Iterator[str]:
    of_analytics = {events.ANALYTICS_NOTIFICATION}
    if told["components"]["messages"].keys() != events.ON_BUS | of_analytics:
        yield "messages"
    for transport in HEADERS:
        wanted = of_analytics if transport == events.ANALYTICS else events.ON_BUS
        if told["channels"][transport]["messages"].keys() != wanted:
            yield transport
    keys = told["channels"]["rabbitmq"]["parameters"]["event_type"]["enum"]
    if set(keys) != events.ON_BUS:
        yield "routing keys"


def examples_are_such_messages(told: Document) -> Iterator[str]:
    for name, message in told["components"]["messages"].items():
        if message["name"] != name:
            yield f"{name}: {message['name']}"
        rooted = {"allOf": [message["payload"]], "components": told["components"]}
        found = jsonschema.Draft7Validator(rooted)
        for example in message["examples"]:
            wrong = found.iter_errors(example["payload"])
            yield from (f"{name}: {error.message}" for error in wrong)


def addresses_are_those_that_are_used(told: Document) -> Iterator[str]:
    exchange = told["channels"]["rabbitmq"]["bindings"]["amqp"]["exchange"]["name"]
    if exchange != rabbitmq_connection.EXCHANGE:
        yield exchange
    found = told["components"]["schemas"]
    app = found["RabbitMQProperties"]["properties"]["app_id"]["const"]
    if app != rabbitmq_connection.APP_ID:
        yield app
    source = found["HttpHeaders"]["properties"]["ce-source"]["const"]
    if source != publisher.SOURCE:
        yield source
    environ = {"EVENT_BUS": "pubsub", "PUBSUB_PROJECT": "shop"}
    where = settings.load(environ, needs=("EVENT_BUS",)).pubsub
    topic = told["channels"]["pubsub"]["address"]
    if not where or where.topic != topic:
        yield topic


def queues_are_those_that_brokers_are_given(told: Document) -> Iterator[str]:
    given = json.loads((ROOT / "infra" / "rabbitmq" / "definitions.json").read_text())
    channel = told["channels"]["order_approval"]
    queue = channel["bindings"]["amqp"]["queue"]
    [ours] = [each for each in given["queues"] if each["name"] == queue["name"]]
    if (queue["durable"], queue["autoDelete"]) != (
        ours["durable"],
        ours["auto_delete"],
    ):
        yield queue["name"]
    for name, value in ours["arguments"].items():
        if f"`{name}`" not in channel["description"] or (
            str(value) not in channel["description"]
        ):
            yield name
    for name in told["channels"]["rabbitmq"]["messages"]:
        bound = {
            each["destination"]
            for each in given["bindings"]
            if each["routing_key"] == name
        }
        message = told["components"]["messages"][name]
        if set(re.findall(r"`(\w+)`", message["description"])) != bound:
            yield f"listeners of {name}"
        if (name in channel["messages"]) != (queue["name"] in bound):
            yield f"{name} to {queue['name']}"


RULES: list[Callable[[Document], Iterator[str]]] = [
    objects_have_what_they_must,
    references_lead_somewhere,
    everything_is_used,
    bodies_are_those_of_the_structs,
    every_event_goes_through_every_transport,
    examples_are_such_messages,
    addresses_are_those_that_are_used,
    queues_are_those_that_brokers_are_given,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_document_says_what_the_code_does(
    rule: Callable[[Document], Iterator[str]],
) -> None:
    wrong = list(rule(parsed("asyncapi")))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", parsed("asyncapi")["components"]["schemas"])
def test_a_schema_is_one(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(
        parsed("asyncapi")["components"]["schemas"][name]
    )
