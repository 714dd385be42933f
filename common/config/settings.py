"""Settings from the environment: the only reader of `os.environ`.

`load(needs=...)` names what a function requires, so that it does not start without it.
The older service's names (`POSTGRES_*`, `RABBITMQ_*`, the four service URLs) are kept.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from common.config.endpoints import (
    CloudSql,
    Database,
    PubSub,
    RabbitMQ,
    database,
    pubsub,
    rabbitmq,
)
from common.config.environment import (
    ConfigError,
    choice,
    flag,
    integer,
    path_prefix,
    seconds,
    url,
)
from common.telemetry import logs

DESTINATIONS = ("rabbitmq", "pubsub", "http")
IDENTITY_SOURCES = ("header", "apigateway")
MIN_KEY_LENGTH = 16
IAP_KEYS_URL = "https://www.gstatic.com/iap/verify/public_key"
_ADDRESS = re.compile(r"[^\s@,<>\"']+@[^\s@,<>\"']+")
_AUDIENCE = re.compile(r"/projects/[0-9]+/\S+")
# Settings of earlier versions; ignoring them silently would leave a promise unkept.
REMOVED = {
    "USER_CONCURRENCY": "the platform's concurrency and instances bound requests",
    "USER_REQUESTS_PER_MINUTE": "the gateway's quotas limit what a user may ask",
}


@dataclass(frozen=True, kw_only=True)
class Console:
    """How operators are identified, by 'iap' or 'header', and what they may do.

    A header is believed on this machine only. Addresses are lower case. `operators`
    None: everyone who is let in may act, except `viewers`, who may only look.
    `user_url` is where a user is shown, with `{id}` in place of the user's id.
    """

    identity: str
    iap_audience: str = ""
    iap_keys_url: str = IAP_KEYS_URL
    operators: frozenset[str] | None = None
    viewers: frozenset[str] = frozenset()
    user_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a process, validated. Optional ones are None if not set.

    `bus` is the tuple of destinations that every event goes to. `identity_source` is
    None if it is not set on Cloud Run: then no caller is authenticated.
    """

    database: Database | CloudSql | None
    rabbitmq: RabbitMQ | None
    pubsub: PubSub | None
    bus: tuple[str, ...]
    event_sink_url: str | None
    shopcart_url: str | None
    product_url: str | None
    analytics_url: str | None
    identity_source: str | None = "header"
    jwt_secret: str | None = field(default=None, repr=False)
    status_requires_shop_claim: bool = False
    hold_doubtful_order_created: bool = False
    public_path_prefix: str = ""
    upstream_deadline_seconds: float = 8.0
    pool_size: int = 4
    stock_settle_seconds: float = 5.0
    event_retention_days: int = 30
    console: Console | None = None
    log: logs.Options
    is_traced: bool = False
    traced_as: str | None = None  # None: each function under its own name
    is_on_cloud_run: bool = False


