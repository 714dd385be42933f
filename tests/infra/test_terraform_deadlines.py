"""What waits for analytics is allowed to wait for as long as analytics may take."""

import re
from pathlib import Path

from common.messaging.outbox import CLAIM_SECONDS
from common.messaging.relay import (
    ANALYTICS_TIMEOUT_SECONDS,
    RECORD_TIMEOUT_SECONDS,
    SWEEP_TIMEOUT_SECONDS,
)
from common.publishing.http import AnalyticsPublisher

ROOT = Path(__file__).parents[2]


def constant(name: str) -> float:
    """Return a number of the relay's function, which starts when it is imported."""
    text = (ROOT / "functions" / "outbox_relay" / "main.py").read_text()
    found = re.search(rf"^{name} = ([\d.]+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def timeout_of_relay() -> int:
    """Return how long Cloud Run lets a call of the relay take."""
    text = (ROOT / "infra" / "terraform" / "functions.tf").read_text()
    part = re.search(
        r"^    outbox_relay = \{\n(.*?)^    \}", text, re.MULTILINE | re.DOTALL
    )
    assert part
    found = re.search(r"^ +timeout_seconds = (\d+)$", part[1], re.MULTILINE)
    assert found
    return int(found[1])


def test_a_claim_outlasts_a_call_of_analytics_and_the_record_of_its_result() -> None:
    longest = AnalyticsPublisher.longest_seconds
    assert SWEEP_TIMEOUT_SECONDS + longest + RECORD_TIMEOUT_SECONDS < CLAIM_SECONDS


def test_a_sweep_waits_for_the_slowest_call_of_analytics() -> None:
    assert AnalyticsPublisher.longest_seconds + RECORD_TIMEOUT_SECONDS < (
        ANALYTICS_TIMEOUT_SECONDS
    )


def test_cloud_run_lets_the_relay_wait_for_analytics() -> None:
    longest = constant("APPROVE_SECONDS") + constant("SWEEP_SECONDS")
    assert longest + ANALYTICS_TIMEOUT_SECONDS < timeout_of_relay()
