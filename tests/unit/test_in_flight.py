"""Which of the calls that wait for their responses is due first."""

import socket
import threading
import time

from common.clients.connections import InFlight


class Waiting:
    """A connection on which a response is due, and its other end."""

    def __init__(self, due_in_seconds: float) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.due_in(due_in_seconds)

    def due_in(self, seconds: float) -> None:
        self.first_byte_deadline = time.monotonic() + seconds

    def fileno(self) -> int:
        return self.ours.fileno()

    def has_begun(self) -> bool:
        try:
            return bool(self.ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_a_connection_that_is_used_again_is_due_with_its_new_call() -> None:
    connection = Waiting(-1)
    calls: InFlight[str] = InFlight()
    calls.add(connection, "first")
    calls.remove(connection)
    connection.due_in(60)
    calls.add(connection, "second")
    reply = threading.Timer(0.2, connection.theirs.sendall, [b"x"])
    reply.start()
    assert calls.answered() == [(connection, "second")]
    assert connection.has_begun()
    reply.join()
    assert calls.close() == ["second"]
    connection.close()


def test_the_call_that_is_overdue_is_returned_and_no_other() -> None:
    late, early = Waiting(60), Waiting(-1)
    calls: InFlight[str] = InFlight()
    for connection, name in ((late, "late"), (early, "early")):
        calls.add(connection, name)
    assert calls.answered() == [(early, "early")]
    assert not early.has_begun()
    calls.close()
    for connection in (late, early):
        connection.close()
