"""Install Debian packages that tests need, where that is possible.

apt runs once at a time, so test processes wait for each other.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / f"order-service-apt-{os.geteuid()}.lock"


class InstallError(Exception):
    """A package cannot be had; the message is one line that says why."""


def may_install() -> bool:
    """Return whether this machine lets us: as root, on Debian or Ubuntu."""
    return not os.geteuid() and shutil.which("apt-get") is not None


def install(package: str, program: str) -> None:
    """Install `package` unless `program` is there; raise InstallError."""
    if shutil.which(program):
        return
    if not may_install():
        raise InstallError(f"{package} is not installed")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shutil.which(program):  # by another process meanwhile
            return
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        wanted = ["install", "-qq", "--no-install-recommends", "--yes", package]
        for arguments in (["update", "-qq"], wanted):
            command = ["apt-get", *arguments]
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=environ
            )
            if done.returncode:
                said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
                raise InstallError(f"{' '.join(command)}: {said}")
