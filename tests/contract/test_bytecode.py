"""A cold start compiles nothing, although the buildpack compiles what was compiled.

The buildpack runs `compileall -f` on a function's sources, and the image that is made
of them dates each file to 1980. `--log-cli-level=INFO` shows how long an import takes.
"""

import json
import logging
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra import package

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "infra" / "cloudbuild" / "function.yaml"
DATE_IN_IMAGES = 315532801  # 1980-01-01T00:00:01Z
# Loads a function as its framework does; prints which of its sources were compiled, how
# many were loaded, and in how many milliseconds.
PROGRAM = """
import json, os, sys, time
compiled, root = [], os.getcwd()
def hook(event, arguments):
    if event == "compile" and str(arguments[1]).startswith(root):
        compiled.append(os.path.relpath(arguments[1], root))
import functions_framework, flask, sqlalchemy, pg8000, msgspec
sys.addaudithook(hook)
start = time.perf_counter()
import main
took = (time.perf_counter() - start) * 1000
files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
own = [file for file in files if file.startswith(root)]
print(json.dumps([sorted(compiled), len(own), took]))
"""
ENVIRON = {
    "PATH": os.environ.get("PATH", os.defpath),
    "DATABASE_URL": "postgresql://orders:secret@127.0.0.1:1/orders",
    "EVENT_BUS": "rabbitmq",
    "RABBITMQ_URL": "amqp://orders:secret@127.0.0.1:1",
    "PRODUCT_SERVICE": "http://127.0.0.1:1",
    "PYTHONDONTWRITEBYTECODE": "1",  # each instance starts from the image
}


def environment_of_build() -> dict[str, str]:
    """Return the variables that a function's build gets."""
    return dict(re.findall(r"--env=(\w+)=(\S+)", BUILD.read_text()))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    package.build(folder, ["orders_crud"])
    return folder / "orders_crud.zip"


def started(archive: Path, image: Path, build: dict[str, str]) -> tuple[list[str], int]:
    """Return what a start of a package's image compiles, and how many it loads."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(image)
    compile_all = [sys.executable, "-m", "compileall", "-f", "-q", "."]
    environ = {"PATH": ENVIRON["PATH"], **build}
    subprocess.run(compile_all, cwd=image, env=environ, check=True)
    for path in image.rglob("*"):
        os.utime(path, (DATE_IN_IMAGES, DATE_IN_IMAGES))
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=image,
        env=ENVIRON | {"PYTHONPATH": str(image)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    compiled, loaded, milliseconds = json.loads(said)
    log.info("%d of %d compiled, %.0f ms", len(compiled), loaded, milliseconds)
    return compiled, loaded


def test_a_cold_start_finds_all_of_its_bytecode_valid(
    archive: Path, tmp_path: Path
) -> None:
    compiled, loaded = started(archive, tmp_path, environment_of_build())
    assert loaded > 30
    assert compiled == []


def test_bytecode_that_goes_by_dates_would_be_stale(
    archive: Path, tmp_path: Path
) -> None:
    build = environment_of_build()
    del build["SOURCE_DATE_EPOCH"]
    compiled, loaded = started(archive, tmp_path, build)
    assert len(compiled) == loaded
