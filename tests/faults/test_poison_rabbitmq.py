"""Thousands of messages that nobody can understand, with good ones in between."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.support.approvals import DELIVERED, completed, kept
from tests.support.bodies import status_event
from tests.support.rabbitmq import EXCHANGE, OWN_DEAD_LETTERS, clean_topology
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

POISON, GOOD = 600, 50
SEED = 20251124
STRUCTURED = "application/cloudevents+json"
# None of these is the numeric string of an order's id.
BAD_IDS: list[Any] = [
    *(None, 4, 4.5, True, [], ["4"], {}, {"4": 4}),
    *(
        "",
        "0",
        "-4",
        "+4",
        " 4",
        "4\n",
        "4.0",
        "4e0",
        "0x4",
        "four",
        "\0",
        "\N{FULLWIDTH DIGIT FOUR}",
    ),
    *(str(1 << 63), "9" * 19, "9" * 400),
]
BAD_TYPES: list[Any] = [
    *(None, 7, [], {}, True, "", "order", "order.item.status.updated ", "\0"),
    *("ORDER.ITEM.STATUS.UPDATED", "com.example.paid", "x" * 5000),
]


service = pytest.fixture(service_of_file, scope="module")


class Poisoner:
    """Makes messages that can never be understood, always the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def message(self) -> tuple[bytes, dict[str, Any]]:
        """Return a body and properties."""
        kinds = (
            self._noise,
            self._torn,
            self._no_object,
            self._bad_type,
            self._bad_id,
            self._bad_push,
            self._bad_structured,
        )
        body, properties = self._random.choice(kinds)()
        return body, self._properties() | properties

    def _bytes(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randrange(most))

    def _noise(self) -> tuple[bytes, dict[str, Any]]:
        longest = self._random.choice([10, 1000, 200_000])
        return b"\xff" + self._bytes(longest), {}

    def _torn(self) -> tuple[bytes, dict[str, Any]]:
        whole = json.dumps(status_event(4)).encode()
        return whole[: self._random.randrange(len(whole))], {}

    def _no_object(self) -> tuple[bytes, dict[str, Any]]:
        deep = self._random.choice([1, 100, 50_000])
        texts = ("null", "7", '"x"', "[]", "[{}]", "1e999", "[" * deep, '{"a":' * deep)
        return self._random.choice(texts).encode(), {}

    def _bad_type(self) -> tuple[bytes, dict[str, Any]]:
        event = status_event(4, event_type=self._random.choice(BAD_TYPES))
        if self._random.random() < 0.2:
            del event["event_type"]
        return json.dumps(event).encode(), {}

    def _bad_id(self) -> tuple[bytes, dict[str, Any]]:
        event = status_event(4, order_id=self._random.choice(BAD_IDS))
        if self._random.random() < 0.2:
            del event["order_id"]
        return json.dumps(event).encode(), {}

    def _bad_push(self) -> tuple[bytes, dict[str, Any]]:
        data = self._random.choice([None, 7, "", "%%%", "e30=", "bnVsbA==", "/w=="])
        attributes = self._random.choice([None, [], {"event_type": STATUS_UPDATED}])
        push = {"message": {"data": data, "attributes": attributes}}
        return json.dumps(push).encode(), {}

    def _bad_structured(self) -> tuple[bytes, dict[str, Any]]:
        data = self._random.choice(
            [{}, {"data": 7}, {"data": "x"}, {"data_base64": "%"}, {"data": {"a": 1}}]
        )
        event = {"id": "\0", "type": STATUS_UPDATED} | data
        return json.dumps(event).encode(), {"content_type": STRUCTURED}

    def _properties(self) -> dict[str, Any]:
        """Return properties as odd as AMQP allows; none makes a body good."""
        odd: list[Any] = ["", "\0", "ünï\U0001f600", b"\xff\xfe", "x" * 200, "a/b; c=d"]
        values = [*odd, 7, -1, 1 << 60, True, None, [1, ["x", {}]], {"a": {"b": b"\0"}}]
        names = [
            "traceparent",
            "cloudEvents:id",
            "cloudEvents:type",
            "ce-id",
            "x-death",
        ]
        names += ["authorization", *odd]
        pick = self._random.choice
        found: dict[str, Any] = {
            "headers": {pick(names): pick(values) for _ in range(pick([0, 1, 5]))}
        }
        for name in ("content_type", "content_encoding", "message_id", "type"):
            if self._random.random() < 0.3:
                found[name] = pick(odd)
        return found


def test_poison_is_kept_once_each_and_keeps_no_good_message_from_its_order(
    service: Service, own_rabbitmq: OwnBroker, tmp_path: Path
) -> None:
    broker = own_rabbitmq.broker
    orders = [completed(service, new_user(), DELIVERED)["id"] for _ in range(GOOD)]
    poisoner = Poisoner(SEED)
    poison = [poisoner.message() for _ in range(POISON)]
    output = tmp_path / "output"
    with (
        clean_topology(broker),
        worker(service, broker, output=output) as process,
    ):
        eventually(ready(broker))
        with channel_of(broker) as channel:
            for number, (body, properties) in enumerate(poison):
                channel.basic_publish(
                    EXCHANGE, STATUS_UPDATED, body, pika.BasicProperties(**properties)
                )
                if number % (POISON // GOOD) == 0:
                    good = json.dumps(status_event(orders[number * GOOD // POISON]))
                    channel.basic_publish(EXCHANGE, STATUS_UPDATED, good.encode())
        eventually(lambda: approved(service) == GOOD, 60)
        eventually(lambda: counts(broker, QUEUE) == (0, 1), 60)
        # What is in hand is not counted as waiting.
        eventually(lambda: dead(service) >= POISON, 60)
        assert counts(broker, OWN_DEAD_LETTERS) == (0, 1)
        assert process.poll() is None
        process.terminate()
        assert process.wait(10) == 0
    assert Counter(buried(service)) == Counter(kept(body) for body, _ in poison)
    said = output.read_text()
    assert "message requeued" not in said
    assert "connection to RabbitMQ lost" not in said
    assert len(service.sandbox.events_of("order.approved")) == GOOD


def approved(service: Service) -> int:
    [row] = service.rows("SELECT count(*) AS n FROM orders WHERE is_approved")
    return int(row["n"])


def dead(service: Service) -> int:
    [row] = service.rows("SELECT count(*) AS n FROM dead_letters")
    return int(row["n"])


def buried(service: Service) -> list[bytes]:
    return [bytes(row["body"]) for row in service.rows("SELECT body FROM dead_letters")]
