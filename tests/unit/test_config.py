"""Settings: what each variable means, its default, and which of two wins."""

import os
from pathlib import Path
from typing import Any

import pytest

from common.config.endpoints import Database, PubSub, RabbitMQ
from common.config.settings import Settings, load
from common.telemetry import logs
from tests.support.environs import DATABASE_URL, POSTGRES, RABBITMQ, SINK
from tests.support.tls import identity

AMQP = "amqp://orders:s3cret@broker"
PUBSUB = {"PUBSUB_PROJECT": "shop-42"}


def settings(**environ: str) -> Settings:
    return load(environ, needs=())


def test_everything_optional_has_its_default() -> None:
    assert settings(THREADS="4") == Settings(
        database=None,
        rabbitmq=None,
        pubsub=None,
        bus=(),
        event_sink_url=None,
        shopcart_url=None,
        product_url=None,
        analytics_url=None,
        identity_source="header",
        jwt_secret=None,
        status_requires_shop_claim=False,
        hold_doubtful_order_created=False,
        public_path_prefix="",
        upstream_deadline_seconds=8.0,
        pool_size=4,
        event_retention_days=30,
        log=logs.Options(level="INFO"),
    )


def test_the_pool_has_a_connection_for_each_of_the_frameworks_threads() -> None:
    assert settings().pool_size == 4 * (os.cpu_count() or 1)
    assert settings(THREADS="7").pool_size == 7


def test_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_PATH_PREFIX", "/order")
    assert load(needs=()).public_path_prefix == "/order"


def test_set_but_empty_is_not_set() -> None:
    assert settings(DATABASE_URL="", LOG_LEVEL=" ", THREADS="4") == settings(
        THREADS="4"
    )


def test_the_older_services_variables_name_the_database() -> None:
    database = settings(**POSTGRES, POSTGRES_PORT="6432").database
    assert database == Database(
        host="db", port=6432, name="shop", user="orders", password="s3cret"
    )


def test_a_database_may_need_no_password_and_has_the_usual_port() -> None:
    environ = POSTGRES | {"POSTGRES_PASSWORD": ""}
    database = settings(**environ).database
    assert database is not None
    assert (database.port, database.password) == (5432, None)


def test_database_url_wins() -> None:
    environ = POSTGRES | {"POSTGRES_HOST": "elsewhere", "DATABASE_URL": DATABASE_URL}
    database = settings(**environ).database
    assert database == Database(
        host="db", port=6432, name="shop", user="orders", password="s3cret"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@h/d", Database(host="h", port=5432, name="d", user="u")),
        ("postgres://u@h/d", Database(host="h", port=5432, name="d", user="u")),
        (
            "postgresql+pg8000://u@h/d",
            Database(host="h", port=5432, name="d", user="u"),
        ),
        (
            "postgresql://u%40x:p%2Fw@h:1/d%20b?sslmode=verify-full",
            Database(
                host="h",
                port=1,
                name="d b",
                user="u@x",
                password="p/w",
                sslmode="verify-full",
            ),
        ),
        ("postgresql://u@[::1]:5/d", Database(host="::1", port=5, name="d", user="u")),
    ],
)
def test_a_database_url_is_read(url: str, expected: Database) -> None:
    assert settings(DATABASE_URL=url).database == expected


@pytest.mark.parametrize(
    ("environ", "bus"),
    [
        ({}, ()),
        (RABBITMQ, ("rabbitmq",)),
        (SINK, ("http",)),
        ({"K_SINK": "http://sink"}, ("http",)),
        (RABBITMQ | SINK, ("rabbitmq",)),
        (RABBITMQ | SINK | {"EVENT_BUS": "http"}, ("http",)),
        (SINK | {"EVENT_BUS": "local"}, ("http",)),
        (RABBITMQ | SINK | {"EVENT_BUS": "rabbitmq, local"}, ("rabbitmq", "http")),
        (SINK | {"EVENT_BUS": "http,local,http"}, ("http",)),
        ({"RABBITMQ_URL": AMQP}, ("rabbitmq",)),
        (PUBSUB, ("pubsub",)),
        (PUBSUB | SINK, ("pubsub",)),
        (PUBSUB | RABBITMQ, ("rabbitmq",)),
        (PUBSUB | SINK | {"EVENT_BUS": "pubsub,http"}, ("pubsub", "http")),
    ],
)
def test_bus_is_named_or_found(environ: dict[str, str], bus: tuple[str, ...]) -> None:
    assert settings(**environ).bus == bus


def test_the_sinks_own_variable_wins_over_knatives() -> None:
    found = settings(**SINK, K_SINK="http://knative")
    assert found.event_sink_url == "http://sink:9000/in"
    assert settings(K_SINK="http://knative").event_sink_url == "http://knative"


def orders_broker(**changes: Any) -> RabbitMQ:
    usual = {"host": "broker", "port": 5672, "user": "orders", "password": "s3cret"}
    return RabbitMQ(**usual | changes)


