"""An embedded PostgreSQL: a cluster in a folder, served while a `with` block runs.

PostgreSQL refuses root, so root runs it as `nobody`; a small shell stops the server
even if its parent is killed.
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from infra.local.postgres_binaries import (
    EmbeddedPostgresError,
    Installation,
    account,
    find_installation,
    remove_elsewhere,
    within_reach,
)

URL_FILE = "url"  # in the folder: where the server is, or was
START_SECONDS = 30
STOP_SECONDS = 20

# `read` ends without a line only if the parent died and its end of the pipe closed. The
# double fork hides the guard from the postmaster, which would take the end of an
# unknown child for a crash.
GUARDED = (
    "exec 3<&0; ( ( read -r _ <&3 || kill -INT $$ ) >/dev/null 2>&1 & );"
    ' exec "$@" 3<&- </dev/null'
)


@dataclass(frozen=True, kw_only=True)
class _Cluster:
    """Where things are: all below one folder that only the server's user can read."""

    folder: Path
    installation: Installation

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def password(self) -> Path:
        return self.folder / "password"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"


@contextmanager
def postgres_server(
    folder: Path, *, durable: bool = True, max_connections: int = 200
) -> Iterator[str]:
    """Serve the cluster in `folder` and yield its URL; stop it at the end.

    A folder that is absent is created, one that is there is used again. The port is
    on loopback; it and the password stay, unless another program has taken the port.
    The URL is also in the folder's file `url`. `durable=False` trades safety against a
    power cut for speed. Raise EmbeddedPostgresError, one line, when it cannot be had
    or another process is serving this folder.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / URL_FILE
    with claim(folder):
        installation, home = within_reach(find_installation(), folder)
        cluster = _Cluster(folder=home / "cluster", installation=installation)
        try:
            _initialise(cluster, durable=durable)
            _stop_leftover(cluster)
            port = _kept_port(kept)
            server, port = _start(cluster, port, max_connections, durable=durable)
            try:
                password = cluster.password.read_text()
                url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
                kept.touch(mode=0o600)
                kept.write_text(url)
                yield url
            finally:
                _stop(server)
        finally:
            if not durable:
                remove_elsewhere(folder)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with it, however it ends."""
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedPostgresError(
                f"another process is serving {folder}: stop it first"
            ) from None
        yield


def _initialise(cluster: _Cluster, *, durable: bool) -> None:
    """Create the cluster, or see that the one there fits the binaries."""
    major = cluster.installation.major
    with suppress(FileNotFoundError):
        found = (cluster.data / "PG_VERSION").read_text().strip()
        if found != str(major):
            raise EmbeddedPostgresError(
                f"{cluster.folder} was made by PostgreSQL {found}, but this is"
                f" {major}: remove it (make reset) or set DATABASE_URL"
            )
        return
    # Without PG_VERSION, what is there is the rest of an interrupted attempt.
    shutil.rmtree(cluster.folder, ignore_errors=True)
    cluster.folder.mkdir(mode=0o700)
    cluster.password.touch(mode=0o600)
    cluster.password.write_text(secrets.token_hex(16))
    if user := account():
        os.chown(cluster.password, user.pw_uid, user.pw_gid)
        os.chown(cluster.folder, user.pw_uid, user.pw_gid)
    # Built beside its place and moved there whole: a kill leaves no half cluster.
    draft = cluster.folder / "draft"
    command = [cluster.installation.program("initdb"), "--pgdata", str(draft)]
    command += ["--username", "postgres", "--pwfile", str(cluster.password)]
    command += ["--encoding", "UTF8", *_locale(major)]
    command += [] if durable else ["--no-sync"]
    # The password is sent in plain text, on loopback only: SCRAM would cost each
    # connection 40 ms of Python. Trust would open the database to all local users.
    command += ["--auth", "password"]
    with cluster.log.open("wb") as log:
        initdb = _spawn(command, log)
        initdb.communicate()
    if initdb.returncode:
        reason = _last_line(cluster.log.read_text(errors="replace"))
        raise EmbeddedPostgresError(f"initdb failed: {reason} ({cluster.log})")
    draft.rename(cluster.data)


