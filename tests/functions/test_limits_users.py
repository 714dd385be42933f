"""What one user may ask for: requests a minute, requests at a time; and nobody else.

Lives here: both limits as callers see them. Not here: the statement that counts
(`tests/integration/test_limits.py`), who waits for whom (`tests/faults/
test_fairness.py`). Surprise: what a user has used up counts for every function.
"""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.documented import documented
from tests.support.observed import problem
from tests.support.parallel import PATIENCE_SECONDS, in_background, sender
from tests.support.service import Service, new_user
from tests.support.shared import settings_kept, shared_service

ORDERS = "/api/orders/"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
def shared(postgres_url: str, template_database: str) -> Iterator[Service]:
    with shared_service(postgres_url, template_database) as running:
        yield running


@pytest.fixture
def service(shared: Service) -> Iterator[Service]:
    with settings_kept(shared) as running:
        yield running


@pytest.fixture
def counted(service: Service) -> Service:
    """A service where each user has five requests a minute."""
    service.set(USER_REQUESTS_PER_MINUTE="5")
    return service


def usage(response: TestResponse) -> tuple[int, int]:
    """Answer what the caller is told: requests left, and for how many seconds."""
    assert response.headers["RateLimit-Policy"] == '"user";q=5;w=60'
    told = re.fullmatch(r'"user";r=(\d+);t=(\d+)', response.headers["RateLimit"])
    assert told, response.headers["RateLimit"]
    assert 1 <= int(told[2]) <= 60
    return int(told[1]), int(told[2])


# Requests a minute.


def test_each_answer_tells_what_is_left_and_one_too_many_is_429(
    counted: Service, user: str
) -> None:
    left = [usage(counted.crud("GET", ORDERS, user))[0] for _ in range(5)]
    assert left == [4, 3, 2, 1, 0]
    refused = documented(counted.crud("GET", ORDERS, user))
    said = problem(refused, 429, "too-many-requests")
    assert said["violated-policies"] == ["user"]
    assert "5 requests" in said["detail"]
    assert usage(refused) == (0, int(refused.headers["Retry-After"]))


def test_whatever_the_answer_a_request_of_a_known_user_counts(
    counted: Service, user: str
) -> None:
    key = {"Idempotency-Key": "k"}
    made = counted.crud("POST", ORDERS, user, json={}, headers=key)
    again = counted.crud("POST", ORDERS, user, json={}, headers=key)
    path, tag = made.headers["Location"], made.headers["ETag"]
    known = counted.crud("GET", path, user, headers={"If-None-Match": tag})
    broken = counted.crud("POST", ORDERS, user, data="{", content_type="text/plain")
    absent = counted.crud("GET", f"{ORDERS}999999/", user)
    answers = [made, again, known, broken, absent]
    assert [each.status_code for each in answers] == [201, 201, 304, 415, 404]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [usage(documented(each))[0] for each in answers] == [4, 3, 2, 1, 0]
    assert counted.crud("GET", path, user).status_code == 429


def test_what_is_refused_at_the_door_does_not_count(
    counted: Service, user: str
) -> None:
    answers = [
        counted.crud("GET", ORDERS, "nobody"),
        counted.crud("GET", f"{ORDERS}?{'x' * 5000}", user),
        counted.crud("GET", "/nowhere", user),
        counted.crud("PUT", ORDERS, user),
        counted.crud("OPTIONS", ORDERS, user),
        counted.crud("GET", "/health/ready", user),
        counted.call("api_docs", "GET", "/openapi.json", user=user),
    ]
    statuses = [each.status_code for each in answers]
    assert statuses == [401, 414, 404, 405, 200, 200, 200]
    assert not any("RateLimit" in each.headers for each in answers)
    assert usage(counted.crud("GET", ORDERS, user))[0] == 4


def test_functions_and_instances_count_together(counted: Service, user: str) -> None:
    order = counted.ordered(user)  # 1
    item_id = order["items"][0]["id"]
    assert usage(counted.move(item_id, 2, user=user))[0] == 3
    counted.restart()  # as another instance
    assert [counted.crud("GET", ORDERS, user).status_code for _ in range(4)] == [
        *[200] * 3,
        429,
    ]
    assert counted.checkout(user).status_code == 429
    moved = counted.move(item_id, 3, user=user)
    assert documented(moved).status_code == 429
    counted.restart()
    assert usage(counted.checkout(user))[0] == 0


def test_a_call_without_a_token_counts_for_the_user_it_names(counted: Service) -> None:
    """The shop service's: each shop's owner has a count of their own."""
    item_id = _item(counted)
    owners = [new_user(), new_user()]
    for _ in range(5):
        assert counted.move(item_id, 2, user=owners[0]).status_code == 200
    assert counted.move(item_id, 2, user=owners[0]).status_code == 429
    assert counted.move(item_id, 2, user=owners[1]).status_code == 200


def _item(service: Service) -> int:
    order: dict[str, Any] = service.ordered(new_user())
    item_id: int = order["items"][0]["id"]
    return item_id


def test_nobody_uses_up_what_is_somebody_elses(counted: Service, user: str) -> None:
    for _ in range(8):
        counted.crud("GET", ORDERS, user)
    assert usage(counted.crud("GET", ORDERS, new_user()))[0] == 4


