"""One JSON line a record, with the request it belongs to.

Lives here: the formatter and the context of the current request (request id, trace,
order). Not here: what is worth logging. Surprise: the context is a ContextVar, so that
rows written and events recorded while a request runs can carry its ids unasked.
"""

import logging
import os
import random
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

_SEVERITIES = {"WARN": "WARNING", "FATAL": "CRITICAL"}
_OWN = "orders"
STANDARD_ERROR = 2
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class RequestContext(msgspec.Struct):
    """What ties log lines, history rows and events to the request that caused them."""

    request_id: str
    traceparent: str
    order_id: int | None = None


# Not a secret, and without a system call, at each of which threads change places.
_random = random.getrandbits

_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def current() -> RequestContext | None:
    """Answer the context of the request being handled, None outside of one."""
    return _current.get()


def set_order_id(order_id: int) -> None:
    """Name the order in every further line of this request."""
    if context := _current.get():
        context.order_id = order_id


@contextmanager
def request_context(
    request_id: str | None, traceparent: str | None
) -> Iterator[RequestContext]:
    """Make a context current; ids that are absent or not sane are made anew."""
    if request_id is None or not _SANE_ID.fullmatch(request_id):
        request_id = str(uuid.UUID(int=_random(128), version=4))
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        traceparent = f"00-{_random(128):032x}-{_random(64):016x}-01"
    token = _current.set(RequestContext(request_id, traceparent))
    try:
        context = _current.get()
        assert context is not None
        yield context
    finally:
        _current.reset(token)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON in Cloud Logging's field names."""

    def format(self, record: logging.LogRecord) -> str:
        """Answer the line; `extra={"fields": {...}}` adds to it."""
        level = record.levelname
        line: dict[str, Any] = {
            "severity": _SEVERITIES.get(level, level),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if context := _current.get():
            line["request_id"] = context.request_id
            line["trace"] = context.traceparent.split("-")[1]
            if context.order_id is not None:
                line["order_id"] = context.order_id
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class LineHandler(logging.Handler):
    """Writes each record to standard error by one call, and so under no lock.

    Under one a thread would wait for another's write, and have lost its turn.
    """

    def createLock(self) -> None:  # noqa: N802 logging's
        """Do without."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            line = (self.format(record) + "\n").encode()
            while line:
                line = line[os.write(STANDARD_ERROR, line) :]
        except Exception:  # noqa: BLE001 logging's way: a request goes on without its line
            self.handleError(record)


def get(name: str) -> logging.Logger:
    """Answer the logger for a module of ours, given its last name."""
    return logging.getLogger(f"{_OWN}.{name}")


def configure(level: str) -> None:
    """Send our records to standard error as JSON. Safe to call twice.

    Only our own loggers are touched: the root belongs to the server that runs us.
    """
    logger = logging.getLogger(_OWN)
    logger.setLevel(level)
    if level != "DEBUG":  # of a broker that is away it says six lines, we say one
        logging.getLogger("pika").setLevel(logging.CRITICAL)
    if not logger.handlers:
        handler = LineHandler()
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.propagate = False
