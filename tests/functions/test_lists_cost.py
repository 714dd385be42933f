"""What a list page costs, in rows that PostgreSQL reads for it.

A statement is prepared once a connection, and from its sixth run on PostgreSQL may
take a plan that does not look at the values. So each request is repeated first.
"""

from collections.abc import Iterator

import pytest

from common import wiring
from common.store import reads
from tests.support.service import Service, new_user
from tests.support.shared import shared_service

USER = new_user()
ORDERS = 8000  # of the user's; as many are somebody else's
LIMIT = 20


@pytest.fixture(scope="module")
def service(postgres_url: str, template_database: str) -> Iterator[Service]:
    with shared_service(postgres_url, template_database) as running:
        running.client("orders_crud")
        with wiring.engine().connect() as connection:
            connection.exec_driver_sql(
                "INSERT INTO orders (user_id)"
                f" SELECT CASE WHEN mod(n, 2) = 0 THEN CAST('{USER}' AS uuid)"
                "   ELSE gen_random_uuid() END"
                f" FROM generate_series(1, 2 * {ORDERS}) n"
            )
            connection.exec_driver_sql(
                "INSERT INTO order_items (order_id, user_id, quantity, price,"
                " product_variation, shop_id)"
                " SELECT id, user_id, 1, 5, user_id, user_id FROM orders ORDER BY id"
            )
            connection.exec_driver_sql("ANALYZE")
        yield running


def cost(service: Service, path: str) -> tuple[int, int]:
    """Return how many rows the request reads, and how many whole tables."""
    for _ in range(8):
        response = service.crud("GET", path, USER)
        assert response.status_code == 200, response.get_data(as_text=True)
        assert len(response.get_json()) == LIMIT
    before = _counters()
    service.crud("GET", path, USER)
    after = _counters()
    return after[0] - before[0], after[1] - before[1]


def _counters() -> tuple[int, int]:
    # The pool lends its last connection first: these are the same one's.
    with wiring.engine().connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    with wiring.engine().connect() as connection:
        [(tuples, scans)] = connection.exec_driver_sql(
            "SELECT sum(seq_tup_read + idx_tup_fetch), sum(seq_scan)"
            " FROM pg_stat_user_tables WHERE relname IN ('orders', 'order_items')"
        )
    return int(tuples), int(scans)


@pytest.mark.parametrize(
    "path",
    [
        "/api/orders/?",
        "/api/orders/?is_approved=false&",
        "/api/orders/?created_after=2020-01-01T00:00:00Z&",
        "/api/orders/?created_before=2999-01-01T00:00:00Z&is_approved=false&",
        "/api/order-items/?",
        "/api/order-items/?status=1&",
        f"/api/order-items/?shop_id={USER}&product_variation={USER}&",
    ],
)
def test_deep_page_costs_what_first_one_costs(service: Service, path: str) -> None:
    first = f"{path}limit={LIMIT}"
    rows_of_first, scans = cost(service, first)
    # A page's rows and one more, each order's items, and little else.
    assert LIMIT < rows_of_first <= 3 * (LIMIT + 1)
    assert scans == 0
    rows_of_deep, scans = cost(service, deep(service, first))
    assert rows_of_deep <= rows_of_first + LIMIT
    assert scans == 0


def test_a_page_that_ends_early_reads_no_further(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/api/orders/?limit=200"
    whole = service.crud("GET", path, USER)
    monkeypatch.setattr(reads, "MAX_PAGE_BYTES", len(whole.data) // 10)
    for _ in range(8):
        assert 15 <= len(service.crud("GET", path, USER).get_json()) <= 20
    before = _counters()
    service.crud("GET", path, USER)
    after = _counters()
    # Each order to be sure of the limit, and items of those that are built.
    assert after[0] - before[0] <= 201 + 24
    assert after[1] == before[1]


def deep(service: Service, path: str) -> str:
    """Return the address of a page in the last tenth, found by walking there."""
    at = path.replace(f"limit={LIMIT}", "limit=200")
    for _ in range(ORDERS * 9 // 10 // 200):
        link = service.crud("GET", at, USER).headers["Link"]
        at = link[1 : link.index(">")]
    return at.replace("limit=200", f"limit={LIMIT}")


def test_the_items_of_one_order_cost_no_more_than_they_are(service: Service) -> None:
    [row] = service.rows(
        "SELECT min(id) AS id FROM orders WHERE user_id = CAST(:user_id AS uuid)",
        user_id=USER,
    )
    path = f"/api/order-items/?order={row['id']}"
    for _ in range(8):
        assert len(service.crud("GET", path, USER).get_json()) == 1
    before = _counters()
    service.crud("GET", path, USER)
    after = _counters()
    assert after[0] - before[0] <= 2
