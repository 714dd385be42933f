# What runs by the clock, and when somebody is called.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "operations" {
  command = plan

  assert {
    condition = (
      google_cloud_scheduler_job.sweep.schedule == "* * * * *"
      && google_cloud_scheduler_job.sweep.http_target[0].http_method == "POST"
      && google_cloud_scheduler_job.sweep.http_target[0].uri == "${google_cloud_run_v2_service.function["outbox_relay"].uri}/"
    )
    error_message = "The relay, which sweeps for approvals too, is called each minute."
  }

  assert {
    condition = (
      google_cloud_scheduler_job.sweep.http_target[0].oidc_token[0].service_account_email == google_service_account.scheduler.email
      && google_cloud_scheduler_job.sweep.http_target[0].oidc_token[0].audience == google_cloud_run_v2_service.function["outbox_relay"].uri
    )
    error_message = "The scheduler proves by a token of its own account who it is."
  }

  assert {
    condition = tonumber(trimsuffix(google_cloud_scheduler_job.sweep.attempt_deadline, "s")) >= tonumber(
      trimsuffix(google_cloud_run_v2_service.function["outbox_relay"].template[0].timeout, "s")
    )
    error_message = "The scheduler waits for as long as the relay may take."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold : strcontains(above.filter, "user/orders/oldest_event_seconds") && above.threshold_value <= 600
        ]
      ]
    ]))
    error_message = "Somebody is called when an event is owed for more than ten minutes."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for absent in each.condition_absent : strcontains(absent.filter, "user/orders/oldest_event_seconds")
        ]
      ]
    ]))
    error_message = "Somebody is called when the relay says nothing any more."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold : strcontains(above.filter, "user/orders/open_dead_letters") && above.threshold_value == 0
        ]
      ]
    ]))
    error_message = "Somebody is called when there is a dead letter."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.dead_letters : anytrue(flatten([
        for policy in google_monitoring_alert_policy.alert : [
          for each in policy.conditions : [
            for above in each.condition_threshold :
            strcontains(above.filter, "num_undelivered_messages") && strcontains(above.filter, "\"${subscription.name}\"")
          ]
        ]
      ]))
    ])
    error_message = "Somebody is called when Pub/Sub's dead letters cannot be kept."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold :
          strcontains(above.filter, "response_code_class = \"5xx\"") && strcontains(coalesce(above.denominator_filter, "-"), "request_count")
        ]
      ]
    ]))
    error_message = "Somebody is called when too large a share of answers is 5xx."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold :
          strcontains(above.filter, "request_latencies") && above.aggregations[0].cross_series_reducer == "REDUCE_PERCENTILE_95"
        ]
      ]
    ]))
    error_message = "Somebody is called when one request in twenty is slow."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold : strcontains(above.filter, "user/orders/oldest_unapproved_seconds") && above.threshold_value <= 600
        ]
      ]
    ]))
    error_message = "Somebody is called when approvals lag more than ten minutes."
  }

  assert {
    condition = alltrue([
      for policy in google_monitoring_alert_policy.alert :
      length(policy.notification_channels) == length(var.alert_emails) && (length(var.alert_emails) > 0 || var.environment != "production")
    ])
    error_message = "Every alert reaches everybody it should, in production somebody."
  }

  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.alert : length(policy.documentation[0].content) > 0])
    error_message = "Every alert says what to do."
  }
}
