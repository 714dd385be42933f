"""What Terraform tells each process is what that process can start with.

Terraform itself works out the environments, with a stand-in for the cloud, and the
service's own check of its settings reads them.
"""

import json
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.config import settings as config
from common.config.endpoints import CloudSql, Database
from tests.support.terraform.terraform import attached

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "infra" / "terraform"
FUNCTIONS = (
    "api_docs",
    "approval_handler",
    "create_order_from_cart",
    "item_status",
    "ops_console",
    "orders_crud",
    "outbox_relay",
)
# How each of the others is started, for what it needs.
SCRIPTS = {
    "relay_worker": "functions/outbox_relay/worker.py",
    "approval_worker": "functions/approval_handler/worker.py",
}
JOBS = {"migrate": ("DATABASE",), "orderctl": ("DATABASE", "EVENT_BUS")}
VARIABLES: dict[str, Any] = {
    "packages": {name: f"{name}/{'0' * 64}.zip" for name in FUNCTIONS},
    "image": f"example.dev/tools@sha256:{'0' * 64}",
    "relay_worker_instances": 1,
    "approval_worker_instances": 1,
    "public_path_prefix": "/order",
    "ops_console": True,
    "ops_operators": ["olga@example.com", "otto@example.com"],
    "database": {"tier": "db-custom-4-16384", "max_connections": 800},
}
KINDS = {
    "behind Google's gateway": {
        "identity_source": "apigateway",
        "load_balancer": None,
    },
    "behind the platform's own": {"load_balancer": {}},
    "by the socket": {
        "database": {
            "tier": "db-custom-4-16384",
            "max_connections": 800,
            "connect": "socket",
            "address": "public",
        },
    },
    "by an endpoint": {
        "database": {
            "tier": "db-custom-4-16384",
            "max_connections": 800,
            "address": "psc",
        },
    },
    "RabbitMQ alone": {"event_bus": "rabbitmq"},
    "with all there is to set": {
        "identity_source": "header",
        "settings": {"LOG_USER_IDS": "hashed", "STOCK_SETTLE_SECONDS": "8"},
        "function_settings": {"item_status": {"STATUS_REQUIRE_SHOP_CLAIM": "true"}},
    },
    "Pub/Sub alone": {"event_bus": "pubsub", "approval_worker_instances": 0},
}
CLOUD = """
mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123" }
  }
  mock_resource "google_sql_database_instance" {
    defaults = { connection_name = "acme-orders-production:europe-west1:orders" }
  }
}
"""
# An assertion that fails is how a test of Terraform tells what it has worked out.
TELL = """
run "tell_%(number)d" {
  command = apply

  variables {
%(variables)s
  }

  assert {
    condition     = var.project_id == ""
    error_message = jsonencode({
      for name, template in merge(
        { for name, each in google_cloud_run_v2_service.function :
          name => each.template[0] },
        { for name, each in google_cloud_run_v2_worker_pool.worker :
          name => each.template[0] },
        { migrate  = google_cloud_run_v2_job.migrate.template[0].template[0]
          orderctl = google_cloud_run_v2_job.orderctl.template[0].template[0] },
      ) : name => template.containers[0].env
    })
  }
}
"""
INSTANCE = "acme-orders-production:europe-west1:orders"
SECRET = "gateway-secret-of-at-least-64-bytes-so-that-any-hmac-takes-it-gladly"
Environments = dict[
    str, dict[str, str]
]  # of each process; a secret's value is `SECRET`


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Environments]:
    """What every process is told, for each kind of deployment."""
    folder = tmp_path_factory.mktemp("terraform")
    for path in TERRAFORM.glob("*.tf"):
        shutil.copy(path, folder)
    runs = [CLOUD]
    for number, kind in enumerate(KINDS.values()):
        variables = "\n".join(
            f"    {name} = {json.dumps(value)}"
            for name, value in (VARIABLES | kind).items()
        )
        runs.append(TELL % {"number": number, "variables": variables})
    (folder / "tests").mkdir()
    (folder / "tests" / "tell.tftest.hcl").write_text("\n".join(runs))
    example = TERRAFORM / "environments" / "production.tfvars"
    with attached() as terraform:
        begun = terraform.run(folder, "init", "-backend=false", "-no-color")
        assert begun.status == 0, begun.output
        said = terraform.run(folder, "test", "-no-color", f"-var-file={example}").output
    found = re.findall(r"^\{.*\}$", said, re.MULTILINE)
    assert len(found) == len(KINDS), said
    return {
        kind: {name: _values(listed) for name, listed in json.loads(text).items()}
        for kind, text in zip(KINDS, found, strict=True)
    }


