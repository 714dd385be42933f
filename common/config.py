"""Settings from the environment: the only reader of `os.environ`.

Lives here: every variable, its default, its check. Not here: what is done with them.
A function names what it cannot work without (`load(needs=...)`), so that a missing
variable stops it at start instead of surprising its first caller. Surprise: the older
service's names (`POSTGRES_*`, `RABBITMQ_*`, the four service URLs) are kept.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

DESTINATIONS = ("rabbitmq", "pubsub", "http")
AMQP_PORTS = {False: 5672, True: 5671}  # by whether there is TLS
SSL_MODES = ("disable", "prefer", "require", "verify-full")


class ConfigError(Exception):
    """A setting is missing or malformed; the message is one line that names it."""


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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a process, checked. Optional parts are None when not set.

    `bus` is the tuple of destinations that every event goes to. Times in seconds.
    """

    database: Database | None
    rabbitmq: RabbitMQ | None
    pubsub: PubSub | None
    bus: tuple[str, ...]
    event_sink_url: str | None
    shopcart_url: str | None
    product_url: str | None
    analytics_url: str | None
    identity_source: str = "header"
    jwt_secret: str | None = field(default=None, repr=False)
    status_requires_shop_claim: bool = False
    hold_doubtful_order_created: bool = False
    public_path_prefix: str = ""
    upstream_deadline_seconds: float = 8.0
    pool_size: int = 4
    event_retention_days: int = 30
    log_level: str = "INFO"


def load(
    environ: Mapping[str, str] | None = None, *, needs: Collection[str]
) -> Settings:
    """Read and check every setting.

    `needs` names what must be present: `DATABASE`, `EVENT_BUS`, `RABBITMQ`,
    `SHOPCART_SERVICE`, `PRODUCT_SERVICE` or `ANALYTIC_SERVICE`. Raises ConfigError with
    one line that names the first variable that is missing or malformed. Set but empty
    is not set.
    """
    source = os.environ if environ is None else environ
    env = {name: value.strip() for name, value in source.items() if value.strip()}
    _url(env, "SHOP_SERVICE")  # accepted for the older service's sake; never called
    settings = Settings(
        database=_database(env),
        rabbitmq=_rabbitmq(env),
        pubsub=_pubsub(env),
        bus=_bus(env),
        event_sink_url=_url(env, "EVENT_SINK_URL") or _url(env, "K_SINK"),
        shopcart_url=_url(env, "SHOPCART_SERVICE"),
        product_url=_url(env, "PRODUCT_SERVICE"),
        analytics_url=_url(env, "ANALYTIC_SERVICE"),
        identity_source=_choice(env, "IDENTITY_SOURCE", ("header", "apigateway")),
        jwt_secret=env.get("GATEWAY_JWT_SECRET"),
        status_requires_shop_claim=_flag(env, "STATUS_REQUIRE_SHOP_CLAIM"),
        hold_doubtful_order_created=_choice(
            env, "ORDER_CREATED_ON_DOUBT", ("resend", "hold")
        )
        == "hold",
        public_path_prefix=_path_prefix(env),
        upstream_deadline_seconds=_seconds(env, "UPSTREAM_DEADLINE_SECONDS", 8.0),
        pool_size=_integer(env, "THREADS", 4 * (os.cpu_count() or 1), 1, 1000),
        event_retention_days=_integer(env, "EVENT_RETENTION_DAYS", 30, 1, 3650),
        log_level=_choice(env, "LOG_LEVEL", ("INFO", "DEBUG", "WARNING", "ERROR")),
    )
    _check_needs(settings, needs)
    return settings


def _check_needs(settings: Settings, needs: Collection[str]) -> None:
    present = {
        "DATABASE": settings.database,
        "EVENT_BUS": settings.bus,
        "RABBITMQ": settings.rabbitmq,
        "SHOPCART_SERVICE": settings.shopcart_url,
        "PRODUCT_SERVICE": settings.product_url,
        "ANALYTIC_SERVICE": settings.analytics_url,
    }
    hints = {
        "DATABASE": "DATABASE_URL is not set, and neither is POSTGRES_HOST",
        "EVENT_BUS": f"EVENT_BUS is not set: one or more of {', '.join(DESTINATIONS)}",
        "RABBITMQ": "RABBITMQ_URL is not set, and neither is RABBITMQ_HOST",
    }
    for need in needs:
        if not present[need]:
            raise ConfigError(hints.get(need, f"{need} is not set: the base URL"))
    if "rabbitmq" in settings.bus and settings.rabbitmq is None:
        raise ConfigError(f"{hints['RABBITMQ']}, but EVENT_BUS names rabbitmq")
    if "pubsub" in settings.bus and settings.pubsub is None:
        raise ConfigError("PUBSUB_PROJECT is not set, but EVENT_BUS names pubsub")
    if "http" in settings.bus and settings.event_sink_url is None:
        raise ConfigError("EVENT_SINK_URL is not set, but EVENT_BUS names http")
    if (
        settings.status_requires_shop_claim
        and settings.jwt_secret is None
        and settings.identity_source == "header"
    ):
        raise ConfigError(
            "GATEWAY_JWT_SECRET is not set, but STATUS_REQUIRE_SHOP_CLAIM needs it"
        )


