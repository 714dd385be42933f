"""Database, siblings and broker around the processes that are killed.

A queue of the tests' own receives every event, so that what was published is known from
the broker.
"""

import contextlib
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from pika.adapters.blocking_connection import BlockingChannel

from tests.support import database
from tests.support.crash.nursery import PATIENCE_SECONDS, Child, Nursery
from tests.support.published import published_to_pubsub, published_to_rabbitmq
from tests.support.pubsub import PubSub, running_pubsub
from tests.support.rabbitmq import EXCHANGE, Broker
from tests.support.relaying import let_time_pass
from tests.support.sandbox import Sandbox, running_sandbox
from tests.support.service import Service

KILLED = -9

# Longer than any request takes. The port of a process that was killed may be somebody
# else's by now, who never answers.
ANSWER_SECONDS = 20


@dataclass
class Request:
    """One HTTP request, which a client repeats until it gets an answer."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass
class Heard:
    """A message as it came out of the broker."""

    event_id: str
    type: str
    body: dict[str, Any]

    @property
    def order_id(self) -> int:
        """Return which order it is about."""
        return int(self.body.get("order_id") or self.body["data"]["order_id"])


def taken(channel: BlockingChannel, queue: str) -> list[Heard]:
    """Return what is in a queue, in its order, and leave it empty."""
    count = channel.queue_declare(queue, passive=True).method.message_count
    found: list[Heard] = []
    while len(found) < count:
        for delivery, properties, body in channel.consume(
            queue, auto_ack=True, inactivity_timeout=5
        ):
            assert delivery is not None, f"{queue} has fewer than it said"
            published_to_rabbitmq(delivery, properties, body)
            heard = Heard(properties.message_id, properties.type, json.loads(body))
            found.append(heard)
            if len(found) >= count:
                break
        channel.cancel()
    return found


def settle(service: Service, which: str = "true") -> None:
    """Sweep until nothing of `which` is owed; only where nobody else sends any more.

    Moves the times of rows, so that no claim and no backoff is waited for.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    service.sweep()
    while service.rows(f"SELECT 1 FROM outbox WHERE {which} LIMIT 1"):
        assert time.monotonic() < deadline, "something stays owed"
        let_time_pass(service.environ["DATABASE_URL"])
        service.sweep()


class World:
    """One database, one sandbox, one queue that hears everything."""

    def __init__(
        self,
        service: Service,
        nursery: Nursery,
        broker: Broker,
        channel: BlockingChannel,
        queue: str,
        *,
        pubsub: PubSub,
    ) -> None:
        self.service = service
        self.nursery = nursery
        self.broker = broker
        self.channel = channel
        self.queue = queue
        self.pubsub = pubsub
        self.heard: dict[str, list[Heard]] = {"rabbitmq": [], "pubsub": []}

    @property
    def sandbox(self) -> Sandbox:
        """Return the siblings."""
        return self.service.sandbox

    # Victims.

    def start(
        self,
        role: str,
        *arguments: str,
        kill_at: tuple[str, int] | None = None,
        disturbance: str | None = None,
    ) -> Child:
        """Start a process of the service."""
        environ = {**self.service.environ, "LOG_LEVEL": "INFO"}
        return self.nursery.start(
            role, environ, *arguments, kill_at=kill_at, disturbance=disturbance
        )

    def send(self, child: Child, request: Request) -> int | None:
        """Return the status of the reply; None: the link broke before there was one."""
        link = http.client.HTTPConnection("127.0.0.1", child.port, ANSWER_SECONDS)
        headers = dict(request.headers)
        body = request.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        with contextlib.closing(link):
            try:
                link.request(request.method, request.path, body, headers)
                return link.getresponse().status
            except (OSError, http.client.HTTPException):
                return None

    def wait_until(self, question: Callable[[], object], child: Child) -> bool:
        """Wait for it; answer False where the child ended instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not question():
            if self.nursery.wait(child, 0) is not None:
                return bool(question())
            assert time.monotonic() < deadline, child.log.read_text()
            time.sleep(0.01)
        return True

    # What is left when all is over.

    def settle(self) -> None:
        """Have nothing be owed that is not held, and hear of all of it."""
        settle(self.service, "held_since IS NULL")
        self.listen()

    def listen(self) -> None:
        """Take what has come to our queue since, and look what came to the topic."""
        self.heard["rabbitmq"] += taken(self.channel, self.queue)
        came = self.pubsub.published()
        for message in came[len(self.heard["pubsub"]) :]:
            published_to_pubsub(message)
        self.heard["pubsub"] = [
            Heard(
                message.attributes["event_id"],
                message.attributes["event_type"],
                json.loads(message.data),
            )
            for message in came
        ]


@contextlib.contextmanager
def running_world(
    server_url: str,
    template: str,
    nursery: Nursery,
    broker: Broker,
    channel: BlockingChannel,
    **settings: str,
) -> Iterator[World]:
    """Yield a world with an empty database; what it leaves in the broker is purged."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EXCHANGE, "#")
    with (
        database.database(server_url, template=template) as url,
        running_sandbox(deliver=False) as sandbox,
        running_pubsub() as pubsub,
        mock.patch.dict(os.environ, pubsub.environ),  # the vendor's client reads it
    ):
        service = Service(url, sandbox)
        service.environ |= broker.environ | pubsub.environ
        service.environ |= {"EVENT_BUS": "rabbitmq"} | settings
        try:
            yield World(service, nursery, broker, channel, queue, pubsub=pubsub)
        finally:
            service.close()
            channel.queue_delete(queue)
