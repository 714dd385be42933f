"""`make deploy`: package, upload, migrate and apply, for all functions or some.

`--dry-run` makes the packages, too, because their names contain hashes of their
contents.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra import deploy_steps, locks
from infra.deploy_steps import Place, Step, function_image, package_object
from infra.package import CHECKOUT, NEEDS, Package, PackageError, build

ENVIRONMENTS = CHECKOUT / "infra" / "terraform" / "environments"
PROGRAMS = ("gcloud", "terraform")
USAGE_STATUS = 2
STDERR = 2
EPILOG = """\
What is done stays done when a step fails; the same command again goes over it without
harm. Terraform shows what it would change and asks, unless --yes is given.

examples:
  make deploy ENV=staging ARGS=--dry-run
  make deploy ENV=staging FUNCTION=item_status
  make deploy ENV=production ARGS="--yes --json"
"""


class DeployError(Exception):
    """The deployment cannot begin; the message is one line."""


class StepError(Exception):
    """A step has failed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Done:
    """A step as it went."""

    title: str
    command: str
    status: int
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy; answer 0, or the exit status of the command that failed."""
    arguments = _arguments(argv)
    try:
        place = _place(arguments)
        packages = build(
            arguments.dist, arguments.functions or functions(_file(arguments))
        )
        if not arguments.dry_run:
            _find_programs()
    except (DeployError, PackageError, locks.LockError) as error:
        print(f"deploy: {error}", file=sys.stderr)
        return USAGE_STATUS if isinstance(error, DeployError) else 1
    steps = _choose(arguments)(place, packages)
    if arguments.dry_run:
        _show(place, packages, steps, as_json=arguments.json)
        return 0
    done, services, failure = _run_all(steps)
    if arguments.json:
        told = _told(place, packages, [asdict(each) for each in done], services)
        print(json.dumps(told))
    elif not failure:
        for function, service in services.items():
            print(f"{function:<24}{service['revision']:<32}{service['url']}")
    return failure


def _choose(
    arguments: argparse.Namespace,
) -> Callable[[Place, Sequence[Package]], list[Step]]:
    if arguments.foundation:
        return deploy_steps.steps_for_foundation
    if arguments.functions:
        return deploy_steps.steps_for_some
    return deploy_steps.steps_for_all


def _run_all(
    steps: Sequence[Step],
) -> tuple[list[Done], dict[str, dict[str, str]], int]:
    """Run the steps until one fails; return what was done, services, and a status."""
    done: list[Done] = []
    services: dict[str, dict[str, str]] = {}
    for number, step in enumerate(steps, 1):
        print(f"[{number}/{len(steps)}] {step.title}", file=sys.stderr)
        print(f"    {step.command}", file=sys.stderr, flush=True)
        began_at = time.monotonic()
        status, reason = 0, ""
        try:
            said = _run(step)
            if step.checks:
                services[step.checks] = _service(json.loads(said))
        except StepError as error:
            status, reason = error.status, str(error)
        seconds = round(time.monotonic() - began_at, 1)
        done.append(Done(**_titled(step), status=status, seconds=seconds))
        if status:
            print(
                f"deploy: step {number} of {len(steps)} failed, {step.title.lower()}:"
                f" {reason}\n  {step.command}\n"
                f"what now: {step.hint}",
                file=sys.stderr,
            )
            return done, services, status
    return done, services, 0


def _run(step: Step) -> str:
    """Run one step; return what it says where that is looked at.

    All else that it prints goes to standard error, where progress is.
    """
    out = subprocess.PIPE if step.checks else STDERR
    done = subprocess.run(
        ["/bin/sh", "-c", step.command],
        cwd=CHECKOUT,
        check=False,
        stdout=out,
        text=True,
    )
    if done.returncode:
        # Ended by a signal it is a negative number here, and 128 more for a shell.
        status = done.returncode if done.returncode > 0 else 128 - done.returncode
        raise StepError(status, f"exit status {status}")
    return done.stdout or ""


def _service(described: dict[str, Any]) -> dict[str, str]:
    """Return a service's revision and address; raise StepError unless it is ready."""
    status = described.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    newest = status.get("latestCreatedRevisionName", "")
    if ready.get("status") != "True":
        raise StepError(1, f"it is not ready: {ready.get('message', 'no reason told')}")
    if newest != status.get("latestReadyRevisionName"):
        raise StepError(1, f"revision {newest} is not ready")
    return {"revision": newest, "url": str(status.get("url", ""))}


