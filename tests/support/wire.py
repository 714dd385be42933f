"""HTTP in an event loop, for hundreds of clients and what answers them at once."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

IDLE_SECONDS = 1.0  # after which a client opens a new connection: the server would
Answer = Callable[[str, str, bytes], dict[str, object]]  # by path, user, body


class Wire:
    """One kept-alive connection, opened anew when it has been idle."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def ask(self, request: bytes) -> tuple[int | None, dict[str, str], bytes]:
        """Return status, headers, body; no status where the link broke."""
        try:
            if time.perf_counter() - self._used > IDLE_SECONDS:
                self.close()
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(request)
            status_line, headers, content = await read_message(reader)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return None, {}, b""
        self._used = time.perf_counter()
        if headers.get("connection") == "close":
            self.close()
        return int(status_line.split()[1]), headers, content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def read_message(
    reader: asyncio.StreamReader,
) -> tuple[str, dict[str, str], bytes]:
    """Return first line, headers by lower-case name, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.lower(): value.strip() for name, value in pairs}
    size = int(headers.get("content-length", 0))
    return first, headers, await reader.readexactly(size) if size else b""


async def serve(answer: Answer) -> asyncio.Server:
    """Reply to everybody on a free port, always with 200 and what `answer` returns."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.suppress(OSError, asyncio.IncompleteReadError),
            contextlib.closing(writer),
        ):
            while True:
                first, headers, body = await read_message(reader)
                path, user_id = first.split()[1], headers.get("x-user-id", "")
                content = json.dumps(answer(path, user_id, body)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
                )

    return await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
