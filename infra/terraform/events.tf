# Pub/Sub: the topic, the push of status changes to the approval handler, and its dead
# letters. Only if event_bus names pubsub.

locals {
  buses        = split(",", var.event_bus)
  has_pubsub   = contains(local.buses, "pubsub")
  has_rabbitmq = contains(local.buses, "rabbitmq")

  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  # The most that Pub/Sub keeps: a month to find out why even dead letters are refused.
  longest_retention = "2678400s"
}

resource "google_pubsub_topic" "order_events" {
  count = local.has_pubsub ? 1 : 0

  name = "order-events"

  depends_on = [google_project_service.enabled]
}

resource "google_pubsub_topic" "dead_letters" {
  count = local.has_pubsub ? 1 : 0

  name = "order-events-dead-letters"

  depends_on = [google_project_service.enabled]
}

# Pushes are made in this account's name, and it may do nothing else.
resource "google_service_account" "push" {
  count = local.has_pubsub ? 1 : 0

  account_id   = "order-events-push"
  display_name = "Pub/Sub, calling the approval handler"

  depends_on = [google_project_service.enabled]
}

resource "google_pubsub_subscription" "approvals" {
  count = local.has_pubsub ? 1 : 0

  name                       = "order-approvals"
  topic                      = google_pubsub_topic.order_events[0].id
  filter                     = "attributes.event_type = \"order.item.status.updated\""
  enable_message_ordering    = true
  message_retention_duration = "604800s"

  # For a push this is the handler's deadline: a later response does not count.
  ack_deadline_seconds = local.functions.approval_handler.timeout_seconds + 10

  push_config {
    push_endpoint = "${google_cloud_run_v2_service.function["approval_handler"].uri}/"

    oidc_token {
      service_account_email = google_service_account.push[0].email
      audience              = google_cloud_run_v2_service.function["approval_handler"].uri
    }

    # The body is the event itself, and its attributes are headers.
    no_wrapper {
      write_metadata = true
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # With these pauses about sixteen hours: an outage of ours is no fault of a message's.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters[0].id
    max_delivery_attempts = 100
  }

  # Never, however long nothing happens.
  expiration_policy {
    ttl = ""
  }
}

# Dead letters go to our own table (`orderctl dead-letters`), wrapped: an attribute that
# cannot be a header may be why one is dead. There is nothing behind this one: it tries
# for a month.
resource "google_pubsub_subscription" "dead_letters" {
  count = local.has_pubsub ? 1 : 0

  name                       = "order-events-dead-letters"
  topic                      = google_pubsub_topic.dead_letters[0].id
  message_retention_duration = local.longest_retention
  ack_deadline_seconds       = local.functions.approval_handler.timeout_seconds + 10

  push_config {
    push_endpoint = "${google_cloud_run_v2_service.function["approval_handler"].uri}/dead-letters/"

    oidc_token {
      service_account_email = google_service_account.push[0].email
      audience              = google_cloud_run_v2_service.function["approval_handler"].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub itself moves a message over: it publishes there and acknowledges here.
resource "google_pubsub_topic_iam_member" "agent_buries" {
  count = local.has_pubsub ? 1 : 0

  topic  = google_pubsub_topic.dead_letters[0].name
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "agent_acknowledges" {
  count = local.has_pubsub ? 1 : 0

  subscription = google_pubsub_subscription.approvals[0].name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
