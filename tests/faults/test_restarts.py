"""Broker and database restarted under load, analytics down for hundreds of orders.

CRASH_ROUNDS is how often each is restarted. The database is durable here, unlike in
other tests: without that, it could lose commits by itself.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.database.migrations import upgrade
from common.messaging.outbox import BATCH
from common.publishing.publisher import Message, Result
from infra.local.postgres import postgres_server
from tests.support import database
from tests.support.approvals import binary
from tests.support.bodies import status_event
from tests.support.books import WITNESS, audited, compare, declare_witness, told_of
from tests.support.crash.nursery import Child, Nursery
from tests.support.crash.world import settle
from tests.support.link import Link, link_to
from tests.support.load import Load, end_all, start_group, stay, sweeping
from tests.support.many import Delivery, completed_orders, post_all
from tests.support.rabbitmq import EXCHANGE, Broker, clean_topology
from tests.support.rabbitmq_node import OwnBroker
from tests.support.relaying import Recorder, owe, relay_to
from tests.support.sandbox import Sandbox, running_sandbox
from tests.support.service import Service
from tests.support.worker import channel_of, eventually

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
SOUND_SECONDS = 1.5
AWAY_SECONDS = 1.0
IN_FLIGHT = 20  # events owed at any moment under load, with nothing wrong
APPROVALS = 75  # in each way of being down
pytestmark = pytest.mark.timeout(300 + 120 * ROUNDS)


# The broker.


@pytest.fixture
def node(own_rabbitmq: OwnBroker) -> Iterator[OwnBroker]:
    """A node with the siblings' queues and a witness, which is left as it was."""
    with channel_of(own_rabbitmq.broker) as channel:
        declare_witness(channel)
    yield own_rabbitmq
    with channel_of(own_rabbitmq.broker) as channel:
        for queue in (WITNESS, "order_approval", "order_approval.dead"):
            channel.queue_delete(queue)


def test_a_broker_restarted_under_load_fails_no_request_and_loses_no_event(
    database_url: str, node: OwnBroker, forks: Nursery
) -> None:
    """Killed, and stopped in good order; either way it keeps what it has confirmed."""
    with running_sandbox(deliver=False) as sandbox, ExitStack() as stack:
        service = Service(database_url, sandbox)
        stack.callback(service.close)
        service.environ |= node.environ | {"EVENT_BUS": "rabbitmq"}
        group = start_group(forks, service.environ)
        others = start_group(
            forks, service.environ, ["outbox_relay", "approval_worker"]
        )
        stack.callback(end_all, forks, group, others)
        worker = others["approval_worker"]
        load = Load(sandbox, {"service": group})
        with sweeping([others["outbox_relay"]]) as sweeps, load.running(clients=2):
            for number, end in enumerate((node.kill, node.stop) * ROUNDS):
                time.sleep(SOUND_SECONDS)
                wait_until_it_flows(service, worker, number)
                end()
                time.sleep(AWAY_SECONDS)
                node.start()
            wait_until_it_flows(service, worker, 2 * ROUNDS)
        forks.stop(worker)
        end_all(forks, group, others)
        assert load.failures() == []
        assert set(sweeps) == {200}
        settle(service)
        with channel_of(node.broker) as channel:
            figures = compare(service, channel, WITNESS)
        print(f"\n{load.report()}\n{figures}")  # noqa: T201
        assert figures.orders > 50


def wait_until_it_flows(service: Service, worker: Child, restarts: int) -> None:
    """Wait until events go out again, and come in; pauses of ten seconds must end."""
    eventually(lambda: times_connected(worker) > restarts)
    eventually(lambda: len(service.rows("SELECT id FROM outbox")) < IN_FLIGHT)


def times_connected(worker: Child) -> int:
    return worker.log.read_text().count("consuming order_approval")


# The database.


