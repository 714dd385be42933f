"""The images of a deployment: how they are named, and the commands that build them.

A tag is a hash of what an image is made of, and the day whose patches it has.
"""

import hashlib
import shlex
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.package import CHECKOUT, Package

REPOSITORY = "order-service"
BUILD_ACCOUNT = "order-build"
# Where gcloud's output has an image with its digest.
DIGEST_OF_IMAGE = "image_summary.fully_qualified_digest"
# What infra/Dockerfile is made of; changes of anything else make no new image.
_IMAGE_SOURCES = ("common", "functions", "infra", "requirements/workers.txt")
# As infra/Dockerfile.dockerignore has it.
_NOT_IN_IMAGE = (
    "infra/terraform",
    "infra/cloudbuild",
    "infra/compose",
    "infra/gateway",
)
_FIRST_ON_UBUNTU_24 = (3, 14)
BUILDERS = CHECKOUT / "infra" / "cloudbuild" / "images.toml"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Where to deploy, from an environment's file, and where Terraform's state is."""

    environment: str
    project: str
    region: str
    bucket: str
    state_bucket: str
    patched_on: str  # the day whose patches images have
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


def package_object(deployment: Deployment, package: Package) -> str:
    """Return a package's name in the bucket; its image has the same tag."""
    return f"{package.function}/{package.sha256}-{deployment.patched_on}.zip"


def function_image(deployment: Deployment, package: Package) -> str:
    """Return the image that a package becomes."""
    tag = f"{package.sha256}-{deployment.patched_on}"
    return f"{deployment.registry}/{service_of(package.function)}:{tag}"


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


def build_images(deployment: Deployment, packages: Sequence[Package]) -> Iterator[Step]:
    """Upload packages; build the images that do not exist yet."""
    for package in packages:
        file = f"{deployment.folder}/{package.function}.zip"
        where = f"gs://{deployment.bucket}/{package_object(deployment, package)}"
        yield Step(
            title=f"The package of {package.function}",
            command=line_of("gcloud", "storage", "cp", "--no-clobber", file, where),
            hint=f"is there a bucket {deployment.bucket}, and may you write to it?",
        )
    major, minor = sys.version_info[:2]
    ubuntu = 24 if (major, minor) >= _FIRST_ON_UBUNTU_24 else 22
    builders = _builders()
    builds = [
        _build(
            deployment,
            f"The image of {package.function}",
            f"gs://{deployment.bucket}/{package_object(deployment, package)}",
            "function",
            {
                "_IMAGE": function_image(deployment, package),
                "_TARGET": package.function,
                "_PYTHON": f"{major}.{minor}.x",
                "_BUILDER": builders[f"builder_of_ubuntu_{ubuntu}"],
                "_PACK": builders["pack"],
            },
        )
        for package in packages
    ]
    yield builds[0] if len(builds) == 1 else _at_once(builds)


def build_tools(deployment: Deployment) -> Iterator[Step]:
    """Build the image of workers unless it exists, and look up its digest."""
    image = f"{deployment.registry}/tools:{tools_tag()}-{deployment.patched_on}"
    yield _build(
        deployment,
        "The image of workers and migrations",
        ".",
        "tools",
        {"_IMAGE": image, "_DOCKER": _builders()["docker"]},
    )
    describe = line_of(
        *("gcloud", "artifacts", "docker", "images", "describe", image),
        *("--project", deployment.project, "--format", f"value({DIGEST_OF_IMAGE})"),
    )
    yield Step(
        title="Its digest",
        command=f"{describe} >{shlex.quote(file_of(deployment, 'image'))}",
        hint="the image was not found: look at the build before",
    )


def _builders() -> dict[str, str]:
    """Return the images that build ours, by what they are for."""
    return tomllib.loads(BUILDERS.read_text(encoding="utf-8"))


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
    exists = line_of(
        *("gcloud", "artifacts", "docker", "images", "describe", image),
        *("--project", deployment.project),
    )
    build = line_of(
        *("gcloud", "builds", "submit", source, *where(deployment)),
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


def _at_once(steps: Sequence[Step]) -> Step:
    """Return a step that runs the commands of several at once, and fails if one does.

    Each build takes some minutes, however many there are.
    """
    started = " ".join(f'{{ {each.command}; }} & pids="$pids $!";' for each in steps)
    waited = 'for pid in $pids; do wait "$pid" || failed=1; done'
    return Step(
        title=f"The images of {len(steps)} functions, at once",
        command=f'pids=; failed=0; {started} {waited}; test "$failed" = 0',
        hint=steps[0].hint,
    )


def service_of(function: str) -> str:
    """Return the name of a function's service."""
    return function.replace("_", "-")


def where(deployment: Deployment) -> tuple[str, ...]:
    """Return gcloud's options for project and region."""
    return ("--project", deployment.project, "--region", deployment.region)


def file_of(deployment: Deployment, kind: str) -> str:
    """Return the path of a file of this deployment, relative to the checkout."""
    return f"{deployment.folder}/{deployment.environment}.{kind}"


def line_of(*words: str) -> str:
    """Return a command line of these words, quoted where needed."""
    return shlex.join(words)
