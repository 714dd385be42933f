"""A RabbitMQ node of a test's own, to be stopped, started and killed.

It has an epmd of its own, and both end with the test run, even if that is killed.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pika

from tests.support.processes import free_ports, guard
from tests.support.rabbitmq import (
    Broker,
    NoRabbitMQError,
    cannot_have,
    install,
    trouble,
)

LOOPBACK = "127.0.0.1"
START_SECONDS = 90
STOP_SECONDS = 60
# Erlang's schedulers would spin before they sleep, on cores that others wait for.
AT_REST = "+sbwt none +sbwtdcpu none +sbwtdio none"
DEBIANS = Path("/usr/lib/rabbitmq/bin")  # those on the path insist on their own user


class OwnBroker:
    """One node in `folder`; the same node, port and data at every start."""

    def __init__(
        self,
        folder: Path,
        definitions: Path | None,
        conf: str,
        plugins: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._programs = _programs()
        port, distribution, self._epmd_port = free_ports(3)
        self.broker = Broker(port=port)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._told = 0
        lines = [f"listeners.tcp.1 = {LOOPBACK}:{port}", conf]
        if definitions is not None:
            lines.append(f"load_definitions = {definitions}")
        for name in ("home", "data", "log"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "rabbitmq.conf").write_text("\n".join([*lines, ""]))
        (folder / "rabbitmq-env.conf").touch()  # instead of the machine's
        (folder / "plugins").write_text(f"[{','.join(plugins)}].\n")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_"))
        }
        self._environ = inherited | {
            "HOME": str(folder / "home"),  # where the cookie is made
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"orders{port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_FLAGS": f"-kernel inet_dist_use_interface {{127,0,0,1}} {AT_REST}",
            "RABBITMQ_CTL_ERL_ARGS": "+S 1",  # a command needs no second scheduler
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node
            "RABBITMQ_ALLOW_INPUT": "true",  # and the node has a shell
        }

    @property
    def port(self) -> int:
        """Where it speaks AMQP."""
        return self.broker.port

    @property
    def environ(self) -> dict[str, str]:
        """The service's variables for it."""
        return self.broker.environ

    def connect(self) -> pika.BlockingConnection:
        """Open a connection, which is the caller's to close."""
        return self.broker.connect()

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl on it, quietly, and answer what it prints."""
        done = subprocess.run(
            [self._programs / "rabbitmqctl", "--quiet", *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=self._environ,
            timeout=STOP_SECONDS,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def tell(self, *expressions: str) -> None:
        """Have the node's own shell run Erlang; a program would start for `ctl`.

        Raise AssertionError if it does not return.
        """
        assert self._process
        assert self._process.stdin
        self._told += 1
        last = f'io:format("told ~p.~n", [{self._told}]).\n'
        self._process.stdin.write(", ".join([*expressions, last]).encode())
        self._process.stdin.flush()
        deadline = time.monotonic() + STOP_SECONDS
        while f"told {self._told}." not in (output := self._output()):
            assert time.monotonic() < deadline, output[-300:]
            time.sleep(0.01)

    def add_user(self, user: str, password: str, allowed: str = ".*") -> None:
        """Let a user in, to what the pattern `allowed` names."""
        backend = "rabbit_auth_backend_internal"
        rights = ", ".join([f'<<"{allowed}">>'] * 3)
        self.tell(
            f'{backend}:add_user(<<"{user}">>, <<"{password}">>, <<"tests">>)',
            f'{backend}:set_permissions(<<"{user}">>, <<"/">>, {rights}, <<"tests">>)',
        )

    def start(self) -> None:
        """Start it, and wait until it serves; raise NoRabbitMQError."""
        if self._epmd is None:
            self._epmd = self._run([_epmd(), "-port", str(self._epmd_port)])
        server = [str(self._programs / "rabbitmq-server")]
        self._process = self._run(server, subprocess.PIPE)
        pids = [str(self._process.pid), str(self._epmd.pid)]
        self._guard = guard('kill -9 "$@"', *pids)
        deadline = time.monotonic() + START_SECONDS
        while why := self._trouble():
            if why == "ProbableAuthenticationError":
                # A node that loads definitions makes no users of its own accord.
                self.tell("rabbit:await_startup()")
                self.add_user(self.broker.user, self.broker.password)
                continue
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NoRabbitMQError(
                    f"no RabbitMQ: a node of our own does not come up ({why}):"
                    f" {self._output()[-300:]}"
                )
            time.sleep(0.1)

    def _trouble(self) -> str | None:
        """Return why it does not serve us, in a word; None when it does."""
        try:  # pika would log each time that nobody listens yet
            socket.create_connection((LOOPBACK, self.port), timeout=5).close()
        except OSError as error:
            return type(error).__name__
        return trouble(self.broker)

    def stop(self) -> None:
        """Stop it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(STOP_SECONDS)

    def _end(self, number: signal.Signals) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        if self._process is None:
            return
        if number is signal.SIGKILL:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)  # its helpers, too
        else:
            self._process.send_signal(number)
        self._process.communicate(timeout=STOP_SECONDS)
        self._process = None

    def _output(self) -> str:
        return (self._folder / "output").read_text(errors="replace").strip()

    def _run(
        self, command: list[str], stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
        with (self._folder / "output").open("ab") as output:
            return subprocess.Popen(
                command,
                env=self._environ,
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


@contextmanager
def own_broker(
    folder: Path,
    definitions: Path | None = None,
    conf: str = "",
    plugins: Sequence[str] = (),
) -> Iterator[OwnBroker]:
    """Yield a node that serves, with its data in `folder`; `conf` adds settings.

    Raise NoRabbitMQError where none can be had.
    """
    install()
    node = OwnBroker(folder, definitions, conf, plugins)
    try:
        node.start()
        yield node
    finally:
        node.close()


@contextmanager
def needed_broker(
    folder: Path,
    definitions: Path | None = None,
    conf: str = "",
    plugins: Sequence[str] = (),
) -> Iterator[OwnBroker]:
    """Yield an `own_broker`, or skip what needs it: fail, where services are needed."""
    with ExitStack() as stack:
        try:
            node = stack.enter_context(own_broker(folder, definitions, conf, plugins))
        except NoRabbitMQError as error:
            cannot_have(error)
        yield node


def _programs() -> Path:
    """Return the folder of RabbitMQ's own scripts, behind what is on the path."""
    if (DEBIANS / "rabbitmq-server").exists():
        return DEBIANS
    found = shutil.which("rabbitmq-server")
    if found is None:
        raise NoRabbitMQError("no RabbitMQ: rabbitmq-server is not installed")
    return Path(found).resolve().parent


def _epmd() -> str:
    found = shutil.which("epmd")
    if found is None:
        raise NoRabbitMQError("no RabbitMQ of our own without Erlang's epmd")
    return found
