"""Who the caller is: X-User-ID, the forwarded token, API Gateway's claims."""

import base64
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from werkzeug.test import TestResponse

from tests.support.observed import everything, problem
from tests.support.service import Service, new_user
from tests.support.shared import settings_kept, shared_service
from tests.support.tokens import SECRET, bearer, userinfo

ROUTES: list[tuple[str, str, str]] = [
    ("orders_crud", "GET", "/api/orders/"),
    ("orders_crud", "POST", "/api/orders/"),
    ("orders_crud", "GET", "/api/orders/1/"),
    ("orders_crud", "PATCH", "/api/orders/1/"),
    ("orders_crud", "DELETE", "/api/orders/1/"),
    ("orders_crud", "GET", "/api/order-items/"),
    ("orders_crud", "POST", "/api/order-items/"),
    ("orders_crud", "GET", "/api/order-items/1/"),
    ("orders_crud", "PATCH", "/api/order-items/1/"),
    ("orders_crud", "DELETE", "/api/order-items/1/"),
    ("item_status", "PATCH", "/api/order-items/1/status/"),
    ("create_order_from_cart", "POST", "/api/orders-from-shopcart/"),
]
PUBLIC = [route for route in ROUTES if route[0] != "item_status"]


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


def test_without_a_user_every_route_is_401_and_nothing_is_written(
    service: Service, user: str
) -> None:
    service.ordered(user)
    before = everything(service)
    shapeless = [
        None,
        "",
        " ",
        "garbage",
        user[:-1],
        user + "0",
        user[:8] + user[9:],
        f"{{{user}}}",
        f"urn:uuid:{user}",
        f"{user},{user}",
        "é" * 36,
        "0" * 10_000,
    ]
    for function, method, path in ROUTES:
        for name in shapeless:
            headers = {} if name is None else {"X-User-ID": name}
            response = service.call(function, method, path, headers=headers, json={})
            unauthenticated(response)
    assert everything(service) == before


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


def test_a_verified_token_of_the_user_opens_every_route(
    service: Service, user: str
) -> None:
    service.set(GATEWAY_JWT_SECRET=SECRET)
    for function, method, path in PUBLIC:
        response = service.call(
            function, method, path, user=user, headers=bearer(user), json={}
        )
        assert response.status_code not in (401, 403), path
        assert response.status_code < 500, path


def test_where_tokens_can_be_verified_one_is_needed(
    service: Service, user: str
) -> None:
    service.set(GATEWAY_JWT_SECRET=SECRET)
    for function, method, path in PUBLIC:
        response = service.call(function, method, path, user=user, json={})
        unauthenticated(response)


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


def test_a_token_that_does_not_hold_is_401_and_nothing_is_written(
    service: Service, user: str
) -> None:
    service.set(GATEWAY_JWT_SECRET=SECRET)
    stranger = new_user()
    valid = bearer(user)["Authorization"].removeprefix("Bearer ")
    head, payload, signature = valid.split(".")
    deep = base64.urlsafe_b64encode(b'{"a":' + b"[" * 5000).decode().rstrip("=")
    none = jwt.encode({"sub": user, "exp": 2**40}, None, "none")
    refused: dict[str, str] = {
        "somebody else's": bearer(stranger)["Authorization"],
        "signed by another": bearer(user, secret="x" * 40)["Authorization"],
        "another algorithm": bearer(user, secret=SECRET * 2, algorithm="HS512")[
            "Authorization"
        ],
        "unsigned": f"Bearer {none}",
        "expired": bearer(user, exp=1)["Authorization"],
        "without exp": bearer(user, exp=None)["Authorization"],
        "without sub": bearer(user, sub=None)["Authorization"],
        "sub is no uuid": bearer("root")["Authorization"],
        "not yet valid": bearer(user, nbf=2**40)["Authorization"],
        "another payload": f"Bearer {head}.{payload[:-4]}AAAA.{signature}",
        "no signature": f"Bearer {head}.{payload}.",
        "deep header": f"Bearer {deep}.{payload}.{signature}",
        "deep payload": f"Bearer {head}.{deep}.{signature}",
        "basic": f"Basic {valid}",
        "no scheme": valid,
        "only a scheme": "Bearer",
        "empty": "",
        "garbage": "Bearer é.ö.ü",
    }
    before = everything(service)
    for why, value in refused.items():
        for method in ("GET", "POST"):
            headers = {"Authorization": value}
            response = service.crud(
                method, "/api/orders/", user, headers=headers, json={}
            )
            assert response.status_code == 401, why
            unauthenticated(response)
            assert SECRET not in response.get_data(as_text=True)
    assert everything(service) == before


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


def test_behind_an_api_gateway_a_clients_own_user_header_is_ignored(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    service.set(IDENTITY_SOURCE="apigateway")
    path = f"/api/orders/{order['id']}/"
    forged = service.crud("GET", path, user, headers=userinfo(sub=new_user()))
    problem(forged, 404, "not-found")
    unauthenticated(service.crud("GET", path, user))
    unauthenticated(service.crud("GET", path, user, headers=bearer(user)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no json",
        b"[]",
        b"null",
        b"{}",
        b'{"sub": null}',
        b'{"sub": 5}',
        b'{"sub": "root"}',
        b'{"sub": ["x"]}',
        b"\xff\xfe",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_claims_that_name_nobody_are_401(
    service: Service, user: str, content: bytes
) -> None:
    service.set(IDENTITY_SOURCE="apigateway")
    value = base64.urlsafe_b64encode(content).decode()
    headers = {"X-Apigateway-Api-Userinfo": value}
    unauthenticated(service.crud("GET", "/api/orders/", user, headers=headers))


def test_claims_that_are_no_base64_are_401(service: Service, user: str) -> None:
    service.set(IDENTITY_SOURCE="apigateway")
    values: list[Any] = ["é", "A", "====", "eyJ", "!!!"]
    for value in values:
        headers = {"X-Apigateway-Api-Userinfo": value}
        unauthenticated(service.crud("GET", "/api/orders/", user, headers=headers))