def _database(env: Mapping[str, str]) -> Database | None:
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
        port=_integer(env, "POSTGRES_PORT", 5432, 1, 65535),
        name=_required(env, "POSTGRES_DB", "POSTGRES_HOST"),
        user=_required(env, "POSTGRES_USER", "POSTGRES_HOST"),
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


def _rabbitmq(env: Mapping[str, str]) -> RabbitMQ | None:
    wants_tls = _flag(env, "RABBITMQ_TLS")
    if url := env.get("RABBITMQ_URL"):
        broker = _rabbitmq_from_url(url)
        if wants_tls and not broker.has_tls:
            raise ConfigError("RABBITMQ_URL says amqp, but RABBITMQ_TLS is true: amqps")
    elif "RABBITMQ_HOST" in env:
        broker = RabbitMQ(
            host=env["RABBITMQ_HOST"],
            port=_integer(env, "RABBITMQ_PORT", AMQP_PORTS[wants_tls], 1, 65535),
            user=_required(env, "RABBITMQ_USER", "RABBITMQ_HOST"),
            password=_required(env, "RABBITMQ_PASS", "RABBITMQ_HOST"),
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


def _pubsub(env: Mapping[str, str]) -> PubSub | None:
    topic = env.get("PUBSUB_TOPIC", "order-events")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._~+%-]{2,254}", topic):
        raise ConfigError("PUBSUB_TOPIC is malformed: a topic's short name")
    project = env.get("PUBSUB_PROJECT")
    if project is None:
        return None
    if not re.fullmatch(r"[a-z][a-z0-9.:-]{0,98}[a-z0-9]", project):
        raise ConfigError("PUBSUB_PROJECT is malformed: a project's id")
    return PubSub(project=project, topic=topic)


def _bus(env: Mapping[str, str]) -> tuple[str, ...]:
    """Answer the destinations; unset means what the other variables point to."""
    if named := env.get("EVENT_BUS"):
        names = [
            "http" if n.strip() == "local" else n.strip() for n in named.split(",")
        ]
        if unknown := [name for name in names if name not in DESTINATIONS]:
            raise ConfigError(
                f"EVENT_BUS: {unknown[0]!r} is none of {', '.join(DESTINATIONS)}, local"
            )
        return tuple(dict.fromkeys(names))
    if "RABBITMQ_HOST" in env or "RABBITMQ_URL" in env:
        return ("rabbitmq",)
    if "PUBSUB_PROJECT" in env:
        return ("pubsub",)
    return ("http",) if "EVENT_SINK_URL" in env or "K_SINK" in env else ()


def _required(env: Mapping[str, str], name: str, because: str) -> str:
    if name not in env:
        raise ConfigError(f"{name} is not set, but {because} is")
    return env[name]


def _url(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name)
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        has_host = parts.scheme in ("http", "https") and bool(parts.hostname)
        extras = parts.username or parts.password or parts.query or parts.fragment
        is_path = re.fullmatch(r"[!-~]*", parts.path)  # it goes out as it is
        valid = has_host and parts.port != 0 and is_path and not extras
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{name} is malformed: http://host:port/optional/path")
    return value.rstrip("/")


def _path_prefix(env: Mapping[str, str]) -> str:
    prefix = env.get("PUBLIC_PATH_PREFIX", "").rstrip("/")
    if prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
        raise ConfigError("PUBLIC_PATH_PREFIX is malformed: a path such as /order")
    return prefix


def _choice(env: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Answer one of `choices`, whatever the case it was written in; default: first."""
    value = env.get(name, choices[0])
    for choice in choices:
        if value.lower() == choice.lower():
            return choice
    raise ConfigError(f"{name} must be one of {', '.join(choices)}")


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise ConfigError(f"{name} must be true or false")
    return value in ("true", "1")


def _integer(
    env: Mapping[str, str], name: str, default: int, low: int, high: int
) -> int:
    text = env.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not float(text):
        raise ConfigError(f"{name} must be a positive number of seconds")
    return float(text)
