"""Fixtures for tests of the operations console: a service that has one."""

from collections.abc import Iterator

import pytest

from tests.support.console import Console
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file, settings_kept

shared = pytest.fixture(service_of_file, scope="module")


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    """A service that the file's tests share; settings are undone."""
    with settings_kept(shared):
        yield shared


@pytest.fixture
def console(service: Service) -> Console:
    """The console, for an operator with a new browser."""
    return Console(service)


@pytest.fixture
def user() -> str:
    """A customer with an empty past."""
    return new_user()
