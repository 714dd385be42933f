"""The relay's worker as a process of its own: woken, polling, stopped, bereft."""

import json
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.support.approvals import DELIVERED, completed, is_approved
from tests.support.link import link_to
from tests.support.rabbitmq import Broker
from tests.support.relay_worker import (
    LISTENS,
    PATIENCE_SECONDS,
    relay_worker,
    relay_worker_ended,
    until_it_listens,
)
from tests.support.relaying import let_time_pass
from tests.support.service import Service
from tests.support.worker import eventually

NOWHERE = "http://sink.invalid"
Worker = Callable[..., Any]
NEVER = "--poll-seconds=60"  # not while a test lasts


@pytest.fixture
def worker(service: Service, tmp_path: Path) -> Worker:
    """Run a worker on the service's database."""
    return lambda *arguments, **settings: relay_worker(
        service, tmp_path / uuid.uuid4().hex, *arguments, **settings
    )


def pending(service: Service) -> int:
    [row] = service.rows("SELECT count(*) AS owed FROM outbox")
    return int(row["owed"])


def owe_many(service: Service, orders: int) -> None:
    """Leave four events of each order behind as a crash does: nobody is told."""
    service.has_made_up_events = True
    service.rows(
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body)"
        " SELECT 'http', o, gen_random_uuid(), 'order.item.status.updated',"
        " json_build_object('order_id', CAST(o AS text), 'n', n)"
        " FROM generate_series(1, :orders) o, generate_series(0, 3) n ORDER BY o, n",
        orders=orders,
    )


def heard(service: Service) -> list[tuple[str, int]]:
    """Return order and number of each event the sink got, as they came."""
    return [(e.json["order_id"], e.json["n"]) for e in service.sandbox.events]


def leave_behind(service: Service, user: str) -> None:
    """Order from an instance that cannot reach the sink: it notifies."""
    address = service.environ["EVENT_SINK_URL"]
    service.set(EVENT_SINK_URL=NOWHERE)
    service.ordered(user)
    service.set(EVENT_SINK_URL=address)


def test_it_is_woken_by_what_a_request_leaves_behind(
    service: Service, worker: Worker, user: str
) -> None:
    with worker(NEVER):
        until_it_listens(service)
        leave_behind(service, user)
        eventually(lambda: pending(service) == 0)
    types = [event.type for event in service.sandbox.events]
    assert types == ["order.item.created", "order.created"]


def test_it_finds_work_by_polling(service: Service, worker: Worker) -> None:
    with worker("--poll-seconds=0.5", THREADS="1"):  # a pool of one
        until_it_listens(service)
        owe_many(service, 1)
        eventually(lambda: pending(service) == 0)
        owe_many(service, 1)
        eventually(lambda: pending(service) == 0)
    assert [n for _, n in heard(service)] == [0, 1, 2, 3] * 2


def test_a_request_whose_events_went_out_wakes_nobody(
    service: Service, worker: Worker, user: str
) -> None:
    """Nor does one that was told to come back later: there is nothing to do yet."""
    heard_any = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '-- listening.hear%'"
    with worker(NEVER):
        until_it_listens(service)
        service.ordered(user)
        assert pending(service) == 0
        service.sandbox.fault("sink", status=503)
        service.ordered(user)
        time.sleep(0.5)
        assert service.rows(heard_any) == []
        leave_behind(service, user)
        eventually(lambda: service.rows(heard_any))


def test_workers_side_by_side_send_everything_once_and_in_order(
    service: Service, worker: Worker
) -> None:
    owe_many(service, 150)
    with worker(), worker():
        eventually(lambda: pending(service) == 0)
    came = heard(service)
    assert set(Counter(came).values()) == {1}
    assert len(came) == 600
    for order_id in range(1, 151):
        assert [n for name, n in came if name == str(order_id)] == [0, 1, 2, 3]


