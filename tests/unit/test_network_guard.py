"""The tests' own guard: nothing leaves this machine, swallowed or not."""

import socket

import pytest

from tests.support.network import LeavesThisMachineError, loopback_only

OUTSIDE = "192.0.2.1"  # reserved for documentation: nobody is there


def test_a_connection_to_another_machine_is_refused_and_noted() -> None:
    with loopback_only() as refused:
        with pytest.raises(LeavesThisMachineError):
            socket.create_connection((OUTSIDE, 80))
        with socket.socket() as sock, pytest.raises(LeavesThisMachineError):
            sock.connect((OUTSIDE, 80))
        with socket.socket() as sock, pytest.raises(LeavesThisMachineError):
            sock.connect_ex((OUTSIDE, 80))
        assert refused == [OUTSIDE] * 3


def test_the_name_of_another_machine_is_not_even_looked_up() -> None:
    with loopback_only() as refused:
        with pytest.raises(LeavesThisMachineError):
            socket.getaddrinfo("example.com", 80)
        assert refused == ["example.com"]


def test_an_invalid_name_is_unknown_as_anywhere() -> None:
    with pytest.raises(socket.gaierror):
        socket.create_connection(("sibling.invalid", 80))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_can_be_reached(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1])).close()
