"""Fixtures for audits and Cloud SQL: worlds to be spoilt, a new one for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common import cloud_sql
from common.db import Engine
from tests.support.audited import Made, Tampering, made_world, tampering
from tests.support.cloud_sql import CloudSqlInstance
from tests.support.cloud_sql_said import discreet
from tests.support.cloud_sql_world import cloud_sql_world, engine_by_name


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
    postgres_url: str,
    template_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[CloudSqlInstance]:
    """An instance of Cloud SQL, and the credentials of its account."""
    with cloud_sql_world(postgres_url, template_database, tmp_path) as found:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", found.key_file)
        yield found


@pytest.fixture
def at_once(
    instance: CloudSqlInstance,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """What is not asked again for a while is asked at once; secrets are not said."""
    monkeypatch.setattr(cloud_sql, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(cloud_sql, "FRESH_SECONDS", 0)
    with discreet(instance, caplog):
        yield


@pytest.fixture
def engine(instance: CloudSqlInstance) -> Iterator[Engine]:
    """An engine on that instance, by its name."""
    with engine_by_name(instance) as engine:
        yield engine
