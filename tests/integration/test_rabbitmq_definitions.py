"""`infra/rabbitmq`: a broker that is booted from it fits everybody who connects."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from common.config.settings import load
from common.publishing.publisher import Result
from common.publishing.rabbitmq import RabbitMQPublisher
from common.publishing.rabbitmq_connection import connection_parameters
from tests.support.factories import message
from tests.support.rabbitmq import EXCHANGE, SIBLINGS_QUEUES
from tests.support.rabbitmq_node import OwnBroker, needed_broker
from tests.support.worker import worker_module

FOLDER = Path(__file__).parents[2] / "infra" / "rabbitmq"
DEFINITIONS = FOLDER / "definitions.json"
SERVICE = {"RABBITMQ_USER": "orders", "RABBITMQ_PASS": "s3cret"}
EXPECTED = [*SIBLINGS_QUEUES.values(), "order.item.status.updated"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """A new broker with our configuration, and the user that the README tells of."""
    installed = "/etc/rabbitmq/definitions.json"
    conf = (FOLDER / "rabbitmq.conf").read_text()
    assert installed in conf
    conf = conf.replace(installed, str(DEFINITIONS))
    with needed_broker(tmp_path_factory.mktemp("defined"), conf=conf) as node:
        node.add_user("orders", "s3cret", "^order_")
        yield node


def declare_siblings(
    channel: pika.adapters.blocking_connection.BlockingChannel,
) -> None:
    channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    for queue, routing_key in SIBLINGS_QUEUES.items():
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, EXCHANGE, routing_key)


def held(told: dict[str, list[dict[str, str]]], vhost: str) -> dict[str, list[str]]:
    """Return what a vhost holds, in a form and an order that can be compared."""
    return {
        kind: sorted(
            json.dumps({k: v for k, v in each.items() if k != "vhost"}, sort_keys=True)
            for each in told[kind]
            if each["vhost"] == vhost
        )
        for kind in ("queues", "exchanges", "bindings")
    }


def test_it_says_what_the_worker_and_the_siblings_declare_no_more_and_no_less(
    node: OwnBroker,
) -> None:
    node.tell(
        'rabbit_vhost:add(<<"bare">>, <<"tests">>)',
        'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"bare">>,'
        ' <<".*">>, <<".*">>, <<".*">>, <<"tests">>)',
    )
    broker = load(node.environ | {"RABBITMQ_VHOST": "bare"}, needs=()).rabbitmq
    assert broker
    with closing(pika.BlockingConnection(connection_parameters(broker))) as connection:
        channel = connection.channel()
        worker_module().declare(channel)
        declare_siblings(channel)
    told = json.loads(node.ctl("export_definitions", "-", "--format", "json"))
    booted = held(told, "/")
    assert all(booted.values())
    assert booted == held(told, "bare")


def test_events_find_their_queues_before_anybody_has_declared_one(
    node: OwnBroker,
) -> None:
    broker = load(node.environ | SERVICE, needs=()).rabbitmq
    assert broker
    publisher = RabbitMQPublisher(broker)
    batch = [
        message(id=n, order_id=n, type=each, event_id=str(n))
        for n, each in enumerate(EXPECTED)
    ]
    outcomes = publisher.publish(batch, time.monotonic() + 10)
    publisher.close()
    assert {outcome.result for outcome in outcomes} == {Result.SENT}
    with closing(node.connect()) as connection:
        channel = connection.channel()
        for queue in (*SIBLINGS_QUEUES, "order_approval"):
            [delivery, *_] = channel.basic_get(queue, auto_ack=True)
            assert delivery is not None, queue


def test_whoever_declares_is_not_refused(node: OwnBroker) -> None:
    with closing(node.connect()) as connection:
        declare_siblings(connection.channel())
    broker = load(node.environ | SERVICE, needs=()).rabbitmq
    assert broker
    with closing(pika.BlockingConnection(connection_parameters(broker))) as connection:
        channel = connection.channel()
        worker_module().declare(channel)
        channel.basic_consume("order_approval", print)
        channel.basic_consume("order_approval.dead", print)
        assert channel.is_open


def test_loading_it_again_as_a_restart_does_takes_nothing_away(
    node: OwnBroker,
) -> None:
    with closing(node.connect()) as connection:
        channel = connection.channel()
        channel.queue_purge("product_events")
        channel.confirm_delivery()
        persistent = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish(EXCHANGE, "order.created", b"kept", persistent)
    node.ctl("import_definitions", str(DEFINITIONS))
    with closing(node.connect()) as connection:
        channel = connection.channel()
        assert channel.basic_get("product_events", auto_ack=True)[2] == b"kept"


def test_messages_of_a_mebibyte_are_taken_and_larger_ones_are_not(
    node: OwnBroker,
) -> None:
    largest = b"x" * (1 << 20)
    with closing(node.connect()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_purge("product_events")
        channel.basic_publish(EXCHANGE, "order.created", largest)
        with pytest.raises(ChannelClosedByBroker, match="larger than"):
            channel.basic_publish(EXCHANGE, "order.created", largest + b"x")
        channel = connection.channel()
        assert channel.queue_purge("product_events").method.message_count == 1


def test_compose_has_the_same_limit() -> None:
    limits = [
        [line for line in conf.read_text().splitlines() if "max_message_size" in line]
        for conf in (FOLDER / "rabbitmq.conf", FOLDER.parent / "compose/rabbitmq.conf")
    ]
    assert limits[0] == limits[1] != []


def test_it_holds_no_user_and_no_password() -> None:
    definitions = json.loads(DEFINITIONS.read_text())
    assert set(definitions) == {"vhosts", "exchanges", "queues", "bindings"}
