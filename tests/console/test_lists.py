"""Lists that go on: pages, filters, counts, order; and the same to take away."""

import csv
import io
import json
import re
import uuid
from typing import Any

import pytest

from common import wiring
from common.operations.lookup import find, takeaway
from tests.support.console import Console, Json, read
from tests.support.service import Service


@pytest.fixture
def waiting(service: Service) -> list[str]:
    """Seven events of one type of their own that wait, oldest first."""
    kind = f"test.{uuid.uuid4()}"
    service.has_made_up_events = True
    rows = service.rows(
        "INSERT INTO outbox (destination, order_id, event_id, event_type, body,"
        " available_at, last_error, held_since) SELECT 'nowhere', 900 + n,"
        " gen_random_uuid(), :type, '{}', now() + interval '1 day',"
        " CASE WHEN n < 4 THEN 'answered 500' END, CASE WHEN n = 7 THEN now() END"
        " FROM generate_series(1, 7) n ORDER BY n"
        " RETURNING event_type, CAST(order_id AS text) AS order_id",
        type=kind,
    )
    return [kind, *(row["order_id"] for row in rows)]


def orders_of(text: str) -> list[str]:
    """Return the orders that a page of events links to."""
    return re.findall(r'data-name="Order"><a href="/ops/orders/(\d+)/"', text)


def page(console: Console, path: str) -> str:
    response = console.get(path)
    assert response.status_code == 200, read(response).text
    return str(response.get_data(as_text=True))


def next_page(text: str) -> str:
    found = re.findall(r'rel="next" href="/ops/([^"]+)"', text)
    return str(found[0]).replace("&amp;", "&") if found else ""


@pytest.mark.parametrize("sort", ["oldest", "newest"])
def test_events_go_on_until_the_last_one(
    console: Console, waiting: list[str], sort: str
) -> None:
    kind, *expected = waiting
    path, seen = f"events/?type={kind}&limit=3&sort={sort}", []
    for _ in range(4):
        text = page(console, path)
        assert "Found: 7" in text
        seen += orders_of(text)
        if not (path := next_page(text)):
            break
    assert seen == (expected if sort == "oldest" else expected[::-1])


def test_events_are_filtered_by_what_failed_and_what_is_held(
    console: Console, waiting: list[str]
) -> None:
    kind, *expected = waiting
    failed = page(console, f"events/?type={kind}&place=failed")
    assert orders_of(failed) == expected[:3]
    assert "answered 500" in failed
    assert orders_of(page(console, f"events/?type={kind}&place=held")) == expected[6:]
    reason = page(console, f"events/?type={kind}&place=failed&reason=answered%20500")
    assert "Found: 3" in reason
    assert orders_of(page(console, f"events/?order={expected[2]}&type={kind}")) == [
        expected[2]
    ]


def test_each_card_leads_to_what_it_counts(console: Console) -> None:
    links = read(console.get("")).links
    for path in (
        "/ops/events/?place=held",
        "/ops/events/?place=failed",
        "/ops/letters/",
        "/ops/orders/?is_late=true",
    ):
        assert path in links
        assert console.client.get(path, headers=console.headers).status_code == 200


def test_late_orders_are_listed(service: Service, console: Console, user: str) -> None:
    late, done = service.ordered(user, 1), service.ordered(user, 1)
    service.rows("UPDATE orders SET is_complete = true WHERE id = :id", id=late["id"])
    text = page(console, f"orders/?is_late=true&user_id={user}")
    assert f"/ops/orders/{late['id']}/" in text
    assert f"/ops/orders/{done['id']}/" not in text
    assert f"/ops/orders/{late['id']}/" in page(console, "orders/?is_late=true")


def test_orders_of_a_variation_are_listed(
    service: Service, console: Console, user: str
) -> None:
    order = service.ordered(user, 1)
    variation = order["items"][0]["product_variation"]
    text = page(console, f"orders/?product_variation={variation}")
    assert f"/ops/orders/{order['id']}/" in text
    assert "Found: 0" in page(console, f"orders/?product_variation={uuid.uuid4()}")


def test_dead_letters_go_on_both_ways(service: Service, console: Console) -> None:
    reason = f"no {uuid.uuid4()}"
    rows = service.rows(
        "INSERT INTO dead_letters (source, reason, body) SELECT 'approval', :reason, ''"
        " FROM generate_series(1, 5) RETURNING id",
        reason=reason,
    )
    ids = [str(row["id"]) for row in rows]
    for sort, expected in (("oldest", ids), ("newest", ids[::-1])):
        path, seen = f"letters/?reason={reason}&limit=2&sort={sort}", []
        for _ in range(4):
            text = page(console, path)
            assert "Found: 5" in text
            seen += re.findall(r'"Letter"><a href="/ops/letters/(\d+)/"', text)
            if not (path := next_page(text)):
                break
        assert seen == expected


