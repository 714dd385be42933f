"""Fork service processes from one that has imported everything.

A child writes the name of each failpoint it passes to its trail, and kills itself with
SIGKILL at the one chosen.
"""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[3]
FUNCTIONS = CHECKOUT / "functions"
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Child:
    """A process that was forked: where it listens, if it does, and its trail."""

    pid: int
    port: int
    trail: Path
    log: Path

    def points(self) -> list[str]:
        """Return the failpoints that it has passed so far, in order."""
        return self.trail.read_text().splitlines() if self.trail.exists() else []


class Nursery:
    """Starts children and hears how they ended. For one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._ended: dict[int, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        role: str,
        environ: dict[str, str],
        *arguments: str,
        kill_at: tuple[str, int] | None = None,
        disturbance: str | None = None,
    ) -> Child:
        """Fork a child for `role`: a function's name, or what `_ROLES` knows.

        It dies at the failpoint `kill_at` names, when it passes there for the time that
        `kill_at` says, from 1 on. `disturbance` is a
        statement that somebody else runs right after it has loaded an order.
        """
        self._count += 1
        base = self._folder / f"{self._count}-{role}"
        told = self._ask(
            role=role,
            environ=environ,
            arguments=arguments,
            kill_at=kill_at,
            disturbance=disturbance,
            trail=f"{base}.trail",
            log=f"{base}.log",
        )
        self._ended.pop(told["pid"], None)  # a number of which another has died
        trail, log = Path(f"{base}.trail"), Path(f"{base}.log")
        return Child(told["pid"], told["port"], trail, log)

    def wait(self, child: Child, seconds: float = PATIENCE_SECONDS) -> int | None:
        """Return how a child ended, -9 where it was killed; None: it still runs."""
        if child.pid not in self._ended:
            status = self._ask(wait=child.pid, seconds=seconds)["status"]
            if status is None:
                return None
            self._ended[child.pid] = status
        return self._ended[child.pid]

    def kill(self, child: Child) -> None:
        """End a child at once, if it has not ended, and see it gone."""
        if child.pid in self._ended:  # by now its number may be somebody else's
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        self.wait(child)

    def stop(self, child: Child) -> None:
        """Ask a child to end, and see it gone."""
        os.kill(child.pid, signal.SIGTERM)
        assert self.wait(child) == 0, child.log.read_text()

    def close(self) -> None:
        """End the nursery; children that still run end with it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()

    def _ask(self, **question: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery has ended"
        return json.loads(answer)


@contextlib.contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """Yield a nursery whose children leave their trails in `folder`."""
    running = Nursery(folder)
    try:
        yield running
    finally:
        running.close()


# The forking process. Single-threaded, so that forking it is safe.


def main() -> None:
    """Return one line for each line of standard input, until it ends."""
    # What children need, imported once: a child has better things to do. Without what
    # loads grpc, which does not survive a fork.
    import functions_framework  # noqa: F401, PLC0415
    import pika  # noqa: F401, PLC0415
    import requests  # noqa: F401, PLC0415

    from infra import orderctl  # noqa: F401, PLC0415
    from infra.local import http_server  # noqa: F401, PLC0415
    from tests.support.modules import import_all  # noqa: PLC0415

    import_all({"common.database.cloud_sql", "common.telemetry.otel"})
    assert "grpc" not in sys.modules
    gc.freeze()
    children: set[int] = set()
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            status = _wait(question["wait"], question["seconds"])
            if status is not None:
                children.discard(question["wait"])
            answer: dict[str, Any] = {"status": status}
        else:
            answer = _fork(question)
            children.add(answer["pid"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ChildProcessError):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)


def _fork(question: dict[str, Any]) -> dict[str, Any]:
    """Fork, and wait until the child serves or has begun its work."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read_end)
        status = 70
        try:
            status = _live(question, write_end)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                sys.stderr.write(end.code + "\n")
        except BaseException:  # noqa: BLE001 a child must never go on as the nursery
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        port = pipe.readline()
    return {"pid": pid, "port": int(port or 0)}


def _live(question: dict[str, Any], write_end: int) -> int:
    log = os.open(question["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(question["environ"])
    _arm(question)
    role, arguments = question["role"], question["arguments"]
    say_ready = _sayer(write_end)
    if role in _ROLES:
        say_ready(0)
        return _ROLES[role](arguments)
    return _serve(role, say_ready)


def _sayer(write_end: int) -> Callable[[int], None]:
    def say(port: int) -> None:
        os.write(write_end, f"{port}\n".encode())
        os.close(write_end)

    return say


def _arm(question: dict[str, Any]) -> None:
    from common import failpoints  # noqa: PLC0415 the child's

    trail = os.open(question["trail"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    kill_at, disturbance = question["kill_at"], question["disturbance"]
    lock = threading.Lock()
    passed: Counter[str] = Counter()

    def reach(name: str) -> None:
        nonlocal disturbance
        with lock:
            passed[name] += 1
            os.write(trail, f"{name}\n".encode())
            if [name, passed[name]] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        if disturbance and name == "sql store.load after":
            statement, disturbance = disturbance, None
            from tests.support.database import execute  # noqa: PLC0415 seldom

            execute(os.environ["DATABASE_URL"], statement)

    failpoints.arm(reach)


def _serve(function: str, say_ready: Callable[[int], None]) -> int:
    import functions_framework  # noqa: PLC0415 the child's

    from infra.local.http_server import HttpServer  # noqa: PLC0415

    source = str(FUNCTIONS / function / "main.py")
    app = functions_framework.create_app(function, source)  # type: ignore[no-untyped-call]
    server = HttpServer(app)
    server.start()
    say_ready(server.port)
    threading.Event().wait()
    return 0


def _worker(function: str) -> Callable[[list[str]], int]:
    def run(arguments: list[str]) -> int:
        import runpy  # noqa: PLC0415 the child's

        path = str(FUNCTIONS / function / "worker.py")
        sys.argv = [path, *arguments]
        runpy.run_path(path, run_name="__main__")
        return 0

    return run


def _orderctl(arguments: list[str]) -> int:
    from infra import orderctl  # noqa: PLC0415 the child's

    return orderctl.main(arguments)


_ROLES: dict[str, Callable[[list[str]], int]] = {
    "approval_worker": _worker("approval_handler"),
    "relay_worker": _worker("outbox_relay"),
    "orderctl": _orderctl,
}


if __name__ == "__main__":
    main()
