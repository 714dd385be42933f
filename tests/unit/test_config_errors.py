"""Settings that are malformed or missing: one clear line each, and never a secret."""

from pathlib import Path

import pytest

from common.config.environment import ConfigError
from common.config.settings import REMOVED, load
from tests.support.environs import DATABASE_URL, POSTGRES, RABBITMQ, SINK
from tests.support.tls import identity


def refusal(*needs: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(environ, needs=needs)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("DATABASE_URL", url)
            for url in (
                *("db", "mysql://u@h/d", "postgresql://h/d", "postgresql://u@/d"),
                *("postgresql://u@h", "postgresql://u@h/", "postgresql://u@h:0/d"),
                *("postgresql://u@h:x/d", "postgresql://u@h:65536/d"),
                *("postgresql://u:s3cret/s3cret@h/d", "postgresql://u@[::1/d"),
                "postgresql://u@h/d?sslmode=always",
                "postgresql://u@h/d?host=elsewhere",
            )
        ),
        *(
            ("RABBITMQ_URL", url)
            for url in (
                *("broker", "http://u:p@h", "amqp://h", "amqp://u@h", "amqp://u:@h"),
                *("amqp://:p@h", "amqp://u:p@", "amqp://u:p@h:0", "amqp://u:p@h:x"),
                *("amqp://u:p@h:65536", "amqp://u:p@[::1", "amqp://u:s3cret/s3cret@h"),
                *("amqp://u:p@h/a/b", "amqp://u:p@h/v?heartbeat=5", "amqp://u:p@h/v#x"),
            )
        ),
        ("RABBITMQ_TLS", "yes"),
        *(("PUBSUB_PROJECT", value) for value in ("Shop", "x", "shop/42", "shop-")),
        *(
            ("PUBSUB_TOPIC", value)
            for value in ("ab", "1st", "projects/p/topics/t", "t" * 256)
        ),
        *(("EVENT_RETENTION_DAYS", value) for value in ("0", "3651", "-1", "month")),
        *(
            (name, url)
            for name in (
                *("SHOPCART_SERVICE", "PRODUCT_SERVICE", "SHOP_SERVICE"),
                *("ANALYTIC_SERVICE", "EVENT_SINK_URL", "K_SINK"),
            )
            for url in ("sibling", "ftp://s", "http://", "http://s?a=b", "http://s:x")
        ),
        ("PRODUCT_SERVICE", "http://s:0"),
        ("PRODUCT_SERVICE", "http://s/a path"),
        ("PRODUCT_SERVICE", "http://s/\u00e4"),
        ("PRODUCT_SERVICE", "http://[::1"),
        ("EVENT_BUS", "kafka"),
        ("EVENT_BUS", "pubsub,kafka"),
        ("EVENT_BUS", "http,"),
        ("IDENTITY_SOURCE", "cookie"),
        ("STATUS_REQUIRE_SHOP_CLAIM", "yes"),
        ("RUNNING_ON_CLOUDRUN", "yes"),
        ("ORDER_CREATED_ON_DOUBT", "drop"),
        ("PRODUCT_SERVICE", "http://user:secret@product"),
        ("PUBLIC_PATH_PREFIX", "order"),
        ("PUBLIC_PATH_PREFIX", "/order?x"),
        ("STOCK_SETTLE_SECONDS", "0"),
        *(
            ("UPSTREAM_DEADLINE_SECONDS", value)
            for value in ("0", "-1", "soon", "1e3", "nan", "\N{ARABIC-INDIC DIGIT ONE}")
        ),
        *(("THREADS", value) for value in ("0", "1001", "4.0", "four", "9" * 5000)),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_malformed_setting_is_named_in_one_line(name: str, value: str) -> None:
    said = refusal(**{name: value})
    assert said.startswith(name)
    assert "\n" not in said


@pytest.mark.parametrize("name", REMOVED)
def test_setting_that_is_gone_is_refused_in_one_line(name: str) -> None:
    said = refusal(**{name: "100"})
    assert said.startswith(f"{name} is no longer a setting: ")
    assert "\n" not in said
    load({name: " "}, needs=())  # set but empty is not set


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "1.5"])
@pytest.mark.parametrize(
    ("name", "environ"), [("POSTGRES_PORT", POSTGRES), ("RABBITMQ_PORT", RABBITMQ)]
)
def test_malformed_port_is_named(name: str, environ: dict[str, str], port: str) -> None:
    assert refusal(**environ | {name: port}).startswith(name)


