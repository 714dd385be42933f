"""Collect a local run's spans over OTLP, and show them at `/traces/`.

Only the newest spans are kept, in memory; what is routine is not listed.
"""

import gzip
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from infra.local.pages import render

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

KEPT = 20_000  # spans
LISTED = 100  # traces
SLOW_MILLISECONDS = 100.0
MAX_BYTES = 16 * 1024 * 1024
_KINDS = ("", "", "server", "client", "producer", "consumer")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
    ),
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span as it was exported; ids in hex, `parent_id` '' where there is none."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    began_ns: int
    ended_ns: int
    is_error: bool
    attributes: dict[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.ended_ns - self.began_ns) / 1e6


class Trace:
    """The spans of one trace: the request that began it, and what came of it later.

    `own` are those that began before the request's response, `later` the others.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        known = {span.span_id for span in spans}
        tops = [span for span in spans if span.parent_id not in known]
        self.spans = spans
        self.request = next((s for s in tops if s.kind == "server"), spans[0])
        self.began = datetime.fromtimestamp(self.request.began_ns / 1e9, UTC)
        self.own = [s for s in spans if s.began_ns <= self.request.ended_ns]
        self.later = [s for s in spans if s.began_ns > self.request.ended_ns]
        self.status = self._attribute("http.response.status_code")
        self.order_id = self._attribute("order.id")
        self.request_id = self._attribute("request.id")

    @property
    def has_failed(self) -> bool:
        """Whether anything of the request failed."""
        return any(span.is_error for span in self.own)

    @property
    def has_failed_later(self) -> bool:
        """Whether anything failed after the response."""
        return any(span.is_error for span in self.later)

    def until_ns(self, spans: Sequence[Span]) -> int:
        """Return how long it took until the last of these spans ended."""
        return max(span.ended_ns for span in spans) - self.spans[0].began_ns or 1

    def is_like(self, query: str, only: str) -> bool:
        """Return whether it is of an order, or has an id or a name, that is asked for.

        `only` is 'failed', 'slow' or ''.
        """
        if only == "failed" and not (self.has_failed or self.has_failed_later):
            return False
        if only == "slow" and self.request.milliseconds < SLOW_MILLISECONDS:
            return False
        if query.isdecimal():
            return any(s.attributes.get("order.id") == query for s in self.spans)
        is_named = query.lower() in self.request.name.lower()
        return is_named or query in (self.request.trace_id, self.request_id)

    def _attribute(self, name: str) -> str:
        """Return an attribute of the request, or else of the first span that has it."""
        spans = (self.request, *self.spans)
        return next((s.attributes[name] for s in spans if name in s.attributes), "")


class Traces:
    """A WSGI app: a collector at `/traces/v1/traces`, pages at `/traces/`."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Return a collector's or a reader's request."""
        return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if request.method == "POST":
            return self._take(request)
        found = re.fullmatch(r"/traces(?:/(?:([0-9a-f]{32})/?)?)?", request.path)
        if found is None or request.method not in ("GET", "HEAD"):
            return Response("not found\n", 404)
        page = self._one(found[1]) if found[1] else self._list(request)
        if page is None:
            return Response("This trace is not known, or no longer.\n", 404)
        return Response(page, mimetype="text/html", headers=_HEADERS)

    def spans(self, trace_id: str | None = None) -> list[Span]:
        """Return what is kept, in the order in which it began."""
        with self._lock:
            kept = [s for s in self._spans if trace_id in (None, s.trace_id)]
        return sorted(kept, key=lambda span: span.began_ns)

    def _take(self, request: Request) -> Response:
        if not request.path.endswith("/v1/traces"):
            return Response(status=200)  # metrics, of which there is no page
        if (request.content_length or 0) > MAX_BYTES:
            return Response("too large\n", 413)
        body = request.get_data()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self._lock:
            self._spans.extend(_decoded(body))
        return Response(b"", mimetype="application/x-protobuf")

    def _list(self, request: Request) -> str:
        query = request.args.get("q", "").strip()
        only = request.args.get("only", "")
        by_id: dict[str, list[Span]] = {}
        for span in self.spans():
            by_id.setdefault(span.trace_id, []).append(span)
        traces = [Trace(spans) for spans in by_id.values() if not _is_routine(spans)]
        found = [trace for trace in traces if trace.is_like(query, only)]
        newest = found[-LISTED:][::-1]
        return render("traces", traces=newest, query=query, only=only)

    def _one(self, trace_id: str) -> str | None:
        spans = self.spans(trace_id)
        if not spans:
            return None
        trace = Trace(spans)
        own, later = list(_tree(trace.own)), list(_tree(trace.later))
        return render("trace", trace=trace, own=own, later=later)


def _decoded(body: bytes) -> Iterator[Span]:
    # Imported late: it takes a while, and no other part of a local run needs it.
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
        ExportTraceServiceRequest,
    )

    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _texts(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    service=service,
                    name=span.name,
                    kind=_KINDS[span.kind],
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                    attributes=_texts(span.attributes),
                    links=tuple(link.trace_id.hex() for link in span.links),
                )


def _texts(attributes: Iterable[Any]) -> dict[str, str]:
    return {
        each.key: str(getattr(each.value, each.value.WhichOneof("value") or "", ""))
        for each in attributes
    }


def _is_routine(spans: Sequence[Span]) -> bool:
    """Return whether it is a sweep that sent nothing, a health check, or a document."""
    return all(
        span.service in ("outbox_relay", "api_docs") or "/health/" in span.name
        for span in spans
    ) and not any(span.kind == "producer" for span in spans)


def _tree(spans: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """Return each span with its depth, children below their parent, by time."""
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in spans:
        parent = span.parent_id if span.parent_id in known else ""
        children.setdefault(parent, []).append(span)
    pending = [(span, 0) for span in reversed(children.get("", ()))]
    while pending:
        span, depth = pending.pop()
        yield span, depth
        below = children.get(span.span_id, ())
        pending += [(child, depth + 1) for child in reversed(below)]