def _show(
    place: Place, packages: Sequence[Package], steps: Sequence[Step], *, as_json: bool
) -> None:
    if as_json:
        print(json.dumps(_told(place, packages, [_titled(each) for each in steps], {})))
        return
    for step in steps:
        print(f"# {step.title}\n{step.command}\n")


def _titled(step: Step) -> dict[str, str]:
    return {"title": step.title, "command": step.command}


def _told(
    place: Place,
    packages: Sequence[Package],
    steps: Sequence[dict[str, Any]],
    services: dict[str, dict[str, str]],
) -> dict[str, Any]:
    functions = [
        {
            "function": each.function,
            "package": package_object(each),
            "image": function_image(place, each),
            **services.get(each.function, {}),
        }
        for each in packages
    ]
    told = {"environment": place.environment, "project": place.project}
    return told | {"region": place.region, "functions": functions, "steps": steps}


def functions(text: str) -> list[str]:
    """Return what an environment's file deploys: all, the console if it is on."""
    has_console = re.search(r"^ops_console\s*=\s*true\b", text, re.MULTILINE)
    return [name for name in sorted(NEEDS) if name != "ops_console" or has_console]


def _file(arguments: argparse.Namespace) -> str:
    """Return what the environment's file says; raise DeployError."""
    path = ENVIRONMENTS / f"{arguments.environment}.tfvars"
    if not path.is_file():
        raise DeployError(f"there is no {path.relative_to(CHECKOUT)}")
    return path.read_text(encoding="utf-8")


def _place(arguments: argparse.Namespace) -> Place:
    """Return where to, from the environment's file; raise DeployError."""
    text = _file(arguments)
    path = ENVIRONMENTS / f"{arguments.environment}.tfvars"
    found = dict(re.findall(r'^(\w+)\s*=\s*"([^"]*)"', text, re.MULTILINE))
    for name in ("project_id", "region", "package_bucket"):
        if not found.get(name):
            raise DeployError(f"{path.relative_to(CHECKOUT)} does not say {name}")
    project = arguments.project or found["project_id"]
    return Place(
        environment=arguments.environment,
        project=project,
        region=found["region"],
        bucket=found["package_bucket"],
        state_bucket=arguments.state_bucket or f"{project}-state",
        folder=os.path.relpath(arguments.dist, CHECKOUT),
        asks=not arguments.yes,
    )


def _find_programs() -> None:
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise DeployError(f"{program} is not on the path; see docs/operations.md")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make deploy",
        description="Deploy to Google Cloud: every function, their schema before and"
        " workers after, or only the functions that are named.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("functions", nargs="*", help="these only (default: all)")
    parser.add_argument(
        "--environment",
        choices=["staging", "production"],
        default="staging",
        help="whose file of infra/terraform/environments counts (default: %(default)s)",
    )
    parser.add_argument("--project", help="instead of the file's project_id")
    parser.add_argument(
        "--state-bucket", help="where Terraform's state is (default: PROJECT-state)"
    )
    parser.add_argument(
        "--foundation",
        action="store_true",
        help="only what must be there before secrets can have values",
    )
    parser.add_argument(
        "--dist",
        type=Path,
        default=CHECKOUT / "dist",
        metavar="FOLDER",
        help="for packages and what Terraform is told (default: dist of the checkout)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print each command, and run none"
    )
    parser.add_argument(
        "--yes", action="store_true", help="let Terraform change things without asking"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.functions) - NEEDS.keys():
        parser.error(f"no such function: {', '.join(sorted(unknown))}")
    if arguments.foundation and arguments.functions:
        parser.error("--foundation is not about functions")
    if not (arguments.yes or arguments.dry_run or sys.stdin.isatty()):
        parser.error("nobody is there for Terraform to ask: say --yes")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
