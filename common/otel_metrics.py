"""Metrics to a collector over OTLP, under OpenTelemetry's names.

Lives here: instruments, and when they are read. Not here: the numbers (`metrics.py`),
spans (`otel.py`). Surprise: where a process gets no time between requests the end of a
request sends them, at most once in `EVERY_SECONDS`.
"""

import time
from collections.abc import Callable, Iterable

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from common import metrics

EVERY_SECONDS = 60.0
FLUSH_MILLISECONDS = 2000
SCOPE = "orders"


def exporter() -> MetricExporter:
    """Answer the way to the collector that OTEL_… variables name; opens nothing yet."""
    return OTLPMetricExporter()


class Meters:
    """Reads the process's numbers regularly, and sends them by `exporter`."""

    def __init__(self, exporter: MetricExporter, service_name: str) -> None:
        reader = PeriodicExportingMetricReader(exporter)
        self._exporter = exporter
        self._provider = MeterProvider(
            [reader],
            Resource.create({"service.name": service_name}),
            shutdown_on_exit=False,
        )
        meter = self._provider.get_meter(SCOPE)
        self._seconds = meter.create_histogram(
            "http.server.request.duration",
            "s",
            "How long requests took.",
            explicit_bucket_boundaries_advisory=metrics.BUCKETS,
        )
        meter.create_observable_counter(
            "orders.deliveries", [_deliveries], "{event}", "Attempts to send an event."
        )
        for name, about in metrics.ABOUT.items():
            unit = "s" if name.endswith("_seconds") else "1"
            meter.create_observable_gauge(_renamed(name), [_gauge(name)], unit, about)
        self._flushed_at = time.monotonic()
        metrics.listen(self._record)

    def flush_if_due(self) -> None:
        """Send what was counted, where that was not done for a while."""
        if time.monotonic() - self._flushed_at >= EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what was counted."""
        self._flushed_at = time.monotonic()
        self._provider.force_flush(FLUSH_MILLISECONDS)

    def close(self) -> None:
        """End, without sending more."""
        self._exporter.shutdown()
        self._provider.shutdown(FLUSH_MILLISECONDS)

    def _record(self, request: metrics.Request, seconds: float) -> None:
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "http.route": request.route,
            "http.response.status_code": request.status,
            "service": request.service,
        }
        self._seconds.record(seconds, attributes)


def _renamed(name: str) -> str:
    """Answer a metric's name as OpenTelemetry has it: the unit is told beside it."""
    return name.removesuffix("_seconds").replace("orders_", "orders.", 1)


def _deliveries(_: CallbackOptions) -> Iterable[Observation]:
    for key, count in metrics.deliveries().items():
        told = {"destination": key.destination, "outcome": key.outcome}
        yield Observation(count, told)


def _gauge(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for gauge, value in metrics.gauges().items():
            if gauge.name == name:
                of = {"destination": gauge.destination} if gauge.destination else {}
                yield Observation(value, of)

    return observe
