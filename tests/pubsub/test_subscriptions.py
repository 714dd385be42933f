"""Subscriptions are made as asked, with the documented defaults, or refused.

Lives here: what they are. Not here: what they deliver (test_delivery.py).
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import types

from tests.support.pubsub_clients import Clients, backoff, data_of, letters_to
from tests.support.pubsub_state import DELETED_TOPIC, PROJECT


def test_a_subscription_is_what_it_was_asked_to_be(clients: Clients) -> None:
    topic, letters = clients.topic(), clients.topic()
    policy = {"dead_letter_topic": letters, "max_delivery_attempts": 7}
    backoff = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 2}}
    asked = {
        "ack_deadline_seconds": 33,
        "enable_message_ordering": True,
        "filter": "attributes:k",
        "dead_letter_policy": policy,
        "retry_policy": backoff,
        "push_config": {"push_endpoint": "http://127.0.0.1:9/", "no_wrapper": {}},
    }
    name = clients.subscription(topic, **asked)
    found = clients.subscriber.get_subscription(subscription=name)
    assert (found.name, found.topic) == (name, topic)
    assert found.ack_deadline_seconds == 33
    assert found.enable_message_ordering is True
    assert found.filter == "attributes:k"
    assert found.dead_letter_policy == types.DeadLetterPolicy(policy)
    assert found.retry_policy == types.RetryPolicy(backoff)
    assert "no_wrapper" in found.push_config


def test_what_is_not_asked_for_has_its_default(clients: Clients) -> None:
    topic = clients.topic()
    settings = {
        "dead_letter_policy": {"dead_letter_topic": topic},
        "retry_policy": {},
    }
    name = clients.subscription(topic, **settings)
    found = clients.subscriber.get_subscription(subscription=name)
    assert found.ack_deadline_seconds == 10
    assert found.dead_letter_policy.max_delivery_attempts == 5
    assert found.retry_policy.minimum_backoff == timedelta(seconds=10)
    assert found.retry_policy.maximum_backoff == timedelta(seconds=600)


NO_SUBSCRIPTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "a short deadline": lambda _: {"ack_deadline_seconds": 9},
    "a long deadline": lambda _: {"ack_deadline_seconds": 601},
    "a malformed filter": lambda _: {"filter": "attributes.k ="},
    "four attempts": lambda topic: letters_to(topic, 4),
    "too many attempts": lambda topic: letters_to(topic, 101),
    "a long backoff": lambda _: backoff(1, 601),
    "backoffs that cross": lambda _: backoff(2, 1),
    "no URL": lambda _: {"push_config": {"push_endpoint": "nowhere"}},
}


@pytest.mark.parametrize("case", NO_SUBSCRIPTIONS)
def test_what_no_subscription_may_be_is_refused(clients: Clients, case: str) -> None:
    topic = clients.topic()
    with pytest.raises(exceptions.BadRequest):
        clients.subscription(topic, **NO_SUBSCRIPTIONS[case](topic))


def test_a_subscription_needs_its_topics(clients: Clients) -> None:
    nowhere = f"projects/{PROJECT}/topics/nowhere"
    with pytest.raises(exceptions.NotFound):
        clients.subscription(nowhere)
    with pytest.raises(exceptions.NotFound):
        clients.subscription(clients.topic(), **letters_to(nowhere))


def test_a_subscription_is_made_once(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    with pytest.raises(exceptions.AlreadyExists):
        clients.subscriber.create_subscription(name=name, topic=topic)


def test_a_deleted_subscription_is_not_there(clients: Clients) -> None:
    name = clients.subscription(clients.topic())
    clients.subscriber.delete_subscription(subscription=name)
    for refused in (
        clients.subscriber.get_subscription,
        clients.subscriber.delete_subscription,
    ):
        with pytest.raises(exceptions.NotFound):
            refused(subscription=name)
    with pytest.raises(exceptions.NotFound):
        clients.pull(name)
    with pytest.raises(exceptions.NotFound):
        clients.ack(name, types.ReceivedMessage(ack_id="x"))


def test_a_subscription_outlives_its_topic(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, "kept")
    clients.publisher.delete_topic(topic=topic)
    assert clients.subscriber.get_subscription(subscription=name).topic == DELETED_TOPIC
    assert data_of(clients.pull(name)) == ["kept"]
