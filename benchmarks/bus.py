"""An exchange of the run's own, and a queue that receives everything sent to it."""

import contextlib
from collections.abc import Callable, Iterator

import pika


@contextlib.contextmanager
def own_exchange(
    connect: Callable[[], pika.BlockingConnection],
    name: str,
    *,
    longest: int | None = None,
) -> Iterator[None]:
    """Have the exchange and its queue, `NAME.all`, while the block runs.

    A queue of `longest` messages drops the oldest, as if siblings had consumed them.
    """
    queue = f"{name}.all"
    limit = {} if longest is None else {"x-max-length": longest}
    with contextlib.closing(connect()) as connection:
        channel = connection.channel()
        channel.exchange_declare(name, exchange_type="topic", durable=True)
        channel.queue_declare(queue, durable=True, arguments=limit)
        channel.queue_bind(queue, name, "#")
    try:
        yield
    finally:
        with contextlib.closing(connect()) as connection:
            channel = connection.channel()
            channel.queue_delete(queue)
            channel.exchange_delete(name)
