"""Rules on what may run at a time: each fails on a copy that breaks it."""

import re
from pathlib import Path

import pytest

from infra.terraform_checks.terraform import Terraform
from tests.support.terraform_rules import cases, copied, failed, rules

TOPIC = "capacity"
BROKEN = {
    "THREADS, which is also the size of a pool, is the number of requests that an"
    " instance takes at a time.": [
        (
            "functions.tf",
            "{ THREADS = tostring(function.threads) }",
            "{ THREADS = tostring(function.threads + 1) }",
        ),
    ],
    "An instance has one CPU: one process of Python is slower on two.": [
        (
            "functions.tf",
            '{ cpu = "1", memory = each.value.memory }',
            '{ cpu = "2", memory = each.value.memory }',
        ),
    ],
    "All instances of functions and workers, twice, with their pools, fit"
    " max_connections without its reserve.": [
        (
            "database.tf",
            "value = tostring(var.database.max_connections)",
            "value = tostring(var.database.max_connections - 100)",
        ),
        (
            "functions.tf",
            "max_instance_count = each.value.max_instances",
            "max_instance_count = each.value.max_instances + 2",
        ),
        (
            "workers.tf",
            "manual_instance_count = each.value.instances",
            "manual_instance_count = each.value.instances + 2",
        ),
    ],
    "Migrations and operators, a process each, fit the reserve of max_connections.": [
        ("migration.tf", 'THREADS            = "2"', 'THREADS            = "80"'),
        (
            "operations.tf",
            "  template {\n    template {",
            "  template {\n    task_count = 20\n    template {",
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


def test_an_environment_that_asks_for_too_many_connections_is_told_how_many(
    terraform: Terraform, tmp_path: Path
) -> None:
    change = (
        "environments/production.tfvars",
        "max_connections = 500",
        "max_connections = 400",
    )
    said = failed(terraform, copied(tmp_path, change), TOPIC)
    assert any(
        re.match(r"Functions and workers may take \d+ connections, .* 350:", each)
        for each in said
    )
