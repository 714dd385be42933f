"""What a process needs once: settings, engine, siblings, relay; built on first use.

Lives here: construction and nothing else. Not here: what is done with it. Surprise: the
framework imports a function in its master process and then forks the worker, so nothing
is built at import, and a fork starts with nothing.
"""

import functools
import os

from sqlalchemy import Engine

from common import config, logs
from common.clients import Upstream
from common.db import make_engine, ping
from common.outbox import Relay
from common.publishing import Publisher

_needs: set[str] = set()


def use(*needs: str) -> None:
    """Check the settings for `needs`, and send log lines where they belong.

    Raises ConfigError. Reads the environment only; opens nothing.
    """
    _needs.update(needs)
    settings.cache_clear()
    logs.configure(settings().log_level)


def start(*needs: str) -> None:
    """Check the settings when a function is loaded; end the process if they are wrong.

    Called by an entry point with what it cannot work without, so that a wrong
    deployment says so in one line at start instead of to its first caller.
    """
    try:
        use(*needs)
    except config.ConfigError as error:
        raise SystemExit(f"configuration error: {error}") from error


@functools.cache
def settings() -> config.Settings:
    """Answer the settings, checked for the needs of all functions loaded so far."""
    return config.load(needs=_needs)


@functools.cache
def engine() -> Engine:
    """Answer the engine on the orders database."""
    database = settings().database
    if database is None:
        raise config.ConfigError("DATABASE_URL is not set")
    return make_engine(database, settings().pool_size)


@functools.cache
def shopcart() -> Upstream:
    """Answer the shopcart service."""
    return Upstream("shopcart", settings().shopcart_url or "")


@functools.cache
def product() -> Upstream:
    """Answer the product service."""
    return Upstream("product", settings().product_url or "")


@functools.cache
def relay() -> Relay:
    """Answer the relay to every destination that this process is configured for."""
    makers = {"rabbitmq": _rabbitmq_publisher, "http": _sink_publisher}
    publishers = {name: makers[name]() for name in settings().bus}
    if analytics_url := settings().analytics_url:
        from common.publishing.http import AnalyticsPublisher  # noqa: PLC0415 requests

        publishers["analytics"] = AnalyticsPublisher(analytics_url)
    return Relay(
        engine(),
        publishers,
        hold_doubtful_order_created=settings().hold_doubtful_order_created,
    )


def _rabbitmq_publisher() -> Publisher:
    from common.publishing.rabbitmq import RabbitMQPublisher  # noqa: PLC0415 pika

    broker = settings().rabbitmq
    assert broker is not None, "config.load has checked it"
    return RabbitMQPublisher(broker)


def _sink_publisher() -> Publisher:
    from common.publishing.http import SinkPublisher  # noqa: PLC0415 requests

    return SinkPublisher(settings().event_sink_url or "")


def check_ready() -> None:
    """Raise ServiceError unless the database answers."""
    ping(engine())


_BUILT = (settings, engine, shopcart, product, relay)


def forget() -> None:
    """Start anew, without closing anything: after a fork it is the parent's."""
    if engine.cache_info().currsize:
        engine().dispose(close=False)
    for built in _BUILT:
        built.cache_clear()


def close() -> None:
    """Close everything and start anew. For orderly ends, and between tests."""
    for upstream in (shopcart, product):
        if upstream.cache_info().currsize:
            upstream().close()
    if relay.cache_info().currsize:
        relay().close()
    if engine.cache_info().currsize:
        engine().dispose()
    for built in _BUILT:
        built.cache_clear()


os.register_at_fork(after_in_child=forget)
