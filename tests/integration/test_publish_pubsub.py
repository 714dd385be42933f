"""Events on Pub/Sub: attributes, ordering keys, RPCs, and what each answer means."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import grpc
import pytest
from google.pubsub_v1 import PublishRequest
from werkzeug.wrappers import Request, Response

from common.config.endpoints import PubSub
from common.messaging import envelopes
from common.publishing import pubsub
from common.publishing.publisher import Message, Outcome, Result
from common.publishing.pubsub import PubSubPublisher
from infra.local.http_server import serving
from tests.support.factories import message
from tests.support.pubsub import PROJECT, TOPIC, running_pubsub
from tests.support.pubsub import PubSub as Double
from tests.support.pubsub_destinations import environment

CREATED, ITEM = "order.created", "order.item.created"
STATUS = "order.item.status.updated"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT, REFUSED, NOT_TRIED = Result.SENT, Result.REFUSED, Result.NOT_TRIED
UNCONFIRMED, UNAVAILABLE = Result.UNCONFIRMED, Result.UNAVAILABLE
DEFERRED = Result.DEFERRED
Code = grpc.StatusCode


@pytest.fixture
def double() -> Iterator[Double]:
    with running_pubsub() as running, environment(running.environ):
        yield running


@pytest.fixture
def publisher() -> Iterator[PubSubPublisher]:
    made = PubSubPublisher(PubSub(project=PROJECT, topic=TOPIC))
    yield made
    made.close()


def event(number: int, order_id: int = 4, event_type: str = STATUS) -> Message:
    return message(
        id=number, order_id=order_id, type=event_type, event_id=f"e-{number}"
    )


def publish(
    publisher: PubSubPublisher, *messages: Message, seconds: float = 20
) -> list[Outcome]:
    return publisher.publish(messages, time.monotonic() + seconds)


def send(
    publisher: PubSubPublisher, *messages: Message, seconds: float = 20
) -> list[Result]:
    return [o.result for o in publish(publisher, *messages, seconds=seconds)]


def ids(double: Double) -> list[str]:
    return [each.attributes["event_id"] for each in double.published()]


def has(*names: str) -> Callable[[PublishRequest], bool]:
    """Return whether one of these events is in a request."""
    return lambda request: any(
        each.attributes["event_id"] in names for each in request.messages
    )


# What arrives.


def test_a_message_is_what_the_contract_says_to_the_letter(
    double: Double, publisher: PubSubPublisher
) -> None:
    body = '{"event":"order.created","name":"Größe"}'
    created_at = datetime(2025, 12, 1, 10, 0, 0, 58493, tzinfo=UTC)
    sent = message(
        type=CREATED, body=body, order_id=7, traceparent=TRACE, created_at=created_at
    )
    assert publish(publisher, sent) == [Outcome(sent.id, SENT)]
    [came] = double.published()
    assert came.data == body.encode()
    assert came.ordering_key == "7"
    assert dict(came.attributes) == {
        "event_type": CREATED,
        "event_id": sent.event_id,
        "order_id": "7",
        "traceparent": TRACE,
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": sent.event_id,
        "ce-type": CREATED,
        "ce-source": "/order-service",
        "ce-subject": "7",
        "ce-time": "2025-12-01T10:00:00.058493+00:00",
    }


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_push_is_read_as_the_event_that_was_published(
    double: Double, publisher: PubSubPublisher, *, is_wrapped: bool
) -> None:
    came: list[tuple[dict[str, str], bytes]] = []

    @Request.application
    def endpoint(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        came.append((headers, request.get_data()))
        return Response(status=503 if len(came) == 1 else 204)

    with serving(endpoint) as url:
        account = "push@orders.example"
        double.push_to(f"{url}/x", is_wrapped=is_wrapped, account=account)
        body = json.dumps({"event_type": STATUS, "order_id": "4"})
        for n in (1, 2):
            send(publisher, message(type=STATUS, event_id=f"e-{n}", body=body))
        double.wait_for(lambda: len(came) == 3)
        double.close()
    read = [envelopes.read(headers, body) for headers, body in came]
    assert [(each.type, each.order_id) for each in read] == [(STATUS, 4)] * 3
    described = [envelopes.describe(headers, body).event_id for headers, body in came]
    assert described == ["e-1", "e-1", "e-2"]
    assert {headers["authorization"][:7] for headers, _ in came} == {"Bearer "}


def test_an_orders_items_travel_together_and_what_follows_waits(
    double: Double, publisher: PubSubPublisher
) -> None:
    items = [event(n, event_type=ITEM) for n in range(100)]
    assert set(send(publisher, *items, event(100, event_type=CREATED))) == {SENT}
    assert ids(double) == [f"e-{n}" for n in range(101)]
    assert len(double.requests) < 50
    assert len(double.requests[-1].messages) == 1


def test_a_body_beyond_what_a_request_may_have_is_refused_and_never_sent(
    double: Double, publisher: PubSubPublisher
) -> None:
    long = message(id=1, order_id=4, body='"' + "ä" * 5_000_000 + '"')
    batch = [long, event(2, 4), event(3, 5)]
    assert send(publisher, *batch) == [REFUSED, NOT_TRIED, SENT]
    assert send(publisher, *batch[1:]) == [SENT, SENT]
    assert sorted(ids(double)) == ["e-2", "e-3", "e-3"]


# What an answer means.


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (Code.NOT_FOUND, UNAVAILABLE),
        (Code.PERMISSION_DENIED, UNAVAILABLE),
        (Code.UNAUTHENTICATED, UNAVAILABLE),
        (Code.INVALID_ARGUMENT, REFUSED),
        (Code.FAILED_PRECONDITION, REFUSED),
        (Code.OUT_OF_RANGE, REFUSED),
        (Code.RESOURCE_EXHAUSTED, DEFERRED),
        (Code.CANCELLED, UNCONFIRMED),
        (Code.UNKNOWN, UNCONFIRMED),
        (Code.DEADLINE_EXCEEDED, UNCONFIRMED),
        (Code.ALREADY_EXISTS, UNCONFIRMED),
        (Code.ABORTED, UNCONFIRMED),
        (Code.UNIMPLEMENTED, UNCONFIRMED),
        (Code.INTERNAL, UNCONFIRMED),
        (Code.UNAVAILABLE, UNCONFIRMED),
        (Code.DATA_LOSS, UNCONFIRMED),
    ],
)
def test_each_answer_has_its_meaning_and_is_asked_for_once(
    double: Double, publisher: PubSubPublisher, code: grpc.StatusCode, result: Result
) -> None:
    double.spoil(code)
    [outcome] = publish(publisher, event(1))
    assert outcome.result is result
    assert outcome.reason
    assert len(double.requests) == 1
    assert send(publisher, event(1)) == [SENT]


def test_a_topic_that_does_not_exist_is_said_once_and_costs_no_event(
    double: Double,
) -> None:
    publisher = PubSubPublisher(PubSub(project=PROJECT, topic="not-yet"))
    batch = [event(1, 4), event(2, 5), event(3, 6)]
    assert publish(publisher, *batch) == [
        Outcome(1, UNAVAILABLE, "no such topic"),
        Outcome(2, NOT_TRIED),
        Outcome(3, NOT_TRIED),
    ]
    double.topic("not-yet")
    assert send(publisher, *batch) == [SENT] * 3
    publisher.close()


def test_an_event_that_is_put_off_lets_other_orders_pass(
    double: Double, publisher: PubSubPublisher
) -> None:
    double.spoil(Code.RESOURCE_EXHAUSTED, only=has("e-1"))
    batch = [event(1, 4), event(2, 4), event(3, 5)]
    assert send(publisher, *batch) == [DEFERRED, NOT_TRIED, SENT]


def test_a_service_that_loses_its_way_is_not_asked_for_more(
    double: Double, publisher: PubSubPublisher
) -> None:
    double.spoil(Code.INTERNAL, only=has("e-1"))
    batch = [event(1, 4), event(2, 5), event(3, 4), event(4, 5)]
    assert send(publisher, *batch) == [UNCONFIRMED, SENT, NOT_TRIED, NOT_TRIED]
    assert len(double.requests) == 2


# One RPC for several events.


def test_the_one_of_a_refused_group_that_is_to_blame_is_found(
    double: Double, publisher: PubSubPublisher
) -> None:
    double.spoil(Code.INVALID_ARGUMENT, times=100, only=has("e-3"))
    batch = [
        *(event(n, 4, ITEM) for n in range(1, 6)),
        *(event(n, 5, ITEM) for n in range(6, 8)),
        event(8, 4, CREATED),
        event(9, 5, CREATED),
    ]
    results = send(publisher, *batch)
    assert results[:5] == [SENT, SENT, REFUSED, NOT_TRIED, NOT_TRIED]
    assert results[5:] == [SENT, SENT, NOT_TRIED, SENT]
    assert sorted(ids(double)) == ["e-1", "e-2", "e-6", "e-7", "e-9"]
    double.heal()
    assert send(publisher, *batch[2:5], batch[7]) == [SENT] * 4
    assert ids(double)[5:] == ["e-3", "e-4", "e-5", "e-8"]


@pytest.mark.parametrize(
    ("grace", "results"),
    [
        (0.2, [UNCONFIRMED, NOT_TRIED, NOT_TRIED]),
        # Had gRPC not noticed in time itself.
        (-30.0, [UNCONFIRMED, UNCONFIRMED, UNCONFIRMED]),
    ],
)
def test_what_waits_for_an_rpc_in_doubt_is_never_sent_behind_our_back(
    double: Double,
    publisher: PubSubPublisher,
    monkeypatch: pytest.MonkeyPatch,
    grace: float,
    results: list[Result],
) -> None:
    monkeypatch.setattr(pubsub, "BATCH_MESSAGES", 1)  # each item is an RPC of its own
    monkeypatch.setattr(pubsub, "GRACE_SECONDS", grace)
    double.spoil(delay=1.5)
    items = [event(n, event_type=ITEM) for n in (1, 2, 3)]
    assert send(publisher, *items, seconds=0.7) == results
    time.sleep(1.5)
    assert ids(double) == ["e-1"]
    monkeypatch.undo()
    double.heal()
    assert send(publisher, *items) == [SENT] * 3
    assert ids(double)[1:] == ["e-1", "e-2", "e-3"]
