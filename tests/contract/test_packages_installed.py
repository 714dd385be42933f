"""The zips of `make package` where nothing else is: installed, started, asked.

Each has its own folder and an environment of its requirements alone; neither has this
checkout within reach.
"""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import package
from tests.support import database
from tests.support.installed import Installed
from tests.support.pubsub import PubSub, running_pubsub
from tests.support.sandbox import Sandbox, running_sandbox
from tests.support.serving import send

ROOT = Path(__file__).parents[2]
FUNCTIONS = sorted(package.NEEDS)
WITH_DATABASE = [each for each in FUNCTIONS if each != "api_docs"]

# Every import statement, also those made later or never; with an argument, those
# of others' modules only.
IMPORT_ALL = """
import ast, pathlib, sys

def statements(node):
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield node, [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        yield node, [f"{node.module}.{alias.name}" for alias in node.names]
    for child in ast.iter_child_nodes(node):
        yield from statements(child)

def is_left_out(name):
    return any(f"{name}.".startswith(f"{each}.") for each in sys.argv[1:])

for path in sorted(pathlib.Path().rglob("*.py")):
    for node, names in statements(ast.parse(path.read_bytes())):
        if not any(map(is_left_out, names)):
            exec(compile(ast.Module([node], []), path, "exec"), {})
            print(*names)
"""
IMPORT_OURS = """
import importlib, pathlib, sys
here = pathlib.Path().resolve()
for path in sorted(here.rglob("*.py")):
    name = ".".join(path.relative_to(here).with_suffix("").parts)
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert pathlib.Path(module.__file__) == path, module.__file__
    print(f"{name}:")
for name, module in sys.modules.items():
    file = getattr(module, "__file__", None)
    places = (str(here), sys.prefix, sys.base_prefix, "/usr/lib")
    assert file is None or file.startswith(places), file
"""
# Enough for every `main.py` and worker to be imported; nobody is called.
SETTINGS = {
    "DATABASE_URL": "postgresql://orders@127.0.0.1:1/orders",
    "EVENT_BUS": "http",
    "EVENT_SINK_URL": "http://127.0.0.1:1/",
    "SHOPCART_SERVICE": "http://127.0.0.1:1",
    "PRODUCT_SERVICE": "http://127.0.0.1:1",
    "OPS_IDENTITY": "header",
}


