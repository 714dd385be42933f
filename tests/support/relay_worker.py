"""The relay's worker as a process: start it, read its log, wait until it listens."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.service import Service
from tests.support.serving import CHECKOUT
from tests.support.worker import PATIENCE_SECONDS, environ_of, eventually, started

WORKER = CHECKOUT / "functions" / "outbox_relay" / "worker.py"
# It listens, and has looked for work since.
LISTENS = """
SELECT 1 FROM pg_stat_activity listens, pg_stat_activity looked
WHERE listens.datname = current_database() AND looked.datname = current_database()
  AND (listens.query = 'LISTEN outbox' OR listens.query LIKE '-- listening.hear%')
  AND looked.query LIKE '-- outbox.claim_any%' AND looked.state = 'idle'
  AND looked.query_start > listens.backend_start
"""


class Running:
    """A worker: its process, and what it has said."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process = process
        self._output = output

    def said(self) -> list[dict[str, Any]]:
        """Return its log so far."""
        lines = self._output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def messages(self) -> list[str]:
        """Return the messages of its log so far."""
        return [line["message"] for line in self.said()]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; answer its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def relay_worker(
    service: Service, output: Path, *arguments: str, **settings: str
) -> Iterator[Running]:
    """Run a worker on the service's database; what it says goes to `output`."""
    command = [sys.executable, str(WORKER), *arguments]
    with started(command, environ_of(service, settings), output) as process:
        yield Running(process, output)


def relay_worker_ended(
    service: Service, *arguments: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run a worker that ends by itself; return how."""
    return subprocess.run(
        [sys.executable, str(WORKER), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environ_of(service, settings),
        cwd="/",
        timeout=PATIENCE_SECONDS,
    )


def until_it_listens(service: Service) -> None:
    """Wait until a worker has nothing to do but listen."""
    eventually(lambda: service.rows(LISTENS))
