"""The audit of a system that moves, with relays and operators: no false alarm."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from common.database.engine import Engine, connect
from common.errors import ConflictError, NotFoundError
from common.messaging import dead_letters, outbox
from common.operations import event_log
from common.operations.audit import audit
from common.operations.lookup import events, letters
from common.operations.lookup.events import Query
from common.store import idempotency
from tests.support.audited import never
from tests.support.database import execute
from tests.support.parallel import sender
from tests.support.relaying import engine_on
from tests.support.sandbox import Sandbox
from tests.support.service import Service, new_user

AT_MOST_SECONDS = 60.0
AUDITS, ORDERS = 20, 40
WRITERS = 3


@pytest.fixture
def service(database_url: str, sandbox: Sandbox) -> Iterator[Service]:
    running = Service(database_url, sandbox)
    running.environ["LOG_LEVEL"] = "ERROR"
    yield running
    running.close()


class Life:
    """What goes on at the same time until `is_over`."""

    def __init__(self, service: Service, engine: Engine) -> None:
        self.service = service
        self.engine = engine
        self.is_over = threading.Event()
        self.done: dict[str, int] = {}

    def go_on(self, what: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        while not self.is_over.is_set():
            what(chance)
            name = what.__name__
            self.done[name] = self.done.get(name, 0) + 1

    def write(self, chance: random.Random) -> None:
        """Take one order through some of its life."""
        user = new_user()
        for _ in range(chance.randrange(1, 4)):
            article = self.service.sandbox.add_article(amount=10_000)
            self.service.sandbox.add_to_cart(user, article, 2)
        path = "/api/orders-from-shopcart/"
        made = sender(self.service, "create_order_from_cart", "POST", path, user)()
        assert made.status_code == 201
        order = made.get_json()["order"]
        orders, items = f"/api/orders/{order['id']}/", "/api/order-items/"
        for item in order["items"]:
            status = chance.choice((None, 2, 3, 3, 4))
            path = f"{items}{item['id']}/"
            if status is None:
                sender(self.service, "orders_crud", "DELETE", path, user)()
            else:
                body = {"status": status}
                path += "status/"
                sender(self.service, "item_status", "PATCH", path, user, json=body)()
        if chance.random() < 0.3:
            sender(self.service, "orders_crud", "DELETE", orders, user)()
        body = {"is_approved": True}
        sender(self.service, "orders_crud", "PATCH", orders, user, json=body)()

    def relay(self, chance: random.Random) -> None:
        """Sweep, while the sink is well, away or refuses."""
        status = chance.choice((None, 503, 422))
        self.service.sandbox.mend()
        if status is not None:
            self.service.sandbox.fault("sink", status=status)
        sender(self.service, "outbox_relay", "POST", "/", new_user())()
        execute(self.service.environ["DATABASE_URL"], HURRY)
        with connect(self.engine) as connection:
            outbox.purge(connection, 30, 5000)
            idempotency.purge(connection, 5000)

    def operate(self, chance: random.Random) -> None:
        """Replay or discard letters, and send again what was sent."""
        for letter_id in letters.open_ids(self.engine)[:3]:
            if chance.random() < 0.8:
                dead_letters.replay(self.engine, letter_id, never)
            else:
                dead_letters.discard(self.engine, letter_id)
        with connect(self.engine) as connection:
            sent = events.read_many(connection, Query(limit=20, place="sent"))
        for row in chance.sample(sent, min(2, len(sent))):
            event_id = UUID(row.event_id)
            try:
                event_log.resend(self.engine, event_id, row.order_id, row.destination)
            except (ConflictError, NotFoundError):
                continue
        time.sleep(0.05)


# Backoffs pass, and whatever is refused a second time dies.
HURRY = (
    "UPDATE outbox SET available_at = now(), attempts = greatest(attempts, 19)"
    " WHERE sending_since IS NULL AND attempts > 0"
)


def test_an_audit_of_a_moving_system_has_no_difference(
    database_url: str, service: Service
) -> None:
    for function in ("create_order_from_cart", "item_status", "outbox_relay"):
        service.client(function)
    with engine_on(database_url, 3) as engine, ThreadPoolExecutor(WRITERS + 2) as pool:
        life = Life(service, engine)
        running = [pool.submit(life.go_on, life.write, n) for n in range(WRITERS)]
        running.append(pool.submit(life.go_on, life.relay, 10))
        running.append(pool.submit(life.go_on, life.operate, 11))
        ends = time.monotonic() + AT_MOST_SECONDS
        audits, report = 0, audit(engine)
        try:
            # Until all of it has happened, or else nothing is shown.
            while not (audits > AUDITS and report.orders > ORDERS and has_all(life)):
                report = audit(engine, chunk=random.choice((7, 5000)))
                assert report.differences == []
                assert time.monotonic() < ends
                assert not [f.exception() for f in running if f.done()]
                audits += 1
        finally:
            life.is_over.set()
        for future in running:
            future.result()
        assert audit(engine).differences == []


def has_all(life: Life) -> bool:
    """Return whether orders were written, and letters and events sent again."""
    happened = (
        "SELECT EXISTS (SELECT FROM dead_letters WHERE settled_as = 'replayed')"
        " AND EXISTS (SELECT FROM sent_events WHERE is_resend)"
    )
    url = life.service.environ["DATABASE_URL"]
    return life.done.keys() == {"write", "relay", "operate"} and bool(
        execute(url, happened)[0][0]
    )
