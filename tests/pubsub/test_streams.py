"""A streaming pull, as the vendor's subscriber uses it.

Lives here: streams. Not here: the rules of delivery (test_delivery.py).
"""

import threading
import time
from typing import Any

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types

from tests.support.pubsub_clients import PATIENCE_SECONDS, Clients, later, streaming
from tests.support.pubsub_state import PROJECT


def test_the_vendors_client_subscribes(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic, enable_message_ordering=True)
    clients.publish(topic, *"123", key="a")
    received: list[str] = []
    is_back, is_done = threading.Event(), threading.Event()

    def handle(message: Any) -> None:
        received.append(message.data.decode())
        if received == ["1"]:
            message.nack()
            return
        message.ack()
        if received.count("1") == 2 and received[-3:] == [*"123"]:
            is_back.set()
        if received[-1] == "4":
            is_done.set()

    stream = clients.subscriber.subscribe(name, handle)
    try:
        assert is_back.wait(clients.patience)
        clients.publish(topic, "4", key="a")
        assert is_done.wait(clients.patience)
    finally:
        stream.cancel()
        stream.result(PATIENCE_SECONDS)
    assert received[0] == "1"
    assert received[-4:] == ["1", "2", "3", "4"]
    assert clients.is_quiet(name)


def test_a_stream_carries_acknowledgements_too(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    asked, received = streaming(clients, name)
    clients.publish(topic, "x")
    given_back = next(received)
    asked.put(
        types.StreamingPullRequest(
            modify_deadline_ack_ids=[given_back.ack_id], modify_deadline_seconds=[0]
        )
    )
    again = next(received)
    assert again.message.message_id == given_back.message.message_id
    asked.put(types.StreamingPullRequest(ack_ids=[again.ack_id]))
    time.sleep(1)
    asked.put(None)
    assert list(received) == []
    clients.nack(name, again)
    assert clients.is_quiet(name)


def test_a_stream_has_no_more_out_than_it_asks_for(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, *"123")
    asked, received = streaming(clients, name, max_outstanding_messages=2)
    first, _ = next(received), next(received)
    started = time.monotonic()
    with later(2, clients.ack, name, first):
        next(received)
        assert time.monotonic() - started >= 2
    asked.put(None)
    assert list(received) == []


def test_a_stream_of_nothing_ends_with_a_reason(clients: Clients) -> None:
    name = f"projects/{PROJECT}/subscriptions/nowhere"
    stream = clients.subscriber.subscribe(name, lambda message: message.ack())
    with pytest.raises(exceptions.NotFound):
        stream.result(PATIENCE_SECONDS)