def load(
    environ: Mapping[str, str] | None = None, *, needs: Collection[str]
) -> Settings:
    """Read and validate all settings.

    `needs` names what is required: `DATABASE`, `EVENT_BUS`, `IDENTITY`, `OPS_IDENTITY`,
    `RABBITMQ`, `SHOPCART_SERVICE`, `PRODUCT_SERVICE` or `ANALYTIC_SERVICE`. Raise
    ConfigError with one line that names the first variable that is missing or
    malformed. Empty variables count as not set, except for the JWT secret, because
    without one no token is verified.
    """
    source = os.environ if environ is None else environ
    env = {name: value.strip() for name, value in source.items() if value.strip()}
    if "GATEWAY_JWT_SECRET" in source and "GATEWAY_JWT_SECRET" not in env:
        raise ConfigError("GATEWAY_JWT_SECRET is empty: unset it, or give the secret")
    for name, instead in REMOVED.items():
        if name in env:
            raise ConfigError(f"{name} is no longer a setting: {instead}; unset it")
    url(env, "SHOP_SERVICE")  # accepted for the older service's sake; never called
    settings = Settings(
        database=database(env),
        rabbitmq=rabbitmq(env),
        pubsub=pubsub(env),
        bus=_bus(env),
        event_sink_url=url(env, "EVENT_SINK_URL") or url(env, "K_SINK"),
        shopcart_url=url(env, "SHOPCART_SERVICE"),
        product_url=url(env, "PRODUCT_SERVICE"),
        analytics_url=url(env, "ANALYTIC_SERVICE"),
        identity_source=_identity_source(env),
        jwt_secret=env.get("GATEWAY_JWT_SECRET"),
        status_requires_shop_claim=flag(env, "STATUS_REQUIRE_SHOP_CLAIM"),
        hold_doubtful_order_created=choice(
            env, "ORDER_CREATED_ON_DOUBT", ("resend", "hold")
        )
        == "hold",
        public_path_prefix=path_prefix(env),
        upstream_deadline_seconds=seconds(env, "UPSTREAM_DEADLINE_SECONDS", 8.0),
        stock_settle_seconds=seconds(env, "STOCK_SETTLE_SECONDS", 5.0),
        pool_size=integer(env, "THREADS", 4 * (os.cpu_count() or 1), 1, 1000),
        event_retention_days=integer(env, "EVENT_RETENTION_DAYS", 30, 1, 3650),
        console=_console(env),
        log=_log(env),
        is_traced=_is_traced(env),
        traced_as=env.get("OTEL_SERVICE_NAME"),
        is_on_cloud_run=_is_on_cloud_run(env),
    )
    _check_needs(settings, needs)
    return settings


def _log(env: Mapping[str, str]) -> logs.Options:
    formats = ("json", "text")
    return logs.Options(
        level=choice(env, "LOG_LEVEL", ("INFO", "DEBUG", "WARNING", "ERROR")),
        format=choice(env, "LOG_FORMAT", formats) if "LOG_FORMAT" in env else None,
        file=env.get("LOG_FILE"),
        user_ids=choice(env, "LOG_USER_IDS", ("none", "hashed", "plain")),
        user_id_key=_log_user_id_key(env),
        project=_cloud_project(env),
    )


def _log_user_id_key(env: Mapping[str, str]) -> str | None:
    """Return the key for hashing user ids, which prevents guessing them by hash."""
    key = env.get("LOG_USER_ID_KEY")
    if key is not None and len(key) < MIN_KEY_LENGTH:
        raise ConfigError(f"LOG_USER_ID_KEY must have {MIN_KEY_LENGTH} characters")
    if key is None and env.get("LOG_USER_IDS", "").lower() == "hashed":
        raise ConfigError("LOG_USER_ID_KEY is not set, but LOG_USER_IDS is hashed")
    return key


def _cloud_project(env: Mapping[str, str]) -> str | None:
    """Return the project that log lines name as their trace's, None if unknown."""
    instance, colon, _ = env.get("CLOUD_SQL_CONNECTION_NAME", "").rpartition(":")
    by_instance = instance.rpartition(":")[0] if colon else None
    return (
        env.get("GOOGLE_CLOUD_PROJECT") or by_instance or env.get("PUBSUB_PROJECT")
    ) or None