def kill_server(url: str) -> None:
    """End the server at once, as a power cut would: it writes nothing more."""
    [[folder]] = database.execute(url, "SHOW data_directory")
    pid = int(Path(str(folder), "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)


def test_a_database_restarted_under_load_forgets_nothing_that_was_answered(
    rabbitmq_server: Broker, forks: Nursery
) -> None:
    """Clients repeat what was answered with 503, and meet no other failure."""
    with ExitStack() as stack:
        channel = stack.enter_context(clean_topology(rabbitmq_server))
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, EXCHANGE, "#")
        sandbox = stack.enter_context(running_sandbox(deliver=False))
        folder = stack.enter_context(database.scratch_folder())
        server = stack.enter_context(ExitStack())
        url = server.enter_context(postgres_server(folder))
        with database.plain_engine(url) as engine:
            upgrade(engine)
        link = stack.enter_context(link_to(url))
        service = Service(link.through(url), sandbox)
        stack.callback(service.close)
        service.environ |= rabbitmq_server.environ | {"EVENT_BUS": "rabbitmq"}
        group = start_group(forks, service.environ)
        relay = start_group(forks, service.environ, ["outbox_relay"])
        stack.callback(end_all, forks, group, relay)
        load = Load(sandbox, {"service": group}, retries_unavailable=True)
        with sweeping(list(relay.values())) as sweeps, load.running(clients=8):
            for is_killed in (False, True) * ROUNDS:
                stay(channel, SOUND_SECONDS)
                if is_killed:
                    kill_server(url)
                server.close()
                stay(channel, AWAY_SECONDS)
                url = server.enter_context(postgres_server(folder))
                link.restore(urlsplit(url).port)
            stay(channel, SOUND_SECONDS)
        end_all(forks, group, relay)
        refused = load.failures()
        assert {sample.status for sample in refused} == {503}
        assert all(sample.has_retry_after for sample in refused)
        assert set(sweeps) == {200, 503}
        settle(service)
        figures = compare(service, channel, queue)
        print(f"\n{load.report()}\n{figures} {len(refused)} times 503")  # noqa: T201
        [made] = service.rows(
            "SELECT count(*) AS orders, count(DISTINCT user_id) AS carts FROM orders"
        )
        assert made["orders"] == made["carts"], "a cart became two orders"


# Analytics.

Break = Callable[[Sandbox, Link], object]
WAYS: dict[str, Break] = {
    "answers 500": lambda sandbox, _: sandbox.fault("analytics", status=500),
    "answers 503": lambda sandbox, _: sandbox.fault("analytics", status=503),
    "is mute": lambda _, link: setattr(link, "is_mute", True),
    "refuses": lambda _, link: link.refuse(),
}


def test_analytics_down_for_hundreds_of_approvals_hears_of_each_and_delays_nobody(
    database_url: str, forks: Nursery
) -> None:
    """Whatever way it is down: everybody else has heard before it is back."""
    with running_sandbox(deliver=False) as sandbox, ExitStack() as stack:
        link = stack.enter_context(link_to(sandbox.url))
        service = Service(database_url, sandbox)
        stack.callback(service.close)
        analytics = link.through(service.environ["ANALYTIC_SERVICE"])
        environ = service.environ | {"ANALYTIC_SERVICE": analytics}
        handler = start_group(forks, environ, ["approval_handler"])
        relay = start_group(forks, environ, ["relay_worker"])
        stack.callback(end_all, forks, handler, relay)
        orders: list[int] = []
        for down in WAYS.values():
            down(sandbox, link)
            ids = completed_orders(service, APPROVALS, items=1)
            triggers = [trigger(order_id) for order_id in ids]
            statuses = post_all(handler["approval_handler"].port, triggers)
            assert statuses == [204] * APPROVALS
            eventually(lambda ids=ids: set(ids) <= set(announced(sandbox)))
            told = {row["order_id"] for row in told_of(service, "analytics")}
            assert told.isdisjoint(ids)
            link.cut()
            link.restore()
            sandbox.mend()
            orders += ids
        end_all(forks, handler, relay)
        settle(service)
        assert sorted(announced(sandbox)) == orders
        doubts = {
            row["order_id"]: row["doubts"] for row in told_of(service, "analytics")
        }
        heard = {int(o["id"]): o["times_heard"] for o in sandbox.completed_orders}
        assert sorted(heard) == sorted(doubts) == orders
        assert [i for i in orders if heard[i] > 1 + doubts[i]] == []
        assert audited(service).orders == len(orders)
        print(f"\n{Counter(heard.values())} times heard")  # noqa: T201


def trigger(order_id: int) -> Delivery:
    return Delivery(*binary(json.dumps(status_event(order_id)).encode()))


def announced(sandbox: Sandbox) -> list[int]:
    """Return the orders whose approval the bus has heard, once for each time."""
    return [
        int(event.json["order_id"]) for event in sandbox.events_of("order.approved")
    ]


def test_a_sweep_busy_with_analytics_still_sends_what_others_come_to_be_owed(
    database_url: str,
) -> None:
    """What no request has handed over is the relay's, whatever else it has to do."""

    def answer(_: Message) -> Result:
        if len(analytics.tried) == BATCH:  # the bus was found owed nothing by then
            owe(database_url, 2, "late")
        return Result.SENT

    bus, analytics = Recorder(), Recorder(answer)
    owe(database_url, 1, *["early"] * (2 * BATCH), to="analytics")
    with relay_to(database_url, bus=bus, analytics=analytics) as relay:
        relay.sweep(60)
    assert len(analytics.sent) == 2 * BATCH
    assert bus.bodies == ["late"]
