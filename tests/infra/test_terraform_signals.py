"""What alerts and dashboard look for is what the code really writes and offers."""

import re
import shlex
from pathlib import Path

import pytest

from common.domain import events
from common.operations import lag
from common.operations.lag import Signals
from infra import orderctl

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "infra" / "terraform"
ALERTS = (TERRAFORM / "alerts.tf").read_text(encoding="utf-8")
LOGS = (TERRAFORM / "logs.tf").read_text(encoding="utf-8")
ADVISING = [TERRAFORM / "alerts.tf", ROOT / "docs" / "rollout.md"]


def followed() -> list[str]:
    """Return the fields that become metrics."""
    found = re.search(r"^  signals = \{\n(.*?)^  \}", LOGS, re.MULTILINE | re.DOTALL)
    assert found
    return re.findall(r"^    (\w+) += \{", found[1], re.MULTILINE)


def test_every_metric_is_a_number_of_the_line_that_the_relay_writes() -> None:
    numbers = [name for name, kind in Signals.__annotations__.items() if kind is int]
    assert sorted(followed()) == sorted(numbers)


def test_the_line_is_found_by_the_name_of_its_logger_and_by_its_message() -> None:
    assert f'jsonPayload.logger = \\"{lag.log.name}\\"' in LOGS
    assert f'jsonPayload.message = \\"{lag.MESSAGE}\\"' in LOGS
    assert 'value_extractor = "EXTRACT(jsonPayload.${each.key})"' in LOGS


def test_alerts_use_no_signal_that_there_is_none_of() -> None:
    used = set(re.findall(r"local\.signal_filters\.(\w+)", ALERTS))
    assert used
    assert used <= set(followed())
    queried = re.findall(r"user_orders_(\w+)_count", ALERTS)
    assert queried
    assert set(queried) <= set(followed())


def test_the_push_subscription_asks_for_the_event_that_may_complete_an_order() -> None:
    text = (TERRAFORM / "events.tf").read_text(encoding="utf-8")
    assert f'attributes.event_type = \\"{events.STATUS_UPDATED}\\"' in text


@pytest.mark.parametrize("script", ["approval_handler", "outbox_relay"])
def test_a_worker_pool_runs_a_script_that_is_there(script: str) -> None:
    path = f"functions/{script}/worker.py"
    assert f'"{path}"' in (TERRAFORM / "workers.tf").read_text(encoding="utf-8")
    assert (ROOT / path).exists()


def advised() -> list[str]:
    """Return every command of ours that somebody is told to run."""
    said = "\n".join(path.read_text(encoding="utf-8") for path in ADVISING)
    jobs = re.findall(r"execute orderctl --wait --args=(\S+)", said)
    found = re.findall(r"`orderctl ([^`\n]+)`", said)
    return sorted({*found, *(each.replace(",", " ") for each in jobs)})


@pytest.mark.parametrize("command", advised())
def test_a_command_that_an_operator_is_told_to_run_is_one(command: str) -> None:
    words = shlex.split(re.sub(r"\bID\b", "1", command))
    assert orderctl._parser().parse_args(words).run
