"""Siblings with generated replies: valid ones with something changed, or nothing valid.

A try has its own plan. The same path gets the same reply each time it is asked for.
"""

import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st

from tests.support.mutations import anything, garbled, values, written

CART, CHANGE, VARIATION, PRODUCT = "cart", "change", "variation", "product"
SERVICES = {CART: "shopcart", CHANGE: "shopcart", VARIATION: "product"} | {
    PRODUCT: "product"
}


@dataclass
class Reply:
    """What a sibling sends, and whether HTTP can make a whole response of it."""

    content: bytes
    status: int = 200
    body: bytes = b""
    is_whole: bool = True
    is_sound: bool = False  # nothing is odd about its framing
    closes: bool = False
    waits: bool = False

    @property
    def json(self) -> Any:
        """Return the body of a whole response; None if it is no JSON."""
        try:
            return json.loads(self.body) if self.is_whole else None
        except (ValueError, RecursionError):
            return None

    @property
    def is_refusal(self) -> bool:
        """Return whether the service itself refuses; its JSON may have odd bytes."""
        try:
            content = json.loads(self.body.decode(errors="replace"))
        except (ValueError, RecursionError):
            return False
        has_detail = isinstance(content, dict) and "detail" in content
        return self.status in (404, 422) and has_detail


def whole(body: bytes, status: int = 200, *headers: str) -> Reply:
    """Return a response as a framework would send it."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    if not any(header.lower().startswith("content-type") for header in headers):
        lines.append("Content-Type: application/json")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return Reply(head + body, status, body, is_sound=not headers)


HTML = b"<html><body><h1>404 Not Found</h1>nginx</body></html>"
_STATUSES = (
    *(201, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410),
    *(418, 422, 425, 429, 451, 500, 501, 502, 503, 504, 505, 599, 999),
)
# These are tried again after a pause, so they are rare.
_RETRIED = frozenset({408, 425, 429, 502, 503, 504})
_HEADERS = (
    *("Content-Type: text/html", "Content-Type: application/json; charset=utf-16"),
    *("Content-Encoding: gzip", "Transfer-Encoding: identity", "Connection: close"),
    *("X-Long: " + "x" * 4000, "X-Odd: \xff\xfe", "Set-Cookie: a=b", "Retry-After: x"),
    *("Content-Type:", "Keep-Alive: timeout=0", "Location: http://[", "Age: -1"),
)


@st.composite
def replies(draw: st.DrawFn, valid: Any) -> Reply:
    """Return a sibling's reply in place of this valid one."""
    how = draw(
        st.sampled_from(("json",) * 8 + ("body", "body", "status", "head", "raw"))
    )
    text = json.dumps(valid).encode()
    if how == "json":
        return whole(draw(written(valid)))
    if how == "body":
        odd = st.sampled_from((b"", HTML, b"null", b"[]", b"{}", b'{"detail":"x"}'))
        headers = draw(st.lists(st.sampled_from(_HEADERS[:2]), max_size=1))
        return whole(draw(st.one_of(odd, anything)), 200, *headers)
    if how == "status":
        status = draw(st.sampled_from(_STATUSES))
        if status in _RETRIED and draw(st.sampled_from((True, True, False))):
            status = 404
        return _with_status(draw, status, text)
    if how == "head":
        chosen = st.lists(st.sampled_from(_HEADERS), min_size=1, max_size=3)
        return whole(text, 200, *draw(chosen))
    return draw(_raw(text))


def _with_status(draw: st.DrawFn, status: int, text: bytes) -> Reply:
    detail = json.dumps({"detail": draw(values)}).encode()
    body = draw(st.sampled_from((text, b"", HTML, detail, b'{"detail": "Not found"}')))
    if status in (204, 304):
        body = b""
    location = draw(st.sampled_from(("", "http://127.0.0.2/x", "//[", "\xff", "x y")))
    return whole(body, status, f"Location: {location}")


@st.composite
def _raw(draw: st.DrawFn, text: bytes) -> Reply:
    """Return a response with its framing odd, or broken."""
    sound = whole(text)
    size = b"%x" % len(text)
    chunked = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    counted = b"HTTP/1.1 200 X\r\nContent-Length: "
    half = text[: len(text) // 2]
    readable = [
        chunked + size + b"\r\n" + text + b"\r\n0\r\n\r\n",
        chunked + size + b";a=b\r\n" + text + b"\r\n0\r\nX-Trailer: y\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n" + text,
        b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text),
        b"HTTP/1.1 100 Continue\r\n\r\n" + sound.content,
    ]
    broken = [
        b"",
        b"\r\n\r\n",
        sound.content[: draw(st.integers(0, len(sound.content) - 1))],
        counted + b"%d\r\n\r\n%s" % (len(text) + 1, text),
        counted + b"%d\r\n\r\n%s" % (len(half), text),
        counted + b"99999999999999999999\r\n\r\n" + text,
        counted + b"5000000\r\n\r\n" + text,
        chunked + b"zz\r\n" + text,
        chunked + b"ffffffffffffffff\r\n" + text,
        chunked + size + b"\r\n" + half,
        b"HTTP/9.9 200 OK\r\n\r\n" + text,
        b"HTTP/1.1 abc\r\n\r\n" + text,
        b"HTTP/1.1 199 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 200 + b"\r\n" + text,
        b"HTTP/1.1 200 X\r\nX: " + b"x" * 70_000 + b"\r\n\r\n" + text,
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ]
    if draw(st.booleans()):
        content = draw(st.sampled_from(readable))
        return Reply(content, 200, text, closes=True)
    if draw(st.sampled_from((False, False, False, True))):
        return Reply(draw(garbled(sound.content)), 200, text, closes=True)
    content = draw(st.sampled_from(broken))
    waits = draw(st.sampled_from((False,) * 9 + (True,)))
    return Reply(content, 200, text, is_whole=False, closes=True, waits=waits)


