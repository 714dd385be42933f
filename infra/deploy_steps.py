"""The commands of a deployment, in order.

A step is only the text of a command, so what `--dry-run` prints is what runs.
"""

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.package import CHECKOUT, Package

TERRAFORM = "infra/terraform"
# Addresses of infra/terraform that are applied by themselves.
FOUNDATION = "terraform_data.foundation"
MIGRATION_JOB = "google_cloud_run_v2_job.migrate"
JOB = "order-migrate"
REPOSITORY = "order-service"
BUILD_ACCOUNT = "order-build"
STATE_PREFIX = "order-service"
# Where gcloud's output has an image with its digest.
IMAGE_OF_JOB = "spec.template.spec.template.spec.containers[0].image"
DIGEST_OF_IMAGE = "image_summary.fully_qualified_digest"
# What infra/Dockerfile is made of; changes of anything else make no new image.
_IMAGE_SOURCES = ("common", "functions", "infra", "requirements/runtime.txt")
# As infra/Dockerfile.dockerignore has it.
_NOT_IN_IMAGE = (
    "infra/terraform",
    "infra/cloudbuild",
    "infra/compose",
    "infra/gateway",
)
_FIRST_ON_UBUNTU_24 = (3, 14)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Where to deploy, from an environment's file, and where Terraform's state is."""

    environment: str
    project: str
    region: str
    bucket: str
    state_bucket: str
    folder: str = "dist"
    asks: bool = True

    @property
    def registry(self) -> str:
        """Where images are."""
        return f"{self.region}-docker.pkg.dev/{self.project}/{REPOSITORY}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command line for /bin/sh, why it is run, and what helps when it fails."""

    title: str
    command: str
    hint: str
    checks: str | None = None  # the function whose service its output describes


