"""Each message comes until it is acknowledged, or given up.

Lives here: pulls, deadlines, backoff, dead letters. Not here: order, streams
and push, which have files of their own.
"""

import time

import pytest
from google.api_core import exceptions

from tests.support.pubsub import PubSub
from tests.support.pubsub_clients import Clients, backoff, data_of, later, letters_to
from tests.support.pubsub_state import PROJECT


def test_each_subscription_gets_what_comes_after_it_was_made(clients: Clients) -> None:
    topic = clients.topic()
    first = clients.subscription(topic)
    clients.publish(topic, "early")
    second = clients.subscription(topic)
    clients.publish(topic, "late")
    assert sorted(data_of(clients.pull(first, 2))) == ["early", "late"]
    assert data_of(clients.pull(second)) == ["late"]


def test_a_pull_waits_for_a_message(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    with later(0.3, clients.publish, topic, "x"):
        assert data_of(clients.pull(name)) == ["x"]


def test_a_pull_takes_no_more_than_it_asks_for(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, *"abc")
    answer = clients.subscriber.pull(subscription=name, max_messages=2)
    assert len(answer.received_messages) <= 2
    with pytest.raises(exceptions.InvalidArgument):
        clients.subscriber.pull(subscription=name, max_messages=0)


def test_what_is_acknowledged_does_not_come_again(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, "x")
    received = clients.pull(name)
    clients.ack(name, *received)
    clients.ack(name, *received)
    clients.nack(name, *received)
    assert clients.is_quiet(name)


def test_what_is_given_back_comes_again_at_once(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, "x")
    first = clients.pull(name)
    clients.nack(name, *first)
    second = clients.pull(name)
    assert first[0].message.message_id == second[0].message.message_id
    assert first[0].ack_id != second[0].ack_id


def test_what_is_kept_too_long_comes_again(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, "x")
    received = clients.pull(name)
    clients.extend(name, 3, *received)
    assert clients.is_quiet(name, 0.5)
    assert data_of(clients.pull(name)) == ["x"]


def test_who_asks_for_more_time_gets_it(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, "x")
    received = clients.pull(name)
    clients.extend(name, 3, *received)
    clients.extend(name, 30, *received)
    assert clients.is_quiet(name, 3.5)


def test_nobody_gets_more_than_ten_minutes(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, "x")
    received = clients.pull(name)
    clients.extend(name, 600, *received)
    with pytest.raises(exceptions.InvalidArgument):
        clients.extend(name, 601, *received)


def test_a_late_acknowledgement_counts_for_nothing(
    double: PubSub, own_clients: Clients
) -> None:
    name = double.subscription("late")
    own_clients.publish(double.topic(), "x")
    received = own_clients.pull(name)
    own_clients.nack(name, *received)
    own_clients.ack(name, *received)
    assert data_of(own_clients.pull(name)) == ["x"]
    assert [message.data for message in double.unacknowledged(name)] == [b"x"]


def test_a_retry_policy_doubles_the_wait_up_to_its_longest(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic, **backoff(0.1, 0.4))
    clients.publish(topic, "x")
    [received] = clients.pull(name)
    # Doubled on and on, the last would be longer than a pull waits.
    for shortest in (0.1, 0.2, *[0.4] * 7):
        started = time.monotonic()
        clients.nack(name, received)
        [received] = clients.pull(name)
        assert time.monotonic() - started >= shortest


def test_without_a_dead_letter_policy_attempts_are_not_told(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic)
    clients.publish(topic, "x")
    for _ in range(2):
        [received] = clients.pull(name)
        assert received.delivery_attempt == 0
        clients.nack(name, received)


def test_what_fails_too_often_goes_to_the_dead_letters(clients: Clients) -> None:
    topic, letters = clients.topic(), clients.topic()
    name = clients.subscription(topic, **letters_to(letters))
    graveyard = clients.subscription(letters)
    clients.publish(topic, "x", key="4", event_type="order.created")
    attempts, published = [], ""
    for _ in range(5):
        [received] = clients.pull(name)
        attempts.append(received.delivery_attempt)
        published = received.message.publish_time.isoformat(timespec="milliseconds")
        clients.nack(name, received)
    assert clients.is_quiet(name)
    [letter] = clients.pull(graveyard)
    assert letter.message.data == b"x"
    assert letter.message.ordering_key == "4"
    attributes = dict(letter.message.attributes)
    found = attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
    assert found[:19] == published[:19]
    assert attributes == {
        "event_type": "order.created",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": name.rpartition("/")[2],
        "CloudPubSubDeadLetterSourceSubscriptionProject": PROJECT,
    }
    assert attempts == [1, 2, 3, 4, 5]


def test_dead_letters_stay_where_they_are_when_their_topic_is_gone(
    clients: Clients,
) -> None:
    topic, letters = clients.topic(), clients.topic()
    name = clients.subscription(topic, **letters_to(letters))
    clients.publish(topic, "x")
    clients.publisher.delete_topic(topic=letters)
    for _ in range(7):
        [received] = clients.pull(name)
        clients.nack(name, received)
