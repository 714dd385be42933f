"""The page on settings has every variable that the code reads, and no other."""

import inspect
import re

from common import config, console_settings, endpoints, environment
from tests.support.pages import ROOT

PAGE = ROOT / "docs" / "configuration.md"
# What `config.load` is asked for, besides variables by their names.
NEEDS = {"DATABASE", "IDENTITY", "RABBITMQ"}


def read_by_the_code() -> set[str]:
    source = "".join(
        inspect.getsource(module)
        for module in (config, console_settings, endpoints, environment)
    )
    return set(re.findall(r'"([A-Z][A-Z0-9_]{3,})"', source)) - NEEDS


def on_the_page() -> set[str]:
    """Return the names in the first column of the page's tables."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    firsts = [row.split("|")[1] for row in rows]
    return {name for each in firsts for name in re.findall(r"`([A-Z][A-Z0-9_]+)", each)}


def test_every_setting_has_its_row_and_no_row_is_of_none() -> None:
    values = {"INFO", "DEBUG", "WARNING", "ERROR"}
    by_the_platform = {"K_SERVICE"}
    assert read_by_the_code() - values - by_the_platform == on_the_page()
