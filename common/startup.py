"""Check what a process is told before it serves: settings, log lines, tracing.

Every function needs this, also one without a database; what is built for the others is
in `wiring`.
"""

import gc
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from common import GC_THRESHOLD
from common.config import settings as config
from common.config.environment import ConfigError
from common.telemetry import logs, tracing

if TYPE_CHECKING:
    from common.telemetry.otel import OpenTelemetry

T = TypeVar("T")
needs: dict[str, None] = {}  # of all functions loaded so far, in their order


class Once(Generic[T]):
    """Builds at the first call, and once: first requests come several at a time."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: tuple[T, ...] = ()
        self._lock = threading.Lock()

    def __call__(self) -> T:
        """Return what was built, building it now if need be."""
        built = self._built
        if not built:
            with self._lock:
                built = self._built or (self._build(),)
                self._built = built
        return built[0]

    def peek(self) -> T | None:
        """Return what was built, if anything was."""
        built = self._built
        return built[0] if built else None

    def forget(self) -> None:
        """Build anew at the next call, under a new lock: a fork may copy a held one."""
        self._built = ()
        self._lock = threading.Lock()


def use(*names: str, load: Callable[[], None] | None = None) -> None:
    """Check the settings for what is named, and send log lines where they belong.

    Raise ConfigError. Reads the environment only; opens nothing. `load` imports what no
    request may wait for.
    """
    needs.update(dict.fromkeys(names))
    settings.forget()
    _configure_logs(settings())
    if settings().is_traced:
        _switch_on_tracing()
    if load is not None:
        load()
    _collect_garbage_from_now_on()


def _configure_logs(given: config.Settings) -> None:
    try:
        logs.configure(given.log)
    except OSError as error:
        raise ConfigError(f"LOG_FILE cannot be written to: {error.strerror}") from error


def _switch_on_tracing() -> None:
    try:
        from common.telemetry import otel  # noqa: PLC0415 only where it is wanted
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed:"
            " install the extra otel, or set OTEL_SDK_DISABLED=true"
        ) from error

    given = settings()
    flushes = given.is_on_cloud_run  # there is no time between requests
    exporters = otel.exporters(are_flushed=flushes)

    def make() -> "OpenTelemetry":
        return otel.OpenTelemetry(exporters, given.traced_as, flushes=flushes)

    tracing.switch_on(make)


def _collect_garbage_from_now_on() -> None:
    """Go back to Python's own pace, and leave alone for ever what was loaded so far.

    A full collection would take 40 ms out of somebody's request, to find that all of it
    is still in use.
    """
    if gc.get_threshold() != GC_THRESHOLD:
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)


def start(*names: str, load: Callable[[], None] | None = None) -> None:
    """Check the settings when a function is loaded; end the process if they are wrong.

    Called by an entry point with what it cannot work without, so that a wrong
    deployment says so in one line at start instead of to its first caller.
    """
    try:
        use(*names, load=load)
    except ConfigError as error:
        raise SystemExit(f"configuration error: {error}") from error


@Once
def settings() -> config.Settings:
    """Return the settings, checked for the needs of all functions loaded so far."""
    return config.load(needs=needs)
