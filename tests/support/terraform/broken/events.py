"""Copies that break rules, of Pub/Sub."""

APPROVALS = "events.tf#google_pubsub_subscription.approvals"
DEAD_LETTERS = "events.tf#google_pubsub_subscription.dead_letters"
POLICY = """\
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters[0].id
    max_delivery_attempts = 20
  }
"""
RETRY = """\
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
"""
UNWRAPPED = """\
    no_wrapper {
      write_metadata = true
    }
"""
BROKEN = {
    "Every subscription has a dead letter topic.": [
        (APPROVALS, POLICY, ""),
        (APPROVALS, "topic.dead_letters[0].id", "topic.order_events[0].id"),
    ],
    "Every dead letter topic has a subscription: without one, dead letters are"
    " dropped.": [
        (DEAD_LETTERS, "topic.dead_letters[0].id", "topic.order_events[0].id"),
    ],
    "Pub/Sub may move a message to the dead letter topic: publish there, acknowledge"
    " here.": [
        ("events.tf", '"roles/pubsub.publisher"', '"roles/pubsub.viewer"'),
        (
            "events.tf",
            "= google_pubsub_subscription.approvals[0].name",
            "= google_pubsub_subscription.dead_letters[0].name",
        ),
    ],
    "A push is our own CloudEvent: unwrapped, with metadata.": [
        (APPROVALS, UNWRAPPED, ""),
        (APPROVALS, "write_metadata = true", "write_metadata = false"),
    ],
    "Dead letters are pushed wrapped, or pulled: attributes that cannot be headers may"
    " be why they are dead.": [
        (DEAD_LETTERS, '/dead-letters/"\n', f'/dead-letters/"\n{UNWRAPPED}'),
    ],
    "A push proves by a token of its own account where it comes from.": [
        (subscription, "google_service_account.push[0].email", '"somebody"')
        for subscription in (APPROVALS, DEAD_LETTERS)
    ],
    "A delivery is tried again after 10 seconds, then later and later, up to ten"
    " minutes.": [
        (APPROVALS, RETRY, ""),
        (DEAD_LETTERS, RETRY, ""),
    ],
    "An order's events arrive in their order.": [
        (APPROVALS, "ordering    = true", "ordering    = false"),
    ],
    "Only what may complete an order is delivered.": [
        (APPROVALS, "order.item.status.updated", "order.approved"),
    ],
    "A subscription never expires.": [
        (APPROVALS, 'ttl = ""', 'ttl = "2678400s"'),
        (DEAD_LETTERS, '  expiration_policy {\n    ttl = ""\n  }\n', ""),
    ],
    "The handler has at least as long to acknowledge as it may take to answer.": [
        (APPROVALS, "timeout_seconds + 10", "timeout_seconds - 10"),
        (DEAD_LETTERS, "timeout_seconds + 10", "timeout_seconds - 10"),
    ],
}
