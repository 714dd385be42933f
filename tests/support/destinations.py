"""Destinations of every kind behind one interface, for tests of all publishers.

Each is reached through a link of its own, which can be cut, muted or refused.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pika.adapters.blocking_connection import BlockingChannel
from werkzeug.wrappers import Request, Response

from common.config.endpoints import RabbitMQ
from common.domain import events
from common.publishing.http import SinkPublisher
from common.publishing.publisher import Publisher
from common.publishing.rabbitmq import RabbitMQPublisher
from infra.local.http_server import serving
from tests.support.link import LOOPBACK, Link, link_to
from tests.support.published import properties_of, published, remarkable
from tests.support.rabbitmq import EXCHANGE, Broker

PATIENCE_SECONDS = 30
MOMENT_SECONDS = 0.2  # for a surplus to show
TYPES = sorted(events.ON_BUS)


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """One event as its destination has it; `cloud_event` is named without a prefix."""

    body: bytes = field(repr=False)
    content_type: str
    traceparent: str | None
    cloud_event: Mapping[str, str]
    transport: str
    headers: Mapping[str, str] = field(repr=False)
    properties: Mapping[str, Any] | None = field(repr=False)

    @property
    def id(self) -> str:
        """The event's own id."""
        return self.cloud_event["id"]

    @property
    def order_id(self) -> int:
        """The order that it is about."""
        return int(self.cloud_event["subject"])


def arrived(
    transport: str,
    body: bytes,
    attributes: Mapping[str, str],
    content_type: str | None,
    properties: Mapping[str, Any] | None = None,
) -> Arrived:
    """Return an event as its attributes, or headers, tell it."""
    prefix = "cloudEvents:" if transport == "rabbitmq" else "ce-"
    return Arrived(
        body=body,
        content_type=content_type or "",
        traceparent=attributes.get("traceparent"),
        cloud_event={
            name.removeprefix(prefix): value
            for name, value in attributes.items()
            if name.startswith(prefix)
        },
        transport=transport,
        headers=attributes,
        properties=properties,
    )


class Destination(ABC):
    """A destination behind `link`; publishers are the caller's to close."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._came: list[Arrived] = []

    @abstractmethod
    def publisher(self) -> Publisher:
        """Return a new publisher to it."""

    @abstractmethod
    def refuse(self, event_type: str) -> None:
        """Turn down events of this type until `accept`."""

    @abstractmethod
    def accept(self) -> None:
        """Turn down nothing any more."""

    @abstractmethod
    def _take(self) -> list[Arrived]:
        """Return what has come since the last look, in the order in which it came."""

    def arrived(self, count: int) -> list[Arrived]:
        """Return all that has come, which is to be `count` events soon, and no more.

        Headers must be as the event document has them; bodies are made up here.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self._came) < count and time.monotonic() < deadline:
            self._came += self._take()
            time.sleep(0.01)
        time.sleep(MOMENT_SECONDS)
        self._came += self._take()
        ids = [each.id for each in self._came]
        assert len(ids) == count, f"{len(ids)} arrived: {ids[:20]}"
        for each in self._came:
            published(
                each.transport,
                each.cloud_event["type"],
                each.headers,
                each.body,
                each.properties,
                is_made_up=True,
            )
        return list(self._came)


class RabbitMQDestination(Destination):
    """The platform's exchange on a real broker."""

    def __init__(self, link: Link, broker: Broker, channel: BlockingChannel) -> None:
        super().__init__(link)
        self._broker = broker
        self._channel = channel
        self._spied = self._bound(TYPES)
        self._full: list[str] = []

    def publisher(self) -> Publisher:
        """Return a new publisher to it."""
        broker = RabbitMQ(
            host=LOOPBACK,
            port=self.link.port,
            user=self._broker.user,
            password=self._broker.password,
            vhost=self._broker.vhost,
        )
        return RabbitMQPublisher(broker)

    def refuse(self, event_type: str) -> None:
        """Turn down events of this type: a queue that wants them is full."""
        full = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = self._bound([event_type], **full)
        self._channel.basic_publish("", queue, b"the one that fills it")
        self._full.append(queue)
        # Who else listens gets what is turned down all the same; let us not listen.
        self._channel.queue_unbind(self._spied, EXCHANGE, event_type)

    def accept(self) -> None:
        """Turn down nothing any more."""
        for queue in self._full:
            self._channel.queue_delete(queue)
        for event_type in TYPES:
            self._channel.queue_bind(self._spied, EXCHANGE, event_type)

    def _bound(self, event_types: Iterable[str], **arguments: object) -> str:
        declared = self._channel.queue_declare("", exclusive=True, arguments=arguments)
        queue: str = declared.method.queue
        for event_type in event_types:
            self._channel.queue_bind(queue, EXCHANGE, event_type)
        return queue

    def _take(self) -> list[Arrived]:
        taken: list[Arrived] = []
        while True:
            method, found, body = self._channel.basic_get(self._spied, auto_ack=True)
            if method is None:
                return taken
            headers = found.headers or {}
            told = properties_of(found)
            came = arrived("rabbitmq", body, headers, found.content_type, told)
            taken.append(came)


class HttpDestination(Destination):
    """A sink of CloudEvents."""

    def __init__(self, link: Link, sink: "Sink") -> None:
        super().__init__(link)
        self._sink = sink

    def publisher(self) -> Publisher:
        """Return a new publisher to it."""
        return SinkPublisher(f"http://{LOOPBACK}:{self.link.port}/events")

    def refuse(self, event_type: str) -> None:
        """Reply with 400 to events of this type."""
        self._sink.refused.add(event_type)

    def accept(self) -> None:
        """Turn down nothing any more."""
        self._sink.refused.clear()

    def _take(self) -> list[Arrived]:
        return self._sink.take()


class Sink:
    """A WSGI app that takes CloudEvents in binary mode."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self._came: list[Arrived] = []
        self._lock = threading.Lock()

    def take(self) -> list[Arrived]:
        """Return what has come since the last look."""
        with self._lock:
            taken, self._came = self._came, []
        return taken

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        body = request.get_data()
        headers = {name.lower(): value for name, value in request.headers.items()}
        is_refused = headers["ce-type"] in self.refused
        if not is_refused:
            with self._lock:
                told = remarkable(headers)
                came = arrived("http", body, told, headers.get("content-type"))
                self._came.append(came)
        return Response(status=400 if is_refused else 202)(environ, start_response)


@contextmanager
def rabbitmq(broker: Broker, channel: BlockingChannel) -> Iterator[Destination]:
    """Yield RabbitMQ; `channel` holds the lock on its exchange."""
    with link_to(f"{broker.host}:{broker.port}") as link:
        yield RabbitMQDestination(link, broker, channel)


@contextmanager
def http() -> Iterator[Destination]:
    """Yield a sink over HTTP."""
    sink = Sink()
    with serving(sink) as url, link_to(url) as link:
        yield HttpDestination(link, sink)
