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
from datetime import date
from pathlib import Path
from typing import Any

from infra import deploy_steps, locks
from infra.deploy_images import Deployment, Step, function_image, package_object
from infra.package import CHECKOUT, NEEDS, Package, PackageError, build

ENVIRONMENTS = CHECKOUT / "infra" / "terraform" / "environments"
PROGRAMS = ("gcloud", "terraform")
USAGE_STATUS = 2
LONGEST_UNPATCHED_DAYS = 45
STDERR = 2
EPILOG = """\
Steps that are done stay done if a later one fails; the same command may be repeated.
Terraform shows what it would change and asks, unless --yes is given.

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
    """A step that was run."""

    title: str
    command: str
    status: int
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy; return 0, or the exit status of the command that failed."""
    arguments = _arguments(argv)
    try:
        deployment = _deployment(arguments)
        text = _file(arguments)
        packages = build(
            arguments.dist,
            arguments.functions or functions(text),
            has_otel=has_collector(text),
        )
        if not arguments.dry_run:
            _find_programs()
    except (DeployError, PackageError, locks.LockError) as error:
        print(f"deploy: {error}", file=sys.stderr)
        return USAGE_STATUS if isinstance(error, DeployError) else 1
    steps = _choose(arguments)(deployment, packages)
    if arguments.dry_run:
        _show(deployment, packages, steps, as_json=arguments.json)
        return 0
    done, services, status = _run_all(steps)
    if arguments.json:
        steps_done = [asdict(each) for each in done]
        print(json.dumps(_report(deployment, packages, steps_done, services)))
    elif not status:
        for function, service in services.items():
            print(f"{function:<24}{service['revision']:<32}{service['url']}")
    return status


def _choose(
    arguments: argparse.Namespace,
) -> Callable[[Deployment, Sequence[Package]], list[Step]]:
    if arguments.foundation:
        return deploy_steps.steps_for_foundation
    if arguments.functions:
        return deploy_steps.steps_for_some
    return deploy_steps.steps_for_all


def _run_all(
    steps: Sequence[Step],
) -> tuple[list[Done], dict[str, dict[str, str]], int]:
    """Run the steps until one fails; return those run, the services, and a status."""
    done: list[Done] = []
    services: dict[str, dict[str, str]] = {}
    for number, step in enumerate(steps, 1):
        print(f"[{number}/{len(steps)}] {step.title}", file=sys.stderr)
        print(f"    {step.command}", file=sys.stderr, flush=True)
        began_at = time.monotonic()
        status, reason = 0, ""
        try:
            output = _run(step)
            if step.checks:
                services[step.checks] = _service(json.loads(output))
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
    """Run one step; return its output if it checks a service.

    The output of other steps goes to standard error, like progress.
    """
    process = subprocess.run(
        ["/bin/sh", "-c", step.command],
        cwd=CHECKOUT,
        check=False,
        stdout=subprocess.PIPE if step.checks else STDERR,
        text=True,
    )
    if process.returncode:
        # A signal is a negative number here, and 128 more for a shell.
        code = process.returncode
        status = code if code > 0 else 128 - code
        raise StepError(status, f"exit status {status}")
    return process.stdout or ""


def _service(described: dict[str, Any]) -> dict[str, str]:
    """Return a service's revision and address; raise StepError unless it is ready."""
    status = described.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    newest = status.get("latestCreatedRevisionName", "")
    if ready.get("status") != "True":
        raise StepError(
            1, f"it is not ready: {ready.get('message', 'no reason given')}"
        )
    if newest != status.get("latestReadyRevisionName"):
        raise StepError(1, f"revision {newest} is not ready")
    return {"revision": newest, "url": str(status.get("url", ""))}


def _show(
    deployment: Deployment,
    packages: Sequence[Package],
    steps: Sequence[Step],
    *,
    as_json: bool,
) -> None:
    if as_json:
        planned = [_titled(each) for each in steps]
        print(json.dumps(_report(deployment, packages, planned, {})))
        return
    for step in steps:
        print(f"# {step.title}\n{step.command}\n")


