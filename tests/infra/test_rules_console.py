"""Rules on the operations console: each fails on a copy that breaks it."""

from pathlib import Path

import pytest

from infra.terraform_checks.terraform import Terraform
from tests.support.terraform_rules import cases, copied, failed, rules

TOPIC = "console"
BROKEN = {
    "There is no console unless an environment asks for one.": [
        ("functions.tf", 'if name != "ops_console" || var.ops_console', "if true"),
    ],
    "The console stands behind identity-aware access.": [
        ("functions.tf", "= each.value.has_iap", "= false"),
    ],
    "No other service asks people for their account.": [
        ("functions.tf", "= each.value.has_iap", "= true"),
    ],
    "The console verifies itself who is there, and knows who may act.": [
        ("functions.tf", "function.has_iap ? local.settings_of_console : {}", "{}"),
        ("console.tf", '= "iap"', '= "header"'),
        ("console.tf", "services/ops-console", "services/orders-crud"),
        ("console.tf", 'join(",", var.ops_viewers)', 'join(",", var.ops_operators)'),
    ],
    "Those who are named may come in, and nobody else.": [
        ("console.tf", '"user:${each.value}"', '"allAuthenticatedUsers"'),
        ("console.tf", '"roles/iap.httpsResourceAccessor"', '"roles/iap.admin"'),
    ],
    "Only identity-aware access may invoke the console.": [
        ("access.tf", "@gcp-sa-iap.iam", "@gcp-sa-pubsub.iam"),
    ],
    "The console publishes nothing itself.": [
        ("functions.tf", "publishes     = false", "publishes     = true"),
    ],
}


@pytest.mark.parametrize(("rule", "change"), cases(BROKEN))
def test_a_broken_copy_fails_by_its_rule(
    terraform: Terraform, tmp_path: Path, rule: str, change: tuple[str, str, str]
) -> None:
    assert rule in failed(terraform, copied(tmp_path, change), TOPIC)


def test_every_rule_has_a_broken_copy() -> None:
    assert sorted(BROKEN) == sorted(rules(TOPIC))
