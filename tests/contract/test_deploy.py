"""`make deploy`, for real but for the cloud: stand-ins note what they are told."""

import hashlib
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from infra import deploy, deploy_images, package
from infra.deploy import main
from tests.support import image
from tests.support.cloud import DIGEST, OLD, ROOT, Cloud, Done, make_cloud, words_of

FUNCTIONS = sorted(package.NEEDS.keys() - {"ops_console"})  # off there
PROJECT = "acme-orders-staging"
BUCKET = "acme-orders-staging-packages"
REGISTRY = f"europe-west1-docker.pkg.dev/{PROJECT}/order-service"

[PATCHED_ON] = re.findall(
    r'^patched_on = "(.*)"$',
    (deploy.ENVIRONMENTS / "staging.tfvars").read_text(),
    re.MULTILINE,
)

NewCloud = Callable[[], Cloud]


@pytest.fixture(scope="module")
def new_cloud(tmp_path_factory: pytest.TempPathFactory) -> NewCloud:
    """Each call answers a cloud of its own; all are deployed to from one folder."""
    dist = tmp_path_factory.mktemp("dist")

    def make() -> Cloud:
        folder = tmp_path_factory.mktemp("cloud")
        return make_cloud(folder, dist, FUNCTIONS, REGISTRY)

    return make


@pytest.fixture
def cloud(new_cloud: NewCloud) -> Cloud:
    return new_cloud()


@pytest.fixture(scope="module")
def whole(new_cloud: NewCloud) -> tuple[Cloud, Done]:
    """Return a cloud that everything was deployed to, once."""
    cloud = new_cloud()
    return cloud, cloud.deploy("--yes")


@pytest.fixture(scope="module")
def one(new_cloud: NewCloud) -> tuple[Cloud, Done]:
    """Return a cloud that one function was deployed to."""
    cloud = new_cloud()
    return cloud, cloud.deploy("--yes", "item_status")


def kinds(calls: list[list[str]]) -> list[str]:
    """Return each call in short, without what tells one function from another."""
    found = []
    for program, *words in calls:
        verbs = [word for word in words if not word.startswith("-")]
        target = [word for word in words if word.startswith("-target=")]
        length = 1 if program == "terraform" else {"builds": 2, "storage": 2}
        if isinstance(length, dict):
            length = length.get(words[0], 4 if words[0] == "artifacts" else 3)
        kind = " ".join([program, *verbs[:length], *target])
        if not found or found[-1] != kind:
            found.append(kind)
    return found


def printed(done: Done) -> list[str]:
    """Return the commands that a dry run printed."""
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def promises(dry: Done) -> list[list[str]]:
    """Return the calls of the stand-ins that a dry run announces."""
    words = [each for line in printed(dry) for each in words_of(line)]
    return [each for each in words if each[0] in ("gcloud", "terraform")]


def test_everything_is_done_in_the_order_in_which_it_is_needed(
    whole: tuple[Cloud, Done],
) -> None:
    cloud, done = whole
    assert done.status == 0, done.err
    built = ["gcloud artifacts docker images describe", "gcloud builds submit"]
    of_functions = [w for w in cloud.calls if "infra/cloudbuild/function.yaml" in w]
    assert len(of_functions) == len(FUNCTIONS)
    found = kinds(cloud.calls)
    start, end = (
        found.index(built[0]),
        found.index("terraform apply -target=google_cloud_run_v2_job.migrate"),
    )
    assert set(found[start : end - 3]) == set(built)  # at once, in any order
    assert found[:start] + found[end - 3 :] == [
        "terraform init",
        "terraform apply -target=terraform_data.foundation",
        "gcloud storage cp",
        *built,
        "gcloud artifacts docker images describe",
        "terraform apply -target=google_cloud_run_v2_job.migrate",
        "gcloud run jobs execute",
        "terraform apply",
        "gcloud run services describe",
    ]
    shown = [line.split() for line in done.out.splitlines()]
    names = [name.replace("_", "-") for name in FUNCTIONS]
    assert shown == [
        [function, f"{name}-00002", f"https://{name}.example"]
        for function, name in zip(FUNCTIONS, names, strict=True)
    ]


