"""The approval worker when things go wrong: defects, crashes, and what nobody took."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.approvals import DELIVERED, completed, dead_letters, is_approved
from tests.support.bodies import status_event
from tests.support.link import link_to
from tests.support.rabbitmq import OWN_DEAD_LETTERS, Broker, clean_topology
from tests.support.rabbitmq_node import OwnBroker
from tests.support.service import Service, new_user
from tests.support.worker import (
    QUEUE,
    STATUS_UPDATED,
    channel_of,
    consumers,
    counts,
    eventually,
    publish,
    ready,
    trigger,
    waiting,
    worker,
)

DEFECT = """
worker.RETRY_SECONDS = 0.02
take = worker.approval.take
def take_with_a_defect(engine, headers, body, bus):
    if body == b"the defect":
        raise ZeroDivisionError("of all things")
    return take(engine, headers, body, bus)
worker.approval.take = take_with_a_defect
"""
KILLED = """
import os, signal
def kill(name):
    if name == "acknowledge {moment}":
        os.kill(os.getpid(), signal.SIGKILL)
failpoints.arm(kill)
"""


@pytest.fixture
def broker(own_rabbitmq: OwnBroker) -> Iterator[Broker]:
    """A broker of this run's own, with clean queues."""
    with clean_topology(own_rabbitmq.broker):
        yield own_rabbitmq.broker


@pytest.fixture
def declared(service: Service, broker: Broker) -> Iterator[Broker]:
    """The broker with our queues, which nobody consumes."""
    with worker(service, broker) as process:
        eventually(ready(broker))
        process.terminate()
        process.wait(10)
    return broker


def test_a_defect_ends_neither_the_worker_nor_other_messages_but_is_given_up(
    service: Service, broker: Broker, user: str, tmp_path: Path
) -> None:
    order = completed(service, user, DELIVERED)
    output = tmp_path / "output"
    with worker(service, broker, prelude=DEFECT, output=output) as process:
        eventually(ready(broker))
        publish(broker, b"the defect")
        trigger(broker, order["id"])
        eventually(lambda: is_approved(service, order["id"]))
        eventually(lambda: dead_letters(service))
        assert process.poll() is None
        eventually(lambda: counts(broker, OWN_DEAD_LETTERS) == (0, 1))
        assert waiting(broker, QUEUE) == []
    [letter] = dead_letters(service)
    assert letter["source"] == "approval"
    assert letter["body"] == b"the defect"
    assert letter["reason"] == "given up by the broker after 21 deliveries"
    lines = [
        json.loads(line) for line in output.read_text().splitlines() if "{" in line
    ]
    told = [line for line in lines if "exception" in line]
    assert len(told) == 21
    assert "ZeroDivisionError: of all things" in told[0]["exception"]
    assert "in take_with_a_defect" in told[0]["exception"]


ODD: list[dict[str, Any]] = [
    {"message_id": b"\xff\xfe", "content_type": b"\xff", "type": b"\xff"},
    {"headers": {b"\xff\0": b"\xff\0", "\0": "\0"}},
    {"headers": {"deep": {"er": [{"and": [1, None, True, b"\xff"]}]}}},
    {"headers": {"x-death": "junk", "x-first-death-reason": 7}},
    {"headers": {"cloudEvents:type": "\0", "cloudevents_": "x", "cloudEvents": "y"}},
    {"content_encoding": "gzip"},
]


def test_odd_properties_are_no_defect(service: Service, declared: Broker) -> None:
    """In our queue, and in that of the dead letters."""
    orders = [completed(service, new_user(), DELIVERED)["id"] for _ in ODD]
    for order_id, properties in zip(orders, ODD, strict=True):
        publish(declared, json.dumps(status_event(order_id)).encode(), **properties)
        publish(declared, b"junk", **properties)
        publish(declared, b"given up", exchange=OWN_DEAD_LETTERS, **properties)
    with worker(service, declared):
        eventually(lambda: len(dead_letters(service)) == 2 * len(ODD))
        eventually(lambda: all(is_approved(service, each) for each in orders))
    kept = Counter(row["body"] for row in dead_letters(service))
    assert kept == {b"junk": len(ODD), b"given up": len(ODD)}


def test_properties_that_cannot_be_decoded_do_not_break_the_link_for_ever(
    service: Service, declared: Broker, user: str
) -> None:
    """Milliseconds where seconds belong make a date that Python does not have."""
    order = completed(service, user, DELIVERED)
    headers = {"sent-at": datetime(2025, 12, 1, tzinfo=UTC)}
    with mock.patch("calendar.timegm", return_value=1_764_579_600_000):
        publish(
            declared, json.dumps(status_event(order["id"])).encode(), headers=headers
        )
        publish(declared, b"junk", headers=headers)
        publish(declared, b"given up", exchange=OWN_DEAD_LETTERS, headers=headers)
    with worker(service, declared):
        eventually(lambda: len(dead_letters(service)) == 2)
        eventually(lambda: is_approved(service, order["id"]))
    assert all("x-undecoded" in row["headers"] for row in dead_letters(service))


