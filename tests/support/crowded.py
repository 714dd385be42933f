"""The service on a PostgreSQL with fewer connections than its pools would open.

The database user is no superuser, since PostgreSQL reserves three connections for
those.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from common.database.migrations import upgrade
from infra.local.postgres import postgres_server
from tests.support import database
from tests.support.multitude import Multitude
from tests.support.serving import environment, served

FUNCTIONS = ("create_order_from_cart", "orders_crud", "item_status")
MAX_CONNECTIONS = 70  # all pools together, and a reserve, as docs/capacity.md asks


@dataclass(frozen=True)
class Crowded:
    """What runs: the clients, the functions' ports, the database for its operator."""

    multitude: Multitude
    ports: dict[str, int]
    operator_url: str
    environ: Mapping[str, str]
    folder: Path

    def log(self, function: str) -> str:
        """Return what a function has logged."""
        return (self.folder / f"{function}.log").read_text()


@contextlib.contextmanager
def crowded(
    *,
    max_connections: int = MAX_CONNECTIONS,
    workers: int = 2,
    threads: int = 8,
) -> Iterator[Crowded]:
    """Yield the functions that customers and shops use, serving, each in `workers`."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(database.scratch_folder())
        server = postgres_server(
            folder / "postgres", durable=False, max_connections=max_connections
        )
        operator_url = stack.enter_context(server)
        with database.plain_engine(operator_url) as engine:
            upgrade(engine)
        for statement in (
            "CREATE ROLE shop LOGIN PASSWORD 'secret'",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO shop",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO shop",
        ):
            database.execute(operator_url, statement)
        multitude = stack.enter_context(Multitude().ready())
        siblings = f"http://127.0.0.1:{multitude.siblings_port}"
        environ = environment(
            DATABASE_URL=f"postgresql://shop:secret@{operator_url.partition('@')[2]}",
            EVENT_BUS="http",
            EVENT_SINK_URL=f"{siblings}/events",
            SHOPCART_SERVICE=siblings,
            PRODUCT_SERVICE=siblings,
            WORKERS=str(workers),
            THREADS=str(threads),
            LOG_LEVEL="WARNING",
        )
        ports = {
            name: urlsplit(stack.enter_context(serving)).port or 0
            for name in FUNCTIONS
            for serving in [served(name, environ, folder / f"{name}.log")]
        }
        yield Crowded(multitude, ports, operator_url, environ, folder)


def orders(operator_url: str) -> list[tuple[int, str]]:
    """Return each order's id and whose it is."""
    rows = database.execute(
        operator_url, "SELECT id, CAST(user_id AS text) FROM orders"
    )
    return [(int(str(id_)), str(user_id)) for id_, user_id in rows]
