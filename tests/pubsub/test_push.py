"""What is pushed is the documented request, and comes again until it is welcome.

Lives here: push. Not here: how the service reads a push (tests/functions).
"""

import base64
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from google.api_core import exceptions

from infra.local.http_server import serving
from tests.support.pubsub import PubSub
from tests.support.pubsub_clients import Clients, Endpoint, backoff, letters_to, pushing


def test_a_push_is_the_documented_json(clients: Clients) -> None:
    receiver = Endpoint()
    with serving(receiver) as url:
        topic, name = pushing(clients, f"{url}/path?query=1")
        message = {"data": b"\xffx", "ordering_key": "4", "attributes": {"k": "v"}}
        [message_id] = clients.send(topic, message)
        [(headers, body)] = receiver.wait(1)
    pushed = json.loads(body)
    assert headers["content-type"] == "application/json"
    published = pushed["message"].pop("publishTime")
    age = datetime.now(UTC) - datetime.fromisoformat(published)
    assert abs(age) < timedelta(minutes=1)
    assert pushed == {
        "message": {
            "data": base64.b64encode(b"\xffx").decode(),
            "attributes": {"k": "v"},
            "messageId": message_id,
            "message_id": message_id,
            "publish_time": published,
            "orderingKey": "4",
        },
        "subscription": name,
    }
    assert headers["user-agent"] == "CloudPubSub-Google"
    assert "authorization" not in headers


def test_an_unwrapped_push_is_the_data_alone(clients: Clients) -> None:
    receiver = Endpoint()
    with serving(receiver) as url:
        topic, _ = pushing(clients, url, push_config={"no_wrapper": {}})
        clients.publish(topic, "x", key="4", kind="v")
        [(headers, body)] = receiver.wait(1)
    assert body == b"x"
    assert "kind" not in headers
    assert not [name for name in headers if name.startswith("x-goog")]


def test_metadata_of_an_unwrapped_push_are_headers(clients: Clients) -> None:
    receiver = Endpoint()
    config = {"no_wrapper": {"write_metadata": True}}
    attributes = {"Content-Type": "application/json", "ce-type": "order.created"}
    with serving(receiver) as url:
        topic, name = pushing(clients, url, push_config=config)
        message = {"data": b"{}", "attributes": attributes, "ordering_key": "4"}
        [message_id] = clients.send(topic, message)
        [(headers, body)] = receiver.wait(1)
    assert body == b"{}"
    assert headers["content-type"] == "application/json"
    assert headers["ce-type"] == "order.created"
    assert headers["x-goog-pubsub-subscription-name"] == name
    assert headers["x-goog-pubsub-message-id"] == message_id
    datetime.fromisoformat(headers["x-goog-pubsub-publish-time"])
    assert headers["x-goog-pubsub-ordering-key"] == "4"


def test_attributes_that_can_be_no_headers_are_left_out(
    double: PubSub, own_clients: Clients
) -> None:
    receiver = Endpoint()
    config = {"no_wrapper": {"write_metadata": True}}
    attributes = {
        "kind": "Größe",
        "no name": "x",
        "broken": "a\r\nb",
        "Content-Length": "99",
        "Host": "elsewhere",
    }
    with serving(receiver) as url:
        pushing(own_clients, url, double.topic(), push_config=config)
        own_clients.send(double.topic(), {"data": b"x", "attributes": attributes})
        [(headers, body)] = receiver.wait(1)
    assert body == b"x"
    assert headers["kind"].encode("latin-1").decode() == "Größe"
    assert headers["host"] == url.removeprefix("http://")
    assert "broken" not in headers


@pytest.mark.parametrize("audience", ["", "https://approval.example"])
def test_a_push_carries_a_token(clients: Clients, audience: str) -> None:
    receiver = Endpoint()
    email = "push@orders-test.iam.gserviceaccount.com"
    token = {"service_account_email": email, "audience": audience}
    with serving(receiver) as url:
        topic, _ = pushing(clients, url, push_config={"oidc_token": token})
        clients.publish(topic, "x")
        [(headers, _)] = receiver.wait(1)
    scheme, _, text = headers["authorization"].partition(" ")
    claims = jwt.decode(text, options={"verify_signature": False})
    assert scheme == "Bearer"
    assert claims["aud"] == (audience or url)
    assert (claims["email"], claims["email_verified"]) == (email, True)
    assert claims["exp"] > time.time()


