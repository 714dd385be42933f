"""Make or complete a virtual environment: `python -m infra.environment .venv local`.

It runs before anything is installed, so it needs nothing but Python. Whoever comes
while another one installs waits for it.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PROJECT = CHECKOUT / "pyproject.toml"
# What is installed, and the file in the environment that says when it was.
KINDS = {"local": ".installed-local", "dev": ".installed"}
POLL_SECONDS = 0.2
LINE_SECONDS = 5.0  # between two lines, where nobody looks at a terminal
NO_VENV = (
    "This Python comes without venv. On Debian and Ubuntu: apt-get install python3-venv"
    " (or python{}.{}-venv)"
)


class InstallError(Exception):
    """The environment cannot be made; the message says why."""


def main(arguments: Sequence[str]) -> int:
    """Complete the environment in a folder for `local` or `dev`; return the status."""
    folder, kind = Path(arguments[0]).absolute(), arguments[1]
    try:
        with _lock(folder):
            if not _is_current(folder, kind):
                _complete(folder, kind)
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Wait until no other process installs here; the lock ends with this process."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"Another make installs into {folder.name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_current(folder: Path, kind: str) -> bool:
    stamp = folder / KINDS[kind]
    if kind == "local" and _is_current(folder, "dev"):  # which has all of that
        return True
    if not stamp.exists() or not _has_pip(folder):
        return False
    needed = max(_requirements(kind).stat().st_mtime, PROJECT.stat().st_mtime)
    return stamp.stat().st_mtime >= needed


def _requirements(kind: str) -> Path:
    return CHECKOUT / "requirements" / f"{kind}.txt"


def _has_pip(folder: Path) -> bool:
    """Return whether the environment's Python runs, and can install."""
    try:
        done = subprocess.run(
            [folder / "bin" / "python", "-c", "import pip"],
            check=False,
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0


def _complete(folder: Path, kind: str) -> None:
    began_at = time.monotonic()
    if not _has_pip(folder):  # also one whose Python is gone, or half made
        _make(folder)
    requirements = _requirements(kind)
    count = sum("==" in line for line in requirements.read_text().splitlines())
    how_long = "about a minute" if kind == "local" else "some minutes"
    _say(f"Installing {count} packages into {folder.name} (once; {how_long})")
    # The lock names everything. Asked to resolve, pip would look at newer releases,
    # too, and refuse one that an extra (coverage[toml]) brings without a pin.
    pinned = ["--require-hashes", "--only-binary", ":all:", "-r", str(requirements)]
    _pip(folder, ["install", "--no-deps", *pinned], count)
    _pip(folder, ["install", "--no-deps", "--no-build-isolation", "-e", str(CHECKOUT)])
    try:
        _pip(folder, ["check"])
    except InstallError as error:
        reason = f"{requirements.name} is incomplete: make lock\n{error}"
        raise InstallError(reason) from error
    (folder / KINDS[kind]).touch()
    seconds = time.monotonic() - began_at
    _say(f"Installed in {seconds:.0f} s; {folder.name} has {_megabytes(folder)} MB")


def _make(folder: Path) -> None:
    if not all(map(importlib.util.find_spec, ("ensurepip", "venv"))):
        raise InstallError(NO_VENV.format(*sys.version_info))
    _say(f"Making the virtual environment {folder.name}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)


def _pip(folder: Path, arguments: list[str], count: int = 0) -> None:
    """Run pip and show how far it is; raise InstallError with its last words."""
    command = [str(folder / "bin" / "python"), "-m", "pip", *arguments]
    command += ["--disable-pip-version-check", "--no-color"]
    log = folder / "install.log"
    [packages] = folder.glob("lib/python*/site-packages")
    before = len(list(packages.glob("*.dist-info")))
    with log.open("w") as written:
        pip = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
    progress = _Progress()
    while pip.poll() is None:
        found = log.read_text(errors="replace").count("Collecting ")
        there = len(list(packages.glob("*.dist-info"))) - before
        if count and there > 0:
            progress.show(f"  {min(there, count)} of {count} installed")
        elif count:
            progress.show(f"  {min(found, count)} of {count} fetched")
        time.sleep(POLL_SECONDS)
    progress.end()
    if pip.returncode:
        words = log.read_text(errors="replace").splitlines()
        raise InstallError("\n".join([f"pip failed ({log}):", *words[-8:]]))


class _Progress:
    """One line that changes on a terminal; elsewhere a new line every few seconds."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next_at = 0.0

    def show(self, text: str) -> None:
        if self._is_terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + LINE_SECONDS
            _say(text)

    def end(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _megabytes(folder: Path) -> int:
    """Return what the folder takes on the disk."""
    blocks = 0
    for place, _, names in os.walk(folder):
        blocks += sum(Path(place, name).lstat().st_blocks for name in names)
    return blocks * 512 // 1_000_000


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
