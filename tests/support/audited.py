"""Orders in every state, made by the service itself, for tests of the audit."""

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from common import startup, wiring
from common.database.engine import Engine
from common.domain import orders
from common.domain.model import ItemStatus, Line
from common.messaging import dead_letters
from common.messaging.pending import Bus
from common.operations import event_log
from common.operations.audit import audit
from common.store import idempotency
from common.store.idempotency import StoredResponse
from common.store.orders import create_order
from tests.support.database import connect, database, execute
from tests.support.relaying import engine_on
from tests.support.sandbox import running_sandbox
from tests.support.service import Service, new_user

SINK = "http"


class World:
    """Orders by what became of them, on one service; ids in `orders`."""

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.url = url
        self.orders: dict[str, int] = {}

    @property
    def engine(self) -> Engine:
        """The service's own."""
        self.service.client("outbox_relay")  # loading it reads the settings
        return wiring.engine()

    def run(self, statement: str) -> list[list[Any]]:
        """Run SQL past the service."""
        return execute(self.url, statement)

    def make(self) -> None:
        """Make an order of each kind. Everything is as it should be afterwards."""
        # Those that wait for somebody come last: a sweep must not end their wait.
        kinds = "fresh shipped mixed approved deleted emptied by_hand empty shopless"
        ends = "discarded replayed resent released confirmed dead held owed complete"
        for name in f"{kinds} {ends}".split():
            self.orders[name] = getattr(self, f"_{name}")()

    def _ordered(self, *quantities: int) -> dict[str, Any]:
        self._user = new_user()
        return self.service.ordered(self._user, *quantities)

    def _move(self, item: dict[str, Any], *statuses: int) -> None:
        for status in statuses:
            assert self.service.move(item["id"], status).status_code == 200

    def _fresh(self) -> int:
        return int(self._ordered(1, 2)["id"])

    def _shipped(self) -> int:
        order = self._ordered(1, 2)
        for item in order["items"]:
            self._move(item, ItemStatus.SHIPPED)
        return int(order["id"])

    def _mixed(self) -> int:
        order = self._ordered(1, 2, 3)
        self._move(order["items"][0], ItemStatus.SHIPPED, ItemStatus.DELIVERED)
        self._move(order["items"][1], ItemStatus.SHIPPED)
        item = order["items"][2]["id"]
        path = f"/api/order-items/{item}/"
        for change in ({"quantity": 2}, {"status": ItemStatus.CANCELLED}):
            changed = self.service.crud("PATCH", path, self._user, json=change)
            assert changed.status_code == 200
        return int(order["id"])

    def _approved(self) -> int:
        order = self._ordered(1, 2, 3)
        self._move(order["items"][0], ItemStatus.SHIPPED, ItemStatus.DELIVERED)
        self._move(order["items"][1], ItemStatus.DELIVERED)
        self._move(order["items"][2], ItemStatus.CANCELLED)
        assert self.service.trigger_approval(order["id"]).status_code == 204
        return int(order["id"])

    def _deleted(self) -> int:
        order = self._ordered(1, 2)
        path = f"/api/order-items/{order['items'][0]['id']}/"
        changed = self.service.crud(
            "PATCH", path, self._user, json={"status": ItemStatus.CANCELLED}
        )
        assert changed.status_code == 200
        path = f"/api/orders/{order['id']}/"
        assert self.service.crud("DELETE", path, self._user).status_code == 204
        return int(order["id"])

    def _emptied(self) -> int:
        order = self._ordered(1, 2)
        for item in order["items"]:
            path = f"/api/order-items/{item['id']}/"
            assert self.service.crud("DELETE", path, self._user).status_code == 204
        return int(order["id"])

    def _by_hand(self) -> int:
        user = new_user()
        lines = [
            {"product_variation": self.service.sandbox.add_article(), "quantity": 2}
            for _ in range(2)
        ]
        made = self.service.crud("POST", "/api/orders/", user, json={"items": lines})
        assert made.status_code == 201, made.get_data(as_text=True)
        order = made.get_json()
        added = {**lines[0], "order": order["id"]}
        made = self.service.crud("POST", "/api/order-items/", user, json=added)
        assert made.status_code == 201, made.get_data(as_text=True)
        self._move(order["items"][0], ItemStatus.SHIPPED)
        return int(order["id"])

    def _empty(self) -> int:
        made = self.service.crud("POST", "/api/orders/", new_user(), json={})
        assert made.status_code == 201
        return int(made.get_json()["id"])

    def _shopless(self) -> int:
        ids = idempotency.begin(self.engine, [], 1)
        line = Line(uuid.uuid4(), 1, None, None, 1999)
        change = orders.new_order(uuid.uuid4(), [line], ids)
        bus = Bus(startup.settings().bus)
        create_order(self.engine, change, bus, [], StoredResponse(201, {}, ""))
        self.service.sweep()
        self._move({"id": change.order.items[0].id}, ItemStatus.SHIPPED)
        return change.order.id

    # What a sink that is away, or refuses, leaves behind; and what operators do then.

    def _dead(self) -> int:
        """Two events that nobody took; they wait for an operator."""
        self.service.sandbox.fault("sink", status=422)
        order = self._ordered(1)
        for _ in order["items"] * 2:
            self.hurry("attempts = 19")
            self.service.sweep()
        self._mend()
        return int(order["id"])

    def _discarded(self) -> int:
        order_id = self._dead()
        for letter_id in self.letters(order_id):
            assert dead_letters.discard(self.engine, letter_id)
        return order_id

    def _replayed(self) -> int:
        order_id = self._dead()
        for letter_id in self.letters(order_id):
            assert dead_letters.replay(self.engine, letter_id, never)
        self.service.sweep()
        return order_id

    def _resent(self) -> int:
        order = self._ordered(1)
        event_log.resend(self.engine, self.created_event(order["id"]), order["id"])
        self.service.sweep()
        return int(order["id"])

    def _held(self) -> int:
        """Nobody knows whether its `order.created` was sent, and somebody must say."""
        self.service.sandbox.fault("sink", status=503)
        order = self._ordered(1)
        self.run("UPDATE outbox SET doubts = 1 WHERE event_type = 'order.created'")
        self._mend()
        self.service.set(ORDER_CREATED_ON_DOUBT="hold")
        self.hurry()
        self.service.sweep()
        self.service.set(ORDER_CREATED_ON_DOUBT=None)
        return int(order["id"])

    def _released(self) -> int:
        order_id = self._held()
        event_log.resend(self.engine, self.created_event(order_id), order_id)
        self.service.sweep()
        return order_id

    def _confirmed(self) -> int:
        order_id = self._held()
        event_id = self.created_event(order_id)
        event_log.confirm(self.engine, event_id, order_id, SINK)
        return order_id

    def _owed(self) -> int:
        """An order that is approved, while the sink still knows nothing of it."""
        self.service.sandbox.fault("sink", status=503)
        order = self._ordered(1, 2)
        for item in order["items"]:
            self._move(item, ItemStatus.DELIVERED)
        assert self.service.trigger_approval(order["id"]).status_code == 204
        self._mend()
        return int(order["id"])

    def _complete(self) -> int:
        """An order that waits for its approval: the trigger was lost."""
        order = self._ordered(1)
        self._move(order["items"][0], ItemStatus.DELIVERED)
        return int(order["id"])

    def hurry(self, also: str = "") -> None:
        """Let every backoff pass, and have instances forget that somebody was away."""
        comma = f", {also}" if also else ""
        self.run(f"UPDATE outbox SET available_at = now(){comma}")
        self.service.restart()

    def _mend(self) -> None:
        self.service.sandbox.mend()
        self.service.restart()

    def created_event(self, order_id: int) -> uuid.UUID:
        """Return the id of the order's `order.created`."""
        [[event_id]] = self.run(
            f"SELECT event_id FROM order_history WHERE order_id = {order_id}"
            " AND kind = 'order.created'"
        )
        return uuid.UUID(str(event_id))

    def letters(self, order_id: int) -> list[int]:
        """Return the ids of the order's open dead letters."""
        found = self.run(
            f"SELECT id FROM dead_letters WHERE order_id = {order_id}"
            " AND settled_as IS NULL ORDER BY id"
        )
        return [letter_id for (letter_id,) in found]


