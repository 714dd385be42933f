"""One user's locks in PostgreSQL, all of them held; another's requests do not wait.

A request that ran into one of the locks would not be late but refused, since waits for
locks are bounded.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from werkzeug.test import TestResponse

from tests.support.database import connect
from tests.support.service import Service, new_user

KEY = {"Idempotency-Key": "k"}
# Every table that has rows of users; None: those of the user's orders.
ROWS = {
    "orders": "user_id",
    "order_items": "user_id",
    "idempotency_records": "user_id",
    "ordered_lines": "user_id",
    "order_history": None,
    "outbox": None,
    "sent_events": None,
}


@contextlib.contextmanager
def all_locked(url: str, user: str) -> Iterator[None]:
    """Hold a lock on every row of a user's, and be about to take a key of theirs."""
    holder = connect(url)
    holder.run("BEGIN")
    of_user = f"SELECT id FROM orders WHERE user_id = '{user}'"
    for table, column in ROWS.items():
        mine = f"{column} = '{user}'" if column else f"order_id IN ({of_user})"
        found = holder.run(f"SELECT 1 FROM {table} WHERE {mine} FOR UPDATE")
        assert found, f"nothing of {table} is locked"
    holder.run(
        "INSERT INTO idempotency_records"
        " (user_id, scope, key, fingerprint, status, headers, body)"
        f" VALUES ('{user}', 'key', 'another', 'f', 201, '{{}}', '')"
    )
    try:
        yield
    finally:
        holder.close()


def busy_with_everything(service: Service, user: str) -> dict[str, Any]:
    """Order, so that each table has rows of the user's; return the order."""
    service.sandbox.fault("sink", status=503, times=1)  # something stays in the outbox
    order = service.ordered(user, 1, 1)
    service.sandbox.mend("sink")
    service.crud("POST", "/api/orders/", user, json={}, headers=KEY)
    item = {"product_variation": order["items"][0]["product_variation"]}
    assert (
        service.crud("POST", "/api/orders/", user, json={"items": [item]}).status_code
        == 201
    )
    return order


def requests(
    service: Service, user: str, order: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], TestResponse]]]:
    """Yield each kind of request, and what sends it."""
    orders, items = "/api/orders/", "/api/order-items/"
    first, second = (item["id"] for item in order["items"])
    article = service.sandbox.add_article(amount=100)
    service.sandbox.empty_cart(user)
    service.sandbox.add_to_cart(user, article)
    path = f"{orders}{order['id']}/"
    line = {"order": order["id"], "product_variation": article}
    key = {"Idempotency-Key": "another"}

    def crud(method: str, address: str, **kwargs: Any) -> Callable[[], TestResponse]:
        return lambda: service.crud(method, address, user, **kwargs)

    yield "list orders", crud("GET", orders)
    yield "list items", crud("GET", f"{items}?status=1")
    yield "read", crud("GET", path)
    yield "check out", lambda: service.checkout(user, Idempotency_Key="another-cart")
    yield "create", crud("POST", orders, json={}, headers=key)
    yield "change", crud("PATCH", path, json={"metadata": {"a": "b"}})
    yield "add", crud("POST", items, json=line)
    yield "more of it", crud("PATCH", f"{items}{first}/", json={"quantity": 2})
    yield "cancel", crud("PATCH", f"{items}{first}/", json={"status": 4})
    yield "remove", crud("DELETE", f"{items}{second}/")
    yield "delete", crud("DELETE", path)


def test_nothing_waits_for_a_lock_on_somebody_elses_rows(service: Service) -> None:
    stuck, user = new_user(), new_user()
    busy_with_everything(service, stuck)
    order = busy_with_everything(service, user)
    with all_locked(service.environ["DATABASE_URL"], stuck):
        for name, send in requests(service, user, order):
            answer = send()
            assert answer.status_code in (200, 201, 204), (name, answer.get_json())
        moved = service.ordered(user, 1)
        assert service.move(moved["items"][0]["id"], 3, user=user).status_code == 200
        assert service.trigger_approval(moved["id"]).status_code == 204
        # It bites: whose rows they are is refused, after a bounded wait.
        own = {"Idempotency-Key": "another"}
        made = service.crud("POST", "/api/orders/", stuck, json={}, headers=own)
        assert made.status_code == 409, made.get_json()
