"""The service in several processes, now and then killed, behind links that cut."""

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.support.crash.nursery import Child, Nursery
from tests.support.history.clients import Clients
from tests.support.history.cuts import CuttingLink
from tests.support.history.record import Operation
from tests.support.history.shops import Shops
from tests.support.serving import environment
from tests.support.wire import Wire, serve

PROCESSES = {"create_order_from_cart": 2, "orders_crud": 2, "item_status": 1}
KILL_SECONDS = 5  # from one kill to the next
PATIENCE_SECONDS = 60
T = TypeVar("T")


@dataclass
class Run:
    """What came of a run."""

    operations: list[Operation] = field(default_factory=list)
    cuts: Counter[str] = field(default_factory=Counter)
    kills: int = 0


def run(
    nursery: Nursery,
    database_url: str,
    *,
    clients: int,
    seconds: float,
    least: int,
    seed: int,
    connect: Callable[[int], Wire] = Wire,
    say: Callable[[str], None] = lambda _: None,
) -> Run:
    """Have clients at work for so long, and until there are `least` requests.

    Return what they asked and heard, with all orders listed once more at the end.
    """
    chance = random.Random(seed)
    shops = Shops(chance)
    with contextlib.closing(_Loop()) as loop:
        siblings = loop.start(serve(shops.answer)).result(PATIENCE_SECONDS)
        address = f"http://127.0.0.1:{siblings.sockets[0].getsockname()[1]}"
        environ = environment(
            DATABASE_URL=database_url,
            EVENT_BUS="http",
            EVENT_SINK_URL=f"{address}/events",
            SHOPCART_SERVICE=address,
            PRODUCT_SERVICE=address,
            THREADS="16",
            LOG_LEVEL="ERROR",
        )
        with _instances(nursery, environ, chance) as instances:
            people = Clients(_ports(instances), shops, chance, connect)
            done = Run(people.operations)
            began = time.monotonic()

            def is_over() -> bool:
                is_late = time.monotonic() - began > seconds
                return is_late and len(done.operations) >= least

            working = loop.start(people.work(clients, is_over))
            while wait([working], KILL_SECONDS).not_done:
                victim = chance.choice(instances)
                victim.restart()
                done.kills += 1
                say(
                    f"{time.monotonic() - began:4.0f} s: {len(done.operations)}"
                    f" requests, {done.kills} processes killed"
                )
            working.result()
            for each in instances:
                each.link.is_cutting = False
                each.link.wait_until_quiet(PATIENCE_SECONDS)
                done.cuts += each.link.happened
            loop.start(people.look_again()).result(PATIENCE_SECONDS)
        loop.start(_closed(siblings)).result(PATIENCE_SECONDS)
    return done


class _Instance:
    """A process of a function, and the link to it."""

    def __init__(
        self,
        nursery: Nursery,
        function: str,
        environ: dict[str, str],
        chance: random.Random,
    ) -> None:
        self.function = function
        self._nursery = nursery
        self._environ = environ
        self._child: Child = nursery.start(function, environ)
        self.link = CuttingLink(self._child.port, chance)

    def restart(self) -> None:
        """Kill the process and start another in its place."""
        self._nursery.kill(self._child)
        self._child = self._nursery.start(self.function, self._environ)
        self.link.restore(self._child.port)

    def close(self) -> None:
        self.link.close()
        self._nursery.kill(self._child)


@contextlib.contextmanager
def _instances(
    nursery: Nursery, environ: dict[str, str], chance: random.Random
) -> Iterator[list[_Instance]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                contextlib.closing(_Instance(nursery, function, environ, chance))
            )
            for function, count in PROCESSES.items()
            for _ in range(count)
        ]


def _ports(instances: list[_Instance]) -> dict[str, list[int]]:
    return {
        function: [each.link.port for each in instances if each.function == function]
        for function in PROCESSES
    }


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have the loop do it; return what its result will be."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()


async def _closed(server: asyncio.Server) -> None:
    server.close()
