"""Rules on Cloud SQL: each fails on a copy that breaks it."""

from pathlib import Path

import pytest

from infra.terraform_checks.terraform import Terraform
from tests.support.terraform_rules import cases, copied, failed, rules

TOPIC = "database"
BROKEN = {
    "The database is PostgreSQL 16.": [
        ("database.tf", '"POSTGRES_16"', '"POSTGRES_15"'),
    ],
    "The database has a private address only.": [
        ("database.tf", "ipv4_enabled    = false", "ipv4_enabled    = true"),
        ("database.tf", "= google_compute_network.this.id", '= "default"'),
    ],
    "The database takes encrypted connections only.": [
        (
            "database.tf",
            '"ENCRYPTED_ONLY"',
            '"ALLOW_UNENCRYPTED_AND_ENCRYPTED"',
        ),
    ],
    "Service accounts may log in without a password.": [
        ("database.tf", 'value = "on"', 'value = "off"'),
    ],
    "Functions and workers have no password to log in with.": [
        ("database.tf", '"CLOUD_IAM_SERVICE_ACCOUNT"', '"BUILT_IN"'),
    ],
    "max_connections is set, and is what the environment says.": [
        ("database.tf", 'name  = "max_connections"', 'name  = "max_connection"'),
    ],
    "The database is backed up each day.": [
        (
            "database.tf",
            "enabled                        = true",
            "enabled                        = false",
        ),
    ],
    "The database can be brought back to any moment of the last days.": [
        (
            "database.tf",
            "point_in_time_recovery_enabled = true",
            "point_in_time_recovery_enabled = false",
        ),
    ],
    "Production's database refuses to be destroyed, by Terraform and by Cloud SQL.": [
        (
            "environments/production.tfvars",
            'environment    = "production"',
            'environment    = "production"\ndeletion_protection = false',
        ),
        (
            "database.tf",
            "deletion_protection_enabled = var.deletion_protection",
            "deletion_protection_enabled = false",
        ),
    ],
    "Production's database has a standby in another zone.": [
        ("database.tf", '? "REGIONAL" : "ZONAL"', '? "ZONAL" : "REGIONAL"'),
    ],
}


@pytest.mark.parametrize(("rule", "change"), cases(BROKEN))
def test_a_broken_copy_fails_by_its_rule(
    terraform: Terraform, tmp_path: Path, rule: str, change: tuple[str, str, str]
) -> None:
    assert rule in failed(terraform, copied(tmp_path, change), TOPIC)


def test_every_rule_has_a_broken_copy() -> None:
    assert sorted(BROKEN) == sorted(rules(TOPIC))
