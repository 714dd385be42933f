"""Every statement on a database that is large enough to plan for.

By index, reading little and sorting little, whichever plan PostgreSQL takes. One that
is new is missed here by its name: say with what values, and how much it may read.
"""

import functools
import itertools
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.fill_statements import HEAVY
from common.database.engine import STATEMENTS
from common.store import orders, reads
from common.store.orders import Target
from tests.support.modules import import_all
from tests.support.plans import (
    BIG,
    GONE,
    PENDING,
    SENT,
    Use,
    complaint,
    filled,
    reads_whole,
)

BUS = "rabbitmq"
REFERENCED = {"orders", "order_items"}  # by foreign keys: cannot be emptied alone
LOOKED_AT = 300  # instead of what a filtered page may look at
NEW = 10**9
EVENT = str(uuid.UUID(int=7))
CHANGE = {
    "order_id": NEW,
    "version": 1,
    "user_id": HEAVY,
    "at": "2025-12-01T10:00:00Z",
    "is_complete": False,
    "is_approved": False,
    "metadata": {},
    "actor": HEAVY,
    "actor_kind": "user",
    "request_id": "r",
    "cart_id": 5,
    "holds": None,
    "released": [SENT * 3],
    "changed": [{"id": SENT * 3, "status": 2, "quantity": 1}],
    "added": [
        {"id": NEW, "status": 1, "quantity": 1, "product_variation": HEAVY}
        | {"product_id": HEAVY, "shop_id": HEAVY, "price": 5}
    ],
    "removed": [],
    "history": [
        {"position": 0, "kind": "order.approved", "event_id": EVENT}
        | {"destinations": [BUS]}
    ],
    "events": [
        {"position": 0, "destination": BUS, "event_id": EVENT}
        | {"event_type": "order.created", "body": "{}", "is_claimed": True}
    ],
    "records": [
        {"user_id": HEAVY, "scope": "key", "key": "new", "fingerprint": "f"}
        | {"status": 201, "headers": {}, "body": "x", "keep_hours": 24}
        | {"lines": [NEW, NEW + 1]}
    ],
}
CLAIM = {"user_id": HEAVY, "scope": "key", "key": "7", "fingerprint": "f"}
CLAIMS = [
    CLAIM,
    CLAIM | {"scope": "cart", "lines": [SENT * 3 - 1, SENT * 3, NEW]},
    CLAIM | {"scope": "cart", "empty_cart_id": GONE + 1000},
]
DECISIONS = [{"id": PENDING * 16 + 1, "attempts": 0, "retry_seconds": 2.0}]


def change(**members: Any) -> dict[str, object]:
    return {"change": json.dumps(CHANGE | members)}


def used(name: str) -> dict[str, object]:
    """Return those of a user's values that a statement has."""
    import_all({"common.database.migrations"})
    return {key: v for key, v in OF_USER.items() if f":{key}" in STATEMENTS[name]}


def audited(low: int) -> Use:
    """A chunk of 50 orders: some 550 entries, which more than one scan may read."""
    return Use({"low": low, "high": low + 49}, reads=4000, sorts=1500, is_audit=True)