@pytest.fixture(scope="module")
def installed(zips: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(zips, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(deliver=False) as running:
        yield running


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubSub]:
    with running_pubsub() as running:
        yield running


@pytest.fixture(scope="module")
def settings(
    postgres_url: str, template_database: str, sandbox: Sandbox, pubsub: PubSub
) -> Iterator[dict[str, str]]:
    with database.database(postgres_url, template=template_database) as url:
        yield {
            **sandbox.environ,
            **pubsub.environ,
            "EVENT_BUS": "pubsub",
            "DATABASE_URL": url,
            "LOG_LEVEL": "WARNING",
            "THREADS": "4",
            "OPS_IDENTITY": "header",
        }


def sent(pubsub: PubSub) -> list[str]:
    """Return the types of the events that arrived, in order."""
    return [message.attributes["event_type"] for message in pubsub.published()]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_whatever_a_package_imports_at_any_time_is_there_and_ours_its_own(
    installed: Installed, function: str
) -> None:
    expected = {"main:", "msgspec", "functions_framework", "common.web.app:"}
    settings = {}
    if function in WITH_DATABASE:
        settings = SETTINGS
        expected |= {"pika", "pg8000", "google", "grpc"}
        expected |= {"common.database.engine:", "common.publishing.pubsub:"}
    script = IMPORT_OURS + IMPORT_ALL
    said = installed.run(function, "-c", script, *package.OTEL, **settings).split()
    assert expected <= {*said, *(each.partition(".")[0] for each in said)}


def test_an_order_passes_through_all_packages(
    installed: Installed, settings: dict[str, str], sandbox: Sandbox, pubsub: PubSub
) -> None:
    user = str(uuid.uuid4())
    sandbox.add_to_cart(user, sandbox.add_article(amount=9), 2)
    caller = {"X-User-ID": user}
    with installed.served(settings, *WITH_DATABASE):
        url = installed.url
        checkout = f"{url('create_order_from_cart')}/api/orders-from-shopcart/"
        pubsub.refuse()  # so that something is left to the relay
        created = send("POST", checkout, headers=caller)
        pubsub.restore()
        assert created.status_code == 201, created.text
        order = created.json()["order"]

        here = f"{url('orders_crud')}/api/orders/{order['id']}/"
        assert send("GET", here, headers=caller).json() == order

        assert not pubsub.published()
        installed.run("outbox_relay", "worker.py", "--once", **settings)
        assert sent(pubsub) == ["order.item.created", "order.created"]

        item = order["items"][0]
        delivered = send(
            "PATCH",
            f"{url('item_status')}/api/order-items/{item['id']}/status/",
            headers=caller,
            json={"status": 3},
        )
        assert delivered.status_code == 200, delivered.text

        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "type": "order.item.status.updated",
            "source": "/order-service",
            "data": {
                "event_type": "order.item.status.updated",
                "order_item_id": str(item["id"]),
                "order_id": str(order["id"]),
                "shop_id": item["shop_id"],
                "status": 3,
                "previous_status": 1,
                "occurred_at": "2025-12-01T10:00:00.000000Z",
            },
        }
        pubsub.refuse()
        approved = send(
            "POST",
            url("approval_handler"),
            data=json.dumps(event),
            headers={"Content-Type": "application/cloudevents+json"},
        )
        pubsub.restore()
        assert approved.status_code == 204, approved.text
        assert send("GET", here, headers=caller).json()["is_approved"] is True

        swept = send("POST", url("outbox_relay"))
        assert swept.status_code == 200, swept.text
    assert sent(pubsub)[2:] == ["order.item.status.updated", "order.approved"]
    assert len(sandbox.calls_to("analytics")) == 1


def test_documentation_answers_without_a_setting(installed: Installed) -> None:
    with installed.served({}, "api_docs"):
        url = installed.url("api_docs")
        for path in (
            "/openapi.json",
            "/api/schema/",
            "/api/schema/events/",
            "/api/schema/events/?format=yaml",
            "/api/schema/events/?format=html",
            "/api/schema/redoc/",
            "/health/ready",
        ):
            assert send("GET", f"{url}{path}").status_code == 200, path
        page = send("GET", f"{url}/api/schema/swagger-ui/")
        assert page.status_code == 200
        assert "swagger_bundle.js" in page.text
        assert send("GET", f"{url}/nowhere").status_code == 404


def test_packages_are_what_the_platform_s_build_expects(installed: Installed) -> None:
    for function in FUNCTIONS:
        folder = installed.unpacked(function)
        assert f"def {function}(" in (folder / "main.py").read_text()
        assert "\nfunctions-framework==" in (folder / "requirements.txt").read_text()
        # Either would have the build take its requirements from there.
        assert not list(folder.rglob("pyproject.toml")) + list(folder.rglob("uv.lock"))
        folders = {each.name for each in folder.iterdir() if each.is_dir()}
        assert folders <= {"__pycache__", "common", "pages"}


def test_another_checkout_at_another_time_gives_the_same_bytes(
    zips: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "another checkout"
    for name in ("common", "functions", "infra"):
        unneeded = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=unneeded)
    (copy / "requirements").mkdir()
    for name in ("pyproject.toml", "requirements/runtime.txt"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for path in copy.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    command = [sys.executable, "-m", "infra.package", "--json", "--out", "made"]
    done = subprocess.run(
        command,
        cwd=copy,
        check=True,
        capture_output=True,
        umask=0o077,
        env={"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"},
    )
    assert [each["function"] for each in json.loads(done.stdout)] == FUNCTIONS
    for function in FUNCTIONS:
        made = (copy / "made" / f"{function}.zip").read_bytes()
        assert made == (zips / f"{function}.zip").read_bytes(), function
