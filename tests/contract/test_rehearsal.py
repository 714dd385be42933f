"""Operations pages, pasted block after block into a terminal, in a made-up cloud."""

import re
import shutil
from pathlib import Path

import pytest

from infra import deploy
from tests.support import pages
from tests.support.pages import ROOT
from tests.support.rehearsal import Rehearsal, build_packages

PAGE = ROOT / "docs" / "operations.md"
DAY_BY_DAY = ROOT / "docs" / "day-by-day.md"
STAGING = (deploy.ENVIRONMENTS / "staging.tfvars").read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/fd").exists(), reason="looks at a terminal's other end"
    ),
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    build_packages(folder, sorted(deploy.functions(STAGING)))
    return folder


@pytest.fixture
def rehearsal(packages: Path, tmp_path: Path) -> Rehearsal:
    found = Rehearsal(tmp_path, packages)
    found.need_secrets(["rabbitmq-password", "gateway-jwt-secret"])
    return found


def test_both_pages_can_be_pasted_from_top_to_bottom(rehearsal: Rehearsal) -> None:
    blocks = pages.shell_blocks(PAGE)
    [end] = [n for n, block in enumerate(blocks) if " destroy " in block]
    blocks[end - 1 : end - 1] = pages.shell_blocks(DAY_BY_DAY)
    shown = rehearsal.paste(blocks)
    assert rehearsal.refused == [], shown[-3000:]
    assert not re.findall(r".*(?:command not found|syntax error|Traceback).*", shown)
    assert set(rehearsal.given.values()) >= {
        "answer-to-RabbitMQ",
        "answer-to-HS256-secret",
    }
    # Every command of the page has come about, in its order.
    called = [" ".join(words) for words in rehearsal.calls]
    position = 0
    for words in [*pages.commands(PAGE), *pages.commands(DAY_BY_DAY)]:
        if words[0] not in ("gcloud", "terraform", "make"):
            continue
        start = " ".join(words[:4]).partition("$")[0].rstrip()
        found = [n for n, line in enumerate(called) if line.startswith(start)]
        assert found, start
        if words[:2] == ["make", "deploy"]:
            later = [n for n in found if n >= position]
            assert later, start
            position = later[0]


def test_what_comes_too_early_is_refused(rehearsal: Rehearsal) -> None:
    blocks = pages.shell_blocks(PAGE)
    [foundation] = [n for n, b in enumerate(blocks) if "ARGS=--foundation\n" in b]
    [everything] = [n for n, b in enumerate(blocks) if "ARGS=--dry-run\n" in b]
    del blocks[foundation + 1 : everything]  # secrets, and who may build
    rehearsal.paste(blocks[: foundation + 2])
    assert any("before it comes may build" in each for each in rehearsal.refused)


def test_a_block_that_goes_on_after_a_question_is_found_out(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.paste(["gcloud auth login\ngcloud config set project x\n"])
    assert any("was answered 'gcloud config" in each for each in rehearsal.refused)
