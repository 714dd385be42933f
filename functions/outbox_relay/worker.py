"""The relay always on: publishes pending events as soon as it is notified, and polls.

Most commits do not notify, since PostgreSQL serialises commits that do: only a
publisher that leaves events behind does, and polling finds what a crash left.
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
CHORES_SECONDS = 60.0
# How long it does one thing before it looks up: at the chores, at a signal.
SWEEP_SECONDS = 25.0
BATCH_SECONDS = 4.0
APPROVE_SECONDS = 4.0
GLANCE_SECONDS = 0.25
PAUSE_SECONDS = 2.0  # after an error

log = logs.get("relay.worker")


class Worker:
    """One relay, until somebody calls `stop`."""

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._chores_at = time.monotonic()
        self._is_stopping = False

    def stop(self, *_signal: object) -> None:
        """Have it finish the batch in hand and end."""
        self._is_stopping = True

    def run(self) -> None:
        """Work until stopped, whatever happens to the database or the destinations."""
        log.info("relay started; polls every %g s", self._poll_seconds)
        while not self._is_stopping:
            try:
                with listening(wiring.engine(), outbox.CHANNEL) as listener:
                    self._serve(listener)
            except ServiceError as error:
                log.warning(
                    "a pass of the relay failed: %s; trying again", error.detail
                )
                self._rest(PAUSE_SECONDS)
            except Exception:
                log.exception("unexpected error in a pass of the relay; going on")
                self._rest(PAUSE_SECONDS)
        log.info("relay stopped")

    def _serve(self, listener: Listener) -> None:
        while not self._is_stopping:
            if time.monotonic() >= self._chores_at:
                # First, so that a chore that fails keeps no events waiting.
                self._chores_at = time.monotonic() + CHORES_SECONDS
                self.do_chores()
            if not self.sweep():
                self._wait(listener)

    def sweep(self, analytics_timeout: float = BATCH_SECONDS) -> dict[str, int]:
        """Send what is due; return how many events ended how.

        What analytics takes longer for goes on beside the next sweeps.
        """
        swept = wiring.relay().sweep(
            SWEEP_SECONDS,
            timeout=BATCH_SECONDS,
            analytics_timeout=analytics_timeout,
            should_stop=lambda: self._is_stopping,
        )
        if swept:
            log.info("relay pass done", extra={"fields": {"events": swept}})
        return swept

    def do_chores(self) -> None:
        """Approve what was forgotten, forget what expired, tell how things stand."""
        engine, settings = wiring.engine(), startup.settings()
        approved = approval.sweep(engine, settings.bus, APPROVE_SECONDS)
        purged = retention.purge(engine, settings.event_retention_days)
        done = {
            "approved": len(approved),
            "purged_keys": purged.keys,
            "purged_events": purged.events,
        }
        if any(done.values()):
            log.info("maintenance done", extra={"fields": done})
        lag.report(engine, len(approved))

    def _wait(self, listener: Listener) -> None:
        deadline = time.monotonic() + self._poll_seconds
        while not self._is_stopping and (left := deadline - time.monotonic()) > 0:
            if listener.wait(min(left, GLANCE_SECONDS)):
                return

    def _rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._is_stopping and time.monotonic() < deadline:
            time.sleep(GLANCE_SECONDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Relay until SIGTERM or SIGINT; with `--once`, until nothing more is due."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--poll-seconds",
        type=_seconds,
        default=POLL_SECONDS,
        help="look this often without being told (default: %(default)s)",
    )
    parser.add_argument(
        "--once", action="store_true", help="do all that is due now, and end"
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
        worker.do_chores()
        while worker.sweep(ANALYTICS_TIMEOUT_SECONDS):
            pass
    except ServiceError as error:
        raise SystemExit(f"outbox relay: {error.detail}") from error


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= CHORES_SECONDS:
        raise argparse.ArgumentTypeError(f"more than 0, up to {CHORES_SECONDS:g}")
    return seconds


if __name__ == "__main__":
    main()
