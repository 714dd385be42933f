"""`infra/Dockerfile`: linted, and replayed without an engine as far as that goes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import image
from tests.support.image import DOCKERFILE, ROOT, Image, instructions, is_sent

FUNCTIONS = sorted(each.parent.name for each in ROOT.glob("functions/*/main.py"))
WORKERS = sorted(
    str(each.relative_to(ROOT)) for each in ROOT.glob("functions/*/worker.py")
)
SCRIPTS = sorted(
    each
    for each in [ROOT / ".ci" / "run", *ROOT.glob("infra/**/*.sh")]
    if each.is_file()
)


def tool(name: str) -> str:
    """Return where a linter is that has no wheel for every machine; skip without."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"no {name}: it is on no package index for this kind of machine")
    return found


def linted(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return image.build(tmp_path_factory.mktemp("image"))


def of(name: str) -> list[image.Instruction]:
    return [each for each in instructions() if each.name == name]


def test_hadolint_finds_nothing() -> None:
    assert not linted([tool("hadolint"), str(DOCKERFILE)])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert not linted([tool("shellcheck"), str(script)])


def test_both_stages_are_of_one_pinned_base_and_the_last_is_not_root_s() -> None:
    [base] = {each.rest.split()[0] for each in of("FROM")}
    assert len(of("FROM")) == 2
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base)
    *_, last = of("USER")
    assert last.stage == 1
    assert all(int(each) >= 1000 for each in last.rest.split(":"))


def test_packages_come_from_the_lock_by_hash_and_as_wheels() -> None:
    [install] = [
        each for each in of("RUN") if re.search(r"pip .*\binstall ", each.rest)
    ]
    assert install.stage == 0
    for option in ("--require-hashes", "--no-deps", "--only-binary :all:"):
        assert option in install.rest
    assert ("requirements/workers.txt", "/tmp/workers.txt") in image.copies()


def test_the_last_stage_has_no_installer_and_no_compiler() -> None:
    said = " ".join(each.rest for each in of("RUN") if each.stage == 1)
    assert "pip uninstall" in said
    assert not re.search(r"apt-get|\binstall\b", said)
    assert "--without-pip" in " ".join(each.rest for each in of("RUN"))


def test_nothing_is_set_that_is_a_secret_or_belongs_to_a_deployment() -> None:
    assert set(image.environ()) == {
        "PATH",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
    }
    assert not of("ARG")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        *((source, True) for source, _ in image.copies()),
        ("common/web/app.py", True),
        ("common/database/migrations/versions/0001_orders_items_outbox.py", True),
        ("functions/api_docs/pages/redoc.html", True),
        ("infra/orderctl/__main__.py", True),
        ("requirements/dev.txt", False),
        ("infra/terraform/terraform.tfstate", False),
        ("infra/.terraform/x", False),
        ("common/__pycache__/http.cpython-313.pyc", False),
        ("functions/item_status/.env", False),
        (".git/config", False),
        (".venv/bin/python", False),
        (".local/postgres/data", False),
        ("tests/conftest.py", False),
    ],
)
def test_the_context_holds_what_is_copied_and_nothing_else(
    path: str,
    answer: bool,  # noqa: FBT001 a case of the table above
) -> None:
    assert is_sent(path) is answer


@pytest.mark.parametrize(
    "command",
    [
        ["orderctl", "--help"],
        *[["python", worker, "--help"] for worker in WORKERS],
        ["python", "-m", "infra.local.serve", "--help"],
        ["functions-framework", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_starts_in_it(built: Image, command: list[str]) -> None:
    process = built.run(command)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "usage" in said.lower()


def test_every_module_of_ours_is_compiled_and_comes_from_the_image(
    built: Image,
) -> None:
    code = "import common as c, infra.orderctl as i; print(c.__file__, i.__file__)"
    process = built.run(["python", "-c", code])
    said, _ = process.communicate(timeout=60)
    assert [str(built.folder) in each for each in said.split()] == [True, True], said
    sources = list(built.path("/srv").rglob("*.py"))
    assert len(sources) > 50
    compiled = list(built.path("/srv").rglob("__pycache__/*.pyc"))
    assert len(compiled) == len(sources)
    assert (
        sorted(each.name for each in built.path("/srv/functions").iterdir())
        == FUNCTIONS
    )
