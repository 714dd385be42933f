"""Measure the database's ceiling: a checkout's rows, written by pgbench.

It uses five prepared statements in a transaction.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from infra.local.postgres_binaries import EmbeddedPostgresError, find_installation

SCRIPT = Path(__file__).with_name("checkout.sql")


class PgbenchError(Exception):
    """pgbench failed; the message is its error output."""


def program() -> str | None:
    """Return pgbench's path, preferably beside the embedded server's programs."""
    try:
        beside = find_installation().program("pgbench")
    except EmbeddedPostgresError:
        beside = ""
    return beside if Path(beside).is_file() else shutil.which("pgbench")


def run(program: str, url: str, clients: int, seconds: int) -> list[float]:
    """Return the seconds that each transaction took, ascending."""
    with tempfile.TemporaryDirectory(prefix="order-service-bench-") as folder:
        command = [program, "--no-vacuum", "--protocol", "prepared"]
        command += ["--file", str(SCRIPT), "--time", str(seconds)]
        command += ["--client", str(clients), "--jobs", str(min(clients, 2))]
        command += ["--log", "--log-prefix", f"{folder}/took", url]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise PgbenchError(f"pgbench: {done.stderr.strip()[-1000:]}")
        logs = "".join(log.read_text() for log in Path(folder).glob("took.*"))
    # Client, number, microseconds, and more.
    return sorted(int(each) / 1e6 for each in re.findall(r"(?m)^\d+ \d+ (\d+) ", logs))