def steps_for_all(deployment: Deployment, packages: Sequence[Package]) -> list[Step]:
    """Return the steps that deploy every function, workers, and the schema before."""
    return [
        _init(deployment),
        _variables(deployment, packages),
        _foundation(deployment),
        *_images(deployment, packages),
        *_tools(deployment),
        _variables(deployment, packages, "--image-in", _file(deployment, "image")),
        _apply(
            deployment,
            "The migration job",
            "Secrets need a version before the job can start; see docs/operations.md",
            MIGRATION_JOB,
        ),
        Step(
            title="The schema",
            command=_line(
                "gcloud", "run", "jobs", "execute", JOB, *_where(deployment), "--wait"
            ),
            hint="read the job's log: gcloud run jobs executions list "
            + shlex.join(["--job", JOB, *_where(deployment)])
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
    outputs = _file(deployment, "outputs.json")
    read_outputs = _line("terraform", f"-chdir={TERRAFORM}", "output", "-json")
    job = _line(
        *("gcloud", "run", "jobs", "describe", JOB, *_where(deployment)),
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
            command=f"{job} >{shlex.quote(_file(deployment, 'image'))}",
            hint="there is no migration job: was everything deployed once?",
        ),
        _variables(
            deployment,
            packages,
            "--keep",
            outputs,
            "--image-in",
            _file(deployment, "image"),
        ),
        *_images(deployment, packages),
        _everything(deployment),
        *_checks(deployment, packages),
    ]


def package_object(package: Package) -> str:
    """Return a package's name in the bucket."""
    return f"{package.function}/{package.sha256}.zip"


def function_image(deployment: Deployment, package: Package) -> str:
    """Return the image that a package becomes."""
    return f"{deployment.registry}/{_service(package.function)}:{package.sha256}"


def tools_tag() -> str:
    """Return the tag of the image of workers: a hash of its sources."""
    digest = hashlib.sha256()
    for path in sorted(_image_files()):
        name = path.relative_to(CHECKOUT).as_posix()
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def _image_files() -> Iterator[Path]:
    for source in _IMAGE_SOURCES:
        start = CHECKOUT / source
        for path in [start] if start.is_file() else start.rglob("*"):
            name = path.relative_to(CHECKOUT)
            is_hidden = any(p.startswith(".") or p == "__pycache__" for p in name.parts)
            is_out = any(name.is_relative_to(each) for each in _NOT_IN_IMAGE)
            if path.is_file() and not is_hidden and not is_out:
                yield path


def _init(deployment: Deployment) -> Step:
    return Step(
        title="Terraform, with the state of this environment",
        command=_line(
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
    named = [f"--package={each.function}={package_object(each)}" for each in packages]
    out = ["--out", _file(deployment, "tfvars.json")]
    return Step(
        title="Terraform's variables for this deployment",
        command=_line(str(python), "-m", "infra.deploy_variables", *out, *more, *named),
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
    words.append(f"-var-file={_up(_file(deployment, 'tfvars.json'))}")
    words.append(f"-var=project_id={deployment.project}")
    return Step(title=title, command=_line(*words), hint=hint)


def _images(deployment: Deployment, packages: Sequence[Package]) -> Iterator[Step]:
    """Upload packages; build the images that do not exist yet."""
    for package in packages:
        file = f"{deployment.folder}/{package.function}.zip"
        where = f"gs://{deployment.bucket}/{package_object(package)}"
        yield Step(
            title=f"The package of {package.function}",
            command=_line("gcloud", "storage", "cp", "--no-clobber", file, where),
            hint=f"is there a bucket {deployment.bucket}, and may you write to it?",
        )
    major, minor = sys.version_info[:2]
    ubuntu = 24 if (major, minor) >= _FIRST_ON_UBUNTU_24 else 22
    for package in packages:
        yield _build(
            deployment,
            f"The image of {package.function}",
            f"gs://{deployment.bucket}/{package_object(package)}",
            "function",
            {
                "_IMAGE": function_image(deployment, package),
                "_TARGET": package.function,
                "_PYTHON": f"{major}.{minor}.x",
                "_BUILDER": f"google-{ubuntu}",
            },
        )


def _tools(deployment: Deployment) -> Iterator[Step]:
    image = f"{deployment.registry}/tools:{tools_tag()}"
    yield _build(
        deployment,
        "The image of workers and migrations",
        ".",
        "tools",
        {"_IMAGE": image},
    )
    describe = _line(
        *("gcloud", "artifacts", "docker", "images", "describe", image),
        *("--project", deployment.project, "--format", f"value({DIGEST_OF_IMAGE})"),
    )
    yield Step(
        title="Its digest",
        command=f"{describe} >{shlex.quote(_file(deployment, 'image'))}",
        hint="the image was not found: look at the build before",
    )


def _build(
    deployment: Deployment,
    title: str,
    source: str,
    config: str,
    substitutions: dict[str, str],
) -> Step:
    # gcloud copies every source first, even one that is in a bucket; the account that
    # builds must be able to read the copy.
    image = substitutions["_IMAGE"]
    account = f"{BUILD_ACCOUNT}@{deployment.project}.iam.gserviceaccount.com"
    exists = _line(
        *("gcloud", "artifacts", "docker", "images", "describe", image),
        *("--project", deployment.project),
    )
    build = _line(
        *("gcloud", "builds", "submit", source, *_where(deployment)),
        *("--config", f"infra/cloudbuild/{config}.yaml"),
        *(
            "--service-account",
            f"projects/{deployment.project}/serviceAccounts/{account}",
        ),
        *("--gcs-source-staging-dir", f"gs://{deployment.bucket}/source"),
        *("--substitutions", ",".join(f"{k}={v}" for k, v in substitutions.items())),
    )
    return Step(
        title=title,
        command=f"{exists} >/dev/null 2>&1 || {build}",
        hint="read the build's log; nothing that serves has changed. May you act as"
        f" {account}? roles/iam.serviceAccountUser",
    )


def _checks(deployment: Deployment, packages: Sequence[Package]) -> Iterator[Step]:
    for package in packages:
        service = _service(package.function)
        yield Step(
            title=f"Check {package.function}",
            command=_line(
                *("gcloud", "run", "services", "describe", service),
                *_where(deployment),
                *("--format", "json"),
            ),
            hint="the newest revision is not ready: gcloud run revisions list "
            + shlex.join(["--service", service, *_where(deployment)]),
            checks=package.function,
        )


def _service(function: str) -> str:
    return function.replace("_", "-")


def _where(deployment: Deployment) -> tuple[str, ...]:
    return ("--project", deployment.project, "--region", deployment.region)


def _file(deployment: Deployment, kind: str) -> str:
    return f"{deployment.folder}/{deployment.environment}.{kind}"


def _up(path: str) -> str:
    """Return a path of the checkout relative to Terraform's folder."""
    return os.path.relpath(path, TERRAFORM)


def _line(*words: str) -> str:
    return shlex.join(words)
