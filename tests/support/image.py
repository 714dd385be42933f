"""Replay the instructions of `infra/Dockerfile` without a container engine.

This environment stands in for `/opt/venv`; users, layers and the base image are not
replayed.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "Dockerfile"
IGNORED = ROOT / "infra" / "Dockerfile.dockerignore"
# What of a RUN is about the system and not about our files.
_SYSTEMS = re.compile(r"\b(pip|useradd|apt-get)\b")


# What stands in for the programs of the image's environment. Without `site` there is no
# editable install, through which this checkout would stand in for what is not copied.
_PURELIB = sysconfig.get_paths()["purelib"]
_PYTHON = f'PYTHONPATH="$PYTHONPATH:{_PURELIB}" exec {sys.executable} -S'
_PROGRAMS = {
    "python": f'#!/bin/sh\n{_PYTHON} "$@"\n',
    "functions-framework": f'#!/bin/sh\n{_PYTHON} -m functions_framework "$@"\n',
}


@dataclass(frozen=True)
class Instruction:
    """One instruction: its stage's number, its name, the rest of it in one line."""

    stage: int
    name: str
    rest: str


def instructions() -> list[Instruction]:
    """Return the Dockerfile's instructions, in order; stages count from 0."""
    lines = [
        line
        for line in DOCKERFILE.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    found: list[Instruction] = []
    stage = -1
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, rest.strip()))
    return found


def environ() -> dict[str, str]:
    """Return the variables that the last stage sets."""
    last = max(each.stage for each in instructions())
    found: dict[str, str] = {}
    for each in instructions():
        if each.name == "ENV" and each.stage == last:
            found |= dict(pair.split("=", 1) for pair in each.rest.split())
    return found


def copies() -> list[tuple[str, str]]:
    """Return source and target of each COPY out of the context."""
    found = []
    for each in instructions():
        if each.name == "COPY" and "--from" not in each.rest:
            source, target = each.rest.split()
            found.append((source, target))
    return found


def is_sent(path: str) -> bool:
    """Return whether the ignore file lets a file of the checkout into the context.

    As Docker has it: the last line that names the file or a folder above it decides.
    """
    answer = True
    for line in IGNORED.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = path.split("/")
        heads = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        if any(_matches(pattern, head) for head in heads):
            answer = line.startswith("!")
    return answer


def _matches(pattern: str, path: str) -> bool:
    text = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(text, path) is not None


@dataclass(frozen=True)
class Image:
    """What an image would hold of ours, in `folder`."""

    folder: Path

    def path(self, inside: str) -> Path:
        """Return where something is that is at `inside` in the image."""
        return self.folder / inside.lstrip("/")

    def environ(self) -> dict[str, str]:
        """Return a container's variables."""
        return {
            name: re.sub(r"(?<![\w.])/(?=srv|opt/venv)", f"{self.folder}/", value)
            for name, value in environ().items()
        }

    def run(
        self,
        command: list[str],
        settings: Mapping[str, str] | None = None,
        output: IO[str] | None = None,
    ) -> "subprocess.Popen[str]":
        """Start a container's command, which prints to `output`, or else to a pipe."""
        return subprocess.Popen(
            command,
            cwd=self.path("/srv"),
            env=self.environ() | dict(settings or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def build(folder: Path) -> Image:
    """Do in `folder` what the Dockerfile does with our files."""
    for source, target in copies():
        _copy(source, folder / target.lstrip("/"))
    programs = folder / "opt/venv/bin"
    programs.mkdir(parents=True)
    for name, text in _PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for each in instructions():
        if each.name != "RUN" or _SYSTEMS.search(each.rest):
            continue
        line = re.sub(r"(?<![\w.])/(?=srv|opt/venv)", f"{folder}/", each.rest)
        packages = str(Path(sys.executable).parent)
        subprocess.run(
            ["/bin/sh", "-eu", "-c", line],
            check=True,
            env={"PATH": os.pathsep.join([packages, os.defpath])},
        )
    return Image(folder)


def _copy(source: str, target: Path) -> None:
    start = ROOT / source
    files = [start] if start.is_file() else sorted(start.rglob("*"))
    for file in files:
        name = file.relative_to(ROOT).as_posix()
        if file.is_file() and is_sent(name):
            to = target if start.is_file() else target / file.relative_to(start)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
