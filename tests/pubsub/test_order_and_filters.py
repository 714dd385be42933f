"""Messages of a key come in order, and only those that match the filter.

Lives here: what ordering keys and filters do to pulls. Not here: keys of
pushes (test_push.py).
"""

import time

import pytest
from google.api_core import exceptions

from tests.support.pubsub_clients import Clients, backoff, data_of, letters_to


def test_messages_of_a_key_come_in_order(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic, enable_message_ordering=True)
    for number in range(10):
        clients.publish(topic, f"a{number}", key="a")
        clients.publish(topic, f"b{number}", key="b")
    received: list[str] = []
    while len(received) < 20:
        batch = clients.pull(name, 1, limit=7)
        received += data_of(batch)
        clients.ack(name, *batch)
    for key in "ab":
        assert [e for e in received if e[0] == key] == [f"{key}{n}" for n in range(10)]


def test_nothing_of_a_key_comes_while_some_of_it_is_out(clients: Clients) -> None:
    topic = clients.topic()
    name = clients.subscription(topic, enable_message_ordering=True)
    clients.publish(topic, *"123", key="a")
    batch = clients.pull(name, 2, limit=2)
    assert data_of(batch) == ["1", "2"]
    clients.publish(topic, "b", key="b")
    assert data_of(clients.pull(name)) == ["b"]
    clients.ack(name, batch[0])
    assert clients.is_quiet(name)
    clients.ack(name, batch[1])
    assert data_of(clients.pull(name)) == ["3"]


def test_with_one_message_the_later_ones_of_its_key_come_again(
    clients: Clients,
) -> None:
    topic = clients.topic()
    name = clients.subscription(topic, enable_message_ordering=True)
    clients.publish(topic, *"1234", key="a")
    batch = clients.pull(name, 3, limit=3)
    clients.ack(name, batch[2])
    clients.nack(name, batch[1])
    clients.ack(name, batch[0])
    assert data_of(clients.pull(name, 3)) == ["2", "3", "4"]


def test_a_key_waits_for_the_backoff_of_its_first(clients: Clients) -> None:
    topic = clients.topic()
    settings = {"enable_message_ordering": True} | backoff(3, 3)
    name = clients.subscription(topic, **settings)
    clients.publish(topic, *"12", key="a")
    first = clients.pull(name, 1, limit=1)
    clients.publish(topic, "b", key="b")
    started = time.monotonic()
    clients.nack(name, *first)
    assert data_of(clients.pull(name)) == ["b"]
    assert data_of(clients.pull(name, 2)) == ["1", "2"]
    assert time.monotonic() - started >= 3


def test_a_dead_letter_lets_the_others_of_its_key_pass(clients: Clients) -> None:
    topic, letters = clients.topic(), clients.topic()
    settings = {"enable_message_ordering": True} | letters_to(letters)
    name = clients.subscription(topic, **settings)
    clients.publish(topic, *"12", key="a")
    for _ in range(5):
        batch = clients.pull(name, 1, limit=1)
        assert data_of(batch) == ["1"]
        clients.nack(name, *batch)
    assert data_of(clients.pull(name)) == ["2"]


FILTERS = {
    'attributes.type = "a.b"': ["both", "plain"],
    'attributes.type != "a.b"': ["none", "other"],
    "attributes:type": ["both", "other", "plain"],
    "NOT attributes:type": ["none"],
    "-attributes:type": ["none"],
    'hasPrefix(attributes.type, "a.")': ["both", "other", "plain"],
    'hasPrefix(attributes.type, "a.b")': ["both", "plain"],
    'attributes.type = "a.b" AND attributes:shop': ["both"],
    'attributes.type = "a.c" OR attributes:shop': ["both", "none", "other"],
    'attributes:shop AND (NOT attributes:type OR attributes.type = "a.b")': [
        "both",
        "none",
    ],
    'NOT (attributes.type = "a.b" OR attributes.type = "a.c")': ["none"],
    'attributes.ce-x = "1"': ["plain"],
    'attributes."ce-x" = "1"': ["plain"],
    'attributes:"iana.org/x"': ["other"],
    "": ["both", "none", "other", "plain"],
}
FILTERED = {
    "plain": {"type": "a.b", "ce-x": "1"},
    "both": {"type": "a.b", "shop": "1"},
    "other": {"type": "a.c", "iana.org/x": "1"},
    "none": {"shop": "1"},
}


def test_a_filter_lets_through_what_matches(clients: Clients) -> None:
    topic = clients.topic()
    names = {text: clients.subscription(topic, filter=text) for text in FILTERS}
    for data, attributes in FILTERED.items():
        message = {"data": data.encode(), "attributes": attributes}
        clients.send(topic, message)
    found = {text: data_of(clients.pull(name, 1, 9)) for text, name in names.items()}
    assert {text: sorted(data) for text, data in found.items()} == FILTERS


@pytest.mark.parametrize(
    "text",
    [
        'attributes:a OR attributes:b AND attributes.c = "d"',
        "attributes:a and attributes:b",
        "attributes.a = b",
        'attributes.iana.org = "b"',
        'attribute.a = "b"',
        'hasPrefix(attributes.a "b")',
        "(attributes:a",
        "attributes:a attributes:b",
        'attributes.a = "b',
        'attributes.a > "b"',
        f'attributes.a = "{"b" * 256}"',
    ],
)
def test_what_is_no_filter_is_refused(clients: Clients, text: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        clients.subscription(clients.topic(), filter=text)