@pytest.mark.parametrize(
    "need", ["EVENT_BUS", "SHOPCART_SERVICE", "PRODUCT_SERVICE", "ANALYTIC_SERVICE"]
)
def test_what_a_function_needs_is_named_when_missing(need: str) -> None:
    assert refusal(need).startswith(f"{need} is not set")


def test_a_missing_database_is_named_by_all_its_names() -> None:
    said = refusal("DATABASE")
    rest = "and neither is POSTGRES_HOST or CLOUD_SQL_CONNECTION_NAME"
    assert said == f"DATABASE_URL is not set, {rest}"


@pytest.mark.parametrize(
    ("needs", "environ"), [(["RABBITMQ"], SINK), ([], {"EVENT_BUS": "rabbitmq"})]
)
def test_missing_broker_is_named(needs: list[str], environ: dict[str, str]) -> None:
    said = refusal(*needs, **environ)
    assert said.startswith("RABBITMQ_URL is not set, and neither is RABBITMQ_HOST")


def test_what_is_there_satisfies_a_need() -> None:
    sibling = "http://sibling"
    siblings = {"SHOPCART_SERVICE": sibling, "PRODUCT_SERVICE": sibling}
    needs = ("DATABASE", "EVENT_BUS", "SHOPCART_SERVICE", "PRODUCT_SERVICE")
    load(POSTGRES | SINK | siblings, needs=needs)
    load(POSTGRES | RABBITMQ | siblings, needs=(*needs, "RABBITMQ"))


@pytest.mark.parametrize(
    ("missing", "environ"),
    [
        ("POSTGRES_DB", POSTGRES),
        ("POSTGRES_USER", POSTGRES),
        ("RABBITMQ_USER", RABBITMQ),
        ("RABBITMQ_PASS", RABBITMQ),
        ("PUBSUB_PROJECT", {"EVENT_BUS": "pubsub", "PUBSUB_TOPIC": "orders"}),
        ("EVENT_SINK_URL", {"EVENT_BUS": "http"}),
        ("EVENT_SINK_URL", {"EVENT_BUS": "local"}),
        ("GATEWAY_JWT_SECRET", {"STATUS_REQUIRE_SHOP_CLAIM": "true"}),
    ],
)
def test_needs_of_settings_are_named(missing: str, environ: dict[str, str]) -> None:
    said = refusal(**{k: v for k, v in environ.items() if k != missing})
    assert said.startswith(f"{missing} is not set, but ")


# TLS to the broker: what asks for it and cannot have it is no small matter.


def test_a_url_without_tls_contradicts_the_demand_for_it() -> None:
    said = refusal(RABBITMQ_URL="amqp://u:s3cret@h", RABBITMQ_TLS="true")
    assert said.startswith("RABBITMQ_URL says amqp, but RABBITMQ_TLS is true")


def test_an_authority_without_tls_is_a_mistake(tmp_path: Path) -> None:
    said = refusal(**RABBITMQ, RABBITMQ_CA_FILE=identity(tmp_path).ca_file)
    assert said.startswith("RABBITMQ_CA_FILE is set, but there is no TLS")


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_unreadable_authority_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_text(content)
    environ = RABBITMQ | {"RABBITMQ_TLS": "true", "RABBITMQ_CA_FILE": str(file)}
    said = refusal(**environ)
    assert said == f"RABBITMQ_CA_FILE: no certificate can be read from {file}"


@pytest.mark.parametrize("database", [POSTGRES, {"DATABASE_URL": DATABASE_URL}])
@pytest.mark.parametrize(
    "broker", [RABBITMQ, {"RABBITMQ_URL": "amqps://orders:s3cret@broker/shop"}]
)
def test_no_secret_is_shown(database: dict[str, str], broker: dict[str, str]) -> None:
    environ = database | broker | {"GATEWAY_JWT_SECRET": "s3cret"}
    found = load(environ, needs=())
    assert found.rabbitmq is not None
    assert "orders" in repr(found)
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        *(
            ("DATABASE_URL", url)
            for url in (
                "postgresql://u:s3cret/x@h/d",
                "postgresql://u:s3cret@h:x/d",
                "s3cret",
            )
        ),
        *(
            ("RABBITMQ_URL", url)
            for url in (
                "amqp://u:s3cret/x@h",
                "amqp://u:s3cret@h:x",
                "amqp://u:x@h?password=s3cret",
                "s3cret",
            )
        ),
    ],
)
def test_no_secret_is_quoted_from_a_malformed_url(name: str, url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load({name: url}, needs=())
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