def _check_needs(settings: Settings, needs: Collection[str]) -> None:
    present = {
        "DATABASE": settings.database,
        "EVENT_BUS": settings.bus,
        "IDENTITY": settings.identity_source,
        "OPS_IDENTITY": settings.console,
        "RABBITMQ": settings.rabbitmq,
        "SHOPCART_SERVICE": settings.shopcart_url,
        "PRODUCT_SERVICE": settings.product_url,
        "ANALYTIC_SERVICE": settings.analytics_url,
    }
    hints = {
        "DATABASE": "DATABASE_URL is not set, and neither is POSTGRES_HOST"
        " or CLOUD_SQL_CONNECTION_NAME",
        "EVENT_BUS": f"EVENT_BUS is not set: one or more of {', '.join(DESTINATIONS)}",
        "IDENTITY": (
            "IDENTITY_SOURCE is not set: on Cloud Run it must be"
            f" {' or '.join(IDENTITY_SOURCES)}"
        ),
        "OPS_IDENTITY": "OPS_IDENTITY is not set: iap, or header on this machine only",
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
    if settings.identity_source == "apigateway" and settings.jwt_secret is not None:
        raise ConfigError(
            "GATEWAY_JWT_SECRET is set, but IDENTITY_SOURCE is apigateway,"
            " which verifies no token with it"
        )
    if (
        settings.status_requires_shop_claim
        and settings.jwt_secret is None
        and settings.identity_source == "header"
    ):
        raise ConfigError(
            "GATEWAY_JWT_SECRET is not set, but STATUS_REQUIRE_SHOP_CLAIM needs it"
        )


def _identity_source(env: Mapping[str, str]) -> str | None:
    """Return the identity source; there is no default on Cloud Run.

    A default would trust a header that any caller can set. Cloud Run sets K_SERVICE
    itself, so this does not depend on a flag of ours.
    """
    if _is_on_cloud_run(env) and "IDENTITY_SOURCE" not in env:
        return None
    return choice(env, "IDENTITY_SOURCE", IDENTITY_SOURCES)


def _is_on_cloud_run(env: Mapping[str, str]) -> bool:
    return flag(env, "RUNNING_ON_CLOUDRUN") or "K_SERVICE" in env


def _is_traced(env: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's variables name a collector of spans and metrics.

    Raise ConfigError for METRICS, a removed setting that served them to Prometheus.
    """
    if flag(env, "METRICS"):
        raise ConfigError(
            "METRICS is gone, and /metrics with it: OTEL_EXPORTER_OTLP_ENDPOINT names"
            " a collector that gets the same over OTLP"
        )
    if "OTEL_EXPORTER_OTLP_ENDPOINT" not in env or flag(env, "OTEL_SDK_DISABLED"):
        return False
    url(env, "OTEL_EXPORTER_OTLP_ENDPOINT")
    choice(env, "OTEL_EXPORTER_OTLP_PROTOCOL", ("http/protobuf",))
    return True


def _bus(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the destinations; if unset, derive them from the other variables."""
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


def _console(env: Mapping[str, str]) -> Console | None:
    """Return the console's settings, None if OPS_IDENTITY is not set.

    It has no default: whoever is not asked who they are may do everything.
    """
    if "OPS_IDENTITY" not in env:
        return None
    identity = choice(env, "OPS_IDENTITY", ("iap", "header"))
    if identity != "iap" and _is_on_cloud_run(env):
        raise ConfigError("OPS_IDENTITY must be iap on Cloud Run")
    audience = env.get("OPS_IAP_AUDIENCE", "")
    if identity == "iap" and not _AUDIENCE.fullmatch(audience):
        raise ConfigError(
            "OPS_IAP_AUDIENCE is missing or malformed:"
            " /projects/NUMBER/locations/REGION/services/SERVICE"
        )
    return Console(
        identity=identity,
        iap_audience=audience,
        iap_keys_url=url(env, "OPS_IAP_KEYS_URL") or IAP_KEYS_URL,
        operators=_addresses(env, "OPS_OPERATORS") if "OPS_OPERATORS" in env else None,
        viewers=_addresses(env, "OPS_VIEWERS"),
        user_url=_user_url(env),
    )


def _user_url(env: Mapping[str, str]) -> str | None:
    """Return the address of a user's page elsewhere, None if it is not set."""
    text = env.get("OPS_USER_URL")
    if text is not None and not re.fullmatch(r"https?://[!-~]*\{id\}[!-~]*", text):
        raise ConfigError("OPS_USER_URL is malformed: https://admin.example/users/{id}")
    return text


def _addresses(env: Mapping[str, str], name: str) -> frozenset[str]:
    parts = [part.strip().lower() for part in env.get(name, "").split(",")]
    addresses = [part for part in parts if part]
    if not all(map(_ADDRESS.fullmatch, addresses)):
        raise ConfigError(f"{name} must be e-mail addresses with commas between them")
    return frozenset(addresses)
