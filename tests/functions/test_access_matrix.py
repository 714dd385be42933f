"""Who may do what: every caller at every operation, for every way to know callers.

    does  2xx, and it is done to the owner's order
    own   2xx, about what is the caller's own, and nothing else
    401   not known; 403 known, and not allowed; 404 as if there were no such order

The callers are the order's owner, another user, the keeper of the item's shop, the
keeper of another shop, the shop service's direct call (a user, no token), and nobody.
Forgers are in tests/support/callers.py: each is answered as one of these.
"""

import http.client
from collections.abc import Iterator
from contextlib import closing

import pytest

from infra.gateway.document import Token, functions, gateway_document
from infra.local.gateway import FUNCTIONS, function_of
from tests.support.access import (
    FAR,
    Access,
    Target,
    documented_operations,
    read_table,
    shown,
    unstated,
)
from tests.support.callers import WAYS, People, forged, honest
from tests.support.observed import history, problem
from tests.support.service import Service, new_user
from tests.support.serving import environment, served
from tests.support.shared import service_of_file, settings_kept, shared_service
from tests.support.tokens import SECRET, userinfo

# Nothing is verified: who may call at all is the network's and IAM's to say.
HEADER = read_table("""
operation               owner  user  shop  rival  internal  nobody
create_order_from_cart  own    own   own   own    own       401
list_orders             own    own   own   own    own       401
create_order            own    own   own   own    own       401
get_order               does   404   404   404    404       401
get_timeline            does   404   404   404    404       401
patch_order             does   404   404   404    404       401
delete_order            does   404   404   404    404       401
list_items              own    own   own   own    own       401
create_item             does   404   404   404    404       401
get_item                does   404   404   404    404       401
patch_item              does   404   404   404    404       401
delete_item             does   404   404   404    404       401
set_item_status         403    403   403   403    does      401
""")

HEADER_AND_SECRET = read_table("""
operation               owner  user  shop  rival  internal  nobody
create_order_from_cart  own    own   own   own    401       401
list_orders             own    own   own   own    401       401
create_order            own    own   own   own    401       401
get_order               does   404   404   404    401       401
get_timeline            does   404   404   404    401       401
patch_order             does   404   404   404    401       401
delete_order            does   404   404   404    401       401
list_items              own    own   own   own    401       401
create_item             does   404   404   404    401       401
get_item                does   404   404   404    401       401
patch_item              does   404   404   404    401       401
delete_item             does   404   404   404    401       401
set_item_status         403    403   does  403    does      401
""")

# The shop service does not come through Google's gateway.
APIGATEWAY = HEADER_AND_SECRET | read_table("""
operation               owner  user  shop  rival  internal  nobody
set_item_status         403    403   does  403    401       401
""")

TABLES = {
    "header": HEADER,
    "header and secret": HEADER_AND_SECRET,
    "header, secret, claim demanded": APIGATEWAY,
    "apigateway": APIGATEWAY,
    "apigateway, claim demanded": APIGATEWAY,
}

OPERATIONS = documented_operations()

GUARDED = [name for name, each in OPERATIONS.items() if not each.is_open]

OPEN = [name for name, each in OPERATIONS.items() if each.is_open]

# A demanded claim is the status operation's matter alone.
CELLS = [
    (way, name)
    for way in WAYS
    for name in GUARDED
    if "demanded" not in way or name == "set_item_status"
]


shared = pytest.fixture(service_of_file, scope="module")


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    shared.restart()  # another service may have run since: a process has one wiring
    with settings_kept(shared):
        yield shared


@pytest.fixture(scope="module")
def access(
    request: pytest.FixtureRequest, postgres_url: str, template_database: str
) -> Iterator[Access]:
    with shared_service(postgres_url, template_database) as service:
        service.set(**WAYS[request.param])
        yield Access(service, request.param)


@pytest.mark.parametrize(("access", "name"), CELLS, indirect=["access"])
def test_every_caller_is_answered_as_the_table_says(access: Access, name: str) -> None:
    row = TABLES[access.way].get(name)
    assert row is not None, f"{name} has no row in the table of {access.way}"
    wrong = access.wrong(OPERATIONS[name], row)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("access", ["header", "apigateway"], indirect=True)