def _values(listed: list[dict[str, Any]]) -> dict[str, str]:
    return {
        each["name"]: SECRET if each["value_source"] else each["value"]
        for each in listed
    }


def needs(process: str) -> tuple[str, ...]:
    """Return what a process cannot work without, as its entry point says."""
    if process in JOBS:
        return JOBS[process]
    script = SCRIPTS.get(process, f"functions/{process}/main.py")
    text = (ROOT / script).read_text(encoding="utf-8")
    found = re.search(r"(?:wiring|startup)\.start\((.*?)\)", text, re.DOTALL)
    assert found
    return tuple(re.findall(r'"(\w+)"', found[1]))


@pytest.fixture(scope="module")
def mounted() -> Iterator[str]:
    """The folder in which Cloud Run mounts the instance's socket."""
    with (
        tempfile.TemporaryDirectory(prefix="sql-") as folder,
        socket.socket(socket.AF_UNIX) as server,
    ):
        Path(folder, INSTANCE).mkdir()
        server.bind(f"{folder}/{INSTANCE}/.s.PGSQL.5432")
        yield folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_process_can_start_with_what_it_is_told(
    told: dict[str, Environments], mounted: str, kind: str
) -> None:
    assert {*FUNCTIONS, *JOBS, "relay_worker"} <= told[kind].keys()
    kinds = {Database} if kind == "by the socket" else {CloudSql}
    for process, environment in told[kind].items():
        mount = {"CLOUD_SQL_SOCKET_DIR": mounted}  # always there: it is not believed
        settings = config.load(environment | mount, needs=needs(process))
        assert settings.pool_size == int(environment["THREADS"])
        assert (settings.database is None) == (process == "api_docs")
        assert {type(settings.database)} <= kinds | {type(None)}


def test_no_process_is_told_what_nobody_reads(told: dict[str, Environments]) -> None:
    processes = [each for kind in told.values() for each in kind.values()]
    names = {name for environment in processes for name in environment}
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "common").rglob("*.py")
    )
    assert {name for name in names if f'"{name}"' not in sources} == set()


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"by the socket"}))
def test_each_process_logs_in_as_itself_without_a_password(
    told: dict[str, Environments], kind: str
) -> None:
    assert not [each for each in told[kind].values() if "POSTGRES_PASSWORD" in each]
    logins = [each.get("POSTGRES_USER") for each in told[kind].values()]
    assert len(set(logins)) == len(logins)


def test_by_the_socket_there_are_three_logins_with_passwords(
    told: dict[str, Environments],
) -> None:
    logins: dict[str | None, set[str]] = {}
    for process, each in told["by the socket"].items():
        assert ("POSTGRES_PASSWORD" in each) == ("POSTGRES_USER" in each)
        logins.setdefault(each.get("POSTGRES_USER"), set()).add(process)
    assert logins.pop("orders") == {
        *FUNCTIONS,
        "relay_worker",
        "approval_worker",
    } - {"api_docs"}
    assert logins == {
        None: {"api_docs"},
        "order-operator": {"orderctl"},
        "order-migrations": {"migrate"},
    }


def test_item_status_believes_the_shop_service_also_behind_an_api_gateway(
    told: dict[str, Environments],
) -> None:
    environments = told["behind Google's gateway"]
    sources = {name: each.get("IDENTITY_SOURCE") for name, each in environments.items()}
    assert {name: source for name, source in sources.items() if source} == {
        "create_order_from_cart": "apigateway",
        "item_status": "header",
        "orders_crud": "apigateway",
    }


# Settings that Terraform's own replace, or that the platform sets.
REPLACED = {
    "CLOUD_SQL_API_ENDPOINT",
    "CLOUD_SQL_SOCKET_DIR",
    "DATABASE_URL",
    "K_SERVICE",
    "K_SINK",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "RABBITMQ_URL",
}


def test_every_setting_can_be_set() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (`[A-Z].*?) \|", page.split("## Removed settings")[0], re.MULTILINE
    )
    documented = {
        name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)
    }
    text = (TERRAFORM / "variables_settings.tf").read_text(encoding="utf-8")
    [own] = re.findall(r"own_settings = concat\((.*?)\n  \)", text, re.DOTALL)
    [prefixes] = re.findall(r'own_prefixes = "(.*)"', text)
    refused = {
        name for name in documented if f'"{name}"' in own or re.match(prefixes, name)
    }
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for path in TERRAFORM.glob("*.tf")
        if path.name != "variables_settings.tf"
    )
    unset = {name for name in refused if not re.search(rf"\b{name}\b", sources)}
    assert len(documented) > 40
    assert unset <= REPLACED
