"""PATCH /api/order-items/{id}/status/ of what its owner cancelled or deleted before.

The shop service closes its row only by a 200, whose `status` it stores.
"""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from infra.local.http_server import serving
from tests.support.console import Console
from tests.support.observed import nothing_written, problem
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file, settings_kept
from tests.support.tokens import SECRET, bearer

service = pytest.fixture(service_of_file, scope="module")

STATUSES = (1, 2, 3, 4)
Item = dict[str, Any]


def cancel(service: Service, user: str, item: Item) -> None:
    path = f"/api/order-items/{item['id']}/"
    response = service.crud("PATCH", path, user, json={"status": 4})
    assert response.status_code == 200


def delete_item(service: Service, user: str, item: Item) -> None:
    response = service.crud("DELETE", f"/api/order-items/{item['id']}/", user)
    assert response.status_code == 204


def delete_order(service: Service, user: str, item: Item) -> None:
    response = service.crud("DELETE", f"/api/orders/{item['order']}/", user)
    assert response.status_code == 204


def cancel_and_delete_order(service: Service, user: str, item: Item) -> None:
    cancel(service, user, item)
    delete_order(service, user, item)


def delete_order_after_its_shop(service: Service, user: str, item: Item) -> None:
    assert service.move(item["id"], 4).status_code == 200
    delete_order(service, user, item)


def delete_item_then_order(service: Service, user: str, item: Item) -> None:
    delete_item(service, user, item)
    delete_order(service, user, item)


DELETIONS = (
    delete_item,
    delete_order,
    cancel_and_delete_order,
    delete_order_after_its_shop,
    delete_item_then_order,
)


@pytest.mark.parametrize("gone", [cancel, *DELETIONS])
@pytest.mark.parametrize("status", STATUSES)
def test_trap_shop_gets_200_and_cancelled_for_what_its_owner_took_back(
    service: Service,
    user: str,
    gone: Callable[[Service, str, Item], None],
    status: int,
) -> None:
    item, _ = service.ordered(user, 2, 1)["items"]
    gone(service, user, item)
    with nothing_written(service):
        response = service.move(item["id"], status)
        assert response.status_code == 200, response.get_data(as_text=True)
        assert response.get_json() == item | {"status": 4}


def test_body_is_that_of_the_item_when_it_was_deleted(
    service: Service, user: str
) -> None:
    article = service.sandbox.add_article(amount=100, price="1.005")
    order = service.crud("POST", "/api/orders/", user, json={}).get_json()
    body = {"order": order["id"], "product_variation": article}
    item = service.crud("POST", "/api/order-items/", user, json=body).get_json()
    path = f"/api/order-items/{item['id']}/"
    item = service.crud("PATCH", path, user, json={"quantity": 7}).get_json()
    delete_item(service, user, item)
    response = service.move(item["id"], 2)
    assert response.get_json() == item | {"status": 4}
    assert (item["quantity"], item["price"]) == (7, 101)


@pytest.mark.parametrize("gone", DELETIONS)
def test_deletion_is_remembered_when_its_events_are_no_longer_kept(
    service: Service, user: str, gone: Callable[[Service, str, Item], None]
) -> None:
    item, _ = service.ordered(user, 2, 1)["items"]
    gone(service, user, item)
    for table in ("outbox", "sent_events", "idempotency_records"):
        service.rows(f"DELETE FROM {table}")
    response = service.move(item["id"], 3)
    assert (response.status_code, response.get_json()["status"]) == (200, 4)


@pytest.mark.parametrize("status", [1, 2, 3])
def test_what_the_shop_itself_cancelled_stays_409(
    service: Service, user: str, status: int
) -> None:
    item, _ = service.ordered(user, 1, 1)["items"]
    service.move(item["id"], 4)
    with nothing_written(service):
        problem(service.move(item["id"], status), 409, "illegal-transition")


def test_what_was_delivered_stays_409(service: Service, user: str) -> None:
    item, _ = service.ordered(user, 1, 1)["items"]
    service.move(item["id"], 3)
    problem(service.move(item["id"], 2), 409, "illegal-transition")


def test_item_that_never_was_stays_404(service: Service) -> None:
    problem(service.move(2**62, 2), 404, "not-found")


