"""The broker that other tests stand on: real, with the siblings' queues, and empty."""

from pika.adapters.blocking_connection import BlockingChannel

from tests.support.rabbitmq import EXCHANGE, OWN_QUEUES, SIBLINGS_QUEUES, Broker


def depth(channel: BlockingChannel, queue: str) -> int:
    count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count


def test_events_reach_the_siblings_queues_they_are_bound_to(
    rabbitmq_channel: BlockingChannel,
) -> None:
    rabbitmq_channel.confirm_delivery()
    rabbitmq_channel.basic_publish(EXCHANGE, "order.created", b"{}", mandatory=True)
    found = {queue: depth(rabbitmq_channel, queue) for queue in SIBLINGS_QUEUES}
    assert found == {
        "product_events": 1,
        "shopcart_events": 1,
        "shop_order_items_queue": 0,
    }


def test_every_test_finds_the_queues_empty(rabbitmq_channel: BlockingChannel) -> None:
    for queue in SIBLINGS_QUEUES:
        assert depth(rabbitmq_channel, queue) == 0


def test_what_a_test_leaves_behind_is_removed_even_if_it_broke_its_channel(
    rabbitmq_channel: BlockingChannel, rabbitmq_server: Broker
) -> None:
    for queue in OWN_QUEUES:
        rabbitmq_channel.queue_declare(queue, durable=True)
    rabbitmq_channel.close()
    assert rabbitmq_server.environ["RABBITMQ_PORT"].isdigit()
