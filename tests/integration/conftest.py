"""Fixtures for audits and Cloud SQL: a new world for each test to spoil."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audited import Made, Tampering, made_world, tampering
from tests.support.cloud_sql import Instance, cloud_sql
from tests.support.sandbox import Sandbox, running_sandbox


@pytest.fixture(scope="session")
def made(postgres_url: str, template_database: str) -> Iterator[Made]:
    """A database with an order in every state."""
    with made_world(postgres_url, template_database) as made:
        yield made


@pytest.fixture
def world(postgres_url: str, made: Made) -> Iterator[Tampering]:
    """A clone of it, to be spoilt."""
    with tampering(postgres_url, made) as world:
        yield world


@pytest.fixture
def instance(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Instance]:
    """An instance of Cloud SQL, and the credentials of its account."""
    with cloud_sql(database_url, tmp_path) as found:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(found.key_file))
        yield found


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Return siblings and a sink, which keep what they hear to themselves."""
    with running_sandbox(deliver=False) as running:
        yield running
