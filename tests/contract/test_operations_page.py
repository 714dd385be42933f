"""Pages of commands: what they tell people to run is there, and spelled so."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra import deploy, orderctl
from infra.package import NEEDS
from tests.support import pages
from tests.support.pages import ROOT

TERRAFORM = ROOT / "infra" / "terraform"
PAGES = [
    ROOT / "docs" / "operations.md",
    ROOT / "docs" / "day-by-day.md",
    ROOT / "docs" / "incidents.md",
    ROOT / "docs" / "rabbitmq.md",
    ROOT / "docs" / "rollout.md",
    ROOT / "docs" / "gateway.md",
    ROOT / "docs" / "runbook.md",
    ROOT / "docs" / "own-machines.md",
    TERRAFORM / "README.md",
]
# Variables that nothing here uses, and `cd` that may fail: both are before the reader.
UNCHECKED = "SC2034,SC2164"

every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


def configuration() -> str:
    return "\n".join(path.read_text() for path in sorted(TERRAFORM.glob("*.tf")))


def declared(kind: str) -> set[str]:
    """Return the names of all variables, or of all outputs."""
    return set(re.findall(rf'^{kind} "(\w+)"', configuration(), re.MULTILINE))


def calls(page: Path, *program: str) -> list[list[str]]:
    """Return what follows these words in each command that begins with them."""
    length = len(program)
    found = [words for words in pages.commands(page) if words[:length] == [*program]]
    return [words[length:] for words in found]


def value(words: list[str], option: str) -> str | None:
    """Return an option's value, None where it is not given."""
    for index, word in enumerate(words):
        if word == option:
            return words[index + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


@every_page
def test_the_blocks_of_a_page_are_one_script_in_which_shellcheck_finds_nothing(
    page: Path,
) -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    checks = [[shellcheck, "--exclude", UNCHECKED, "-"]] if shellcheck else []
    found = pages.shell_blocks(page)
    assert found
    for command in [["bash", "-n"], *checks]:
        script = "#!/bin/bash\n" + "\n".join(found)
        done = subprocess.run(
            command, input=script, text=True, check=False, capture_output=True
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@every_page
def test_what_a_block_uses_was_set_before(page: Path) -> None:
    assert pages.used_before_set(page) == []


@every_page
def test_what_asks_is_the_last_of_its_block(page: Path) -> None:
    """A block is pasted whole, and what asks reads the next line as its answer."""
    assert not pages.asking_too_early(page)


@every_page
def test_every_target_of_make_is_there(page: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    mentioned = re.findall(r"`make ([a-z-]+)", pages.prose(page))
    for words in calls(page, "make"):
        mentioned += [each for each in words if "=" not in each]
    assert set(mentioned) <= set(phony[1].split())


@every_page
def test_every_deployment_is_one_that_make_deploy_understands(page: Path) -> None:
    for words in calls(page, "make", "deploy"):
        given = dict(each.split("=", 1) for each in words)
        assert given.keys() <= {"ENV", "FUNCTION", "ARGS"}
        assert given.get("ENV") == "$ENV", "as it was said once"
        arguments = [*given.get("FUNCTION", "").split(), *given.get("ARGS", "").split()]
        deploy._arguments(["--environment", "staging", "--dry-run", *arguments])


@every_page
def test_every_command_of_orderctl_is_one_that_it_understands(page: Path) -> None:
    parser = orderctl._parser()
    found = calls(page, ".venv/bin/orderctl")
    for job, *words in calls(page, "gcloud", "run", "jobs", "execute"):
        arguments = value(words, "--args")
        if job == "orderctl":
            assert arguments, "the job is told what to do"
            found.append(arguments.split(","))
    for words in found:
        parser.parse_args(words)


@every_page
def test_services_and_jobs_and_secrets_are_those_that_terraform_makes(
    page: Path,
) -> None:
    text = configuration()
    services = {name.replace("_", "-") for name in NEEDS} | {"$service"}
    for listed in re.findall(r"for service in ([^;]*);", page.read_text()):
        assert set(listed.split()) <= services
    for verb in ("describe", "update", "update-traffic", "add-iam-policy-binding"):
        for service, *_ in calls(page, "gcloud", "run", "services", verb):
            assert service in services
    for job, *_ in calls(page, "gcloud", "run", "jobs", "execute"):
        assert re.search(rf'\bname += "{job}"', text), job
    for job, *_ in calls(page, "gcloud", "scheduler", "jobs", "run"):
        assert re.search(rf'\bname += "{job}"', text), job
    for verb in ("add", "list"):
        for secret, *_ in calls(page, "gcloud", "secrets", "versions", verb):
            is_made_here = f"gcloud secrets create {secret}" in page.read_text()
            assert is_made_here or f'"{secret}"' in text, secret
    for account in re.findall(r"(order-\w+)@\$PROJECT\.iam", page.read_text()):
        if f"gcloud iam service-accounts create {account}" in page.read_text():
            continue
        assert re.search(rf'account_id += "{account}"', text), account


@every_page
def test_outputs_and_variables_and_addresses_are_terraform_s(page: Path) -> None:
    outputs = declared("output")
    written = [
        ["terraform", *w] for w in re.findall(r"`terraform ([^`]*)`", pages.prose(page))
    ]
    said = [" ".join(words).split() for words in [*pages.commands(page), *written]]
    for words in said:
        if words[0] != "terraform":
            continue
        if "output" in words:
            after = " ".join(words[words.index("output") + 1 :]).partition(">")[0]
            names = [each for each in after.split() if each[0] != "-"]
            assert set(names) <= outputs, words
        for word in words:
            if target := re.match(r"-target=(\w+)\.(\w+)", word):
                assert f'resource "{target[1]}" "{target[2]}"' in configuration(), word
            if address := re.match(r"(google_\w+)\.(\w+)", word):
                assert f'resource "{address[1]}" "{address[2]}"' in configuration()
            if folder := re.match(r"-chdir=(.*)", word):
                assert (ROOT / folder[1]).is_dir()
    variables = declared("variable")
    for block in pages.blocks(page, "hcl"):
        assert set(re.findall(r"^(\w+) +=", block, re.MULTILINE)) <= variables
    for name in re.findall(r"`(\w+) = ", pages.prose(page)):
        assert name in variables | {"percent"}, name


@every_page
def test_every_link_and_every_file_of_the_checkout_that_is_named_exists(
    page: Path,
) -> None:
    assert not [each for each in pages.links(page) if not each.exists()]
    text = page.read_text()
    folders = r"(?<![\w./-])(?:infra|functions|common|docs|tests)"
    for name in re.findall(rf"{folders}/[\w./-]+\.\w+", text):
        assert (ROOT / name).exists(), name


def test_every_alert_has_a_section_of_its_name_and_no_section_is_of_none() -> None:
    alerts = re.findall(
        r'^      title +=\s"(.*)"$', (TERRAFORM / "alerts.tf").read_text(), re.MULTILINE
    )
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert len(alerts) > 5
    assert re.findall(r"^##+ (Orders: .*)$", runbook, re.MULTILINE) == alerts