def test_what_the_broker_gave_up_is_seen_among_our_dead_letters_with_its_event(
    service: Service, declared: Broker
) -> None:
    headers = {
        "cloudEvents:id": "e-17",
        "cloudEvents:type": STATUS_UPDATED,
        "cloudEvents:source": "/order-service",
        "cloudEvents:subject": "4711",
        "authorization": "Bearer s3cret",
    }
    publish(
        declared,
        b"given up",
        exchange=OWN_DEAD_LETTERS,
        headers=headers,
        message_id="other",
    )
    with worker(service, declared):
        eventually(lambda: dead_letters(service))
        eventually(lambda: counts(declared, OWN_DEAD_LETTERS) == (0, 1))
    [letter] = dead_letters(service)
    assert letter["reason"] == "given up by the broker"
    assert (letter["event_id"], letter["event_type"]) == ("e-17", STATUS_UPDATED)
    assert letter["order_id"] == 4711
    assert letter["body"] == b"given up"
    assert letter["headers"]["ce-source"] == "/order-service"
    assert "authorization" not in letter["headers"]


def test_dead_letters_event_id_is_found(service: Service, declared: Broker) -> None:
    properties: dict[str | None, dict[str, Any]] = {
        "e-1": {"headers": {"cloudEvents_id": "e-1"}, "message_id": "other"},
        "m-1": {"message_id": "m-1"},
        None: {},
    }
    for each in properties.values():
        publish(declared, b"junk", **each)
    with worker(service, declared):
        eventually(lambda: len(dead_letters(service)) == len(properties))
    letters = dead_letters(service)
    assert {letter["event_id"] for letter in letters} == properties.keys()
    assert {letter["event_type"] for letter in letters} == {STATUS_UPDATED}


def test_dead_letters_are_kept_in_the_end(service: Service, declared: Broker) -> None:
    with link_to(service.environ["DATABASE_URL"]) as database:
        database.refuse()
        through = database.through(service.environ["DATABASE_URL"])
        for number in range(40):
            publish(declared, b"%d" % number, exchange=OWN_DEAD_LETTERS)
        with worker(service, declared, DATABASE_URL=through):
            eventually(ready(declared))
            time.sleep(2)
            database.restore()
            eventually(lambda: len(dead_letters(service)) == 40)
            eventually(lambda: counts(declared, OWN_DEAD_LETTERS) == (0, 1))
    kept = sorted(int(row["body"]) for row in dead_letters(service))
    assert kept == list(range(40))


def test_a_crash_before_the_acknowledgement_costs_a_redelivery_and_nothing_else(
    service: Service, broker: Broker, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    with worker(service, broker, prelude=KILLED.format(moment="before")) as process:
        eventually(ready(broker))
        trigger(broker, order["id"])
        assert process.wait(30) == -9
    assert is_approved(service, order["id"])
    eventually(lambda: counts(broker, QUEUE) == (1, 0))
    with worker(service, broker):
        eventually(lambda: service.sandbox.events_of("order.approved"))
        eventually(lambda: waiting(broker, QUEUE) == [])
    assert len(service.sandbox.events_of("order.approved")) == 1


def test_a_crash_after_the_acknowledgement_leaves_the_announcement_to_the_sweep(
    service: Service, broker: Broker, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    with worker(service, broker, prelude=KILLED.format(moment="after")) as process:
        eventually(ready(broker))
        trigger(broker, order["id"])
        assert process.wait(30) == -9
    # Of who is killed the system may drop the last bytes: then the message comes again.
    eventually(lambda: counts(broker, QUEUE) in ((0, 0), (1, 0)))
    assert is_approved(service, order["id"])
    service.sweep()
    assert len(service.sandbox.events_of("order.approved")) == 1


@pytest.mark.parametrize("queue", [QUEUE, OWN_DEAD_LETTERS])
def test_a_queue_that_somebody_deletes_is_declared_again(
    service: Service, broker: Broker, user: str, queue: str
) -> None:
    order = completed(service, user, DELIVERED)
    with worker(service, broker):
        eventually(ready(broker))
        with channel_of(broker) as channel:
            channel.queue_delete(queue)
        eventually(lambda: consumers(broker, queue) == 1)
        eventually(ready(broker))
        trigger(broker, order["id"])
        eventually(lambda: is_approved(service, order["id"]))


def test_a_queue_that_is_declared_otherwise_is_told_and_waited_for(
    service: Service, broker: Broker, tmp_path: Path
) -> None:
    with channel_of(broker) as channel:
        channel.queue_declare(QUEUE, durable=True)  # not a quorum queue
    output = tmp_path / "output"
    with worker(service, broker, output=output) as process:
        eventually(lambda: "inequivalent arg" in output.read_text())
        assert process.poll() is None
        with channel_of(broker) as channel:
            channel.queue_delete(QUEUE)
        eventually(ready(broker))


def test_stop_returns_what_was_fetched_ahead(service: Service, broker: Broker) -> None:
    orders = [completed(service, new_user(), DELIVERED) for _ in range(3)]
    with link_to(service.environ["DATABASE_URL"]) as database:
        through = database.through(service.environ["DATABASE_URL"])
        with worker(service, broker, DATABASE_URL=through) as process:
            eventually(ready(broker))
            database.refuse()
            for order in orders:
                trigger(broker, order["id"])
            eventually(lambda: counts(broker, QUEUE) == (0, 1))
            process.terminate()
            assert process.wait(8) == 0
    eventually(lambda: counts(broker, QUEUE) == (3, 0))
