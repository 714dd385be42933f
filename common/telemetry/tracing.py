"""Spans, made by OpenTelemetry if a collector is configured.

A span's parent is a `traceparent` string, as it is sent in headers and stored in the
outbox. Without a collector, the caller's is passed on unchanged.
"""

import atexit
import enum
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from common.telemetry import logs

if TYPE_CHECKING:
    from common.telemetry.otel import OpenTelemetry, Span

Attributes = Mapping[str, str | int]


class Kind(enum.Enum):
    """Which side of a call or message a span describes; OpenTelemetry's `SpanKind`."""

    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


_make: "Callable[[], OpenTelemetry] | None" = None
_sdk: "OpenTelemetry | None" = None
_lock = threading.Lock()


def switch_on(make: "Callable[[], OpenTelemetry]") -> None:
    """Make spans and metrics from now on; `make` is called on first use."""
    global _make  # noqa: PLW0603 a process has one
    _make = make


def is_on() -> bool:
    """Return whether spans and metrics are made (30 ns)."""
    return _make is not None


def sdk() -> "OpenTelemetry | None":
    """Return the SDK, set up on the first call; None if tracing is off."""
    return _sdk or (_make and _build())


def _build() -> "OpenTelemetry | None":
    global _sdk  # noqa: PLW0603 a process has one
    with _lock:  # several threads may need it at once
        if _sdk is None and _make is not None:
            _sdk = _make()
            atexit.register(close)
        return _sdk


def forget() -> None:
    """Forget the SDK after a fork, because it is the parent's."""
    global _sdk, _lock
    _sdk, _lock = None, threading.Lock()


def close() -> None:
    """Send what is left, within two seconds, and switch tracing off."""
    global _make, _sdk
    with _lock:
        built, _make, _sdk = _sdk, None, None
    if built is not None:
        atexit.unregister(close)
        built.close()


def flush() -> None:
    """Send finished spans, if the process may get no CPU after this request."""
    if _sdk is not None:
        _sdk.flush()


def start(
    name: str,
    kind: Kind,
    attributes: Attributes,
    *,
    parent: str | None = None,
    began_ns: int | None = None,
) -> "Span | None":
    """Start a span, or return None if tracing is off.

    It is a child of `parent` or else of the current request, which is linked if
    `parent` belongs to another trace. `began_ns` is since the epoch; None: now.
    """
    if (built := sdk()) is None:
        return None
    return built.start(name, kind.value, attributes, parent, began_ns)


def record(
    name: str, kind: Kind, seconds: float, attributes: Attributes, error: str | None
) -> None:
    """Record a span that has just ended and took `seconds`."""
    began_ns = time.time_ns() - int(seconds * 1e9)
    if span := start(name, kind, attributes, began_ns=began_ns):
        span.end(error=error)


@contextmanager
def within(name: str, kind: Kind, attributes: Attributes) -> Iterator[None]:
    """Run the block as a span, which is the parent of the spans made within it."""
    context = logs.current()
    span = start(name, kind, attributes) if is_on() and context else None
    if span is None or context is None:
        yield
        return
    before = (context.traceparent, context.is_first)
    context.traceparent, context.is_first = span.traceparent, False
    try:
        yield
    except BaseException as error:
        span.end(error=type(error).__name__)
        raise
    else:
        span.end()
    finally:
        context.traceparent, context.is_first = before
