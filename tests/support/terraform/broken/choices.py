"""Copies that break rules, of what is not asked for."""

BROKEN = {
    "Workers are off unless an environment asks for them.": [
        ("workers.tf", "if worker.instances > 0", "if worker.instances >= 0"),
    ],
    "The database refuses to be destroyed unless an environment says otherwise.": [
        (
            "variables_sizing.tf",
            "type        = bool\n  default     = true",
            "type        = bool\n  default     = false",
        ),
    ],
    "Where event_bus does not name Pub/Sub, there is nothing of it.": [
        (
            "events.tf",
            '= local.has_pubsub ? 1 : 0\n\n  name = "order-events-dead-letters"',
            '= 1\n\n  name = "order-events-dead-letters"',
        ),
    ],
}
