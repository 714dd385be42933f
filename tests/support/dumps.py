"""Dump and restore a database with PostgreSQL's own programs."""

import subprocess
from pathlib import Path

from infra.local.postgres_binaries import find_installation


def dump(url: str, file: Path) -> None:
    """Write the whole database to `file`."""
    _run("pg_dump", "--format=custom", f"--file={file}", f"--dbname={url}")


def restore(url: str, file: Path) -> None:
    """Put the database back to what it was when `file` was written."""
    _run("pg_restore", "--clean", "--exit-on-error", f"--dbname={url}", str(file))


def _run(program: str, *arguments: str) -> None:
    path = find_installation().program(program)
    done = subprocess.run(
        [path, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
