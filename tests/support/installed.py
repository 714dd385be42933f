"""Install a function's zip in a clean environment and start it there.

Zips with the same requirements share an environment; packages come from pip's index, as
in `make venv`.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.processes import free_port
from tests.support.serving import until_it_answers

INSTALL_SECONDS = 150
START_SECONDS = 60
STOP_SECONDS = 20


class Installed:
    """Unpacked zips, each beside an environment of its requirements alone."""

    def __init__(self, zips: Path, folder: Path) -> None:
        self._zips = zips
        self._folder = folder
        self._environments: dict[str, Path] = {}

    def unpacked(self, function: str) -> Path:
        """Return the folder that holds what is in a function's zip, and no more."""
        folder = self._folder / "functions" / function
        if not folder.exists():
            with zipfile.ZipFile(self._zips / f"{function}.zip") as archive:
                archive.extractall(folder)
        return folder

    def environment(self, function: str) -> Path:
        """Return the environment with a function's requirements, made once."""
        asked = self.unpacked(function) / "requirements.txt"
        digest = hashlib.sha256(asked.read_bytes()).hexdigest()
        if digest not in self._environments:
            folder = self._folder / f"environment-{len(self._environments)}"
            done = _install(folder, asked)
            assert done.returncode == 0, done.stdout + done.stderr
            self._environments[digest] = folder
        return self._environments[digest]

    def run(self, function: str, *arguments: str, **settings: str) -> str:
        """Run the clean environment's Python beside what was unpacked; return it."""
        done = subprocess.run(
            [self.environment(function) / "bin" / "python", *arguments],
            cwd=self.unpacked(function),
            env=self._environ(function, settings),
            check=False,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def served(self, settings: Mapping[str, str], *functions: str) -> Iterator[None]:
        """Serve functions as Cloud Run's build has them served, until the end.

        `url` says where each is.
        """
        self._urls: dict[str, str] = {}
        with ExitStack() as stack:
            processes = {}
            for function in functions:
                port = free_port()
                environ = self._environ(function, settings) | {"PORT": str(port)}
                command = [
                    str(self.environment(function) / "bin" / "functions-framework"),
                    f"--target={function}",
                    "--host=127.0.0.1",
                ]
                processes[function] = subprocess.Popen(
                    command, cwd=self.unpacked(function), env=environ
                )
                stack.callback(_end, processes[function])
                self._urls[function] = f"http://127.0.0.1:{port}"
            for function, process in processes.items():
                until_it_answers(self._urls[function], process)
            yield

    def url(self, function: str) -> str:
        """Return where a function that is served is."""
        return self._urls[function]

    def _environ(self, function: str, settings: Mapping[str, str]) -> dict[str, str]:
        """Return variables of which none leads back to this checkout."""
        programs = self.environment(function) / "bin"
        return {"PATH": f"{programs}{os.pathsep}{os.defpath}", **settings}


def _install(folder: Path, asked: Path) -> "subprocess.CompletedProcess[str]":
    """Make an environment and install a requirements file into it; return how it went.

    Dependencies are followed, as the platform's build does: a pin too few is refused.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    quick = ["--quiet", "--no-compile", "--only-binary", ":all:"]
    return subprocess.run(
        [*pip, "install", *quick, "-r", str(asked)],
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        check=False,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(STOP_SECONDS)
