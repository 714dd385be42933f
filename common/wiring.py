"""Build what a process needs once, on first use: settings, engine, siblings, relay.

The framework imports a function in its master process and then forks the worker, so
nothing is built at import.
"""

import gc
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from common import GC_THRESHOLD
from common.config import settings as config
from common.config.endpoints import CloudSql, Database
from common.config.environment import ConfigError
from common.telemetry import logs, tracing

if TYPE_CHECKING:
    from common.clients.batch import Upstream
    from common.database.engine import Engine
    from common.messaging.pending import Bus
    from common.messaging.relay import Relay
    from common.publishing.publisher import Publisher
    from common.telemetry.otel import OpenTelemetry

# What a builder needs is imported when it builds: a function loads what it uses.
# ruff: noqa: PLC0415

T = TypeVar("T")
_needs: dict[str, None] = {}  # in the order in which they were named


class _Once(Generic[T]):
    """Builds at the first call, and once: first requests come several at a time."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: tuple[T, ...] = ()
        self._lock = threading.Lock()

    def __call__(self) -> T:
        """Answer what was built, building it now if need be."""
        built = self._built
        if not built:
            with self._lock:
                built = self._built or (self._build(),)
                self._built = built
        return built[0]

    def peek(self) -> T | None:
        """Answer what was built, if anything was."""
        built = self._built
        return built[0] if built else None

    def forget(self) -> None:
        """Build anew at the next call, under a new lock: a fork may copy a held one."""
        self._built = ()
        self._lock = threading.Lock()


def use(*needs: str) -> None:
    """Check the settings for `needs`, and send log lines where they belong.

    Raises ConfigError. Reads the environment only; opens nothing.
    """
    _needs.update(dict.fromkeys(needs))
    settings.forget()
    _configure_logs(settings())
    if settings().is_traced:
        _switch_on_tracing()
    if "DATABASE" in _needs and isinstance(settings().database, CloudSql):
        import common.database.cloud_sql  # noqa: F401 half a second, which no request may wait

    _collect_garbage_from_now_on()


def _configure_logs(given: config.Settings) -> None:
    try:
        logs.configure(given.log)
    except OSError as error:
        raise ConfigError(f"LOG_FILE cannot be written to: {error.strerror}") from error


def _switch_on_tracing() -> None:
    try:
        from common.telemetry import otel
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed:"
            " install the extra otel, or set OTEL_SDK_DISABLED=true"
        ) from error

    given = settings()
    flushes = given.is_on_cloud_run  # there is no time between requests
    exporters = otel.exporters(are_flushed=flushes)

    def make() -> "OpenTelemetry":
        return otel.OpenTelemetry(exporters, given.traced_as, flushes=flushes)

    tracing.switch_on(make)


def _collect_garbage_from_now_on() -> None:
    """Go back to Python's own pace, and leave alone for ever what was loaded so far.

    A full collection would take 40 ms out of somebody's request, to find that all of it
    is still in use.
    """
    if gc.get_threshold() != GC_THRESHOLD:
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)


def start(*needs: str) -> None:
    """Check the settings when a function is loaded; end the process if they are wrong.

    Called by an entry point with what it cannot work without, so that a wrong
    deployment says so in one line at start instead of to its first caller.
    """
    try:
        use(*needs)
    except ConfigError as error:
        raise SystemExit(f"configuration error: {error}") from error


@_Once
def settings() -> config.Settings:
    """Answer the settings, checked for the needs of all functions loaded so far."""
    return config.load(needs=_needs)


@_Once
def engine() -> "Engine":
    """Answer the engine on the orders database."""
    database = settings().database
    if database is None:
        raise ConfigError("DATABASE_URL is not set")
    return engine_on(database, settings().pool_size)


def engine_on(database: Database | CloudSql, pool_size: int = 4) -> "Engine":
    """Answer a new engine, by address or by the instance's name."""
    if isinstance(database, CloudSql):
        from common.database import cloud_sql

        return cloud_sql.make_engine(database, pool_size)
    from common.database.engine import make_engine

    return make_engine(database, pool_size)


@_Once
def shopcart() -> "Upstream":
    """Answer the shopcart service."""
    from common.clients.batch import Upstream

    return Upstream("shopcart", settings().shopcart_url or "")


@_Once
def product() -> "Upstream":
    """Answer the product service."""
    from common.clients.batch import Upstream

    return Upstream("product", settings().product_url or "")


@_Once
def relay() -> "Relay":
    """Answer the relay to every destination that this process is configured for."""
    from common.messaging.relay import Relay

    publishers = {name: _publisher(name) for name in settings().bus}
    if analytics_url := settings().analytics_url:
        from common.publishing.http import AnalyticsPublisher

        publishers["analytics"] = AnalyticsPublisher(analytics_url)
    return Relay(
        engine(),
        publishers,
        hold_doubtful_order_created=settings().hold_doubtful_order_created,
    )


def _publisher(destination: str) -> "Publisher":
    """Return a new publisher; `config.load` has checked that its settings are there."""
    given = settings()
    if destination == "rabbitmq" and given.rabbitmq:
        from common.publishing.rabbitmq import RabbitMQPublisher

        return RabbitMQPublisher(given.rabbitmq)
    if destination == "pubsub" and given.pubsub:
        from common.publishing.pubsub import PubSubPublisher

        return PubSubPublisher(given.pubsub)
    from common.publishing.http import SinkPublisher

    return SinkPublisher(given.event_sink_url or "")


def bus(*, claims: bool = True) -> "Bus":
    """Answer where a write's events go that is followed by `relay().send(...)`.

    Without `claims` nothing is claimed before it is about to be sent, so that what a
    crash leaves untried is not in doubt. Always so where an operator decides on doubts.
    """
    from common.messaging.pending import Bus

    claims = claims and not settings().hold_doubtful_order_created
    return Bus(settings().bus, relay().admit, claims=claims)


def check_ready() -> None:
    """Raise ServiceError unless the database is what the work needs."""
    from common.database import readiness

    readiness.check(engine())


_ALL: tuple[_Once[Any], ...] = (settings, engine, shopcart, product, relay)


def forget() -> None:
    """Start anew, without closing anything: after a fork it is the parent's."""
    tracing.forget()
    for built in _ALL:
        built.forget()


def close() -> None:
    """Close everything and start anew. For orderly ends, and between tests."""
    for closable in (shopcart.peek(), product.peek(), relay.peek()):
        if closable is not None:
            closable.close()
    if opened := engine.peek():
        opened.dispose()
    tracing.close()
    for built in _ALL:
        built.forget()


os.register_at_fork(after_in_child=forget)
