"""Topics are made and dropped; what is published is taken, numbered, or refused.

Lives here: a publisher's side. Not here: who gets what (test_delivery.py).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions

from tests.support.pubsub_clients import PATIENCE_SECONDS, Clients, data_of
from tests.support.pubsub_state import PROJECT


def test_a_topic_is_made_found_listed_and_deleted(clients: Clients) -> None:
    topic, publisher = clients.topic(), clients.publisher
    assert publisher.get_topic(topic=topic).name == topic
    project = f"projects/{PROJECT}"
    assert topic in [each.name for each in publisher.list_topics(project=project)]
    publisher.delete_topic(topic=topic)
    for refused in (publisher.get_topic, publisher.delete_topic):
        with pytest.raises(exceptions.NotFound):
            refused(topic=topic)
    assert topic not in [each.name for each in publisher.list_topics(project=project)]


def test_a_topic_is_made_once(clients: Clients) -> None:
    with pytest.raises(exceptions.AlreadyExists):
        clients.publisher.create_topic(name=clients.topic())


@pytest.mark.parametrize(
    "name", ["topics/x", "projects/p/topics/x", "projects/p/x/abc"]
)
def test_a_name_that_is_none_is_refused(clients: Clients, name: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        clients.publisher.create_topic(name=name)


def test_nothing_is_published_to_a_topic_that_is_not_there(clients: Clients) -> None:
    with pytest.raises(exceptions.NotFound):
        clients.publish(f"projects/{PROJECT}/topics/nowhere", "x")


MESSAGES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "an empty one": [{"data": b""}],
    "only a key": [{"ordering_key": "k"}],
    "101 attributes": [{"attributes": {f"k{n}": "v" for n in range(101)}}],
    "a long attribute key": [{"attributes": {"k" * 257: "v"}}],
    "a long attribute value": [{"attributes": {"k": "v" * 1025}}],
    "a long value in bytes": [{"attributes": {"k": "ö" * 513}}],
    "a long ordering key": [{"data": b"x", "ordering_key": "k" * 1025}],
    "too long": [{"data": b"x" * 10_000_001}],
    "too long together": [{"data": b"x" * 5_000_000}] * 2,
    "two ordering keys": [{"data": b"x", "ordering_key": key} for key in "ab"],
    "1001 messages": [{"data": b"x"}] * 1001,
}


@pytest.mark.parametrize("case", MESSAGES)
def test_what_no_message_may_be_is_refused(clients: Clients, case: str) -> None:
    topic = clients.topic()
    subscription = clients.subscription(topic)
    with pytest.raises(exceptions.InvalidArgument):
        clients.send(topic, *MESSAGES[case])
    clients.publish(topic, "after")
    assert data_of(clients.pull(subscription, 1, limit=9)) == ["after"]


def test_a_message_may_be_as_large_as_the_limits(clients: Clients) -> None:
    attributes = {f"{n:0256}": "v" * 1024 for n in range(100)}
    whole = {"attributes": attributes, "ordering_key": "k" * 1024}
    assert clients.send(clients.topic(), whole, whole | {"data": b"x" * 9_000_000})


def test_ids_rise_and_the_time_is_the_time_of_publishing(clients: Clients) -> None:
    topic = clients.topic()
    subscription = clients.subscription(topic)
    before = datetime.now(UTC)
    forged = {"message_id": "7", "publish_time": datetime(2020, 1, 1, tzinfo=UTC)}
    ids = clients.send(topic, *[{"data": b"x"} | forged] * 3)
    assert sorted(ids, key=int) == ids
    assert len(set(ids)) == 3
    received = clients.pull(subscription, 3)
    assert sorted(each.message.message_id for each in received) == sorted(ids)
    slack = timedelta(seconds=1)
    for each in received:
        assert before - slack < each.message.publish_time < datetime.now(UTC) + slack


def test_the_vendors_client_publishes_in_order(clients: Clients) -> None:
    topic = clients.topic()
    subscription = clients.subscription(topic, enable_message_ordering=True)
    sent = [str(number) for number in range(20)]
    confirms = [
        clients.vendor.publish(topic, each.encode(), ordering_key="4", order_id="4")
        for each in sent
    ]
    ids = [confirm.result(PATIENCE_SECONDS) for confirm in confirms]
    received = clients.pull(subscription, 20)
    assert data_of(received) == sent
    assert [each.message.message_id for each in received] == ids
    assert received[0].message.attributes == {"order_id": "4"}
    assert received[0].message.ordering_key == "4"
