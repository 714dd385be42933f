"""docs/rabbitmq.md: its commands work on a broker, its files fit the service's."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.support import pages
from tests.support.pages import ROOT
from tests.support.processes import free_ports
from tests.support.rabbitmq_node import OwnBroker, needed_broker
from tests.support.worker import worker_module

PAGE = ROOT / "docs" / "rabbitmq.md"
FOLDER = ROOT / "infra" / "rabbitmq"
ADMIN, ADMIN_PASSWORD, PASSWORD = "root", "local", "s3cret"


@pytest.fixture(scope="module")
def managed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[OwnBroker, str]]:
    """A new broker without definitions, and the address of its management API."""
    [port] = free_ports(1)
    conf = f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}"
    folder = tmp_path_factory.mktemp("managed")
    plugins = ("rabbitmq_management",)
    with needed_broker(folder, conf=conf, plugins=plugins) as node:
        node.ctl("add_user", ADMIN, ADMIN_PASSWORD)
        node.ctl("set_user_tags", ADMIN, "administrator")
        node.ctl("set_permissions", ADMIN, ".*", ".*", ".*")
        yield node, f"http://127.0.0.1:{port}"


def block_with(text: str) -> str:
    [found] = [each for each in pages.shell_blocks(PAGE) if text in each]
    return found


def test_a_broker_gets_definitions_and_user_by_its_management_api(
    managed: tuple[OwnBroker, str],
) -> None:
    node, address = managed
    environ = os.environ | {
        "BROKER": address,
        "ADMIN": ADMIN,
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "BROKER_PASSWORD": PASSWORD,
    }
    script = "set -eu\n" + block_with("api() {")
    for _ in range(2):  # again changes nothing
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=ROOT,
            env=environ,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    arguments = json.loads(done.stdout.splitlines()[-1])["arguments"]
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-delivery-limit"] > 0
    node.ctl("authenticate_user", "orders", PASSWORD)
    wanted = json.loads((FOLDER / "definitions.json").read_text())["queues"]
    queues = node.ctl("list_queues", "name").split()
    assert {each["name"] for each in wanted} <= set(queues)
    rights = node.ctl("list_user_permissions", "orders")
    assert rights.count("^order_") == 3


def test_the_cluster_has_the_limits_of_the_configuration() -> None:
    cluster = yaml.safe_load((FOLDER / "cluster.yaml").read_text())
    [limit] = [
        line
        for line in (FOLDER / "rabbitmq.conf").read_text().splitlines()
        if line.startswith("max_message_size")
    ]
    config = cluster["spec"]["rabbitmq"]["additionalConfig"].splitlines()
    assert limit in config
    assert (
        cluster["spec"]["service"]["annotations"][
            "networking.gke.io/load-balancer-type"
        ]
        == "Internal"
    )


def test_what_is_scaled_is_the_pool_by_the_queue_that_it_consumes() -> None:
    config = yaml.safe_load((FOLDER / "autoscaling.yaml").read_text())
    [scaled] = config["spec"]["scaledObjects"]
    pool = scaled["spec"]["scaleTargetRef"]["name"].rpartition("/")[2]
    workers = (ROOT / "infra" / "terraform" / "workers.tf").read_text()
    assert f"{pool.replace('-', '_')} = {{" in workers
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metadata"]["queueName"] == worker_module().QUEUE
    assert trigger["metadata"]["mode"] == "QueueLength"
    [authentication] = config["spec"]["triggerAuthentications"]
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    [secret] = authentication["spec"]["gcpSecretManager"]["secrets"]
    assert f"gcloud secrets create {secret['id']} " in PAGE.read_text()
    assert scaled["spec"]["maxReplicaCount"] <= 10  # as approval_worker_instances
