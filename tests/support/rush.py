"""A rush for scarce stock: buyers, instances that are killed, a consumer that is late.

One of the instances cannot reach the event bus, so that relays have its events to send.
An `order.created` that was cut off is held for an operator: a second one would lower
stock twice.
"""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from common.database.engine import Engine
from common.operations import event_log
from common.store import holds
from tests.support import database
from tests.support.buyers import Buyers
from tests.support.crash.nursery import Child, Nursery
from tests.support.processes import free_ports
from tests.support.relaying import engine_on
from tests.support.sandbox import running_sandbox
from tests.support.service import Service
from tests.support.worker import eventually

INSTANCES = ("instance 1", "instance 2", "instance 3")
RELAYS = ("relay 1", "relay 2")
CLIENTS = 12
SETTLE_SECONDS = 1
LATE_SECONDS = (0, 3)
EARLY_KILLS = 10  # while there is something to sell
DESTINATION = "http"
STALE_SECONDS = 6  # longer than a request publishes and records


@dataclass
class Outcome:
    """What was sold by whom, and what it took."""

    sold: list[int]
    left: list[int]
    ends: Counter[str]
    answers: Counter[str]
    kills: int
    doubtful: int
    seconds: float
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends, answers = self.ends, self.answers
        return (
            f"{self.seconds:5.1f} s  sold {self.sold}  left {self.left}"
            f"  {ends['bought']} bought, {ends['sold out']} too late;"
            f" {answers['409 stock-settling']} times settling,"
            f" {answers['409 cart-repaired']} repaired, {answers['200']} replayed,"
            f" {answers['cut']} cut; {self.kills} kills, {self.doubtful} in doubt"
        )


