"""Paste a page's blocks into a shell at a terminal, as a person would.

Commands that ask get their answer only once they ask: what they read before that is the
rest of the block.
"""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import sys
import termios
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from select import select

from infra import package

ROOT = Path(__file__).parents[2]
CLOUD = Path(__file__).with_name("rehearsed_cloud.py")
PROMPT = "@@> "
PROGRAMS = (
    "gcloud",
    "terraform",
    "curl",
    "rabbitmqctl",
    "cloud-sql-proxy",
    "docker",
    "vi",
)
PATIENCE_SECONDS = 120
QUIET_SECONDS = 0.2
# What the rehearsed `make` does: as the Makefile does, without building packages anew.
MAKE = """#!{python}
import json, os, shlex, sys
from pathlib import Path
given = dict(each.split("=", 1) for each in sys.argv[1:] if "=" in each)
[target] = [each for each in sys.argv[1:] if "=" not in each]
with Path(os.environ["REHEARSAL"], "calls").open("a") as calls:
    calls.write(json.dumps(["make", *sys.argv[1:]]) + "\\n")
if target == "deploy":
    sys.path.insert(0, os.getcwd())
    from infra import deploy
    from infra.package import Package
    made = json.loads(Path(os.environ["REHEARSAL"], "packages").read_text())
    deploy.build = lambda _, names, has_otel: [
        Package(**each) for each in made if each["function"] in names
    ]
    words = given.get("FUNCTION", "").split() + ["--environment", given["ENV"]]
    sys.exit(deploy.main(words + shlex.split(given.get("ARGS", ""))))
"""


def build_packages(folder: Path, functions: Sequence[str]) -> None:
    """Build the packages that rehearsals deploy."""
    made = [asdict(each) for each in package.build(folder, functions)]
    (folder / "packages").write_text(json.dumps(made))


class Rehearsal:
    """A copy of the checkout, a terminal, and a cloud that remembers."""

    def __init__(self, folder: Path, packages: Path) -> None:
        """Work in `folder`; `packages` has zips and `packages`, which lists them."""
        self.checkout = folder / "checkout"
        self.state = folder / "state"
        self.state.mkdir()
        for name in ("infra", "common", "functions", "requirements", "pyproject.toml"):
            source, target = ROOT / name, self.checkout / name
            self.checkout.mkdir(exist_ok=True)
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", ".terraform*")
                shutil.copytree(source, target, ignore=ignore)
            else:
                shutil.copy(source, target)
        shutil.copytree(packages, self.checkout / "dist")
        shutil.move(self.checkout / "dist" / "packages", self.state)
        programs = folder / "bin"
        programs.mkdir()
        text = CLOUD.read_text(encoding="utf-8")
        for name in PROGRAMS:
            _write(programs / name, f"#!{sys.executable} -S\n{text}")
        _write(programs / "make", MAKE.format(python=sys.executable))
        for name in ("python", "orderctl"):
            target = self.checkout / ".venv" / "bin" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            command = f'exec {sys.executable} "$@"' if name == "python" else "exit 0"
            _write(target, f"#!/bin/sh\n{command}\n")
        self._environ = {
            "PATH": os.pathsep.join([str(programs), os.defpath]),
            "HOME": str(folder),
            "PS1": PROMPT,
            "PS2": "",
            "REHEARSAL": str(self.state),
            "TERM": "dumb",
        }

    def need_secrets(self, names: Iterable[str]) -> None:
        """Have the migration job need a version of each of these."""
        (self.state / "secrets").write_text("\n".join(names))

    @property
    def calls(self) -> list[list[str]]:
        """Every call of a program, each as its words."""
        return [json.loads(line) for line in self._lines("calls")]

    @property
    def refused(self) -> list[str]:
        """Why commands were refused."""
        return self._lines("refused")

    @property
    def given(self) -> dict[str, str]:
        """The last value of each secret."""
        return dict(line.split(" ", 1) for line in self._lines("given"))

    def _lines(self, name: str) -> list[str]:
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []

    def paste(self, blocks: Iterable[str]) -> str:
        """Paste one block after the other; return what the terminal showed."""
        with self._terminal() as (process, terminal):
            shown = _Shown(process, terminal)
            shown.wait([])
            for block in blocks:
                os.write(terminal, block.encode())
                shown.wait(re.findall(r"read -\w+ '([^']*)'", block))
        return shown.text

    @contextmanager
    def _terminal(self) -> Iterator[tuple[int, int]]:
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(self.checkout)
            command = ["bash", "--noprofile", "--norc", "--noediting", "-i"]
            os.execvpe("bash", command, self._environ)
        attributes = termios.tcgetattr(terminal)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
        try:
            yield process, terminal
        finally:
            os.close(terminal)  # hangs up
            os.waitpid(process, 0)


class _Shown:
    """What a terminal has shown, and the answers to what it asked."""

    def __init__(self, process: int, terminal: int) -> None:
        self._process, self._terminal = process, terminal
        self.text = ""

    def wait(self, questions: Sequence[str]) -> None:
        """Reply to what is asked until the shell waits for the next command."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_idle():
            assert time.monotonic() < deadline, self.text[-2000:]
            if self.text.endswith("ASKS: "):
                self._answer("yes")
            elif question := next((q for q in questions if self.text.endswith(q)), ""):
                self._answer(f"answer-to-{question.strip(': ')}".replace(" ", "-"))

    def _answer(self, text: str) -> None:
        os.write(self._terminal, f"{text}\n".encode())
        self.text += f"<{text}>"

    def _is_idle(self) -> bool:
        """Read what there is; return whether nothing more will come by itself."""
        while select([self._terminal], [], [], QUIET_SECONDS)[0]:
            self.text += os.read(self._terminal, 65536).decode(errors="replace")
        is_shell = os.tcgetpgrp(self._terminal) == self._process
        return is_shell and self.text.endswith(PROMPT) and not self._pending()

    def _pending(self) -> int:
        """Return how many bytes were typed and not read yet."""
        other_end = os.open(f"/proc/{self._process}/fd/0", os.O_RDWR | os.O_NOCTTY)
        try:
            packed = fcntl.ioctl(other_end, termios.FIONREAD, b"\0" * 4)
        finally:
            os.close(other_end)
        return int(struct.unpack("i", packed)[0])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
