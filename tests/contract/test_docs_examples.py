"""Pages of examples: each block is run, and prints what the page says it prints."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import reset
from infra.local.system import running_system
from tests.support.examples import Shells, check, examples, matches
from tests.support.pages import ROOT

DOCS = ROOT / "docs"
PAGE_URL = "http://127.0.0.1:8080"
BIN = str(Path(sys.executable).parent) + "/"
# What root is told about where its data is, which nobody else sees.
OF_ROOT = re.compile(r"^PostgreSQL runs as another user.*\n", re.MULTILINE)
QUIET = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
ELSEWHERE = re.compile(r"DATABASE_URL|POSTGRES_|RABBITMQ_|EVENT_BUS|_SERVICE$")


pytestmark = pytest.mark.timeout(60)


def of_this_machine() -> dict[str, str]:
    """Return the environment without what would replace embedded parts."""
    kept = {k: v for k, v in os.environ.items() if not ELSEWHERE.search(k)}
    return kept | QUIET


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Start what `make run` starts, and answer what it prints until it is ready.

    The test's folder is the checkout, in that it has the data.
    """
    folder = str(tmp_path / ".local")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(
        r"^run: .*\n\t@\S*python -m infra\.local\.run ", makefile, re.MULTILINE
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local.run", "--folder", folder, "--port", "0"],
        cwd=ROOT,
        env=of_this_machine(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def printed() -> str:
        assert process.stdout
        lines = ""
        for line in process.stdout:
            lines += line
            if "Ctrl-C" in line:
                return OF_ROOT.sub("", lines)
        raise AssertionError(lines)

    yield printed
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert reset.main(["--folder", folder]) == 0


def test_the_quickstart_goes_from_nothing_to_an_approved_order(
    start: Callable[[], str], tmp_path: Path
) -> None:
    page = DOCS / "quickstart.md"
    (_, command, kind, shown), *others = examples(page)
    printed = start()
    found = re.search(r"http://127\.0\.0\.1:\d+", printed)
    assert found
    assert command == "make run\n"
    here = printed.replace(found[0], PAGE_URL)
    assert matches(kind, shown, here), here
    # The first block has been run; the others go on from there.
    rest = tmp_path / "rest.md"
    rest.write_text(page.read_text().partition("## 2.")[2])
    words = {
        PAGE_URL: found[0],
        ".venv/bin/": BIN,
    }
    with Shells(words, of_this_machine()) as shells:
        shells.run("sh", f"cd {tmp_path}")
        assert check(rest, shells) == len(others)


@pytest.mark.parametrize("name", ["api.md", "api-reading.md"])
def test_every_example_of_the_api_guide_answers_what_it_shows(
    name: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in QUIET.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("DATABASE_URL", database_url)
    page = DOCS / name
    start = re.search(r"^make run(?: (\w+)=(\w+))?$", page.read_text(), re.MULTILINE)
    assert start
    if start[1]:
        monkeypatch.setenv(start[1], start[2])
    with (
        running_system(0, tmp_path, lambda _: None) as url,
        Shells({PAGE_URL: url, start[0]: ": it runs"}, os.environ) as shells,
    ):
        assert check(page, shells) == len(list(examples(page)))
