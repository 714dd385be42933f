"""Changes of a cart: how each ends, and that none fails without a word in the log."""

import json
import logging
import time
from typing import Any

import pytest

from common.clients import shopcart
from common.clients.batch import Upstream
from common.clients.shopcart import Outcome
from tests.support.odd_server import OddServer, answers
from tests.support.upstreams import CALLER, OK, hang_up

PAGE = "<html><body>Not Found</body></html>"
REFUSED = answers('{"detail": "Not enough stock. Available: 2"}', 400)


@pytest.mark.parametrize(
    ("reply", "change", "end", "told"),
    [
        (REFUSED, 5, Outcome.QUANTITY_REFUSED, (400, "Not enough stock. Available: 2")),
        (REFUSED, None, Outcome.REFUSED, (400, "Not enough stock. Available: 2")),
        (
            answers('{"detail": [{"loc": ["body"]}]}', 422),
            5,
            Outcome.REFUSED,
            (422, '{"detail": [{"loc": ["body"]}]}'),
        ),
        (
            answers(json.dumps({"detail": "x" * 9000}), 409),
            None,
            Outcome.REFUSED,
            (409, "x" * 300),
        ),
        # Whatever does not come from the shopcart itself may have been done, or not.
        (answers(PAGE, 400), 5, Outcome.UNKNOWN, (400, None)),
        (
            answers('{"detail": ["no"], "x": "\udcff"}', 400),
            5,
            Outcome.UNKNOWN,
            (400, None),
        ),
        (answers(PAGE, 200), 5, Outcome.UNKNOWN, (200, None)),
        (answers("", 204), 5, Outcome.UNKNOWN, (204, None)),
        (answers("", 202), None, Outcome.UNKNOWN, (202, None)),
        (answers('{"detail": "no"}', 500), 5, Outcome.UNKNOWN, (500, "no")),
        (hang_up, None, Outcome.UNKNOWN, (None, None)),
    ],
)
def test_every_change_of_a_cart_that_fails_is_a_warning_with_the_sibling_s_words(  # noqa: PLR0917 what it is given, and what comes of it
    server: OddServer,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    reply: Any,
    change: int | None,
    end: Outcome,
    told: tuple[int | None, str | None],
) -> None:
    server.replies = (reply,)
    deadline = time.monotonic() + 10
    assert shopcart.change_lines(upstream, CALLER, [(7, change)], deadline) == [end]
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    method = "DELETE" if change is None else "PUT"
    assert {(each["method"], each["path"]) for each in fields} == {
        (method, "/api/items/7")
    }
    assert told in [(each["status"], each.get("detail")) for each in fields]
    assert (told[1] or "") in caplog.text  # a plain log has messages only


def test_change_that_cannot_be_sent_in_time_is_a_warning_too(
    server: OddServer, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies = (OK,)
    is_over = time.monotonic()
    ends = shopcart.change_lines(upstream, CALLER, [(7, 5)], is_over)
    assert ends == [Outcome.UNKNOWN]
    [record] = caplog.records
    assert record.__dict__["fields"]["path"] == "/api/items/7"
    assert server.requests == []
