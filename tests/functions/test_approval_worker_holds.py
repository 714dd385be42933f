"""The approval worker while the database refuses for now: it holds, and spends nothing.

Its pauses and its wait for a lock are short here, so that a message is soon tried more
often than its queue would deliver it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from tests.support.approvals import DELIVERED, completed, dead_letters, is_approved
from tests.support.bodies import status_event
from tests.support.database import connect as plain_connection
from tests.support.link import Link, link_to
from tests.support.rabbitmq import OWN_DEAD_LETTERS, Broker, clean_topology
from tests.support.rabbitmq_node import OwnBroker
from tests.support.service import Service, new_user
from tests.support.worker import (
    QUEUE,
    channel_of,
    counts,
    eventually,
    publish,
    ready,
    trigger,
    waiting,
    worker,
)

QUICK = """
from common.database import sessions
sessions.LOCK_TIMEOUT_SECONDS = 0.05
worker.RETRY_SECONDS = worker.RECONNECT_SECONDS = 0.02
worker.MAX_RETRY_SECONDS = 0.1
"""
ROTATING = f"{QUICK}worker.HOLD_SECONDS = 0.3\n"
TRIES = 30  # its queue delivers a message 21 times
PREFETCHED = 8

State = Callable[[Service, Link, int], AbstractContextManager[None]]


@pytest.fixture
def broker(own_rabbitmq: OwnBroker) -> Iterator[Broker]:
    with clean_topology(own_rabbitmq.broker):
        yield own_rabbitmq.broker


@contextmanager
def locked(service: Service, _: Link, order_id: int) -> Iterator[None]:
    """Lock the order's row, as somebody's forgotten transaction does."""
    with closing(plain_connection(service.environ["DATABASE_URL"])) as holder:
        holder.run("BEGIN")
        holder.run(f"SELECT 1 FROM orders WHERE id = {order_id} FOR UPDATE")
        yield


@contextmanager
def read_only(service: Service, _: Link, __: int) -> Iterator[None]:
    """Let no new session write, as in maintenance."""
    url = service.environ["DATABASE_URL"]
    setting = f'ALTER DATABASE "{url.rpartition("/")[2]}"'
    with closing(plain_connection(url)) as operator:
        operator.run(f"{setting} SET default_transaction_read_only = on")
        yield
        operator.run(f"{setting} RESET default_transaction_read_only")


@contextmanager
def not_migrated(service: Service, _: Link, __: int) -> Iterator[None]:
    """Take away tables that the worker's release needs."""
    with closing(plain_connection(service.environ["DATABASE_URL"])) as operator:
        for table in ("outbox", "dead_letters"):
            operator.run(f"ALTER TABLE {table} RENAME TO {table}_later")
        yield
        for table in ("outbox", "dead_letters"):
            operator.run(f"ALTER TABLE {table}_later RENAME TO {table}")


@contextmanager
def down(_: Service, database: Link, __: int) -> Iterator[None]:
    database.refuse()
    yield
    database.restore()


STATES: list[State] = [locked, read_only, not_migrated, down]


@contextmanager
def link_of(service: Service) -> Iterator[tuple[Link, str]]:
    """Yield a link to the database, and the URL that leads through it."""
    url = service.environ["DATABASE_URL"]
    with link_to(url) as link:
        yield link, link.through(url)


def tries(output: Path) -> int:
    return output.read_text().count("message held")


def deliveries(broker: Broker) -> int:
    """Spend a delivery of the first message; return how many it had spent."""
    with channel_of(broker) as channel:
        delivery, properties, _ = channel.basic_get(QUEUE)
        assert delivery is not None
    return int((properties.headers or {}).get("x-delivery-count", 0))


@pytest.mark.parametrize("state", STATES)
def test_message_that_the_database_refuses_for_now_spends_no_delivery(
    service: Service, broker: Broker, tmp_path: Path, state: State
) -> None:
    order = completed(service, new_user(), DELIVERED)["id"]
    output = tmp_path / "output"
    with (
        link_of(service) as (link, url),
        worker(service, broker, prelude=QUICK, output=output, DATABASE_URL=url),
    ):
        eventually(ready(broker))
        with state(service, link, order):
            trigger(broker, order)
            eventually(lambda: tries(output) >= TRIES)
        eventually(lambda: is_approved(service, order))
        eventually(lambda: waiting(broker, QUEUE) == [])
    assert "message requeued" not in output.read_text()
    assert dead_letters(service) == []


