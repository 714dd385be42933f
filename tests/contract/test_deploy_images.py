"""Images of a deployment: their patches, builds at once, packages for a collector."""

import io
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from infra import deploy, deploy_images, package
from tests.support.cloud import ROOT, Cloud, make_cloud

FUNCTIONS = sorted(package.NEEDS.keys() - {"ops_console"})  # off there
BUCKET = "acme-orders-staging-packages"
REGISTRY = "europe-west1-docker.pkg.dev/acme-orders-staging/order-service"
[PATCHED_ON] = re.findall(
    r'^patched_on = "(.*)"$',
    (deploy.ENVIRONMENTS / "staging.tfvars").read_text(),
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all are deployed from."""
    return tmp_path_factory.mktemp("dist")


@pytest.fixture
def cloud(dist: Path, tmp_path: Path) -> Cloud:
    return make_cloud(tmp_path, dist, FUNCTIONS, REGISTRY)


def test_images_are_built_by_those_that_the_file_of_builders_names(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tomllib.loads(deploy_images.BUILDERS.read_text())
    pinned = {
        name: f"{image}@sha256:{number:064x}"
        for number, (name, image) in enumerate(named.items())
    }
    file = tmp_path / "images.toml"
    file.write_text("".join(f'{name} = "{image}"\n' for name, image in pinned.items()))
    monkeypatch.setattr(deploy_images, "BUILDERS", file)
    assert cloud.deploy("--yes").status == 0
    builds = [
        call for call in cloud.calls if call[:3] == ["gcloud", "builds", "submit"]
    ]
    of_tools = [call for call in builds if "infra/cloudbuild/tools.yaml" in call]
    of_functions = [call for call in builds if call not in of_tools]
    builders = {pinned["builder_of_ubuntu_22"], pinned["builder_of_ubuntu_24"]}
    assert len(of_functions) == len(FUNCTIONS)
    for call in of_functions:
        told = substitutions(call)
        assert told["_BUILDER"] in builders
        assert told["_PACK"] == pinned["pack"]
    assert [substitutions(call)["_DOCKER"] for call in of_tools] == [pinned["docker"]]
    # Nothing else is used, and what a build is given is what it uses.
    for name in ("function", "tools"):
        text = (ROOT / "infra" / "cloudbuild" / f"{name}.yaml").read_text()
        [step] = yaml.safe_load(text)["steps"]
        assert step["name"] in {"${_PACK}", "${_DOCKER}"}
        assert "gcr.io" not in str(step)


def substitutions(call: list[str]) -> dict[str, str]:
    """Return what a build is given, by name."""
    given = call[call.index("--substitutions") + 1]
    return dict(each.split("=", 1) for each in given.split(","))


def test_packages_can_send_to_a_collector_where_an_environment_names_one() -> None:
    named = 'collector = "example.dev/otelcol:0.140.0"\n'
    assert deploy.has_collector(f'region = "x"\n{named}')
    assert not deploy.has_collector(f"# {named}")
    assert not deploy.has_collector("collector = null\n")


def test_a_collector_makes_other_packages(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "has_collector", lambda _: True)
    assert cloud.deploy("--yes", "api_docs").status == 0
    [content] = cloud.uploaded(BUCKET).values()
    with zipfile.ZipFile(io.BytesIO(content)) as made:
        assert "opentelemetry-sdk" in made.read("requirements.txt").decode()


def test_the_collector_listens_where_functions_send() -> None:
    folder = ROOT / "infra" / "terraform"
    config = yaml.safe_load((folder / "collector.yaml").read_text())
    endpoint = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert f'"http://{endpoint}"' in (folder / "collector.tf").read_text()
    health = config["extensions"]["health_check"]["endpoint"].rpartition(":")[2]
    assert f"port = {health}" in (folder / "functions.tf").read_text()
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= config[kind].keys()


def test_a_later_day_has_every_image_built_anew(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cloud.deploy("--yes").status == 0
    before = set(cloud.images)
    text = (deploy.ENVIRONMENTS / "staging.tfvars").read_text()
    later = text.replace(f'patched_on = "{PATCHED_ON}"', 'patched_on = "2099-01-31"')
    monkeypatch.setattr(deploy, "_file", lambda _: later)
    assert cloud.deploy("--yes").status == 0
    made = set(cloud.images) - before
    assert len(made) == len(before) == len(FUNCTIONS) + 1
    assert all(image.endswith("-2099-01-31") for image in made)


@pytest.mark.parametrize(
    ("day", "status", "said"),
    [
        ("2020-02-29", 0, "images have the patches of 2020-02-29"),
        ("2021-02-29", 2, "patched_on is no date: 2021-02-29"),
        ("", 2, "does not say patched_on"),
    ],
)
def test_old_patches_are_told_and_no_day_is_refused(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, day: str, status: int, said: str
) -> None:
    text = (deploy.ENVIRONMENTS / "staging.tfvars").read_text()
    monkeypatch.setattr(deploy, "_file", lambda _: text.replace(PATCHED_ON, day))
    done = cloud.deploy("--dry-run", "--yes", "api_docs")
    assert done.status == status
    assert said in done.err


def test_one_build_that_fails_stops_a_deployment_once_all_have_ended(
    cloud: Cloud,
) -> None:
    cloud.fail_at("_TARGET=item_status")
    done = cloud.deploy("--yes")
    assert done.status == 1
    assert "the images of" in done.err
    assert len(cloud.images) == len(FUNCTIONS) - 1
    assert "run" not in [words[1] for words in cloud.calls]
    cloud.mend()
    assert cloud.deploy("--yes").status == 0
    builds = [words for words in cloud.calls if words[1] == "builds"]
    assert len(builds) == len(FUNCTIONS) + 2  # the one again, and that of workers
