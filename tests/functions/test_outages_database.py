"""The database away: an honest 503 from each function, and recovery by itself."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.test import TestResponse

from common.database import starting
from tests.support.bodies import status_event
from tests.support.link import Link, link_to
from tests.support.service import Service

FUNCTIONS = (
    "create_order_from_cart",
    "orders_crud",
    "item_status",
    "approval_handler",
    "outbox_relay",
)
Call = Callable[[Service, str], TestResponse]

# One request to each function, and to each kind of access it makes.
CALLS: dict[str, Call] = {
    "checkout": lambda service, user: service.checkout(user),
    "list": lambda service, user: service.crud("GET", "/api/orders/", user),
    "read": lambda service, user: service.crud("GET", "/api/orders/1/", user),
    "create": lambda service, user: service.crud("POST", "/api/orders/", user, json={}),
    "delete": lambda service, user: service.crud("DELETE", "/api/orders/1/", user),
    "patch": lambda service, user: service.crud(
        "PATCH", "/api/orders/1/", user, json={}
    ),
    "items": lambda service, user: service.crud("GET", "/api/order-items/", user),
    "item": lambda service, user: service.crud("GET", "/api/order-items/1/", user),
    "patch item": lambda service, user: service.crud(
        "PATCH", "/api/order-items/1/", user, json={}
    ),
    "delete item": lambda service, user: service.crud(
        "DELETE", "/api/order-items/1/", user
    ),
    "status": lambda service, _: service.move(1, 2),
    "approval": lambda service, _: service.call(
        "approval_handler", "POST", "/", json=status_event(1)
    ),
    "dead letter": lambda service, _: service.call(
        "approval_handler", "POST", "/", data=b"junk"
    ),
    "given up": lambda service, _: service.call(
        "approval_handler", "POST", "/dead-letters", data=b"junk"
    ),
    "sweep": lambda service, _: service.call("outbox_relay", "POST", "/"),
}


@pytest.fixture
def link(database_url: str) -> Iterator[Link]:
    with link_to(database_url) as link:
        yield link


@pytest.fixture
def linked(service: Service, link: Link) -> Service:
    """A service whose database is at the other end of the link."""
    service.set(DATABASE_URL=link.through(service.environ["DATABASE_URL"]))
    return service


@pytest.mark.parametrize("name", CALLS)
def test_a_request_without_the_database_is_a_503_and_the_next_one_succeeds(
    linked: Service, link: Link, name: str, user: str
) -> None:
    call = CALLS[name]
    article = linked.sandbox.add_article(amount=10)
    linked.sandbox.add_to_cart(user, article)
    before = call(linked, user).status_code
    assert before < 500
    link.refuse()
    for _ in range(2):
        response = call(linked, user)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        problem = response.get_json()
        assert problem["type"] == "/problems/database-unavailable"
        assert response.mimetype == "application/problem+json"
        assert str(link.port) not in response.get_data(as_text=True)
    link.restore()
    assert call(linked, user).status_code in (before, 200, 404)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_health_tells_a_process_that_lives_from_one_that_can_serve(
    linked: Service, link: Link, function: str
) -> None:
    assert linked.call(function, "GET", "/health/ready").status_code == 200
    link.refuse()
    ready = linked.call(function, "GET", "/health/ready")
    assert (ready.status_code, ready.get_json()["down"]) == (503, ["database"])
    assert "Retry-After" in ready.headers
    assert linked.call(function, "GET", "/health/live").status_code == 200
    link.restore()
    assert linked.call(function, "GET", "/health/ready").status_code == 200


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_new_process_gets_requests_once_the_database_has_answered(
    linked: Service, link: Link, function: str
) -> None:
    link.refuse()
    waiting = linked.call(function, "GET", "/health/start")
    assert waiting.status_code == 503
    assert waiting.get_json()["down"] == ["database"]
    link.restore()
    assert linked.call(function, "GET", "/health/start").status_code == 200
    link.refuse()
    started = linked.call(function, "GET", "/health/start")
    assert started.status_code == 200, "for good: an outage ends no instance"


def test_a_new_process_gets_requests_after_its_longest_start_without_the_database(
    linked: Service, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.refuse()
    assert linked.call("orders_crud", "GET", "/health/start").status_code == 503
    monkeypatch.setattr(starting, "LONGEST_START_SECONDS", 0)
    linked.restart()
    assert linked.call("orders_crud", "GET", "/health/start").status_code == 200


def test_a_server_that_refuses_the_login_has_answered(service: Service) -> None:
    address = service.environ["DATABASE_URL"].rpartition("/")[0]
    service.set(DATABASE_URL=f"{address}/none-such")
    assert service.call("orders_crud", "GET", "/health/start").status_code == 200
    assert service.call("orders_crud", "GET", "/health/ready").status_code == 503


def test_a_probe_does_not_wait_for_another_one_s_connection(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool:
        port = silent.getsockname()[1]
        service.set(DATABASE_URL=f"postgresql://orders@127.0.0.1:{port}/orders")
        client = service.client("orders_crud")
        first = pool.submit(client.get, "/health/start")
        waiting, _ = silent.accept()
        with waiting:
            second = service.client("orders_crud").get("/health/start")
            assert second.status_code == 503
            assert not first.done()
        assert first.result().status_code == 503


def test_health_live_makes_no_connection(linked: Service, link: Link) -> None:
    for function in FUNCTIONS:
        assert linked.call(function, "GET", "/health/live").status_code == 200
    assert link.attempts == 0


def test_the_first_request_after_an_outage_that_nobody_noticed_succeeds(
    linked: Service, link: Link, user: str
) -> None:
    for name, call in CALLS.items():
        call(linked, user)
        link.cut()
        link.wait_until_quiet()
        assert call(linked, user).status_code < 500, name