SEARCHED: dict[str, object] = {"before": 2**63 - 1, "step": 200, "event_id": EVENT}
OF_EVENT = {"order_id": SENT, "event_id": EVENT}
# A doctor looks at both ends of the queue, ten thousand rows each.
SAMPLED = {"reads": 60_000, "sorts": 20_000}
RECORDED = {"operator": "o", "reason": "r", "differences": "[]"}
SEALED = {"low": 12_288, "high": 14_335}
# Of no order: what is not being erased is append-only.
OF_USER = {"user_id": HEAVY, "erased": EVENT, "id": NEW}
OF_NOTHING = (
    *("audit.begin", "audit.plan", "db.ping", "listening.hear", "outbox.notify"),
    *("readiness.revision", "restore.sequences", "signals.measure"),
)
OF_LETTER = ("dead_letters.discard", "dead_letters.one", "dead_letters.replay")
USES: dict[str, Use] = {
    **dict.fromkeys(OF_NOTHING, Use()),
    **dict.fromkeys(OF_LETTER, Use({"id": 77})),
    "acknowledgements.read": Use({"low": 1000, "high": 1100}, is_audit=True),
    "acknowledgements.record": Use(RECORDED),
    "approval.forgotten": Use({"limit": 500}),
    "audit.events": audited(PENDING - 60),
    "audit.first": Use({"low": 0, "high": 2**62}),
    "audit.last": Use({"low": 0, "high": 2**62}),
    "audit.orders": audited(SENT - 60),
    "audit.tally": audited(SENT - 60),
    "audit.recorded": audited(SENT - 60),
    "backlog.copy_to_outbox": Use({"id": SENT * 16 + 1}),
    "backlog.confirm": Use({"id": PENDING * 16 + 1}),
    "backlog.event": Use(OF_EVENT),
    "backlog.make_due": Use({"id": PENDING * 16 + 1}),
    "backlog.lock_event": Use({"event_id": "x"}),
    "backlog.search_dead_letters": Use(SEARCHED),
    "backlog.search_outbox": Use(SEARCHED),
    "backlog.search_sent_events": Use(SEARCHED),
    "cancelled.item": Use({"id": SENT * 3}),
    "console.begin": Use(
        {"form_id": EVENT, "operator": "o", "action": "a", "order_id": SENT}
        | {"given": "{}", "reason": "r", "request_id": "r"}
    ),
    "console.earlier": Use({"form_id": EVENT}),
    "console.end": Use({"outcome": "done", "letter": 77, "id": 77}),
    "dead_letters.insert": Use(
        {"source": "approval", "reason": "no", "body": "x", "headers": "{}"}
        | {"event_id": None, "event_type": None, "order_id": 5}
    ),
    "backlog.due_now": Use({"destination": BUS}, reads=12_000),
    "backlog.order_of_event": Use({"event_id": EVENT}),
    "reports.read": Use(),
    "reports.write": Use(
        {"destination": BUS, "served_by": "x", "error": None, "failed_at": None}
        | {"next_try_seconds": 1.0}
    ),
    "diagnosis.connections": Use(),
    "diagnosis.events": Use({"grace_seconds": 120, "is_whole": True}, **SAMPLED),
    "diagnosis.release": Use(**SAMPLED),
    "diagnosis.rest": Use({"grace_seconds": 120, "is_whole": True}, **SAMPLED),
    "idempotency.begin": Use(
        {"claims": json.dumps(CLAIMS), "items": 5, "order_id": None}
    ),
    "idempotency.keep": Use({"records": json.dumps(CHANGE["records"])}),
    "idempotency.purge": Use({"after": None, "batch": 200}),
    "marks.advance": Use({"destination": BUS, "is_blind": False}),
    "marks.last": Use(),
    "marks.search": Use({"low": PENDING * 16 - 500, "high": PENDING * 16}),
    "outbox.claim_any": Use({"seconds": 60, "destination": BUS}, reads=1300),
    "outbox.claim_order": Use(
        {"seconds": 60, "destinations": f"{{{BUS},analytics}}", "order_id": PENDING}
    ),
    "outbox.purge": Use({"days": 20, "batch": 200, "after": 0}),
    "outbox.record_results": Use(
        {"sent": f"{{{PENDING * 16 + 2}}}", "decisions": json.dumps(DECISIONS)}
        | {"destinations": f"{{{BUS}}}", "order_id": PENDING}
    ),
    "outbox.record_sent": Use(
        {"sent": f"{{{PENDING * 16 + 2}}}"}
        | {"destinations": f"{{{BUS}}}", "order_id": PENDING}
    ),
    "reads.item": Use({"id": GONE * 3, "user_id": HEAVY}),
    "timeline.of_owner": Use({"id": SENT, "user_id": HEAVY, "after": 0, "limit": 50}),
    "timeline.whole": Use({"id": PENDING, "before": 2**63 - 1, "limit": 200}),
    "reads.order": Use({"id": GONE, "user_id": HEAVY}),
    "probes.claim": Use({"destination": BUS}, reads=600, sorts=500),
    "probes.release": Use({"destination": BUS}, reads=60_000),  # after an outage only
    "readiness.check": Use(
        {"tables": "{orders,outbox}", "rights": "{SELECT,DELETE}"}
        | {"sequences": "{orders_id_seq}"}
    ),
    "restore.backlog": Use(reads=15_000, sorts=10_000),  # rare, as all of these
    "restore.doubt": Use({"after": 0, "up_to": 2**62}, reads=15_000, sorts=5000),
    "restore.end": Use({"outcome": "done", "id": 77}),
    "restore.given_up": Use(reads=6000),
    "restore.lost": Use(reads=30_000, sorts=30_000),
    "restore.record": Use({"operator": "o", "given": "{}", "reason": "r"}),
    "restore.skip": Use({"sequence": "orders_id_seq", "to": 1}),
    "restore.versions": Use({"after": 0, "second": 1}, reads=20_000),
    "seals.next": Use({"low": None}),
    "seals.seal": Use(SEALED, **SAMPLED),  # ten thousand orders at once
    "seals.vanished": Use(SEALED, **SAMPLED),
    "signals.backlog": Use(reads=25_000),  # as many as it may count, each minute
    "snapshots.read": Use({"seconds": 60}),
    "store.save_changed": Use(change(order_id=SENT, version=5, added=[])),
    "store.save_deleted": Use(change(order_id=SENT, version=5, added=[])),
    "store.save_new": Use(change(version=0)),
    "users.count_keys": Use({"user_id": HEAVY}, reads=6000),
    "users.deleted_orders": Use({"user_id": HEAVY, "after": 0, "step": 200}),
    "users.erase_keys": Use({"user_id": HEAVY}, reads=6000),
    "users.keys": Use({"user_id": HEAVY}, reads=6000, sorts=6000),
    "users.obstacles": Use({"id": SENT, "final": "{3,4}"}),
    "users.order": Use({"id": SENT}),
    "users.orders": Use({"user_id": HEAVY}, reads=6000),  # all of a user's
    **{
        f"users.erase_{name}": Use(used(f"users.erase_{name}"))
        for name in (
            *("actions", "cart", "dead_letters", "events", "history", "items"),
            *("begin", "lines", "order"),
        )
    },
    "retention.confirm_holds": Use(reads=40_000),
    "retention.purge_holds": Use({"settle": 5}, reads=12_000),
    "retention.overdue_holds": Use({"settle": 5}, reads=12_000),
    "retention.settle_holds": Use({"lines": "[]", "read_at": "now", "settle": 5}),
}
# Those of operators' lists, searches and charts: `test_plans_operators.py`.
OPERATORS = (
    *("backlog.count_pending", "backlog.count_pending_of_order", "backlog.count_sent"),
    *("backlog.count_sent_of_order", "backlog.pending", "backlog.pending_of_order"),
    *("backlog.sent", "backlog.sent_of_order", "console.actions"),
    *("console.actions_of_order", "console.count", "console.count_actions"),
    *("console.count_backlog", "console.count_latency"),
    *("console.edge", "console.titles", "dead_letters.all"),
    *("dead_letters.count_all", "dead_letters.count_open", "dead_letters.groups"),
    *("dead_letters.open", "search.number", "search.text", "search.uuid"),
)
# One name, many statements: each combination of filters, of conditions.
OF_MANY = {
    "console.count_found",
    "console.find",
    "reads.page_of_orders",
    "reads.page_of_order_items",
    "store.load",
    "store.lock",
}


