"""Start and stop what a run needs: database, bus, siblings, functions.

Functions may come from another checkout, with its Python, to compare two versions.
"""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bus import own_exchange
from infra.local.postgres import postgres_server
from tests.support import database
from tests.support.processes import free_port
from tests.support.rabbitmq import Broker, trouble
from tests.support.serving import until_it_answers

HERE = Path(__file__).parent
STOP_SECONDS = 20
HELLO = "hello"


class StageError(Exception):
    """Something that a run needs does not work; the message is for a terminal."""


@dataclass(frozen=True)
class Served:
    """A function's server: its port, process and log."""

    name: str
    port: int
    pid: int
    log: Path


@dataclass
class Stage:
    """The environment of a run, made by `stage`."""

    checkout: Path
    folder: Path
    database_url: str
    bus: str
    environ: dict[str, str]
    siblings_port: int
    workers: int
    threads: int
    _count: int = field(default=0)

    @property
    def python(self) -> str:
        """Return the Python of the checkout, ours if it has none."""
        return python_of(self.checkout)

    @contextlib.contextmanager
    def serving(
        self,
        name: str,
        *,
        workers: int | None = None,
        threads: int | None = None,
        **settings: str,
    ) -> Iterator[Served]:
        """Serve a function, or `hello`, by the functions framework."""
        port = free_port()
        self._count += 1
        log = self.folder / f"{self._count}-{name}.log"
        environ = self.environ | {
            "WORKERS": str(workers or self.workers),
            "THREADS": str(threads or self.threads),
            "FUNCTION_TARGET": name,
            "BENCH_SOURCE": str(self.checkout / "functions" / name / "main.py"),
            **settings,
        }
        source = HERE / ("hello.py" if name == HELLO else "served.py")
        command = [self.python, "-m", "functions_framework", "--source", str(source)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        with _process(command, self.checkout, environ, log) as process:
            _wait_until_live(port, process, log)
            yield Served(name, port, process.pid, log)

    def run(self, arguments: Sequence[str], **settings: str) -> str:
        """Run the checkout's Python; return its standard output."""
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.checkout,
            env=self.environ | settings,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            output = done.stderr.strip() or done.stdout.strip()
            raise StageError(f"{' '.join(arguments)} failed:\n{output[-2000:]}")
        return done.stdout


@contextlib.contextmanager
def stage(  # noqa: PLR0913 options of commands
    checkout: Path,
    *,
    workers: int,
    threads: int,
    delay: float,
    bus: str = "auto",
    is_hot: bool = False,
) -> Iterator[Stage]:
    """Start everything except functions; siblings respond after `delay` seconds.

    With `is_hot` every cart has the same variations.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(database.scratch_folder())
        server = os.environ.get("TEST_DATABASE_URL") or stack.enter_context(
            postgres_server(folder / "postgres", durable=True)
        )
        url = stack.enter_context(database.database(server))
        port = stack.enter_context(siblings(delay, is_hot=is_hot))
        siblings_url = f"http://127.0.0.1:{port}"
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(checkout),
            "DATABASE_URL": url,
            "SHOPCART_SERVICE": siblings_url,
            "PRODUCT_SERVICE": siblings_url,
            "LOG_LEVEL": "INFO",
        }
        found = _broker(bus)
        if found is None:
            environ |= {"EVENT_BUS": "http", "EVENT_SINK_URL": f"{siblings_url}/events"}
        else:
            name = f"bench_{uuid.uuid4().hex[:8]}"
            stack.enter_context(own_exchange(found.connect, name, longest=1000))
            environ |= {"EVENT_BUS": "rabbitmq", "BENCH_EXCHANGE": name}
            environ |= found.environ
        ready = Stage(
            checkout=checkout,
            folder=folder,
            database_url=url,
            bus="http" if found is None else "rabbitmq",
            environ=environ,
            siblings_port=port,
            workers=workers,
            threads=threads,
        )
        ready.run(["-m", "infra.orderctl", "migrate"])
        yield ready


@contextlib.contextmanager
def siblings(delay: float, *, is_hot: bool = False) -> Iterator[int]:
    """Run siblings that respond after `delay` seconds; yield their port."""
    command = [sys.executable, "-m", "benchmarks.siblings", "--delay"]
    process = subprocess.Popen(
        [*command, str(delay * 1000), *(["--hot"] if is_hot else [])],
        cwd=HERE.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(STOP_SECONDS)
        process.stdout.close()


def python_of(checkout: Path) -> str:
    """Return the Python of a checkout, ours if it has none."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if checkout != HERE.parent and own.exists() else sys.executable


def _broker(bus: str) -> Broker | None:
    """Return the RabbitMQ that events go to, None for the HTTP sink."""
    if bus == "http":
        return None
    found = Broker()
    problem = trouble(found)
    if problem is None:
        return found
    if bus == "rabbitmq":
        raise StageError(f"no RabbitMQ on {found.host}:{found.port} ({problem})")
    return None


@contextlib.contextmanager
def _process(
    command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)  # gunicorn then does not wait for requests
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_live(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    try:
        until_it_answers(f"http://127.0.0.1:{port}", process)
    except AssertionError as error:
        output = log.read_text(errors="replace")[-2000:]
        raise StageError(f"a function does not serve:\n{output}") from error
