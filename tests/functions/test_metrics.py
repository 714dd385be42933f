"""Metrics: what is counted, what is measured, as a collector gets it over OTLP."""

from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from werkzeug.wrappers import Request, Response

from common.config import load
from common.environment import ConfigError
from infra.local.http_server import serving
from tests.support.approvals import DELIVERED, completed
from tests.support.service import Service

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
        """Answer what has come in once the functions have ended."""
        self._service.restart()
        return self._values

    def requests(self) -> dict[Key, float]:
        """Answer how many requests of `orders_crud` were counted."""
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
    assert found["orders.deliveries", http, "outcome=deferred"] == 1
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
