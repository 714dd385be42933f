"""Log one line per record, in Cloud Logging's fields, with the request's context.

The context is a ContextVar, so that rows and events written during a request carry its
ids; threads that work for one request share it.
"""

import contextlib
import dataclasses
import hashlib
import hmac
import logging
import os
import random
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from common.telemetry.printable import printable, printable_lines

_OWN = "orders"
SIGNALS = "signals"  # whose lines alerts are made of: written at any level
STANDARD_ERROR = 2
_VALID_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[!-~](?:[ -~]{0,510}[!-~])?")
# Cloud Logging moves these from a line to the entry's own fields.
TRACE = "logging.googleapis.com/trace"
SPAN = "logging.googleapis.com/spanId"
SAMPLED = "logging.googleapis.com/trace_sampled"
LABELS = "logging.googleapis.com/labels"


class RequestContext(Struct):
    """The ids that connect log lines, history rows and events to their request.

    `database` and `upstream` are the seconds of each wait. They are lists, because
    several threads may wait for one request, and appending is thread-safe.
    """

    request_id: str
    traceparent: str
    tracestate: str | None = None
    is_first: bool = False  # this service started the trace
    service: str = ""  # that handles the request
    order_id: int | None = None
    user: str | None = None  # as it may be logged
    database: list[float] = field(default_factory=list)
    upstream: list[float] = field(default_factory=list)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How lines are written; each option is a setting. `repr` shows no key.

    `format` None: text if standard error is a terminal, else JSON. `project` is the
    Google Cloud project of the traces, for links from a line to its trace.
    """

    level: str = "INFO"
    format: str | None = None
    file: str | None = None
    user_ids: str = "none"
    user_id_key: str | None = dataclasses.field(default=None, repr=False)
    project: str | None = None


# Ids need not be secret, and a system call would switch threads.
_random = random.getrandbits

_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)
_options = Options()


def current() -> RequestContext | None:
    """Return the context of the request being handled, None outside of one."""
    return _current.get()


def set_order_id(order_id: int) -> None:
    """Add the order's id to every further line of this request."""
    if context := _current.get():
        context.order_id = order_id


def set_user_id(user_id: object) -> None:
    """Add the caller's id to every further line of this request, as settings allow."""
    if _options.user_ids != "none" and (context := _current.get()):
        context.user = name_of_user(user_id)


def name_of_user(user_id: object) -> str | None:
    """Return what log lines call a user, None if they do not name any."""
    name = str(user_id)
    if _options.user_ids == "hashed":
        key = (_options.user_id_key or "").encode()
        return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:32]
    return name if _options.user_ids == "plain" else None


@contextmanager
def request_context(
    request_id: str | None,
    traceparent: str | None,
    tracestate: str | None = None,
    service: str = "",
) -> Iterator[RequestContext]:
    """Make a context current; absent or invalid ids are replaced by new ones."""
    if request_id is None or not _VALID_ID.fullmatch(request_id):
        request_id = str(uuid.UUID(int=_random(128), version=4))
    is_first = traceparent is None or not _TRACEPARENT.fullmatch(traceparent)
    if is_first:
        traceparent = f"00-{_random(128):032x}-{_random(64):016x}-01"
    if tracestate and (is_first or not _TRACESTATE.fullmatch(tracestate)):
        tracestate = None
    assert traceparent is not None
    context = RequestContext(
        request_id, traceparent, tracestate or None, is_first, service
    )
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def trace_fields(traceparent: str) -> dict[str, Any]:
    """Return a trace as Cloud Logging's fields."""
    _, trace, span, flags = traceparent.split("-")
    if _options.project:
        trace = f"projects/{_options.project}/traces/{trace}"
    return {TRACE: trace, SPAN: span, SAMPLED: bool(int(flags, 16) & 1)}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON in Cloud Logging's field names."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_fields(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return printable(msgspec.json.encode(line, enc_hook=str).decode())


_HIDDEN = frozenset({SPAN, SAMPLED, LABELS, "httpRequest"})