def test_the_bucket_gets_the_packages_that_make_package_makes(
    whole: tuple[Cloud, Done], tmp_path: Path
) -> None:
    cloud, _ = whole
    [made] = package.build(tmp_path, ["item_status"])
    uploaded = cloud.uploaded(BUCKET)
    shas = {
        name.partition("/")[0]: hashlib.sha256(content).hexdigest()
        for name, content in uploaded.items()
    }
    assert sorted(shas) == FUNCTIONS
    assert shas["item_status"] == made.sha256
    names = {f"{name}/{sha}-{PATCHED_ON}.zip" for name, sha in shas.items()}
    assert uploaded.keys() == names
    said = cloud.told
    assert sorted(said["packages"].values()) == sorted(uploaded)
    assert said["image"] == f"{REGISTRY}/tools@{DIGEST}"
    for name, sha in shas.items():
        image = f"{REGISTRY}/{name.replace('_', '-')}:{sha}-{PATCHED_ON}"
        assert image in cloud.images


@pytest.mark.parametrize(
    ("deployed", "arguments"), [("whole", []), ("one", ["item_status"])]
)
def test_a_dry_run_runs_nothing_and_prints_what_is_run(
    cloud: Cloud, deployed: str, arguments: list[str], request: pytest.FixtureRequest
) -> None:
    dry = cloud.deploy("--dry-run", "--yes", *arguments)
    promised = promises(dry)
    assert cloud.calls == []
    assert sorted(promised) == sorted(request.getfixturevalue(deployed)[0].calls)
    # As a script it does the same.
    cloud.paste(dry.out)
    assert sorted(cloud.calls) == sorted(promised)


def test_one_function_is_deployed_and_all_others_stay_what_they_are(
    one: tuple[Cloud, Done],
) -> None:
    cloud, done = one
    assert done.status == 0, done.err
    said = cloud.told
    [made] = cloud.uploaded(BUCKET)
    others = {name: f"{name}/{OLD}.zip" for name in FUNCTIONS}
    assert said["packages"] == others | {"item_status": made}
    assert said["image"] == f"{REGISTRY}/tools@sha256:{'a' * 64}"
    assert len(cloud.images) == 1
    # Neither schema nor workers: those go with everything.
    assert "gcloud run jobs execute" not in kinds(cloud.calls)
    assert [words[4] for words in cloud.calls if "services" in words] == ["item-status"]