def _locale(major: int) -> list[str]:
    """Return the arguments for C.UTF-8: the server's own where it has one."""
    if major >= 17:  # noqa: PLR2004 the first with a locale provider of its own
        return ["--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
    # macOS knows no C.UTF-8; C orders alike and differs in upper() beyond ASCII only.
    return ["--locale=C" if sys.platform == "darwin" else "--locale=C.UTF-8"]


def _stop_leftover(cluster: _Cluster) -> None:
    """Stop a server whose guard died too, and drop the pid file of one long gone.

    The lock is ours, so nobody uses it. A pid that was given to another program since
    would keep the server from starting: it only looks whether the number is alive.
    """
    with suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(cluster.pid_file.read_text().splitlines()[0])
        deadline = time.monotonic() + STOP_SECONDS
        while _serves(pid, cluster.data):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL with pid {pid} does not stop")
            os.kill(pid, signal.SIGINT)
            time.sleep(0.1)
        cluster.pid_file.unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    """Return whether the process is a server of this cluster, and not its zombie."""
    process = Path("/proc", str(pid))
    if Path("/proc/self/cmdline").exists():
        try:
            command = (process / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return str(data) in command
    listing = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(listing, check=False, capture_output=True, text=True)
    return f"-D {data} " in done.stdout


def _kept_port(kept: Path) -> int:
    """Return the port of the last start, 0 if there was none."""
    with suppress(FileNotFoundError, ValueError):
        return urlsplit(kept.read_text()).port or 0
    return 0


def _free_port(wanted: int) -> int:
    """Return the port that is wanted, or any other if it is taken or 0."""
    try:
        with socket.create_server(("127.0.0.1", wanted)) as probe:
            port: int = probe.getsockname()[1]
    except OSError:
        return _free_port(0)
    return port


def _start(
    cluster: _Cluster, wanted: int, max_connections: int, *, durable: bool
) -> tuple["subprocess.Popen[bytes]", int]:
    """Start the server; return it with its port once it takes connections."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        # Another process may take the port before the server does: then try again.
        port = _free_port(wanted)
        server = _launch(cluster, port, max_connections, durable=durable)
        try:
            if _is_up(server, cluster, deadline):
                return server, port
        except BaseException:
            _stop(server)
            raise
        _stop(server)
        log = cluster.log.read_text(errors="replace")
        # Processes of a killed server keep its shared memory for a moment.
        passing = "Address already in use" in log or "shared memory block" in log
        if not passing or time.monotonic() > deadline:
            raise EmbeddedPostgresError(
                f"PostgreSQL did not start: {_last_line(log)} ({cluster.log})"
            )
        time.sleep(0.2)


def _launch(
    cluster: _Cluster, port: int, max_connections: int, *, durable: bool
) -> "subprocess.Popen[bytes]":
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        # A socket's path may be too long, and lies open in /tmp.
        "unix_socket_directories": "",
        "max_connections": max_connections,
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if not durable:
        settings |= {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
        }
    server = [cluster.installation.program("postgres"), "-D", str(cluster.data)]
    for name, value in settings.items():
        server += ["-c", f"{name}={value}"]
    with cluster.log.open("wb") as log:
        return _spawn(["/bin/sh", "-c", GUARDED, "postgres", *server], log)


def _spawn(command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start a program as the server's user, with nothing of ours but the path."""
    user = account()
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        # The user may not be able to be where we are.
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        umask=0o077,
        # Ctrl-C in the terminal is for our parent alone: it first stops what uses
        # the database.
        start_new_session=True,
    )


def _is_up(
    server: "subprocess.Popen[bytes]", cluster: _Cluster, deadline: float
) -> bool:
    """Wait until the server is ready; False when it ended instead, or took too long."""
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            lines = cluster.pid_file.read_text().split("\n")
            if lines[0] == str(server.pid) and lines[7:8] == ["ready   "]:
                return True
        time.sleep(0.02)
    return False


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """Stop the server: fast, then at once, then for good."""
    for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is not None:
            break
        server.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
    if server.stdin:
        # A line ends the guard: it must not signal the pid any more.
        with suppress(BrokenPipeError):
            server.stdin.write(b"\n")
            server.stdin.flush()
        with suppress(BrokenPipeError):
            server.stdin.close()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