def test_other_items_of_the_order_go_on(service: Service, user: str) -> None:
    deleted, cancelled, kept = service.ordered(user, 2, 1, 3)["items"]
    delete_item(service, user, deleted)
    cancel(service, user, cancelled)
    response = service.move(kept["id"], 2)
    assert response.get_json() == kept | {"status": 2}
    problem(service.move(kept["id"], 1), 409, "illegal-transition")


def test_operator_cancels_and_the_shops_row_heals(service: Service, user: str) -> None:
    order = service.ordered(user, 2, 1)
    item, console = order["items"][0], Console(service)
    changed = console.act(
        "move-item",
        order=order["id"],
        version=console.version(order),
        item=item["id"],
        status=4,
    )
    assert changed.status_code == 303
    response = service.move(item["id"], 3)
    assert (response.status_code, response.get_json()["status"]) == (200, 4)


@pytest.mark.parametrize("status", [0, 5, "3", None])
def test_wrong_body_is_refused_all_the_same(
    service: Service, user: str, status: object
) -> None:
    item, _ = service.ordered(user, 2, 1)["items"]
    delete_item(service, user, item)
    problem(service.move(item["id"], status), 400, "invalid-request")


def test_if_match_holds_for_cancelled_items_and_for_no_deleted_one(
    service: Service, user: str
) -> None:
    cancelled, deleted = service.ordered(user, 2, 1)["items"]
    cancel(service, user, cancelled)
    delete_item(service, user, deleted)
    old, new = {"If-Match": '"1"'}, {"If-Match": '"2"'}
    problem(service.move(cancelled["id"], 3, headers=old), 412, "precondition-failed")
    response = service.move(cancelled["id"], 3, headers=new)
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    for headers in (old, new):
        response = service.move(deleted["id"], 3, headers=headers)
        problem(response, 412, "precondition-failed")
    problem(service.move(2**62, 3, headers=old), 404, "not-found")


def test_shop_with_a_token_is_not_the_internal_caller(
    service: Service, user: str
) -> None:
    cancelled, deleted, _ = service.ordered(user, 2, 1, 1)["items"]
    cancel(service, user, cancelled)
    delete_item(service, user, deleted)
    keeper = new_user()
    asked = {
        "user": keeper,
        "headers": bearer(keeper, shop_uuid=cancelled["shop_id"]),
    }
    with settings_kept(service):
        service.set(GATEWAY_JWT_SECRET=SECRET)
        refused = service.move(cancelled["id"], 2, **asked)
        problem(refused, 409, "illegal-transition")
        problem(service.move(deleted["id"], 2, **asked), 404, "not-found")
        for item in (cancelled, deleted):
            assert service.move(item["id"], 2).get_json() == item | {"status": 4}


def test_no_call_is_internal_where_a_claim_is_demanded(
    service: Service, user: str
) -> None:
    cancelled, deleted, _ = service.ordered(user, 2, 1, 1)["items"]
    cancel(service, user, cancelled)
    delete_item(service, user, deleted)
    with settings_kept(service):
        service.set(STATUS_REQUIRE_SHOP_CLAIM="true", GATEWAY_JWT_SECRET=SECRET)
        for item in (cancelled, deleted):
            problem(service.move(item["id"], 2), 401, "unauthenticated")


@pytest.mark.parametrize("gone", [cancel, delete_item, delete_order])
def test_shops_row_follows(
    service: Service, user: str, gone: Callable[[Service, str, Item], None]
) -> None:
    item, _ = service.ordered(user, 2, 1)["items"]
    service.sandbox.deliver()
    gone(service, user, item)
    assert row(service, item)["status"] == 1
    shop = f"{service.sandbox.environ['SHOP_SERVICE']}/api/shop-orders"
    with serving(service.client("item_status").application) as url:
        service.sandbox.order_service_url = url
        reply = requests.post(
            f"{shop}/{item['id']}/status/", json={"status": 2}, timeout=10
        )
    assert reply.status_code == 200, reply.text
    assert row(service, item)["status"] == 4


def row(service: Service, item: Item) -> dict[str, Any]:
    """Return the shop's row of the item."""
    rows = service.sandbox.shop_rows
    [found] = [each for each in rows if each["order_item_id"] == item["id"]]
    return found
