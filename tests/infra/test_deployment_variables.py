"""Terraform plans with just what `make deploy` tells it, and finds what that built."""

import json
import shutil
from pathlib import Path

import pytest

from infra import deploy, package
from infra.deploy_steps import FOUNDATION, MIGRATION_JOB
from tests.support.cloud import Cloud, make_cloud
from tests.support.terraform.rules import copied
from tests.support.terraform.terraform import Terraform

FUNCTIONS = sorted(package.NEEDS.keys() - {"ops_console"})  # off there
REGISTRY = "europe-west1-docker.pkg.dev/acme-orders-staging/order-service"
TEST = """
mock_provider "google" {
  source = "./tests/mocks"
}

run "deployment" {
  command = plan

  %s
}
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    folder = tmp_path / "cloud"
    folder.mkdir()
    return make_cloud(folder, tmp_path / "dist", FUNCTIONS, REGISTRY)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """A cloud that everything was deployed to, once."""
    folder, dist = tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("dist")
    cloud = make_cloud(folder, dist, FUNCTIONS, REGISTRY)
    assert cloud.deploy("--yes").status == 0
    return cloud


def planned(
    terraform: Terraform,
    cloud: Cloud,
    folder: Path,
    run: str,
    environment: str = "",
    **more: object,
) -> str:
    """Return what Terraform has against a plan with the last deployment's variables.

    `environment` is the text of the environment's file, unless it is staging's.
    """
    target = copied(folder)
    if environment:
        (target / "environments" / "staging.tfvars").write_text(environment)
    tests = target / "tests"
    for path in tests.glob("*.*"):  # all but the mocks
        path.unlink()
    (tests / "deployment.tftest.hcl").write_text(TEST % run)
    shutil.copy(cloud.dist / "staging.tfvars.json", target)
    (target / "more.tfvars.json").write_text(json.dumps(more))
    files = ["environments/staging.tfvars", "staging.tfvars.json", "more.tfvars.json"]
    options = [f"-var-file={file}" for file in files]
    done = terraform.run(target, "test", *options)
    assert ("1 passed" in done.output) == (done.status == 0)
    return done.output if done.status else ""


def test_the_foundation_can_be_planned_before_there_is_any_image(
    terraform: Terraform, cloud: Cloud, tmp_path: Path
) -> None:
    assert cloud.deploy("--yes", "--foundation").status == 0
    run = "plan_options {\n    target = [%s]\n  }"
    assert not planned(terraform, cloud, tmp_path / "a", run % FOUNDATION)
    said = planned(terraform, cloud, tmp_path / "b", run % MIGRATION_JOB)
    assert "image is not set" in said


def test_everything_can_be_planned_and_is_made_of_the_images_that_were_built(
    terraform: Terraform, cloud: Cloud, tmp_path: Path
) -> None:
    assert cloud.deploy("--yes").status == 0
    functions = {
        name: image
        for image in cloud.images
        for name in FUNCTIONS
        if f"/{name.replace('_', '-')}:" in image
    }
    assert functions.keys() == set(FUNCTIONS)
    condition = (
        f"jsonencode(output.function_images) == jsonencode({json.dumps(functions)})"
    )
    run = 'assert {\n    condition = %s\n    error_message = "they differ"\n  }'
    assert not planned(terraform, cloud, tmp_path / "a", run % condition)


DATABASE = {"tier": "db-custom-1-3840", "max_connections": 150, "is_regional": False}
WAYS = {
    "connector": {"database": DATABASE},
    "connector, by an endpoint": {"database": DATABASE | {"address": "psc"}},
    "socket": {"database": DATABASE | {"connect": "socket"}},
    "socket, public": {
        "database": DATABASE | {"connect": "socket", "address": "public"}
    },
    "load balancer": {"load_balancer": {}},
    "load balancer in a shared network": {
        "load_balancer": {"domain": "orders.acme.internal"},
        "network": {"name": "shared", "subnet": "orders", "project": "acme-network"},
    },
    "identity of Google's": {"load_balancer": None},
    "Google's gateway": {"load_balancer": None, "identity_source": "apigateway"},
    "a hosted broker": {
        "private_endpoints": {
            "rabbitmq": {
                "target": "projects/broker/regions/europe-west1/serviceAttachments/a",
                "host": "acme.rabbit.example",
            }
        }
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_database_and_siblings_can_be_planned(
    terraform: Terraform, deployed: Cloud, tmp_path: Path, way: str
) -> None:
    assert not planned(terraform, deployed, tmp_path / "a", "", **WAYS[way])


STAGING = (deploy.ENVIRONMENTS / "staging.tfvars").read_text()
SET = """one([
      for each in google_cloud_run_v2_service.function["orders_crud"].template[0]
        .containers[0].env : each.value if each.name == "{0}"]) == "{1}\""""
