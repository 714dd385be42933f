"""Fixtures for all tests: databases, the broker, and the guard of the network.

With REQUIRE_SERVICES=1 a server that is missing fails the test; without it, the test is
skipped with its reason.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.support import database
from tests.support.network import loopback_only
from tests.support.rabbitmq import Broker, NoRabbitMQError, broker, clean_topology
from tests.support.rabbitmq_node import OwnBroker, needed_broker


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print in a line each what was skipped for want of a server; never silently."""
    skipped = [
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    ]
    for server in ("RabbitMQ", "Pub/Sub emulator", "browser for the console"):
        if reasons := [each for each in skipped if f"no {server}" in each]:
            terminalreporter.write_line(f"Skipped {len(reasons)} tests: {reasons[0]}")


@pytest.fixture(scope="session", autouse=True)
def _refused() -> Iterator[list[str]]:
    with loopback_only() as refused:
        yield refused


@pytest.fixture(autouse=True)
def _stay_on_this_machine(_refused: list[str]) -> Iterator[None]:
    yield
    tried, _refused[:] = list(_refused), []
    assert not tried, f"the test tried to reach {tried}"


@pytest.fixture
def caplog(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """Our own records, too, however an earlier test has configured their logger."""
    monkeypatch.setattr(logging.getLogger("orders"), "propagate", True)
    caplog.set_level(logging.INFO, "orders")
    return caplog


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: the URL of its database `postgres`."""
    with database.server() as url:
        yield url


@pytest.fixture
def scratch_folder() -> Iterator[Path]:
    """A new folder for an embedded PostgreSQL, which root cannot have in tmp_path."""
    with database.scratch_folder(database.memory()) as folder:
        yield folder


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """A database with the newest schema and no rows, to be cloned, not used."""
    # Imported late: tests that need no database need no alembic either.
    from common.database.migrations import upgrade  # noqa: PLC0415

    with database.database(postgres_url) as url:
        with database.plain_engine(url) as engine:
            upgrade(engine)
        yield url


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    with database.database(postgres_url, template=template_database) as url:
        yield url


@pytest.fixture(scope="session")
def _broker() -> Iterator[Broker | str]:
    # A session's fixture that skips is asked again by each test: keep the answer.
    try:
        with broker() as found:
            yield found
    except NoRabbitMQError as error:
        yield str(error)


@pytest.fixture(scope="session")
def rabbitmq_server(_broker: Broker | str) -> Broker:
    """A real RabbitMQ: where it is."""
    if isinstance(_broker, Broker):
        return _broker
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(_broker, pytrace=False)
    pytest.skip(_broker)


@pytest.fixture
def rabbitmq_channel(rabbitmq_server: Broker) -> Iterator[BlockingChannel]:
    """Exchange and queues of the platform, all empty, and a channel to look into them.

    Any test that publishes or consumes needs it: it also keeps other test runs on
    this machine away.
    """
    with clean_topology(rabbitmq_server) as channel:
        yield channel


@pytest.fixture(scope="session")
def own_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """A RabbitMQ of this run's own: to be stopped, killed, and short of memory."""
    with needed_broker(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node
