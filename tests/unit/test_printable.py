"""Text from outside, in print: as it is, and in every format of log lines."""

import json
import logging
import re
from collections.abc import Callable

import pytest

from common.telemetry.logs import JsonFormatter, TextFormatter
from common.telemetry.printable import printable
from infra.local.narrator import Narrator, StoryError
from infra.local.plain_log import PlainFormatter
from tests.support.nasty import NASTY, raw


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Größe 42 €, 漢字", "plain, Größe 42 €, 漢字"),
        ("\x1b[31m", r"\u001b[31m"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x7f\x9b", r"\u007f\u009b"),
        ("abc\u202edef\u2069", r"abc\u202edef\u2069"),
        ("\u2028\xa0\ufeff", r"\u2028\u00a0\ufeff"),
        ("\U000e0041", r"\udb40\udc41"),
        ("\udc80", r"\udc80"),
        (r"\u001b", r"\u001b"),
        ("", ""),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_json_stays_the_same_json() -> None:
    document = {"a": NASTY, NASTY: [NASTY]}
    for text in (json.dumps(document, ensure_ascii=False), json.dumps(document)):
        assert json.loads(printable(text)) == document


def record(formatter: logging.Formatter, *, with_exception: bool) -> str:
    made = logging.LogRecord("orders.x", logging.INFO, "", 0, "%s", (NASTY,), None)
    made.fields = {"error": NASTY, "nested": {NASTY: NASTY}}
    if with_exception:
        made.exc_info = (ValueError, ValueError(NASTY), None)
    return formatter.format(made)


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter, PlainFormatter])
def test_log_lines_are_print_only(formatter: Callable[[], logging.Formatter]) -> None:
    line = record(formatter(), with_exception=False)
    assert raw(line) == set()
    assert "\n" not in line
    with_trace = record(formatter(), with_exception=True)
    assert raw(with_trace) == set()
    # No line begins as a record does.
    _, *others = with_trace.splitlines()
    assert all(other.startswith("  ") for other in others)
    assert not re.search(r"^forged", with_trace, re.MULTILINE)


def test_json_lines_say_all_of_it() -> None:
    told = json.loads(record(JsonFormatter(), with_exception=True))
    assert told["message"] == told["error"] == told["nested"][NASTY] == NASTY
    assert NASTY in told["exception"]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_story_is_print_only(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    narrator = Narrator(as_json=as_json)
    with narrator.step(NASTY):
        narrator.expect(NASTY, NASTY, [NASTY])
    with pytest.raises(StoryError), narrator.step("ends"):
        raise StoryError(NASTY)
    narrator.end()
    told = capsys.readouterr().out
    assert raw(told) == set()
    assert "\nforged" not in told
