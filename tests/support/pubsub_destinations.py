"""Pub/Sub as a destination: our double, and Google's emulator.

Google's client reads the emulator's address from the environment, so use a publisher
only within `pubsub` or `pubsub_emulator`.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.pubsub_v1 import PublisherClient, PublishRequest, SubscriberClient

from common.config.endpoints import PubSub
from common.publishing.publisher import Publisher
from common.publishing.pubsub import PubSubPublisher
from tests.support.destinations import Arrived, Destination, arrived
from tests.support.link import LOOPBACK, Link, link_to
from tests.support.pubsub import PROJECT, TOPIC, running_pubsub
from tests.support.pubsub import PubSub as Double
from tests.support.pubsub_emulator import Emulator

OFTEN = 1000


class PubSubDestination(Destination):
    """A topic of Pub/Sub's double."""

    def __init__(self, link: Link, double: Double) -> None:
        super().__init__(link)
        self._double = double
        self._seen = 0

    def publisher(self) -> Publisher:
        """Return a new publisher to it."""
        return PubSubPublisher(PubSub(project=PROJECT, topic=TOPIC))

    def refuse(self, event_type: str) -> None:
        """Call a request that has an event of this type malformed."""

        def has_it(request: PublishRequest) -> bool:
            types = [each.attributes["event_type"] for each in request.messages]
            return event_type in types

        malformed = grpc.StatusCode.INVALID_ARGUMENT
        self._double.spoil(malformed, times=OFTEN, only=has_it)

    def accept(self) -> None:
        """Turn down nothing any more."""
        self._double.heal()

    def _take(self) -> list[Arrived]:
        fresh = self._double.published()[self._seen :]
        self._seen += len(fresh)
        return [_from_pubsub(each) for each in fresh]


class EmulatorDestination(Destination):
    """A topic of the vendor's own emulator, and a subscription that keeps orders."""

    def __init__(self, link: Link, subscriber: SubscriberClient) -> None:
        """Make both; called where the environment names the emulator."""
        super().__init__(link)
        self._topic = f"events-{uuid.uuid4().hex}"
        self._subscriber = subscriber
        self._subscription = subscriber.subscription_path(PROJECT, self._topic)
        topic = PublisherClient.topic_path(PROJECT, self._topic)
        with PublisherClient() as admin:
            admin.create_topic(name=topic)
        wanted = {"name": self._subscription, "topic": topic}
        self._subscriber.create_subscription(
            request=wanted | {"enable_message_ordering": True}
        )

    def publisher(self) -> Publisher:
        """Return a new publisher to it."""
        return PubSubPublisher(PubSub(project=PROJECT, topic=self._topic))

    def refuse(self, event_type: str) -> None:
        """Fail: there is nothing that it would turn down, which is a known gap."""
        pytest.fail(f"the emulator takes any {event_type}")

    def accept(self) -> None:
        """Turn down nothing, as ever."""

    def _take(self) -> list[Arrived]:
        asked = {"subscription": self._subscription, "max_messages": 1000}
        # Deprecated for consumers; a look that waits would wait for ten seconds.
        with pytest.warns(DeprecationWarning, match="return_immediately"):
            answer = self._subscriber.pull(
                request=asked | {"return_immediately": True}, timeout=10
            )
        received = list(answer.received_messages)
        if received:
            ack_ids = [each.ack_id for each in received]
            self._subscriber.acknowledge(
                subscription=self._subscription, ack_ids=ack_ids
            )
        return [_from_pubsub(each.message) for each in received]


def _from_pubsub(message: Any) -> Arrived:
    attributes = dict(message.attributes)
    assert message.ordering_key == attributes["order_id"] == attributes["ce-subject"]
    return arrived("pubsub", message.data, attributes, attributes["content-type"])


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the vendor's client reads by itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@contextmanager
def pubsub() -> Iterator[Destination]:
    """Yield the double."""
    with (
        running_pubsub() as double,
        link_to(double.host) as link,
        environment({"PUBSUB_EMULATOR_HOST": f"{LOOPBACK}:{link.port}"}),
    ):
        yield PubSubDestination(link, double)


@contextmanager
def pubsub_emulator(emulator: Emulator) -> Iterator[Destination]:
    """Yield a new topic of the vendor's emulator."""
    with (
        environment(emulator.environ),
        SubscriberClient() as subscriber,
        link_to(emulator.host) as link,
    ):
        destination = EmulatorDestination(link, subscriber)
        with environment({"PUBSUB_EMULATOR_HOST": f"{LOOPBACK}:{link.port}"}):
            yield destination
