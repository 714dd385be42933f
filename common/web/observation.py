"""Record one request: its log line, its span and its durations."""

import logging
import time
from typing import Any

from common.telemetry import logs, tracing

log = logs.get("http")
_SERVER_ERROR = 500
# Any other method is recorded as _OTHER, so that callers cannot add values to a metric.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observation:
    """What is recorded of one request, from here to `end`."""

    def __init__(self, context: logs.RequestContext, method: str) -> None:
        self._context = context
        self._method = method
        self._started = time.perf_counter()
        self._span = None
        if tracing.is_on():
            attributes = {"http.request.method": method}
            self._span = tracing.start(method, tracing.Kind.SERVER, attributes)
        if self._span is not None:
            context.traceparent, context.is_first = self._span.traceparent, False

    def end(self, route: str | None, status: int) -> None:
        """Record the response, and the time in the database and upstream, if any."""
        seconds = time.perf_counter() - self._started
        context = self._context
        fields: dict[str, Any] = {
            "method": self._method,
            "route": route,
            "status": status,
            "latency_ms": round(seconds * 1000, 2),
        }
        if context.database:
            fields["database_ms"] = round(sum(context.database) * 1000, 2)
            fields["statements"] = len(context.database)
        if context.upstream:
            fields["upstream_ms"] = round(sum(context.upstream) * 1000, 2)
        fields["httpRequest"] = {
            "requestMethod": self._method,
            "status": status,
            "latency": f"{seconds:.6f}s",
        }
        logs.write(log, logging.INFO, "request", fields)
        if self._span is not None:
            attributes: dict[str, str | int] = {"http.response.status_code": status}
            if route is not None:
                attributes["http.route"] = route
            if (sdk := tracing.sdk()) is not None:
                metric_attributes = {
                    **attributes,
                    "service": context.service,
                    "http.request.method": (
                        self._method if self._method in _METHODS else "_OTHER"
                    ),
                }
                sdk.request_seconds.record(seconds, metric_attributes)
            attributes["request.id"] = context.request_id
            if context.order_id is not None:
                attributes["order.id"] = context.order_id
            self._span.end(
                name=f"{self._method} {route}" if route else None,
                error=str(status) if status >= _SERVER_ERROR else None,
                attributes=attributes,
            )
            tracing.flush()
