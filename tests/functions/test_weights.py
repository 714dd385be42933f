"""What an order and a page of a list weigh at most: items, and bytes."""

from typing import Any

import pytest

from common.domain import orders
from common.domain.model import MAX_ITEMS, Ids, Line
from common.errors import OrderFullError
from common.store import reads
from tests.support.factories import OWNER
from tests.support.observed import nothing_written, problem
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")

MIB = 1024 * 1024


def fill(service: Service, user: str, count: int, items: int) -> list[int]:
    """Give the user so many orders of so many items; return their ids."""
    rows = service.rows(
        "WITH o AS (INSERT INTO orders (user_id) SELECT CAST(:user_id AS uuid)"
        "   FROM generate_series(1, CAST(:count AS int)) RETURNING id),"
        " i AS (INSERT INTO order_items (order_id, user_id, quantity, price,"
        "   product_variation, product_id, shop_id)"
        "   SELECT id, CAST(:user_id AS uuid), 10000, 1999, gen_random_uuid(),"
        "   gen_random_uuid(), gen_random_uuid()"
        "   FROM o, generate_series(1, CAST(:items AS int)) RETURNING id)"
        " SELECT id, (SELECT count(*) FROM i) FROM o",
        user_id=user,
        count=count,
        items=items,
    )
    return [row["id"] for row in rows]


def walk(service: Service, user: str, path: str) -> list[tuple[int, list[Any]]]:
    """Return the weight and the rows of each page of a list."""
    pages, at = [], path
    while at:
        response = service.crud("GET", at, user)
        assert response.status_code == 200, response.get_data(as_text=True)[:500]
        pages.append((len(response.data), response.get_json()))
        link = response.headers.get("Link", "<>")
        at = link[1 : link.index(">")]
    return pages


def test_a_page_of_large_orders_ends_before_8_mib(service: Service, user: str) -> None:
    ids = fill(service, user, 40, MAX_ITEMS)
    pages = walk(service, user, "/api/orders/?limit=200")
    assert [order["id"] for _, page in pages for order in page] == sorted(ids)[::-1]
    assert len(pages) == 2
    assert 7.5 * MIB < pages[0][0] <= 8 * MIB
    assert {len(order["items"]) for _, page in pages for order in page} == {MAX_ITEMS}


@pytest.mark.parametrize("limit", [1, 3, 200])
@pytest.mark.parametrize("most", [1, 700, 5000])
@pytest.mark.parametrize(
    "path",
    [
        "/api/orders/?",
        "/api/orders/?is_approved=false&",
        "/api/orders/?created_after=2020-01-01T00:00:00Z&is_approved=false&",
        "/api/order-items/?",
        "/api/order-items/?status=1&",
        "/api/order-items/?order={order}&",
    ],
)
def test_pages_cut_short_lose_nothing(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    most: int,
    limit: int,
) -> None:
    user = new_user()
    fill(service, user, 3, 2)
    [large] = fill(service, user, 1, 10)  # larger than a page may be
    fill(service, user, 3, 1)
    path = path.format(order=large)
    [(_, whole)] = walk(service, user, path)
    monkeypatch.setattr(reads, "MAX_PAGE_BYTES", most)
    pages = walk(service, user, f"{path}limit={limit}")
    assert [row for _, page in pages for row in page] == whole
    for weight, page in pages:
        assert 1 <= len(page) <= limit
        assert weight <= most or len(page) == 1


def test_a_cart_of_more_products_than_an_order_holds_is_left_alone(
    service: Service, user: str
) -> None:
    for _ in range(MAX_ITEMS + 1):
        service.sandbox.add_to_cart(user, new_user())
    cart = service.sandbox.cart(user)
    with nothing_written(service):
        body = problem(service.checkout(user), 409, "order-full")
    assert str(MAX_ITEMS) in body["detail"]
    assert service.sandbox.cart(user) == cart
    assert service.sandbox.calls_to("product") == []


def test_a_cart_of_many_lines_of_one_product_is_an_order_of_one_item(
    service: Service, user: str
) -> None:
    article = service.sandbox.add_article(amount=2 * MAX_ITEMS)
    for _ in range(MAX_ITEMS + 1):
        service.sandbox.add_to_cart(user, article)
    response = service.checkout(user)
    assert response.status_code == 201, response.get_data(as_text=True)[:500]
    assert response.get_json()["items_count"] == 1


def test_a_full_order_takes_no_item_until_one_is_deleted(
    service: Service, user: str
) -> None:
    [order] = fill(service, user, 1, MAX_ITEMS)
    line = {"order": order, "product_variation": service.sandbox.add_article()}
    with nothing_written(service):
        response = service.crud("POST", "/api/order-items/", user, json=line)
        problem(response, 409, "order-full")
    [(_, [newest])] = walk(service, user, f"/api/order-items/?order={order}&limit=1")[
        :1
    ]
    service.crud("DELETE", f"/api/order-items/{newest['id']}/", user)
    response = service.crud("POST", "/api/order-items/", user, json=line)
    assert response.status_code == 201, response.get_data(as_text=True)


def test_no_new_order_is_larger_however_it_is_made() -> None:
    lines = [Line(OWNER, 1, OWNER, OWNER, 5)] * (MAX_ITEMS + 1)
    ids = Ids(1, list(range(1, MAX_ITEMS + 2)), "2025-12-01T10:00:00.000000Z")
    assert len(orders.new_order(OWNER, lines[1:], ids).order.items) == MAX_ITEMS
    with pytest.raises(OrderFullError):
        orders.new_order(OWNER, lines, ids)
