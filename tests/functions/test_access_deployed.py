"""Access as a deployment has it: what it must be told, and what its server lets in."""

import http.client
from collections.abc import Iterator
from contextlib import closing

import pytest

from infra.gateway.document import Token, functions, gateway_document
from infra.local.gateway import FUNCTIONS, function_of
from tests.support.access import documented_operations
from tests.support.service import Service, new_user
from tests.support.serving import environment, served
from tests.support.shared import service_of_file, settings_kept
from tests.support.tokens import userinfo

KNOW_USERS = {
    function_of(each.path)
    for each in documented_operations().values()
    if not each.is_open
}


shared = pytest.fixture(service_of_file, scope="module")


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    with settings_kept(shared):
        yield shared


@pytest.mark.parametrize("function", sorted(KNOW_USERS))
@pytest.mark.parametrize(
    "variable", [("K_SERVICE", "orders"), ("RUNNING_ON_CLOUDRUN", "true")], ids=str
)
def test_on_cloud_run_a_function_with_users_does_not_start_by_default(
    service: Service, function: str, variable: tuple[str, str]
) -> None:
    service.set(**dict([variable]))
    with pytest.raises(SystemExit) as raised:
        service.client(function)
    assert str(raised.value) == (
        "configuration error: IDENTITY_SOURCE is not set:"
        " on Cloud Run it must be said, header or apigateway"
    )


@pytest.mark.parametrize(
    "function", sorted(set(FUNCTIONS) - KNOW_USERS - {"ops_console"})
)
def test_on_cloud_run_a_function_without_users_starts_by_default(
    service: Service, function: str
) -> None:
    service.set(K_SERVICE=function, RUNNING_ON_CLOUDRUN="true")
    assert service.client(function).get("/health/live").status_code == 200


@pytest.mark.parametrize("source", ["header", "apigateway"])
def test_on_cloud_run_a_function_starts_once_it_is_told(
    service: Service, source: str
) -> None:
    service.set(K_SERVICE="orders-crud", IDENTITY_SOURCE=source)
    user = new_user()
    headers = {"X-User-ID": user} if source == "header" else userinfo(sub=user)
    response = service.client("orders_crud").get("/api/orders/", headers=headers)
    assert response.get_json() == []


def test_what_a_gateway_publishes_is_answered_by_the_function_that_it_names(
    service: Service,
) -> None:
    addresses = {name: f"https://{name}" for name in functions()}
    token = Token(issuer="x", jwks_uri="https://x", audiences=("x",))
    made = gateway_document(addresses, token)
    for path, item in made["paths"].items():
        for method, operation in item.items():
            name = "busy" if path.startswith("/problems/") else "redoc.js"
            asked = path.replace("{id}", "7").replace("{name}", name)
            client = service.client(operation["x-google-backend"])
            for each in (asked, f"{asked}/"):
                response = client.open(each, method=method.upper())
                expected = 401 if operation["security"] else 200
                assert response.status_code == expected, (method, each)


def test_the_server_makes_no_user_of_two_or_of_a_name_with_underscores(
    service: Service,
) -> None:
    user = new_user()
    order = service.ordered(user)
    environ = environment(**service.environ, K_SERVICE="x", IDENTITY_SOURCE="header")
    with served("orders_crud", environ) as url:
        address = url.removeprefix("http://")

        def status(*headers: tuple[str, str]) -> int:
            with closing(http.client.HTTPConnection(address, timeout=20)) as link:
                link.putrequest("GET", f"/api/orders/{order['id']}/")
                for name, value in headers:
                    link.putheader(name, value)
                link.endheaders()
                return link.getresponse().status

        assert status(("X-User-ID", user)) == 200
        assert status(("x-uSeR-iD", f"  {user.upper()}\t")) == 200
        assert status(("X-User-ID", user), ("X-User-ID", user)) == 401
        assert status(("X-User-ID", new_user()), ("X-User-ID", user)) == 401
        assert status(("X_User_ID", user)) == 401
        assert status(("X-User_ID", user), ("X-User-ID", new_user())) == 404
        assert status(("X-User-ID ", user)) in (400, 401)