def test_when_the_minute_is_over_all_is_as_before(counted: Service, user: str) -> None:
    for _ in range(6):
        counted.crud("GET", ORDERS, user)
    counted.rows(
        "UPDATE user_requests SET window_ends_at = now() - interval '1 second'"
        " WHERE user_id = CAST(:user_id AS uuid) RETURNING requests",
        user_id=user,
    )
    counted.restart()  # an instance that knows of no refusal
    left, seconds = usage(counted.crud("GET", ORDERS, user))
    assert left == 4
    assert seconds > 55


def test_a_request_that_cannot_be_counted_is_a_503(service: Service, user: str) -> None:
    service.set(USER_REQUESTS_PER_MINUTE="5", DATABASE_URL=NOWHERE)
    lost = documented(service.crud("GET", ORDERS, user))
    problem(lost, 503, "database-unavailable")
    assert lost.headers["RateLimit-Policy"] == '"user";q=5;w=60'
    assert "RateLimit" not in lost.headers


def test_where_nothing_is_limited_nothing_is_told(service: Service, user: str) -> None:
    answer = service.crud("GET", ORDERS, user)
    assert not any(name.startswith("RateLimit") for name, _ in answer.headers)
    mine = "SELECT requests FROM user_requests WHERE user_id = CAST(:user_id AS uuid)"
    assert service.rows(mine, user_id=user) == []


# Requests at a time.


@pytest.fixture
def placed(service: Service) -> Service:
    """A service that handles one request of a user at a time."""
    service.set(USER_CONCURRENCY="1")
    return service


@pytest.mark.parametrize("function", ["orders_crud", "create_order_from_cart"])
def test_one_request_too_many_is_429_at_once_and_nobody_elses(
    placed: Service, user: str, function: str
) -> None:
    path = "/api/orders-from-shopcart/" if function != "orders_crud" else ORDERS
    line = {"product_variation": catalogue.MUG, "quantity": 1}
    body = {} if function != "orders_crud" else {"json": {"items": [line]}}
    for each in (user, other := new_user()):
        placed.sandbox.add_to_cart(each, catalogue.MUG, 1)
    send = sender(placed, function, "POST", path, user, **body)
    placed.sandbox.forget_calls()
    placed.sandbox.fault("product", delay_seconds=2, times=1)
    with in_background(send) as slow:
        _wait_for_a_call(placed)
        refused = documented(placed.call(function, "POST", path, user=user, **body))
        assert not slow.done()
        others = placed.call(function, "POST", path, user=other, **body)
    assert slow.result().status_code == 201
    assert others.status_code == 201
    said = problem(refused, 429, "too-many-requests")
    assert said["violated-policies"] == ["concurrency"]
    assert refused.headers["Retry-After"] == "1"
    placed.sandbox.mend("product")
    again = placed.call(function, "POST", path, user=user, **body)
    assert again.status_code in (200, 201)


def _wait_for_a_call(service: Service) -> None:
    """Wait until the product service has been asked."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not service.sandbox.most_at_once("product"):
        assert time.monotonic() < deadline, "nobody asks for products"
        time.sleep(0.01)


def test_a_place_is_given_back_however_a_request_ends(
    placed: Service, user: str
) -> None:
    made = placed.crud("POST", ORDERS, user, json={})
    path = made.headers["Location"]
    statuses = [
        placed.crud("GET", path, user).status_code,
        placed.crud("GET", f"{ORDERS}999999/", user).status_code,
        placed.crud("POST", ORDERS, user, data="{").status_code,
        placed.crud("PATCH", path, user, json={"metadata": 1}).status_code,
        placed.crud("DELETE", path, user, headers={"If-Match": '"9"'}).status_code,
        placed.crud("GET", ORDERS, user).status_code,
    ]
    assert statuses == [200, 404, 415, 400, 412, 200]
    placed.rows("DO $$ BEGIN ALTER TABLE orders RENAME COLUMN metadata TO gone; END $$")
    try:
        for _ in range(2):
            assert placed.crud("GET", path, user).status_code == 500
    finally:
        placed.rows(
            "DO $$ BEGIN ALTER TABLE orders RENAME COLUMN gone TO metadata; END $$"
        )
    assert placed.crud("GET", path, user).status_code == 200


def test_who_has_no_place_is_not_counted(service: Service, user: str) -> None:
    service.set(USER_CONCURRENCY="1", USER_REQUESTS_PER_MINUTE="5")
    line = {"product_variation": catalogue.MUG}
    send = sender(service, "orders_crud", "POST", ORDERS, user, json={"items": [line]})
    service.sandbox.forget_calls()
    service.sandbox.fault("product", delay_seconds=1, times=1)
    with in_background(send) as slow:
        _wait_for_a_call(service)
        for _ in range(5):
            refused = documented(service.crud("GET", ORDERS, user))
            assert refused.status_code == 429
            assert refused.headers["RateLimit-Policy"] == '"user";q=5;w=60'
    assert usage(slow.result())[0] == 4
    assert usage(service.crud("GET", ORDERS, user))[0] == 3
