"""Refuse connections that would leave this machine.

Refusals are collected as well as raised, since the code under test may swallow the
error.
"""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Address = Any


class LeavesThisMachineError(RuntimeError):
    """A test tried to reach another machine."""


def is_local(host: object) -> bool:
    """Return whether a host is this machine; None and "" are what a server binds to."""
    if isinstance(host, bytes | bytearray):
        host = host.decode()
    if not isinstance(host, str) or host in ("", "localhost"):
        return host in (None, "", "localhost")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@contextmanager
def loopback_only() -> Iterator[list[str]]:
    """Refuse what leaves this machine; yields what was refused so far."""
    refused: list[str] = []
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    getaddrinfo = socket.getaddrinfo

    def check(host: object) -> None:
        if not is_local(host):
            refused.append(str(host))
            raise LeavesThisMachineError(f"a test may not reach {host}")

    def check_address(sock: socket.socket, address: Address) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])

    def guarded_connect(sock: socket.socket, address: Address) -> None:
        check_address(sock, address)
        connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address: Address) -> int:
        check_address(sock, address)
        return connect_ex(sock, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(host, str) and host.endswith(".invalid"):
            # The name that is unknown everywhere (RFC 6761): no need to ask.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        check(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield refused
