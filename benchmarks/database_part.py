"""Run a checkout's statements through the service's own functions, without HTTP.

It runs as a program, on the Python of the checkout that is measured.
"""

import argparse
import itertools
import json
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection

from common import wiring
from common.domain import orders
from common.domain.commands import CheckoutReply
from common.domain.model import Line
from common.json import encode
from common.store import idempotency
from common.store.orders import create_order

LINES = 5
_FORK = multiprocessing.get_context("fork")


def check_out(lines: Sequence[Line], number: int) -> None:
    """Run a checkout's statements: look up keys and draw ids, then write everything.

    Publishing events is not part of it.
    """
    user_id = uuid.uuid4()
    first = number * len(lines)
    bought = [
        (line_id, line.product_variation, line.quantity)
        for line_id, line in enumerate(lines, first)
    ]
    claims = [idempotency.by_cart(user_id, 42, bought)]
    engine = wiring.engine()
    ids = idempotency.begin(engine, claims, len(lines))
    change = orders.new_order(user_id, lines, ids, cart_id=42)
    reply = CheckoutReply(
        message="Order created successfully",
        order_id=change.order.id,
        items_count=len(lines),
        total_quantity=len(lines),
        order=change.order,
    )
    headers = {"Location": f"/api/orders/{change.order.id}/", "ETag": '"1"'}
    response = idempotency.StoredResponse(201, headers, encode(reply))
    create_order(engine, change, wiring.bus(), claims, response)


def basket() -> list[Line]:
    """Return the lines to buy."""
    return [
        Line(uuid.uuid4(), 2, uuid.uuid4(), uuid.uuid4(), 1999) for _ in range(LINES)
    ]


def _work(seconds: float, threads: int, barrier: Callable[[], object]) -> list[float]:
    """Check out on `threads` for `seconds`; return how long each checkout took."""
    lines = basket()
    numbers = itertools.count()
    took: list[float] = []
    failures: list[BaseException] = []

    def until(end_at: float) -> list[float]:
        each = []
        while (began_at := time.perf_counter()) < end_at:
            check_out(lines, next(numbers))
            each.append(time.perf_counter() - began_at)
        return each

    def work() -> None:
        try:
            check_out(lines, next(numbers))  # connects, prepares
            barrier()
            took.extend(until(time.perf_counter() + seconds))
        except BaseException as error:
            failures.append(error)
            raise

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise SystemExit(f"a checkout failed: {failures[0]!r}")
    return took


def _child(pipe: Connection, work: Callable[[], list[float]]) -> None:
    with pipe:
        pipe.send(work())


def main(argv: Sequence[str] | None = None) -> None:
    """Print the seconds that each checkout took, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4, help="of each process")
    arguments = parser.parse_args(argv)
    wiring.start("DATABASE", "EVENT_BUS")
    barrier = _FORK.Barrier(arguments.processes * arguments.threads)
    wait = partial(barrier.wait, 60)
    work = partial(_work, arguments.seconds, arguments.threads, wait)
    pipes = []
    for _ in range(arguments.processes):
        ours, theirs = _FORK.Pipe(duplex=False)
        _FORK.Process(target=_child, args=(theirs, work)).start()
        theirs.close()
        pipes.append(ours)
    took = [each for pipe in pipes for each in pipe.recv()]
    print(json.dumps(took))


if __name__ == "__main__":
    main()
