"""Measure one cold start: from starting a process until its first response.

gunicorn runs a master and a worker, so memory is the sum of their proportional shares.
"""

import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import free_port

CHECKOUT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Request:
    """A request, and the expected status of its response."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    status: int = 200


@dataclass(frozen=True)
class Start:
    """Seconds from a process's start to its first 200 and its first work."""

    live: float
    work: float | None
    processor: float | None  # seconds of processor time until the first 200
    mebibytes: float | None


class ColdStartError(Exception):
    """The process did not start or respond as expected."""


def serve(
    source: Path,
    target: str,
    environ: Mapping[str, str],
    live: Request,
    work: Callable[[], Request] | None = None,
) -> Start:
    """Start a function; send `live` until it responds, then `work` once."""
    port = free_port()
    request = work() if work else live
    command = [sys.executable, "-m", "functions_framework"]
    command += ["--source", str(source), "--target", target]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with _running(command, environ) as (process, began):
        while (status := _status(port, live)) != live.status:
            if status is not None or process.poll() is not None:
                raise ColdStartError(f"{target} answered {status} to {live.path}")
            _check_timeout(began, target)
            time.sleep(POLL_SECONDS)
        alive = time.perf_counter()
        used = _processor_seconds(process.pid)
        begun = time.perf_counter()
        if (status := _status(port, request)) != request.status:
            raise ColdStartError(f"{target} answered {status} to {request.path}")
        worked = time.perf_counter() - begun
        memory = _mebibytes(process.pid)
    return Start(alive - began, alive - began + worked, used, memory)


def load(script: Path, environ: Mapping[str, str]) -> Start:
    """Start a worker until it would connect: everything is imported, nothing open."""
    program = "import runpy, sys; runpy.run_path(sys.argv[1]); print(); input()"
    with _running([sys.executable, "-c", program, str(script)], environ) as started:
        process, began = started
        assert process.stdout is not None
        if process.stdout.readline().strip():
            raise ColdStartError(f"{script} cannot be loaded")
        loaded = time.perf_counter()
        used = _processor_seconds(process.pid)
        memory = _mebibytes(process.pid)
    return Start(loaded - began, None, used, memory)


@contextlib.contextmanager
def _running(
    command: list[str], environ: Mapping[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    needed = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(CHECKOUT)}
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=needed | dict(environ),
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process, began
    except ColdStartError as error:
        process.kill()
        output = process.communicate()[0].decode(errors="replace")
        raise ColdStartError(f"{error}\n{output}".rstrip()) from None
    finally:
        process.terminate()
        try:
            process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _check_timeout(began: float, name: str) -> None:
    if time.perf_counter() - began > TIMEOUT_SECONDS:
        raise ColdStartError(f"{name} did not respond within {TIMEOUT_SECONDS:g} s")


def _status(port: int, request: Request) -> int | None:
    """Return the status, None if the connection was refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        try:
            headers = dict(request.headers)
            connection.request(request.method, request.path, request.body, headers)
        except ConnectionRefusedError:
            return None
        response = connection.getresponse()
        response.read()
        return response.status


def _family(pid: int) -> list[Path]:
    """Return the folders of a process and its children in /proc, if it exists."""
    proc = Path("/proc", str(pid))
    try:
        children = (proc / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return []
    return [proc, *(each for child in children for each in _family(int(child)))]


def _processor_seconds(pid: int) -> float | None:
    """Return the processor time of all of them so far; None if unknown."""
    threads = [t for each in _family(pid) for t in each.glob("task/*/schedstat")]
    used = sum(int(thread.read_text().split()[0]) for thread in threads)
    return used / 1e9 or None


def _mebibytes(pid: int) -> float | None:
    """Return their memory, counting shared pages once; None if unknown."""
    rolled = [each / "smaps_rollup" for each in _family(pid)]
    lines = [line for each in rolled for line in each.read_text().splitlines()]
    kibibytes = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kibibytes / 1024 or None
