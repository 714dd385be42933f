"""The page about the configuration names all that can be set."""

import re
from pathlib import Path

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"


def test_every_variable_is_in_the_table_and_none_besides() -> None:
    sources = [path.read_text(encoding="utf-8") for path in TERRAFORM.glob("*.tf")]
    declared = re.findall(r'^variable "(\w+)"', "\n".join(sources), re.MULTILINE)
    page = (TERRAFORM / "README.md").read_text(encoding="utf-8")
    table = page.partition("## Variables")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`\w+` )+)\|", table, re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(named) == sorted(declared)
