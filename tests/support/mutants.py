"""`make mutants`: break the project on purpose, and see its tests fail.

Each mutant of `tests/mutants.txt` is made in a copy of the checkout: its test must pass
without the change and fail with it. The broken copies of `tests/infra` do the same for
the rules of the Terraform configuration, as part of `make test`.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "mutants.txt"
# A file, what stands there once, and what becomes of that.
Change: TypeAlias = tuple[str, str, str]

_TOPIC = re.compile(r"^# ([^\n]+)\n(.*?)(?=^# |\Z)", re.MULTILINE | re.DOTALL)
_BROKEN = re.compile(r"^(\S.*)\n((?: .*\n)*)", re.MULTILINE)
_CHANGE = re.compile(r"^ {4}(\S+): (.*?) -> ?(.*)$", re.MULTILINE)
_FAILED, _PASSED = 1, 0  # statuses of pytest


def parsed(text: str) -> dict[str, dict[str, list[Change]]]:
    r"""Return the changes by topic, and by the rule or test that they break.

    A topic begins with `# `. Below a rule, indented: in which file what becomes of what
    (`\n` is the end of a line).
    """
    return {
        topic: {
            rule: [
                (place, old.replace("\\n", "\n"), new.replace("\\n", "\n"))
                for place, old, new in _CHANGE.findall(changes)
            ]
            for rule, changes in _BROKEN.findall(part)
        }
        for topic, part in _TOPIC.findall(text)
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Try every mutant; return the exit status: 0 all were caught, 1 not all."""
    arguments = _arguments(argv)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder, "checkout")
        _copy(copy)
        for topic, tests in parsed(LIST.read_text(encoding="utf-8")).items():
            for test, changes in tests.items():
                if not any(word in f"{topic} {test}" for word in arguments.only):
                    continue
                print(f"{topic}: {test}", flush=True)
                status = _run(copy, test)
                if status != _PASSED:
                    survivors += 1
                    print(f"  does not pass without a change (status {status})")
                    continue
                for change in changes:
                    is_caught = _is_caught(copy, test, change)
                    survivors += not is_caught
                    shown = " -> ".join(repr(part) for part in change[1:])
                    print(f"  {'caught' if is_caught else 'SURVIVED'}: {shown}")
                    sys.stdout.flush()
    print(f"{survivors} not caught" if survivors else "all were caught")
    return int(survivors > 0)


def _copy(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, path)


def _is_caught(copy: Path, test: str, change: Change) -> bool:
    name, old, new = change
    path = copy / name
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace(old, new), encoding="utf-8")
        return _run(copy, test) == _FAILED
    finally:
        path.write_text(text, encoding="utf-8")


def _run(copy: Path, test: str) -> int:
    """Run a test of the copy on the code of the copy; return pytest's status."""
    command = ["-m", "pytest", "-q", "-x", "--numprocesses", "0", *shlex.split(test)]
    environ = dict(os.environ, PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env=environ,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return done.returncode


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mutants", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "only",
        nargs="*",
        default=[""],
        metavar="WORD",
        help="try only those whose topic or test contains one of these words",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
