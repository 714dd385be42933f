"""What was looked at and let pass: `accepted.toml`, read and checked.

Lives here: the shape of that file. Not here: what is done with it, which is each
command's. Surprise: a word too many in it is an error, so that a misspelt key cannot
let anything pass.
"""

import tomllib
from datetime import date
from pathlib import Path

import msgspec

ACCEPTED = Path(__file__).with_name("accepted.toml")


class AcceptedError(Exception):
    """The file is not what it has to be."""


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Says why it is there."""

    reason: str


class NotSecret(Strict, frozen=True):
    """Values that are no secrets anywhere, or kinds that say little in files.

    `files` are patterns of paths from the checkout's top.
    """

    values: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


class Vulnerability(Strict, frozen=True):
    """A known vulnerability of a package that is lived with, up to and with a day."""

    id: str
    package: str
    until: date


class Licence(Strict, frozen=True):
    """A licence that any package may have, or that these packages alone may."""

    id: str
    packages: tuple[str, ...] = ()


class Recorded(Strict, frozen=True):
    """A licence that somebody read, because a package's metadata does not tell it."""

    package: str
    licence: str


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    not_secret: tuple[NotSecret, ...] = ()
    vulnerability: tuple[Vulnerability, ...] = ()
    licence: tuple[Licence, ...] = ()
    recorded: tuple[Recorded, ...] = ()


def read() -> Accepted:
    """Answer what is accepted; raises AcceptedError, which names the field."""
    try:
        found = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))
        return msgspec.convert(found, Accepted)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise AcceptedError(f"{ACCEPTED.name}: {error}") from error
