"""Metrics: what is counted, what is measured, who may see it."""

import re
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
from tests.support.service import Service, new_user

REQUESTS = "http_server_request_duration_seconds"


@pytest.fixture
def shown(service: Service) -> Service:
    service.set(METRICS="true")
    return service


def metrics_of(service: Service, function: str = "orders_crud") -> dict[str, float]:
    """Answer every sample by its name with labels, as a scrape finds them."""
    answer = service.call(function, "GET", "/metrics")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4"
    found = {}
    for line in answer.get_data(as_text=True).splitlines():
        if not line.startswith("# "):
            assert re.fullmatch(r'[a-z_]+(\{[a-z]+=".*"\})? [0-9.e+-]+', line), line
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_requests_are_counted_by_route_and_status_with_their_durations(
    shown: Service, user: str
) -> None:
    shown.crud("GET", "/api/orders/", user)
    shown.crud("GET", "/api/orders/", user)
    shown.crud("GET", "/api/orders/999/", user)
    shown.crud("GET", "/who/knows/what", user)
    found = metrics_of(shown)
    labels = 'service="orders_crud",method="GET",route="/api/orders/",status="200"'
    assert found[f"{REQUESTS}_count{{{labels}}}"] == 2
    assert found[f'{REQUESTS}_bucket{{{labels},le="+Inf"}}'] == 2
    assert 0 < found[f"{REQUESTS}_sum{{{labels}}}"] < 20
    counted = [name for name in found if name.startswith(f"{REQUESTS}_count")]
    assert len(counted) == 3
    assert any('route="(none)",status="404"' in name for name in counted)


def test_buckets_add_up(shown: Service, user: str) -> None:
    shown.crud("GET", "/api/orders/", user)
    found = metrics_of(shown)
    buckets = [value for name, value in found.items() if "_bucket" in name]
    assert buckets == sorted(buckets)


def test_callers_cannot_make_up_methods_to_fill_the_memory(shown: Service) -> None:
    for number in range(5):
        shown.call("orders_crud", f"BREW{number}", "/api/orders/")
    counted = [n for n in metrics_of(shown) if n.startswith(f"{REQUESTS}_count")]
    assert len(counted) == 1
    assert 'method="(other)"' in counted[0]


def test_what_waits_is_measured_for_each_destination(shown: Service, user: str) -> None:
    shown.sandbox.fault("sink", status=503)
    shown.ordered(user, 1)
    shown.rows("UPDATE outbox SET created_at = now() - interval '90 s', doubts = 1")
    shown.rows("UPDATE outbox SET available_at = now() + interval '1 hour'")
    shown.sweep()
    found = metrics_of(shown, "outbox_relay")
    assert found['orders_outbox_events{destination="http"}'] == 2
    assert found['orders_outbox_doubtful_events{destination="http"}'] == 2
    age = found['orders_outbox_oldest_age_seconds{destination="http"}']
    assert 90 <= age < 150
    assert found['orders_deliveries_total{destination="http",outcome="deferred"}'] == 1


def test_what_no_longer_waits_is_measured_as_nothing(shown: Service, user: str) -> None:
    shown.sandbox.fault("sink", status=503)
    shown.ordered(user)
    shown.rows("UPDATE outbox SET available_at = now() + interval '1 hour'")
    shown.sweep()
    shown.rows("DELETE FROM outbox")
    shown.sweep()
    found = metrics_of(shown, "outbox_relay")
    assert found['orders_outbox_events{destination="http"}'] == 0


def test_dead_letters_and_the_lag_of_approvals_are_measured(
    shown: Service, user: str
) -> None:
    shown.call("approval_handler", "POST", "/", data=b"{")
    completed(shown, user, DELIVERED)
    shown.sweep()
    found = metrics_of(shown, "outbox_relay")
    assert found["orders_dead_letters"] == 1
    assert found["orders_approval_lag_seconds"] == 0  # the sweep has approved it


# Who may see it.


def test_there_is_no_metrics_page_unless_it_is_asked_for(service: Service) -> None:
    assert service.call("orders_crud", "GET", "/metrics").status_code == 404


@pytest.mark.parametrize("on", [{"K_SERVICE": "x"}, {"RUNNING_ON_CLOUDRUN": "true"}])
def test_on_cloud_run_there_is_none_at_all(on: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^METRICS must not be true on Cloud Run"):
        load({"METRICS": "true", **on}, needs=())


# To a collector.


class MetricsCollector:
    """Takes metrics as OTLP over HTTP."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.routes: set[str] = set()

    @Request.application
    def __call__(self, request: Request) -> Response:
        if not request.path.endswith("/v1/metrics"):
            return Response()
        sent = ExportMetricsServiceRequest.FromString(request.get_data())
        for resource in sent.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self.names.add(metric.name)
                    for point in metric.histogram.data_points:
                        self.routes |= {
                            each.value.string_value
                            for each in point.attributes
                            if each.key == "http.route"
                        }
        return Response()


@pytest.fixture
def collector() -> Iterator[tuple[MetricsCollector, str]]:
    found = MetricsCollector()
    with serving(found) as url:
        yield found, url


def test_a_collector_gets_all_of_it_under_opentelemetrys_names(
    service: Service, collector: tuple[MetricsCollector, str]
) -> None:
    found, url = collector
    service.set(OTEL_EXPORTER_OTLP_ENDPOINT=url)
    user = new_user()
    service.sandbox.fault("sink", status=503)
    service.ordered(user)
    service.rows("UPDATE outbox SET available_at = now() + interval '1 hour'")
    service.sweep()
    service.crud("GET", "/api/orders/", user)
    assert service.call("orders_crud", "GET", "/metrics").status_code == 404
    service.close()
    assert found.names == {
        "http.server.request.duration",
        "orders.deliveries",
        "orders.outbox_events",
        "orders.outbox_oldest_age",
        "orders.outbox_doubtful_events",
        "orders.dead_letters",
        "orders.approval_lag",
    }
    assert "/api/orders/" in found.routes
