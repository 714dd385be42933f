"""Check the settings and set up logs and tracing when a function is loaded.

Every function needs this, even one without a database. What only some need, such as the
engine, is built in `wiring`.
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

needs: dict[str, None] = {}  # of all functions loaded so far, in order


def start(*names: str, load: Callable[[], None] | None = None) -> None:
    """Do what `use` does, but end the process if the settings are wrong.

    An entry point calls this with the features it needs, so that a wrong deployment
    fails at start, with one line, and not at its first request.
    """
    try:
        use(*names, load=load)
    except ConfigError as error:
        raise SystemExit(f"configuration error: {error}") from error


def use(*names: str, load: Callable[[], None] | None = None) -> None:
    """Check the settings that the named features need, and set up logs and tracing.

    Raise ConfigError. Read the environment only; open nothing. `load` imports what
    would make the first request slow.
    """
    needs.update(dict.fromkeys(names))
    settings.forget()
    current = settings()
    _configure_logs(current)
    if current.is_traced:
        _switch_on_tracing(current)
    if load is not None:
        load()
    _resume_garbage_collection()


class Once(Generic[T]):
    """Builds a value at the first call, once even if several threads call at a time."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._built: tuple[T, ...] = ()
        self._lock = threading.Lock()

    def __call__(self) -> T:
        """Return the value, building it first if necessary."""
        built = self._built
        if not built:
            with self._lock:
                built = self._built or (self._build(),)
                self._built = built
        return built[0]

    def peek(self) -> T | None:
        """Return the value if it is built, else None."""
        built = self._built
        return built[0] if built else None

    def forget(self) -> None:
        """Build again at the next call, with a new lock: a fork may copy a held one."""
        self._built = ()
        self._lock = threading.Lock()


@Once
def settings() -> config.Settings:
    """Return the settings, checked for the needs of all functions loaded so far."""
    return config.load(needs=needs)


def _configure_logs(current: config.Settings) -> None:
    try:
        logs.configure(current.log)
    except OSError as error:
        raise ConfigError(f"LOG_FILE cannot be written to: {error.strerror}") from error


def _switch_on_tracing(current: config.Settings) -> None:
    try:
        from common.telemetry import otel  # noqa: PLC0415 only if configured
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed:"
            " install the extra otel, or set OTEL_SDK_DISABLED=true"
        ) from error

    flushes = current.is_on_cloud_run  # it has no CPU between requests
    exporters = otel.exporters(are_flushed=flushes)

    def make() -> "OpenTelemetry":
        return otel.OpenTelemetry(exporters, current.traced_as, flushes=flushes)

    tracing.switch_on(make)


def _resume_garbage_collection() -> None:
    """Restore Python's threshold, and exempt all that is loaded from collection.

    A full collection during a request would take 40 ms, and find all of it in use.
    """
    if gc.get_threshold() != GC_THRESHOLD:
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