class Rush:
    """One run: a database, siblings, three instances and two relays."""

    def __init__(
        self,
        service: Service,
        engine: Engine,
        nursery: Nursery,
        stock: Sequence[int],
    ) -> None:
        self.service = service
        self._engine = engine
        self.kills = 0
        self.doubtful = 0
        self.variations = [service.sandbox.add_article(amount=each) for each in stock]
        self._nursery = nursery
        self._children: dict[str, Child] = {}
        self._away = f"http://127.0.0.1:{free_ports(1)[0]}/"
        for name in (*INSTANCES, *RELAYS):
            self._start(name)

    def ports(self) -> Sequence[int]:
        """Return where instances listen, or did until they were killed."""
        return [self._children[name].port for name in INSTANCES]

    def run(self, buyers: int, kills: int, seed: int) -> Outcome:
        """Sell to all of them; who is refused comes again once stock has settled."""
        began = time.monotonic()
        crowd = Buyers(self.service.sandbox, self.ports, seed)
        self.service.sandbox.sink.set_delay("product", *LATE_SECONDS)
        threads = crowd.start(crowd.add(buyers, self.variations), CLIENTS)
        self._kill(crowd, threads, buyers, kills, random.Random(seed))
        self.settle()
        while refused := crowd.refused():
            for thread in crowd.start(refused, CLIENTS):
                thread.join()
            self.settle()
            assert len(crowd.refused()) < len(refused), "nobody is sold what is left"
        return Outcome(
            sold=[self._sold(variation) for variation in self.variations],
            left=[self.service.sandbox.stock(each) for each in self.variations],
            ends=Counter(buyer.end for buyer in crowd.buyers),
            answers=crowd.answers,
            kills=self.kills,
            doubtful=self.doubtful,
            seconds=time.monotonic() - began,
            wrong=crowd.wrong + self._denied(crowd),
        )

    def settle(self) -> None:
        """Have everything be sent and heard, and the settle time pass."""
        self.service.sandbox.sink.set_delay("product", 0, 0)
        for name in RELAYS:
            self._nursery.kill(self._children[name])
            self._start(name)
        eventually(self._is_told, 60)
        eventually(lambda: not self.service.sandbox.pending(), 60)
        self._age_holds(SETTLE_SECONDS + 1)

    def end(self) -> None:
        """End all processes."""
        for child in self._children.values():
            self._nursery.kill(child)

    def holds_left(self) -> list[dict[str, Any]]:
        """Return the holds that remain after a last look, long after the rush."""
        for _ in range(2):  # what the first one has seen is kept for a while
            for variation in self.variations:
                self.service.rows(
                    "SELECT CAST(settle_stock(CAST(:variation AS uuid),"
                    " CAST(:amount AS bigint), clock_timestamp(),"
                    " make_interval(secs => :settle), make_interval(secs => :cap),"
                    " make_interval(secs => :longest)) AS text)",
                    variation=variation,
                    amount=self.service.sandbox.stock(variation),
                    settle=SETTLE_SECONDS,
                    cap=holds.CAP_SECONDS,
                    longest=holds.LONGEST_SECONDS,
                )
            self._age_holds(holds.LONGEST_SECONDS)
        return self.service.rows("SELECT * FROM stock_holds")

    def _start(self, name: str) -> None:
        environ = self.service.environ | {"THREADS": "8"}
        if name == INSTANCES[0]:
            environ |= {"EVENT_SINK_URL": self._away}
        if name in INSTANCES:
            self._children[name] = self._nursery.start(
                "create_order_from_cart", environ
            )
        else:
            arguments = ("--poll-seconds", "0.2")
            self._children[name] = self._nursery.start(
                "relay_worker", environ, *arguments
            )

    def _kill(
        self,
        crowd: Buyers,
        threads: Sequence[threading.Thread],
        buyers: int,
        kills: int,
        chance: random.Random,
    ) -> None:
        """Kill and restart, most often at first, until every buyer has come."""
        pace = [3 * n for n in range(1, EARLY_KILLS + 1)]
        rest = max(1, kills - len(pace))
        pace += [pace[-1] + n * (buyers - pace[-1]) // rest for n in range(rest)]
        names = [*INSTANCES, *RELAYS]
        chance.shuffle(names)
        while any(thread.is_alive() for thread in threads):
            if self.kills < kills and crowd.done >= pace[self.kills]:
                name = names[self.kills % len(names)]
                self._nursery.kill(self._children[name])
                self._start(name)
                self.kills += 1
                self._expire_claims()
            time.sleep(0.01)

    def _expire_claims(self) -> None:
        """Let the claims of processes that were killed run out.

        No other process is busy with what it claimed for as long as `STALE_SECONDS`.
        """
        self.service.rows(
            "UPDATE outbox SET available_at = now() - interval '1 second'"
            " WHERE held_since IS NULL AND available_at > now()"
            " AND coalesce(sending_since, '-infinity')"
            " < now() - make_interval(secs => :stale) RETURNING id",
            stale=STALE_SECONDS,
        )

    def _is_told(self) -> bool:
        """Decide what is held as an operator does; return whether nothing is owed."""
        self._expire_claims()
        held = self.service.rows(
            "SELECT CAST(event_id AS text) AS event_id, order_id FROM outbox"
            " WHERE held_since IS NOT NULL"
        )
        created = self.service.sandbox.events_of("order.created") if held else []
        heard = {event.id for event in created}
        for row in held:
            event = UUID(row["event_id"]), row["order_id"], DESTINATION
            act = event_log.confirm if row["event_id"] in heard else event_log.resend
            act(self._engine, *event)
            self.doubtful += 1
        return not self.service.rows("SELECT 1 FROM outbox LIMIT 1")

    def _age_holds(self, seconds: float) -> None:
        self.service.rows(
            "UPDATE stock_holds SET created_at = created_at - age,"
            " confirmed_at = confirmed_at - age, released_at = released_at - age,"
            " seen_at = seen_at - age"
            " FROM make_interval(secs => :seconds) AS age RETURNING id",
            seconds=seconds,
        )

    def _sold(self, variation: str) -> int:
        [row] = self.service.rows(
            "SELECT coalesce(sum(quantity), 0) AS sold FROM order_items"
            " WHERE product_variation = CAST(:variation AS uuid)",
            variation=variation,
        )
        return int(row["sold"])

    def _denied(self, crowd: Buyers) -> list[str]:
        """Return what the books say otherwise than buyers, carts or the bus."""
        sandbox = self.service.sandbox
        rows = self.service.rows(
            "SELECT id, CAST(user_id AS text) AS user_id FROM orders ORDER BY id"
        )
        made = sorted((row["id"], row["user_id"]) for row in rows)
        told = sorted(
            (buyer.order_id, buyer.user) for buyer in crowd.buyers if buyer.order_id
        )
        denied = [] if made == told else [f"orders {made}, buyers know {told}"]
        heard = Counter(event.id for event in sandbox.events_of("order.created"))
        denied += [f"heard {n} times: {id_}" for id_, n in heard.items() if n > 1]
        return denied


@contextlib.contextmanager
def rush(
    server_url: str, template: str, nursery: Nursery, stock: Sequence[int]
) -> Iterator[Rush]:
    """Yield a run on a database of its own, with so much of each variation."""
    with (
        database.database(server_url, template=template) as url,
        running_sandbox() as sandbox,
        contextlib.ExitStack() as stack,
    ):
        service = Service(url, sandbox)
        stack.callback(service.close)
        service.environ |= {
            "STOCK_SETTLE_SECONDS": str(SETTLE_SECONDS),
            "ORDER_CREATED_ON_DOUBT": "hold",
        }
        engine = stack.enter_context(engine_on(url))
        running = Rush(service, engine, nursery, stock)
        stack.callback(running.end)
        yield running


# Like the database's function, but without what others hold.
_UNCHECKED = """
CREATE OR REPLACE FUNCTION hold_stock(holder bigint, asked jsonb)
RETURNS boolean LANGUAGE sql AS 'SELECT true'
"""


def take_the_check_out(running: Rush) -> None:
    """Have this run's database let every order through."""
    database.execute(running.service.environ["DATABASE_URL"], _UNCHECKED)
