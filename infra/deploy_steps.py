"""The commands of a deployment, in order.

A step is only the text of a command, so what `--dry-run` prints is what runs.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from infra.deploy_images import (
    Deployment,
    Step,
    build_images,
    build_tools,
    file_of,
    line_of,
    package_object,
    service_of,
    where,
)
from infra.package import CHECKOUT, Package

TERRAFORM = "infra/terraform"
# Addresses of infra/terraform that are applied by themselves.
FOUNDATION = "terraform_data.foundation"
MIGRATION_JOB = "google_cloud_run_v2_job.migrate"
JOB = "order-migrate"
STATE_PREFIX = "order-service"
# Where gcloud's output has an image with its digest.
IMAGE_OF_JOB = "spec.template.spec.template.spec.containers[0].image"


def steps_for_all(deployment: Deployment, packages: Sequence[Package]) -> list[Step]:
    """Return the steps that deploy every function, workers, and the schema before."""
    return [
        _init(deployment),
        _variables(deployment, packages),
        _foundation(deployment),
        *build_images(deployment, packages),
        *build_tools(deployment),
        _variables(deployment, packages, "--image-in", file_of(deployment, "image")),
        _apply(
            deployment,
            "The migration job",
            "Secrets need a version before the job can start; see docs/operations.md",
            MIGRATION_JOB,
        ),
        Step(
            title="The schema",
            command=line_of(
                "gcloud", "run", "jobs", "execute", JOB, *where(deployment), "--wait"
            ),
            hint="read the job's log: gcloud run jobs executions list "
            + shlex.join(["--job", JOB, *where(deployment)])
            + "; the functions that serve are still the old ones",
        ),
        _everything(deployment),
        *_checks(deployment, packages),
    ]


def steps_for_foundation(
    deployment: Deployment, packages: Sequence[Package]
) -> list[Step]:
    """Return the steps that make what must exist before secrets have values."""
    return [
        _init(deployment),
        _variables(deployment, packages),
        _foundation(deployment),
    ]


def steps_for_some(deployment: Deployment, packages: Sequence[Package]) -> list[Step]:
    """Return the steps that deploy these functions and change nothing else.

    The schema stays, too: a change that needs a migration is deployed with everything.
    """
    outputs = file_of(deployment, "outputs.json")
    read_outputs = line_of("terraform", f"-chdir={TERRAFORM}", "output", "-json")
    job = line_of(
        *("gcloud", "run", "jobs", "describe", JOB, *where(deployment)),
        *("--format", f"value({IMAGE_OF_JOB})"),
    )
    return [
        _init(deployment),
        Step(
            title="What is deployed",
            command=f"{read_outputs} >{shlex.quote(outputs)}",
            hint="the state cannot be read: was everything deployed once?",
        ),
        Step(
            title="The image of workers and migrations that is deployed",
            command=f"{job} >{shlex.quote(file_of(deployment, 'image'))}",
            hint="there is no migration job: was everything deployed once?",
        ),
        _variables(
            deployment,
            packages,
            "--keep",
            outputs,
            "--image-in",
            file_of(deployment, "image"),
        ),
        *build_images(deployment, packages),
        _everything(deployment),
        *_checks(deployment, packages),
    ]


def _init(deployment: Deployment) -> Step:
    return Step(
        title="Terraform, with the state of this environment",
        command=line_of(
            "terraform",
            f"-chdir={TERRAFORM}",
            "init",
            "-input=false",
            "-reconfigure",
            f"-backend-config=bucket={deployment.state_bucket}",
            f"-backend-config=prefix={STATE_PREFIX}",
        ),
        hint=f"is there a bucket {deployment.state_bucket}, and may you read it?"
        " gcloud auth application-default login",
    )


def _variables(deployment: Deployment, packages: Sequence[Package], *more: str) -> Step:
    python = Path(sys.executable)
    if python.is_relative_to(CHECKOUT):
        python = python.relative_to(CHECKOUT)
    named = [
        f"--package={each.function}={package_object(deployment, each)}"
        for each in packages
    ]
    out = ["--out", file_of(deployment, "tfvars.json")]
    return Step(
        title="Terraform's variables for this deployment",
        command=line_of(
            str(python), "-m", "infra.deploy_variables", *out, *more, *named
        ),
        hint="to deploy one function, everything must have been deployed once",
    )


def _foundation(deployment: Deployment) -> Step:
    hint = "is billing enabled, and may you administer the project? Then again"
    return _apply(deployment, "The foundation", hint, FOUNDATION)


def _everything(deployment: Deployment) -> Step:
    hint = (
        "services keep the last healthy revision; the reason is in the log of the new"
        " one. Then repeat, or roll back: docs/rollout.md"
    )
    return _apply(deployment, "Everything else", hint)


def _apply(
    deployment: Deployment, title: str, hint: str, target: str | None = None
) -> Step:
    words = ["terraform", f"-chdir={TERRAFORM}", "apply"]
    if not deployment.asks:
        words += ["-input=false", "-auto-approve"]
    words += [f"-target={target}"] if target else []
    words.append(f"-var-file=environments/{deployment.environment}.tfvars")
    words.append(f"-var-file={_up(file_of(deployment, 'tfvars.json'))}")
    words.append(f"-var=project_id={deployment.project}")
    return Step(title=title, command=line_of(*words), hint=hint)


def _checks(deployment: Deployment, packages: Sequence[Package]) -> Iterator[Step]:
    for package in packages:
        service = service_of(package.function)
        yield Step(
            title=f"Check {package.function}",
            command=line_of(
                *("gcloud", "run", "services", "describe", service),
                *where(deployment),
                *("--format", "json"),
            ),
            hint="the newest revision is not ready: gcloud run revisions list "
            + shlex.join(["--service", service, *where(deployment)]),
            checks=package.function,
        )


def _up(path: str) -> str:
    """Return a path of the checkout relative to Terraform's folder."""
    return os.path.relpath(path, TERRAFORM)
