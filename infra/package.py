"""`make package`: make one reproducible zip for each function's deployment.

Its bytecode is never checked against the sources, so that no cold start compiles.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from infra import locks
from infra.imports import Reached, reach

CHECKOUT = Path(__file__).parents[1]
FUNCTIONS = CHECKOUT / "functions"
LOCK = CHECKOUT / "requirements" / "runtime.txt"
EXTRAS_LOCK = CHECKOUT / "requirements" / "dev.txt"  # the same pins, and extras'
# Left out unless --otel is given: not every deployment has a collector.
OTEL = {"common.telemetry.otel"}
_OTEL = {
    "opentelemetry-api",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-sdk",
}

_HTTP = {"flask", "functions-framework", "msgspec", "werkzeug"}
_USERS = {"pyjwt"}
_DATABASE = {"cloud-sql-python-connector", "google-auth", "pg8000", "sqlalchemy"}
_PAGES = {"itsdangerous", "jinja2"}
# A deployment chooses its bus by a variable, so all are included.
_BUS = {"google-cloud-pubsub", "grpcio", "pika", "requests", "urllib3"}

# What each function's own code imports, at once or later; dependencies are added.
NEEDS = {
    "api_docs": _HTTP | {"jinja2", "markupsafe", "offapi", "pyyaml"},
    "approval_handler": _HTTP | _DATABASE | _BUS,
    "create_order_from_cart": _HTTP | _USERS | _DATABASE | _BUS,
    "item_status": _HTTP | _USERS | _DATABASE | _BUS,
    "ops_console": _HTTP | _USERS | _DATABASE | _BUS | _PAGES,
    "orders_crud": _HTTP | _USERS | _DATABASE | _BUS,
    "outbox_relay": _HTTP | _DATABASE | _BUS,
}


class PackageError(Exception):
    """A function's imports differ from `NEEDS`."""


@dataclass(frozen=True)
class Package:
    """One zip that was made."""

    function: str
    path: str
    files: int
    packages: int
    kibibytes: int
    sha256: str


def main(argv: Sequence[str] | None = None) -> int:
    """Make the zips and list them; return the exit status."""
    arguments = _arguments(argv)
    try:
        functions = arguments.functions or sorted(NEEDS)
        made = build(arguments.out, functions, has_otel=arguments.otel)
    except (PackageError, locks.LockError) as error:
        print(f"package: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([asdict(each) for each in made]))
        return 0
    print(f"{'zip':<36}{'files':>7}{'packages':>10}{'KiB':>6}  sha256")
    for each in made:
        row = f"{each.files:>7}{each.packages:>10}{each.kibibytes:>6}"
        print(f"{each.path:<36}{row}  {each.sha256[:16]}")
    return 0


def build(
    folder: Path, functions: Sequence[str], *, has_otel: bool = False
) -> list[Package]:
    """Write `folder`/FUNCTION.zip for each of `functions`; return what was made.

    With `has_otel` they can send spans and metrics to a collector. Raise PackageError
    or LockError; no zip of that function is written then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_build(folder, function, has_otel) for function in functions]


def _build(folder: Path, function: str, has_otel: bool) -> Package:  # noqa: FBT001 a flag passed on
    entries = sorted((FUNCTIONS / function).glob("*.py"))
    left_out = set() if has_otel else OTEL
    needs = NEEDS[function] | (_OTEL if has_otel else set())
    reached = reach(CHECKOUT, entries, left_out)
    _check(function, reached, needs)
    pins = locks.closure(EXTRAS_LOCK if has_otel else LOCK, needs)
    with tempfile.TemporaryDirectory(prefix="order-service-package-") as name:
        stage = Path(name)
        shutil.copytree(
            FUNCTIONS / function,
            stage,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for source in (*reached.modules, *_data(reached.modules)):
            target = stage / source.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        _compile(stage)
        text = "# From requirements/runtime.txt, by make package.\n" + "".join(pins)
        (stage / "requirements.txt").write_text(text, encoding="utf-8")
        path = folder / f"{function}.zip"
        files = _zip(stage, path)
    content = path.read_bytes()
    return Package(
        function=function,
        path=os.path.relpath(path),
        files=files,
        packages=len(pins),
        kibibytes=round(len(content) / 1024),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _data(modules: Sequence[Path]) -> list[Path]:
    """Return the data files of the packages among `modules`, from pyproject.toml."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    found = []
    for package, patterns in project["tool"]["setuptools"]["package-data"].items():
        folder = CHECKOUT.joinpath(*package.split("."))
        if folder / "__init__.py" in modules:
            found += [each for pattern in patterns for each in folder.glob(pattern)]
    return found


def _check(function: str, reached: Reached, needs: set[str]) -> None:
    """Raise PackageError if the sources import more or less than is declared."""
    missing = reached.packages - needs
    unused = needs - reached.packages
    if missing or unused:
        parts = [f"needs {', '.join(sorted(missing))}"] if missing else []
        parts += [f"does not need {', '.join(sorted(unused))}"] if unused else []
        raise PackageError(f"{function} {' and '.join(parts)}; see NEEDS")


def _compile(stage: Path) -> None:
    """Compile every source, always to the same bytes.

    Bytecode depends on what else the process compiled, so a new process does it.
    """
    command = [sys.executable, "-S", "-m", "compileall", "-q", "-s", str(stage)]
    command += ["--invalidation-mode", "unchecked-hash", str(stage)]
    subprocess.run(command, check=True, env={})


def _zip(stage: Path, path: Path) -> int:
    """Write all files of `stage`, sorted by name; return how many."""
    files = sorted(each for each in stage.rglob("*") if each.is_file())
    unfinished = path.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(str(file.relative_to(stage)))  # dated 1980
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it was made
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, file.read_bytes())
    unfinished.replace(path)
    return len(files)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make package",
        description=__doc__.splitlines()[0],
        epilog="example: make package ARGS='item_status --json'",
    )
    parser.add_argument("functions", nargs="*", help="only these (default: all)")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "dist", help="folder")
    parser.add_argument(
        "--otel", action="store_true", help="with OpenTelemetry, the extra otel"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.functions) - NEEDS.keys():
        parser.error(f"no such function: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