def test_what_is_open_answers_everybody_alike(access: Access) -> None:
    people = People()
    for name in OPEN:
        asked = OPERATIONS[name]
        functions = ["api_docs"]
        if name.startswith("health_"):
            functions += ["orders_crud", "item_status", "create_order_from_cart"]
            functions += ["approval_handler", "outbox_relay"]
        for function in functions:
            client = access.service.client(function)
            answers = {
                client.get(asked.path, headers=list(knock.headers)).data
                for knock in [*honest(access.way, people), *forged(access.way, people)]
            }
            assert len(answers) == 1, (name, function)
            assert people.owner.encode() not in answers.pop()


@pytest.mark.parametrize("way", WAYS)
def test_every_operation_has_its_expectations_for_every_caller(way: str) -> None:
    table = TABLES[way]
    assert not unstated(OPERATIONS.values(), table)
    people = People()
    columns = {each.column for each in [*honest(way, people), *forged(way, people)]}
    assert all(columns <= row.keys() for row in table.values())


def test_user_is_stored_in_lower_case_with_dashes(service: Service, user: str) -> None:
    for spelled in (user.upper(), user.replace("-", ""), f" {user} "):
        order = service.crud("POST", "/api/orders/", spelled, json={}).get_json()
        assert order["user_id"] == user


def test_the_caller_comes_before_the_body(service: Service) -> None:
    for function, method, path in (
        ("orders_crud", "POST", "/api/orders/"),
        ("item_status", "PATCH", "/api/order-items/1/status/"),
    ):
        response = service.call(function, method, path, data="no json")
        problem(response, 401, "unauthenticated")


def test_internal_calls_user_is_who_moved_item(service: Service, user: str) -> None:
    [item] = service.ordered(user)["items"]
    caller = new_user()
    service.set(GATEWAY_JWT_SECRET=SECRET)
    assert service.move(item["id"], 2, user=caller).status_code == 200
    assert history(service, item["order"])[-1][3] == caller


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("access", ["header"], indirect=True)
def test_a_condition_tells_a_stranger_no_more(access: Access, header: str) -> None:
    target = access.order(People())
    absent = Target(target.order + FAR, target.item + FAR, target.variation)
    given = [("X-User-ID", new_user()), (header, '"7"')]
    for name, row in HEADER.items():
        if row["user"] == "404":
            known = access.ask(OPERATIONS[name], given, target)
            unknown = access.ask(OPERATIONS[name], given, absent)
            assert known.status_code == 404, name
            assert shown(known, target) == shown(unknown, absent), name


def test_approved_order_of_another_is_404_not_409(service: Service, user: str) -> None:
    order = service.ordered(user)
    service.move(order["items"][0]["id"], 3)
    service.trigger_approval(order["id"])
    body = {"order": order["id"], "product_variation": service.sandbox.add_article()}
    response = service.crud("POST", "/api/order-items/", new_user(), json=body)
    problem(response, 404, "not-found")


KNOW_USERS = {
    function_of(each.path)
    for each in documented_operations().values()
    if not each.is_open
}


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
        " on Cloud Run it must be header or apigateway"
    )


@pytest.mark.parametrize(
    "function", sorted(set(FUNCTIONS) - KNOW_USERS - {"ops_console"})
)
def test_on_cloud_run_others_start_by_default(service: Service, function: str) -> None:
    service.set(K_SERVICE=function, RUNNING_ON_CLOUDRUN="true")
    assert service.client(function).get("/health/live").status_code == 200


@pytest.mark.parametrize("source", ["header", "apigateway"])
def test_on_cloud_run_it_starts_once_it_is_told(service: Service, source: str) -> None:
    service.set(K_SERVICE="orders-crud", IDENTITY_SOURCE=source)
    user = new_user()
    headers = {"X-User-ID": user} if source == "header" else userinfo(sub=user)
    response = service.client("orders_crud").get("/api/orders/", headers=headers)
    assert response.get_json() == []


def test_gateway_s_paths_are_answered_by_the_named_function(service: Service) -> None:
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


def test_server_makes_no_user_of_two_or_of_underscores(service: Service) -> None:
    user = new_user()
    order = service.ordered(user)
    service.set(K_SERVICE="x", IDENTITY_SOURCE="header")
    environ = environment(**service.environ)
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
