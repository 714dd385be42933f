"""Whether a request comes from this machine, and is meant for it.

A browser on this machine also carries the requests of strangers' pages, so the address
that a request comes from is not enough.
"""

import ipaddress
import re

from flask import Request

HOST_NAME = r"(?:localhost|127\.0\.0\.1|\[::1\])"
_HOST = re.compile(rf"{HOST_NAME}(?::[0-9]{{1,5}})?", re.IGNORECASE)
# What proxies add. Of where the caller is, a prefix (X-Forwarded-Prefix) says nothing.
_OF_PROXIES = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
)


def is_local(request: Request) -> bool:
    """Return whether a request was sent on this machine, to a name of its own.

    The peer is on the loopback; no proxy has passed the request on; and its host is a
    loopback name: a page whose own name leads to 127.0.0.1 sends that name.
    """
    return (
        _is_loopback(request.remote_addr or "")
        and not any(name in request.headers for name in _OF_PROXIES)
        and bool(_HOST.fullmatch(request.headers.get("Host", "")))
    )


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback
