"""Who the caller is: X-User-ID, the forwarded token, API Gateway's claims."""

from collections.abc import Iterator

import pytest
from werkzeug.test import TestResponse

from tests.support.observed import problem
from tests.support.service import Service, new_user
from tests.support.shared import settings_kept, shared_service
from tests.support.tokens import SECRET, bearer, userinfo


@pytest.fixture(scope="module")
def shared(postgres_url: str, template_database: str) -> Iterator[Service]:
    with shared_service(postgres_url, template_database) as running:
        yield running


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    with settings_kept(shared):
        yield shared


def unauthenticated(response: TestResponse) -> None:
    problem(response, 401, "unauthenticated")
    assert response.headers["WWW-Authenticate"] == "Bearer"


# X-User-ID


def test_a_user_is_the_same_in_every_spelling(service: Service, user: str) -> None:
    order = service.ordered(user)
    assert order["user_id"] == user
    for spelled in (user, user.upper(), user.replace("-", ""), f" {user} "):
        assert service.crud("GET", "/api/orders/", spelled).get_json() == [order]


def test_a_user_is_stored_in_lower_case_with_dashes(
    service: Service, user: str
) -> None:
    spelled = user.upper().replace("-", "")
    order = service.crud("POST", "/api/orders/", spelled, json={}).get_json()
    assert order["user_id"] == user


def test_the_caller_comes_before_the_body(service: Service) -> None:
    response = service.call("orders_crud", "POST", "/api/orders/", data="no json")
    unauthenticated(response)


def test_without_a_secret_a_token_is_neither_needed_nor_read(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    headers = {"Authorization": "Bearer nonsense"} | userinfo(sub=new_user())
    response = service.crud("GET", "/api/orders/", user, headers=headers)
    assert response.get_json() == [order]


# The forwarded token


def test_the_token_and_the_header_may_spell_the_user_differently(
    service: Service, user: str
) -> None:
    service.set(GATEWAY_JWT_SECRET=SECRET)
    for sub in (user.upper(), user.replace("-", "")):
        response = service.crud("GET", "/api/orders/", user, headers=bearer(sub))
        assert response.status_code == 200, sub
    headers = bearer(user)
    headers["Authorization"] = headers["Authorization"].replace("Bearer", "bearer")
    response = service.crud("GET", "/api/orders/", user, headers=headers)
    assert response.status_code == 200


# Google API Gateway


def test_behind_an_api_gateway_its_claims_name_the_caller(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    service.set(IDENTITY_SOURCE="apigateway")
    for padding in ("", "=", "=="):
        headers = userinfo(sub=user.upper())
        headers["X-Apigateway-Api-Userinfo"] += padding
        response = service.call("orders_crud", "GET", "/api/orders/", headers=headers)
        assert response.get_json() == [order], padding
