"""Spans, made by OpenTelemetry where a collector is configured and nowhere else.

A span's parent is text, a `traceparent`, because that is what travels: in headers, and
in rows of the outbox. Without a collector the caller's own passes on unchanged.
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
    """Which side of a call or message a span describes, in OpenTelemetry's names."""

    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


_make: "Callable[[], OpenTelemetry] | None" = None
_sdk: "OpenTelemetry | None" = None
_lock = threading.Lock()


def switch_on(make: "Callable[[], OpenTelemetry]") -> None:
    """Make spans and metrics from now on; `make` is called at the first one."""
    global _make  # noqa: PLW0603 a process has one
    _make = make


def is_on() -> bool:
    """Return whether spans and metrics are made (30 ns)."""
    return _make is not None


def sdk() -> "OpenTelemetry | None":
    """Return what makes and sends them, built at the first call; None where off."""
    return _sdk or (_make and _build())


def _build() -> "OpenTelemetry | None":
    global _sdk  # noqa: PLW0603 a process has one
    with _lock:  # first spans come several at a time
        if _sdk is None and _make is not None:
            _sdk = _make()
            atexit.register(close)
        return _sdk


def forget() -> None:
    """Start anew after a fork: what was built is the parent's."""
    global _sdk, _lock
    _sdk, _lock = None, threading.Lock()


def close() -> None:
    """Send what is left, within two seconds, and make no more."""
    global _make, _sdk
    with _lock:
        built, _make, _sdk = _sdk, None, None
    if built is not None:
        atexit.unregister(close)
        built.close()


def flush() -> None:
    """Send what has ended, where the process may get no time after this request."""
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
    """Begin a span, or return None where nobody collects them.

    It is a child of `parent`, else of the current request. Where a parent is given that
    waited in the outbox, the request that goes on with it is linked. `began_ns` is
    since the epoch, None: now.
    """
    if (built := sdk()) is None:
        return None
    return built.start(name, kind.value, attributes, parent, began_ns)


def note(
    name: str, kind: Kind, seconds: float, attributes: Attributes, error: str | None
) -> None:
    """Record a span that has ended just now and took `seconds`."""
    began_ns = time.time_ns() - int(seconds * 1e9)
    if span := start(name, kind, attributes, began_ns=began_ns):
        span.end(error=error)


@contextmanager
def within(name: str, kind: Kind, attributes: Attributes) -> Iterator[None]:
    """Run the block as a span, whose children its further spans are."""
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
