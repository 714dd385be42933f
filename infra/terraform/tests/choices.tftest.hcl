# What holds where an environment does not ask for it.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "by_default" {
  command = plan

  variables {
    relay_worker_instances    = null
    approval_worker_instances = null
    deletion_protection       = null
  }

  assert {
    condition     = alltrue([for pool in google_cloud_run_v2_worker_pool.worker : pool.scaling[0].manual_instance_count == 0])
    error_message = "Workers are off unless an environment asks for them."
  }

  assert {
    condition     = jsonencode(sort(keys(google_cloud_run_v2_worker_pool.worker))) == jsonencode(["approval_worker", "relay_worker"])
    error_message = "A worker that is off is a pool without instances: turning it off deletes nothing."
  }

  assert {
    condition     = google_sql_database_instance.orders.deletion_protection && google_sql_database_instance.orders.settings[0].deletion_protection_enabled
    error_message = "The database refuses to be destroyed unless an environment says otherwise."
  }
}

run "without_pubsub" {
  command = plan

  variables {
    event_bus = "rabbitmq"
  }

  assert {
    condition = (
      length(google_pubsub_topic.order_events) + length(google_pubsub_topic.dead_letters)
      + length(google_pubsub_subscription.approvals) + length(google_pubsub_subscription.dead_letters)
    ) == 0
    error_message = "Where event_bus does not name Pub/Sub, there is nothing of it."
  }
}
