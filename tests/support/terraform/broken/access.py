"""Copies that break rules, of who may do what."""

NO_BUS = "has_bus       = false"
READS_PUBLISHER = 'role   = "roles/pubsub.publisher"\n  member = each.value'
INVOKES = 'role     = "roles/run.invoker"\n  member   = each.value.member'
BROKEN = {
    "Every function, worker and job runs as an account of its own.": [
        (
            "functions.tf",
            "= google_service_account.function[each.key].email",
            '= google_service_account.function["orders_crud"].email',
        ),
        (
            "workers.tf",
            "= google_service_account.worker[each.key].email",
            '= google_service_account.function["outbox_relay"].email',
        ),
        (
            "migration.tf",
            "service_account = google_service_account.migrations.email",
            "service_account = google_service_account.build.email",
        ),
    ],
    "Every account has the roles that it uses, and no other.": [
        ("functions.tf", NO_BUS, NO_BUS.replace("false", "true")),
        (
            "access.tf",
            READS_PUBLISHER,
            READS_PUBLISHER.replace("publisher", "editor"),
        ),
        (
            "access.tf",
            '["roles/cloudsql.client", "roles/cloudsql.instanceUser"]',
            '["roles/cloudsql.client"]',
        ),
        (
            "access.tf",
            'function = "outbox_relay", member = google_service_account.scheduler',
            'function = "orders_crud", member = google_service_account.scheduler',
        ),
        ("access.tf", '"roles/secretmanager.secretAccessor"', '"roles/owner"'),
        ("foundation.tf", '"roles/storage.objectViewer"', '"roles/storage.admin"'),
        (
            "foundation.tf",
            '"roles/artifactregistry.writer"',
            '"roles/artifactregistry.admin"',
        ),
    ],
    "Nobody edits or owns the project: what can be granted on one thing is not granted"
    " on all.": [
        (
            "access.tf",
            'role    = "roles/cloudsql.client"',
            'role    = "roles/editor"',
        ),
        ("foundation.tf", '"roles/logging.logWriter"', '"roles/owner"'),
        ("access.tf", '"roles/cloudsql.instanceUser"', '"roles/cloudsql.admin"'),
    ],
    "The gateway may invoke what users call, the shop item_status, and nobody else"
    " anything.": [
        (
            "access.tf",
            'for name in ["api_docs", "create_order_from_cart", "orders_crud"]',
            "for name in keys(local.functions)",
        ),
    ],
    "Nothing is granted to everybody.": [
        ("access.tf", INVOKES, INVOKES.replace("each.value.member", '"allUsers"')),
        (
            "access.tf",
            READS_PUBLISHER,
            READS_PUBLISHER.replace("each.value", '"allAuthenticatedUsers"'),
        ),
    ],
    "Every service asks who calls.": [
        (
            "functions.tf",
            "invoker_iam_disabled = false",
            "invoker_iam_disabled = true",
        ),
    ],
    "No secret stands in the plain environment.": [
        (
            "functions.tf",
            "{ EVENT_BUS = var.event_bus }",
            '{ EVENT_BUS = var.event_bus, RABBITMQ_PASS = "hare" }',
        ),
        (
            "functions.tf",
            "{ EVENT_BUS = var.event_bus }",
            '{ EVENT_BUS = var.event_bus, EVENT_SINK = "https://orders:hare@sink" }',
        ),
        (
            "migration.tf",
            'CLOUD_SQL_IAM_AUTH = "false"',
            'CLOUD_SQL_IAM_AUTH = "false", PGPASSWORD = "hare"',
        ),
    ],
    "Every secret that a process needs comes from Secret Manager.": [
        ("functions.tf", '? { RABBITMQ_PASS = "rabbitmq-password" } : {}', "? {} : {}"),
        (
            "functions.tf",
            '? { GATEWAY_JWT_SECRET = "gateway-jwt-secret" } : {}',
            "? {} : {}",
        ),
    ],
}
