"""`make secrets`: no secret stands in a file of the project.

Lives here: which files are looked at, and what is said of a find. Not here: what a
secret looks like, but for Google's (detect-secrets), what is none (`accepted.toml`).
Surprise: what was found is never printed, here or in an error, only where it stands.
"""

import argparse
import fnmatch
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

from infra.supply import accepted

CHECKOUT = Path(__file__).parents[2]
# The scanner passes over whatever has `swagger` or the like in its path.
_BLIND_SPOT = "detect_secrets.filters.heuristic.is_swagger_file"

# API keys, OAuth client secrets, access tokens, storage's HMAC keys. A service
# account's key is a private key, which the scanner knows.
_GOOGLE_KEY = re.compile(
    r"\bAIza[\w-]{35}(?![\w-])|\bGOCSPX-[\w-]{28}(?![\w-])"
    r"|\bya29\.[\w-]{30,}|\bGOOG1E?[0-9A-Z]{20,}\b"
)
_FEW = 50
_PARTS = 2


@dataclass(frozen=True, order=True)
class Found:
    """Where something like a secret stands."""

    file: str
    line: int
    kind: str


def main(argv: Sequence[str] | None = None) -> int:
    """Scan and tell; answer the exit status: 1 when there is something."""
    arguments = _arguments(argv)
    try:
        allowed = accepted.read().not_secret
    except accepted.AcceptedError as error:
        print(f"secrets: {error}", file=sys.stderr)
        return 1
    files = project_files(arguments.root)
    found = sorted(set(scan(arguments.root, files, allowed)))
    if arguments.json:
        print(json.dumps([asdict(each) for each in found]))
    elif not found:
        print(f"No secret in {len(files)} files")
    for each in [] if arguments.json else found:
        print(f"{each.file}:{each.line}: {each.kind}", file=sys.stderr)
    if found:
        advice = (
            "secrets: take them out, and replace any that was ever committed; what is"
            f" none goes into {accepted.ACCEPTED.relative_to(CHECKOUT)} with a reason"
        )
        print(advice, file=sys.stderr)
    return int(bool(found))


def project_files(root: Path) -> list[str]:
    """Answer the files that are, or could be, committed, as paths from `root`.

    Those that git tracks. Where there is no repository, as in an archive of one,
    all but what `.gitignore` names.
    """
    if shutil.which("git") and (root / ".git").exists():
        listing = ["git", "-C", str(root), "ls-files", "-z", "--cached"]
        done = subprocess.run(listing, check=True, capture_output=True, text=True)
        listed = done.stdout.split("\0")
        return sorted(each for each in listed if each and (root / each).is_file())
    ignored = [".git", *_ignored(root)]
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if not _is_among(each, ignored)]
        here = Path(folder).relative_to(root)
        found += [str(here / each) for each in files if not _is_among(each, ignored)]
    return sorted(found)


def scan(
    root: Path, files: Sequence[str], allowed: Sequence[accepted.NotSecret]
) -> Iterator[Found]:
    """Yield what looks like a secret in these files and is not allowed.

    The scanner takes 20 ms a file, so many files are shared among the processors.
    """
    if len(files) <= _FEW:
        yield from _scan(root, files, allowed)
        return
    parts = [files[start::_PARTS] for start in range(_PARTS)]
    with ProcessPoolExecutor(_PARTS, multiprocessing.get_context("spawn")) as pool:
        scanned = [pool.submit(_scan, root, part, allowed) for part in parts]
        for each in scanned:
            yield from each.result()


def _scan(
    root: Path, files: Sequence[str], allowed: Sequence[accepted.NotSecret]
) -> list[Found]:
    found = []
    with default_settings() as settings:
        settings.disable_filters(_BLIND_SPOT)
        for file in files:
            suspects = [
                (each.line_number, each.type, each.secret_value)
                for each in scan_file(str(root / file))
            ]
            for line, kind, value in [*suspects, *_google_keys(root / file)]:
                if not any(_allows(rule, file, kind, value) for rule in allowed):
                    found.append(Found(file, line, kind))
    return found


def _google_keys(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, kind and value of what Google hands out, which nobody looks for."""
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        for match in _GOOGLE_KEY.finditer(line):
            yield number, "Google Key", match[0]


def _allows(rule: accepted.NotSecret, file: str, kind: str, value: str | None) -> bool:
    if value in rule.values:
        return True
    is_there = any(PurePath(file).match(pattern) for pattern in rule.files)
    return is_there and kind in rule.kinds


def _ignored(root: Path) -> list[str]:
    """Answer the names in `.gitignore`, which are patterns without a folder."""
    listing = root / ".gitignore"
    lines = listing.read_text(encoding="utf-8").split() if listing.exists() else []
    return [line.rstrip("/") for line in lines]


def _is_among(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make secrets",
        description=__doc__.splitlines()[0],
        epilog="example: make secrets ARGS=--json",
    )
    parser.add_argument(
        "root", nargs="?", type=Path, default=CHECKOUT, help="default: this checkout"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
