"""Idempotency-Key on every POST: the first response is kept a day and replayed."""

import itertools
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from werkzeug.test import TestResponse

from infra.local.sandbox import catalogue
from tests.support.database import connect
from tests.support.observed import everything, nothing_written
from tests.support.parallel import at_once, checkout_sender
from tests.support.service import Service, new_user

KINDS = ["checkout", "order", "item"]
kinds = pytest.mark.parametrize("kind", KINDS)

Post = Callable[..., TestResponse]


@pytest.fixture
def post(service: Service, user: str) -> Post:
    """Sends a POST of one of the three kinds, always the same body for the same kind.

    `key` is the Idempotency-Key; other arguments replace what is usually sent.
    """
    order_id: list[int] = []

    def send(
        kind: str, key: str | None = "k-1", by: str = user, **changes: Any
    ) -> TestResponse:
        headers = {} if key is None else {"Idempotency-Key": key}
        line = {"product_variation": catalogue.MUG, "quantity": 2}
        sent: dict[str, Any] = {"user": by, "headers": headers}
        if kind == "checkout":
            path = "/api/orders-from-shopcart/"
            sent |= {"path": path} | changes
            return service.call("create_order_from_cart", "POST", **sent)
        if kind == "order":
            body = {"items": [line], "metadata": {"%2$s": "100% %1$s {0} \\ \" '"}}
            sent |= {"path": "/api/orders/", "json": body} | changes
            return service.crud("POST", **sent)
        if not order_id:
            made = service.crud("POST", "/api/orders/", by, json={})
            order_id.append(made.get_json()["id"])
        body = {"order": order_id[0]} | line
        sent |= {"path": "/api/order-items/", "json": body} | changes
        return service.crud("POST", **sent)

    service.sandbox.add_to_cart(user, catalogue.MUG, 2)
    return send


def check_replay(first: TestResponse, second: TestResponse) -> None:
    """Check that the second response is the first one's, and marked as replayed."""
    assert first.status_code == second.status_code == 201
    assert first.get_data() == second.get_data()
    for name in ("Location", "ETag", "Content-Type"):
        assert first.headers[name] == second.headers[name]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"


def siblings_away(service: Service) -> None:
    service.sandbox.fault("shopcart", status=500)
    service.sandbox.fault("product", status=500)


def cart_emptied(service: Service) -> None:
    service.sandbox.deliver()


@kinds
@pytest.mark.parametrize(
    ("meanwhile", "slash"),
    [(siblings_away, ""), (cart_emptied, "/"), (Service.restart, "/")],
)
def test_same_request_again_is_answered_the_same_and_nothing_is_written_or_asked(
    service: Service,
    post: Post,
    kind: str,
    meanwhile: Callable[[Service], None],
    slash: str,
) -> None:
    first = post(kind)
    with nothing_written(service):
        meanwhile(service)
        service.sandbox.forget_calls()

        second = post(kind, path=first.request.path.rstrip("/") + slash)

        check_replay(first, second)
    assert service.sandbox.calls_to("shopcart") == []
    assert service.sandbox.calls_to("product") == []


@kinds
def test_keys_tell_apart(service: Service, post: Post, user: str, kind: str) -> None:
    first = post(kind, "k-1")
    service.sandbox.empty_cart(user)
    service.sandbox.add_to_cart(user, catalogue.MUG, 2)  # another line, another cart
    second = post(kind, "k-2")
    assert first.status_code == second.status_code == 201
    assert first.headers["Location"] != second.headers["Location"]
    assert "Idempotency-Replayed" not in second.headers


@kinds
def test_without_a_key_none_is_stored(service: Service, post: Post, kind: str) -> None:
    assert post(kind, None).status_code == 201
    assert service.rows("SELECT 1 FROM idempotency_records WHERE scope = 'key'") == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("checkout", {"json": {"note": "another"}}),
        ("order", {"json": {"items": []}}),
        ("order", {"json": {"metadata": {"a": "b"}}}),
    ],
)
def test_same_key_with_another_body_is_422(
    service: Service, post: Post, kind: str, change: dict[str, Any]
) -> None:
    assert post(kind).status_code == 201
    with nothing_written(service):
        response = post(kind, **change)
        assert response.status_code == 422
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.get_json()["type"] == "/problems/idempotency-key-reused"


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(KINDS, 2)])
def test_reused_key_422(service: Service, post: Post, first: str, second: str) -> None:
    order_id = post("item", "before").get_json()["order"]
    # One body that all three take, so that only the path differs.
    body = {"order": order_id, "product_variation": catalogue.MUG}
    assert post(first, json=body).status_code == 201
    before = everything(service)
    assert post(second, json=body).status_code == 422
    assert everything(service) == before


@pytest.mark.parametrize("kind", ["checkout", "order"])
def test_key_belongs_to_its_caller(service: Service, post: Post, kind: str) -> None:
    other = new_user()
    service.sandbox.add_to_cart(other, catalogue.MUG, 2)
    first, second = post(kind), post(kind, by=other)
    assert first.status_code == second.status_code == 201
    assert "Idempotency-Replayed" not in second.headers
    assert first.headers["Location"] != second.headers["Location"]


