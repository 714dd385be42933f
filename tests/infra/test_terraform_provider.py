"""The stand-in provider: Terraform checks against the real provider's schema."""

from pathlib import Path

import pytest

from infra.terraform_checks.terraform import Done, Terraform

CONFIGURATION = """
terraform {
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }
}

provider "google" {
  project = "toys"
}

data "google_project" "toys" {}

resource "google_pubsub_topic" "toys" {
  name   = "toys"
  labels = { of = data.google_project.toys.number }
}

resource "google_pubsub_subscription" "toys" {
  name                 = "toys"
  topic                = google_pubsub_topic.toys.id
  ack_deadline_seconds = 60

  push_config {
    push_endpoint = "https://toys.example"

    no_wrapper {
      write_metadata = true
    }
  }
}

resource "google_monitoring_alert_policy" "toys" {
  display_name          = "toys"
  combiner              = "OR"
  notification_channels = ["toys"]

  conditions {
    display_name = "toys"
  }
}
"""
RULE = """
mock_provider "google" {}

run "rules" {
  command = apply

  assert {
    condition     = google_pubsub_subscription.toys.topic == google_pubsub_topic.toys.id
    error_message = "The subscription is on the topic."
  }
  assert {
    condition     = google_pubsub_subscription.toys.ack_deadline_seconds >= 90
    error_message = "A push has a minute and a half."
  }
}
"""


def validated(terraform: Terraform, folder: Path, text: str) -> Done:
    (folder / "main.tf").write_text(text)
    started = terraform.run(folder, "init", "-backend=false", "-no-color")
    assert started.status == 0, started.output
    return terraform.run(folder, "validate", "-no-color")


def changed(old: str, new: str) -> str:
    assert CONFIGURATION.count(old) == 1
    return CONFIGURATION.replace(old, new)


def test_what_is_right_is_valid(terraform: Terraform, tmp_path: Path) -> None:
    done = validated(terraform, tmp_path, CONFIGURATION)
    assert done.status == 0, done.output


MISTAKES = {
    "an attribute misspelt": (
        ("ack_deadline_seconds", "ack_dedline_seconds"),
        'Did you mean "ack_deadline_seconds"?',
    ),
    "a block misspelt": (
        ("push_config {", "push_confg {"),
        'Did you mean "push_config"?',
    ),
    "a type unknown": (
        ('"google_pubsub_topic"', '"google_pubsub_topics"'),
        "The provider hashicorp/google does not support resource type",
    ),
    "a required attribute missing": (
        ("      write_metadata = true\n", ""),
        'The argument "write_metadata" is required',
    ),
    "a required block missing": (
        ('  conditions {\n    display_name = "toys"\n  }\n', ""),
        'At least 1 "conditions" blocks are required',
    ),
    "a number that is none": (
        ("ack_deadline_seconds = 60", 'ack_deadline_seconds = "a minute"'),
        "a number is required",
    ),
    "a truth that is none": (
        ("write_metadata = true", 'write_metadata = "perhaps"'),
        "a bool is required",
    ),
    "a list of something else": (
        ('["toys"]', '"toys"'),
        "list of string required",
    ),
    "a map that is none": (
        ("{ of = data.google_project.toys.number }", '"toys"'),
        "map of string required",
    ),
    "a single block repeated": (
        (
            "    no_wrapper {",
            "    no_wrapper {\n write_metadata = true\n}\n no_wrapper {",
        ),
        'No more than 1 "no_wrapper" blocks are allowed',
    ),
    "a computed attribute set": (
        ("  ack_deadline_seconds", "  terraform_labels = {}\n  ack_deadline_seconds"),
        "terraform_labels",
    ),
    "an attribute read that is none": (
        ("google_pubsub_topic.toys.id", "google_pubsub_topic.toys.number"),
        "This object has no argument, nested block, or exported attribute named",
    ),
    "a setting of the provider misspelt": (
        ('  project = "toys"', '  projekt = "toys"'),
        'Did you mean "project"?',
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_validate_refuses(terraform: Terraform, tmp_path: Path, mistake: str) -> None:
    change, said = MISTAKES[mistake]
    done = validated(terraform, tmp_path, changed(*change))
    assert done.status != 0
    assert said in " ".join(done.output.split())  # lines are folded


def test_rules_are_judged_on_mocked_resources(
    terraform: Terraform, tmp_path: Path
) -> None:
    assert validated(terraform, tmp_path, CONFIGURATION).status == 0
    (tmp_path / "rules.tftest.hcl").write_text(RULE)
    done = terraform.run(tmp_path, "test", "-no-color")
    assert done.status != 0
    assert "A push has a minute and a half." in done.output
    assert "The subscription is on the topic." not in done.output
