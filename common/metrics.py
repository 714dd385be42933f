"""Counts and gauges of a process: requests, deliveries, what waits.

Lives here: the numbers, and Prometheus' text of them. Not here: who is told
(`otel_metrics.py` by OTLP, `/metrics` in a local run). Surprise: where nobody reads
them nothing is counted; and what waits is measured by relays, so other processes have
no gauges.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from msgspec import Struct

# Seconds, as OpenTelemetry's semantic conventions advise for requests.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
NO_ROUTE = "(none)"
MEDIA_TYPE = "text/plain; version=0.0.4"


class Request(Struct, frozen=True):
    """What requests are counted by."""

    service: str
    method: str
    route: str
    status: int


class Gauge(Struct, frozen=True):
    """What is measured, and of which destination, '' where it is of none."""

    name: str
    destination: str = ""


class Delivery(Struct, frozen=True):
    """What attempts to send an event are counted by; 'unconfirmed' is in doubt."""

    destination: str
    outcome: str


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ABOUT = {
    "orders_outbox_events": "Events that wait, at most 10000 a destination.",
    "orders_outbox_oldest_age_seconds": "Age of the oldest event that waits.",
    "orders_outbox_doubtful_events": "Of those, sent with nobody knowing how it ended.",
    "orders_dead_letters": "Dead letters that nobody has settled, at most 500.",
    "orders_approval_lag_seconds": "Since when a complete order is not approved.",
}
# Told of each request as it ends, with its seconds.
Listener = Callable[[Request, float], None]

_lock = threading.Lock()
_is_on = False
_is_shown = False
_listener: Listener | None = None
_requests: dict[Request, list[float]] = {}  # a count a bucket, one above all, the sum
_deliveries: dict[Delivery, int] = {}
_gauges: dict[Gauge, float] = {}


def switch_on(*, shown: bool) -> None:
    """Count from now on; `shown`: for `/metrics`, too."""
    global _is_on, _is_shown
    _is_on, _is_shown = True, shown


def close() -> None:
    """Count no more, and forget all."""
    global _is_on, _is_shown, _listener
    _is_on, _is_shown, _listener = False, False, None
    for numbers in (_requests, _deliveries, _gauges):
        numbers.clear()


def forget() -> None:
    """Start with a new lock after a fork, which may have copied a held one."""
    global _lock, _listener
    _lock, _listener = threading.Lock(), None


def is_on() -> bool:
    """Tell whether anything is counted."""
    return _is_on


def is_shown() -> bool:
    """Tell whether there is to be a `/metrics`."""
    return _is_shown


def listen(listener: Listener) -> None:
    """Have `listener` told of each request."""
    global _listener  # noqa: PLW0603 a process has one
    _listener = listener


def count_request(
    service: str, method: str, route: str | None, status: int, seconds: float
) -> None:
    """Count a request; what callers may choose freely is not told apart."""
    method = method if method in METHODS else "(other)"
    key = Request(service, method, route or NO_ROUTE, status)
    with _lock:
        row = _requests.setdefault(key, [0] * (len(BUCKETS) + 1) + [0.0])
        row[bisect_left(BUCKETS, seconds)] += 1
        row[-1] += seconds
    if _listener is not None:
        _listener(key, seconds)


def count_delivery(destination: str, outcome: str) -> None:
    """Count an attempt to send an event."""
    key = Delivery(destination, outcome)
    with _lock:
        _deliveries[key] = _deliveries.get(key, 0) + 1


def set_gauges(measured: Mapping[Gauge, float]) -> None:
    """Take what was measured just now; what was and is no more, is 0."""
    with _lock:
        _gauges.update(dict.fromkeys(_gauges, 0.0) | dict(measured))


def gauges() -> dict[Gauge, float]:
    """Answer what was measured last."""
    with _lock:
        return dict(_gauges)


def deliveries() -> dict[Delivery, int]:
    """Answer how many attempts ended how."""
    with _lock:
        return dict(_deliveries)


def text() -> str:
    """Answer everything in Prometheus' text format 0.0.4."""
    with _lock:
        requests = {key: list(row) for key, row in _requests.items()}
    lines: list[str] = []
    name = "http_server_request_duration_seconds"
    lines += _head(name, "histogram", "How long requests took.")
    for key, row in requests.items():
        labels = {
            "service": key.service,
            "method": key.method,
            "route": key.route,
            "status": str(key.status),
        }
        counts = list(accumulate(row[:-1]))
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        lines += [
            _line(f"{name}_bucket", labels | {"le": bound}, count)
            for bound, count in zip(bounds, counts, strict=True)
        ]
        lines.append(_line(f"{name}_count", labels, counts[-1]))
        lines.append(_line(f"{name}_sum", labels, row[-1]))
    name = "orders_deliveries_total"
    lines += _head(name, "counter", "Attempts to send an event, by how they ended.")
    for attempt, count in deliveries().items():
        told = {"destination": attempt.destination, "outcome": attempt.outcome}
        lines.append(_line(name, told, count))
    measured = gauges()
    for name, about in ABOUT.items():
        lines += _head(name, "gauge", about)
        for gauge, value in measured.items():
            if gauge.name == name:
                of = {"destination": gauge.destination} if gauge.destination else {}
                lines.append(_line(name, of, value))
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, about: str) -> Iterable[str]:
    return (f"# HELP {name} {about}", f"# TYPE {name} {kind}")


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{told}}} {value:.12g}" if told else f"{name} {value:.12g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
