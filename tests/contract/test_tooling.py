"""What the project promises of itself: locks, layout, lengths, the commands."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
# Generated, documents that are read in one piece, or logs that only grow.
EXEMPT = {
    ROOT / "CHANGELOG.md",
    ROOT / "DECISIONS.md",
    ROOT / "common" / "api_docs" / "asyncapi.yaml",
    ROOT / "common" / "api_docs" / "openapi.yaml",
    ROOT / "tests" / "clients" / "typescript" / "package-lock.json",
    ROOT / "tests" / "support" / "terraform" / "google_schema.json",
}
LONGEST_FILE = 350
SOURCES = ("common", "functions", "infra", "tests", "benchmarks")


def files() -> list[Path]:
    """Every file of the project; where there is git, those it does not ignore."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") and (ROOT / ".git").exists():
        done = subprocess.run(
            listing, cwd=ROOT, check=False, capture_output=True, text=True
        )
        found = [ROOT / line for line in done.stdout.splitlines()]
        if found:
            return [path for path in found if path.is_file()]
    return [
        path
        for source in SOURCES
        for path in (ROOT / source).rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def requirements(lock: Path) -> dict[str, str]:
    """Return what a lock holds: name to version and hashes."""
    text = re.sub(r"#.*", "", lock.read_text()).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return dict(re.split("==", line, maxsplit=1) for line in lines)


def normalised(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_with_hashes_and_names_no_index_and_no_path(lock: Path) -> None:
    found = requirements(lock)
    assert found
    for name, pin in found.items():
        assert re.match(r"\d[\w.]*\s", pin), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}(\s|$)", pin), name

    # Neither character occurs in names, versions, markers or hashes.
    assert not re.search(r"[/@]|-index|find-links", lock.read_text())


def test_the_locks_hold_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = requirements(ROOT / "requirements" / "runtime.txt")
    everything = requirements(ROOT / "requirements" / "dev.txt")
    asked = {normalised(each) for each in project["dependencies"]}
    extras = project["optional-dependencies"].values()
    optional = {normalised(each) for extra in extras for each in extra}
    assert asked <= runtime.keys()
    assert asked | optional <= everything.keys()
    versions = {name: pin.split()[0] for name, pin in everything.items()}
    workers = requirements(ROOT / "requirements" / "workers.txt")
    otel = project["optional-dependencies"]["otel"]
    assert runtime.keys() | {normalised(each) for each in otel} <= workers.keys()
    for name, pin in (runtime | workers).items():
        assert versions[name] == pin.split()[0]


def test_no_file_is_longer_than_can_be_read_in_one_go() -> None:
    long = {}
    for path in files():
        if path in LOCKS or path in EXEMPT:
            continue
        try:
            lines = len(path.read_text(encoding="utf-8").splitlines())
        except UnicodeDecodeError:
            continue
        if lines > LONGEST_FILE:
            long[str(path.relative_to(ROOT))] = lines
    assert not long


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    # Joined here, so that this file does not name them either.
    private = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "opt/pypi"]))
    named = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if private.search(text):
            named.append(str(path.relative_to(ROOT)))
    assert not named


def test_docstrings_say_what_a_function_does_in_plain_words() -> None:
    """`Return …` and `Raise …`, not a dialect of the project's own."""
    dialect = re.compile('"""' + r"(Answer|Tell|Say)\b|Surprise" + ":")
    folders = ("common", "functions", "infra", "tests", "benchmarks")
    files = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 100
    assert [str(p) for p in files if dialect.search(p.read_text())] == []


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    done = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    listed = set(re.findall(r"^  make ([\w-]+) +\w", done.stdout, re.MULTILINE))
    assert listed == set(phony[1].split()) - {"broken"}
    wanted = {"run", "demo", "test", "check", "format", "lock", "clean", "migrate"}
    assert wanted <= listed