# A line of staging's file, what stands in its place, and what is then in the plan.
DEPLOYMENTS = {
    "connector": ("", "", SET.format("CLOUD_SQL_CONNECT", "connector")),
    "socket": (
        "database = {",
        'database = {\n  connect = "socket"',
        SET.format("CLOUD_SQL_CONNECT", "socket"),
    ),
    "load balancer": ("", "", "length(google_compute_forwarding_rule.balancer) == 1"),
    "RabbitMQ": (
        'event_bus = "rabbitmq,pubsub"',
        'event_bus = "rabbitmq"\napproval_worker_instances = 1',
        SET.format("EVENT_BUS", "rabbitmq")
        + " && length(google_pubsub_topic.order_events) == 0",
    ),
    "Pub/Sub": (
        'event_bus = "rabbitmq,pubsub"',
        'event_bus = "pubsub"',
        SET.format("EVENT_BUS", "pubsub")
        + " && length(google_pubsub_topic.order_events) == 1",
    ),
    "console": (
        "deletion_protection = false",
        'ops_console = true\nops_operators = ["on-call@acme.example"]',
        'contains(keys(google_cloud_run_v2_service.function), "ops_console")',
    ),
}


def in_turn(calls: list[list[str]]) -> list[list[str]]:
    """Return all but builds, which run at once, and look for their images before."""
    at_once = (["gcloud", "builds"], ["gcloud", "artifacts"])
    return [call for call in calls if call[:2] not in at_once]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_dry_run_prints_the_whole_of_each_deployment(
    terraform: Terraform,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    line, instead, condition = DEPLOYMENTS[name]
    assert line in STAGING
    text = STAGING.replace(line, instead, 1) if line else STAGING
    (tmp_path / "staging.tfvars").write_text(text)
    monkeypatch.setattr(deploy, "ENVIRONMENTS", tmp_path)
    functions = [*FUNCTIONS, *(["ops_console"] if name == "console" else [])]
    clouds = []
    for folder in (tmp_path / "dry", tmp_path / "done"):
        folder.mkdir()
        clouds.append(make_cloud(folder, tmp_path / "dist", functions, REGISTRY))
    by_hand, done = clouds

    dry = by_hand.deploy("--dry-run", "--yes")
    assert dry.status == 0, dry.err
    assert by_hand.calls == []
    by_hand.paste(dry.out)
    assert done.deploy("--yes").status == 0

    assert sorted(by_hand.calls) == sorted(done.calls)
    assert in_turn(by_hand.calls) == in_turn(done.calls)
    built = [call for call in by_hand.calls if "infra/cloudbuild/function.yaml" in call]
    assert len(built) == len(functions)
    run = f'assert {{\n    condition = {condition}\n    error_message = "no"\n  }}'
    assert not planned(terraform, by_hand, tmp_path / "plan", run, text)


def test_migrations_find_the_database_s_endpoint(
    terraform: Terraform, deployed: Cloud, tmp_path: Path
) -> None:
    run = """plan_options {
    target = [%s]
  }
  assert {
    condition = (
      length(google_dns_record_set.endpoint) == 1
      && length(google_compute_forwarding_rule.endpoint) == 1
    )
    error_message = "there is none"
  }"""
    way = WAYS["connector, by an endpoint"]
    assert not planned(terraform, deployed, tmp_path / "a", run % MIGRATION_JOB, **way)
