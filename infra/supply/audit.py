"""`make audit`: no pinned release, of runtime or development, is known as vulnerable.

Lives here: asking, side by side and again when in vain, and what counts as an answer.
Not here: the index's interface (pip-audit), what is lived with (`accepted.toml`).
Surprise: pip-audit calls a release that the index does not know fine, and a mirror may
know none; here what was not audited fails, unless AUDIT says otherwise.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
from packaging.version import Version
from pip_audit._service import (  # type: ignore[import-untyped]
    PyPIService,
    ResolvedDependency,
    ServiceError,
)
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from infra import locks
from infra.supply import accepted

CHECKOUT = Path(__file__).parents[2]
LOCKS = ("requirements/runtime.txt", "requirements/dev.txt")
AT_ONCE = 16
TIMEOUT_SECONDS = 15
RETRIES = 3
MODES = {
    "required": "whatever is not audited fails",
    "possible": "what cannot be audited is told, and does not fail",
    "off": "nothing is asked",
}


@dataclass(frozen=True, order=True)
class Known:
    """A vulnerability that a pinned release is known to have."""

    package: str
    version: str
    id: str
    aliases: tuple[str, ...]
    fixed_in: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What came out, all in order: packages are named `name==version`."""

    audited: tuple[str, ...]
    unknown: tuple[str, ...]  # to the index
    known: tuple[Known, ...]
    unreachable: str = ""  # why, when nobody answered


