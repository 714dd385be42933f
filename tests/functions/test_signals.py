"""What alerts are made of: the relay's line on the backlog, and metrics over OTLP."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from werkzeug.wrappers import Request, Response

from common.config.environment import ConfigError
from common.config.settings import load
from common.telemetry import logs
from infra.local.http_server import serving
from tests.support.approvals import DELIVERED, completed
from tests.support.database import connect
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
    """Call the relay as the scheduler does; return the one line, as it is written."""
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


def test_pass_with_nothing_left_says_so(swept: Callable[[], dict[str, Any]]) -> None:
    line = swept()
    assert (line["severity"], line["message"]) == ("INFO", "backlog")
    assert told(line) == CALM


def test_it_is_said_even_where_only_errors_are_logged(
    service: Service, tmp_path: Path
) -> None:
    service.call("approval_handler", "POST", "/", data=b"junk")
    with relay_worker(service, tmp_path / "log", LOG_LEVEL="ERROR") as running:
        eventually(lambda: "backlog" in running.messages())
        assert set(running.messages()) == {"backlog"}


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


def test_the_oldest_snapshot_tells_its_age_and_its_owner(
    service: Service, swept: Callable[[], dict[str, Any]]
) -> None:
    with closing(connect(service.environ["DATABASE_URL"])) as holder:
        holder.run("SET application_name = 'a report'")
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.run("SELECT 1")
        time.sleep(1.1)
        line = swept()
    assert line["oldest_snapshot_seconds"] >= 1
    assert "a report" in line["oldest_snapshot_owner"]


def test_worker_tells_same_with_its_chores(service: Service, tmp_path: Path) -> None:
    service.call("approval_handler", "POST", "/", data=b"junk")
    with relay_worker(service, tmp_path / "log", LOG_LEVEL="INFO") as running:
        eventually(lambda: "backlog" in running.messages())
        [line] = [line for line in running.said() if line["message"] == "backlog"]
    assert told(line) == CALM | {"open_dead_letters": 1}


REQUESTS = "http.server.request.duration"

# A metric and what it is told apart by, sorted.
Key = tuple[str, *tuple[str, ...]]


class Collector:
    """Takes metrics as OTLP over HTTP; a histogram's value is its count."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._values: dict[Key, float] = {}

    @Request.application
    def __call__(self, request: Request) -> Response:
        if not request.path.endswith("/v1/metrics"):
            return Response()
        sent = ExportMetricsServiceRequest.FromString(request.get_data())
        for metric in sent.resource_metrics[0].scope_metrics[0].metrics:
            data = getattr(metric, metric.WhichOneof("data"))
            for point in data.data_points:
                values = [(a.key, a.value) for a in point.attributes]
                told = [f"{k}={v.string_value or v.int_value}" for k, v in values]
                value = getattr(point, "count", 0) or point.as_double or point.as_int
                self._values[metric.name, *sorted(told)] = value
        return Response()

    def values(self) -> dict[Key, float]:
        """Return what has come in once the functions have ended."""
        self._service.restart()
        return self._values

    def requests(self) -> dict[Key, float]:
        """Return how many requests of `orders_crud` were counted."""
        return {
            tuple(each for each in key[1:] if each != "service=orders_crud"): value
            for key, value in self.values().items()
            if key[0] == REQUESTS
        }


@pytest.fixture
def collector(service: Service) -> Iterator[Collector]:
    found = Collector(service)
    with serving(found) as url:
        service.set(OTEL_EXPORTER_OTLP_ENDPOINT=url)
        yield found
        service.restart()


def test_requests_are_counted_by_method_route_and_status(
    service: Service, user: str, collector: Collector
) -> None:
    for _ in range(2):
        service.crud("GET", "/api/orders/", user)
    service.crud("GET", "/who/knows/what", user)
    for number in range(5):  # callers cannot make up names to fill the memory
        service.call("orders_crud", f"BREW{number}", "/nowhere/")
    method, status = "http.request.method", "http.response.status_code"
    assert collector.requests() == {
        (f"{method}=GET", f"{status}=200", "http.route=/api/orders"): 2,
        (f"{method}=GET", f"{status}=404"): 1,
        (f"{method}=_OTHER", f"{status}=404"): 5,
    }


def test_what_waits_is_measured_for_each_destination_until_it_has_gone(
    service: Service, user: str, collector: Collector
) -> None:
    service.sandbox.fault("sink", status=503)
    service.ordered(user, 1)
    service.rows("UPDATE outbox SET created_at = now() - interval '90 s', doubts = 1")
    service.rows("UPDATE outbox SET available_at = now() + interval '1 hour'")
    service.sweep()
    found = collector.values()
    http = "destination=http"
    assert found["orders.outbox_events", http] == 2
    assert found["orders.outbox_doubtful_events", http] == 2
    assert 90 <= found["orders.outbox_oldest_age", http] < 150
    # By the request, and by the sweep, which asks whether the sink is well again.
    assert found["orders.deliveries", http, "outcome=deferred"] == 2
    service.sweep()
    service.rows("DELETE FROM outbox")
    service.sweep()
    assert collector.values()["orders.outbox_events", http] == 0


def test_dead_letters_and_the_lag_of_approvals_are_measured(
    service: Service, user: str, collector: Collector
) -> None:
    service.call("approval_handler", "POST", "/", data=b"{")
    completed(service, user, DELIVERED)
    service.sweep()
    found = collector.values()
    assert found["orders.dead_letters",] == 1
    assert found["orders.approval_lag",] == 0  # the sweep has approved it


def test_the_setting_of_the_page_that_is_gone_names_what_to_use_instead() -> None:
    with pytest.raises(ConfigError, match=r"^METRICS is gone.*_OTLP_ENDPOINT"):
        load({"METRICS": "true"}, needs=())
    load({"METRICS": "false"}, needs=())
