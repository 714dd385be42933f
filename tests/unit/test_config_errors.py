"""Settings that are malformed or missing: one clear line each, and never a secret."""

import pytest

from common.config import ConfigError, load
from tests.support.environs import DATABASE_URL, POSTGRES, RABBITMQ, SINK


def refusal(*needs: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(environ, needs=needs)
    return str(raised.value)


# What is malformed is named in one line.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("DATABASE_URL", url)
            for url in (
                "db",
                "mysql://u@h/d",
                "postgresql://h/d",
                "postgresql://u@/d",
                "postgresql://u@h",
                "postgresql://u@h/",
                "postgresql://u@h:0/d",
                "postgresql://u@h:x/d",
                "postgresql://u@h:65536/d",
                "postgresql://u:s3cret/s3cret@h/d",
                "postgresql://u@[::1/d",
                "postgresql://u@h/d?sslmode=always",
                "postgresql://u@h/d?host=elsewhere",
            )
        ),
        ("CLOUD_SQL_CONNECTION_NAME", "project:region:instance"),
        *(
            (name, url)
            for name in (
                "SHOPCART_SERVICE",
                "PRODUCT_SERVICE",
                "SHOP_SERVICE",
                "ANALYTIC_SERVICE",
                "EVENT_SINK_URL",
                "K_SINK",
            )
            for url in ("sibling", "ftp://s", "http://", "http://s?a=b", "http://s:x")
        ),
        ("PRODUCT_SERVICE", "http://s:0"),
        ("PRODUCT_SERVICE", "http://[::1"),
        ("EVENT_BUS", "kafka"),
        ("EVENT_BUS", "pubsub"),
        ("EVENT_BUS", "http,"),
        ("IDENTITY_SOURCE", "cookie"),
        ("STATUS_REQUIRE_SHOP_CLAIM", "yes"),
        ("ORDER_CREATED_ON_DOUBT", "drop"),
        ("PRODUCT_SERVICE", "http://user:secret@product"),
        ("PUBLIC_PATH_PREFIX", "order"),
        ("PUBLIC_PATH_PREFIX", "/order?x"),
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


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "1.5"])
@pytest.mark.parametrize(
    ("name", "environ"), [("POSTGRES_PORT", POSTGRES), ("RABBITMQ_PORT", RABBITMQ)]
)
def test_a_malformed_port_is_named(
    name: str, environ: dict[str, str], port: str
) -> None:
    assert refusal(**environ | {name: port}).startswith(name)


# What is missing is named in one line.


@pytest.mark.parametrize(
    "need",
    ["EVENT_BUS", "SHOPCART_SERVICE", "PRODUCT_SERVICE", "ANALYTIC_SERVICE"],
)
def test_what_a_function_needs_is_named_when_missing(need: str) -> None:
    assert refusal(need).startswith(f"{need} is not set")


def test_a_missing_database_is_named_by_both_its_names() -> None:
    said = refusal("DATABASE")
    assert said == "DATABASE_URL is not set, and neither is POSTGRES_HOST"


def test_what_is_there_satisfies_a_need() -> None:
    sibling = "http://sibling"
    load(
        POSTGRES | SINK | {"SHOPCART_SERVICE": sibling, "PRODUCT_SERVICE": sibling},
        needs=("DATABASE", "EVENT_BUS", "SHOPCART_SERVICE", "PRODUCT_SERVICE"),
    )


@pytest.mark.parametrize(
    ("missing", "environ"),
    [
        ("POSTGRES_DB", POSTGRES),
        ("POSTGRES_USER", POSTGRES),
        ("RABBITMQ_USER", RABBITMQ),
        ("RABBITMQ_PASS", RABBITMQ),
        ("RABBITMQ_HOST", {"EVENT_BUS": "rabbitmq"}),
        ("EVENT_SINK_URL", {"EVENT_BUS": "http"}),
        ("EVENT_SINK_URL", {"EVENT_BUS": "local"}),
        ("GATEWAY_JWT_SECRET", {"STATUS_REQUIRE_SHOP_CLAIM": "true"}),
    ],
)
def test_what_another_setting_needs_is_named_when_missing(
    missing: str, environ: dict[str, str]
) -> None:
    said = refusal(**{k: v for k, v in environ.items() if k != missing})
    assert said.startswith(f"{missing} is not set, but ")


# Secrets.


@pytest.mark.parametrize("database", [POSTGRES, {"DATABASE_URL": DATABASE_URL}])
def test_no_secret_is_ever_shown(database: dict[str, str]) -> None:
    environ = database | RABBITMQ | {"GATEWAY_JWT_SECRET": "s3cret"}
    found = load(environ, needs=())
    assert "orders" in repr(found)
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cret/x@h/d", "postgresql://u:s3cret@h:x/d", "s3cret"]
)
def test_no_secret_is_quoted_from_a_malformed_database_url(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load({"DATABASE_URL": url}, needs=())
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
