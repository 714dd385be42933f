"""Stand-ins for `gcloud` and `terraform` that record how they were called."""

import contextlib
import functools
import io
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from infra import deploy, package

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "d" * 64
OLD = "0" * 64  # the hash that every deployed function's package has

PROGRAM = r"""#!{python} -S
import json, os, pathlib, sys
here = pathlib.Path({folder!r})
words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
line = " ".join(words)
with (here / "calls").open("a") as calls:
    print(json.dumps(words), file=calls)
failing = here / "failing"
if failing.exists() and failing.read_text() in line:
    print("it is broken on purpose", file=sys.stderr)
    sys.exit(7)
if "images describe" in line:
    image = words[5]
    if image not in (here / "images").read_text().splitlines():
        sys.exit("no such image")
    if "--format" in words:
        print(image.rsplit(":", 1)[0] + "@{digest}")
elif "builds submit" in line:
    given = words[words.index("--substitutions") + 1]
    image = dict(each.split("=", 1) for each in given.split(","))["_IMAGE"]
    with (here / "images").open("a") as images:
        print(image, file=images)
elif "output -json" in line:
    print((here / "outputs").read_text())
elif "jobs describe" in line:
    print((here / "job").read_text())
elif "services describe" in line:
    name = words[4]
    is_ready = name not in (here / "unwell").read_text().split()
    print(json.dumps({{"status": {{
        "url": f"https://{{name}}.example",
        "latestCreatedRevisionName": f"{{name}}-00002",
        "latestReadyRevisionName": f"{{name}}-0000{{2 if is_ready else 1}}",
        "conditions": [{{"type": "Ready", "status": "True"}}],
    }}}}))
elif " cp " in line:
    source, target = words[-2:]
    copy = here / "bucket" / target.removeprefix("gs://")
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(pathlib.Path(source).read_bytes())
"""


@functools.cache
def _build(
    folder: Path, *functions: str, has_otel: bool = False
) -> list[package.Package]:
    """Make these packages as a deployment does, once in each folder."""
    return package.build(folder, functions, has_otel=has_otel)


class Done(NamedTuple):
    """What a deployment said, and its exit status."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Cloud:
    """The folder in which both stand-ins keep what they know."""

    folder: Path
    dist: Path

    @property
    def told(self) -> dict[str, Any]:
        """What Terraform was told of the last deployment to staging."""
        return dict(json.loads((self.dist / "staging.tfvars.json").read_text()))

    @property
    def calls(self) -> list[list[str]]:
        """Every call so far, each as its words."""
        path = self.folder / "calls"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    @property
    def images(self) -> list[str]:
        """The images that there are."""
        return (self.folder / "images").read_text().split()

    def uploaded(self, bucket: str) -> dict[str, bytes]:
        """Return what a bucket holds, by name."""
        top = self.folder / "bucket" / bucket
        return {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in top.rglob("*")
            if path.is_file()
        }

    def fail_at(self, text: str) -> None:
        """Have every call fail, with status 7, whose words contain `text`."""
        (self.folder / "failing").write_text(text)

    def mend(self) -> None:
        """Have no call fail any more."""
        (self.folder / "failing").unlink()

    def make_unwell(self, service: str) -> None:
        """Have a service's newest revision not be the one that is ready."""
        (self.folder / "unwell").write_text(service)

    def paste(self, script: str) -> None:
        """Run a script with the stand-ins on its path, as somebody would by hand."""
        path = os.pathsep.join([str(self.folder / "bin"), os.defpath])
        subprocess.run(
            ["/bin/sh", "-eu"],
            input=script,
            text=True,
            check=True,
            cwd=ROOT,
            env={"PATH": path},
            capture_output=True,
        )

    def deploy(self, *arguments: str) -> Done:
        """Run `make deploy`'s command, in this process, with the stand-ins on its path.

        Nobody is at a terminal. What the stand-ins themselves print is not answered.
        """
        path = os.pathsep.join([str(self.folder / "bin"), os.defpath])
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, PATH=path),
            mock.patch("sys.stdin", io.StringIO()),
            mock.patch.object(deploy, "build", lambda at, e, **k: _build(at, *e, **k)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = deploy.main(["--dist", str(self.dist), *arguments])
            except SystemExit as error:  # argparse
                status = int(error.code or 0)
        return Done(status, out.getvalue(), err.getvalue())


def make_cloud(folder: Path, dist: Path, functions: list[str], registry: str) -> Cloud:
    """Return a cloud in which each function is deployed from a package named `OLD`."""
    programs = folder / "bin"
    programs.mkdir()
    text = PROGRAM.format(python=sys.executable, folder=str(folder), digest=DIGEST)
    for name in ("gcloud", "terraform"):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    images = {name: f"{registry}/{name.replace('_', '-')}:{OLD}" for name in functions}
    (folder / "outputs").write_text(json.dumps({"function_images": {"value": images}}))
    (folder / "job").write_text(f"{registry}/tools@sha256:{'a' * 64}\n")
    (folder / "images").touch()
    (folder / "unwell").touch()
    return Cloud(folder, dist)


def words_of(command: str) -> list[list[str]]:
    """Return the words of each program's call in a step's line."""
    found: list[list[str]] = [[]]
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;{}")
    lexer.whitespace_split = True
    for word in lexer:
        if set(word) <= set("|&;{}"):
            found.append([])
        elif not word.startswith((">", "2>", "pids=")):
            found[-1].append(word)
    return [each for each in found if each]