def main(argv: Sequence[str] | None = None) -> int:
    """Audit and tell; answer the exit status: 0 only when all is well."""
    arguments = _arguments(argv)
    if arguments.mode == "off":
        print(_loud("AUDIT=off: no dependency was audited"), file=sys.stderr)
        return 0
    try:
        lived_with = accepted.read().vulnerability
        pinned = releases(arguments.locks)
    except (accepted.AcceptedError, OSError, ValueError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 1
    found = ask(pinned, arguments.service)
    complaints = judge(found, lived_with, datetime.now(UTC).date())
    if arguments.json:
        print(json.dumps(asdict(found) | {"complaints": complaints}))
    for each in complaints:
        print(f"audit: {each}", file=sys.stderr)
    if gap := _gap(found):
        print(_loud(gap) if arguments.mode == "possible" else gap, file=sys.stderr)
    if complaints or (gap and arguments.mode == "required"):
        return 1
    if found.audited and not arguments.json:
        print(f"No known vulnerability in {len(found.audited)} releases")
    return 0


def releases(paths: Iterable[Path]) -> dict[str, str]:
    """Answer the version of each package that these locks pin."""
    found = {}
    for path in paths:
        for name, lines in locks.pins(path).items():
            pin = re.match(r"[\w.-]+==([\w.+!-]+)", lines)
            if pin is None:
                raise ValueError(f"{path.name} does not pin {name}")
            found[name] = pin[1]
    return found


def ask(pinned: Mapping[str, str], service: str | None = None) -> Audit:
    """Ask the index, or the one at `service`, about each release; raises nothing.

    Sixteen are asked about at a time, each up to four times, until one is in vain.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(_ask, *each, service) for each in pinned.items()]
        try:
            answers = [each.result() for each in asked]
        except (ServiceError, requests.RequestException, LookupError) as error:
            pool.shutdown(cancel_futures=True)
            return Audit((), (), (), _cause(error))
    named = [f"{name}=={version}" for name, version in pinned.items()]
    found = list(zip(named, answers, strict=True))
    return Audit(
        audited=tuple(sorted(name for name, known in found if known is not None)),
        unknown=tuple(sorted(name for name, known in found if known is None)),
        known=tuple(sorted(each for known in answers for each in known or [])),
    )


def judge(
    found: Audit, lived_with: Sequence[accepted.Vulnerability], today: date
) -> list[str]:
    """Answer what is wrong: a line for each vulnerability, and for each stale word."""
    complaints = []
    used = set()
    for known in found.known:
        match = [
            rule
            for rule in lived_with
            if rule.package == known.package and rule.id in {known.id, *known.aliases}
        ]
        used.update(match)
        if not any(today <= rule.until for rule in match):
            fixed = " or ".join(known.fixed_in) or "no release yet"
            names = ", ".join([known.id, *known.aliases])
            since = f"; accepted until {match[0].until}" if match else ""
            complaints.append(
                f"{known.package}=={known.version}: {names}; fixed in {fixed}{since}"
            )
    audited = {name.partition("==")[0] for name in found.audited}
    complaints += [
        f"{accepted.ACCEPTED.name}: {rule.package} no longer has {rule.id}; take it out"
        for rule in lived_with
        if rule not in used
        and (rule.package in audited or not found.unknown)
        and not found.unreachable
    ]
    return complaints


def _cause(error: BaseException) -> str:
    """Answer what went wrong in a few words; a failed connection's own are many."""
    while isinstance(error, ServiceError) and error.__cause__ is not None:
        error = error.__cause__
    is_short = isinstance(error, ServiceError | requests.HTTPError)
    return str(error) if is_short else type(error).__name__


def _ask(name: str, version: str, service: str | None) -> list[Known] | None:
    """Answer what is known of a release; None when the index does not know it."""
    index = PyPIService(cache_dir=Path(os.devnull), timeout=TIMEOUT_SECONDS)
    with requests.Session() as index.session:
        index.session.mount("https://", _Index(service))
        dependency, results = index.query(ResolvedDependency(name, Version(version)))
    if dependency.is_skipped():
        return None
    return [
        Known(
            name,
            version,
            each.id,
            tuple(sorted(each.aliases)),
            tuple(str(release) for release in each.fix_versions),
        )
        for each in results
    ]


class _Index(HTTPAdapter):
    """Asks again when in vain, and another host than pip-audit would."""

    def __init__(self, service: str | None) -> None:
        self._service = service
        retry = Retry(
            RETRIES,
            backoff_factor=0.3,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,  # pip-audit does, and says which status
        )
        super().__init__(max_retries=retry)

    def send(
        self, request: requests.PreparedRequest, *args: object, **kwargs: object
    ) -> requests.Response:
        if self._service is not None:
            path = urlsplit(request.url or "").path
            request.url = self._service.rstrip("/") + str(path)
            request.headers.pop("Host", None)
        return super().send(request, *args, **kwargs)  # type: ignore[arg-type]


def _gap(found: Audit) -> str:
    """Answer a line on what was not audited, empty when all was."""
    if found.unreachable:
        return (
            "audit: no dependency was audited, the index does not answer"
            f" ({found.unreachable}); AUDIT=off goes on without"
        )
    if not found.unknown:
        return ""
    total = len(found.unknown) + len(found.audited)
    some = ", ".join(found.unknown[:3]) + (", …" if found.unknown[3:] else "")
    return (
        f"audit: {len(found.unknown)} of {total} releases were not audited, this index"
        f" has no page on them ({some}); another one: --service URL;"
        " AUDIT=possible goes on without"
    )


def _loud(text: str) -> str:
    edge = "*" * 72
    return f"{edge}\n{text}\n{edge}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make audit",
        description=__doc__.splitlines()[0],
        epilog="AUDIT: "
        + "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items()),
    )
    parser.add_argument(
        "locks",
        nargs="*",
        type=Path,
        default=[CHECKOUT / each for each in LOCKS],
        help=f"default: {' '.join(LOCKS)}",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=os.environ.get("AUDIT") or "required",
        help="default: AUDIT, else required",
    )
    parser.add_argument(
        "--service", metavar="URL", help="an index with PyPI's JSON interface"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args(argv)
    if arguments.mode not in MODES:
        parser.error(f"AUDIT must be one of {', '.join(MODES)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