@pytest.mark.parametrize("key", ["", "k" * 256, "k\x7f", "schlüssel"])
def test_invalid_key_is_400_at_once(service: Service, post: Post, key: str) -> None:
    """Orders and items: test_bad_input_fields.py."""
    response = post("checkout", key)
    assert response.status_code == 400
    assert "Idempotency-Key" in response.get_json()["errors"]
    assert service.sandbox.calls_to("shopcart") == []


@pytest.mark.parametrize("key", ["k" * 255, "k", "~", "a b", '"quoted"', "%00;=,"])
def test_key_may_be_any_printable_ascii_up_to_255(post: Post, key: str) -> None:
    check_replay(post("order", key), post("order", key))


@kinds
def test_key_lasts_one_day(service: Service, post: Post, user: str, kind: str) -> None:
    first = post(kind)
    [row] = service.rows(
        "SELECT expires_at - created_at AS kept FROM idempotency_records"
        " WHERE scope = 'key'"
    )
    assert 23.99 * 3600 < row["kept"].total_seconds() <= 24 * 3600
    service.rows("UPDATE idempotency_records SET expires_at = now() WHERE scope='key'")
    service.sandbox.empty_cart(user)
    service.sandbox.add_to_cart(user, catalogue.MUG, 2)

    second = post(kind)
    assert second.headers["Location"] != first.headers["Location"]
    check_replay(second, post(kind))


@kinds
def test_key_is_kept_until_day_is_over(service: Service, post: Post, kind: str) -> None:
    first = post(kind)
    service.rows(
        "UPDATE idempotency_records SET expires_at = expires_at - interval '23:59:00'"
    )
    service.sweep()
    check_replay(first, post(kind))


def test_sweep_removes_expired_keys(service: Service, post: Post, user: str) -> None:
    post("order", "old")
    service.rows("UPDATE idempotency_records SET expires_at = now()")
    post("order", "new")
    service.checkout(user)
    assert service.sweep()["purged_keys"] == 1
    found = service.rows("SELECT scope, key FROM idempotency_records ORDER BY scope")
    assert [row["scope"] for row in found] == ["cart", "key"]
    assert found[1]["key"] == "new"


@kinds
@pytest.mark.parametrize("status", [503, 404, 200])
def test_answer_to_a_request_that_failed_is_not_kept(
    service: Service, post: Post, kind: str, status: int
) -> None:
    post("item", "before")
    before = everything(service)
    service.sandbox.fault("product", status=status)  # 200: with nonsense
    service.sandbox.fault("shopcart", method="DELETE", status=400)  # no repair
    assert post(kind).status_code >= 400
    assert everything(service) == before
    service.sandbox.mend()
    assert post(kind).status_code == 201


def test_repair_is_answer_to_its_key(service: Service, user: str, post: Post) -> None:
    """The same key must not order what its caller has not seen."""
    service.sandbox.add_to_cart(user, catalogue.RUG, 1)  # of which there are none
    first = post("checkout")
    assert first.status_code == 409
    assert first.get_json()["items_fixed"] == 1
    service.sandbox.forget_calls()
    second = post("checkout")
    assert second.status_code == 409
    assert second.get_data() == first.get_data()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Content-Type"] == "application/problem+json"
    assert service.sandbox.calls_to("shopcart") == []
    assert service.rows("SELECT 1 FROM orders") == []
    assert post("checkout", json={"another": "body"}).status_code == 422
    check_replay(post("checkout", "k-2"), post("checkout", "k-2"))


def test_same_key_at_once_is_told_of_one_repair(service: Service, user: str) -> None:
    service.sandbox.add_to_cart(user, catalogue.RUG, 1)
    service.sandbox.fault("shopcart", method="DELETE", delay_seconds=1.0)
    send = checkout_sender(service, user, **{"Idempotency-Key": "k"})
    responses = [*at_once([send] * 5), send()]
    assert {response.status_code for response in responses} == {409}
    assert len({response.get_data() for response in responses}) == 1


@kinds
def test_while_the_first_request_is_still_writing_the_second_is_told_to_come_back(
    post: Post, service: Service, user: str, kind: str
) -> None:
    """The first one's record is written, but not committed."""
    columns = "user_id, scope, key, fingerprint, status, headers, body"
    values = f"'{user}', 'key', 'k-1', 'x', 201, '{{}}', ''"
    with closing(connect(service.environ["DATABASE_URL"])) as first:
        first.run("BEGIN")
        first.run(f"INSERT INTO idempotency_records ({columns}) VALUES ({values})")
        before = everything(service)
        response = post(kind)
        first.run("ROLLBACK")
    assert response.status_code == 409
    assert response.get_json()["type"] == "/problems/request-in-flight"
    assert int(response.headers["Retry-After"]) > 0
    made_for_it = {"orders": 0, "order_history": 0}  # the order that gets the item
    assert everything(service) | made_for_it == before | made_for_it
    assert post(kind).status_code == 201
