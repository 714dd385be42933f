"""Fixtures for fault tests: a nursery of processes, and worlds to kill them in."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crash.nursery import Nursery, nursery
from tests.support.crash.world import World, running_world
from tests.support.rabbitmq import Broker, clean_topology


@pytest.fixture(scope="module")
def forks() -> Iterator[Nursery]:
    """What starts processes, for a whole file."""
    folder = Path(tempfile.mkdtemp(prefix="order-service-crash-"))
    with nursery(folder) as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def world(
    postgres_url: str,
    template_database: str,
    rabbitmq_server: Broker,
    forks: Nursery,
) -> Iterator[World]:
    """An empty database, siblings, and a broker of whose events none is missed."""
    with (
        clean_topology(rabbitmq_server) as channel,
        running_world(
            postgres_url, template_database, forks, rabbitmq_server, channel
        ) as running,
    ):
        yield running
