"""Dependencies are used by their public names only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("common", "functions", "infra")
# Private by spelling, public by Python's or SQLAlchemy's own reference. `_typeshed`
# is where type checkers find WSGI's types.
DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_mapping", "_replace"} | {
    "_typeshed",
    "__future__",
}
_LOOK_UP = {"getattr", "setattr", "hasattr", "delattr"}


def is_private(name: str) -> bool:
    is_dunder = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and name.strip("_") != "" and not is_dunder


def own_names(tree: ast.Module) -> set[str]:
    """Return what the file itself defines: functions, classes, fields, attributes."""
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        ):
            own.add(node.attr)
    return own


def private_uses(source: str) -> Iterator[str]:
    """Yield each use of a private name that the file does not define itself."""
    tree = ast.parse(source)
    own = own_names(tree) | DOCUMENTED
    for node in ast.walk(tree):
        used: list[str] = []
        if isinstance(node, ast.Attribute):
            used = [node.attr]
        elif isinstance(node, ast.Import):
            used = [part for a in node.names for part in a.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            used = [*(node.module or "").split("."), *(a.name for a in node.names)]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in _LOOK_UP
            and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant)
        ):
            used = [str(node.args[1].value)]
        for name in used:
            if is_private(name) and name not in own:
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_no_private_name_of_a_dependency_is_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{use}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for use in private_uses(path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("connection._sock.close()", 1),
        ("class C(Connector):\n    def ask(self):\n        return self._loop", 1),
        ("from pip_audit._service import PyPI", 1),
        ("import pip_audit._service", 1),
        ("getattr(transport, '_state')", 1),
        ("class C:\n    def a(self):\n        self._b = 1\n        return self._b", 0),
        ("from __future__ import annotations\nx.__class__\nrow._mapping", 0),
    ],
)
def test_a_private_name_is_found_and_the_file_s_own_are_not(
    source: str, found: int
) -> None:
    assert len(list(private_uses(source))) == found
