"""Each rule of the configuration fails on a copy that breaks it, and has one."""

import importlib
import re
from pathlib import Path

import pytest

from tests.support.terraform.rules import CONFIGURATION, copied, failed, rules
from tests.support.terraform.terraform import Terraform

TOPICS = sorted(
    path.name.removesuffix(".tftest.hcl")
    for path in (CONFIGURATION / "tests").glob("*.tftest.hcl")
)
BROKEN = {
    topic: importlib.import_module(f"tests.support.terraform.broken.{topic}").BROKEN
    for topic in TOPICS
}
COPIES = [
    pytest.param(topic, rule, change, id=f"{topic}-{rule[:60]}-{number}")
    for topic, broken in BROKEN.items()
    for rule, changes in broken.items()
    for number, change in enumerate(changes, 1)
]


@pytest.mark.parametrize(("topic", "rule", "change"), COPIES)
def test_a_broken_copy_fails_by_its_rule(
    terraform: Terraform,
    tmp_path: Path,
    topic: str,
    rule: str,
    change: tuple[str, str, str],
) -> None:
    assert rule in failed(terraform, copied(tmp_path, change), topic)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_rule_has_a_broken_copy(topic: str) -> None:
    assert sorted(BROKEN[topic]) == sorted(rules(topic))


def test_an_environment_that_asks_for_too_many_connections_is_told_how_many(
    terraform: Terraform, tmp_path: Path
) -> None:
    change = (
        "environments/production.tfvars",
        "max_connections = 500",
        "max_connections = 400",
    )
    said = failed(terraform, copied(tmp_path, change), "capacity")
    assert any(
        re.match(r"Functions and workers may take \d+ connections, .* 350:", each)
        for each in said
    )