def test_what_a_killed_worker_had_in_hand_is_sent_by_the_next(
    service: Service, worker: Worker
) -> None:
    owe_many(service, 1)
    service.sandbox.fault("sink", delay_seconds=60)
    claimed = "SELECT 1 FROM outbox WHERE sending_since IS NOT NULL"
    with worker() as first:
        eventually(lambda: service.rows(claimed))
        first.process.kill()
        first.process.wait(PATIENCE_SECONDS)
    service.sandbox.mend()
    let_time_pass(service.environ["DATABASE_URL"])
    with worker():
        eventually(lambda: pending(service) == 0)
    assert [n for _, n in heard(service)][-4:] == [0, 1, 2, 3]
    doubts = service.rows("SELECT doubts FROM sent_events")
    assert [row["doubts"] for row in doubts] == [1] * 4


def test_it_approves_what_was_forgotten_and_forgets_what_expired(
    service: Service, worker: Worker, user: str
) -> None:
    order = completed(service, user, DELIVERED)
    service.crud(
        "POST", "/api/orders/", user, json={}, headers={"Idempotency-Key": "k"}
    )
    service.rows("UPDATE idempotency_records SET expires_at = now() WHERE key = 'k'")
    service.rows("UPDATE sent_events SET sent_at = now() - interval '31 days'")
    with worker(NEVER) as running:
        eventually(lambda: service.sandbox.completed_orders)
        eventually(lambda: "maintenance done" in running.messages())
        [done] = [s for s in running.said() if s["message"] == "maintenance done"]
    assert is_approved(service, order["id"])
    assert (done["approved"], done["purged_keys"], done["purged_events"]) == (1, 1, 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_seconds(
    service: Service, worker: Worker, number: signal.Signals
) -> None:
    with worker(NEVER) as running:
        until_it_listens(service)
        assert running.end(number) == 0
        assert running.messages()[-1] == "relay stopped"


def test_it_finishes_the_batch_in_hand_and_leaves_nothing_in_doubt(
    service: Service, worker: Worker
) -> None:
    owe_many(service, 500)
    service.sandbox.fault("sink", delay_seconds=0.02)  # or it is done before it hears
    with worker() as running:
        eventually(lambda: len(service.sandbox.events) > 20)
        assert running.end() == 0
    left = pending(service)
    assert left == 2000 - len(service.sandbox.events) > 0
    assert service.rows("SELECT 1 FROM outbox WHERE sending_since IS NOT NULL") == []
    assert set(Counter(heard(service)).values()) == {1}


@pytest.mark.parametrize("delay_seconds", [60, 0.3])
def test_a_destination_that_is_slow_to_answer_does_not_keep_it_from_stopping(
    service: Service, worker: Worker, delay_seconds: float
) -> None:
    owe_many(service, 50)
    service.sandbox.fault("sink", delay_seconds=delay_seconds)
    claimed = "SELECT 1 FROM outbox WHERE sending_since IS NOT NULL"
    with worker() as running:
        eventually(lambda: service.rows(claimed))
        assert running.end() == 0
    assert service.rows(claimed) == []


def test_a_database_that_is_away_is_waited_for_and_listened_to_again(
    service: Service, worker: Worker, user: str
) -> None:
    with link_to(service.environ["DATABASE_URL"]) as database:
        through = database.through(service.environ["DATABASE_URL"])
        database.refuse()
        with worker(NEVER, DATABASE_URL=through) as running:
            eventually(lambda: len(running.messages()) > 1)
            database.restore()
            until_it_listens(service)
            database.refuse()
            eventually(lambda: not service.rows(LISTENS))
            time.sleep(1)
            assert running.process.poll() is None
            database.restore()
            until_it_listens(service)
            leave_behind(service, user)
            eventually(lambda: pending(service) == 0)
            assert not any("exception" in line for line in running.said())
            assert running.end() == 0


def test_it_ends_within_seconds_also_while_the_database_is_away(
    service: Service, worker: Worker
) -> None:
    with link_to(service.environ["DATABASE_URL"]) as database:
        through = database.through(service.environ["DATABASE_URL"])
        with worker(DATABASE_URL=through) as running:
            until_it_listens(service)
            database.refuse()
            eventually(lambda: "a pass of the relay failed" in str(running.messages()))
            assert running.end() == 0


def test_a_broker_that_is_away_is_waited_for(
    service: Service,
    worker: Worker,
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,
    user: str,
) -> None:
    settings: dict[str, Any] = rabbitmq_server.environ
    with link_to(rabbitmq_server.port) as link:
        settings |= {"EVENT_BUS": "rabbitmq", "RABBITMQ_PORT": str(link.port)}
        service.set(**settings)
        link.refuse()
        service.ordered(user)
        with worker() as running:
            eventually(lambda: "relay pass done" in running.messages())
            assert pending(service) == 2
            link.restore()
            eventually(lambda: pending(service) == 0)
            assert running.end() == 0
    product = rabbitmq_channel.queue_declare("product_events", passive=True)
    assert product.method.message_count == 1


def test_what_was_put_off_for_an_hour_is_sent_soon_after_the_broker_is_back(
    service: Service,
    worker: Worker,
    rabbitmq_server: Broker,
    rabbitmq_channel: BlockingChannel,
    user: str,
) -> None:
    settings: dict[str, Any] = rabbitmq_server.environ
    with link_to(rabbitmq_server.port) as link:
        settings |= {"EVENT_BUS": "rabbitmq", "RABBITMQ_PORT": str(link.port)}
        service.set(**settings)
        link.refuse()
        service.ordered(user)
        # As after many attempts: each event's own time is far away.
        service.rows(
            "UPDATE outbox SET attempts = 12, last_error = 'ConnectionError',"
            " available_at = now() + interval '50 minutes', sending_since = NULL"
        )
        with worker() as running:
            until_it_listens(service)
            assert pending(service) == 2
            link.restore()
            eventually(lambda: pending(service) == 0)
            assert running.end() == 0
    product = rabbitmq_channel.queue_declare("product_events", passive=True)
    assert product.method.message_count == 1


def test_own_error_is_survived(service: Service, worker: Worker) -> None:
    service.rows(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''no''; END'"
    )
    service.rows(
        "CREATE TRIGGER no BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION no()"
    )
    owe_many(service, 1)
    with worker() as running:
        eventually(lambda: any("exception" in line for line in running.said()))
        [told] = [line for line in running.said() if "exception" in line][:1]
        assert told["severity"] == "ERROR"
        assert "Traceback" in told["exception"]
        service.rows("DROP TRIGGER no ON outbox")
        eventually(lambda: pending(service) == 0)


def test_once_does_all_that_is_due_and_ends(service: Service, user: str) -> None:
    order = completed(service, user, DELIVERED)
    owe_many(service, 100)
    assert relay_worker_ended(service, "--once").returncode == 0
    assert pending(service) == 0
    assert is_approved(service, order["id"])


def test_once_without_database_fails_in_one_line_after_reason(service: Service) -> None:
    away = "postgresql://postgres:x@127.0.0.1:1/orders"
    done = relay_worker_ended(service, "--once", DATABASE_URL=away)
    assert done.returncode == 1
    logged, line = done.stderr.splitlines()
    assert json.loads(logged)["logger"] == "orders.db"
    assert line.startswith("outbox relay: ")


@pytest.mark.parametrize("seconds", ["0", "61", "nan"])
def test_a_wrong_interval_is_refused(service: Service, seconds: str) -> None:
    done = relay_worker_ended(service, f"--poll-seconds={seconds}")
    assert done.returncode == 2
    assert "--poll-seconds" in done.stderr.splitlines()[-1]


def test_a_missing_setting_is_told_in_one_line(service: Service) -> None:
    done = relay_worker_ended(service, DATABASE_URL="")
    assert done.returncode == 1
    assert done.stderr.startswith("configuration error: DATABASE_URL")
    assert len(done.stderr.splitlines()) == 1
