"""What a caller sees when the service itself is in trouble, and what the log says."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.logs import JsonFormatter
from tests.support.observed import problem
from tests.support.service import Service

# An order's metadata cannot be read or written: an error that nobody expects.
DEFECT = (
    "DO $$ BEGIN ALTER TABLE orders RENAME TO real_orders;"
    " CREATE VIEW orders AS SELECT id, user_id, version, created_at, is_approved,"
    " is_complete, approved_at, cart_id, to_jsonb(1 / (id - id)) AS metadata"
    " FROM real_orders; END $$"
)


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
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


def test_the_unexpected_is_a_500_problem_that_tells_the_caller_nothing(
    service: Service, user: str
) -> None:
    order = service.ordered(user)
    service.rows(DEFECT)
    item_id = order["items"][0]["id"]
    for response in (
        service.crud("GET", f"/api/orders/{order['id']}/", user),
        service.crud("POST", "/api/orders/", user, json={}),
        service.crud("PATCH", f"/api/orders/{order['id']}/", user, json={}),
        service.move(item_id, 2),
    ):
        body = problem(response, 500, "internal-error")
        assert set(body) == {"type", "title", "status", "detail", "instance", "error"}
        shown = response.get_data(as_text=True)
        for secret in ("SELECT", "division", "Traceback", "pg8000", "sqlalchemy"):
            assert secret not in shown


def test_the_log_tells_what_the_caller_is_not_told_under_the_same_request_id(
    service: Service, user: str
) -> None:
    service.ordered(user)
    service.rows(DEFECT)
    with logged() as lines:
        headers = {"X-Request-ID": "find-me"}
        service.crud("GET", "/api/orders/", user, headers=headers)
    [line] = [line for line in lines if line["severity"] == "ERROR"]
    assert line["request_id"] == "find-me"
    assert "division by zero" in line["exception"]
    assert "Traceback" in line["exception"]


def test_what_request_did_wrong_is_no_error_in_log(service: Service, user: str) -> None:
    with logged() as lines:
        service.crud("POST", "/api/orders/", user, data="{", headers={})
        service.crud("GET", "/api/orders/?limit=0", user)
        service.crud("GET", "/nowhere", user)
        service.crud("BREW", "/api/orders/", user)
    assert [line for line in lines if line["severity"] == "ERROR"] == []
