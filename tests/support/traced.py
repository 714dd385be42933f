"""Collect exported spans over OTLP, and find what caused each."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.local.http_server import serving
from infra.local.traces import Span, Traces

CALLER_SPAN = "00f067aa0ba902b7"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-{CALLER_SPAN}-01"
TRACESTATE = "vendor=opaque"


class Collector:
    """What came in."""

    def __init__(self, traces: Traces, url: str) -> None:
        self.traces = traces
        self.url = url
        self.environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{url}/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
        }

    def named(self, name: str, service: str | None = None) -> list[Span]:
        """Return the spans of this name, of one service or of all."""
        return [
            span
            for span in self.traces.spans()
            if span.name == name and service in (None, span.service)
        ]

    def ancestry(self, span: Span) -> list[tuple[str, str]]:
        """Return service and name of the span and all above it, the last one known."""
        known = {each.span_id: each for each in self.traces.spans(span.trace_id)}
        line = []
        found: Span | None = span
        while found is not None:
            line.append((found.service, found.name))
            found = known.get(found.parent_id)
        return line

    def root_of(self, span: Span) -> str:
        """Return the id of the span above the first one that is known here."""
        known = {each.span_id: each for each in self.traces.spans(span.trace_id)}
        while span.parent_id in known:
            span = known[span.parent_id]
        return span.parent_id


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect while the block runs."""
    traces = Traces()
    with serving(traces) as url:
        yield Collector(traces, url)
