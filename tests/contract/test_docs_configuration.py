"""The page on settings has every variable that the code reads, and no other."""

import re

from tests.support.pages import ROOT

PAGE = ROOT / "docs" / "configuration.md"
# What `settings.load` is asked for, besides variables by their names.
NEEDS = {"DATABASE", "IDENTITY", "RABBITMQ"}


def read_by_the_code() -> set[str]:
    """Return the names in every module that is handed the environment."""
    sources = [path.read_text() for path in (ROOT / "common").rglob("*.py")]
    readers = [each for each in sources if "env: Mapping[str, str]" in each]
    return set(re.findall(r'"([A-Z][A-Z0-9_]{3,})"', "".join(readers))) - NEEDS


def on_the_page() -> set[str]:
    """Return the names in the first column of the page's tables."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    firsts = [row.split("|")[1] for row in rows]
    return {name for each in firsts for name in re.findall(r"`([A-Z][A-Z0-9_]+)", each)}


def test_every_setting_has_its_row_and_no_row_is_of_none() -> None:
    values = {"INFO", "DEBUG", "WARNING", "ERROR"}
    by_the_platform = {"K_SERVICE"}
    assert read_by_the_code() - values - by_the_platform == on_the_page()
