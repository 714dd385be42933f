"""Clients that generators make from the API document, against a running system.

Each orders, lists, changes, and reads what is wrong with a request, in its own types.
Node and npm are needed for one of them; its packages are those of its lock.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.api_docs.documents import FOLDER
from infra.local.sandbox.catalogue import MUG
from tests.support import debian
from tests.support.local_system import local_system
from tests.support.service import new_user

CLIENTS = Path(__file__).parents[1] / "clients"
DOCUMENT = FOLDER / "openapi.yaml"
SECONDS = 240  # for packages that have to be fetched

pytestmark = pytest.mark.timeout(2 * SECONDS)


@pytest.fixture(scope="module")
def url(
    postgres_url: str,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("system")
    with local_system(postgres_url, template_database, folder) as (url, _):
        yield url


def run(*command: str | Path, folder: Path, **environ: str) -> str:
    """Return what a program prints; it has to succeed."""
    done = subprocess.run(
        command,
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"NO_PROXY": "127.0.0.1"} | environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hold(told: str) -> None:
    """Compare what a client told with what it should have seen."""
    seen = json.loads(told)
    assert seen == {
        "id": seen["id"],
        "quantity": 2,
        "listed": [seen["id"]],
        "metadata": {"gift": "yes"},
        "problem": "/problems/invalid-request",
        "fields": ["items[0].quantity"],
    }


@pytest.fixture
def npm() -> str:
    """npm, which comes with Node; skip where neither is, nor can be had."""
    try:
        debian.install("nodejs", "node")
        debian.install("npm", "npm")
    except debian.InstallError as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(f"no TypeScript client is tried: {error}")
    return "npm"


def test_a_typescript_client_compiles_strictly_and_orders(
    url: str, npm: str, tmp_path: Path
) -> None:
    folder = tmp_path / "typescript"
    shutil.copytree(CLIENTS / "typescript", folder)
    run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
    run("npx", "--no", "openapi-typescript", DOCUMENT, "-o", "schema.ts", folder=folder)
    run("npx", "--no", "tsc", folder=folder)
    story = folder / "built" / "story.js"
    hold(run("node", story, url, new_user(), MUG, folder=folder))


def test_a_python_client_has_every_type_and_orders(url: str, tmp_path: Path) -> None:
    programs = str(Path(sys.executable).parent)  # it formats what it has made by ruff
    path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    made = ["--output-path", tmp_path / "order_client", "--meta", "none"]
    generate = ["openapi-python-client", "generate", "--path", DOCUMENT]
    run(*generate, *made, "--fail-on-warning", folder=tmp_path, **path)
    story = CLIENTS / "python" / "story.py"
    told = run(
        *(sys.executable, story, url, new_user(), MUG),
        folder=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    hold(told)
