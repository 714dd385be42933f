"""OpenTelemetry's SDK, set up for one process: spans and metrics over OTLP.

Imported only if OTEL_EXPORTER_OTLP_ENDPOINT is set: it takes a quarter of a second and
needs the extra `otel`. OpenTelemetry's standard variables apply.
"""

import logging
import threading
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    Link,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.telemetry import logs

FLUSH_SECONDS = 0.5
CLOSE_SECONDS = 2.0
PAUSE_SECONDS = 30.0
METRICS_EVERY_SECONDS = 60.0
SCOPE = "orders"
# Seconds, as OpenTelemetry's semantic conventions advise for requests.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
GAUGES = {
    "orders.outbox_events": ("1", "Events that wait, at most 10000 a destination."),
    "orders.outbox_oldest_age": ("s", "Age of the oldest event that waits."),
    "orders.outbox_doubtful_events": ("1", "Of those, sent with an unknown outcome."),
    "orders.dead_letters": ("1", "Open dead letters, at most 500."),
    "orders.approval_lag": ("s", "Since when a complete order is not approved."),
}
Attributes = Mapping[str, str | int]
_propagator = TraceContextTextMapPropagator()

log = logs.get("otel")


Exporters = tuple[SpanExporter, MetricExporter]


def exporters(*, are_flushed: bool = False) -> Exporters:
    """Return exporters to the collector of the OTEL_… variables, not connected yet.

    With `are_flushed`, requests wait for them, so they time out after `FLUSH_SECONDS`.
    """
    timeout = FLUSH_SECONDS if are_flushed else None  # None: by environment variable
    return OTLPSpanExporter(timeout=timeout), OTLPMetricExporter(timeout=timeout)


class Span:
    """A running span; `traceparent` makes other spans its children."""

    def __init__(self, span: SdkSpan) -> None:
        self._span = span
        headers: dict[str, str] = {}
        _propagator.inject(headers, set_span_in_context(span))
        self.traceparent = headers["traceparent"]

    def end(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """End it. `error` is a short error type; `name` replaces the initial name."""
        if name:
            self._span.update_name(name)
        if attributes:
            self._span.set_attributes(dict(attributes))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class OpenTelemetry:
    """Makes spans and metrics, and sends them in the background."""

    def __init__(
        self,
        exporters: Exporters,
        service_name: str | None = None,
        *,
        flushes: bool = False,
    ) -> None:
        """Send under `service_name`, or else spans under the name of their function.

        With `flushes`, send at the end of each request, too, because the process may
        get no CPU between requests.
        """
        self._processor = BatchSpanProcessor(exporters[0])
        reader = PeriodicExportingMetricReader(exporters[1])
        resource = Resource.create({"service.name": service_name or SCOPE})
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(SCOPE)
        self.request_seconds = meter.create_histogram(
            "http.server.request.duration",
            "s",
            "How long requests took.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.deliveries = meter.create_counter(
            "orders.deliveries", "{event}", "Attempts to send an event."
        )
        self._gauges = {
            name: meter.create_gauge(name, *GAUGES[name]) for name in GAUGES
        }
        self._destinations: dict[str, set[str]] = {name: set() for name in GAUGES}
        self._service_name = service_name
        self._flushes = flushes
        self._paused_until = 0.0
        self._metrics_due_at = time.monotonic() + METRICS_EVERY_SECONDS
        self._tracers: dict[str, Tracer] = {}
        self._lock = threading.Lock()
        self._closing, self._closed = threading.Event(), threading.Event()
        # Started now, because no thread can be started while the interpreter exits.
        threading.Thread(target=self._shut_down, name="otel-end", daemon=True).start()
        _use_our_handlers()

    def start(
        self,
        name: str,
        kind: str,
        attributes: Attributes,
        parent: str | None,
        began_ns: int | None,
    ) -> Span:
        """Start a span; see `tracing.start`."""
        context = logs.current()
        service = (context and context.service) or SCOPE
        own = context.traceparent if context and not context.is_first else None
        headers = {"traceparent": parent or own or ""}
        if context and context.tracestate and parent is None:
            headers["tracestate"] = context.tracestate
        links = None
        if own and parent and own[:35] != parent[:35]:  # different traces
            request = get_current_span(_propagator.extract({"traceparent": own}))
            links = [Link(request.get_span_context())]
        tracer = self._tracers.get(service) or self._make_tracer(service)
        span = tracer.start_span(
            name,
            _propagator.extract(headers),
            SpanKind[kind],
            dict(attributes),
            links,
            began_ns,
        )
        return Span(span)

    def set_gauge(self, name: str, values: Mapping[str, float]) -> None:
        """Set one of `GAUGES` by destination ('' for a gauge without destinations).

        Destinations that are no longer in `values` are set to 0.
        """
        known = self._destinations[name]
        known.update(values)
        for destination in known:
            attributes = {"destination": destination} if destination else {}
            self._gauges[name].set(values.get(destination, 0), attributes)

    def flush(self) -> None:
        """Send finished spans at the end of a request, if configured to.

        A collector that does not respond delays one request by half a second, and then
        none for `PAUSE_SECONDS`.
        """
        began = time.monotonic()
        if not self._flushes or began < self._paused_until:
            return
        # Neither honours a timeout argument yet; the exporters' timeout applies.
        self._processor.force_flush()
        if began >= self._metrics_due_at:
            self._metrics_due_at = began + METRICS_EVERY_SECONDS
            self._meters.force_flush()
        ended = time.monotonic()
        if ended - began >= FLUSH_SECONDS:
            self._paused_until = ended + PAUSE_SECONDS
            log.warning("the collector is slow or silent: nothing is sent for a while")

    def close(self) -> None:
        """Send what is left; return after `CLOSE_SECONDS` at the latest."""
        self._closing.set()
        self._closed.wait(CLOSE_SECONDS)

    def _shut_down(self) -> None:
        self._closing.wait()
        try:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            self._meters.shutdown()
        finally:
            self._closed.set()

    def _make_tracer(self, service: str) -> Tracer:
        name = self._service_name or service
        with self._lock:
            if service not in self._tracers:
                resource = Resource.create({"service.name": name})
                provider = TracerProvider(resource=resource, shutdown_on_exit=False)
                provider.add_span_processor(self._processor)
                self._tracers[service] = provider.get_tracer(SCOPE)
            return self._tracers[service]


def _use_our_handlers() -> None:
    """Write the SDK's own warnings to our log."""
    sdk_logger = logging.getLogger("opentelemetry")
    sdk_logger.handlers = logging.getLogger("orders").handlers[:]
    sdk_logger.propagate = False
    sdk_logger.setLevel(logging.WARNING)
