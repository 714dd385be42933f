"""The line that alerts are made of: what the relay says of the backlog, each minute."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common import logs
from tests.support.approvals import DELIVERED, completed
from tests.support.relay_worker import relay_worker
from tests.support.service import Service
from tests.support.worker import eventually

CALM = {
    "oldest_event_seconds": 0,
    "oldest_event_destination": None,
    "oldest_unapproved_seconds": 0,
    "open_dead_letters": 0,
    "approved_by_sweep": 0,
}


@pytest.fixture
def swept(service: Service) -> Iterator[Callable[[], dict[str, Any]]]:
    """Call the relay as the scheduler does; answer the one line, as it is written."""
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    keep = Keep()
    keep.setFormatter(logs.JsonFormatter())
    logger = logs.get("signals")

    def sweep() -> dict[str, Any]:
        lines.clear()
        service.sweep()
        [line] = lines
        return line

    service.set(LOG_LEVEL="INFO")
    logger.addHandler(keep)
    yield sweep
    logger.removeHandler(keep)


def told(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in CALM}


def age(service: Service, table: str, column: str) -> None:
    service.rows(f"UPDATE {table} SET {column} = {column} - interval '1 hour'")


def test_a_pass_that_leaves_nothing_behind_says_so(
    swept: Callable[[], dict[str, Any]],
) -> None:
    line = swept()
    assert (line["severity"], line["message"]) == ("INFO", "backlog")
    assert told(line) == CALM


def test_the_oldest_event_tells_its_age_and_where_it_should_have_gone(
    service: Service, user: str, swept: Callable[[], dict[str, Any]]
) -> None:
    service.sandbox.fault("sink", status=503)
    service.ordered(user)
    age(service, "outbox", "created_at")
    service.ordered(user)
    line = told(swept())
    assert 3600 <= line.pop("oldest_event_seconds") < 3700
    assert line.pop("oldest_event_destination") == "http"
    assert line.items() <= CALM.items()


def test_an_event_that_an_operator_sends_again_does_not_count_as_old(
    service: Service, user: str, swept: Callable[[], dict[str, Any]]
) -> None:
    service.sandbox.fault("sink", status=503)
    service.ordered(user)
    age(service, "outbox", "created_at")
    service.rows("UPDATE outbox SET is_resend = true")
    assert told(swept()) == CALM


def test_what_the_sweep_approved_is_counted_and_no_longer_late(
    service: Service, user: str, swept: Callable[[], dict[str, Any]]
) -> None:
    completed(service, user, DELIVERED)
    assert told(swept()) == CALM | {"approved_by_sweep": 1}


def test_a_complete_order_that_cannot_be_approved_is_late_since_its_last_change(
    service: Service, user: str, swept: Callable[[], dict[str, Any]]
) -> None:
    order = completed(service, user, DELIVERED)
    age(service, "orders", "created_at")
    service.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE lock_not_available; END'"
    )
    service.rows(
        "CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW"
        " WHEN (NEW.is_approved) EXECUTE FUNCTION refuse()"
    )
    assert told(swept())["oldest_unapproved_seconds"] < 3600
    # The history cannot be changed, so its last entry is made to be missing.
    service.rows("ALTER TABLE order_history DISABLE TRIGGER USER")
    service.rows("DELETE FROM order_history WHERE order_id = :id", id=order["id"])
    assert 3600 <= told(swept())["oldest_unapproved_seconds"] < 3700


def test_dead_letters_count_until_somebody_has_dealt_with_them(
    service: Service, swept: Callable[[], dict[str, Any]]
) -> None:
    for _ in range(2):
        service.call("approval_handler", "POST", "/", data=b"junk")
    assert told(swept()) == CALM | {"open_dead_letters": 2}
    service.rows("UPDATE dead_letters SET settled_as = 'discarded', settled_at = now()")
    assert told(swept()) == CALM


def test_worker_tells_same_with_its_chores(service: Service, tmp_path: Path) -> None:
    service.call("approval_handler", "POST", "/", data=b"junk")
    with relay_worker(service, tmp_path / "log", LOG_LEVEL="INFO") as running:
        eventually(lambda: "backlog" in running.messages())
        [line] = [line for line in running.said() if line["message"] == "backlog"]
    assert told(line) == CALM | {"open_dead_letters": 1}
