"""Where the database and the brokers are, as the environment tells it.

Lives here: their addresses, from a URL or from the older service's variables. Not here:
all other settings (`config.py`), connecting. Surprise: an address never shows its
password, not even in an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from common.environment import ConfigError, flag, integer, required

AMQP_PORTS = {False: 5672, True: 5671}  # by whether there is TLS
SSL_MODES = ("disable", "prefer", "require", "verify-full")


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where PostgreSQL is. `repr` never shows the password."""

    host: str
    port: int
    name: str
    user: str
    password: str | None = field(default=None, repr=False)
    sslmode: str = "prefer"


@dataclass(frozen=True, kw_only=True)
class RabbitMQ:
    """Where the broker is. `repr` never shows the password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str = "/"
    has_tls: bool = False
    ca_file: str | None = None  # None: the authorities that this machine trusts


@dataclass(frozen=True, kw_only=True)
class PubSub:
    """Which topic of Pub/Sub events go to."""

    project: str
    topic: str


def database(env: Mapping[str, str]) -> Database | None:
    """Answer where PostgreSQL is, None when nothing says so."""
    if url := env.get("DATABASE_URL"):
        return _database_from_url(url)
    if "CLOUD_SQL_CONNECTION_NAME" in env:
        raise ConfigError(
            "CLOUD_SQL_CONNECTION_NAME is not supported by this release:"
            " set DATABASE_URL or POSTGRES_HOST"
        )
    if "POSTGRES_HOST" not in env:
        return None
    return Database(
        host=env["POSTGRES_HOST"],
        port=integer(env, "POSTGRES_PORT", 5432, 1, 65535),
        name=required(env, "POSTGRES_DB", "POSTGRES_HOST"),
        user=required(env, "POSTGRES_USER", "POSTGRES_HOST"),
        password=env.get("POSTGRES_PASSWORD"),
    )


def _database_from_url(url: str) -> Database:
    hint = "DATABASE_URL is malformed: postgresql://user:password@host:5432/name"
    try:
        parts = urlsplit(url)
        port = 5432 if parts.port is None else parts.port
    except ValueError:
        raise ConfigError(hint) from None  # its text may quote the password
    options = dict(parse_qsl(parts.query))
    sslmode = options.pop("sslmode", "prefer")
    known = parts.scheme.split("+")[0] in ("postgresql", "postgres")
    name = unquote(parts.path.lstrip("/"))
    if not (known and parts.hostname and port and parts.username and name):
        raise ConfigError(hint)
    if options or sslmode not in SSL_MODES:
        raise ConfigError(
            f"DATABASE_URL may only add sslmode={'|'.join(SSL_MODES)} as a parameter"
        )
    return Database(
        host=unquote(parts.hostname),
        port=port,
        name=name,
        user=unquote(parts.username),
        password=unquote(parts.password) if parts.password else None,
        sslmode=sslmode,
    )


def rabbitmq(env: Mapping[str, str]) -> RabbitMQ | None:
    """Answer where RabbitMQ is, None when nothing says so."""
    wants_tls = flag(env, "RABBITMQ_TLS")
    if url := env.get("RABBITMQ_URL"):
        broker = _rabbitmq_from_url(url)
        if wants_tls and not broker.has_tls:
            raise ConfigError("RABBITMQ_URL says amqp, but RABBITMQ_TLS is true: amqps")
    elif "RABBITMQ_HOST" in env:
        broker = RabbitMQ(
            host=env["RABBITMQ_HOST"],
            port=integer(env, "RABBITMQ_PORT", AMQP_PORTS[wants_tls], 1, 65535),
            user=required(env, "RABBITMQ_USER", "RABBITMQ_HOST"),
            password=required(env, "RABBITMQ_PASS", "RABBITMQ_HOST"),
            vhost=env.get("RABBITMQ_VHOST", "/"),
            has_tls=wants_tls,
        )
    else:
        return None
    if ca_file := env.get("RABBITMQ_CA_FILE"):
        _check_ca_file(ca_file, has_tls=broker.has_tls)
        broker = replace(broker, ca_file=ca_file)
    return broker


def _check_ca_file(ca_file: str, *, has_tls: bool) -> None:
    if not has_tls:
        raise ConfigError(
            "RABBITMQ_CA_FILE is set, but there is no TLS: RABBITMQ_TLS=true, or amqps"
        )
    import ssl  # noqa: PLC0415 10 ms, and only for who sets this

    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError:  # it may be absent, closed to us, or hold something else
        said = f"RABBITMQ_CA_FILE: no certificate can be read from {ca_file}"
        raise ConfigError(said) from None


def _rabbitmq_from_url(url: str) -> RabbitMQ:
    hint = "RABBITMQ_URL is malformed: amqp://user:password@host:5672/vhost, or amqps"
    try:
        parts = urlsplit(url)
        has_tls = parts.scheme == "amqps"
        port = AMQP_PORTS[has_tls] if parts.port is None else parts.port
    except ValueError:
        raise ConfigError(hint) from None  # its text may quote the password
    vhost = parts.path.removeprefix("/")
    known = parts.scheme in ("amqp", "amqps") and not (parts.query or parts.fragment)
    named = parts.hostname and port and parts.username and parts.password
    if not (known and named) or "/" in vhost:
        raise ConfigError(hint)
    return RabbitMQ(
        host=unquote(parts.hostname or ""),
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        vhost=unquote(vhost) or "/",
        has_tls=has_tls,
    )


def pubsub(env: Mapping[str, str]) -> PubSub | None:
    """Answer the topic of Pub/Sub, None when no project is set."""
    topic = env.get("PUBSUB_TOPIC", "order-events")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._~+%-]{2,254}", topic):
        raise ConfigError("PUBSUB_TOPIC is malformed: a topic's short name")
    project = env.get("PUBSUB_PROJECT")
    if project is None:
        return None
    if not re.fullmatch(r"[a-z][a-z0-9.:-]{0,98}[a-z0-9]", project):
        raise ConfigError("PUBSUB_PROJECT is malformed: a project's id")
    return PubSub(project=project, topic=topic)
