"""Events on a real RabbitMQ: what its consumers get, to the letter."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from common import events
from common.endpoints import RabbitMQ
from common.publishing import Message, Result
from common.publishing.rabbitmq import RabbitMQPublisher
from tests.support.factories import item, message, order
from tests.support.rabbitmq import EXCHANGE, SIBLINGS_QUEUES, Broker

CREATED, ITEM, STATUS = (
    "order.created",
    "order.item.created",
    "order.item.status.updated",
)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def publisher(
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,  # noqa: ARG001 clean queues
) -> Iterator[RabbitMQPublisher]:
    broker = RabbitMQ(
        host=rabbitmq_server.host,
        port=rabbitmq_server.port,
        user=rabbitmq_server.user,
        password=rabbitmq_server.password,
        vhost=rabbitmq_server.vhost,
    )
    publisher = RabbitMQPublisher(broker)
    yield publisher
    publisher.close()


def send(publisher: RabbitMQPublisher, *messages: Message) -> list[Result]:
    outcomes = publisher.publish(messages, time.monotonic() + 10)
    assert [outcome.id for outcome in outcomes] == [m.id for m in messages]
    return [outcome.result for outcome in outcomes]


def take(channel: BlockingChannel, queue: str) -> list[tuple[Any, Any, bytes]]:
    """Take everything out of a queue: delivery, properties, body of each."""
    taken = []
    while True:
        delivery, properties, body = channel.basic_get(queue, auto_ack=True)
        if delivery is None:
            return taken
        taken.append((delivery, properties, body))


def bound(channel: BlockingChannel, routing_key: str, **arguments: object) -> str:
    """Answer a queue of this test's own that gets these events, too."""
    declared = channel.queue_declare("", exclusive=True, arguments=arguments)
    queue: str = declared.method.queue
    channel.queue_bind(queue, EXCHANGE, routing_key)
    return queue


