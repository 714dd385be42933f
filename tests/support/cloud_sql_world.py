"""A database that is reached by Cloud SQL only, as a function's own user.

Lives here: the role of an instance's account with the rights that a migration gives
it, and settings made of an instance. Not here: the stand-in itself (`cloud_sql.py`).
Surprise: roles belong to the whole server, so they outlive the database they are for.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from common import config, wiring
from common.db import Engine
from common.migrations import grant
from tests.support.cloud_sql import CloudSqlInstance, cloud_sql
from tests.support.database import database, execute, plain_engine

PASSWORD = "s3cret-of-orders"


@contextlib.contextmanager
def cloud_sql_world(
    postgres_url: str, template: str, folder: Path
) -> Iterator[CloudSqlInstance]:
    """Yield an instance with a migrated database.

    Its account's user has the rights of a function, and `PASSWORD` as its password.
    """
    with contextlib.ExitStack() as stack:
        instance = stack.enter_context(cloud_sql(postgres_url, folder))
        instance.server.passwords[instance.iam_user] = PASSWORD
        stack.enter_context(role(postgres_url, instance.iam_user))
        url = stack.enter_context(database(postgres_url, template=template))
        instance.database = url.rpartition("/")[2]
        with plain_engine(url) as engine:
            grant(engine, [instance.iam_user])
        yield instance


@contextlib.contextmanager
def role(postgres_url: str, name: str) -> Iterator[str]:
    """Yield a role of the server that may log in, and nothing else."""
    quoted = name.replace('"', '""')
    execute(postgres_url, f'CREATE ROLE "{quoted}" LOGIN')
    try:
        yield name
    finally:
        execute(postgres_url, f'DROP ROLE "{quoted}"')


@contextlib.contextmanager
def engine_by_name(
    instance: CloudSqlInstance, pool_size: int = 4, **more: str
) -> Iterator[Engine]:
    """Yield the service's engine, as `settings` of the instance and `more` make it."""
    settings = config.load(instance.settings(**more), needs=("DATABASE",))
    assert settings.database is not None
    engine = wiring.engine_on(settings.database, pool_size)
    try:
        yield engine
    finally:
        engine.dispose()
