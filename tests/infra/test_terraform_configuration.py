"""The configuration itself: formatted, valid, true to the rules in each environment."""

import re
from pathlib import Path

import pytest

from tests.support.terraform.__main__ import environments, run
from tests.support.terraform.derive_schema import (
    formatted,
    reduced,
    schema_of,
    types_in,
)
from tests.support.terraform.provider import SCHEMA
from tests.support.terraform.rules import CONFIGURATION, failed
from tests.support.terraform.terraform import Terraform

ROOT = Path(__file__).parents[2]
TOPICS = sorted((CONFIGURATION / "tests").glob("*.tftest.hcl"))
RULES = "".join(path.read_text(encoding="utf-8") for path in TOPICS)
# Rules speak of all there are of these, so each must be named in one.
GUARDED = re.compile(
    r"google_(cloud_run_v2_(service|worker_pool|job)|cloud_scheduler_job|\w+_iam_\w+"
    r"|monitoring_alert_policy|pubsub_(topic|subscription)|service_account"
    r"|sql_(database_instance|user))"
)


@pytest.mark.parametrize("step", ["fmt", "validate"])
def test_it_is_formatted_and_valid(terraform: Terraform, step: str) -> None:
    (outcome,) = run(terraform, CONFIGURATION, [step])
    assert outcome.ok, outcome.output


@pytest.mark.parametrize("environment", [path.stem for path in environments()])
def test_every_rule_holds(terraform: Terraform, environment: str) -> None:
    assert failed(terraform, CONFIGURATION, "*", environment) == []


def test_every_resource_that_rules_speak_of_is_named_in_one() -> None:
    text = "".join(path.read_text("utf-8") for path in CONFIGURATION.glob("*.tf"))
    declared = re.findall(r'^resource "(\w+)" "(\w+)"', text, re.MULTILINE)
    guarded = {f"{kind}.{name}" for kind, name in declared if GUARDED.fullmatch(kind)}
    assert guarded
    assert {each for each in guarded if not re.search(rf"\b{each}\b", RULES)} == set()


def test_every_grant_adds_to_what_others_have_granted() -> None:
    # A binding or a policy would take away what is granted elsewhere.
    kinds = {name for _, name in types_in(CONFIGURATION)}
    assert not {each for each in kinds if re.search("_iam_(binding|policy)$", each)}


def test_every_kind_of_resource_is_mocked() -> None:
    mocks = CONFIGURATION / "tests" / "mocks" / "google.tfmock.hcl"
    text = mocks.read_text("utf-8")
    mocked = re.findall(r'^mock_(resource|data) "(\w+)"', text, re.MULTILINE)
    assert set(mocked) == types_in(CONFIGURATION)


def test_the_schema_that_is_served_is_the_one_that_terraform_reads(
    terraform: Terraform,
) -> None:
    """What writes the schema's file, asked of the stand-in, writes the same."""
    text = SCHEMA.read_text("utf-8")
    assert formatted(reduced(schema_of(terraform))) + "\n" == text


def test_every_function_is_deployed() -> None:
    text = (CONFIGURATION / "tests" / "deployment.auto.tfvars").read_text("utf-8")
    named = re.findall(r'^  (\w+) += "\1/', text, re.MULTILINE)
    functions = sorted(each.parent.name for each in ROOT.glob("functions/*/main.py"))
    assert sorted(named) == functions