def test_a_message_is_what_its_consumers_expect_to_the_letter(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    body = '{"event":"order.created","name":"Größe"}'
    created_at = datetime(2025, 12, 1, 10, 0, 0, 58493, tzinfo=UTC)
    sent = message(
        type=CREATED, body=body, order_id=7, traceparent=TRACE, created_at=created_at
    )
    assert send(publisher, sent) == [Result.SENT]
    [(delivery, properties, received)] = take(rabbitmq_channel, "product_events")
    assert received == body.encode()
    assert (delivery.exchange, delivery.routing_key) == (EXCHANGE, CREATED)
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert properties.content_encoding == "utf-8"
    assert properties.message_id == sent.event_id
    assert properties.timestamp == int(created_at.timestamp())
    assert properties.type == CREATED
    assert properties.app_id == "order-service"
    assert properties.headers == {
        "traceparent": TRACE,
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": sent.event_id,
        "cloudEvents:type": CREATED,
        "cloudEvents:source": "/order-service",
        "cloudEvents:subject": "7",
        "cloudEvents:time": "2025-12-01T10:00:00.058493+00:00",
    }


def test_a_resend_has_the_same_message_id(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    send(publisher, message(type=CREATED))
    send(publisher, message(type=CREATED, attempts=2, is_doubtful=True))
    taken = take(rabbitmq_channel, "product_events")
    assert len(taken) == 2
    assert len({properties.message_id for _, properties, _ in taken}) == 1


def test_the_siblings_queues_get_what_they_expect_and_nothing_else(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    placed = order(item(id=9), item(id=10))
    told = [
        *(events.item_created(placed, each) for each in placed.items),
        events.order_created(placed, cart_id=42),
        events.status_updated(item(status=3), 1, "2025-12-01T10:00:00.000000Z"),
        events.order_approved(placed, "2025-12-01T10:00:00.000000Z"),
        events.order_deleted(placed),
    ]
    batch = [
        message(id=n, type=event.type, body=event.body, event_id=event.id)
        for n, event in enumerate(told)
    ]
    assert set(send(publisher, *batch)) == {Result.SENT}
    found = {
        queue: [json.loads(body) for *_, body in take(rabbitmq_channel, queue)]
        for queue in SIBLINGS_QUEUES
    }
    [created] = found["product_events"]
    assert created["data"]["order_id"] == 4
    assert found["shopcart_events"] == [created]
    ids = [body["order_item_id"] for body in found["shop_order_items_queue"]]
    assert ids == ["9", "10"]


@pytest.mark.parametrize(
    ("event_type", "queues", "result"),
    [
        (CREATED, ["product_events", "shopcart_events"], Result.UNROUTABLE),
        (ITEM, ["shop_order_items_queue"], Result.UNROUTABLE),
        (STATUS, [], Result.SENT),
        ("order.approved", [], Result.SENT),
        ("order.deleted", [], Result.SENT),
    ],
)
def test_nobody_listening_is_told_where_somebody_should(
    publisher: RabbitMQPublisher,
    rabbitmq_channel: BlockingChannel,
    event_type: str,
    queues: list[str],
    result: Result,
) -> None:
    for queue in queues:
        rabbitmq_channel.queue_unbind(queue, EXCHANGE, event_type)
    assert send(publisher, message(type=event_type)) == [result]
    for queue in queues:
        rabbitmq_channel.queue_bind(queue, EXCHANGE, event_type)
    again = message(type=event_type, event_id="e0000000-0000-4000-8000-00000000000f")
    assert send(publisher, again) == [Result.SENT]


def test_one_unroutable_event_of_a_batch_is_told_apart_from_the_others(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    rabbitmq_channel.queue_unbind("shop_order_items_queue", EXCHANGE, ITEM)
    batch = [
        message(id=1, type=ITEM, event_id="e0000000-0000-4000-8000-000000000001"),
        message(id=2, type=CREATED, event_id="e0000000-0000-4000-8000-000000000002"),
    ]
    assert send(publisher, *batch) == [Result.UNROUTABLE, Result.SENT]


def test_a_batch_of_hundreds_keeps_its_order(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    queue = bound(rabbitmq_channel, "#")
    batch = [
        message(id=n, order_id=n % 20, type=STATUS, body=str(n), event_id=str(n))
        for n in range(400)
    ]
    assert set(send(publisher, *batch)) == {Result.SENT}
    taken = [int(body) for *_, body in take(rabbitmq_channel, queue)]
    assert len(taken) == 400
    for order_id in range(20):
        of_order = [n for n in taken if n % 20 == order_id]
        assert of_order == sorted(of_order)


def test_what_follows_a_refused_event_of_its_order_is_not_sent(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    """A queue that is full and rejects makes the broker turn an event down."""
    bound(
        rabbitmq_channel,
        ITEM,
        **{"x-max-length": 1, "x-overflow": "reject-publish"},
    )
    spied = bound(rabbitmq_channel, CREATED)
    send(publisher, message(type=ITEM))
    batch = [
        message(id=1, order_id=4, type=ITEM),
        message(id=2, order_id=4, type=CREATED, body="held back"),
        message(id=3, order_id=5, type=CREATED, body="free"),
    ]
    assert send(publisher, *batch) == [
        Result.REFUSED,
        Result.NOT_TRIED,
        Result.SENT,
    ]
    assert [body for *_, body in take(rabbitmq_channel, spied)] == [b"free"]


def test_one_status_event_waits_for_the_confirm_of_the_one_before(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    bound(rabbitmq_channel, STATUS, **full)
    send(publisher, message(type=STATUS))
    batch = [message(id=n, type=STATUS, event_id=str(n)) for n in (1, 2)]
    assert send(publisher, *batch) == [Result.REFUSED, Result.NOT_TRIED]


def test_a_body_beyond_one_frame_arrives_whole(
    publisher: RabbitMQPublisher, rabbitmq_channel: BlockingChannel
) -> None:
    body = json.dumps({"filler": "ä" * 300_000}, ensure_ascii=False)
    assert send(publisher, message(type=CREATED, body=body)) == [Result.SENT]
    [(_, _, received)] = take(rabbitmq_channel, "product_events")
    assert received.decode() == body