def never(_headers: object, _body: object) -> None:
    """Stand in for `approval.take` where nothing is to be taken."""
    raise AssertionError("an event was taken for a message")


@dataclass(frozen=True)
class Made:
    """A database with a world in it, to be cloned; orders by what became of them."""

    url: str
    orders: dict[str, int]


@contextmanager
def made_world(postgres_url: str, template_database: str) -> Iterator[Made]:
    """Yield a database in which everything is as it should be. Nobody is connected."""
    with database(postgres_url, template=template_database) as url:
        with running_sandbox(deliver=False) as sandbox:
            service = Service(url, sandbox)
            service.environ["LOG_LEVEL"] = "ERROR"
            world = World(service, url)
            try:
                world.make()
            finally:
                service.close()
        # What happened stays as it was written, but for tests.
        trigger = "DISABLE TRIGGER order_history_is_append_only"
        execute(url, f"ALTER TABLE order_history {trigger}")
        # However long ago: the product service has lowered what it was told of.
        execute(
            url, "UPDATE stock_holds SET seen_at = now() WHERE confirmed_at < now()"
        )
        yield Made(url, world.orders)


class Tampering:
    """One clone of a world, which a test may spoil."""

    def __init__(self, url: str, orders: dict[str, int], engine: Engine) -> None:
        self.url = url
        self.orders = orders
        self.engine = engine

    def run(self, statement: str) -> list[list[Any]]:
        """Run SQL in which `{name}` is an order's id."""
        return execute(self.url, statement.format(**self.orders))

    def spoil(self, *statements: str) -> None:
        """Run SQL, with `{name}` an order's id, past triggers and foreign keys."""
        with closing(connect(self.url)) as connection:
            connection.run("SET session_replication_role = replica")
            for statement in statements:
                connection.run(statement.format(**self.orders))

    def differences(self) -> set[tuple[str, str]]:
        """Return what an audit finds: (the order's name or id, what)."""
        names = {order_id: name for name, order_id in self.orders.items()}
        return {
            (names.get(d.order_id, str(d.order_id)), d.what)
            for d in audit(self.engine).differences
        }


@contextmanager
def tampering(postgres_url: str, made: Made) -> Iterator[Tampering]:
    """Yield a clone of the world."""
    with database(postgres_url, template=made.url) as url, engine_on(url, 1) as engine:
        yield Tampering(url, made.orders, engine)
