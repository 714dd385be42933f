"""Read and check one variable of the environment.

The mapping passed in holds no empty values: empty counts as not set.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit


class ConfigError(Exception):
    """A setting is missing or malformed; the message is one line that names it."""


def required(env: Mapping[str, str], name: str, because: str) -> str:
    """Return a variable that is required because another one is set."""
    if name not in env:
        raise ConfigError(f"{name} is not set, but {because} is")
    return env[name]


def url(env: Mapping[str, str], name: str) -> str | None:
    """Return a base URL without its trailing slash, None if it is not set."""
    value = env.get(name)
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        # A malformed host name, such as `a..b`, raises ValueError here.
        has_host = bool((parts.hostname or "").encode("idna"))
        is_http = parts.scheme in ("http", "https")
        extras = parts.username or parts.password or parts.query or parts.fragment
        is_path = re.fullmatch(r"[!-~]*", parts.path)  # it is sent as it is
        is_valid = is_http and has_host and parts.port != 0 and is_path and not extras
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ConfigError(f"{name} is malformed: http://host:port/optional/path")
    return value.rstrip("/")


def path_prefix(env: Mapping[str, str]) -> str:
    """Return the public prefix of our paths, without a trailing slash."""
    prefix = env.get("PUBLIC_PATH_PREFIX", "").rstrip("/")
    if prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
        raise ConfigError("PUBLIC_PATH_PREFIX is malformed: a path such as /order")
    return prefix


def choice(env: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Return one of `choices`, ignoring case; the first is the default."""
    value = env.get(name, choices[0])
    for choice in choices:
        if value.lower() == choice.lower():
            return choice
    raise ConfigError(f"{name} must be one of {', '.join(choices)}")


def flag(env: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Return a boolean."""
    value = env.get(name, str(default)).lower()
    if value not in ("true", "false", "1", "0"):
        raise ConfigError(f"{name} must be true or false")
    return value in ("true", "1")


def integer(
    env: Mapping[str, str], name: str, default: int, low: int, high: int
) -> int:
    """Return a whole number from `low` to `high`."""
    text = env.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}")
    return int(text)


def seconds(env: Mapping[str, str], name: str, default: float) -> float:
    """Return a positive number of seconds, with at most three decimals."""
    text = env.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not float(text):
        raise ConfigError(f"{name} must be a positive number of seconds")
    return float(text)
