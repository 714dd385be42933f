"""What each process loads when it starts, held to `benchmarks/cold_budgets.toml`."""

import functools
import json
import os
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BUDGETS = tomllib.loads((ROOT / "benchmarks" / "cold_budgets.toml").read_text())
PROCESSES: dict[str, dict[str, Any]] = BUDGETS["processes"]
ENVIRON = {
    "PATH": os.environ.get("PATH", os.defpath),
    "PYTHONPATH": str(ROOT),
    "DATABASE_URL": "postgresql://orders:secret@127.0.0.1:1/orders",
    "EVENT_BUS": "rabbitmq",
    "RABBITMQ_HOST": "127.0.0.1",
    "RABBITMQ_USER": "orders",
    "RABBITMQ_PASS": "secret",
    "SHOPCART_SERVICE": "http://127.0.0.1:1",
    "PRODUCT_SERVICE": "http://127.0.0.1:1",
    "OPS_IDENTITY": "header",
    "ANALYTIC_SERVICE": "http://127.0.0.1:1",
    "GATEWAY_JWT_SECRET": "s" * 32,
    "LOG_LEVEL": "ERROR",
}
# Loads a process as a deployment does, and tells what that has added to the framework
# under gunicorn; asks a question, and tells what that has added.
PROGRAM = """
import json, runpy, sys
from pathlib import Path
import functions_framework._cli, functions_framework._http.gunicorn
import gunicorn.arbiter, gunicorn.glogging
path, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
told = [sorted(sys.modules)]
if path.name == "main.py":
    app = functions_framework.create_app(path.parent.name, str(path))
else:
    runpy.run_path(str(path), run_name="worker")
told.append(sorted(sys.modules))
if asked:
    answer = app.test_client().open(**asked)
    print(answer.status_code, answer.get_data(as_text=True), file=sys.stderr)
    told += [sorted(sys.modules), answer.status_code]
print(json.dumps(told))
"""


def tell(process: str, environ: dict[str, str], asked: dict[str, Any] | None) -> Any:
    path = ROOT / "functions" / process
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), json.dumps(asked)],
        env=environ,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


@functools.cache
def loaded(process: str) -> frozenset[str]:
    framework, after = tell(process, ENVIRON, None)
    return frozenset(after) - frozenset(framework)


def among(modules: Iterable[str], named: Collection[str]) -> list[str]:
    """Return those that are, or are inside of, what is named."""
    inside = tuple(f"{name}." for name in named)
    return sorted(m for m in modules if m in named or m.startswith(inside))


def test_every_process_has_a_budget() -> None:
    functions = ROOT / "functions"
    found = [*functions.glob("*/main.py"), *functions.glob("*/worker.py")]
    assert {str(each.relative_to(functions)) for each in found} == PROCESSES.keys()


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_loads_no_more_and_no_other_modules_than_its_budget(
    process: str,
) -> None:
    standard = sys.stdlib_module_names
    counted = {m for m in loaded(process) if m.partition(".")[0] not in standard}
    assert len(counted) <= PROCESSES[process]["modules"], sorted(counted)
    # A budget that is far too large holds nothing: lower it.
    assert len(counted) >= PROCESSES[process]["modules"] - 25
    # Nor what it may never need.
    budget = PROCESSES[process]
    unwanted = {*BUDGETS["not_at_load"], *budget.get("not_at_load", ())}
    assert not among(loaded(process), unwanted - {*budget.get("at_load", ())})


@pytest.mark.parametrize("process", [p for p in PROCESSES if "/main.py" in p])
def test_the_way_to_cloud_sql_is_imported_before_the_port_opens(process: str) -> None:
    # An instance starts with more CPU than it runs with.
    environ = ENVIRON | {
        "CLOUD_SQL_CONNECTION_NAME": "shop-42:europe-west1:orders",
        "POSTGRES_DB": "orders",
        "POSTGRES_USER": "orders@shop-42.iam",
    }
    del environ["DATABASE_URL"]
    _, after = tell(process, environ, None)
    has_database = process != "api_docs/main.py"
    assert ("google.cloud.sql.connector" in after) == has_database


READ = {"method": "GET", "path": "/api/orders/"}
STATUS = {
    "method": "PATCH",
    "path": "/api/order-items/1/status/",
    "json": {"status": 2},
}
EVENT = {
    "method": "POST",
    "path": "/",
    "json": {"event_type": "order.created", "order_id": "1"},
    "headers": {"ce-specversion": "1.0", "ce-type": "order.created", "ce-id": "1"},
}


@pytest.mark.parametrize(
    ("function", "asked", "status"),
    [
        ("api_docs", {"path": "/openapi.json"}, 200),
        ("approval_handler", EVENT, 204),
        ("item_status", STATUS, 404),
        ("orders_crud", READ, 200),
        ("outbox_relay", {"method": "POST", "path": "/"}, 200),
    ],
)
def test_an_answer_that_publishes_nothing_loads_no_publisher(
    function: str, asked: dict[str, Any], status: int, database_url: str
) -> None:
    environ = ENVIRON | {"DATABASE_URL": database_url}
    del environ["GATEWAY_JWT_SECRET"]
    headers = {"X-User-ID": str(uuid.uuid4())} | asked.get("headers", {})
    asked = asked | {"headers": headers}
    framework, _, after, answered = tell(f"{function}/main.py", environ, asked)
    assert answered == status
    added = frozenset(after) - frozenset(framework)
    assert not among(added, BUDGETS["not_at_answer"])


def test_garbage_is_not_looked_for_until_a_function_is_loaded() -> None:
    # And never among what was loaded.
    program = """
import gc
before = gc.get_threshold()
from common import wiring
assert gc.get_threshold()[0] > 50_000, gc.get_threshold()
assert gc.get_freeze_count() == 0
wiring.start("DATABASE")
assert gc.isenabled()
assert gc.get_threshold() == before, gc.get_threshold()
frozen = gc.get_freeze_count()
assert frozen > 10_000, frozen
kept = [[] for _ in range(20_000)]
wiring.start("DATABASE")
assert gc.get_freeze_count() <= frozen, "only once: later there may be garbage"
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRON)
