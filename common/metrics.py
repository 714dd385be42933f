"""What is counted and measured, recorded through OpenTelemetry where it is on.

Only relays measure what waits, so other processes have no gauges.
"""

from collections.abc import Iterable, Mapping

from common import tracing

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def record_request(
    service: str, method: str, route: str | None, status: int, seconds: float
) -> None:
    """Record a request; methods that a caller made up are not told apart."""
    if (sdk := tracing.sdk()) is not None:
        attributes: dict[str, str | int] = {
            "service": service,
            "http.request.method": method if method in METHODS else "_OTHER",
            "http.response.status_code": status,
        }
        if route is not None:
            attributes["http.route"] = route
        sdk.request_seconds.record(seconds, attributes)


def count_deliveries(destination: str, outcomes: Iterable[str]) -> None:
    """Count attempts to send an event, by how they ended; 'unconfirmed' is in doubt."""
    if (sdk := tracing.sdk()) is not None:
        for outcome in outcomes:
            attributes = {"destination": destination, "outcome": outcome}
            sdk.deliveries.add(1, attributes)


def set_gauge(name: str, values: Mapping[str, float]) -> None:
    """Set a gauge of `otel.GAUGES` by destination, '' for one that has none.

    A destination that was measured before and is not any more is set to 0.
    """
    if (sdk := tracing.sdk()) is not None:
        sdk.set_gauge(name, values)
