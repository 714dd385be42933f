"""Who imports whom: packages point down only, and the domain stands on the ground."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra import graph

ROOT = Path(__file__).parents[2]
HEAVY = ("sqlalchemy", "pg8000", "flask", "http.client", "requests", "pika")
UPWARD = {
    "store/reads.py": "import common.web.app",
    "json.py": "import common.domain.model",
    "telemetry/logs.py": "import common.config.settings",
    "messaging/outbox.py": "import common.operations.audit",
    "domain/orders.py": "import sqlalchemy",
    "domain/checkout.py": "import common.database.engine",
    "domain/events.py": "import requests",
}


def test_packages_are_few_small_and_in_no_circle() -> None:
    rooms = graph.imports()
    assert len(rooms) < 20
    assert {name for level in graph.levels(rooms) for name in level} == {*rooms}
    for folder in (ROOT / "common").iterdir():
        assert len([*folder.glob("*.py")]) <= 10, folder  # with its __init__


@pytest.mark.parametrize("file", UPWARD)
def test_an_import_that_points_up_or_out_breaks_a_contract(
    tmp_path: Path, file: str
) -> None:
    shutil.copytree(ROOT / "common", tmp_path / "common")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "common" / file
    path.write_text(f"{path.read_text()}\n{UPWARD[file]}\n")
    done = subprocess.run(
        [Path(sys.prefix, "bin", "lint-imports"), "--no-logo", "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"[12] broken", done.stdout), done.stdout


def test_the_domain_loads_no_database_no_framework_and_no_wire() -> None:
    program = "import sys, common.domain.orders, common.domain.checkout, json;"
    program += f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
