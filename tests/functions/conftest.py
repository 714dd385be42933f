"""Fixtures for tests of functions: a service on a database and a sandbox of its own."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import functions_framework
import pytest
from flask.testing import FlaskClient

from common import wiring
from tests.support.sandbox import Sandbox
from tests.support.service import Service, new_user
from tests.support.shared import clean_sandbox
from tests.support.traced import Collector, collecting


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Siblings whose event queues wait for `sandbox.deliver()`."""
    with clean_sandbox() as running:
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


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of traces; `collector.environ` points functions at it."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def docs() -> Iterator[FlaskClient]:
    """The documentation, with no configuration at all but where to be quiet."""
    main = Path(__file__).parents[2] / "functions" / "api_docs" / "main.py"
    with mock.patch.dict(os.environ, {"LOG_LEVEL": "WARNING"}, clear=True):
        app = functions_framework.create_app("api_docs", str(main))
        yield app.test_client()
    wiring.close()
