"""Each event again, in the wrong order and too late: no harm, and one approval.

The events are the service's own, of every type, because a subscription without a filter
delivers them all.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pika
import pytest

from tests.support.approvals import (
    DELIVERED,
    ENVELOPES,
    Envelope,
    completed,
    dead_letters,
    is_approved,
)
from tests.support.bodies import STATUS_UPDATED
from tests.support.books import audited
from tests.support.crash.nursery import Child, Nursery
from tests.support.crash.world import World, settle, taken
from tests.support.load import end_all, start_group
from tests.support.many import Delivery, post_all
from tests.support.sandbox import running_sandbox
from tests.support.service import Service, new_user
from tests.support.worker import counts, eventually

SEED = 20251205
OWN_TYPES = {
    "order.created",
    "order.item.created",
    STATUS_UPDATED,
    "order.approved",
    "order.deleted",
}
Wrap = Callable[[bytes], Envelope]


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    with running_sandbox(deliver=False) as sandbox:
        service = Service(database_url, sandbox)
        yield service
        service.close()


@pytest.fixture
def handler(service: Service, forks: Nursery) -> Iterator[Child]:
    """The approval handler, as a process."""
    group = start_group(forks, service.environ, ["approval_handler"])
    yield group["approval_handler"]
    end_all(forks, group)


@dataclass
class Published:
    """What the bus heard of an order: type and body of each event, in their order."""

    service: Service
    order_id: int

    def events(self) -> list[tuple[str, bytes]]:
        found = []
        for event in self.service.sandbox.events:
            body = event.json
            about = body.get("order_id") or body["data"]["order_id"]
            if int(about) == self.order_id:
                found.append((event.type, event.body))
        return found

    def times(self, event_type: str) -> int:
        return sum(name == event_type for name, _ in self.events())


def wrapped(wrap: Wrap, event_type: str, body: bytes) -> Delivery:
    """Put an event into an envelope, which names its type in several places."""
    headers, content = wrap(body)
    named = {k: v.replace(STATUS_UPDATED, event_type) for k, v in headers.items()}
    return Delivery(
        named, content.replace(STATUS_UPDATED.encode(), event_type.encode())
    )


def both(wrap: Wrap, events: Sequence[tuple[str, bytes]]) -> list[Delivery]:
    """Return each event twice, the copy to the byte like the first."""
    return [copy for kind, body in events for copy in [wrapped(wrap, kind, body)] * 2]


def deliver(handler: Child, deliveries: list[Delivery], clients: int = 1) -> None:
    assert post_all(handler.port, deliveries, clients) == [204] * len(deliveries)


@pytest.mark.parametrize("wrap", ENVELOPES, ids=lambda wrap: wrap.__name__)
def test_doubled_reversed_and_late_deliveries_approve_and_announce_once(
    service: Service, handler: Child, wrap: Wrap
) -> None:
    user = new_user()
    order = service.ordered(user, 1, 2)
    published = Published(service, order["id"])
    first, second = (item["id"] for item in order["items"])
    assert service.move(first, DELIVERED).status_code == 200
    early = published.events()
    deliver(handler, both(wrap, early))  # one item is still open
    assert not is_approved(service, order["id"])
    assert service.move(second, DELIVERED).status_code == 200
    deliver(handler, both(wrap, published.events())[::-1], clients=4)
    assert is_approved(service, order["id"])
    assert published.times("order.approved") == 1
    late = published.events()
    deliver(handler, both(wrap, late[::-1]), clients=4)
    assert published.times("order.approved") == 1
    assert published.events() == late
    [heard] = [
        o for o in service.sandbox.completed_orders if int(o["id"]) == order["id"]
    ]
    assert heard["times_heard"] == 1
    assert {kind for kind, _ in late} == OWN_TYPES - {"order.deleted"}
    assert dead_letters(service) == []
    audited(service)


@pytest.mark.parametrize("wrap", ENVELOPES, ids=lambda wrap: wrap.__name__)
def test_events_of_an_order_that_is_deleted_by_now_do_no_harm(
    service: Service, handler: Child, wrap: Wrap
) -> None:
    user = new_user()
    order = service.ordered(user, 1, 2)
    published = Published(service, order["id"])
    path = f"/api/orders/{order['id']}/"
    assert service.crud("DELETE", path, user).status_code == 204
    told = published.events()
    assert {kind for kind, _ in told} == OWN_TYPES - {"order.approved"}
    deliver(handler, both(wrap, told)[::-1], clients=4)
    deliver(handler, both(wrap, told))
    assert published.events() == told
    assert service.rows("SELECT 1 FROM orders WHERE id = :id", id=order["id"]) == []
    assert dead_letters(service) == []
    audited(service)


def two_workers(world: World) -> list[Child]:
    workers = [world.start("approval_worker") for _ in range(2)]
    for worker in workers:
        world.wait_until(lambda w=worker: "consuming" in w.log.read_text(), worker)
    return workers


def no_more(world: World, workers: list[Child]) -> None:
    """Stop the workers once nothing waits; what is not acknowledged is put back."""
    eventually(lambda: counts(world.broker, "order_approval") == (0, 2), 60)
    for worker in workers:
        world.nursery.stop(worker)


def test_the_worker_takes_every_event_twice_in_any_order_and_approves_once(
    world: World,
) -> None:
    """All envelopes and all types through RabbitMQ, shuffled, to two workers."""
    service = world.service
    ids = [completed(service, new_user(), DELIVERED, DELIVERED)["id"] for _ in range(7)]
    published = taken(world.channel, world.queue)
    workers = two_workers(world)
    messages = []
    for heard in published:
        for wrap in ENVELOPES:
            body = json.dumps(heard.body).encode()
            messages += [wrapped(wrap, heard.type, body)] * 2
    random.Random(SEED).shuffle(messages)
    for headers, body, _ in messages:
        named = {k: v for k, v in headers.items() if k != "Content-Type"}
        kind = headers.get("Content-Type")
        properties = pika.BasicProperties(headers=named, content_type=kind)
        world.channel.basic_publish("", "order_approval", body, properties)
    no_more(world, workers)
    while counts(world.broker, "order_approval")[0]:  # they had it in hand still
        no_more(world, two_workers(world))
    settle(service)
    told = [heard.order_id for heard in taken(world.channel, world.queue)]
    assert sorted(told) == ids, "more than one approval each"
    assert dead_letters(service) == []
    assert [o["times_heard"] for o in world.sandbox.completed_orders] == [1] * len(ids)
    audited(service)
