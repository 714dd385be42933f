"""An exchange of the run's own, and a queue that receives everything sent to it.

The queue is short and drops its oldest messages, as if siblings had consumed them.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.rabbitmq import Broker

LONGEST_QUEUE = 1000


@dataclass(frozen=True)
class Exchange:
    """Where, and under which name."""

    broker: Broker
    name: str


@contextlib.contextmanager
def exchange_of_our_own(exchange: Exchange) -> Iterator[None]:
    """Have the exchange and its queue while the block runs."""
    queue = f"{exchange.name}.all"
    with contextlib.closing(exchange.broker.connect()) as connection:
        channel = connection.channel()
        channel.exchange_declare(exchange.name, exchange_type="topic", durable=True)
        limit = {"x-max-length": LONGEST_QUEUE}
        channel.queue_declare(queue, durable=True, arguments=limit)
        channel.queue_bind(queue, exchange.name, "#")
    try:
        yield
    finally:
        with contextlib.closing(exchange.broker.connect()) as connection:
            channel = connection.channel()
            channel.queue_delete(queue)
            channel.exchange_delete(exchange.name)
