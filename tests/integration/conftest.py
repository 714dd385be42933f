"""Fixtures for audits: a world of orders, made once, and a clone for each test."""

from collections.abc import Iterator

import pytest

from tests.support.audited import Made, Tampering, made_world, tampering


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