def test_actions_are_filtered(service: Service, console: Console, user: str) -> None:
    order = service.ordered(user, 1)
    version = console.version(order)
    console.act("set-metadata", order=order["id"], version=version, key="a", value="b")
    text = page(console, f"actions/?order={order['id']}")
    assert "Found: 1" in text
    assert "Change metadata" in text
    assert "Found: 0" in page(console, f"actions/?order={order['id']}&action=approve")
    assert "Found: 0" in page(console, f"actions/?order={order['id']}&operator=x@y.z")


# To take away


def csv_rows(console: Console, path: str) -> list[dict[str, str]]:
    response = console.get(path)
    assert (response.status_code, response.mimetype) == (200, "text/csv")
    assert "attachment" in response.headers["Content-Disposition"]
    return list(csv.DictReader(io.StringIO(response.get_data(as_text=True))))


def json_rows(console: Console, path: str) -> list[Any]:
    response = console.get(path)
    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    return [json.loads(line) for line in response.get_data(as_text=True).splitlines()]


@pytest.fixture
def orders(service: Service, user: str, monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """Five orders, of which a page has two."""
    monkeypatch.setattr(takeaway, "PAGE", 2)
    return [service.ordered(user, n + 1) for n in range(5)]


def test_the_orders_of_a_filter_are_taken_away_whole(
    console: Console, orders: list[Json], user: str
) -> None:
    rows = csv_rows(console, f"orders.csv?user_id={user}")
    ids = [str(order["id"]) for order in orders][::-1]
    assert [row["id"] for row in rows] == ids
    order = orders[-1]
    total = sum(item["price"] * item["quantity"] for item in order["items"])
    assert rows[0]["total_minor"] == str(total)
    assert (rows[0]["processing"], rows[0]["is_approved"]) == ("1", "false")
    found = json_rows(console, f"orders.ndjson?user_id={user}")
    assert [str(row["id"]) for row in found] == ids
    assert found[0]["created_at"] == order["created_at"]
    assert f"/ops/orders.csv?user_id={user}" in page(console, f"orders/?user_id={user}")


def test_what_stopped_goes_on_after_the_last_id(
    console: Console, orders: list[Json], user: str
) -> None:
    whole = console.get(f"orders.csv?user_id={user}").get_data(as_text=True)
    third = orders[2]["id"]
    rest = console.get(f"orders.csv?user_id={user}&resume={third}")
    lines = whole.splitlines()
    assert rest.get_data(as_text=True).splitlines() == lines[4:]
    assert console.get("orders.csv?resume=x").status_code == 400


def test_every_list_can_be_taken_away(
    console: Console, orders: list[Json], waiting: list[str]
) -> None:
    assert orders
    kind, *expected = waiting
    rows = csv_rows(console, f"events.csv?type={kind}")
    assert [row["order_id"] for row in rows] == expected
    assert "body" not in rows[0]
    rows = json_rows(console, f"events.ndjson?type={kind}&resume={rows[4]['id']}")
    assert [str(row["order_id"]) for row in rows] == expected[5:]
    for name in ("letters", "actions", "events"):
        assert console.get(f"{name}.csv").status_code == 200
        assert console.get(f"{name}.ndjson").status_code == 200
    assert console.get("orders.xml").status_code == 404
    assert console.get("nothing.csv").status_code == 404


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_no_cell_is_a_formula_or_breaks_a_line(
    service: Service, console: Console, sign: str
) -> None:
    mark = str(uuid.uuid4())
    reason = f'{sign}1+1,"{mark}\n\r\u2028@x'
    service.rows(
        "INSERT INTO dead_letters (source, reason, body)"
        " VALUES ('approval', :reason, '')",
        reason=reason,
    )
    text = console.get("letters.csv?source=approval").get_data(as_text=True)
    [line] = [line for line in text.splitlines() if mark in line]
    [cell] = [cell for cell in next(csv.reader([line])) if mark in cell]
    assert cell == "'" + reason.replace("\n", "\\n").replace("\r", "\\r").replace(
        "\u2028", "\\u2028"
    )


def test_a_stream_reads_a_page_at_a_time(orders: list[Json], user: str) -> None:
    """Nothing holds more than the page that is being sent."""
    read_pages = []
    read_orders = takeaway.orders({"user_id": user})

    def counted(connection: Any, after: int | None) -> Any:
        read_pages.append(after)
        return read_orders(connection, after)

    text = takeaway.stream(wiring.engine(), counted, "ndjson")
    assert len(next(text).splitlines()) == 2
    assert read_pages == [None]
    assert sum(len(part.splitlines()) for part in text) == len(orders) - 2
    assert len(read_pages) == 3


@pytest.mark.parametrize("form", takeaway.FORMATS)
def test_a_download_is_sent_as_it_is_read(
    console: Console,
    orders: list[Json],
    user: str,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The console never holds a list whole, however long it is."""
    reads, read_page = [], find.find
    monkeypatch.setattr(
        find, "find", lambda *a, **k: (reads.append(k["after"]), read_page(*a, **k))[1]
    )
    response = console.get(f"orders.{form}?user_id={user}")
    parts = response.iter_encoded()
    next(parts)
    assert len(reads) == 1
    rest = b"".join(parts).decode()
    assert len(rest.splitlines()) == len(orders) - 2
    assert len(reads) == 3
