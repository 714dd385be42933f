# The operations console: off unless it is asked for, and then behind identity-aware access.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "without" {
  command = plan

  assert {
    condition     = !contains(keys(google_cloud_run_v2_service.function), "ops_console") && length(google_iap_web_cloud_run_service_iam_member.operator) == 0
    error_message = "There is no console unless an environment asks for one."
  }
}

run "console" {
  command = plan

  variables {
    event_bus     = "rabbitmq,pubsub"
    ops_console   = true
    ops_operators = ["olga@example.com"]
    ops_viewers   = ["vera@example.com"]
  }

  assert {
    condition     = google_cloud_run_v2_service.function["ops_console"].iap_enabled
    error_message = "The console stands behind identity-aware access."
  }

  assert {
    condition = alltrue([
      for name, service in google_cloud_run_v2_service.function : name == "ops_console" || !service.iap_enabled
    ])
    error_message = "No other service asks people for their account."
  }

  assert {
    condition = jsonencode({
      for each in google_cloud_run_v2_service.function["ops_console"].template[0].containers[0].env : each.name => each.value
      if startswith(each.name, "OPS_")
      }) == jsonencode({
      OPS_IAP_AUDIENCE = "/projects/${data.google_project.this.number}/locations/europe-west1/services/ops-console"
      OPS_IDENTITY     = "iap"
      OPS_OPERATORS    = "olga@example.com"
      OPS_VIEWERS      = "vera@example.com"
    })
    error_message = "The console verifies itself who is there, and knows who may act."
  }

  assert {
    condition = jsonencode(sort([
      for each in google_iap_web_cloud_run_service_iam_member.operator : "${each.role} ${each.member} ${each.cloud_run_service_name}"
      ])) == jsonencode([
      "roles/iap.httpsResourceAccessor user:olga@example.com ops-console",
      "roles/iap.httpsResourceAccessor user:vera@example.com ops-console",
    ])
    error_message = "Those who are named may come in, and nobody else."
  }

  assert {
    condition = jsonencode([
      for each in google_cloud_run_v2_service_iam_member.invoker : "${each.role} ${each.member}" if each.name == "ops-console"
    ]) == jsonencode(["roles/run.invoker serviceAccount:service-${data.google_project.this.number}@gcp-sa-iap.iam.gserviceaccount.com"])
    error_message = "Only identity-aware access may invoke the console."
  }

  assert {
    condition = length([
      for each in google_pubsub_topic_iam_member.publisher : each if each.member == google_service_account.function["ops_console"].member
    ]) == 0
    error_message = "The console publishes nothing itself."
  }
}
