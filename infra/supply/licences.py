"""`make licences`: writes docs/licences.md, and refuses a licence nobody agreed to.

Lives here: reading a licence from a package's metadata, the page. Not here: which are
agreed to, and what metadata does not tell (`accepted.toml`). Surprise: the page lists
what the locks pin, on any system; what is not installed on this one must be recorded.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from infra.supply import accepted
from infra.supply.audit import CHECKOUT, LOCKS, releases

PAGE = CHECKOUT / "docs" / "licences.md"
# What packages write in place of an identifier of SPDX, in lower case.
_SPELLINGS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD",
    "https://www.apache.org/licenses/license-2.0": "Apache-2.0",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
_IDENTIFIER = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*-\d[\w.]*(-[\w]+)*|ISC|MIT|Zlib")


class LicenceError(Exception):
    """A package's licence is unknown or not agreed to; the message says what to do."""


@dataclass(frozen=True)
class Row:
    """One package of the page."""

    package: str
    version: str
    licence: str
    is_runtime: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; answer the exit status: 1 when it would hold a surprise."""
    parser = argparse.ArgumentParser(
        prog="make licences", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)
    try:
        agreed = accepted.read()
        found = rows(agreed)
        check(found, agreed.licence)
    except (accepted.AcceptedError, LicenceError) as error:
        print(f"licences: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(page(found, agreed), encoding="utf-8")
    print(f"{len(found)} packages in {PAGE.relative_to(CHECKOUT)}")
    return 0


def rows(agreed: accepted.Accepted) -> list[Row]:
    """Answer every package that the locks pin; raises LicenceError."""
    runtime, everything = (releases([CHECKOUT / each]) for each in LOCKS)
    recorded = {each.package: each.licence for each in agreed.recorded}
    return [
        Row(name, version, recorded.get(name) or licence(name), name in runtime)
        for name, version in sorted(everything.items())
    ]


def licence(package: str) -> str:
    """Answer what an installed package says of its licence, in SPDX's words."""
    try:
        said = metadata.metadata(package).json
    except metadata.PackageNotFoundError as error:
        raise LicenceError(
            f"{package} is not installed on this system: make venv, or record its"
            f" licence in {accepted.ACCEPTED.name}"
        ) from error
    if expression := said.get("license_expression"):
        return str(expression)
    classifiers = [str(each) for each in said.get("classifier", [])]
    last = [each.rpartition(" :: ")[2] for each in classifiers if "License ::" in each]
    for text in (str(said.get("license", "")), *last):
        short = " ".join(text.split())
        if found := _SPELLINGS.get(short.lower()):
            return found
        if _IDENTIFIER.fullmatch(short):
            return short
    raise LicenceError(
        f"{package} does not say its licence: read it, and record it in"
        f" {accepted.ACCEPTED.name}"
    )


def check(found: Sequence[Row], agreed: Sequence[accepted.Licence]) -> None:
    """Raise LicenceError for the first package whose licence is not agreed to."""
    for row in found:
        allowed = {
            each.id
            for each in agreed
            if not each.packages or row.package in each.packages
        }
        choices = [each.split(" AND ") for each in row.licence.split(" OR ")]
        if not any(allowed.issuperset(each) for each in choices):
            raise LicenceError(
                f"{row.package} is under {row.licence}, which nobody agreed to: do"
                f" without it, or add the licence to {accepted.ACCEPTED.name}"
            )


def page(found: Sequence[Row], agreed: accepted.Accepted) -> str:
    """Answer the page's text."""
    notes = [
        f"- **{', '.join(each.packages)}** ({each.id}): {each.reason}."
        for each in agreed.licence
        if each.packages
    ]
    notes += [f"- **{each.package}**: {each.reason}." for each in agreed.recorded]
    table = [
        f"| {row.package} | {row.version} | {row.licence} |"
        f" {'runtime' if row.is_runtime else 'development'} |"
        for row in found
    ]
    opening = (
        "Every package that `requirements/` pins, on any system, with its licence as"
        " its metadata\ntells it. *Runtime* is what a function may be deployed with;"
        " *development* stays here.\nMade by `make licences`, which refuses a licence"
        " that `infra/supply/accepted.toml` does\nnot agree to; `make check` fails when"
        " this page is out of date."
    )
    return "\n".join(
        [
            "# Licences of dependencies",
            "",
            opening,
            "",
            "Worth a note:",
            "",
            *notes,
            "",
            "| package | version | licence | used by |",
            "|---|---|---|---|",
            *table,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
