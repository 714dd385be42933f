"""Record every call that passes through the sandbox, and inject faults.

A call is recorded before its response is sent; faults are kept in memory only.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.datastructures import EnvironHeaders, Headers
from werkzeug.wrappers import Response

from infra.local.http_server import DROP_CONNECTION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

KEPT_CALLS = 20_000


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request that a sibling got. `headers` do not care about case.

    `path` is relative to the sibling's base URL, with its query. `status` is None when
    the sibling hung up instead of answering. Times are `time.monotonic()`.
    """

    sibling: str
    method: str
    path: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    status: int | None
    began_at: float = field(repr=False)
    ended_at: float = field(repr=False)

    @property
    def json(self) -> Any:  # noqa: ANN401
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(kw_only=True)
class Fault:
    """How a sibling fails, for the next `times` calls (None: all).

    `status` is returned at once, `body` replaces the response's body, `hang_up` closes
    the connection without a response; with none of the three the response is only
    late. With `after_work` the sibling does its work before it fails. `method` and
    `path` (a part of it) limit the fault to some calls.
    """

    status: int | None = None
    body: str | None = None
    hang_up: bool = False
    delay_seconds: float = 0
    times: int | None = None
    after_work: bool = False
    method: str | None = None
    path: str | None = None

    @property
    def is_only_late(self) -> bool:
        """Return whether the sibling's own response is sent after the delay."""
        return self.status is None and self.body is None and not self.hang_up


class Traffic:
    """The record of calls and the faults of every sibling."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=KEPT_CALLS)
        self._at_work: dict[str, int] = {}
        self._most_at_once: dict[str, int] = {}
        self._faults: dict[str, list[Fault]] = {}

    def calls(self) -> list[Call]:
        """Return every call so far, in the order in which they began."""
        with self._lock:
            return sorted(self._calls, key=lambda call: call.began_at)

    def most_at_once(self, sibling: str) -> int:
        """Return the most calls that the sibling had in progress at the same time."""
        with self._lock:
            return self._most_at_once.get(sibling, 0)

    def is_busy(self) -> bool:
        """Return whether any call is in progress."""
        with self._lock:
            return any(self._at_work.values())

    def forget(self) -> None:
        """Start a new record."""
        with self._lock:
            self._calls.clear()
            self._most_at_once.clear()

    def add_fault(self, sibling: str, fault: Fault) -> None:
        """Add a fault; a call meets the first one that fits it."""
        with self._lock:
            self._faults.setdefault(sibling, []).append(fault)

    def clear_faults(self, sibling: str | None = None) -> None:
        """Remove the faults of one sibling, or of all."""
        with self._lock:
            for name in [sibling] if sibling else list(self._faults):
                self._faults.pop(name, None)

    def faults(self) -> dict[str, list[Fault]]:
        """Return all faults."""
        with self._lock:
            return {name: list(faults) for name, faults in self._faults.items()}

    def watch(self, sibling: str, app: "WSGIApplication") -> "WSGIApplication":
        """Put the record and the faults in front of a sibling's app."""

        def watched(
            environ: "WSGIEnvironment", start_response: "StartResponse"
        ) -> Iterable[bytes]:
            body = environ["wsgi.input"].read()
            began_at = self._begin(sibling)
            path = quote(environ["PATH_INFO"], encoding="latin-1")
            if environ.get("QUERY_STRING"):
                path += f"?{environ['QUERY_STRING']}"
            status: int | None = None
            try:
                fault = self._take_fault(sibling, environ["REQUEST_METHOD"], path)
                response = _respond(app, environ, body, fault)
                status = response.status_code if response else None
            finally:
                call = Call(
                    sibling=sibling,
                    method=environ["REQUEST_METHOD"],
                    path=path,
                    headers=Headers(EnvironHeaders(environ)),
                    body=body,
                    status=status,
                    began_at=began_at,
                    ended_at=time.monotonic(),
                )
                self._end(call)
            if response is None:
                environ[DROP_CONNECTION] = True
                response = Response(status=502)
            return response(environ, start_response)

        return watched

    def _begin(self, sibling: str) -> float:
        with self._lock:
            at_work = self._at_work.get(sibling, 0) + 1
            self._at_work[sibling] = at_work
            self._most_at_once[sibling] = max(
                at_work, self._most_at_once.get(sibling, 0)
            )
        return time.monotonic()

    def _end(self, call: Call) -> None:
        with self._lock:
            self._at_work[call.sibling] -= 1
            self._calls.append(call)

    def _take_fault(self, sibling: str, method: str, path: str) -> Fault | None:
        with self._lock:
            faults = self._faults.get(sibling, [])
            for fault in faults:
                if fault.method not in (None, method) or (fault.path or "") not in path:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        faults.remove(fault)
                return fault
        return None


def _respond(
    app: "WSGIApplication",
    environ: "WSGIEnvironment",
    body: bytes,
    fault: Fault | None,
) -> Response | None:
    """Return the sibling's response, or the fault's; None: close the connection."""
    if fault is None:
        return _run(app, environ, body)
    if fault.after_work and not fault.is_only_late:
        _run(app, environ, body)
    time.sleep(fault.delay_seconds)
    if fault.is_only_late:
        return _run(app, environ, body)
    if fault.hang_up:
        return None
    content = '{"detail": "on purpose"}' if fault.body is None else fault.body
    return Response(content, fault.status or 200, mimetype="application/json")


def _run(app: "WSGIApplication", environ: "WSGIEnvironment", body: bytes) -> Response:
    environ["wsgi.input"] = BytesIO(body)
    return Response.from_app(app, environ, buffered=True)
