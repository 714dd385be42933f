"""Build the engine, the clients and the relay of a process, once and on first use.

The framework imports a function in its master process and then forks the worker, so
nothing is built at import.
"""

import os
from typing import TYPE_CHECKING, Any

from common import startup
from common.config.endpoints import CloudSql, Database
from common.config.environment import ConfigError
from common.startup import Once, settings
from common.telemetry import tracing

if TYPE_CHECKING:
    from common.clients.batch import Upstream
    from common.database.engine import Engine
    from common.database.starting import Start
    from common.messaging.pending import Bus
    from common.messaging.relay import Relay
    from common.publishing.publisher import Publisher

# Each builder imports what it needs, so that a function loads only what it uses.
# ruff: noqa: PLC0415


def use(*needs: str) -> None:
    """Do what `startup.use` does; raise ConfigError."""
    startup.use(*needs, load=_load)


def start(*needs: str) -> None:
    """Do what `startup.start` does; end the process if the settings are wrong."""
    startup.start(*needs, load=_load)


def _load() -> None:
    if "DATABASE" in startup.needs and isinstance(settings().database, CloudSql):
        import common.database.cloud_sql  # noqa: F401 takes half a second


@Once
def engine() -> "Engine":
    """Return the engine for the orders database."""
    database = settings().database
    if database is None:
        raise ConfigError("DATABASE_URL is not set")
    return engine_on(database, settings().pool_size)


def engine_on(database: Database | CloudSql, pool_size: int = 4) -> "Engine":
    """Return a new engine for an address or a Cloud SQL instance."""
    if isinstance(database, CloudSql):
        from common.database import cloud_sql

        return cloud_sql.make_engine(database, pool_size)
    from common.database.engine import make_engine

    return make_engine(database, pool_size)


@Once
def shopcart() -> "Upstream":
    """Return the client of the shopcart service."""
    from common.clients.batch import Upstream

    return Upstream("shopcart", settings().shopcart_url or "")


@Once
def product() -> "Upstream":
    """Return the client of the product service."""
    from common.clients.batch import Upstream

    return Upstream("product", settings().product_url or "")


def optional_product() -> "Upstream | None":
    """Return the client of the product service, None if its address is not set."""
    return product() if settings().product_url else None


@Once
def relay() -> "Relay":
    """Return the relay to every destination that this process is configured for."""
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
    """Return a new publisher; `settings.load` has checked its settings."""
    current = settings()
    if destination == "rabbitmq" and current.rabbitmq:
        from common.publishing.rabbitmq import RabbitMQPublisher

        return RabbitMQPublisher(current.rabbitmq)
    if destination == "pubsub" and current.pubsub:
        from common.publishing.pubsub import PubSubPublisher

        return PubSubPublisher(current.pubsub)
    from common.publishing.http import SinkPublisher

    return SinkPublisher(current.event_sink_url or "")


def bus(*, claims: bool = True) -> "Bus":
    """Return the event bus for a write that is followed by `relay().send(...)`.

    Without `claims` the write does not claim its events. They are claimed right before
    they are sent, so that a crash in between leaves none in doubt. This is always so if
    operators decide on doubtful events.
    """
    from common.messaging.pending import Bus

    claims = claims and not settings().hold_doubtful_order_created
    return Bus(
        settings().bus,
        relay().available_destinations,
        claims=claims,
        settle_seconds=settings().stock_settle_seconds,
    )


def check_ready(function: str) -> None:
    """Raise ServiceError unless the database is reachable, migrated and writable."""
    from common.database import readiness

    readiness.check(engine(), function)


@Once
def start_of_process() -> "Start":
    """Return the start of this process, which ends once the database has answered."""
    from common.database.starting import Start

    return Start()


def check_start(_function: str) -> None:
    """Raise ServiceError until the database has answered, or it took too long."""
    start_of_process().check(engine())


CHECKS = {"ready": check_ready, "start": check_start}
_ALL: tuple[Once[Any], ...] = (
    settings,
    engine,
    shopcart,
    product,
    relay,
    start_of_process,
)


def forget() -> None:
    """Forget what was built, unclosed, because after a fork it is the parent's."""
    tracing.forget()
    for built in _ALL:
        built.forget()


def close() -> None:
    """Close and forget what was built, and what the loaded functions need."""
    for closable in (shopcart.peek(), product.peek(), relay.peek()):
        if closable is not None:
            closable.close()
    if opened := engine.peek():
        opened.dispose()
    tracing.close()
    for built in _ALL:
        built.forget()
    startup.needs.clear()


os.register_at_fork(after_in_child=forget)