@dataclass
class Plan:
    """What siblings return in a try, what is spoiled of it, and what was changed."""

    user: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    replies: dict[str, Reply] = field(default_factory=dict)
    spoiled: str | None = None
    changes: list[tuple[str, str, bytes]] = field(default_factory=list)

    def reply(self, method: str, path: str, body: bytes) -> Reply:
        if method != "GET":
            self.changes.append((method, path, body))
            return self.replies[CHANGE]
        return self.replies.get(path) or whole(b'{"detail": "Not found"}', 404)

    def variation(self, id_: str) -> Reply:
        """Return what is said of a variation; raise KeyError."""
        return self.replies[f"/api/products/variations/{id_}"]

    def product(self, id_: str) -> Reply:
        """Return what is said of a product."""
        return self.reply("GET", f"/api/products/{id_}", b"")

    def quantity(self, variation: str) -> int:
        """Return how many of a variation the cart has in all its lines."""
        items = self.replies["/api/mycart/"].json["items"]
        return sum(
            line["quantity"] or 0
            for line in items
            if line["product_variation_id"] == variation
        )


@st.composite
def plans(draw: st.DrawFn, spoiled: str) -> Plan:
    """Return a plan in which one kind of replies is generated, the rest is valid."""
    plan = Plan(user=str(uuid4()), spoiled=spoiled)
    base = uuid4().int >> 16 << 16  # ids have one length, whatever they are
    for number in range(draw(st.integers(1, 3))):
        variation, product = str(UUID(int=base + number)), str(UUID(int=base + 100))
        is_twice = number and draw(st.sampled_from((False, False, False, True)))
        if is_twice:
            variation = plan.lines[0]["product_variation_id"]
        quantity = draw(st.sampled_from((1, 1, 2, 7)))
        plan.lines.append(
            {
                "id": base % 10**12 + 10**12 + number,
                "product_variation_id": variation,
                "quantity": quantity,
            }
        )
        if is_twice:
            continue
        of_product = {
            "id": product,
            "shop_id": str(UUID(int=base + 200)),
            "title": "Thing",
            "is_active": draw(st.sampled_from((True, True, True, True, False))),
            "base_price": 10.0,
        }
        is_nested = spoiled != PRODUCT and draw(st.booleans())
        of_variation = {
            "id": variation,
            "product_id": product,
            "amount": draw(st.sampled_from((100, 100, 100, 3, 0, -2))),
            "price": draw(st.sampled_from((9.99, None, 0, "12.345"))),
            "product": of_product if is_nested else None,
        }
        _add(
            draw, plan, VARIATION, f"/api/products/variations/{variation}", of_variation
        )
        _add(draw, plan, PRODUCT, f"/api/products/{product}", of_product)
    cart = {"id": base % 10**12 + 10**12, "user_uuid": plan.user, "items": plan.lines}
    _add(draw, plan, CART, "/api/mycart/", cart)
    _add(draw, plan, CHANGE, CHANGE, {"message": "done"})
    return plan


def _add(draw: st.DrawFn, plan: Plan, kind: str, path: str, valid: Any) -> None:
    is_spoiled = plan.spoiled == kind
    plan.replies[path] = draw(replies(valid)) if is_spoiled else whole(encoded(valid))


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


class Siblings(socketserver.ThreadingTCPServer):
    """Serves the replies of `plan` on a free port of this machine."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answer: Callable[[str, str, bytes], Reply] = lambda *_: whole(b"{}")


class _Connection(socketserver.StreamRequestHandler):
    timeout = 30

    def handle(self) -> None:
        assert isinstance(self.server, Siblings)
        with suppress(OSError):
            while line := self.rfile.readline():
                method, path, _ = line.decode("latin-1").split(" ")
                length = 0
                while (header := self.rfile.readline()) not in (b"\r\n", b""):
                    if found := re.match(rb"(?i)content-length: (\d+)", header):
                        length = int(found[1])
                reply = self.server.answer(method, path, self.rfile.read(length))
                self.wfile.write(reply.content)
                if reply.waits:
                    self.connection.recv(1)  # until the caller hangs up
                if reply.closes:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return


@contextmanager
def siblings() -> Iterator[Siblings]:
    """Yield the server while the block runs."""
    with Siblings() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
