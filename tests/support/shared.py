"""What tests share: one service for a whole file, and one sandbox after the other.

Tests of a shared service have a customer of their own each, compare before and after,
and never count from zero.
"""

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from werkzeug.test import Client

from tests.support import database
from tests.support.sandbox import Sandbox, running_sandbox
from tests.support.service import Service

_running = ExitStack()
atexit.register(_running.close)
_clean: list[Sandbox] = []


@contextmanager
def clean_sandbox() -> Iterator[Sandbox]:
    """Yield siblings without a past, whose event queues wait for `sandbox.deliver()`.

    They serve again afterwards, unless a call is still at work.
    """
    if not _clean:
        _clean.append(_running.enter_context(running_sandbox(deliver=False)))
    sandbox = _clean.pop()
    yield sandbox
    if not sandbox.traffic.is_busy():
        Client(sandbox).post("/sandbox/reset")
        _clean.append(sandbox)


@contextmanager
def shared_service(postgres_url: str, template_database: str) -> Iterator[Service]:
    """Yield a service on a database and a sandbox that the file's tests share."""
    with (
        database.database(postgres_url, template=template_database) as url,
        clean_sandbox() as sandbox,
    ):
        running = Service(url, sandbox)
        try:
            yield running
        finally:
            running.close()


def service_of_file(postgres_url: str, template_database: str) -> Iterator[Service]:
    """Yield a shared service; `pytest.fixture(service_of_file, scope="module")`."""
    with shared_service(postgres_url, template_database) as running:
        yield running


@contextmanager
def settings_kept(service: Service) -> Iterator[Service]:
    """Yield the service, and undo afterwards what a test changes of its settings."""
    kept = dict(service.environ)
    try:
        yield service
    finally:
        if service.environ != kept:
            service.environ = kept
            service.restart()
