"""Find the lines of a lock that some packages need, with their dependencies.

A dependency counts whatever its marker says; the lock's own line has the marker that
matters.
"""

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class LockError(Exception):
    """The lock or the environment lacks something that is needed."""


def pins(lock: Path) -> dict[str, str]:
    """Return each pinned package's lines, by its normalised name, in order."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("#"):
            continue
        if start := re.match(r"([A-Za-z0-9._-]+)==", line):
            name = canonicalize_name(start[1])
            found[name] = ""
        found[name] += line
    return found


def closure(lock: Path, names: Iterable[str]) -> list[str]:
    """Return the lines of `names` and of all that they depend on, in the lock's order.

    Dependencies are read from the packages installed here; raise LockError if one is
    not installed. A dependency missing from the lock is needed on none of its Pythons.
    """
    locked = pins(lock)
    needed: set[str] = set()
    seen: set[tuple[str, str]] = set()  # a package with one of its extras, or with ""
    pending = [(str(canonicalize_name(name)), "") for name in names]
    while pending:
        name, extra = pending.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name not in locked:
            raise LockError(f"{lock.name} does not pin {name}: make lock")
        needed.add(name)
        pending += [each for each in _requires(name, extra) if each[0] in locked]
    return [lines for name, lines in locked.items() if name in needed]


def _requires(name: str, extra: str) -> list[tuple[str, str]]:
    """Return a package's requirements, its own or those of one of its extras."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError as error:
        raise LockError(f"{name} is not installed: make venv") from error
    found = []
    for text in requirements:
        requirement = Requirement(text)
        marker = str(requirement.marker or "")
        of_extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", marker)
        if (of_extra[1] if of_extra else "") == extra:
            extras = ["", *requirement.extras]
            found += [(str(canonicalize_name(requirement.name)), e) for e in extras]
    return found
