"""What the service did, read from its tables and responses.

An event counts as announced whether it is still in the outbox or has reached the sink.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from werkzeug.test import TestResponse

from common.telemetry.logs import JsonFormatter
from tests.support.service import Service

TABLES = (
    "orders",
    "order_items",
    "deleted_items",
    "order_history",
    "outbox",
    "idempotency_records",
    "ordered_lines",
    "dead_letters",
    "stock_holds",
)
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
MEMBERS = {"type", "title", "status", "detail", "instance", "error"}


def everything(service: Service) -> dict[str, list[str]]:
    """Return every row of every table and every event: equal when nothing happened."""
    found = service.rows(
        " UNION ALL ".join(
            f"SELECT '{table}' AS name, CAST(t AS text) AS content FROM {table} t"
            for table in TABLES
        )
    )
    rows: dict[str, list[str]] = {table: [] for table in TABLES}
    for row in found:
        rows[row["name"]].append(row["content"])
    told = [event.id for event in service.sandbox.events]
    return {name: sorted(content) for name, content in rows.items()} | {"told": told}


@contextmanager
def nothing_written(service: Service) -> Iterator[None]:
    """Check that what is done meanwhile leaves no row and no event."""
    before = everything(service)
    yield
    assert everything(service) == before


def history(service: Service, order_id: int) -> list[tuple[Any, ...]]:
    """Return its items' steps: item, from, to, who, request id, oldest first."""
    found = service.rows(
        "SELECT item_id, from_status, to_status, CAST(changed_by AS text) AS who,"
        " request_id FROM order_history"
        " WHERE order_id = :id AND item_id IS NOT NULL ORDER BY id",
        id=order_id,
    )
    return [tuple(row.values()) for row in found]


def announced(service: Service, order_id: int) -> list[dict[str, Any]]:
    """Return the bodies of the order's events so far, in their order."""
    waiting = service.rows(
        "SELECT body FROM outbox WHERE destination = 'http' AND order_id = :id"
        " ORDER BY id",
        id=order_id,
    )
    bodies = [event.json for event in service.sandbox.events]
    bodies += [json.loads(row["body"]) for row in waiting]
    return [body for body in bodies if _order_id(body) == order_id]


def check_moved(
    event: Mapping[str, Any], item: Mapping[str, Any], previous: int, status: int
) -> None:
    """Check that the event says, to the letter, that the item's status changed."""
    assert re.fullmatch(MOMENT, event["occurred_at"])
    assert event == {
        "event_type": "order.item.status.updated",
        "order_item_id": str(item["id"]),
        "order_id": str(item["order"]),
        "shop_id": item["shop_id"],
        "status": status,
        "previous_status": previous,
        "occurred_at": event["occurred_at"],
    }


def _order_id(body: dict[str, Any]) -> int:
    return int(body["data"]["order_id"] if "data" in body else body["order_id"])


def problem(response: TestResponse, status: int, slug: str) -> dict[str, Any]:
    """Check that the response is this problem, to the letter; answer its body."""
    shown = f"{response.status} {response.get_data(as_text=True)}"
    assert response.status_code == status, shown
    assert response.mimetype == "application/problem+json", shown
    body: dict[str, Any] = response.get_json()
    assert body["type"] == f"/problems/{slug}", shown
    assert set(body) >= MEMBERS, shown
    assert body["status"] == status, shown
    assert body["instance"] == response.request.path, shown
    assert body["title"], shown
    assert body["error"] == body["title"], shown
    assert body["detail"], shown
    assert response.headers["X-Request-ID"], shown
    return body


def refused_field(response: TestResponse, field: str) -> None:
    """Check that the response is a 400 that blames `field`, or a part of it."""
    body = problem(response, 400, "invalid-request")
    [(blamed, messages)] = body["errors"].items()
    assert blamed.split("[")[0].split(".")[0] == field or blamed.endswith(field), body
    assert messages, body
    assert body["detail"].startswith(blamed), body


@contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """Yield the service's log lines as they are written."""
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    handler = Keep()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("orders")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
