"""Start and stop the whole platform: database, functions, sandbox, on one port.

A variable that is set replaces the embedded part; as functions share this process,
settings go into its environment before they are loaded.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import requests
from sqlalchemy.exc import SQLAlchemyError

from common import wiring
from common.config import settings as config
from common.errors import ServiceError
from common.telemetry import tracing
from infra.local.broker import ApprovalWorker, SiblingsConsumer
from infra.local.gateway import Gateway, load_functions
from infra.local.guard import guarded
from infra.local.http_server import HttpServer
from infra.local.postgres import postgres_server
from infra.local.sandbox.running import Sandbox
from infra.local.traces import Traces

CHECKOUT = Path(__file__).parents[2]
THREADS = "16"
ELSEWHERE = {"POSTGRES_HOST", "CLOUD_SQL_CONNECTION_NAME"}  # the database, if set
SWEEP_SECONDS = 2  # a scheduler does it once a minute on the real platform
NOT_YET_KNOWN = "postgresql://postgres@127.0.0.1:5432/postgres"

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


class StartError(Exception):
    """The system cannot be started; the message is one line."""


@contextlib.contextmanager
def running_system(
    port: int, folder: Path, say: Say, *, durable: bool = True
) -> Iterator[str]:
    """Serve everything on loopback while the block runs; yields the address.

    Data lives in `folder`; unless `durable`, it may be lost with the machine. `say`
    gets a line of progress at a time. Raise OSError for a port that is taken,
    ConfigError, EmbeddedPostgresError or StartError, one line each.
    """
    environ = {name: value for name, value in os.environ.items() if value.strip()}
    with contextlib.ExitStack() as stack:
        gateway = Gateway()
        server = HttpServer(
            guarded(gateway, is_shared=True), port
        )  # takes the port, serves nothing yet
        stack.callback(server.stop)
        settings = _check(_fill(environ, server.url, NOT_YET_KNOWN))
        has_broker = "rabbitmq" in settings.bus

        folder.mkdir(parents=True, exist_ok=True)
        url = environ.get("DATABASE_URL", "")
        if not url and not ELSEWHERE & environ.keys():
            with _timed(say, "PostgreSQL"):
                postgres = postgres_server(folder / "postgres", durable=durable)
                url = stack.enter_context(postgres)
        stack.enter_context(_environment(_fill(environ, server.url, url)))
        with _timed(say, "Schema"):
            _migrate(_check(os.environ))

        sandbox = Sandbox(
            path=folder / "sandbox.sqlite3",
            approval_url=None
            if has_broker
            else f"{server.url}/functions/approval_handler/",
            order_service_url=server.url,
            is_fed_by_broker=has_broker,
            is_lifelike=True,
        )
        stack.callback(sandbox.store.close)
        gateway.sandbox, gateway.traces = sandbox, Traces()
        stack.callback(wiring.close)
        with _timed(say, "Functions"):
            gateway.functions = load_functions(CHECKOUT / "functions")
        server.start()
        stack.callback(server.stop)  # before what its requests need is taken away
        stack.callback(tracing.close)  # while its collector is there
        sandbox.sink.start()
        stack.callback(sandbox.sink.stop)
        if settings.rabbitmq and has_broker:
            siblings = SiblingsConsumer(settings.rabbitmq, sandbox.sink)
            siblings.start()
            stack.callback(siblings.stop)
            worker = ApprovalWorker(CHECKOUT)
            worker.start()
            stack.callback(worker.stop)
        stack.enter_context(_scheduler(f"{server.url}/functions/outbox_relay/"))
        yield server.url


@contextlib.contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """Put `environ` in place of the process's environment while the block runs."""
    before = dict(os.environ)
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _fill(environ: Mapping[str, str], url: str, database_url: str) -> dict[str, str]:
    """Return the environment with what is not set pointing to the embedded parts."""
    filled = {
        "SHOPCART_SERVICE": f"{url}/sandbox/shopcart",
        "PRODUCT_SERVICE": f"{url}/sandbox/product",
        "SHOP_SERVICE": f"{url}/sandbox/shop",
        "ANALYTIC_SERVICE": f"{url}/sandbox/analytics",
        "THREADS": THREADS,
        # The gateway says who is at the console: nobody else can reach this port.
        "OPS_IDENTITY": "header",
        # Responses show what requests did; only problems belong on the screen.
        "LOG_LEVEL": "WARNING",
    }
    if "OTEL_EXPORTER_OTLP_ENDPOINT" not in environ:
        filled["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{url}/traces"
        filled["OTEL_BSP_SCHEDULE_DELAY"] = "300"  # milliseconds: a person is watching
    if not {"EVENT_SINK_URL", "K_SINK"} & environ.keys():
        filled["EVENT_SINK_URL"] = f"{url}/events"
    named = {"EVENT_BUS", "RABBITMQ_HOST", "RABBITMQ_URL", "PUBSUB_PROJECT"}
    if not named & environ.keys():
        filled["EVENT_BUS"] = "http"
    if not ELSEWHERE & environ.keys():
        filled["DATABASE_URL"] = database_url
    return filled | dict(environ)


def _check(environ: Mapping[str, str]) -> config.Settings:
    return config.load(environ, needs=("DATABASE", "EVENT_BUS"))


def _migrate(settings: config.Settings) -> None:
    # Imported late: alembic is slow to import, and `--help` does without.
    from common.database.migrations import upgrade  # noqa: PLC0415

    assert settings.database is not None
    engine = wiring.engine_on(settings.database)
    try:
        upgrade(engine)
    except (SQLAlchemyError, ServiceError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise StartError(f"the database cannot be used: {reason}") from error
    finally:
        engine.dispose()


@contextlib.contextmanager
def _scheduler(url: str) -> Iterator[None]:
    """Call the relay every few seconds; say so when it fails, and when it is back."""
    stopping = threading.Event()

    def sweep() -> None:
        was_well = True
        with requests.Session() as session:
            session.trust_env = False
            while not stopping.wait(SWEEP_SECONDS):
                try:
                    problem = _problem(session.post(url, timeout=60))
                except requests.RequestException as error:
                    problem = type(error).__name__
                if problem and was_well and not stopping.is_set():
                    logger.warning("outbox relay: %s; trying again", problem)
                elif not problem and not was_well:
                    logger.warning("outbox relay: working again")
                was_well = not problem

    thread = threading.Thread(target=sweep, name="scheduler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(SWEEP_SECONDS)


def _problem(reply: requests.Response) -> str | None:
    return None if reply.ok else f"answered {reply.status_code}"


@contextlib.contextmanager
def _timed(say: Say, what: str) -> Iterator[None]:
    began_at = time.monotonic()
    yield
    say(f"{what} ready in {time.monotonic() - began_at:.1f} s")
