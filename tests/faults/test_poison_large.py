"""Messages of any size: a dead letter each, which harms nobody before or behind it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from common.messaging.envelopes import MAX_EVENT_BYTES
from tests.support.approvals import DELIVERED, completed, dead_letters, is_approved
from tests.support.bodies import status_event
from tests.support.rabbitmq import EXCHANGE, OWN_DEAD_LETTERS, Broker, clean_topology
from tests.support.rabbitmq_node import OwnBroker
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file
from tests.support.worker import (
    QUEUE,
    STATUS_UPDATED,
    channel_of,
    counts,
    eventually,
    ready,
    worker,
)

# Little more than the worker needs for itself, counted in addresses, not in use.
SMALL = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (448 << 20, 448 << 20))
"""
HUGE = 70_000_000
service = pytest.fixture(service_of_file, scope="module")


@pytest.fixture
def broker(own_rabbitmq: OwnBroker) -> Iterator[Broker]:
    with clean_topology(own_rabbitmq.broker):
        yield own_rabbitmq.broker


def bodies(kind: str) -> bytes:
    if kind == "one event":
        return json.dumps(status_event(4, padding="x" * HUGE)).encode()
    return b"[" + b"[]," * (HUGE // 3) + b"[]]"


@pytest.mark.parametrize("kind", ["one event", "empty lists"])
@pytest.mark.parametrize("exchange", [EXCHANGE, OWN_DEAD_LETTERS])
def test_huge_message_is_a_dead_letter_and_kills_neither_worker_nor_innocents(
    service: Service, broker: Broker, tmp_path: Path, kind: str, exchange: str
) -> None:
    earlier = len(dead_letters(service))
    orders = [completed(service, new_user(), DELIVERED)["id"] for _ in range(4)]
    huge = bodies(kind)
    sent: list[tuple[str, bytes]] = [
        (EXCHANGE, json.dumps(status_event(each)).encode()) for each in orders
    ]
    sent[2:2] = [(exchange, huge)]
    output = tmp_path / "output"
    with worker(service, broker, prelude=SMALL, output=output) as process:
        eventually(ready(broker))
        with channel_of(broker) as channel:
            for to, body in sent:
                channel.basic_publish(to, STATUS_UPDATED, body)
        eventually(lambda: all(is_approved(service, each) for each in orders), 60)
        eventually(lambda: len(dead_letters(service)) == earlier + 1, 60)
        eventually(lambda: counts(broker, OWN_DEAD_LETTERS) == (0, 1))
        eventually(lambda: counts(broker, QUEUE) == (0, 1))
        assert process.poll() is None
        process.terminate()
        assert process.wait(10) == 0
    assert "connection to RabbitMQ lost" not in output.read_text()
    letter = dead_letters(service)[-1]
    assert huge.startswith(letter["body"])
    assert 1000 < len(letter["body"]) < MAX_EVENT_BYTES
    assert str(len(huge)) in letter["reason"]
    assert letter["event_type"] == STATUS_UPDATED


def nested(levels: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(levels):
        table = {"t": table}
    return table


HEADERS: dict[str, dict[str, Any]] = {
    "many": {f"h{number}": number for number in range(5000)},
    "long": {"long": "x" * 100_000},
    "deep": {"deep": nested(300)},
    "deeper": {"deep": nested(470)},
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_any_kind_are_kept_within_bounds(
    service: Service, broker: Broker, kind: str
) -> None:
    earlier = len(dead_letters(service))
    order = completed(service, new_user(), DELIVERED)["id"]
    properties = pika.BasicProperties(headers=HEADERS[kind], message_id="m-1")
    event = json.dumps(status_event(order)).encode()
    with worker(service, broker) as process:
        eventually(ready(broker))
        with channel_of(broker) as channel:
            channel.basic_publish(EXCHANGE, STATUS_UPDATED, b"junk", properties)
            channel.basic_publish(OWN_DEAD_LETTERS, "", b"given up", properties)
            channel.basic_publish(EXCHANGE, STATUS_UPDATED, event, properties)
        eventually(lambda: is_approved(service, order))
        eventually(lambda: len(dead_letters(service)) == earlier + 2)
        assert process.poll() is None
    for letter in dead_letters(service)[earlier:]:
        assert letter["body"] in (b"junk", b"given up")
        assert len(json.dumps(letter["headers"])) < 64 * 1024


@pytest.mark.parametrize("number", ["1" * 4000, "1" * 100_000, "1e400", "-0"])
def test_numbers_of_any_length_harm_nobody(
    service: Service, broker: Broker, number: str
) -> None:
    earlier = len(dead_letters(service))
    shape = '{"event_type":"order.item.status.updated","order_id":%s}'
    sent = [(shape % number).encode(), ('{"data":%s}' % (shape % number)).encode()]
    with worker(service, broker) as process:
        eventually(ready(broker))
        with channel_of(broker) as channel:
            for body in sent:
                channel.basic_publish(EXCHANGE, STATUS_UPDATED, body)
                channel.basic_publish(OWN_DEAD_LETTERS, "", body)
        eventually(lambda: len(dead_letters(service)) == earlier + 4)
        assert process.poll() is None
    kept = [letter["body"] for letter in dead_letters(service)[earlier:]]
    assert sorted(kept) == sorted(sent * 2)
