"""The approval worker as a process, and its queues in RabbitMQ.

`prelude` is Python that runs in the worker before its `main`, with the module as
`worker`.
"""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.support.bodies import status_event
from tests.support.rabbitmq import EXCHANGE, Broker
from tests.support.service import Service
from tests.support.serving import CHECKOUT, environment

WORKER = CHECKOUT / "functions" / "approval_handler" / "worker.py"
QUEUE = "order_approval"
STATUS_UPDATED = "order.item.status.updated"
PATIENCE_SECONDS = 30

_PROGRAM = """
from common import failpoints
from tests.support.worker import worker_module
worker = worker_module()
{prelude}
worker.main([])
print("main has returned")
"""


def worker_module() -> ModuleType:
    """Load `worker.py`, which is in no package."""
    spec = importlib.util.spec_from_file_location("approval_worker", WORKER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def worker(
    service: Service,
    broker: Broker,
    port: int | None = None,
    *,
    prelude: str | None = None,
    output: Path | None = None,
    **settings: str,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the worker; it hears from the broker, and tells the sandbox's sink.

    What it says goes to the file `output`, if one is named.
    """
    told = {**broker.environ, **settings}
    if port is not None:
        told["RABBITMQ_PORT"] = str(port)
    command = [sys.executable, str(WORKER)]
    if prelude is not None:
        command = [sys.executable, "-c", _PROGRAM.format(prelude=prelude)]
    with started(command, environ_of(service, told), output) as process:
        yield process


def environ_of(service: Service, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process beside the service."""
    return environment(**{**service.environ, "LOG_LEVEL": "INFO", **settings})


@contextmanager
def started(
    command: Sequence[str], environ: Mapping[str, str], output: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process while the block runs; what it says goes to `output`, if named."""
    with output.open("wb") if output else nullcontext() as file:
        process = subprocess.Popen(
            command, env=environ, cwd="/", stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)


def eventually(
    question: Callable[[], object], seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until the answer is true; fails when it stays false."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@contextmanager
def channel_of(broker: Broker) -> Iterator[BlockingChannel]:
    """Yield a channel on a connection of its own."""
    connection = broker.connect()
    try:
        yield connection.channel()
    finally:
        connection.close()


def counts(broker: Broker, queue: str) -> tuple[int, int]:
    """Return how many messages wait and how many consume; -1 where no queue is."""
    with channel_of(broker) as channel:
        try:
            declared = channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return -1, -1
    return declared.method.message_count, declared.method.consumer_count


def consumers(broker: Broker, queue: str = QUEUE) -> int:
    """Return how many consume the queue; -1 while it does not exist."""
    return counts(broker, queue)[1]


def ready(broker: Broker) -> Callable[[], bool]:
    """Return the question whether a worker consumes."""
    return lambda: consumers(broker) == 1


def publish(
    broker: Broker, body: bytes, exchange: str = EXCHANGE, **properties: Any
) -> None:
    """Publish as a status event, whatever the body."""
    with channel_of(broker) as channel:
        channel.basic_publish(
            exchange, STATUS_UPDATED, body, pika.BasicProperties(**properties)
        )


def trigger(broker: Broker, order_id: int) -> None:
    """Publish a status event of the order."""
    publish(broker, json.dumps(status_event(order_id)).encode())


def waiting(broker: Broker, queue: str) -> list[bytes]:
    """Look at what is in a queue, leaving it there."""
    found: list[bytes] = []
    with channel_of(broker) as channel:
        while True:
            delivery, _, body = channel.basic_get(queue)
            if delivery is None:
                return found
            found.append(body)