def test_one_function_cannot_be_the_first(
    cloud: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    (cloud.folder / "outputs").write_text("{}")
    done = cloud.deploy("--yes", "item_status")
    assert done.status == 1
    said = capfd.readouterr().err
    assert "nothing is deployed yet: deploy all functions first" in said
    assert "everything must have been deployed once" in done.err
    assert not cloud.uploaded(BUCKET)


@pytest.mark.parametrize(
    ("arguments", "broken", "hint"),
    [
        (["item_status"], " init ", f"is there a bucket {PROJECT}-state"),
        (["--foundation"], "terraform_data.foundation", "is billing enabled"),
        (["item_status"], " cp ", f"is there a bucket {BUCKET}"),
        (["item_status"], "_TARGET=item_status", "read the build's log"),
        ([], "google_cloud_run_v2_job", "Secrets need a version"),
        ([], "jobs execute", "gcloud run jobs executions list --job order-migrate"),
        (["item_status"], "services describe", "gcloud run revisions list --service"),
    ],
    ids=str,
)
def test_it_stops_at_what_fails_and_says_what_to_do(
    cloud: Cloud, arguments: list[str], broken: str, hint: str
) -> None:
    cloud.fail_at(broken)
    done = cloud.deploy("--yes", *arguments)
    assert done.status == 7
    *_, last = cloud.calls
    assert broken in " ".join(last)
    assert hint in done.err.split("what now: ")[1]


def test_the_same_command_goes_on_once_the_trouble_is_over_and_builds_no_image_twice(
    cloud: Cloud,
) -> None:
    cloud.fail_at("-var-file")
    assert cloud.deploy("--yes", "item_status").status == 7
    cloud.mend()
    assert cloud.deploy("--yes", "item_status").status == 0
    builds = [words for words in cloud.calls if words[1:3] == ["builds", "submit"]]
    assert len(builds) == len(cloud.images) == 1


def test_machines_are_told_what_was_done_and_how_long_it_took(cloud: Cloud) -> None:
    done = cloud.deploy("--yes", "--json", "item_status")
    said = json.loads(done.out)
    assert (said["environment"], said["project"]) == ("staging", PROJECT)
    [function] = said["functions"]
    assert function["revision"] == "item-status-00002"
    assert function["image"] in cloud.images
    assert {each["status"] for each in said["steps"]} == {0}
    cloud.fail_at(" cp ")
    said = json.loads(cloud.deploy("--yes", "--json", "item_status").out)
    *before, last = said["steps"]
    assert {each["status"] for each in before} == {0}
    assert last["status"] == 7
    plan = json.loads(cloud.deploy("--dry-run", "--json", "item_status").out)
    assert all(each.keys() == {"title", "command"} for each in plan["steps"])


def test_terraform_asks_unless_told_not_to(cloud: Cloud) -> None:
    lines = printed(cloud.deploy("--dry-run", "item_status"))
    [apply] = [line for line in lines if " apply " in line]
    assert "-auto-approve" not in apply
    assert "-input" not in apply
    refused = cloud.deploy("item_status")
    assert refused.status == 2
    assert "Terraform cannot ask without a terminal: use --yes" in refused.err
    assert cloud.calls == []


def test_the_foundation_alone_needs_no_image_and_no_secret(cloud: Cloud) -> None:
    assert cloud.deploy("--yes", "--foundation").status == 0
    assert kinds(cloud.calls) == [
        "terraform init",
        "terraform apply -target=terraform_data.foundation",
    ]
    assert "image" not in cloud.told


def test_another_environment_is_another_state_and_another_project(cloud: Cloud) -> None:
    function = ["--dry-run", "item_status"]
    lines = printed(cloud.deploy("--environment", "production", *function))
    assert not any(PROJECT in line for line in lines)
    assert "bucket=acme-orders-production-state" in lines[0]
    lines = printed(cloud.deploy("--project", "acme-orders-trial", *function))
    [apply] = [line for line in lines if " apply " in line]
    assert "-var=project_id=acme-orders-trial" in apply
    assert not any(f"--project {PROJECT}" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such_function"], "no such function: no_such_function"),
        (["--environment", "moon"], "invalid choice: 'moon'"),
        (["--foundation", "item_status"], "--foundation takes no functions"),
    ],
    ids=["function", "environment", "both"],
)
def test_wrong_usage_is_told_before_anything_is_done(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--yes", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_missing_program_and_a_revision_that_is_not_ready_fail_it(
    cloud: Cloud,
) -> None:
    cloud.make_unwell("item-status")
    done = cloud.deploy("--yes", "item_status")
    assert done.status == 1
    assert "revision item-status-00002 is not ready" in done.err
    before = cloud.calls
    (cloud.folder / "bin" / "terraform").unlink()
    done = cloud.deploy("--yes", "item_status")
    assert done.status == 2
    assert "terraform is not on the path" in done.err
    assert cloud.calls == before


def test_make_passes_function_and_environment_on() -> None:
    wanted = ["FUNCTION=item_status", "ENV=production", "ARGS=--dry-run"]
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "deploy", *wanted],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    words = shlex.split(done.stdout.replace("\\\n", " ").splitlines()[-1])
    assert words[-4:] == ["item_status", "--environment", "production", "--dry-run"]


def test_a_change_of_what_the_image_holds_is_another_tag() -> None:
    named = {path.relative_to(ROOT).as_posix() for path in deploy_images._image_files()}
    for path in sorted(ROOT.glob("infra/**/*.py")):
        name = path.relative_to(ROOT).as_posix()
        assert (name in named) is image.is_sent(name), name
    assert {
        "infra/Dockerfile",
        "requirements/workers.txt",
        "common/database/engine.py",
    } <= named
    assert re.fullmatch(r"[0-9a-f]{64}", deploy_images.tools_tag())


def test_each_build_is_told_every_substitution_that_it_names_and_as_whom_to_run(
    whole: tuple[Cloud, Done],
) -> None:
    builds = [words for words in whole[0].calls if words[1] == "builds"]
    assert len(builds) == len(FUNCTIONS) + 1
    account = f"order-build@{PROJECT}.iam.gserviceaccount.com"
    for words in builds:
        options = dict(pairwise(words))
        names = re.findall(r"\$\{(_\w+)\}", (ROOT / options["--config"]).read_text())
        given = options["--substitutions"].split(",")
        assert {each.split("=")[0] for each in given} == set(names)
        where = f"projects/{PROJECT}/serviceAccounts/{account}"
        assert options["--service-account"] == where
        # It may read nowhere else, and gcloud copies every source before a build.
        assert options["--gcs-source-staging-dir"] == f"gs://{BUCKET}/source"
