"""What the tests in `tests/fuzz` share: how much is tried, and what came of it.

FUZZ_TRIES is the number of tries in all, FUZZ_SEED picks others.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, seed, settings

from common import wiring
from common.domain.model import MAX_ID
from common.operations.audit import Report, audit
from tests.support.service import Service

TRIES = int(os.environ.get("FUZZ_TRIES", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "20251130"))
MESSAGES, SIBLINGS, REQUESTS = 0.4, 0.28, 0.32  # shares of all tries
BATCH = 250  # tries of a test
TRIED = "tried"  # the property of a test's report: kind, and outcomes with their counts


def batches(share: float, kinds: int) -> list[tuple[int, int]]:
    """Return the numbers and sizes of the batches in which each kind is tried."""
    tries = max(1, round(TRIES * share / kinds))
    sizes = [BATCH] * (tries // BATCH) + [tries % BATCH] * bool(tries % BATCH)
    return list(enumerate(sizes))


def tried(
    kind: str, number: int, size: int
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return the decorator of what is tried, above `given`."""

    def decorate(attempt: Callable[[], None]) -> Callable[[], None]:
        configured = settings(
            max_examples=size,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(attempt)
        return seed(f"{SEED} {kind} {number}")(configured)

    return decorate


class Tally:
    """Counts outcomes of one kind of tries, for the table at the end."""

    def __init__(self) -> None:
        self.kind = ""
        self.outcomes: Counter[str] = Counter()


@contextmanager
def tallied(node: pytest.Item, service: Service) -> Iterator[Tally]:
    """Yield what a test counts in; then audit all that it wrote, and report both."""
    found = Tally()
    [row] = service.rows("SELECT coalesce(max(id), 0) AS last FROM orders")
    yield found
    audited = _audited(service, row["last"] + 1)
    told = found.kind, dict(found.outcomes), audited.orders, audited.events
    node.user_properties.append((TRIED, told))
    assert audited.differences == [], audited.differences[:3]


class _Unexpected(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.CRITICAL:
            self.records.append(logging.Formatter().format(record))


@contextmanager
def no_traceback() -> Iterator[None]:
    """Fail if anything is logged with a traceback meanwhile."""
    handler = _Unexpected()
    loggers = [logging.getLogger(name) for name in ("", "orders")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert not handler.records, handler.records[0]


def _audited(service: Service, first: int) -> Report:
    """Send what is pending, and audit the orders from the first one on."""
    while service.rows("SELECT id FROM outbox LIMIT 1"):
        service.sweep()
    service.client("outbox_relay")
    return audit(wiring.engine(), between=(first, MAX_ID))
