"""Siblings that fail: retries, the deadline, and what the caller is told of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.odd_server import black_hole, dripping_server, odd_server, says
from tests.support.proxy import proxy
from tests.support.service import Service

VARIABLES = {"shopcart": "SHOPCART_SERVICE", "product": "PRODUCT_SERVICE"}
siblings = pytest.mark.parametrize("sibling", ["shopcart", "product"])


@pytest.fixture(autouse=True)
def _cart(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)


@pytest.fixture(autouse=True)
def _no_order_is_made_of_a_failure(service: Service) -> Iterator[None]:
    yield
    if not service.sandbox.events:
        assert service.rows("SELECT id FROM orders") == []


def problem(response: TestResponse, status: int, sibling: str) -> dict[str, Any]:
    """Answer the problem, which names the sibling and gives nothing else away."""
    text = response.get_data(as_text=True)
    assert response.status_code == status, text
    assert response.headers["Content-Type"] == "application/problem+json"
    told = response.get_json()
    assert sibling in told["detail"]
    assert told["service"] == sibling
    for secret in ("http", "127.0.0.1", "localhost", "sandbox/", "Traceback", "Error"):
        assert secret not in text
    assert isinstance(told, dict)
    return told


def unavailable(response: TestResponse, sibling: str) -> None:
    told = problem(response, 503, sibling)
    assert told["type"] == "/problems/upstream-unavailable"
    assert int(response.headers["Retry-After"]) >= 1


def reads(service: Service, sibling: str) -> int:
    return len(service.sandbox.calls_to(sibling, method="GET"))


@siblings
@pytest.mark.parametrize(
    "fault", [{"status": s} for s in (408, 425, 429, 502, 503, 504)]
)
def test_read_that_may_pass_is_tried_three_times_in_all(
    service: Service, user: str, sibling: str, fault: dict[str, Any]
) -> None:
    service.sandbox.fault(sibling, **fault)
    unavailable(service.checkout(user), sibling)
    assert reads(service, sibling) == 3


@siblings
@pytest.mark.parametrize("fault", [{"status": 503}, {"hang_up": True}])
def test_third_try_is_as_good_as_the_first(
    service: Service, user: str, sibling: str, fault: dict[str, Any]
) -> None:
    service.sandbox.fault(sibling, times=2, **fault)
    assert service.checkout(user).status_code == 201


@siblings
def test_connection_that_is_cut_without_an_answer_is_tried_three_times(
    service: Service, user: str, sibling: str
) -> None:
    service.sandbox.fault(sibling, hang_up=True)
    unavailable(service.checkout(user), sibling)
    assert reads(service, sibling) == 3


@siblings
@pytest.mark.parametrize("status", [500, 501, 507])
def test_sibling_that_is_broken_is_not_asked_again(
    service: Service, user: str, sibling: str, status: int
) -> None:
    service.sandbox.fault(sibling, status=status)
    unavailable(service.checkout(user), sibling)
    assert reads(service, sibling) == 1


def test_only_the_lines_that_failed_are_asked_for_again(
    service: Service, user: str
) -> None:
    service.sandbox.add_to_cart(user, catalogue.NAIL)
    service.sandbox.fault("product", path=catalogue.NAIL, status=502, times=1)
    assert service.checkout(user).status_code == 201
    asked = [call.path[-1] for call in service.sandbox.calls_to("product")]
    assert sorted(asked) == sorted(catalogue.MUG[-1] + catalogue.NAIL[-1] * 2)


def test_fix_of_a_cart_is_tried_again_too(service: Service, user: str) -> None:
    article = service.sandbox.add_article(amount=1)
    service.sandbox.add_to_cart(user, article, 2)
    service.sandbox.add_to_cart(user, catalogue.RUG)
    for method in ("PUT", "DELETE"):
        service.sandbox.fault("shopcart", method=method, status=503, times=2)
    response = service.checkout(user)
    assert response.get_json()["items_fixed"] == 2
    for method in ("PUT", "DELETE"):
        assert len(service.sandbox.calls_to("shopcart", method=method)) == 3


@siblings
def test_sibling_that_nobody_listens_for_is_unavailable(
    service: Service, user: str, sibling: str
) -> None:
    service.set(**{VARIABLES[sibling]: "http://127.0.0.1:1/secret/path"})
    unavailable(service.checkout(user), sibling)


@siblings
def test_sibling_whose_name_nobody_knows_is_unavailable(
    service: Service, user: str, sibling: str
) -> None:
    service.set(**{VARIABLES[sibling]: "http://nobody.invalid"})
    unavailable(service.checkout(user), sibling)


@siblings
def test_sibling_that_lets_nobody_in_is_unavailable_well_before_the_deadline(
    service: Service, user: str, sibling: str
) -> None:
    with black_hole() as url:
        service.set(**{VARIABLES[sibling]: url, "UPSTREAM_DEADLINE_SECONDS": "60"})
        unavailable(service.checkout(user), sibling)


@siblings
def test_sibling_that_is_late_is_a_504_and_not_asked_again(
    service: Service, user: str, sibling: str
) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="0.5")
    service.sandbox.fault(sibling, delay_seconds=2)
    told = problem(service.checkout(user), 504, sibling)
    assert told["type"] == "/problems/upstream-timeout"
    service.sandbox.wait_until(lambda: reads(service, sibling))
    assert reads(service, sibling) == 1


def test_one_deadline_is_over_all_calls_of_a_checkout(
    service: Service, user: str
) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="1.5")
    service.sandbox.fault("shopcart", delay_seconds=1)
    service.sandbox.fault("product", delay_seconds=1)
    problem(service.checkout(user), 504, "product")


def test_retries_end_at_the_deadline(service: Service, user: str) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="1")
    service.sandbox.fault("shopcart", delay_seconds=0.7, status=503)
    response = service.checkout(user)
    assert response.status_code in {503, 504}
    assert reads(service, "shopcart") <= 2


@siblings
@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\nContent-Length: 4000\n\n",
        "HTTP/1.1 200 OK\nConnection: close\n\n",
        "HTTP/1.0 200 OK\n\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nfa0\n",
        "HTTP/1.1 200 OK\nX-Slow:",
    ],
)
@pytest.mark.timeout(30)
def test_answer_that_drips_in_is_cut_off_at_the_deadline(
    service: Service, user: str, sibling: str, head: str
) -> None:
    with dripping_server(head, seconds=0.3) as server:
        service.set(
            **{VARIABLES[sibling]: server.url, "UPSTREAM_DEADLINE_SECONDS": "1"}
        )
        problem(service.checkout(user), 504, sibling)
        assert len(server.requests) == 1


@siblings
def test_answer_that_is_cut_in_its_middle_is_asked_for_again(
    service: Service, user: str, sibling: str
) -> None:
    with proxy(service.sandbox.environ[VARIABLES[sibling]]) as way:
        service.set(**{VARIABLES[sibling]: way.url})
        way.cut(times=2)
        assert service.checkout(user).status_code == 201
        assert reads(service, sibling) == 3


@siblings
@pytest.mark.parametrize(
    "answer",
    [
        'HTTP/1.1 200 OK\nContent-Length: 99\n\n{"id"',
        'HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n63\n{"id"',
        "HTTP/1.1 200 OK\nContent-Length: 99\n\n",
        "HTTP/1.1 200 OK\nContent-",
    ],
)
def test_sibling_whose_every_answer_is_cut_is_unavailable(
    service: Service, user: str, sibling: str, answer: str
) -> None:
    with odd_server(says(answer)) as server:
        service.set(**{VARIABLES[sibling]: server.url})
        response = service.checkout(user)
        assert response.status_code in {502, 503}
        assert len(server.requests) <= 3


def test_sibling_that_is_back_is_used_without_a_restart(
    service: Service, user: str
) -> None:
    service.sandbox.fault("product", hang_up=True)
    assert service.checkout(user).status_code == 503
    service.sandbox.mend()
    assert service.checkout(user).status_code == 201
