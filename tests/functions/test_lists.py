"""Lists: bare arrays, newest first, page by page along the Link header."""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.observed import refused_field
from tests.support.service import Service, new_user
from tests.support.shared import service_of_file

service = pytest.fixture(service_of_file, scope="module")

LISTS = ["/api/orders/", "/api/order-items/"]


def fill(service: Service, user: str, count: int) -> None:
    """Give the user so many orders of one item each, and a stranger some between."""
    service.rows(
        "WITH o AS (INSERT INTO orders (user_id)"
        "   SELECT CAST(u AS uuid) FROM generate_series(1, CAST(:count AS int)),"
        "   unnest(ARRAY[:user_id, :stranger]) AS u RETURNING id, user_id),"
        " i AS (INSERT INTO order_items (order_id, user_id, quantity, price,"
        "   product_variation) SELECT id, user_id, 1, 5, user_id FROM o RETURNING id)"
        " SELECT count(*) FROM i",
        count=count,
        user_id=user,
        stranger=new_user(),
    )


CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
METADATA = st.dictionaries(
    st.text(CHARACTERS, min_size=1, max_size=40), st.text(CHARACTERS), max_size=5
)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(
    {'"\\/\b\f\n\r\t\x01\x7f': '"\\/\b\f\n\r\t\x1f\u2028\ufeff\U0001f600', "%": "%s"}
)
@given(METADATA)
def test_what_is_read_is_what_was_written_whatever_characters_it_holds(
    service: Service, metadata: dict[str, str]
) -> None:
    user = new_user()
    made = service.crud("POST", "/api/orders/", user, json={"metadata": metadata})
    order, path = made.get_json(), made.headers["Location"]
    assert order["metadata"] == metadata
    assert service.crud("GET", path, user).get_json() == order
    assert service.crud("GET", "/api/orders/", user).get_json() == [order]
    more = {"metadata": {"one": "more"}}
    changed = service.crud("PATCH", path, user, json=more).get_json()
    assert changed == order | {"metadata": metadata | {"one": "more"}}


def test_item_without_shop_and_product_has_nulls(service: Service, user: str) -> None:
    fill(service, user, 1)
    [item] = service.crud("GET", "/api/order-items/", user).get_json()
    assert (item["product_id"], item["shop_id"]) == (None, None)
    one = service.crud("GET", f"/api/order-items/{item['id']}/", user)
    assert one.get_json() == item
    [order] = service.crud("GET", "/api/orders/", user).get_json()
    assert order["items"] == [item]


def next_page(link: str | None) -> str | None:
    if link is None:
        return None
    found = re.fullmatch(r'<(/[^>]+)>; rel="next"', link)
    assert found, link
    return found[1]


def walk(service: Service, user: str, path: str | None) -> list[list[dict[str, Any]]]:
    pages = []
    while path:
        response = service.crud("GET", path, user)
        assert response.status_code == 200, response.get_data(as_text=True)
        pages.append(response.get_json())
        path = next_page(response.headers.get("Link"))
    return pages


@pytest.mark.parametrize("path", LISTS)
def test_list_is_bare_and_newest_first(service: Service, user: str, path: str) -> None:
    fill(service, user, 3)
    response = service.crud("GET", path, user)
    assert response.mimetype == "application/json"
    rows = response.get_json()
    assert [type(row) for row in rows] == [dict] * 3
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids, reverse=True)
    assert "Link" not in response.headers
    [owned] = service.rows(
        "SELECT count(*) AS n FROM orders WHERE user_id = CAST(:user_id AS uuid)",
        user_id=user,
    )
    assert owned["n"] == 3


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "size"), [("", 50), ("?limit=1", 1), ("?limit=200", 200)]
)
def test_a_page_has_50_rows_or_as_many_as_the_limit_says(
    service: Service, user: str, path: str, query: str, size: int
) -> None:
    fill(service, user, 201)
    response = service.crud("GET", path + query, user)
    assert len(response.get_json()) == size
    assert next_page(response.headers["Link"])


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "limit", ["0", "-1", "201", "9" * 13, "", "ten", "1.0", "1e1", "+5", "٣", "5\n"]
)
def test_a_limit_outside_of_1_to_200_is_a_400_that_names_it(
    service: Service, user: str, path: str, limit: str
) -> None:
    response = service.crud("GET", path, user, query_string={"limit": limit})
    refused_field(response, "limit")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("count", "sizes"), [(6, [3, 3]), (7, [3, 3, 1]), (3, [3]), (2, [2])]
)
def test_pages_follow_each_other_to_the_end_without_gap_or_repeat(
    service: Service, user: str, path: str, count: int, sizes: list[int]
) -> None:
    fill(service, user, count)
    whole = service.crud("GET", path, user).get_json()
    pages = walk(service, user, path + "?limit=3")
    assert [len(page) for page in pages] == sizes
    assert [row for page in pages for row in page] == whole


