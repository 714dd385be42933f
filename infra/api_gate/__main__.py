"""`python -m infra.api_gate`: what of the API breaks callers since the last release.

Lives here: the command and where the last release's document is. Not here: what breaks
(`changes.py`). Surprise: a higher major version says that breaking is meant.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.openapi import document
from infra.api_gate.changes import breaking_changes

RELEASED = Path(__file__).parents[2] / "docs" / "api" / "released.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, or write the document of a release; answer the exit status."""
    arguments = _arguments(argv)
    path: Path = arguments.released
    today = document()
    if not path.exists() and not arguments.release:
        print(f"{path} is missing: write it with --release", file=sys.stderr)
        return 2
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else today
    changes = breaking_changes(old, today)
    is_meant = _major(today) > _major(old)
    if arguments.json:
        print(json.dumps({"breaking": changes, "is_meant": is_meant}))
    else:
        since = f"since {old['info']['version']}"
        print("\n".join(changes) or f"Nothing breaks a caller {since}.")
    if changes and not is_meant:
        print(
            "Take these back, or raise the first number of API_VERSION in"
            " common/openapi.py if callers have agreed.",
            file=sys.stderr,
        )
        return 1
    if arguments.release:
        path.write_text(text(today), encoding="utf-8")
    return 0


def text(of: dict[str, Any]) -> str:
    """Answer a document as it is kept: the same each time, a line for each part."""
    return json.dumps(of, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _major(of: dict[str, Any]) -> int:
    return int(of["info"]["version"].partition(".")[0])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.api_gate",
        description="Tell each change of the API that breaks callers of the last"
        " release. Fails where there is one.",
    )
    parser.add_argument(
        "--release",
        action="store_true",
        help="keep today's document as the last release's",
    )
    parser.add_argument(
        "--released",
        type=Path,
        default=RELEASED,
        metavar="FILE",
        help="the last release's document (default: docs/api/released.json)",
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
