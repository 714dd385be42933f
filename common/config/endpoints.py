"""Addresses of the database and the brokers, from the environment.

An address never shows its password, not even in an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from common.config.environment import ConfigError, choice, flag, integer, required, url

AMQP_PORTS = {False: 5672, True: 5671}  # by whether there is TLS
SSL_MODES = ("disable", "prefer", "require", "verify-full")
SOCKET_FOLDER = "/cloudsql"  # where Cloud Run mounts the instances' sockets
IP_TYPES = ("private", "public", "psc")  # of a Cloud SQL instance; the first by default


@dataclass(frozen=True, kw_only=True)
class Database:
    """The address and login of PostgreSQL. `repr` never shows the password."""

    host: str
    port: int
    name: str
    user: str
    password: str | None = field(default=None, repr=False)
    sslmode: str = "prefer"
    socket: str | None = None  # a Unix socket's path, instead of host and port

    @property
    def where(self) -> str:
        """Return the address as operators see it."""
        return f"{self.socket or f'{self.host}:{self.port}'}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class CloudSql:
    """The Cloud SQL instance and login of the database. `repr` shows no password."""

    instance: str  # project:region:instance
    name: str
    user: str
    password: str | None = field(default=None, repr=False)  # None: IAM login
    ip_type: str = IP_TYPES[0]
    api_endpoint: str | None = None  # None: Google's

    @property
    def where(self) -> str:
        """Return the address as operators see it."""
        return f"{self.instance}/{self.name}"

    @property
    def has_iam_login(self) -> bool:
        """Return whether the process logs in with its own Google account."""
        return self.password is None


@dataclass(frozen=True, kw_only=True)
class RabbitMQ:
    """The address and login of RabbitMQ. `repr` never shows the password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str = "/"
    has_tls: bool = False
    ca_file: str | None = None  # None: the authorities that this machine trusts


@dataclass(frozen=True, kw_only=True)
class PubSub:
    """The Pub/Sub topic that events go to."""

    project: str
    topic: str


def database(env: Mapping[str, str]) -> Database | CloudSql | None:
    """Return the address of PostgreSQL, None if it is not set."""
    if address := env.get("DATABASE_URL"):
        return _database_from_url(address)
    if "CLOUD_SQL_CONNECTION_NAME" in env:
        return _cloud_sql(env)
    if "POSTGRES_HOST" not in env:
        return None
    return Database(
        host=env["POSTGRES_HOST"],
        port=integer(env, "POSTGRES_PORT", 5432, 1, 65535),
        name=required(env, "POSTGRES_DB", "POSTGRES_HOST"),
        user=required(env, "POSTGRES_USER", "POSTGRES_HOST"),
        password=env.get("POSTGRES_PASSWORD"),
    )


def _cloud_sql(env: Mapping[str, str]) -> Database | CloudSql:
    """Return the socket of an instance if it is mounted, else the instance itself.

    IAM logins need the connector, because a mounted socket does not support them.
    """
    name = "CLOUD_SQL_CONNECTION_NAME"
    # A project may belong to a domain: example.com:project:region:instance.
    pattern = r"([a-z0-9.-]+:)?[a-z][a-z0-9-]*:[a-z][a-z0-9-]*:[a-z][a-z0-9-]*"
    if not re.fullmatch(pattern, env[name]):
        raise ConfigError(f"{name} is malformed: project:region:instance")
    password = env.get("POSTGRES_PASSWORD")
    has_iam_login = flag(env, "CLOUD_SQL_IAM_AUTH", default=password is None)
    if not has_iam_login and password is None:
        raise ConfigError("POSTGRES_PASSWORD is not set, but CLOUD_SQL_IAM_AUTH=false")
    connect = "CLOUD_SQL_CONNECT"
    connect = choice(env, connect, ("socket", "connector")) if connect in env else ""
    wants_iam_login = has_iam_login and "CLOUD_SQL_IAM_AUTH" in env
    folder = env.get("CLOUD_SQL_SOCKET_DIR", SOCKET_FOLDER)
    socket = f"{folder.rstrip('/')}/{env[name]}/.s.PGSQL.5432"
    if connect == "socket" and wants_iam_login:
        raise ConfigError("CLOUD_SQL_IAM_AUTH=true needs CLOUD_SQL_CONNECT=connector")
    try:
        is_mounted = Path(socket).is_socket()
    except OSError as error:  # a name that is too long, a folder without access
        raise ConfigError(
            f"{name}: no socket is at {socket}: {error.strerror}"
        ) from None
    if connect == "socket" and not is_mounted:
        raise ConfigError(f"CLOUD_SQL_CONNECT is socket, but there is none at {socket}")
    if is_mounted and connect != "connector" and not wants_iam_login:
        return Database(
            host="localhost",
            port=5432,
            name=required(env, "POSTGRES_DB", name),
            user=required(env, "POSTGRES_USER", name),
            password=password,
            socket=socket,
        )
    return CloudSql(
        instance=env[name],
        name=required(env, "POSTGRES_DB", name),
        user=required(env, "POSTGRES_USER", name),
        password=None if has_iam_login else password,
        ip_type=choice(env, "CLOUD_SQL_IP_TYPE", IP_TYPES),
        api_endpoint=url(env, "CLOUD_SQL_API_ENDPOINT"),
    )


def _database_from_url(text: str) -> Database:
    hint = "DATABASE_URL is malformed: postgresql://user:password@host:5432/name"
    try:
        parts = urlsplit(text)
        port = 5432 if parts.port is None else parts.port
    except ValueError:
        raise ConfigError(hint) from None  # its text may quote the password
    options = dict(parse_qsl(parts.query))
    sslmode = options.pop("sslmode", "prefer")
    is_postgresql = parts.scheme.split("+")[0] in ("postgresql", "postgres")
    name = unquote(parts.path.lstrip("/"))
    if not (is_postgresql and parts.hostname and port and parts.username and name):
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
    """Return the address of RabbitMQ, None if it is not set."""
    wants_tls = flag(env, "RABBITMQ_TLS")
    if address := env.get("RABBITMQ_URL"):
        broker = _rabbitmq_from_url(address)
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
    import ssl  # noqa: PLC0415 takes 10 ms, and is rarely needed

    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError:  # it is missing, not readable, or something else
        message = f"RABBITMQ_CA_FILE: no certificate can be read from {ca_file}"
        raise ConfigError(message) from None


def _rabbitmq_from_url(text: str) -> RabbitMQ:
    hint = "RABBITMQ_URL is malformed: amqp://user:password@host:5672/vhost, or amqps"
    try:
        parts = urlsplit(text)
        has_tls = parts.scheme == "amqps"
        port = AMQP_PORTS[has_tls] if parts.port is None else parts.port
    except ValueError:
        raise ConfigError(hint) from None  # its text may quote the password
    vhost = parts.path.removeprefix("/")
    is_amqp = parts.scheme in ("amqp", "amqps") and not (parts.query or parts.fragment)
    is_complete = parts.hostname and port and parts.username and parts.password
    if not (is_amqp and is_complete) or "/" in vhost:
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
    """Return the Pub/Sub topic, None if no project is set."""
    topic = env.get("PUBSUB_TOPIC", "order-events")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._~+%-]{2,254}", topic):
        raise ConfigError("PUBSUB_TOPIC is malformed: a topic's short name")
    project = env.get("PUBSUB_PROJECT")
    if project is None:
        return None
    if not re.fullmatch(r"[a-z][a-z0-9.:-]{0,98}[a-z0-9]", project):
        raise ConfigError("PUBSUB_PROJECT is malformed: a project's id")
    return PubSub(project=project, topic=topic)
