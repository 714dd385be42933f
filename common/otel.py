"""OpenTelemetry: spans to a collector, by its SDK and the standard variables.

Lives here: the SDK's parts and when they are emptied. Not here: what is told
(`tracing.py`). Surprise: it is loaded only where OTEL_EXPORTER_OTLP_ENDPOINT is set,
takes a quarter of a second for that, and needs the extra `otel`. A collector that is
away costs a request half a second, and then none for half a minute.
"""

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

from common import logs
from common.otel_metrics import Meters
from common.tracing import DEFAULT_SERVICE, Attributes, Beginning, Kind

FLUSH_SECONDS = 0.5
CLOSE_SECONDS = 2.0
PAUSE_SECONDS = 30.0
SCOPE = "orders"
_KINDS = {
    Kind.SERVER: trace.SpanKind.SERVER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
    Kind.PRODUCER: trace.SpanKind.PRODUCER,
    Kind.CONSUMER: trace.SpanKind.CONSUMER,
}

log = logs.get("otel")


def exporter() -> SpanExporter:
    """Answer the way to the collector that OTEL_… variables name; opens nothing yet."""
    return OTLPSpanExporter()


class OpenTelemetrySpan:
    """A span of the SDK's."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}"
            f"-{context.trace_flags:02x}"
        )

    def end(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """End it, see `tracing.Span.end`."""
        if name:
            self._span.update_name(name)
        if attributes:
            self._span.set_attributes(dict(attributes))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


class OpenTelemetry:
    """Makes spans by the SDK, under the name of the function whose request it is."""

    def __init__(
        self,
        exporter: SpanExporter,
        metric_exporter: MetricExporter | None = None,
        *,
        service_name: str | None = None,
        flushes: bool = False,
    ) -> None:
        """Give spans to `exporter` in batches, and metrics to theirs, from threads.

        With `flushes` also at the end of each request, for where a process gets no time
        between requests. `service_name` replaces the functions' names.
        """
        self._exporter = exporter
        self._processor = BatchSpanProcessor(exporter)
        self._meters: Meters | None = None
        if metric_exporter is not None:
            self._meters = Meters(metric_exporter, service_name or DEFAULT_SERVICE)
        self._service_name = service_name
        self._flushes = flushes
        self._tracers: dict[str, trace.Tracer] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "otel-flush")
        self._flushing: Future[None] | None = None
        self._paused_until = 0.0
        _say_as_we_do()

    def start(self, beginning: Beginning) -> OpenTelemetrySpan:
        """Answer a span that has begun."""
        tracer = self._tracers.get(beginning.service) or self._make(beginning.service)
        parent = Context()
        if beginning.parent:
            remote = NonRecordingSpan(_parsed(beginning.parent, beginning.tracestate))
            parent = trace.set_span_in_context(remote, parent)
        links = [Link(_parsed(beginning.link))] if beginning.link else None
        span = tracer.start_span(
            beginning.name,
            parent,
            _KINDS[beginning.kind],
            dict(beginning.attributes),
            links,
            beginning.began_ns,
        )
        return OpenTelemetrySpan(span)

    def flush(self) -> None:
        """Bring away what has ended, where that is due at the end of a request.

        Requests that end at once share a flush; who comes while one runs waits for the
        next, which is the one that has theirs.
        """
        if not self._flushes or time.monotonic() < self._paused_until:
            return
        with self._lock:
            if self._flushing is None or self._flushing.running():
                self._flushing = self._pool.submit(self._empty)
            mine = self._flushing
        self._wait(mine, FLUSH_SECONDS)

    def close(self) -> None:
        """Bring away what is left within `CLOSE_SECONDS`, and end."""
        if time.monotonic() >= self._paused_until:
            self._wait(self._pool.submit(self._empty_all), CLOSE_SECONDS)
        # What is tried once more now is turned away, and need not be told.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter.shutdown()  # first, as it may be trying again and again
        self._processor.shutdown()  # type: ignore[no-untyped-call]
        if self._meters is not None:
            self._meters.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _empty_all(self) -> None:
        self._empty()
        if self._meters is not None:
            self._meters.flush()

    def _empty(self) -> None:
        with self._lock:
            self._flushing = None  # whoever ends from here on may be too late for it
        self._processor.force_flush()
        if self._meters is not None:
            self._meters.flush_if_due()

    def _wait(self, flushed: "Future[None]", seconds: float) -> None:
        try:
            flushed.result(seconds)
        except NotYetError:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            log.warning("the collector does not answer: it is left alone for a while")
        except Exception:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            log.exception("spans were not brought away")

    def _make(self, service: str) -> trace.Tracer:
        name = self._service_name or service
        with self._lock:
            if service not in self._tracers:
                resource = Resource.create({"service.name": name})
                provider = TracerProvider(resource=resource, shutdown_on_exit=False)
                provider.add_span_processor(self._processor)
                self._tracers[service] = provider.get_tracer(SCOPE)
            return self._tracers[service]


def _parsed(traceparent: str, tracestate: str | None = None) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
        trace_state=TraceState.from_header([tracestate] if tracestate else []),
    )


def _say_as_we_do() -> None:
    """Have the SDK's own warnings go where our lines go."""
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers = logging.getLogger("orders").handlers[:]
    theirs.propagate = False
    theirs.setLevel(logging.WARNING)
