"""The zips of `make package`: the same bytes each time, whole, and never compiled."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import package
from infra.imports import reach
from infra.locks import LockError, closure

ROOT = Path(__file__).parents[2]
FUNCTIONS = sorted(each.parent.name for each in ROOT.glob("functions/*/main.py"))
PATIENCE_SECONDS = 60
ENVIRON = {
    "PATH": os.environ.get("PATH", os.defpath),
    # Without `site` there is no editable install, through which this checkout would
    # stand in for what a zip lacks.
    "PYTHONPATH": sysconfig.get_paths()["purelib"],
    "PYTHONDONTWRITEBYTECODE": "1",
    "DATABASE_URL": "postgresql://orders:secret@127.0.0.1:1/orders",
    "EVENT_BUS": "http",
    "EVENT_SINK_URL": "http://127.0.0.1:1/",
    "SHOPCART_SERVICE": "http://127.0.0.1:1",
    "PRODUCT_SERVICE": "http://127.0.0.1:1",
}
# Looked for where nothing else is: the zip's own folder.
IMPORT_ALL = """
import importlib, pathlib, sys
here = pathlib.Path()
for path in sorted(here.glob("common/**/*.py")):
    parts = path.with_suffix("").parts
    name = ".".join(parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__).resolve() == path.resolve(), module.__file__
    print(name)
"""


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zips")
    package.build(folder, FUNCTIONS)
    return folder


@pytest.fixture
def unpacked(zips: Path, tmp_path: Path, function: str) -> Path:
    with zipfile.ZipFile(zips / f"{function}.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


@contextlib.contextmanager
def running(folder: Path, function: str) -> Iterator[http.client.HTTPConnection]:
    """Serve what was unpacked, with nothing of this checkout within reach."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-S", "-m", "functions_framework"]
    command += ["--source", "main.py", "--target", function]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env=ENVIRON)
    connection = http.client.HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline, "nobody listens"
            with contextlib.suppress(ConnectionRefusedError):
                connection.connect()
                break
            time.sleep(0.02)
        yield connection
    finally:
        connection.close()
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def answer(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def test_every_function_has_a_package() -> None:
    assert sorted(package.NEEDS) == FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_unpacked_function_starts_without_compiling_anything(
    function: str, unpacked: Path
) -> None:
    for source in unpacked.rglob("*.py"):
        source.write_text("raise SystemExit('a source was compiled')")
    with running(unpacked, function) as connection:
        assert answer(connection, "/health/live")[0] == 200


# Of what the others leave out, something is named by what they never call.
@pytest.mark.parametrize("function", sorted({*FUNCTIONS} - package.LEFT_OUT.keys()))
def test_a_package_holds_all_that_its_modules_import(
    function: str, unpacked: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT_ALL],
        cwd=unpacked,
        env=ENVIRON,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "common.publishing.rabbitmq" in done.stdout.splitlines(), function


@pytest.mark.parametrize("function", ["api_docs"])
def test_what_is_left_out_is_not_missed(function: str, unpacked: Path) -> None:
    assert package.LEFT_OUT.keys() == {function}
    assert not (unpacked / "common" / "db.py").exists()
    with running(unpacked, function) as connection:
        for path in (
            "/openapi.json",
            "/api/schema/",
            "/api/schema/events/",
            "/api/schema/events/?format=yaml",
            "/api/schema/events/?format=html",
            "/api/schema/redoc/",
            "/health/ready",
        ):
            assert answer(connection, path)[0] == 200, path
        status, page = answer(connection, "/api/schema/swagger-ui/")
        assert status == 200
        assert b"swagger_bundle.js" in page
        assert answer(connection, "/nowhere")[0] == 404


def test_requirements_are_the_lock_s_own_lines(zips: Path) -> None:
    with zipfile.ZipFile(zips / "orders_crud.zip") as archive:
        lines = archive.read("requirements.txt").decode().splitlines()[1:]
    lock = (ROOT / "requirements" / "runtime.txt").read_text().splitlines()
    assert set(lines) <= set(lock)
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    # Asked for by functions-framework, by flask, by an extra of google-api-core.
    assert {"gunicorn", "werkzeug", "grpcio-status"} <= pinned
    assert not {"alembic", "mako", "offapi"} & pinned
    assert sum("--hash=" in line for line in lines) >= len(pinned)


def test_documentation_needs_neither_driver_nor_broker(zips: Path) -> None:
    with zipfile.ZipFile(zips / "api_docs.zip") as archive:
        text = archive.read("requirements.txt").decode()
    assert "offapi==" in text
    assert not any(f"{name}==" in text for name in ("pg8000", "pika"))


def test_what_is_declared_must_be_what_is_imported(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    declared = package.NEEDS["api_docs"] - {"msgspec"} | {"pika"}
    monkeypatch.setitem(package.NEEDS, "api_docs", declared)
    assert package.main(["api_docs", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "api_docs needs msgspec and does not need pika" in said
    assert not list(tmp_path.iterdir())


def test_a_lock_that_does_not_pin_what_is_needed_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "some.txt"
    lock.write_text("# made up\nno-such-thing==1 \\\n    --hash=sha256:00\n")
    with pytest.raises(LockError, match=r"some.txt does not pin flask: make lock"):
        closure(lock, ["Flask"])
    with pytest.raises(LockError, match="no-such-thing is not installed: make venv"):
        closure(lock, ["no_such_thing"])


def test_imports_within_functions_count_and_those_for_types_do_not(
    tmp_path: Path,
) -> None:
    common = tmp_path / "common"
    common.mkdir()
    (common / "__init__.py").touch()
    (common / "a.py").write_text(
        "def later():\n    import jwt\n    from common import b"
    )
    (common / "b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pika\n"
    )
    (common / "unused.py").write_text("import requests")
    main = tmp_path / "main.py"
    main.write_text("import os\nfrom common.a import later\n")
    reached = reach(tmp_path, [main], set())
    assert [path.name for path in reached.modules] == ["__init__.py", "a.py", "b.py"]
    assert reached.packages == {"pyjwt"}
