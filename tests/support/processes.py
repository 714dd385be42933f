"""Find out which processes run, and as what, on Linux and macOS.

Without a parent that waits for it, an ended process stays listed as a zombie.
"""

import contextlib
import random
import socket
import subprocess
import time
from pathlib import Path

PROC = Path("/proc")
# Below what systems hand out for outgoing connections: a port that is free now must
# still be free when a server comes back.
PORTS = range(20000, 32000)


def running() -> dict[int, str]:
    """Return pid and command line of every process that is alive."""
    if not Path("/proc/self/cmdline").exists():
        listing = ["ps", "-A", "-ww", "-o", "pid=,stat=,args="]
        done = subprocess.run(listing, check=True, capture_output=True, text=True)
        rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
        return {int(row[0]): row[-1] for row in rows if not row[1].startswith("Z")}
    found = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command:  # neither a zombie nor the kernel's
            found[int(folder.name)] = command.replace("\0", " ")
    return found


def wait_until_gone(pid: int, seconds: float = 10) -> None:
    """Wait until the process has ended; fails when it does not."""
    deadline = time.monotonic() + seconds
    while pid in running():
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has right now."""
    found: set[int] = set()
    while len(found) < count:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)


def free_port() -> int:
    """Return one of them."""
    return free_ports(1)[0]


def guard(command: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Have a shell run `command` when this process ends, however it does."""
    # Then the guard's input ends, too.
    shell = ["/bin/sh", "-c", f"cat >/dev/null; {command}", "guard", *arguments]
    return subprocess.Popen(shell, stdin=subprocess.PIPE, start_new_session=True)
