"""What a test can have go wrong in the double, and see of it.

Lives here: faults, looking inside, starting and stopping. Not here: what
the emulator can do, too.
"""

import contextlib
import threading
import time

import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types

from infra.local.http_server import serving
from tests.support.pubsub import PubSub, running_pubsub
from tests.support.pubsub_calls import PULL_SECONDS
from tests.support.pubsub_clients import (
    PATIENCE_SECONDS,
    Clients,
    Endpoint,
    clients_of,
    data_of,
    later,
    letters_to,
    pushing,
    streaming,
)
from tests.support.pubsub_state import PROJECT, TOPIC


def test_a_publish_can_be_refused_a_few_times(
    double: PubSub, own_clients: Clients
) -> None:
    double.spoil(grpc.StatusCode.PERMISSION_DENIED, times=2)
    for _ in range(2):
        with pytest.raises(exceptions.PermissionDenied):
            own_clients.publish(double.topic(), "x")
    assert double.published() == []
    own_clients.publish(double.topic(), "y")
    assert [message.data for message in double.published()] == [b"y"]
    assert [request.messages[0].data for request in double.requests] == [
        b"x",
        b"x",
        b"y",
    ]


def test_the_answer_to_a_publish_can_be_lost(
    double: PubSub, own_clients: Clients
) -> None:
    double.spoil(grpc.StatusCode.UNAVAILABLE, is_stored=True)
    with pytest.raises(exceptions.ServiceUnavailable):
        own_clients.publish(double.topic(), "x")
    assert [message.data for message in double.published()] == [b"x"]


def test_a_publish_can_take_its_time(double: PubSub, own_clients: Clients) -> None:
    double.spoil(delay=0.3)
    started = time.monotonic()
    own_clients.publish(double.topic(), "x")
    assert time.monotonic() - started >= 0.3
    assert len(double.published()) == 1


def test_only_some_publishes_can_go_wrong(double: PubSub, own_clients: Clients) -> None:
    def is_for_4(request: types.PublishRequest) -> bool:
        return bool(request.messages[0].ordering_key == "4")

    double.spoil(grpc.StatusCode.INVALID_ARGUMENT, times=9, only=is_for_4)
    own_clients.publish(double.topic(), "x", key="5")
    with pytest.raises(exceptions.InvalidArgument):
        own_clients.publish(double.topic(), "y", key="4")
    double.heal()
    own_clients.publish(double.topic(), "z", key="4")
    assert [message.data for message in double.published()] == [b"x", b"z"]


def test_the_port_can_be_closed_and_opened_again(
    double: PubSub, own_clients: Clients
) -> None:
    host = double.host
    own_clients.publish(double.topic(), "x")
    double.refuse()
    with pytest.raises(exceptions.ServiceUnavailable):
        own_clients.publish(double.topic(), "y")
    double.restore()
    assert double.host == host
    confirm = own_clients.vendor.publish(double.topic(), b"z")
    assert confirm.result(20)
    assert [message.data for message in double.published()] == [b"x", b"z"]


def test_a_closed_port_waits_for_nobody(double: PubSub, own_clients: Clients) -> None:
    double.spoil(delay=60)
    confirm = own_clients.vendor.publish(double.topic(), b"x", retry=None)
    double.wait_for(lambda: double.requests)
    started = time.monotonic()
    double.refuse()
    with pytest.raises(exceptions.GoogleAPICallError):
        confirm.result(30)
    assert time.monotonic() - started < 30


def test_a_test_can_wait_for_what_comes(double: PubSub, own_clients: Clients) -> None:
    with later(0.2, own_clients.publish, double.topic(), "x"):
        [message] = double.wait_for(double.published)
    assert message.data == b"x"
    with pytest.raises(AssertionError):
        double.wait_for(lambda: double.published("other"), 0.1)


def test_what_expired_is_a_dead_letter_though_nobody_pulls(
    double: PubSub, own_clients: Clients
) -> None:
    name = double.subscription("given-up", **letters_to(double.topic("letters")))
    own_clients.publish(double.topic(), "x")
    for _ in range(4):
        own_clients.nack(name, *own_clients.pull(name))
    own_clients.extend(name, 1, *own_clients.pull(name))
    [letter] = double.wait_for(lambda: double.published("letters"))
    assert letter.data == b"x"
    assert double.unacknowledged(name) == []


def test_a_subscription_can_be_made_and_looked_into(
    double: PubSub, own_clients: Clients
) -> None:
    topic = double.topic("other")
    name = double.subscription("looked-into", topic, filter="attributes:kind")
    own_clients.publish(topic, "x", kind="v")
    own_clients.publish(topic, "y")
    [message] = double.unacknowledged(name)
    assert message.data == b"x"
    own_clients.ack(name, *own_clients.pull(name))
    assert double.unacknowledged(name) == []
    assert len(double.published("other")) == 2
    assert double.published("nowhere") == []
    with pytest.raises(exceptions.NotFound):
        own_clients.publish(f"projects/{PROJECT}/topics/nowhere", "x")


def test_what_expires_together_has_failed_each_by_itself(
    double: PubSub, own_clients: Clients
) -> None:
    settings = letters_to(double.topic("letters")) | {"enable_message_ordering": True}
    name = double.subscription("expired", **settings)
    own_clients.publish(double.topic(), *"12", key="a")
    own_clients.extend(name, 1, *own_clients.pull(name, 2))
    again = own_clients.pull(name, 2)
    assert data_of(again) == ["1", "2"]
    assert [each.delivery_attempt for each in again] == [2, 2]


def test_its_variables_are_those_of_the_service(double: PubSub) -> None:
    assert double.environ == {
        "PUBSUB_EMULATOR_HOST": double.host,
        "PUBSUB_PROJECT": PROJECT,
        "PUBSUB_TOPIC": TOPIC,
    }
    assert double.published() == []


def waiting_pull(clients: Clients, name: str) -> None:
    with contextlib.suppress(exceptions.GoogleAPICallError):
        clients.subscriber.pull(
            subscription=name, max_messages=1, retry=None, timeout=20
        )


def test_it_stops_at_once_whatever_is_under_way() -> None:
    before = set(threading.enumerate())
    hangs = Endpoint(pause=60)
    with serving(hangs) as url, contextlib.ExitStack() as stack:
        with running_pubsub() as running:
            clients = stack.enter_context(clients_of(running))
            pushing(clients, url, running.topic())
            pulled = running.subscription("pulled")
            streamed = running.subscription("streamed")
            asked, received = streaming(clients, streamed)
            clients.publish(running.topic(), "x")
            assert next(received).message.data == b"x"
            running.wait_for(lambda: hangs.requests)
            clients.pull(pulled)
            pull = threading.Thread(target=waiting_pull, args=[clients, pulled])
            pull.start()
            time.sleep(0.1)
            started = time.monotonic()
        assert time.monotonic() - started < PULL_SECONDS - 1
        with pytest.raises(exceptions.GoogleAPICallError):
            next(received)
        asked.put(None)
        pull.join()
        hangs.freed.set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
