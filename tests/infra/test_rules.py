"""Each rule of the configuration fails on a copy that breaks it, and has one.

`broken*.txt` have them, in the form that `mutants.parsed` reads.
"""

import re
from pathlib import Path

import pytest

from tests.support.mutants import Change, parsed
from tests.support.terraform.rules import CONFIGURATION, copied, failed, rules
from tests.support.terraform.terraform import Terraform

TOPICS = sorted(
    path.name.removesuffix(".tftest.hcl")
    for path in (CONFIGURATION / "tests").glob("*.tftest.hcl")
)


def broken() -> dict[str, dict[str, list[Change]]]:
    """Return the changes that break each rule of each topic."""
    files = sorted(Path(__file__).parent.glob("broken*.txt"))
    return parsed("\n".join(path.read_text(encoding="utf-8") for path in files))


BROKEN = broken()
COPIES = [
    pytest.param(topic, rule, change, id=f"{topic}-{rule[:60]}-{number}")
    for topic, rules_ in BROKEN.items()
    for rule, changes in rules_.items()
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
    assert all(BROKEN[topic].values())


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
