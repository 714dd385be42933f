"""Rules on what is not asked for: each fails on a copy that breaks it."""

from pathlib import Path

import pytest

from infra.terraform_checks.terraform import Terraform
from tests.support.terraform_rules import cases, copied, failed, rules

TOPIC = "choices"
BROKEN = {
    "Workers are off unless an environment asks for them.": [
        ("workers.tf", "if worker.instances > 0", "if worker.instances >= 0"),
    ],
    "The database refuses to be destroyed unless an environment says otherwise.": [
        (
            "variables_sizing.tf",
            "type        = bool\n  default     = true",
            "type        = bool\n  default     = false",
        ),
    ],
    "Where event_bus does not name Pub/Sub, there is nothing of it.": [
        (
            "events.tf",
            '= local.has_pubsub ? 1 : 0\n\n  name = "order-events-dead-letters"',
            '= 1\n\n  name = "order-events-dead-letters"',
        ),
    ],
}


@pytest.mark.parametrize(("rule", "change"), cases(BROKEN))
def test_a_broken_copy_fails_by_its_rule(
    terraform: Terraform, tmp_path: Path, rule: str, change: tuple[str, str, str]
) -> None:
    assert rule in failed(terraform, copied(tmp_path, change), TOPIC)


def test_every_rule_has_a_broken_copy() -> None:
    assert sorted(BROKEN) == sorted(rules(TOPIC))
