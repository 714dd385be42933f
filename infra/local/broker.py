"""Run the siblings' and our consumers on RabbitMQ in a local run.

A message is acknowledged once it is in the sandbox's own queue, so pausing a queue
works the same with and without a broker.
"""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
from pika.exceptions import AMQPError

from common.config.endpoints import RabbitMQ
from common.publishing.rabbitmq_connection import EXCHANGE, connection_parameters
from infra.local.sandbox.event_sink import QUEUES, Event, EventSink

QUEUE_NAMES = {
    "product": "product_events",
    "shopcart": "shopcart_events",
    "shop": "shop_order_items_queue",
}
RETRY_SECONDS = 2
STOP_SECONDS = 10

logger = logging.getLogger(__name__)


class SiblingsConsumer:
    """Consume the siblings' queues in a thread, reconnecting if necessary."""

    def __init__(self, broker: RabbitMQ, sink: EventSink) -> None:
        self._broker = broker
        self._sink = sink
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="rabbitmq-siblings", daemon=True
        )

    def start(self) -> None:
        """Begin to consume."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; unacknowledged messages stay with the broker."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._consume()
            # ValueError: pika's, of a broker that hangs up as soon as we are through.
            except (AMQPError, OSError, ValueError) as error:
                logger.warning("RabbitMQ: %s; trying again", type(error).__name__)
                self._stopping.wait(RETRY_SECONDS)

    def _consume(self) -> None:
        parameters = connection_parameters(self._broker)
        with closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
            for sibling, queue in QUEUE_NAMES.items():
                channel.queue_declare(queue, durable=True)
                channel.queue_bind(queue, EXCHANGE, routing_key=QUEUES[sibling])
                channel.basic_consume(queue, self._store_in(sibling))
            while not self._stopping.is_set():
                connection.process_data_events(time_limit=0.2)

    def _store_in(self, sibling: str) -> Callable[..., None]:
        def store(channel: Any, method: Any, properties: Any, body: bytes) -> None:  # noqa: ANN401
            attributes = {
                "ce-id": properties.message_id or "",
                "ce-type": method.routing_key,
                "content-type": properties.content_type or "",
            }
            self._sink.accept(Event(attributes=attributes, body=body), queue=sibling)
            channel.basic_ack(method.delivery_tag)

        return store


class ApprovalWorker:
    """Keeps `functions/approval_handler/worker.py` running as a process of its own."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._stopping = threading.Event()
        self._process = self._launch()
        self._thread = threading.Thread(
            target=self._watch, name="approval-worker", daemon=True
        )

    def start(self) -> None:
        """Start watching the worker, so that it is restarted if it ends."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the worker, by force if necessary."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        self._process.terminate()
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _watch(self) -> None:
        while not self._stopping.wait(RETRY_SECONDS):
            if (status := self._process.poll()) is not None:
                logger.warning("approval worker ended (%d); starting again", status)
                self._process.communicate()
                self._process = self._launch()

    def _launch(self) -> "subprocess.Popen[bytes]":
        worker = "functions/approval_handler/worker.py"
        # A session of its own: Ctrl-C is for this process, which then stops that one.
        return subprocess.Popen(
            [sys.executable, "-m", "infra.local.child", worker],
            cwd=self._checkout,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
