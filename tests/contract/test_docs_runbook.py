"""The runbook: every alert has a section under its own name.

Commands are held by `test_operations_page.py`, which reads this page as well.
"""

import re

from tests.support.pages import ROOT

PAGE = ROOT / "docs" / "runbook.md"
TERRAFORM = ROOT / "infra" / "terraform"


def sections() -> dict[str, str]:
    """Answer the page's sections by their headings, in order."""
    parts = re.split(r"^##+ (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def alerts() -> list[str]:
    text = (TERRAFORM / "alerts.tf").read_text()
    return re.findall(r'^      title +=\s"(.*)"$', text, re.MULTILINE)


def test_every_alert_has_a_section_of_its_name_and_no_section_is_of_none() -> None:
    assert len(alerts()) > 5
    assert [each for each in sections() if each.startswith("Orders: ")] == alerts()
