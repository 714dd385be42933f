"""One service for a whole file of tests, each with a customer of its own.

Such tests compare before and after, and never count from zero.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import database
from tests.support.sandbox import running_sandbox
from tests.support.service import Service


@contextmanager
def shared_service(postgres_url: str, template_database: str) -> Iterator[Service]:
    """Yield a service on a database and a sandbox that the file's tests share."""
    with (
        database.database(postgres_url, template=template_database) as url,
        running_sandbox(deliver=False) as sandbox,
    ):
        running = Service(url, sandbox)
        try:
            yield running
        finally:
            running.close()


def service_of_file(postgres_url: str, template_database: str) -> Iterator[Service]:
    """Yield a shared service; `pytest.fixture(service_of_file, scope="module")`."""
    with shared_service(postgres_url, template_database) as running:
        yield running


@contextmanager
def settings_kept(service: Service) -> Iterator[Service]:
    """Yield the service, and undo afterwards what a test changes of its settings."""
    kept = dict(service.environ)
    try:
        yield service
    finally:
        if service.environ != kept:
            service.environ = kept
            service.restart()
