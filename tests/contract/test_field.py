"""Every test that `docs/field.md` names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(
    r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/field.md").read_text()
)
ROWS = [
    line
    for line in (ROOT / "docs" / "field.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| Kind ")
]


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_every_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in tests if name else any(test.startswith("test_") for test in tests)


@pytest.mark.parametrize("row", ROWS)
def test_every_kind_names_a_test(row: str) -> None:
    assert "`tests/" in row.split("|")[3]
