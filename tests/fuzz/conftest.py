"""What was tried, in a table at the end of `make fuzz`."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from tests.support.fuzzing import SEED, TRIED, TRIES, Tally, tallied
from tests.support.service import Service
from tests.support.shared import shared_service


@pytest.fixture(scope="module")
def service(postgres_url: str, template_database: str) -> Iterator[Service]:
    """All functions, on a database that the tests of a file share."""
    with shared_service(postgres_url, template_database) as running:
        yield running


@pytest.fixture
def tally(request: pytest.FixtureRequest, service: Service) -> Iterator[Tally]:
    """Count what comes of a test's tries; all that it writes is audited at its end."""
    with tallied(request.node, service) as found:
        yield found


def pytest_report_header() -> str:
    return f"fuzz: FUZZ_TRIES={TRIES} FUZZ_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if "FUZZ_TRIES" not in os.environ:
        return
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    orders = events = 0
    reports = [each for found in terminalreporter.stats.values() for each in found]
    for report in reports:
        if getattr(report, "when", "") != "teardown":
            continue
        for name, value in report.user_properties:
            if name == TRIED:
                kind, outcomes, audited_orders, audited_events = value
                table[kind].update(outcomes)
                orders, events = orders + audited_orders, events + audited_events
    terminalreporter.section(f"tried, with seed {SEED}")
    for kind, counts in sorted(table.items()):
        shown = ", ".join(f"{count} {what}" for what, count in counts.most_common())
        terminalreporter.write_line(f"{kind:26} {counts.total():6}  {shown}")
    total = sum(counts.total() for counts in table.values())
    terminalreporter.write_line(f"{'in all':26} {total:6}")
    terminalreporter.write_line(f"audited: {orders} orders, {events} events")
