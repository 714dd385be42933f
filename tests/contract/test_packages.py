"""The zips of `make package`: whole, compiled, and with the lock's own pins."""

import zipfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from infra import package
from infra.imports import reach
from infra.locks import LockError, closure

ROOT = Path(__file__).parents[2]
FUNCTIONS = sorted(each.parent.name for each in ROOT.glob("functions/*/main.py"))
UNCHECKED_HASH = 1  # in a .pyc's flags: the source is never looked at


def test_every_function_has_a_package() -> None:
    assert sorted(package.NEEDS) == FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_starts_without_compiling_or_comparing_anything(
    zips: Path, function: str
) -> None:
    with zipfile.ZipFile(zips / f"{function}.zip") as archive:
        names = archive.namelist()
        compiled = {
            name.replace("__pycache__/", "").partition(".")[0]: archive.read(name)
            for name in names
            if name.endswith(".pyc")
        }
    sources = {name.removesuffix(".py") for name in names if name.endswith(".py")}
    assert {"main", "common/__init__"} <= sources == compiled.keys()
    assert {each[:8] for each in compiled.values()} == {
        MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little")
    }


def test_requirements_are_the_lock_s_own_lines(zips: Path) -> None:
    lock = (ROOT / "requirements" / "runtime.txt").read_text().splitlines()
    for function, needed, unneeded in (
        # Asked for by functions-framework, by flask, by an extra of google-api-core.
        ("orders_crud", {"gunicorn", "werkzeug", "grpcio-status"}, {"alembic", "mako"}),
        ("api_docs", {"offapi"}, {"pg8000", "pika"}),
    ):
        with zipfile.ZipFile(zips / f"{function}.zip") as archive:
            lines = archive.read("requirements.txt").decode().splitlines()[1:]
        assert set(lines) <= set(lock)
        pinned = {line.partition("==")[0] for line in lines if "==" in line}
        assert needed <= pinned
        assert not unneeded & pinned
        assert sum("--hash=" in line for line in lines) >= len(pinned)


def test_what_is_declared_must_be_what_is_imported(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    declared = package.NEEDS["api_docs"] - {"msgspec"} | {"pika"}
    monkeypatch.setitem(package.NEEDS, "api_docs", declared)
    assert package.main(["api_docs", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "api_docs needs msgspec and does not need pika; see NEEDS" in said
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
    sources = {
        "common/__init__.py": "",
        "common/a.py": "def later():\n    import jwt\n    from common import b",
        "common/b.py": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pika\n"
        "from importlib.util import find_spec\nfind_spec('rich')\n",
        "common/unused.py": "import requests",
        "main.py": "import os, yaml\nfrom common.a import later\n"
        "from google.cloud import storage\n",
    }
    (tmp_path / "common").mkdir()
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    reached = reach(tmp_path, [tmp_path / "main.py"], set())
    assert [path.name for path in reached.modules] == ["__init__.py", "a.py", "b.py"]
    assert reached.packages == {"pyjwt", "rich", "pyyaml", "google-cloud-storage"}
