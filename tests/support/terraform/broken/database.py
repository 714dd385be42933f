"""Copies that break rules, of Cloud SQL."""

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
