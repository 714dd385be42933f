"""Fixtures for tests of functions: a service on a database and a sandbox of its own."""

from collections.abc import Iterator

import pytest

from infra.local.sandbox import Sandbox, running_sandbox
from tests.support.service import Service, new_user


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Siblings whose event queues wait for `sandbox.deliver()`."""
    with running_sandbox(deliver=False) as running:
        yield running


@pytest.fixture
def service(database_url: str, sandbox: Sandbox) -> Iterator[Service]:
    """All functions, on an empty database."""
    running = Service(database_url, sandbox)
    yield running
    running.close()


@pytest.fixture
def user() -> str:
    """A customer with an empty past."""
    return new_user()
