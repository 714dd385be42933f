"""What is said of Cloud SQL out of reach: to operators, and to nobody else.

Lives here: the reason that is logged, and listening to everybody who logs. Not here:
what goes wrong (`cloud_sql.py`). Surprise: Google's loggers keep to themselves, so the
root's handlers do not hear them.
"""

import contextlib
import gc
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.db import Engine, ping
from common.errors import DatabaseUnavailableError
from tests.support.cloud_sql import CloudSqlInstance
from tests.support.cloud_sql_world import PASSWORD


class Everything(logging.Handler):
    """Keeps whatever anybody logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []
        self.failures: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.getMessage()} {record.__dict__}"
        self.said.append(line)
        if record.levelno >= logging.ERROR:
            self.failures.append(line)


@contextlib.contextmanager
def discreet(
    instance: CloudSqlInstance, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Whatever is logged meanwhile: no secret, and nothing that nobody waited for."""
    ours = logging.getLogger("orders")
    before, ours.propagate = ours.propagate, True
    caplog.set_level(logging.DEBUG, logger="orders.cloud_sql")
    everything = Everything()
    heard = (logging.getLogger(), logging.getLogger("google"))  # which keeps to itself
    for logger in heard:
        caplog.set_level(logging.DEBUG, logger=logger.name)
        logger.addHandler(everything)
    yield
    gc.collect()
    ours.propagate = before
    for logger in heard:
        logger.removeHandler(everything)
    key = json.loads(Path(instance.key_file).read_text())["private_key"]
    said = "\n".join(everything.said)
    assert "/token" in said
    for secret in (PASSWORD, key[100:140], *instance.api.known.tokens):
        assert secret not in said
    assert everything.failures == []


def reason(caplog: pytest.LogCaptureFixture, engine: Engine) -> str:
    """Answer what is logged when a connection is wanted that cannot be had."""
    caplog.clear()
    with pytest.raises(DatabaseUnavailableError):
        ping(engine)
    lines = [r for r in caplog.records if r.name == "orders.cloud_sql"]
    [line] = lines
    assert line.getMessage() == "Cloud SQL cannot be reached"
    told: str = line.__dict__["fields"]["reason"]
    return told
