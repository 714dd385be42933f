"""The whole platform of a local run, on a database of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local.system import running_system
from tests.support import database


@contextmanager
def local_system(
    postgres_url: str, template_database: str, folder: Path
) -> Iterator[tuple[str, str]]:
    """Yield its URL and its database's; files that it keeps are in `folder`."""
    with (
        pytest.MonkeyPatch.context() as patch,
        database.database(postgres_url, template=template_database) as database_url,
    ):
        patch.setenv("DATABASE_URL", database_url)
        with running_system(0, folder, lambda _: None) as url:
            yield url, database_url
