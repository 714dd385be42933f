"""What `orderctl` says: tables, facts, ages, and what it asks."""

from datetime import UTC, datetime
from unittest import mock

import pytest

from infra.orderctl import output
from tests.support.orderctl import Terminal

ROWS = [{"a_b": 1, "c": "x" * 50}, {"a_b": None, "c": "two\nlines"}]


def test_a_table_is_aligned_under_its_heading() -> None:
    assert output.table(ROWS, ["a_b", "c"], nothing="none") == [
        "A B  C",
        f"1    {'x' * 50}",
        "-    two lines",
    ]


def test_an_empty_table_says_so() -> None:
    assert output.table([], ["a"], nothing="none") == ["none"]


@pytest.mark.parametrize(("width", "kept"), [(200, 50), (55, 50), (30, 25), (10, 12)])
def test_a_terminal_cuts_the_last_column(width: int, kept: int) -> None:
    size = mock.patch("shutil.get_terminal_size", return_value=mock.Mock(columns=width))
    with mock.patch("sys.stdout", Terminal()), size:
        _, line, _ = output.table(ROWS, ["a_b", "c"], nothing="")
    whole = "x" * 50
    expected = whole if kept == 50 else whole[: kept - 1] + "…"
    assert line == f"1    {expected}"


def test_facts_leave_out_what_is_unknown() -> None:
    moment = datetime(2025, 12, 1, 10, 0, 5, 999, tzinfo=UTC)
    assert output.facts({"at": moment, "nobody": None, "is it": True, "no": False}) == [
        "at     2025-12-01 10:00:05Z",
        "is it  yes",
        "no     -",
    ]
    assert output.facts({}) == []


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3_725, "1h2m"), (93_784, "1d2h")],
)
def test_an_age_has_two_units_at_most(seconds: int, told: str) -> None:
    assert output.age(seconds) == told


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", str(2**63), "²"])
def test_a_number_must_be_one(text: str) -> None:
    with pytest.raises(output.argparse.ArgumentTypeError):
        output.positive(text)
