"""Log lines, and the ids that tie them to the request they belong to."""

import io
import json
import logging
import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from common.telemetry import logs

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a logger of ours writes as JSON, as if nothing had been configured."""
    monkeypatch.setattr(logs, "_options", type(logs._options)())
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logs.get("test")
    logger.setLevel("DEBUG")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


def only_line(stream: io.StringIO) -> dict[str, Any]:
    [line] = stream.getvalue().splitlines()
    told: dict[str, Any] = json.loads(line)
    return told


def test_a_record_is_one_json_line_whatever_is_in_it(lines: io.StringIO) -> None:
    logs.get("test").info('two\nlines "%s"', "é")
    told = only_line(lines)
    assert told["message"] == 'two\nlines "é"'
    assert (told["severity"], told["logger"]) == ("INFO", "orders.test")
    assert datetime.fromisoformat(told["time"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("DEBUG", "DEBUG"),
        ("INFO", "INFO"),
        ("WARNING", "WARNING"),
        ("ERROR", "ERROR"),
        ("CRITICAL", "CRITICAL"),
    ],
)
def test_severity_is_a_known_one(lines: io.StringIO, level: str, severity: str) -> None:
    logs.get("test").log(logging.getLevelName(level), "x")
    assert only_line(lines)["severity"] == severity


def test_fields_are_added_whatever_their_type(lines: io.StringIO) -> None:
    fields = {
        "route": "/x",
        "latency_ms": 1.5,
        "status": 200,
        "error": ValueError("no"),
    }
    logs.get("test").info("x", extra={"fields": fields})
    told = only_line(lines)
    assert [told[name] for name in fields] == ["/x", 1.5, 200, "no"]


def test_an_exception_stays_on_its_line(lines: io.StringIO) -> None:
    try:
        int("broken")
    except ValueError:
        logs.get("test").exception("x")
    told = only_line(lines)
    assert told["exception"].startswith("Traceback")
    assert "ValueError: invalid literal" in told["exception"]


def test_a_line_names_the_request_and_its_trace(lines: io.StringIO) -> None:
    with logs.request_context("abc-1", TRACEPARENT):
        logs.get("test").info("x")
    told = only_line(lines)
    assert (told["request_id"], told[logs.TRACE]) == ("abc-1", TRACE)
    assert (told[logs.SPAN], told[logs.SAMPLED]) == ("00f067aa0ba902b7", True)
    assert not {"order_id", logs.LABELS} & told.keys()


def test_a_line_names_the_order_once_it_is_known(lines: io.StringIO) -> None:
    with logs.request_context("abc-1", None):
        logs.set_order_id(4)
        logs.get("test").info("x")
    told = only_line(lines)
    assert (told["order_id"], told[logs.LABELS]) == (4, {"order_id": "4"})


def test_a_line_outside_of_a_request_names_none(lines: io.StringIO) -> None:
    with logs.request_context("abc-1", None):
        pass
    logs.set_order_id(4)
    logs.get("test").info("x")
    told = only_line(lines)
    assert not {"request_id", logs.TRACE, "order_id", logs.LABELS} & told.keys()


def test_contexts_nest_and_end() -> None:
    with logs.request_context("outer", None) as outer:
        with logs.request_context("inner", None):
            logs.set_order_id(5)
        assert logs.current() is outer
        assert outer.order_id is None
    assert logs.current() is None


def test_a_context_ends_with_an_error_too() -> None:
    def fail() -> None:
        with logs.request_context("abc-1", None):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert logs.current() is None


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "1-abc:def/ghi+j=", "x" * 128])
def test_a_sane_request_id_is_kept(given: str) -> None:
    with logs.request_context(given, None) as context:
        assert context.request_id == given


@pytest.mark.parametrize(
    "given",
    [
        *(None, "", "x" * 129, "a b", "a\n", "a\r\nSet-Cookie: x", "a\x00", "é", '"a"'),
        *("{a}", "<script>"),
    ],
)
def test_a_request_id_that_is_not_sane_is_made_anew(given: str | None) -> None:
    with logs.request_context(given, None) as context:
        assert context.request_id == str(uuid.UUID(context.request_id))


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "x",
        TRACEPARENT.upper(),
        TRACEPARENT + "-more",
        TRACEPARENT + "\n",
        TRACEPARENT[:-1],
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16),
        TRACEPARENT.replace("00-", "ff-", 1),
    ],
)
def test_a_traceparent_that_is_not_sane_is_made_anew(given: str | None) -> None:
    with logs.request_context(None, given) as context:
        made = context.traceparent
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", made)
    assert made != given


def test_every_request_gets_ids_of_its_own() -> None:
    with logs.request_context(None, None) as first:
        pass
    with logs.request_context(None, None) as second:
        pass
    assert first.request_id != second.request_id
    assert first.traceparent != second.traceparent


def test_only_our_own_loggers_are_touched_and_only_once() -> None:
    ours, root = logging.getLogger("orders"), logging.getLogger()
    before = (ours.handlers[:], ours.level, ours.propagate)
    roots = root.handlers[:]
    ours.handlers = []
    try:
        logs.configure(logs.Options(level="WARNING", format="json"))
        logs.configure(logs.Options(level="ERROR", format="json"))
        assert [type(each.formatter) for each in ours.handlers] == [logs.JsonFormatter]
        assert (ours.level, ours.propagate) == (logging.ERROR, False)
        assert root.handlers == roots
    finally:
        logs.configure(logs.Options())
        ours.handlers, ours.level, ours.propagate = before


def test_a_library_that_says_at_length_what_we_say_in_a_line_is_quiet() -> None:
    logs.configure(logs.Options())
    assert not logging.getLogger("pika.adapters").isEnabledFor(logging.ERROR)
    assert not logging.getLogger("urllib3.connection").isEnabledFor(logging.ERROR)


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_signals_are_written_at_any_level(level: str) -> None:
    before = (logs._options, logs.get("http").getEffectiveLevel())
    try:
        logs.configure(logs.Options(level=level))
        assert logs.get(logs.SIGNALS).isEnabledFor(logging.INFO)
        assert logs.get("http").getEffectiveLevel() == getattr(logging, level)
    finally:
        logs.configure(before[0])
        logging.getLogger("orders").setLevel(before[1])
