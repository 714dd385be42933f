"""The statements of operators' lists, searches and charts, on a large database.

By index, reading little and sorting little: as `test_plans.py`, for what is only read.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.fill_statements import HEAVY
from common.database.engine import STATEMENTS
from common.operations.lookup import events, find, letters
from tests.support.database import connect, execute
from tests.support.modules import import_all
from tests.support.plans import GONE, ORDERS, PENDING, SENT, Use, complaint, filled

LOOKED_AT = 300  # instead of what a filtered page may look at
EVERYTHING = 2**62
COUNTED: dict[str, object] = {"unit": "day", "down_to": 18_000, "since": "2020-01-01"}
OF_LETTERS = {"source": None, "destination": None, "reason": None}
OF_ACTIONS = {"up_to": EVERYTHING, "operator": None, "action": None, "order_id": None}
# What a chart or a count shows is counted, to a bound.
MANY = 60_000
USES = {
    "console.actions": Use(OF_ACTIONS | {"limit": 50}),
    "console.actions_of_order": Use({"order_id": SENT}),
    "console.count": Use(COUNTED, reads=30_000, sorts=30_000),
    "console.count_actions": Use(OF_ACTIONS, reads=10_000),
    "console.count_backlog": Use({"unit": "day"}, reads=200_000, sorts=200_000),
    "console.count_latency": Use(
        {"unit": "day", "since": "2020-01-01"}, reads=MANY, sorts=MANY
    ),
    "console.edge": Use({"moment": "2025-12-01T10:00:00Z"}),
    "console.titles": Use({"order_id": SENT}),
    "dead_letters.count_all": Use(OF_LETTERS, reads=10_000),
    "dead_letters.count_open": Use(OF_LETTERS, reads=10_000),
    "dead_letters.groups": Use(reads=10_000, sorts=10_000),
    "search.number": Use({"id": SENT}),
}


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    with filled(postgres_url) as url:
        execute(
            url,
            "UPDATE orders SET metadata = jsonb_build_object('campaign', mod(id, 500),"
            " 'note', concat('n-', id)) WHERE mod(id, 2) = 0",
        )
        execute(
            url,
            'UPDATE orders SET metadata = metadata || \'{"a": "sale"}\''
            " WHERE mod(id, 400) = 0",
        )
        execute(url, "UPDATE outbox SET last_error = 'no' WHERE mod(id, 50) = 0")
        execute(url, "VACUUM ANALYZE")
        yield url


def wrong(url: str, statements: Iterator[tuple[str, str, Use]]) -> str:
    found = {name: complaint(url, sql, use) for name, sql, use in statements}
    return "\n".join(f"{name}: {what}" for name, what in found.items() if what)


def test_single_statements(url: str) -> None:
    import_all({"common.database.migrations"})
    assert not wrong(url, ((name, STATEMENTS[name], use) for name, use in USES.items()))


def given(url: str) -> dict[str, object]:
    """Return a value for each filter; few orders have it, or none."""
    [[shop, variation]] = execute(
        url, "SELECT shop_id, product_variation FROM order_items WHERE id = 30001"
    )
    return {
        "created_after": "2020-01-01",
        "created_before": "2024-01-01",  # older than all
        "is_approved": False,
        "is_late": True,
        "metadata": find.metadata_path("sale"),
        "product_variation": variation,
        "shop_id": shop,
        "status": 4,
        "user_id": HEAVY,
    }


def finds(url: str) -> Iterator[tuple[str, str, Use]]:
    values = given(url)
    for count in (0, 1, 2, len(values)):
        for names in itertools.combinations(sorted(values), count):
            asked = {name: values[name] for name in names if name != "is_late"}
            for depth, up_to in (("first", EVERYTHING), ("deep", GONE)):
                where = asked | {"up_to": up_to, "down_to": 1}
                label = f"({', '.join(names)}) {depth}"
                text = find._find_statement(names, LOOKED_AT).text
                use = Use(where | {"limit": 50}, reads=3000, sorts=400)
                yield f"console.find{label}", text.partition("\n")[2], use
                text = find._count_statement(names, LOOKED_AT).text
                use = Use(where, reads=3000, sorts=400)
                yield f"console.count_found{label}", text.partition("\n")[2], use


def test_searches_for_orders(url: str) -> None:
    assert not wrong(url, finds(url))


def lists() -> Iterator[tuple[str, str, Use]]:
    for place in events.PLACES:
        for is_of_order, is_newest_first in itertools.product((False, True), repeat=2):
            listing, counting = events._list_statements(
                place,
                is_of_order=is_of_order,
                is_newest_first=is_newest_first,
                newest=LOOKED_AT,
            )
            asked: dict[str, object] = {"destination": None, "type": None}
            asked["after"] = EVERYTHING if is_newest_first else 0
            if place != "sent":
                asked["reason"] = None
            if is_of_order:
                asked["order_id"] = SENT if place == "sent" else PENDING
            label = f"{place} of_order={is_of_order} newest={is_newest_first}"
            text = listing.text.partition("\n")[2]
            yield f"list {label}", text, Use(asked | {"limit": 50})
            yield f"count {label}", counting.text.partition("\n")[2], Use(asked)


def test_lists_of_events(url: str) -> None:
    assert not wrong(url, lists())


def of_letters() -> Iterator[tuple[str, str, Use]]:
    for state, is_newest_first in itertools.product(("open", "all"), (False, True)):
        statement = letters._list_statement(state, is_newest_first=is_newest_first)
        after = EVERYTHING if is_newest_first else 100
        asked = OF_LETTERS | {"after": after, "up_to": EVERYTHING, "limit": 50}
        text = statement.text.partition("\n")[2]
        yield f"{state} newest={is_newest_first}", text, Use(asked)


def test_lists_of_dead_letters(url: str) -> None:
    assert not wrong(url, of_letters())


def looked_for(url: str) -> Iterator[tuple[str, str, Use]]:
    values = given(url)
    [[event]] = execute(
        url,
        f"SELECT event_id FROM order_history WHERE order_id = {SENT}"
        " AND event_id IS NOT NULL LIMIT 1",
    )
    for what in (HEAVY, values["shop_id"], values["product_variation"], event):
        yield f"uuid {what}", STATEMENTS["search.uuid"], Use({"id": what}, reads=10)
    for text in (f"request-{SENT}", "no such request"):
        use = Use({"text": text}, reads=30, sorts=30)
        yield f"text {text}", STATEMENTS["search.text"], use


def test_what_the_search_box_looks_for(url: str) -> None:
    import_all({"common.database.migrations"})
    assert not wrong(url, looked_for(url))


def test_a_value_of_metadata_is_found_by_its_index(url: str) -> None:
    """What the function does is not in the plan of who calls it."""
    path = find.metadata_path("sale").replace("'", "''")
    asked = f"orders_with_metadata('{path}', 1, {EVERYTHING}, 10000)"
    assert len(execute(url, f"SELECT * FROM {asked}")) == ORDERS // 400
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)"
    with closing(connect(url)) as connection:
        for _ in range(2):  # the second time nothing is looked up in catalogues
            [[plan]] = connection.run(f"{explain} SELECT * FROM {asked}")
    [told] = plan if isinstance(plan, list) else json.loads(plan)
    touched = told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"]
    [[pages]] = execute(url, "SELECT relpages FROM pg_class WHERE relname = 'orders'")
    assert touched < pages / 2
