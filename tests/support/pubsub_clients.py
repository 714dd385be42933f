"""Google's own clients of a Pub/Sub, and an endpoint that it pushes to.

Lives here: what tests say to either server, our own (`pubsub.py`) or the emulator
(`pubsub_emulator.py`), and settings that many ask for. Not here: assertions about the
service. Surprise: Google's clients read PUBSUB_EMULATOR_HOST when they are made, and
never again.
"""

import base64
import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient, types

from tests.support.pubsub import PubSub
from tests.support.pubsub_emulator import Emulator
from tests.support.pubsub_state import PROJECT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Received = types.ReceivedMessage
Asked = queue.SimpleQueue[types.StreamingPullRequest | None]
# For what must come. Longer than the shortest ack deadline: what a server gave to a
# pull that had just hung up comes again after that.
PATIENCE_SECONDS = 15


class Clients:
    """Google's clients for one server, and what tests say with them."""

    def __init__(self, server: PubSub | Emulator) -> None:
        self.host = server.host
        self.patience: float = PATIENCE_SECONDS
        self._subscriptions: list[str] = []
        self.vendor = pubsub_v1.PublisherClient(
            publisher_options=pubsub_v1.types.PublisherOptions(
                enable_message_ordering=True
            )
        )
        # The one that sends a request as it is.
        self.publisher = PublisherClient(transport=self.vendor.transport)
        self.subscriber = pubsub_v1.SubscriberClient()

    def close(self) -> None:
        self.vendor.stop()
        self.vendor.transport.close()
        self.subscriber.close()

    def topic(self) -> str:
        name: str = self.publisher.topic_path(PROJECT, f"topic-{uuid4()}")
        self.publisher.create_topic(name=name, retry=None)
        return name

    def subscription(self, topic: str, **settings: Any) -> str:
        short = f"subscription-{uuid4()}"
        name: str = self.subscriber.subscription_path(PROJECT, short)
        asked = types.Subscription(name=name, topic=topic, **settings)
        self.subscriber.create_subscription(
            request=asked, retry=None, timeout=PATIENCE_SECONDS
        )
        self._subscriptions.append(name)
        return name

    def unsubscribe(self) -> None:
        """Delete the subscriptions that it made: the next test may get their port."""
        for name in self._subscriptions:
            with contextlib.suppress(exceptions.GoogleAPICallError):
                self.subscriber.delete_subscription(
                    subscription=name, retry=None, timeout=PATIENCE_SECONDS
                )

    def send(self, topic: str, *messages: dict[str, Any]) -> list[str]:
        """Publish all in one request."""
        request = types.PublishRequest(topic=topic, messages=list(messages))
        answer = self.publisher.publish(
            request=request, retry=None, timeout=PATIENCE_SECONDS
        )
        return list(answer.message_ids)

    def publish(self, topic: str, *data: str, key: str = "", **attributes: str) -> None:
        """Publish one by one."""
        for each in data:
            message = {"data": each.encode(), "ordering_key": key}
            self.send(topic, message | {"attributes": attributes})

    def pull(self, subscription: str, count: int = 1, limit: int = 0) -> list[Received]:
        """Pull until there are so many; in one call at most `limit`."""
        received: list[Received] = []
        deadline = time.monotonic() + self.patience
        while len(received) < count and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(exceptions.DeadlineExceeded):
                answer = self.subscriber.pull(
                    subscription=subscription,
                    max_messages=limit or count,
                    retry=None,
                    timeout=left,
                )
                received += answer.received_messages
        return received

    def is_quiet(self, subscription: str, seconds: float = 0.3) -> bool:
        """Tell whether nothing is to be had for so long."""
        with contextlib.suppress(exceptions.DeadlineExceeded):
            answer = self.subscriber.pull(
                subscription=subscription, max_messages=9, retry=None, timeout=seconds
            )
            return not answer.received_messages
        return True

    def ack(self, subscription: str, *received: Received) -> None:
        ack_ids = [each.ack_id for each in received]
        self.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)

    def extend(self, subscription: str, seconds: int, *received: Received) -> None:
        ack_ids = [each.ack_id for each in received]
        self.subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=ack_ids, ack_deadline_seconds=seconds
        )

    def nack(self, subscription: str, *received: Received) -> None:
        self.extend(subscription, 0, *received)


class Endpoint:
    """Where a subscription pushes to: answers `statuses` in turn, the last for ever."""

    def __init__(self, *statuses: int, pause: float = 0.0) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.times: list[float] = []  # when they came
        self.freed = threading.Event()  # set, it pauses no more
        self.most_at_once = 0
        self._statuses = list(statuses) or [204]
        self._pause = pause
        self._at_once = 0
        self._changed = threading.Condition()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        headers = {
            name.removeprefix("HTTP_").lower().replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith(("HTTP_", "CONTENT_"))
        }
        body = environ["wsgi.input"].read()
        with self._changed:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.requests.append((headers, body))
            self.times.append(time.monotonic())
            more = len(self._statuses) > 1
            status = self._statuses.pop(0) if more else self._statuses[0]
        self.freed.wait(self._pause)
        with self._changed:
            self._at_once -= 1
            self._changed.notify_all()
        start_response(f"{status} Whatever", [])
        return []

    def wait(
        self, count: int, seconds: float = PATIENCE_SECONDS
    ) -> list[tuple[dict[str, str], bytes]]:
        """Answer the requests once there are so many, and answered."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self.requests) >= count and not self._at_once, seconds
            )
            assert len(self.requests) == count
            return self.requests

    def data(self) -> list[str]:
        """Answer what the messages said, in the order they came."""
        bodies = [json.loads(body)["message"] for _, body in self.requests]
        return [base64.b64decode(body["data"]).decode() for body in bodies]


@contextlib.contextmanager
def clients_of(server: PubSub | Emulator) -> Iterator[Clients]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ.items():
            patch.setenv(name, value)
        clients = Clients(server)
    try:
        yield clients
    finally:
        clients.close()


@contextlib.contextmanager
def later(seconds: float, call: Callable[..., object], *args: object) -> Iterator[None]:
    """Have something happen while the block runs."""
    timer = threading.Timer(seconds, call, args)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def data_of(received: Iterable[Received]) -> list[str]:
    return [each.message.data.decode() for each in received]


def letters_to(topic: str, attempts: int = 5) -> dict[str, Any]:
    policy = {"dead_letter_topic": topic, "max_delivery_attempts": attempts}
    return {"dead_letter_policy": policy}


def backoff(shortest: float, longest: float) -> dict[str, Any]:
    return {
        "retry_policy": {
            "minimum_backoff": timedelta(seconds=shortest),
            "maximum_backoff": timedelta(seconds=longest),
        }
    }


def streaming(clients: Clients, name: str, **first: Any) -> tuple[Asked, Any]:
    """Open a stream: where to put what it is asked for (None ends it), and answers."""
    asked: Asked = queue.SimpleQueue()
    settings = {"subscription": name, "stream_ack_deadline_seconds": 10} | first
    asked.put(types.StreamingPullRequest(settings))
    call = clients.subscriber.streaming_pull(
        requests=iter(asked.get, None), retry=None, timeout=60
    )
    return asked, (m for answer in call for m in answer.received_messages)


def pushing(
    clients: Clients, endpoint: str, topic: str = "", **settings: Any
) -> tuple[str, str]:
    """Answer a topic, and a subscription of it that pushes."""
    topic = topic or clients.topic()
    config = settings.pop("push_config", {}) | {"push_endpoint": endpoint}
    return topic, clients.subscription(topic, push_config=config, **settings)
