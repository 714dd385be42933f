"""Whom a deployment believes: said on Cloud Run, and never two at once."""

import pytest

from common.config import load
from common.environment import ConfigError

ON_CLOUD_RUN = [
    {"RUNNING_ON_CLOUDRUN": "true"},
    {"RUNNING_ON_CLOUDRUN": "TRUE", "IDENTITY_SOURCE": " "},
    {"K_SERVICE": "orders-crud"},
    {"K_SERVICE": "orders-crud", "RUNNING_ON_CLOUDRUN": "false"},
]


def refusal(*needs: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(environ, needs=needs)
    return str(raised.value)


@pytest.mark.parametrize("environ", ON_CLOUD_RUN, ids=str)
def test_on_cloud_run_a_function_that_knows_users_is_told_whom_to_believe(
    environ: dict[str, str],
) -> None:
    said = refusal("IDENTITY", **environ)
    assert said == (
        "IDENTITY_SOURCE is not set: on Cloud Run it must be said, header or apigateway"
    )


@pytest.mark.parametrize("environ", ON_CLOUD_RUN, ids=str)
def test_on_cloud_run_a_function_without_users_needs_no_such_word(
    environ: dict[str, str],
) -> None:
    assert load(environ, needs=()).identity_source is None


@pytest.mark.parametrize("source", ["header", "apigateway"])
@pytest.mark.parametrize("environ", ON_CLOUD_RUN, ids=str)
def test_on_cloud_run_what_is_said_holds(environ: dict[str, str], source: str) -> None:
    environ = environ | {"IDENTITY_SOURCE": source}
    assert load(environ, needs=("IDENTITY",)).identity_source == source


@pytest.mark.parametrize("environ", [{}, {"RUNNING_ON_CLOUDRUN": "false"}], ids=str)
def test_elsewhere_the_header_is_believed(environ: dict[str, str]) -> None:
    assert load(environ, needs=("IDENTITY",)).identity_source == "header"


@pytest.mark.parametrize("secret", ["", "  "])
def test_an_empty_secret_does_not_open_the_door(secret: str) -> None:
    said = refusal(GATEWAY_JWT_SECRET=secret)
    assert said.startswith("GATEWAY_JWT_SECRET is empty")


def test_a_secret_that_nothing_is_verified_with_is_a_mistake() -> None:
    said = refusal(IDENTITY_SOURCE="apigateway", GATEWAY_JWT_SECRET="s3cret")
    assert said.startswith("GATEWAY_JWT_SECRET is set, but IDENTITY_SOURCE is")
    assert "s3cret" not in said


def test_a_claim_is_demanded_only_where_it_can_be_verified() -> None:
    environ = {"IDENTITY_SOURCE": "header", "STATUS_REQUIRE_SHOP_CLAIM": "true"}
    assert refusal(**environ).startswith("GATEWAY_JWT_SECRET is not set")
    load(environ | {"GATEWAY_JWT_SECRET": "s3cret"}, needs=())
    load(environ | {"IDENTITY_SOURCE": "apigateway"}, needs=())
