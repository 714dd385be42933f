"""The always-on relay: publishes pending events as soon as it is notified, and polls.

Most commits do not notify, because PostgreSQL serialises those that do: only a request
that could not publish its events does. Polling finds what a crash left behind.
"""

import argparse
import signal
import time
from collections.abc import Sequence

from common import approval, startup, wiring
from common.database.listening import Listener, listening
from common.errors import ServiceError
from common.messaging import outbox
from common.messaging.relay import ANALYTICS_TIMEOUT_SECONDS
from common.operations import lag, retention
from common.telemetry import logs

POLL_SECONDS = 2.0
MAINTENANCE_SECONDS = 60.0  # between two rounds of it
# How long each task may take before maintenance is due or a signal is handled.
SWEEP_SECONDS = 25.0
BATCH_SECONDS = 4.0
APPROVE_SECONDS = 4.0
SIGNAL_POLL_SECONDS = 0.25
PAUSE_SECONDS = 2.0  # after an error

log = logs.get("relay.worker")


class Worker:
    """A relay that runs until `stop` is called."""

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._maintenance_at = time.monotonic()
        self._is_stopping = False

    def stop(self, *_signal: object) -> None:
        """Finish the current batch and stop."""
        self._is_stopping = True

    def run(self) -> None:
        """Work until stopped, even if the database or destinations fail."""
        log.info("relay started; polls every %g s", self._poll_seconds)
        while not self._is_stopping:
            try:
                with listening(wiring.engine(), outbox.CHANNEL) as listener:
                    self._serve(listener)
            except ServiceError as error:
                log.warning(
                    "a pass of the relay failed: %s; trying again", error.detail
                )
                self._pause(PAUSE_SECONDS)
            except Exception:
                log.exception("unexpected error in a pass of the relay; going on")
                self._pause(PAUSE_SECONDS)
        log.info("relay stopped")

    def _serve(self, listener: Listener) -> None:
        while not self._is_stopping:
            if time.monotonic() >= self._maintenance_at:
                # Set first, so that events do not wait if maintenance keeps failing.
                self._maintenance_at = time.monotonic() + MAINTENANCE_SECONDS
                self.maintain()
            if not self.sweep():
                self._wait(listener)

    def sweep(self, analytics_timeout: float = BATCH_SECONDS) -> dict[str, int]:
        """Publish due events; return their number by result.

        A slow call to analytics goes on in the background during the next sweeps.
        """
        counts = wiring.relay().sweep(
            SWEEP_SECONDS,
            timeout=BATCH_SECONDS,
            analytics_timeout=analytics_timeout,
            should_stop=lambda: self._is_stopping,
            served_by="outbox_relay worker",
        )
        if counts:
            log.info("relay pass done", extra={"fields": {"events": counts}})
        return counts

    def maintain(self) -> None:
        """Approve missed orders, settle stock, purge old rows, report the lag."""
        engine, settings = wiring.engine(), startup.settings()
        approved = approval.sweep(engine, settings.bus, APPROVE_SECONDS)
        settled = retention.settle_holds(
            engine, wiring.optional_product(), settings.stock_settle_seconds
        )
        purged = retention.purge(engine, settings.event_retention_days)
        done = {
            "approved": len(approved),
            "settled_variations": settled,
            "purged_keys": purged.keys,
            "purged_events": purged.events,
        }
        if any(done.values()):
            log.info("maintenance done", extra={"fields": done})
        lag.report(engine, len(approved))

    def _wait(self, listener: Listener) -> None:
        deadline = time.monotonic() + self._poll_seconds
        while not self._is_stopping and (left := deadline - time.monotonic()) > 0:
            if listener.wait(min(left, SIGNAL_POLL_SECONDS)):
                return

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._is_stopping and time.monotonic() < deadline:
            time.sleep(SIGNAL_POLL_SECONDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Relay until SIGTERM or SIGINT; with `--once`, until no more events are due."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--poll-seconds",
        type=_seconds,
        default=POLL_SECONDS,
        help="how often to look without a notification (default: %(default)s)",
    )
    parser.add_argument(
        "--once", action="store_true", help="do everything that is due now, then exit"
    )
    arguments = parser.parse_args(argv)
    wiring.start("DATABASE", "EVENT_BUS")
    worker = Worker(arguments.poll_seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    try:
        if arguments.once:
            _once(worker)
        else:
            worker.run()
    finally:
        wiring.close()


def _once(worker: Worker) -> None:
    try:
        worker.maintain()
        while worker.sweep(ANALYTICS_TIMEOUT_SECONDS):
            pass
    except ServiceError as error:
        raise SystemExit(f"outbox relay: {error.detail}") from error


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= MAINTENANCE_SECONDS:
        raise argparse.ArgumentTypeError(f"more than 0, up to {MAINTENANCE_SECONDS:g}")
    return seconds


if __name__ == "__main__":
    main()
