"""Events over HTTP: to a CloudEvents sink, and to analytics; what each answer means."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from common.domain import events
from common.publishing.http import AnalyticsPublisher, SinkPublisher
from common.publishing.publisher import Outcome, Publisher, Result
from tests.support.factories import item, message, order
from tests.support.odd_server import odd_server, says
from tests.support.sandbox import Sandbox

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT_AT = datetime(2025, 12, 1, 10, 0, 0, 58493, tzinfo=UTC)


@pytest.fixture
def sink(sandbox: Sandbox) -> Iterator[SinkPublisher]:
    publisher = SinkPublisher(f"{sandbox.url}/events")
    yield publisher
    publisher.close()


def publish(publisher: Publisher, seconds: float = 5, **changes: object) -> Outcome:
    [outcome] = publisher.publish([message(**changes)], time.monotonic() + seconds)
    return outcome


def test_an_event_arrives_as_a_binary_cloudevent_to_the_letter(
    sandbox: Sandbox, sink: SinkPublisher
) -> None:
    body = '{"event_type":"order.created","name":"Größe 4"}'
    outcome = publish(
        sink,
        body=body,
        type="order.created",
        order_id=7,
        traceparent=TRACE,
        created_at=SENT_AT,
        event_id="e0000000-0000-4000-8000-00000000000e",
    )
    assert outcome == Outcome(1, Result.SENT)
    [call] = sandbox.calls_to("sink")
    assert (call.method, call.body) == ("POST", body.encode())
    names = [name for name, _ in call.headers if name.lower().startswith("ce-")]
    expected = {
        "Ce-Specversion": "1.0",
        "Ce-Id": "e0000000-0000-4000-8000-00000000000e",
        "Ce-Type": "order.created",
        "Ce-Source": "/order-service",
        "Ce-Subject": "7",
        "Ce-Time": "2025-12-01T10:00:00.058493+00:00",
    }
    assert sorted(names) == sorted(expected)
    assert {name: call.headers[name] for name in expected} == expected
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["traceparent"] == TRACE


@pytest.mark.parametrize(
    ("kind", "status", "result"),
    [
        (SinkPublisher, "200 OK", Result.SENT),
        (SinkPublisher, "201 Created", Result.SENT),
        (SinkPublisher, "202 Accepted", Result.SENT),
        (SinkPublisher, "204 No Content", Result.SENT),
        (SinkPublisher, "301 Moved\nLocation: /elsewhere", Result.REFUSED),
        (SinkPublisher, "301 Moved\nLocation: //[", Result.REFUSED),
        (SinkPublisher, "307 Elsewhere\nLocation: /elsewhere", Result.REFUSED),
        (SinkPublisher, "400 Bad Request", Result.REFUSED),
        (SinkPublisher, "404 Not Found", Result.REFUSED),
        (SinkPublisher, "500 Internal Server Error", Result.REFUSED),
        (SinkPublisher, "429 Too Many Requests", Result.DEFERRED),
        (SinkPublisher, "503 Service Unavailable", Result.DEFERRED),
        (SinkPublisher, "502 Bad Gateway", Result.UNCONFIRMED),
        (SinkPublisher, "504 Gateway Timeout", Result.UNCONFIRMED),
        # A trap: analytics takes 201 and 200, and nothing else is a success.
        (AnalyticsPublisher, "200 OK", Result.SENT),
        (AnalyticsPublisher, "201 Created", Result.SENT),
        (AnalyticsPublisher, "202 Accepted", Result.REFUSED),
        (AnalyticsPublisher, "204 No Content", Result.REFUSED),
        (AnalyticsPublisher, "500 Internal Server Error", Result.DEFERRED),
    ],
)
def test_each_answer_has_its_meaning_and_is_asked_for_once(
    kind: type[SinkPublisher | AnalyticsPublisher], status: str, result: Result
) -> None:
    with odd_server(says(f"HTTP/1.1 {status}\nContent-Length: 0\n\n")) as server:
        publisher = kind(f"{server.url}/events")
        outcome = publish(publisher)
        publisher.close()
        assert outcome.result is result
        assert result is Result.SENT or outcome.reason == f"answered {status[:3]}"
        assert len(server.requests) == 1


def test_a_name_that_does_not_exist_is_unavailable_and_nothing_is_in_doubt() -> None:
    assert publish(SinkPublisher("http://sink.invalid")).result is Result.UNAVAILABLE


@pytest.mark.parametrize("kind", [SinkPublisher, AnalyticsPublisher])
@pytest.mark.parametrize(
    ("head", "result"),
    [
        ("HTTP/1.1 2", Result.UNCONFIRMED),
        ("HTTP/1.1 200 X\nX-Slow:", Result.SENT),
        ("HTTP/1.1 200 X\nContent-Length: 4000\n\n", Result.SENT),
        ("HTTP/1.1 200 X\nConnection: close\n\n", Result.SENT),
        ("HTTP/1.1 200 X\nTransfer-Encoding: chunked\n\nfa0\n", Result.SENT),
    ],
)
@pytest.mark.timeout(30)
def test_an_answer_that_drips_in_ends_in_time_and_counts_by_its_status(
    kind: type[SinkPublisher | AnalyticsPublisher],
    head: str,
    result: Result,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kind, "longest_seconds", 1.0)
    with odd_server() as server:
        server.replies = (server.drips(head, seconds=0.2),)
        publisher = kind(server.url)
        began = time.monotonic()
        assert publish(publisher).result is result
        assert time.monotonic() - began < 4
        server.replies = (says("HTTP/1.1 200 X\nContent-Length: 0\n\n"),)
        assert publish(publisher).result is Result.SENT
        assert server.connections == 2
        publisher.close()


def test_an_event_that_is_put_off_lets_other_orders_pass(
    sandbox: Sandbox, sink: SinkPublisher
) -> None:
    sandbox.fault("sink", status=503, times=1)
    batch = [message(id=n, order_id=order) for n, order in enumerate([4, 4, 5], 1)]
    outcomes = sink.publish(batch, time.monotonic() + 10)
    results = [outcome.result for outcome in outcomes]
    assert results == [Result.DEFERRED, Result.NOT_TRIED, Result.SENT]


def test_a_sink_that_loses_its_way_is_asked_once_for_a_whole_batch(
    sandbox: Sandbox, sink: SinkPublisher
) -> None:
    sandbox.fault("sink", status=502)
    batch = [message(id=number, order_id=number) for number in range(1, 6)]
    outcomes = sink.publish(batch, time.monotonic() + 10)
    assert [outcome.result for outcome in outcomes] == [
        Result.UNCONFIRMED,
        *[Result.NOT_TRIED] * 4,
    ]
    assert len(sandbox.calls_to("sink")) == 1


def test_no_proxy_of_the_environment_gets_to_see_events(
    sandbox: Sandbox, sink: SinkPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert publish(sink).result is Result.SENT
    assert len(sandbox.events) == 1


# Analytics.


def test_trap_analytics_gets_numeric_strings_on_its_misspelled_path(
    sandbox: Sandbox,
) -> None:
    """A UUID where an id belongs, or a number, is a 500 there."""
    completed = order(item(id=9, status=3), item(id=10, status=4))
    body = events.analytics_notification(
        completed, events.order_approved(completed, "2025-12-01T10:00:00.000000Z")
    ).body
    publisher = AnalyticsPublisher(sandbox.environ["ANALYTIC_SERVICE"])
    results = [publish(publisher, body=body).result for _ in range(2)]
    publisher.close()
    assert results == [Result.SENT] * 2  # 201, and 200 for what it knows
    first, second = sandbox.calls_to("analytics")
    assert (first.path, first.status) == ("/api/analitic-order-completed/", 201)
    assert second.status == 200
    told = json.loads(first.body)
    assert (told["id"], [each["id"] for each in told["items"]]) == ("4", ["9"])
    assert told["items"][0]["price"] == "19.99"
