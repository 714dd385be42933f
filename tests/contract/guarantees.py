"""The table of what every publisher promises, written from a real run of the suite.

Lives here: which destinations there are, which guarantee one of them cannot show, and
the table. Not here: the guarantees, which are the tests of `test_publishers.py`. To
write `docs/guarantees.md` anew: `python -m tests.contract.guarantees`. Surprise: what
did not hold is never written down; the command fails instead.
"""

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("test_publishers.py")
TABLE = Path(__file__).parents[2] / "docs" / "guarantees.md"
COLUMNS = {
    "rabbitmq": "RabbitMQ",
    "pubsub": "Pub/Sub (double)",
    "pubsub_emulator": "Pub/Sub (vendor's emulator)",
    "http": "HTTP",
}
OPTIONAL = "pubsub_emulator"  # not every machine has it
HOLDS, NOT_RUN = "✓", "·"

_ONE_BY_ONE = "A request carries one event, and the next waits for its answer."
_TAKES_ALL = "The emulator has no way to refuse a well-formed event."
# The test's name and the destination: why it cannot be shown there.
GAPS = {
    ("test_different_orders_do_not_wait_for_each_other", "http"): _ONE_BY_ONE,
    ("test_a_refused_event_holds_back_its_own_order_only", OPTIONAL): _TAKES_ALL,
    ("test_what_was_refused_goes_out_once_it_is_taken", OPTIONAL): _TAKES_ALL,
}
_HEAD = """# What publishing guarantees

Each line is a test that runs on every kind of destination, in
`tests/contract/test_publishers.py`. This file is written from such a run by
`python -m tests.contract.guarantees`; a test fails when it is not the suite's.

RabbitMQ is a real broker and HTTP a sink of CloudEvents. For Pub/Sub there are two:
the double, an in-memory server that Google's client library talks to, and Google's own
emulator.
"""
_FOOT = f"{HOLDS} holds; — cannot be shown there, for the reason noted.\n"
_FOOT_NOT_RUN = f"{NOT_RUN} was not run on the machine that wrote this.\n"

Marks = Mapping[tuple[str, str], str]


def promised() -> dict[str, str]:
    """Answer the suite's guarantees: the test's name, and its sentence."""
    suite = importlib.import_module("tests.contract.test_publishers")
    return {
        name: _sentence(test)
        for name, test in vars(suite).items()
        if name.startswith("test_")
    }


def expected(*, without: str = "") -> dict[tuple[str, str], str]:
    """Answer the marks of a run in which all goes well, `without` one destination."""
    return {
        (name, column): NOT_RUN if column == without else HOLDS
        for name in promised()
        for column in COLUMNS
        if (name, column) not in GAPS
    }


def table(marks: Marks) -> str:
    """Answer the page that says so; what has no mark is a known gap."""
    reasons = list(dict.fromkeys(GAPS.values()))
    lines = [
        f"| | {' | '.join(COLUMNS.values())} |",
        f"|---|{':-:|' * len(COLUMNS)}",
    ]
    for name, sentence in promised().items():
        cells = [
            marks.get((name, column))
            or f"—<sup>{1 + reasons.index(GAPS[name, column])}</sup>"
            for column in COLUMNS
        ]
        lines.append(f"| {sentence} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)]
    foot = _FOOT + (_FOOT_NOT_RUN if NOT_RUN in marks.values() else "")
    return "\n".join([_HEAD, *lines, "", foot, *notes, ""])


class Run:
    """A plugin of pytest that notes which guarantee held at which destination."""

    def __init__(self) -> None:
        self.marks: dict[tuple[str, str], str] = {}
        self._cases: dict[str, tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Learn what each test is about."""
        for item in items:
            assert isinstance(item, pytest.Function)
            column = item.callspec.params["destination"]
            self._cases[item.nodeid] = (item.originalname, column)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended; a failure ends the run badly and needs no note."""
        case = self._cases[report.nodeid]
        if report.skipped and case not in GAPS:
            self.marks[case] = NOT_RUN
        elif report.when == "call" and report.passed:
            self.marks.setdefault(case, HOLDS)


def main() -> int:
    """Run the suite and write the table; answer the exit status."""
    run = Run()
    status = pytest.main(["-q", "--numprocesses=0", str(SUITE)], plugins=[run])
    if status:
        return int(status)
    missing = {column for (_, column), mark in run.marks.items() if mark == NOT_RUN}
    if missing - {OPTIONAL}:
        sys.stderr.write(f"not written: {', '.join(sorted(missing))} could not run\n")
        return 1
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table(run.marks), encoding="utf-8")
    return 0


def _sentence(test: object) -> str:
    first, *_ = (inspect.getdoc(test) or "").splitlines() or [""]
    assert first.endswith("."), f"{test} has no sentence"
    return first


if __name__ == "__main__":
    sys.exit(main())
