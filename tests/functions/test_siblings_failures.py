"""Siblings that fail: what the caller is told, and that nothing is changed."""

from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.service import Service

siblings = pytest.mark.parametrize("sibling", ["shopcart", "product"])
PAGE = "<html><body>Not Found, says http://127.0.0.1 in secret</body></html>"


@pytest.fixture(autouse=True)
def _cart(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.MUG)


@pytest.fixture(autouse=True)
def _no_order_is_made_of_a_failure(service: Service) -> Iterator[None]:
    yield
    if not service.sandbox.events:
        assert service.rows("SELECT id FROM orders") == []


def check_problem(response: TestResponse, status: int, kind: str, sibling: str) -> None:
    """Check a problem, which names the sibling and gives nothing else away."""
    text = response.get_data(as_text=True)
    assert response.status_code == status, text
    assert response.headers["Content-Type"] == "application/problem+json"
    told = response.get_json()
    assert told["type"] == f"/problems/{kind}"
    assert sibling in told["detail"]
    assert told["service"] == sibling
    for secret in ("http", "127.0.0.1", "sandbox/", "secret", "Traceback", "Error"):
        assert secret not in text
    waits = int(response.headers.get("Retry-After", 0))
    assert (waits >= 1) is (status == 503)


@siblings
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        # Which of these a failure is: tests/integration/test_clients_answers.py.
        ({"status": 500}, (503, "upstream-unavailable")),
        ({"hang_up": True}, (503, "upstream-unavailable")),
        ({"delay_seconds": 4}, (504, "upstream-timeout")),
        ({"body": '{"detail": "secret"}'}, (502, "upstream-broken")),
        ({"body": PAGE, "status": 404}, (502, "upstream-broken")),
    ],
)
def test_failure_names_the_sibling_and_changes_nothing(
    service: Service, user: str, sibling: str, fault: Any, told: tuple[int, str]
) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="2")
    cart = service.sandbox.cart(user)
    service.sandbox.fault(sibling, **fault)
    check_problem(service.checkout(user), *told, sibling)
    assert service.sandbox.cart(user) == cart
    service.sandbox.mend()
    assert service.checkout(user).status_code == 201  # without a restart


def test_one_invalid_line_among_good_ones_is_a_502(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.NAIL)
    service.sandbox.add_to_cart(user, catalogue.RUG)  # which would be repaired
    cart = service.sandbox.cart(user)
    service.sandbox.fault("product", path=catalogue.NAIL, body="{}")
    check_problem(service.checkout(user), 502, "upstream-broken", "product")
    assert service.sandbox.cart(user) == cart


def test_only_failed_lines_are_asked_for_again(service: Service, user: str) -> None:
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


def test_one_deadline_is_for_a_whole_checkout(service: Service, user: str) -> None:
    service.set(UPSTREAM_DEADLINE_SECONDS="1.5")
    service.sandbox.fault("shopcart", delay_seconds=1)
    service.sandbox.fault("product", delay_seconds=1)
    check_problem(service.checkout(user), 504, "upstream-timeout", "product")
