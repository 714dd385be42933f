"""Run several callers at once, each with a client of its own."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from werkzeug.test import TestResponse

from tests.support.service import Service

T = TypeVar("T")
PATIENCE_SECONDS = 60


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls in threads that start together; answer in the order of calls."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        gate.wait(PATIENCE_SECONDS)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(run, call) for call in calls]
        return [done.result(PATIENCE_SECONDS) for done in running]


def sender(
    service: Service, function: str, method: str, path: str, user: str, **kwargs: Any
) -> Callable[[], TestResponse]:
    """Return what sends this request, from whichever thread."""
    app = service.client(function).application
    headers = {"X-User-ID": user, **kwargs.pop("headers", {})}

    def send() -> TestResponse:
        return app.test_client().open(path, method=method, headers=headers, **kwargs)

    return send


def checkout_sender(
    service: Service, user: str, **headers: str
) -> Callable[[], TestResponse]:
    """Return what checks out the user's cart, from whichever thread."""
    path = "/api/orders-from-shopcart/"
    function = "create_order_from_cart"
    return sender(service, function, "POST", path, user, headers=headers)


@contextmanager
def in_background(call: Callable[[], T]) -> Iterator["Future[T]"]:
    """Make the call in a thread while the block runs; its result is there after it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)