@pytest.mark.parametrize(
    ("further", "changes"),
    [
        ({}, {"vhost": "/", "has_tls": False, "ca_file": None}),
        ({"RABBITMQ_PORT": "6000"}, {"port": 6000}),
        ({"RABBITMQ_VHOST": "a/b"}, {"vhost": "a/b"}),
        ({"RABBITMQ_TLS": "true"}, {"port": 5671, "has_tls": True}),
        (
            {"RABBITMQ_TLS": "1", "RABBITMQ_PORT": "5672"},
            {"port": 5672, "has_tls": True},
        ),
    ],
)
def test_the_broker_is_named_by_the_older_services_variables(
    further: dict[str, str], changes: dict[str, Any]
) -> None:
    assert settings(**RABBITMQ | further).rabbitmq == orders_broker(**changes)


@pytest.mark.parametrize(
    ("url", "changes"),
    [
        (AMQP, {}),
        (f"{AMQP}/", {}),
        (f"{AMQP}/%2F", {}),
        (f"{AMQP}:6000/shop", {"port": 6000, "vhost": "shop"}),
        (f"{AMQP}/a%2Fb%20c", {"vhost": "a/b c"}),
        ("amqps://orders:s3cret@broker", {"port": 5671, "has_tls": True}),
        ("amqps://orders:s3cret@broker:5672", {"has_tls": True}),
        ("amqp://o%40x:p%2F%3A%25@broker", {"user": "o@x", "password": "p/:%"}),
        ("amqp://orders:s3cret@[::1]:6000", {"host": "::1", "port": 6000}),
    ],
)
def test_a_brokers_url_is_read(url: str, changes: dict[str, Any]) -> None:
    assert settings(RABBITMQ_URL=url).rabbitmq == orders_broker(**changes)


def test_a_brokers_url_wins() -> None:
    elsewhere = {"RABBITMQ_HOST": "elsewhere", "RABBITMQ_VHOST": "other"}
    found = settings(**RABBITMQ | elsewhere | {"RABBITMQ_URL": f"{AMQP}/shop"})
    assert found.rabbitmq == orders_broker(vhost="shop")


@pytest.mark.parametrize(
    "environ",
    [
        RABBITMQ | {"RABBITMQ_TLS": "true"},
        {"RABBITMQ_URL": "amqps://orders:s3cret@broker"},
        {"RABBITMQ_URL": "amqps://orders:s3cret@broker", "RABBITMQ_TLS": "true"},
    ],
)
def test_own_authority_is_for_tls(environ: dict[str, str], tmp_path: Path) -> None:
    ca_file = identity(tmp_path).ca_file
    found = settings(**environ, RABBITMQ_CA_FILE=ca_file).rabbitmq
    assert found == orders_broker(port=5671, has_tls=True, ca_file=ca_file)


def test_the_topic_of_pubsub_has_a_project_and_a_usual_name() -> None:
    assert settings(**PUBSUB).pubsub == PubSub(project="shop-42", topic="order-events")
    named = settings(PUBSUB_PROJECT="example.com:shop", PUBSUB_TOPIC="orders.v2")
    assert named.pubsub == PubSub(project="example.com:shop", topic="orders.v2")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("SHOPCART_SERVICE", "shopcart_url"),
        ("PRODUCT_SERVICE", "product_url"),
        ("ANALYTIC_SERVICE", "analytics_url"),
    ],
)
@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://sibling", "http://sibling"),
        ("https://sibling:8443/base/", "https://sibling:8443/base"),
        (" http://127.0.0.1:80// ", "http://127.0.0.1:80"),
    ],
)
def test_a_siblings_base_may_carry_a_path_and_a_trailing_slash(
    name: str, field: str, given: str, url: str
) -> None:
    assert getattr(settings(**{name: given}), field) == url


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("IDENTITY_SOURCE", "ApiGateway", "identity_source", "apigateway"),
        ("GATEWAY_JWT_SECRET", "s3cret", "jwt_secret", "s3cret"),
        ("ORDER_CREATED_ON_DOUBT", "resend", "hold_doubtful_order_created", False),
        ("ORDER_CREATED_ON_DOUBT", "HOLD", "hold_doubtful_order_created", True),
        ("PUBLIC_PATH_PREFIX", "/order/", "public_path_prefix", "/order"),
        ("PUBLIC_PATH_PREFIX", "/a/b-c", "public_path_prefix", "/a/b-c"),
        ("PUBLIC_PATH_PREFIX", "/", "public_path_prefix", ""),
        ("UPSTREAM_DEADLINE_SECONDS", "0.5", "upstream_deadline_seconds", 0.5),
        ("STOCK_SETTLE_SECONDS", "2.5", "stock_settle_seconds", 2.5),
        ("LOG_LEVEL", "debug", "log", logs.Options(level="DEBUG")),
        ("EVENT_RETENTION_DAYS", "1", "event_retention_days", 1),
        ("EVENT_RETENTION_DAYS", "3650", "event_retention_days", 3650),
    ],
)
def test_a_setting_is_read(name: str, value: str, field: str, expected: Any) -> None:
    assert getattr(settings(THREADS="4", **{name: value}), field) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("1", True), ("False", False), ("0", False)]
)
def test_a_flag_is_true_or_false(value: str, expected: object) -> None:
    environ = {"GATEWAY_JWT_SECRET": "s3cret", "STATUS_REQUIRE_SHOP_CLAIM": value}
    assert settings(**environ).status_requires_shop_claim is expected


def test_the_api_gateways_claims_are_proof_enough_for_the_shop_claim() -> None:
    environ = {"IDENTITY_SOURCE": "apigateway", "STATUS_REQUIRE_SHOP_CLAIM": "true"}
    assert settings(**environ).status_requires_shop_claim