def test_a_push_that_is_welcome_is_not_repeated(clients: Clients) -> None:
    topic = clients.topic()
    receivers = [Endpoint(status) for status in (102, 200, 201, 202, 204)]
    with contextlib.ExitStack() as stack:
        for receiver in receivers:
            pushing(clients, stack.enter_context(serving(receiver)), topic)
        clients.publish(topic, "x")
        for receiver in receivers:
            receiver.wait(1)
        time.sleep(0.5)
        for receiver in receivers:
            receiver.wait(1)


def test_a_push_that_gets_a_wrong_2xx_comes_again(clients: Clients) -> None:
    receiver = Endpoint(203, 200)
    with serving(receiver) as url:
        topic, _ = pushing(clients, url)
        clients.publish(topic, "x")
        receiver.wait(2, clients.patience)


def test_a_push_that_is_refused_comes_again(clients: Clients) -> None:
    topic = clients.topic()
    refusals = (206, 301, 400, 404, 429, 500, 503)
    receivers = [Endpoint(status, status, 200) for status in refusals]
    with contextlib.ExitStack() as stack:
        for receiver in receivers:
            pushing(clients, stack.enter_context(serving(receiver)), topic)
        clients.publish(topic, "x")
        for receiver in receivers:
            receiver.wait(3)
            assert receiver.data() == ["x"] * 3


def test_a_push_waits_for_its_endpoint(clients: Clients) -> None:
    receiver = Endpoint()
    with serving(receiver) as url:
        pass
    topic, _ = pushing(clients, url, **backoff(0.2, 0.2))
    clients.publish(topic, "x")
    time.sleep(0.3)
    with serving(receiver, int(url.rpartition(":")[2])):
        receiver.wait(1)


def test_a_push_heeds_the_retry_policy(clients: Clients) -> None:
    receiver = Endpoint(500, 200)
    with serving(receiver) as url:
        topic, _ = pushing(clients, url, **backoff(0.8, 0.8))
        clients.publish(topic, "x")
        receiver.wait(2)
    first, second = receiver.times
    assert second - first >= 0.8


def test_pushes_of_a_key_come_one_after_the_other(clients: Clients) -> None:
    receiver = Endpoint(500, 200, 500, 200, pause=0.05)
    with serving(receiver) as url:
        topic, _ = pushing(clients, url, enable_message_ordering=True)
        clients.publish(topic, *"123", key="a")
        receiver.wait(5)
    assert receiver.data() == ["1", "1", "2", "2", "3"]
    assert receiver.most_at_once == 1


def test_pushes_of_different_keys_come_side_by_side(clients: Clients) -> None:
    receiver = Endpoint(pause=1.5)
    with serving(receiver) as url:
        topic, _ = pushing(clients, url, enable_message_ordering=True)
        for key in "abc":
            clients.publish(topic, key, key=key)
        receiver.wait(3)
    assert receiver.most_at_once > 1


def test_a_push_tells_its_attempt_until_it_is_given_up(clients: Clients) -> None:
    receiver = Endpoint(500)
    letters = clients.topic()
    graveyard = clients.subscription(letters)
    with serving(receiver) as url:
        settings = letters_to(letters) | backoff(0, 0)
        topic, name = pushing(clients, url, **settings)
        clients.publish(topic, "x")
        [letter] = clients.pull(graveyard)
        pushes = receiver.wait(5)
    source = letter.message.attributes["CloudPubSubDeadLetterSourceSubscription"]
    assert source == name.rpartition("/")[2]
    attempts = [json.loads(body)["deliveryAttempt"] for _, body in pushes]
    assert attempts == [1, 2, 3, 4, 5]


def test_what_is_pushed_cannot_be_pulled(clients: Clients) -> None:
    _, name = pushing(clients, "http://127.0.0.1:9/")
    with pytest.raises(exceptions.FailedPrecondition):
        clients.is_quiet(name)


def test_a_deleted_subscription_pushes_no_more(clients: Clients) -> None:
    receiver = Endpoint()
    with serving(receiver) as url:
        topic, name = pushing(clients, url)
        clients.publish(topic, "x")
        receiver.wait(1)
        clients.subscriber.delete_subscription(subscription=name)
        clients.publish(topic, "y")
        time.sleep(0.3)
        receiver.wait(1)
