"""Settings `OPS_*` of the console: who may look, who may act, how they sign in.

On Cloud Run only `iap` is accepted, and it must be set, so that no deployment is open
by default.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from common.environment import ConfigError, choice, flag, url

IAP_KEYS_URL = "https://www.gstatic.com/iap/verify/public_key"
_ADDRESS = re.compile(r"[^\s@,<>\"']+@[^\s@,<>\"']+")
_AUDIENCE = re.compile(r"/projects/[0-9]+/\S+")


@dataclass(frozen=True, kw_only=True)
class Console:
    """Who is believed to be an operator: `identity` is 'iap' or 'header'.

    Addresses are lower case. `operators` None: whoever is let through may act, save
    `viewers`, who may only look.
    """

    identity: str
    iap_audience: str = ""
    iap_keys_url: str = IAP_KEYS_URL
    operators: frozenset[str] | None = None
    viewers: frozenset[str] = frozenset()


def console(env: Mapping[str, str]) -> Console | None:
    """Answer the settings, None on Cloud Run where nobody said OPS_IDENTITY.

    Raises ConfigError.
    """
    is_on_cloud_run = flag(env, "RUNNING_ON_CLOUDRUN") or "K_SERVICE" in env
    if is_on_cloud_run and "OPS_IDENTITY" not in env:
        return None
    identity = choice(env, "OPS_IDENTITY", ("header", "iap"))
    if is_on_cloud_run and identity != "iap":
        raise ConfigError("OPS_IDENTITY must be iap on Cloud Run")
    audience = env.get("OPS_IAP_AUDIENCE", "")
    if identity == "iap" and not _AUDIENCE.fullmatch(audience):
        raise ConfigError(
            "OPS_IAP_AUDIENCE is missing or malformed:"
            " /projects/NUMBER/locations/REGION/services/SERVICE"
        )
    return Console(
        identity=identity,
        iap_audience=audience,
        iap_keys_url=url(env, "OPS_IAP_KEYS_URL") or IAP_KEYS_URL,
        operators=_addresses(env, "OPS_OPERATORS") if "OPS_OPERATORS" in env else None,
        viewers=_addresses(env, "OPS_VIEWERS"),
    )


def _addresses(env: Mapping[str, str], name: str) -> frozenset[str]:
    parts = [part.strip().lower() for part in env.get(name, "").split(",")]
    addresses = [part for part in parts if part]
    if not all(map(_ADDRESS.fullmatch, addresses)):
        raise ConfigError(f"{name} must be e-mail addresses with commas between them")
    return frozenset(addresses)
