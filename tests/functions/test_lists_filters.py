"""Filters of lists, each and combined, against the same choice made by hand."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from common.store import reads
from tests.support.observed import problem, refused_field
from tests.support.service import Service, new_user
from tests.support.shared import shared_service

Row = dict[str, Any]
FIRST = datetime(2025, 12, 1, 10, 0, 0, 500_000, tzinfo=UTC)
USER = new_user()
SHOPS = [new_user(), new_user()]
VARIATIONS = [new_user(), new_user()]


@pytest.fixture(scope="module")
def service(postgres_url: str, template_database: str) -> Iterator[Service]:
    with shared_service(postgres_url, template_database) as running:
        for hour in range(6):
            _add(running, USER, hour)
            _add(running, new_user(), hour)
        yield running


def _add(service: Service, user: str, hour: int) -> None:
    """Add an order of two items; each third is approved."""
    is_approved = hour % 3 == 2
    statuses = (3, 4) if is_approved else (1 + hour % 2, 1)
    [order] = service.rows(
        "WITH o AS (INSERT INTO orders"
        " (user_id, created_at, is_complete, is_approved, approved_at) VALUES"
        " (CAST(:user_id AS uuid), :created_at, :approved, :approved, :approved_at)"
        " RETURNING id) SELECT id FROM o",
        user_id=user,
        created_at=FIRST + timedelta(hours=hour),
        approved=is_approved,
        approved_at=FIRST if is_approved else None,
    )
    for index, status in enumerate(statuses):
        service.rows(
            "WITH i AS (INSERT INTO order_items (order_id, user_id, status, quantity,"
            " price, product_variation, product_id, shop_id) VALUES (:order_id,"
            " CAST(:user_id AS uuid), :status, 1, 5, CAST(:variation AS uuid),"
            " CAST(:variation AS uuid), CAST(:shop AS uuid)) RETURNING id)"
            " SELECT id FROM i",
            order_id=order["id"],
            user_id=user,
            status=status,
            variation=VARIATIONS[(hour + index) % 2],
            shop=SHOPS[hour // 3],
        )


def listed(service: Service, path: str, query: dict[str, str]) -> list[Row]:
    response = service.crud("GET", path, USER, query_string=query)
    assert response.status_code == 200, response.get_data(as_text=True)
    rows: list[Row] = response.get_json()
    return rows


def at(hours: float) -> datetime:
    return FIRST + timedelta(hours=hours)


def created(order: Row) -> datetime:
    return datetime.fromisoformat(order["created_at"])


Choice = tuple[dict[str, str], Callable[[Row], bool]]
ORDER_CHOICES: list[list[Choice]] = [
    [
        ({}, lambda _: True),
        ({"is_approved": "true"}, lambda o: o["is_approved"]),
        ({"is_approved": "False"}, lambda o: not o["is_approved"]),
    ],
    [
        ({}, lambda _: True),
        ({"created_after": at(1).isoformat()}, lambda o: created(o) > at(1)),
    ],
    [
        ({}, lambda _: True),
        ({"created_before": at(4).isoformat()}, lambda o: created(o) < at(4)),
    ],
]
ITEM_CHOICES: list[list[Choice]] = [
    [({}, lambda _: True)]
    + [({"status": str(s)}, lambda i, s=s: i["status"] == s) for s in (1, 2, 3, 4)],
    [({}, lambda _: True)]
    + [({"shop_id": s}, lambda i, s=s: i["shop_id"] == s) for s in SHOPS],
    [
        ({}, lambda _: True),
        (
            {"product_variation": VARIATIONS[1].upper()},
            lambda i: i["product_variation"] == VARIATIONS[1],
        ),
    ],
]


@pytest.mark.parametrize(
    ("path", "choices"),
    [("/api/orders/", ORDER_CHOICES), ("/api/order-items/", ITEM_CHOICES)],
)
def test_filters_narrow_a_list_each_and_all_together(
    service: Service, path: str, choices: list[list[Choice]]
) -> None:
    whole = listed(service, path, {})
    kinds = set()
    for combination in itertools.product(*choices):
        query = {k: v for part, _ in combination for k, v in part.items()}
        expected = [row for row in whole if all(fits(row) for _, fits in combination)]
        assert listed(service, path, query) == expected, query
        kinds.add(len(expected))
    assert len(kinds) > 3  # the choices do differ


def test_items_are_narrowed_to_an_order_of_the_callers(service: Service) -> None:
    orders = listed(service, "/api/orders/", {})
    for order in orders:
        query = {"order": str(order["id"])}
        found = listed(service, "/api/order-items/", query)
        assert found == order["items"][::-1]
        both = query | {"status": "1"}
        assert listed(service, "/api/order-items/", both) == [
            item for item in found if item["status"] == 1
        ]
    [other] = service.rows(
        "SELECT max(id) AS id FROM orders WHERE user_id <> CAST(:user_id AS uuid)",
        user_id=USER,
    )
    assert listed(service, "/api/order-items/", {"order": str(other["id"])}) == []
    assert listed(service, "/api/order-items/", {"order": str(2**63 - 1)}) == []


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/orders/", "is_approved=false&created_after=2025-12-01T10:30:00Z"),
        ("/api/orders/", "created_before=2025-12-01T16:00:00+01:00"),
        ("/api/order-items/", "status=1"),
    ],
)
def test_a_filter_holds_on_every_page(service: Service, path: str, query: str) -> None:
    whole = service.crud("GET", f"{path}?{query}", USER).get_json()
    assert len(whole) > 2
    seen = []
    at_path = f"{path}?{query}&limit=1"
    for _ in whole:
        response = service.crud("GET", at_path, USER)
        seen += response.get_json()
        link = response.headers.get("Link", "<>")
        at_path = link[1 : link.index(">")]
    assert seen == whole
    assert at_path == ""


# The same moment in all its spellings: the third order's.
MOMENTS = [
    *("2025-12-01T12:00:00.500000Z", "2025-12-01T12:00:00.5Z"),
    *("2025-12-01T12:00:00.5z", "2025-12-01t12:00:00.5Z"),
    *("2025-12-01T12:00:00.5-00:00", "2025-12-01T12:00:00.5%2B00:00"),
    *("2025-12-01T14:00:00.5%2B02:00", "2025-12-01T14:00:00.5+02:00"),
    *("2025-12-01T14:00:00.5%2002:00", "2025-12-01T06:30:00.5-05:30"),
    "2025-12-02T01:45:00.5+13:45",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_moment_has_forms_and_excludes_itself(service: Service, moment: str) -> None:
    for name, count in (("created_after", 3), ("created_before", 2)):
        response = service.crud("GET", f"/api/orders/?{name}={moment}", USER)
        assert response.status_code == 200, response.get_data(as_text=True)
        hours = {created(order) for order in response.get_json()}
        assert len(hours) == count, name
        assert at(2) not in hours


BAD: dict[str, list[str]] = {
    "is_approved": ["", "1", "0", "yes", "null", "true,false", "True "],
    "created_after": [
        *("", "yesterday", "2025-12-01", "2025-12-01T10:00:00", "2025-12-01T10:00Z"),
        *("1764583200", "2025-13-01T10:00:00Z", "2025-02-30T10:00:00Z"),
        *("2025-12-01T25:00:00Z", "2025-12-01T10:00:00+99:00", "2025-12-01T10:00:00+"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"),
        *("10000-01-01T00:00:00Z", "-2025-12-01T10:00:00Z", "2025-12-01T10:00:00Z\x00"),
    ],
    "order": ["", "0", "-1", "1.0", "x", "٣", str(2**63), "9" * 4000, "1 ", "0x1"],
    "status": ["", "0", "01", "5", "-1", "1.0", "processing", "true", "1,2", "٣"],
    "shop_id": ["", "x", "null", USER[:-1], f"{{{USER}}}", f"urn:uuid:{USER}", "\x00"],
}
BAD["created_before"] = BAD["created_after"]
BAD["product_variation"] = BAD["shop_id"]
OF_ORDERS = ("is_approved", "created_after", "created_before")


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_value_is_400_that_names_parameter(service: Service, name: str) -> None:
    path = "/api/orders/" if name in OF_ORDERS else "/api/order-items/"
    for value in BAD[name]:
        response = service.crud("GET", path, USER, query_string={name: value})
        refused_field(response, name)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/orders/", "is_approved=true&is_approved=false"),
        ("/api/orders/", "limit=1&limit=1"),
        ("/api/order-items/", "status=1&status=2"),
    ],
)
def test_repeated_parameter_is_a_400(service: Service, path: str, query: str) -> None:
    response = service.crud("GET", f"{path}?{query}", USER)
    refused_field(response, query.partition("=")[0])


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/api/orders/", OF_ORDERS),
        ("/api/order-items/", sorted(BAD.keys() - set(OF_ORDERS))),
        ("/api/orders/1/timeline/", ()),
    ],
)
def test_all_bad_parameters_are_named(
    service: Service, path: str, wrong: Sequence[str]
) -> None:
    query = {name: BAD[name][0] for name in wrong} | {"limit": "0", "cursor": "!"}
    response = service.crud("GET", path, USER, query_string=query)
    body = problem(response, 400, "invalid-request")
    assert body["errors"].keys() == query.keys()
    assert body["errors"]["limit"] == ["must be a whole number from 1 to 200"]
    for name in list(body["errors"])[:3]:
        assert f"{name}: {body['errors'][name][0]}" in body["detail"]


def test_unknown_parameters_are_ignored(service: Service) -> None:
    whole = listed(service, "/api/orders/", {})
    odd = {"user_id": new_user(), "status": "x", "offset": "-1", "\x00": "\x00"}
    assert listed(service, "/api/orders/", odd) == whole
    response = service.crud("GET", "/api/orders/?%ff=%ff&&=&x", USER)
    assert response.get_json() == whole


@pytest.mark.parametrize("most", [1, 2, 5, 11, 12])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/orders/", {"is_approved": "true", "created_after": FIRST.isoformat()}),
        ("/api/orders/", {"created_before": at(1.5).isoformat()}),
        ("/api/orders/", {"created_after": at(9).isoformat()}),
        ("/api/order-items/", {"status": "4"}),
        (
            "/api/order-items/",
            {"shop_id": SHOPS[0], "product_variation": VARIATIONS[0]},
        ),
    ],
    ids=["approved after", "before", "after", "status", "shop and variation"],
)
def test_a_page_that_may_look_at_little_is_short_and_loses_nothing(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    query: dict[str, str],
    most: int,
) -> None:
    whole = listed(service, path, query)
    monkeypatch.setattr(reads, "MAX_ROWS_SCANNED", most)
    found: list[Row] = []
    pages = [f"{path}?{urlencode(query | {'limit': '2'})}"]
    for page in pages:
        response = service.crud("GET", page, USER)
        found += response.get_json()
        assert len(response.get_json()) <= min(2, most)
        if link := response.headers.get("Link"):
            pages.append(link[1 : link.index(">")])
    assert found == whole
    # A page for so many rows that were looked at, and none that looks at nothing.
    rows = 6 if path == "/api/orders/" else 12
    assert len(pages) <= -(-rows // most) + len(whole)


def test_indexed_page_full(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else there is: a caller's approved orders, the items of an order."""
    monkeypatch.setattr(reads, "MAX_ROWS_SCANNED", 1)
    assert len(listed(service, "/api/orders/", {"is_approved": "true"})) == 2
    assert len(listed(service, "/api/orders/", {"is_approved": "false"})) == 4
    [order, *_] = listed(service, "/api/orders/", {})
    found = listed(service, "/api/order-items/", {"order": str(order["id"])})
    assert len(found) == 2


def test_the_last_page_that_looked_at_all_it_may_has_no_next(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = {"created_after": at(9).isoformat()}
    monkeypatch.setattr(reads, "MAX_ROWS_SCANNED", 6)  # all there are
    assert (
        "Link"
        not in service.crud("GET", "/api/orders/", USER, query_string=query).headers
    )
    monkeypatch.setattr(reads, "MAX_ROWS_SCANNED", 5)
    assert (
        "Link" in service.crud("GET", "/api/orders/", USER, query_string=query).headers
    )
