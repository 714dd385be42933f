"""Spans where somebody collects them; next to nothing where nobody does.

Lives here: what the service notes, and in whose name. Not here: who collects it
(`otel.py`, loaded only where a setting says so). Surprise: a span's parent is text, a
`traceparent`, because that is what travels: in headers, and in rows of the outbox. With
no collector the caller's own passes on unchanged.
"""

import enum
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from msgspec import Struct

from common import logs

Attributes = Mapping[str, str | int]
DEFAULT_SERVICE = "orders"  # of what is done for no request


class Kind(enum.Enum):
    """Whose side of a call or message a span tells of."""

    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Beginning(Struct, frozen=True):
    """What a span begins with; `began_ns` is since the epoch, None: now."""

    service: str
    name: str
    kind: Kind
    parent: str | None
    tracestate: str | None
    attributes: Attributes
    link: str | None
    began_ns: int | None = None


class Span(Protocol):
    """Something that takes a while. `traceparent` makes others its children."""

    traceparent: str

    def end(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """End it. `error` is a short word; `name` replaces the first one."""
        ...


class Tracer(Protocol):
    """Makes spans, and brings them to whoever collects them."""

    def start(self, beginning: Beginning) -> Span:
        """Answer a span that has begun."""
        ...

    def flush(self) -> None:
        """Bring away what has ended, within a short bound; never raises."""
        ...

    def close(self) -> None:
        """Bring away what is left, within a bound, and end."""
        ...


_make: Callable[[], Tracer] | None = None
_tracer: Tracer | None = None
_lock = threading.Lock()


def switch_on(make: Callable[[], Tracer]) -> None:
    """Have spans made from now on; `make` is called at the first one."""
    global _make  # noqa: PLW0603 a process has one
    _make = make


def is_on() -> bool:
    """Tell whether spans are made (30 ns)."""
    return _make is not None


def forget() -> None:
    """Start anew after a fork: what was built is the parent's."""
    global _tracer, _lock
    _tracer, _lock = None, threading.Lock()


def close() -> None:
    """Bring away what is left, and make no more spans."""
    global _make, _tracer  # noqa: PLW0603 a process has one
    _make = None
    with _lock:
        tracer, _tracer = _tracer, None
    if tracer is not None:
        tracer.close()


def flush() -> None:
    """Bring away what has ended; for ends of requests, after which a process may halt.

    Never raises, and takes half a second at most.
    """
    if _tracer is not None:
        _tracer.flush()


def warm_up() -> None:
    """Build what sends spans and metrics, for where no span may come for long."""
    _built()


def _built() -> Tracer | None:
    return _tracer if _tracer is not None or _make is None else _build()


def _build() -> Tracer | None:
    global _tracer  # noqa: PLW0603 a process has one
    with _lock:  # first spans come several at a time
        if _tracer is None and _make is not None:
            _tracer = _make()
        return _tracer


def start(
    name: str,
    kind: Kind,
    attributes: Attributes,
    *,
    parent: str | None = None,
    began_ns: int | None = None,
) -> Span | None:
    """Begin a span, None where nobody collects them.

    It is a child of `parent`, else of the current request. Where a parent is given that
    waited in the outbox, the request that goes on with it is linked.
    """
    tracer = _built()
    if tracer is None:
        return None
    context = logs.current()
    own = context.traceparent if context and not context.is_first else None
    is_elsewhere = own is not None and parent is not None and own[:35] != parent[:35]
    return tracer.start(
        Beginning(
            service=context.service or DEFAULT_SERVICE if context else DEFAULT_SERVICE,
            name=name,
            kind=kind,
            parent=parent or own,
            tracestate=context.tracestate if context and parent is None else None,
            attributes=attributes,
            link=own if is_elsewhere else None,
            began_ns=began_ns,
        )
    )


def note(
    name: str, kind: Kind, seconds: float, attributes: Attributes, error: str | None
) -> None:
    """Note what has ended just now and took `seconds`."""
    began_ns = time.time_ns() - int(seconds * 1e9)
    if span := start(name, kind, attributes, began_ns=began_ns):
        span.end(error=error)


@contextmanager
def within(name: str, kind: Kind, attributes: Attributes) -> Iterator[None]:
    """Do what the block does as a span, whose children its further spans are."""
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
