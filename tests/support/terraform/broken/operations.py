"""Copies that break rules, of clocks and alerts."""

BROKEN = {
    "The relay, which sweeps for approvals too, is called each minute.": [
        ("schedules.tf", '"* * * * *"', '"0 * * * *"'),
        ("schedules.tf", '"POST"', '"GET"'),
        (
            "schedules.tf",
            '.function["outbox_relay"].uri}/"',
            '.function["api_docs"].uri}/"',
        ),
    ],
    "The scheduler proves by a token of its own account who it is.": [
        (
            "schedules.tf",
            "= google_service_account.scheduler.email",
            "= google_service_account.build.email",
        ),
    ],
    "The scheduler waits for as long as the relay may take.": [
        ("schedules.tf", "timeout_seconds}s", "timeout_seconds - 10}s"),
    ],
    "Somebody is called when an event is owed for more than ten minutes.": [
        (
            "alerts.tf",
            "local.signal_filters.oldest_event_seconds\n          threshold",
            "local.signal_filters.approved_by_sweep\n          threshold",
        ),
        (
            "variables_sizing.tf",
            "oldest_event_seconds = optional(number, 300)",
            "oldest_event_seconds = optional(number, 3000)",
        ),
    ],
    "Somebody is called when the relay says nothing any more.": [
        ("alerts.tf", "is_absent = true", "is_absent = false\n threshold = 1"),
    ],
    "Somebody is called when there is a dead letter.": [
        (
            "alerts.tf",
            "local.signal_filters.open_dead_letters",
            "local.signal_filters.approved_by_sweep",
        ),
    ],
    "Somebody is called when Pub/Sub's dead letters cannot be kept.": [
        (
            "alerts.tf",
            "for subscription in google_pubsub_subscription.dead_letters",
            "for subscription in google_pubsub_subscription.approvals",
        ),
    ],
    "Somebody is called when too large a share of answers is 5xx.": [
        ("alerts.tf", 'class = \\"5xx\\"', 'class = \\"4xx\\"'),
        ("alerts.tf", "denominator = local.requests", "denominator = local.latencies"),
    ],
    "Somebody is called when one request in twenty is slow.": [
        ("alerts.tf", "REDUCE_PERCENTILE_95", "REDUCE_PERCENTILE_50"),
    ],
    "Somebody is called when approvals lag more than ten minutes.": [
        (
            "alerts.tf",
            "local.signal_filters.oldest_unapproved_seconds",
            "local.signal_filters.approved_by_sweep",
        ),
    ],
    "Every alert reaches everybody it should, in production somebody.": [
        (
            "alerts.tf",
            "google_monitoring_notification_channel.email : channel.id]",
            "google_monitoring_notification_channel.email : channel.id if false]",
        ),
        ("environments/production.tfvars", '["oncall@example.com"]', "[]"),
    ],
    "Every alert says what to do.": [
        ("alerts.tf", "content   = each.value.advice", 'content   = ""'),
    ],
}