def pages() -> Iterator[tuple[str, str, Use]]:
    """Return every statement of a list: all combinations of what it can be asked."""
    given: dict[str, dict[str, object]] = {
        "orders": {
            "is_approved": False,
            "created_after": "2020-01-01",
            "created_before": "2024-01-01",  # older than all
        },
        "order_items": {
            "order": GONE,
            "status": 4,
            "shop_id": HEAVY,  # nobody's
            "product_variation": HEAVY,
        },
    }
    for table, values in given.items():
        for count in range(len(values) + 1):
            for names in itertools.combinations(sorted(values), count):
                statement = reads._page_statement(table, names, LOOKED_AT)
                asked = {name: values[name] for name in names}
                asked |= {"user_id": HEAVY, "limit": 50, "max_bytes": 2**23}
                label = f"reads.page_of_{table}({', '.join(names)})"
                for depth, up_to in (("first", 2**63 - 1), ("deep", GONE)):
                    use = Use(asked | {"up_to": up_to})
                    yield f"{label} {depth}", statement.text, use


def loads() -> Iterator[tuple[str, str, Use]]:
    for target in (
        Target(order_id=SENT),
        Target(item_id=SENT * 3),
        Target(order_id=SENT, user_id=uuid.UUID(HEAVY)),
        Target(item_id=SENT * 3, user_id=uuid.UUID(HEAVY)),
    ):
        where, values = target.condition()
        for made in (orders._load_statement, orders._lock_statement):
            yield f"{made.__name__} {where}", made(where).text, Use(values)


@functools.cache
def all_statements() -> dict[str, tuple[str, Use]]:
    import_all({"common.database.migrations"})
    found = {name: (STATEMENTS[name], use) for name, use in USES.items()}
    for label, sql, use in (*pages(), *loads()):
        found[label] = (sql.partition("\n")[2], use)  # without its name
    return {name: each for name, each in found.items() if has_plan(each[0])}


def has_plan(sql: str) -> bool:
    """Return whether it is a statement, and not a command such as LISTEN."""
    return sql.split(maxsplit=1)[0] in ("SELECT", "WITH", "UPDATE", "DELETE", "INSERT")


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    with filled(postgres_url) as url:
        yield url


def test_every_statement_is_looked_at() -> None:
    all_statements()
    missing = STATEMENTS.keys() - OF_MANY - USES.keys() - set(OPERATORS)
    assert not missing, (
        f"add each to USES, with values that the filled tables have: {missing}"
    )
    gone = {*USES, *OPERATORS} - STATEMENTS.keys()
    assert not gone, f"these statements are gone: {gone}"


def test_no_statement_reads_or_sorts_more_than_it_needs(url: str) -> None:
    wrong = {}
    for name, (sql, use) in all_statements().items():
        if found := complaint(url, sql, use):
            wrong[name] = found
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())


def test_a_plan_of_an_empty_table_does_not_read_all_that_comes(url: str) -> None:
    emptied = [table for table in BIG if table not in REFERENCED]
    wrong = [
        f"{name}: {table}"
        for name, (sql, use) in all_statements().items()
        for table in emptied
        if re.search(rf"\b{table}\b", sql) and reads_whole(url, sql, use, table)
    ]
    # After a restore, once, an operator reads all actions.
    assert wrong == ["restore.given_up: operator_actions"]