@pytest.mark.parametrize("state", [locked, down])
def test_worker_that_stops_puts_back_what_it_holds_without_spending_a_delivery(
    service: Service, broker: Broker, tmp_path: Path, state: State
) -> None:
    order = completed(service, new_user(), DELIVERED)["id"]
    output = tmp_path / "output"
    with link_of(service) as (link, url):
        with state(service, link, order):
            given = {"prelude": QUICK, "output": output, "DATABASE_URL": url}
            with worker(service, broker, **given) as process:
                eventually(ready(broker))
                trigger(broker, order)
                eventually(lambda: tries(output) >= TRIES)
                assert counts(broker, QUEUE) == (0, 1)
                assert counts(broker, OWN_DEAD_LETTERS) == (0, 1)
                process.terminate()
                assert process.wait(10) == 0
            assert deliveries(broker) == 0
        assert not is_approved(service, order)
        with worker(service, broker, prelude=QUICK):
            eventually(lambda: is_approved(service, order))
            eventually(lambda: counts(broker, QUEUE) == (0, 1))
    assert dead_letters(service) == []


def test_locked_order_holds_up_no_other(
    service: Service, broker: Broker, tmp_path: Path
) -> None:
    first, second = (completed(service, new_user(), DELIVERED)["id"] for _ in range(2))
    output = tmp_path / "output"
    with (
        link_of(service) as (link, url),
        worker(service, broker, prelude=QUICK, output=output, DATABASE_URL=url),
    ):
        eventually(ready(broker))
        with locked(service, link, first):
            trigger(broker, first)
            eventually(lambda: tries(output) > 0)
            trigger(broker, second)
            eventually(lambda: is_approved(service, second))
            assert not is_approved(service, first)
        eventually(lambda: is_approved(service, first))


def test_what_is_held_for_long_goes_to_the_end_of_the_queue_as_a_new_message(
    service: Service, broker: Broker, tmp_path: Path
) -> None:
    """Or the broker would close the channel, and those behind would never come."""
    first, second = (completed(service, new_user(), DELIVERED)["id"] for _ in range(2))
    output = tmp_path / "output"
    with (
        link_of(service) as (link, url),
        worker(
            service, broker, prelude=ROTATING, output=output, DATABASE_URL=url
        ) as process,
    ):
        eventually(ready(broker))
        with locked(service, link, first):
            for _ in range(PREFETCHED):
                trigger(broker, first)
            trigger(broker, second)
            eventually(lambda: is_approved(service, second))
            process.terminate()
            assert process.wait(10) == 0
            eventually(lambda: counts(broker, QUEUE) == (PREFETCHED, 0))
            assert deliveries(broker) == 0
    with worker(service, broker, prelude=QUICK):
        eventually(lambda: is_approved(service, first))
    assert dead_letters(service) == []


def test_a_copy_says_what_the_message_said(service: Service, broker: Broker) -> None:
    order = completed(service, new_user(), DELIVERED)["id"]
    body = json.dumps(status_event(order)).encode()
    said = {"message_id": "m-1", "content_type": "application/json", "app_id": "a"}
    headers = {"traceparent": "t", "CC": ["product_events"]}
    with (
        link_of(service) as (link, url),
        locked(service, link, order),
        worker(service, broker, prelude=QUICK, DATABASE_URL=url) as process,
    ):
        eventually(ready(broker))
        publish(broker, body, headers=headers, **said)
        eventually(lambda: counts(broker, QUEUE) == (0, 1))
        process.terminate()
        assert process.wait(10) == 0
    with channel_of(broker) as channel:
        _, properties, kept = channel.basic_get(QUEUE)
    assert kept == body
    assert {name: getattr(properties, name) for name in said} == said
    assert properties.headers["traceparent"] == "t"
    assert counts(broker, "product_events") == (0, 0)


def test_large_message_is_put_back_whole(
    service: Service, broker: Broker, tmp_path: Path
) -> None:
    """Only its start is in hand, so that it cannot be published anew."""
    body = b"x" * 1_000_000
    output = tmp_path / "output"
    with link_of(service) as (link, url):
        given = {"prelude": QUICK, "output": output, "DATABASE_URL": url}
        with worker(service, broker, **given) as process:
            eventually(ready(broker))
            with not_migrated(service, link, 0):
                publish(broker, body)
                eventually(lambda: tries(output) > 0)
                process.terminate()
                assert process.wait(10) == 0
    assert waiting(broker, QUEUE) == [body]


def test_worker_that_is_killed_spends_one_delivery_of_what_it_holds(
    service: Service, broker: Broker, tmp_path: Path
) -> None:
    order = completed(service, new_user(), DELIVERED)["id"]
    output = tmp_path / "output"
    with link_of(service) as (link, url), locked(service, link, order):
        given = {"prelude": QUICK, "output": output, "DATABASE_URL": url}
        with worker(service, broker, **given) as process:
            eventually(ready(broker))
            trigger(broker, order)
            eventually(lambda: tries(output) > 0)
            process.kill()
            process.wait(10)
        eventually(lambda: counts(broker, QUEUE) == (1, 0))
        assert deliveries(broker) == 1