def _titled(step: Step) -> dict[str, str]:
    return {"title": step.title, "command": step.command}


def _report(
    deployment: Deployment,
    packages: Sequence[Package],
    steps: Sequence[dict[str, Any]],
    services: dict[str, dict[str, str]],
) -> dict[str, Any]:
    functions = [
        {
            "function": each.function,
            "package": package_object(deployment, each),
            "image": function_image(deployment, each),
            **services.get(each.function, {}),
        }
        for each in packages
    ]
    return {
        "environment": deployment.environment,
        "project": deployment.project,
        "region": deployment.region,
        "functions": functions,
        "steps": steps,
    }


def functions(text: str) -> list[str]:
    """Return the functions that an environment's file deploys."""
    has_console = re.search(r"^ops_console\s*=\s*true\b", text, re.MULTILINE)
    return [name for name in sorted(NEEDS) if name != "ops_console" or has_console]


def has_collector(text: str) -> bool:
    """Return whether an environment's file names a collector to send spans to."""
    return bool(re.search(r"^collector\s*=\s*\"", text, re.MULTILINE))


def _file(arguments: argparse.Namespace) -> str:
    """Return the text of the environment's file; raise DeployError."""
    path = ENVIRONMENTS / f"{arguments.environment}.tfvars"
    if not path.is_file():
        raise DeployError(f"there is no {path.relative_to(CHECKOUT)}")
    return path.read_text(encoding="utf-8")


def _deployment(arguments: argparse.Namespace) -> Deployment:
    """Return where to deploy, from the environment's file; raise DeployError."""
    text = _file(arguments)
    path = ENVIRONMENTS / f"{arguments.environment}.tfvars"
    found = dict(re.findall(r'^(\w+)\s*=\s*"([^"]*)"', text, re.MULTILINE))
    for name in ("project_id", "region", "package_bucket", "patched_on"):
        if not found.get(name):
            raise DeployError(f"{path.relative_to(CHECKOUT)} does not say {name}")
    try:
        patched_on = date.fromisoformat(found["patched_on"])
    except ValueError as error:
        raise DeployError(
            f"patched_on is no date: {found['patched_on']}; write it as 2026-12-01"
        ) from error
    if (date.today() - patched_on).days > LONGEST_UNPATCHED_DAYS:  # noqa: DTZ011 a note
        print(
            f"deploy: images have the patches of {patched_on}; for those of today set"
            f" patched_on in {path.relative_to(CHECKOUT)}",
            file=sys.stderr,
        )
    project = arguments.project or found["project_id"]
    return Deployment(
        environment=arguments.environment,
        project=project,
        region=found["region"],
        bucket=found["package_bucket"],
        state_bucket=arguments.state_bucket or f"{project}-state",
        patched_on=patched_on.isoformat(),
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
    parser.add_argument("functions", nargs="*", help="only these (default: all)")
    parser.add_argument(
        "--environment",
        choices=["staging", "production"],
        default="staging",
        help="the file in infra/terraform/environments (default: %(default)s)",
    )
    parser.add_argument("--project", help="instead of the file's project_id")
    parser.add_argument(
        "--state-bucket", help="where Terraform's state is (default: PROJECT-state)"
    )
    parser.add_argument(
        "--foundation",
        action="store_true",
        help="only what must exist before secrets can have values",
    )
    parser.add_argument(
        "--dist",
        type=Path,
        default=CHECKOUT / "dist",
        metavar="FOLDER",
        help="for packages and Terraform's variables (default: dist of the checkout)",
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
        parser.error("--foundation takes no functions")
    if not (arguments.yes or arguments.dry_run or sys.stdin.isatty()):
        parser.error("Terraform cannot ask without a terminal: use --yes")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
