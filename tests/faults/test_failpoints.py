"""No write escapes the crash test: each has a scenario, and every point is visited."""

import ast
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from flask import Flask

from common import failpoints
from common.database.engine import STATEMENTS
from tests.support.crash.scenarios import SCENARIOS
from tests.support.crash.trials import record
from tests.support.crash.world import World
from tests.support.environs import POSTGRES, RABBITMQ, SERVICES
from tests.support.modules import import_all
from tests.support.service import FUNCTIONS

ROOT = FUNCTIONS.parent
# Comments, in which quotes mean nothing, and text.
NO_CODE = re.compile(r"--.*|'[^']*'")
WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|nextval|pg_notify)\b")
ENVIRON = POSTGRES | RABBITMQ | SERVICES | {"OPS_IDENTITY": "header"}
# Where SQL may be made without a name: schema, and the maker of names itself.
UNNAMED = {"common/database/tables/__init__.py", "common/database/engine.py"}


def sources() -> Iterator[Path]:
    for folder in ("common", "functions", "infra"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = str(path.relative_to(ROOT))
            if "migrations" not in relative and relative not in UNNAMED:
                yield path


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def called(call: ast.Call) -> str:
    function = call.func
    return getattr(function, "id", getattr(function, "attr", ""))


def writing() -> set[str]:
    """Return the names of all statements that write."""
    import_all()
    code = {name: NO_CODE.sub("", sql) for name, sql in STATEMENTS.items()}
    return {name for name, sql in code.items() if WRITES.search(sql)}


def test_every_statement_says_its_name() -> None:
    """Without one it would have no failpoint, and the crash test would pass it over."""
    for path in sources():
        for call in calls(path):
            is_text = called(call) in ("text", "exec_driver_sql", "insert", "delete")
            is_sql = is_text and any(
                isinstance(part, ast.Constant)
                and re.search(r"\b(SELECT|INSERT|UPDATE|DELETE)\b", str(part.value))
                for part in ast.walk(call)
            )
            assert not is_sql, f"{path}:{call.lineno}: use db.named"


def views() -> set[tuple[str, str]]:
    """Return each function's views that take writes."""
    found = set()
    for folder in sorted(FUNCTIONS.iterdir()):
        if not (folder / "main.py").exists():
            continue
        spec = importlib.util.spec_from_file_location(folder.name, folder / "main.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        with mock.patch.dict(os.environ, ENVIRON):
            spec.loader.exec_module(module)
        app: Flask = module.app
        for rule in app.url_map.iter_rules():
            if {"POST", "PUT", "PATCH", "DELETE"} & set(rule.methods or ()):
                found.add((folder.name, rule.endpoint))
    return found


def test_every_write_has_a_scenario() -> None:
    assert views() <= {(scenario.role, scenario.view) for scenario in SCENARIOS}


def test_every_worker_has_a_scenario() -> None:
    workers = {path.parent.name for path in FUNCTIONS.glob("*/worker.py")}
    covered = {"approval_handler": "approval_worker", "outbox_relay": "relay_worker"}
    assert {covered.get(worker) for worker in workers} <= {s.role for s in SCENARIOS}


@pytest.mark.timeout(300)
def test_every_point_of_every_write_is_visited(world: World) -> None:
    visited: set[str] = set()
    for scenario in SCENARIOS:
        world.service.set(EVENT_BUS="rabbitmq", ORDER_CREATED_ON_DOUBT=None)
        world.service.set(**scenario.settings)
        points = record(world, scenario)
        run = {point.split()[1] for point in points if point.startswith("sql ")}
        assert run & writing(), f"{scenario.name}: nothing is written"
        visited |= set(points)
    moments = ("before", "after")
    every = {f"sql {name} {moment}" for name in writing() for moment in moments}
    every |= failpoints.NAMES
    assert every - visited == set()
    print(f"\n{len(every)} failpoints of writes, {len(visited)} visited")  # noqa: T201
