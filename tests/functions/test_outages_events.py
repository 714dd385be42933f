"""Broker, sink or analytics away: requests succeed, what is owed is delivered later."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from infra.local.http_server import HttpServer
from tests.support.approvals import DELIVERED, completed
from tests.support.link import Link, link_to
from tests.support.odd_server import odd_server
from tests.support.parallel import at_once, checkout_sender
from tests.support.rabbitmq import Broker
from tests.support.service import Service, new_user


@pytest.fixture
def link(service: Service) -> Iterator[Link]:
    """What stands between the service and the sink."""
    with link_to(service.sandbox.url) as link:
        service.set(EVENT_SINK_URL=f"http://127.0.0.1:{link.port}/events")
        yield link


def pending(service: Service) -> int:
    [row] = service.rows("SELECT count(*) AS owed FROM outbox")
    return int(row["owed"])


Break = Callable[[Link, Service], object]
WAYS: dict[str, Break] = {
    "refuses": lambda link, _: link.refuse(),
    "hangs up": lambda link, _: setattr(link, "is_hanging_up", True),
    "answers 503": lambda _, service: service.sandbox.fault("sink", status=503),
    "answers 500": lambda _, service: service.sandbox.fault("sink", status=500),
    "has no name": lambda _, service: service.set(EVENT_SINK_URL="http://sink.invalid"),
}


@pytest.mark.parametrize("way", WAYS)
def test_with_the_sink_away_requests_succeed_and_events_arrive_when_it_is_back(
    service: Service, link: Link, way: str, user: str
) -> None:
    address = service.environ["EVENT_SINK_URL"]
    WAYS[way](link, service)
    order = service.ordered(user)
    item_id = order["items"][0]["id"]
    assert service.move(item_id, 2).status_code == 200
    assert service.move(item_id, 3).status_code == 200
    assert service.trigger_approval(order["id"]).status_code == 204
    assert service.sandbox.events == []

    link.restore()
    service.sandbox.mend()
    service.set(EVENT_SINK_URL=address)
    service.rows("UPDATE outbox SET available_at = now()")  # no need to wait
    service.sweep()
    assert pending(service) == 0
    assert [event.type for event in service.sandbox.events] == [
        "order.item.created",
        "order.created",
        "order.item.status.updated",
        "order.item.status.updated",
        "order.approved",
    ]
    statuses = service.sandbox.events_of("order.item.status.updated")
    assert [event.json["status"] for event in statuses] == [2, 3]


def test_sink_away_costs_second_request_nothing(service: Service, link: Link) -> None:
    link.is_hanging_up = True
    service.ordered(new_user())
    tried = link.attempts
    assert tried >= 1
    for _ in range(3):
        service.ordered(new_user())
    assert link.attempts == tried


def test_sink_that_never_answers_costs_second_request_nothing(service: Service) -> None:
    with odd_server(lambda _: server.wait(60)) as server:
        service.set(EVENT_SINK_URL=server.url)
        service.ordered(new_user())
        service.ordered(new_user())
        assert len(server.requests) == 1
        assert pending(service) == 4


def test_silent_sink_is_asked_once_by_many_requests_at_once(service: Service) -> None:
    users = [new_user() for _ in range(8)]
    for user in users:
        service.fill_cart(user)
    with odd_server(lambda _: server.wait(60)) as server:
        service.set(EVENT_SINK_URL=server.url)
        replies = at_once([checkout_sender(service, user) for user in users])
        assert [reply.status_code for reply in replies] == [201] * 8
        assert len(server.requests) == 1
    doubtful = "SELECT order_id FROM outbox WHERE doubts > 0"
    assert len(service.rows(doubtful)) == 1


@pytest.mark.parametrize(
    ("on_doubt", "forbidden"),
    [("resend", "DELETE"), ("hold", "UPDATE")],  # settling; claiming
)
def test_an_outbox_that_cannot_be_touched_fails_no_request(
    service: Service, user: str, on_doubt: str, forbidden: str
) -> None:
    """Handing over is a courtesy: whatever is wrong with it, the write has happened."""
    service.set(ORDER_CREATED_ON_DOUBT=on_doubt)
    service.rows(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''no''; END'"
    )
    service.rows(
        f"CREATE TRIGGER no BEFORE {forbidden} ON outbox"
        " FOR EACH ROW EXECUTE FUNCTION no()"
    )
    service.ordered(user)
    assert pending(service) == 2
    service.rows("DROP TRIGGER no ON outbox")
    service.rows("UPDATE outbox SET available_at = now()")  # as if a claim had run out
    service.sweep()
    assert pending(service) == 0


def test_with_analytics_away_the_rest_goes_on(service: Service, user: str) -> None:
    server = HttpServer(service.sandbox)  # takes a port, answers nothing yet
    service.set(ANALYTIC_SERVICE=f"http://127.0.0.1:{server.port}/sandbox/analytics")
    server.stop()
    order = completed(service, user, DELIVERED)
    assert service.trigger_approval(order["id"]).status_code == 204
    assert len(service.sandbox.events_of("order.approved")) == 1
    assert pending(service) == 1
    service.set(ANALYTIC_SERVICE=service.sandbox.environ["ANALYTIC_SERVICE"])
    service.sweep()
    assert pending(service) == 0
    assert len(service.sandbox.completed_orders) == 1


@pytest.fixture
def broker_link(
    service: Service, rabbitmq_server: Broker, rabbitmq_channel: BlockingChannel
) -> Iterator[Link]:
    """What stands between the service and a real broker."""
    assert rabbitmq_channel.is_open
    with link_to(rabbitmq_server.port) as link:
        settings: dict[str, Any] = rabbitmq_server.environ
        settings |= {"EVENT_BUS": "rabbitmq", "RABBITMQ_PORT": str(link.port)}
        service.set(**settings)
        yield link


def heard(channel: BlockingChannel, queue: str = "product_events") -> int:
    count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count


def test_events_reach_the_broker_right_after_the_request(
    service: Service, broker_link: Link, rabbitmq_channel: BlockingChannel, user: str
) -> None:
    service.ordered(user, 1, 1)
    assert heard(rabbitmq_channel) == 1
    assert heard(rabbitmq_channel, "shop_order_items_queue") == 2
    assert pending(service) == 0
    assert broker_link.attempts == 1


def test_dead_broker_costs_one_request(service: Service, broker_link: Link) -> None:
    broker_link.is_hanging_up = True
    service.ordered(new_user())
    assert broker_link.attempts == 1
    for _ in range(3):
        service.ordered(new_user())
    assert broker_link.attempts == 1