class TextFormatter(logging.Formatter):
    """Formats a record for people: time, level, message, then `field=value` pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by an exception's traceback."""
        fields = _fields(record)
        fields |= fields.get(LABELS, {})
        created = datetime.fromtimestamp(record.created).astimezone()
        name = record.name.removeprefix(f"{_OWN}.")
        parts = [
            f"{created:%H:%M:%S}.{created.microsecond // 1000:03d}",
            f"{record.levelname:<7}",
            f"{name}: {record.getMessage()}",
        ]
        for field_name, value in fields.items():
            if field_name not in _HIDDEN and value is not None:
                parts.append(f"{field_name.rpartition('/')[2]}={value}")
        line = printable(" ".join(parts))
        if record.exc_info:
            line += "\n" + printable_lines(self.formatException(record.exc_info))
        return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the request's ids and the record's own fields, which take precedence.

    The latter are the call's `extra={"fields": {...}}`.
    """
    fields: dict[str, Any] = {}
    if context := _current.get():
        fields["request_id"] = context.request_id
        fields |= trace_fields(context.traceparent)
        labels = {}
        if context.order_id is not None:
            fields["order_id"] = context.order_id
            labels["order_id"] = str(context.order_id)
        if context.user is not None:
            labels["user_id"] = context.user
        if labels:
            fields[LABELS] = labels
    fields.update(getattr(record, "fields", {}))
    return fields


class LineHandler(logging.Handler):
    """Writes each record by a single call, and so without a lock.

    With a lock, threads would wait for each other's writes.
    """

    def __init__(self, file: str | None = None) -> None:
        """Write to standard error, or append to `file`; raise OSError."""
        super().__init__()
        self._file = file
        self._checked_at = time.monotonic()
        self._descriptor = STANDARD_ERROR if file is None else _open(file)

    def createLock(self) -> None:  # noqa: N802 logging's
        """Use no lock."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            line = (self.format(record) + "\n").encode(errors="replace")
            if self._file is not None and time.monotonic() - self._checked_at >= 1:
                self._follow(self._file)
            while line:
                line = line[os.write(self._descriptor, line) :]
        except Exception:  # noqa: BLE001 logging must not fail a request
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None and self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        super().close()

    def _follow(self, file: str) -> None:
        """Reopen the file if it was moved away, within a second.

        Reuse the descriptor, because other threads may be writing to it right now.
        """
        self._checked_at = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(Path(file).stat(), os.fstat(self._descriptor)):
                return
        fresh = _open(file)
        try:
            os.dup2(fresh, self._descriptor, inheritable=False)
        finally:
            os.close(fresh)


def _open(file: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(file, flags, 0o640)


def get(name: str) -> logging.Logger:
    """Return the logger `orders.NAME`."""
    return logging.getLogger(f"{_OWN}.{name}")


def write(
    logger: logging.Logger, level: int, text: str, fields: dict[str, Any]
) -> None:
    """Log a line if its level is enabled; for hot paths.

    `logger.log` would search the stack for its caller, which takes longer than the
    rest.
    """
    if logger.isEnabledFor(level):
        record = logging.LogRecord(logger.name, level, __file__, 0, text, (), None)
        record.fields = fields
        logger.handle(record)


def configure(options: Options) -> None:
    """Configure our own loggers; may be called again with other options.

    The root logger belongs to the server that runs us. Raise OSError if the file cannot
    be written to.
    """
    global _options  # noqa: PLW0603 a process has one log
    logger = logging.getLogger(_OWN)
    handlers = [each for each in logger.handlers if isinstance(each, LineHandler)]
    if not handlers or _output(options) != _output(_options):
        new_handler = LineHandler(options.file)
        new_handler.setFormatter(_formatter(options))
        logger.addHandler(new_handler)
        logger.propagate = False
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
    _options = options
    logger.setLevel(options.level)
    get(SIGNALS).setLevel(min(logging.INFO, logger.level))
    if options.level != "DEBUG":
        # Six lines about an unavailable broker, a traceback about a malformed header:
        # our own line suffices.
        for library in ("pika", "urllib3"):
            logging.getLogger(library).setLevel(logging.CRITICAL)


def _output(options: Options) -> tuple[str | None, str | None]:
    return options.format, options.file


def _formatter(options: Options) -> logging.Formatter:
    is_text = options.format == "text"
    if options.format is None:
        is_text = options.file is None and os.isatty(STANDARD_ERROR)
    return TextFormatter() if is_text else JsonFormatter()
