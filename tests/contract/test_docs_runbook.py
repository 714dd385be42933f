"""The runbook: every alert is in it as it is called, and what it names is there.

Commands are held by `test_operations_page.py`, which reads this page as well.
"""

import re

import pytest

from common import errors
from common.audit_checks import DIFFERENCES
from tests.support import pages
from tests.support.pages import ROOT

PAGE = ROOT / "docs" / "runbook.md"
TERRAFORM = ROOT / "infra" / "terraform"
INCIDENTS = (
    "The broker is away",
    "The database is away",
    "A sibling is slow, or away",
    "A poison message",
    "An event is held",
    "Is there a double order?",
    "Is an event lost?",
    "The disk is full",
    "Going back",
)


def sections() -> dict[str, str]:
    """Answer the page's sections by their headings, in order."""
    parts = re.split(r"^##+ (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def alerts() -> list[str]:
    text = (TERRAFORM / "alerts.tf").read_text()
    return re.findall(r'^      title +=\s"(.*)"$', text, re.MULTILINE)


def in_backticks() -> set[str]:
    return set(re.findall(r"`([^`]+)`", pages.prose(PAGE)))


def test_every_alert_has_a_section_of_its_name_and_no_section_is_of_none() -> None:
    assert len(alerts()) > 5
    assert [each for each in sections() if each.startswith("Orders: ")] == alerts()


@pytest.mark.parametrize("title", alerts())
def test_an_alert_s_section_says_what_it_means_where_to_look_and_what_to_do(
    title: str,
) -> None:
    section = sections()[title]
    words = ["**It means:**", "**Look:**", "```sh", "**Do:**"]
    places = [section.find(word) for word in words]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("title", "setting", "words"),
    [
        ("Orders: events are not sent", "oldest_event_seconds = 300", "five minutes"),
        ("Orders: events are not sent", "duration = 600", "ten"),
        ("Orders: requests fail", "error_ratio = 0.01", "one in a hundred"),
        ("Orders: requests are slow", "p95_milliseconds = 1500", "one and a half"),
        ("Orders: approvals are late", "approval_seconds = 300", "five minutes"),
        ("Orders: the database is at its limits", "threshold = 0.85", "85 %"),
        ("Orders: the database is at its limits", "duration = 900", "quarter of an"),
    ],
)
def test_the_thresholds_it_tells_are_terraform_s(
    title: str, setting: str, words: str
) -> None:
    files = sorted(TERRAFORM.glob("*.tf"))
    text = " ".join("\n".join(path.read_text() for path in files).split())
    said = re.sub(r"(\w+) = optional\(number, ([\d.]+)\)", r"\1 = \2", text)
    assert setting in said
    assert words in sections()[title].partition("**Look:**")[0]


def test_every_incident_that_somebody_may_look_for_is_there() -> None:
    headings = list(sections())
    first, last = headings.index("Incidents"), headings.index("When it is over")
    assert headings[first + 1 : last] == list(INCIDENTS)


def test_what_answers_and_the_audit_call_things_is_what_they_are_called() -> None:
    slugs = {each.slug for each in vars(errors).values() if hasattr(each, "slug")}
    known = slugs | set(DIFFERENCES)
    named = {each for each in in_backticks() if re.fullmatch(r"[a-z]+(-[a-z]+)+", each)}
    services = {"outbox-relay"}
    assert named - services <= known
    assert {"event-lost", "untold", "cart-record-doubled"} <= in_backticks()
    assert {"untold", "event-doubled", "told-needlessly"} <= set(DIFFERENCES)


def test_the_log_lines_that_it_quotes_are_logged() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "common").glob("*.py"))
    quoted = {each for each in in_backticks() if each.startswith(("an event", "a m"))}
    assert len(quoted) == 2
    assert all(f'"{each}"' in code for each in quoted)