@pytest.mark.parametrize("path", LISTS)
def test_walk_is_unmoved_by_new_rows(service: Service, user: str, path: str) -> None:
    fill(service, user, 7)
    expected = service.crud("GET", path, user).get_json()
    seen: list[dict[str, Any]] = []
    at: str | None = path + "?limit=2"
    while at:
        response = service.crud("GET", at, user)
        seen += response.get_json()
        at = next_page(response.headers.get("Link"))
        service.ordered(user)
    assert seen == expected


def test_a_cursor_outlives_the_row_it_points_at(service: Service, user: str) -> None:
    fill(service, user, 4)
    first = service.crud("GET", "/api/orders/?limit=2", user)
    newest, second = first.get_json()
    service.crud("DELETE", f"/api/orders/{second['id']}/", user)
    link = next_page(first.headers["Link"])
    assert link
    rest = service.crud("GET", link, user).get_json()
    everything = service.crud("GET", "/api/orders/", user).get_json()
    assert everything == [newest, *rest]


# What was asked for, and how the link asks for it.
LINKED = {
    "/api/orders/?limit=1&is_approved=FALSE&created_after=2020-01-01T02:00:00.5%2B02:00"
    "&created_before=2999-01-01 00:00:00Z": "limit=1&is_approved=false"
    "&created_after=2020-01-01T00%3A00%3A00.500000Z"
    "&created_before=2999-01-01T00%3A00%3A00Z",
    "/api/order-items/?status=1&limit=001": "limit=1&status=1",
    "/api/order-items/?limit=1&product_variation={USER}": (
        "limit=1&product_variation={user}"
    ),
}


@pytest.mark.parametrize("asked", LINKED)
def test_link_has_the_known_parameters_in_one_spelling(
    service: Service, user: str, asked: str
) -> None:
    fill(service, user, 3)
    names = {"user": user, "USER": user.replace("-", "").upper()}
    path = asked.format(**names)
    more = "&x=a%26b&x=%C3%A4&y=%3E%3B+rel%3D%22prev%22&user_id=1&offset=5"
    linked = LINKED[asked].format(**names)
    for _ in range(2):
        link = next_page(service.crud("GET", path + more, user).headers["Link"])
        assert link
        kept, _, cursor = link.rpartition("&cursor=")
        assert kept == f"{asked.partition('?')[0]}?{linked}"
        assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
        path = link


@pytest.mark.parametrize("path", LISTS)
def test_link_is_short_however_long_the_request(
    service: Service, user: str, path: str
) -> None:
    fill(service, user, 3)
    long = "&".join(f"{name}={'ä' * 900}" for name in ("x", "x", "limit_", "é" * 900))
    headers = {"X-Forwarded-Prefix": "/a" * 2000}
    first = service.crud("GET", f"{path}?limit=1&{long}", user, headers=headers)
    assert len(first.headers["Link"]) < 1000


def test_strangers_cursor_shows_nothing_of_them(service: Service, user: str) -> None:
    fill(service, user, 3)
    link = service.crud("GET", "/api/orders/?limit=1", user).headers["Link"]
    path = next_page(link)
    assert path
    assert service.crud("GET", path, new_user()).get_json() == []


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "1",
        "AAAAAAAAAAA",  # 0
        "__________8",  # -1
        "AAAAAAAABAC=",
        "AAAAAAAABAB",  # bits left over
        "AAAAAAAAAAEAAAAA",
        "AAAAAAAA+/E",
        "ä" * 11,
        "%00" * 11,
        "A" * 4000,
    ],
)
def test_a_cursor_that_no_list_gave_out_is_a_400_that_names_it(
    service: Service, user: str, path: str, cursor: str
) -> None:
    response = service.crud("GET", path, user, query_string={"cursor": cursor})
    refused_field(response, "cursor")
