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
          for queried in each.condition_prometheus_query_language :
          startswith(queried.query, "absent_over_time(logging_googleapis_com:user_orders_oldest_event_seconds_count{") && queried.disable_metric_validation
        ]
      ]
    ]))
    error_message = "Somebody is called when the relay says nothing any more, or has never said anything."
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
    condition = alltrue([
      for policy in google_monitoring_alert_policy.alert : policy.combiner == "AND_WITH_MATCHING_RESOURCE" && anytrue(flatten([
        for each in policy.conditions : [
          for above in each.condition_threshold :
          strcontains(above.filter, "run.googleapis.com/request_count") && above.denominator_filter == null && above.threshold_value >= 4
        ]
      ]))
      if anytrue(flatten([
        for each in policy.conditions : [
          for above in each.condition_threshold :
          above.denominator_filter != null || above.aggregations[0].cross_series_reducer == "REDUCE_PERCENTILE_95"
        ]
      ]))
    ])
    error_message = "A share of a few requests calls nobody: there must be enough of them, too, in the same service."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold :
          strcontains(above.filter, "request_count") && strcontains(above.filter, "response_code = \"429\"") && above.threshold_value == 0
        ]
      ]
    ]))
    error_message = "Somebody is called when Google turns requests away because no instance is free."
  }

  assert {
    condition = alltrue([
      for service in ["create_order_from_cart", "orders_crud", "item_status", "approval_handler"] : anytrue(flatten([
        for policy in google_monitoring_alert_policy.alert : [
          for each in policy.conditions : [
            for above in each.condition_threshold :
            strcontains(above.filter, "instance_count") && strcontains(above.filter, "\"${replace(service, "_", "-")}\"")
            && above.threshold_value == google_cloud_run_v2_service.function[service].template[0].scaling[0].max_instance_count - 1
          ]
        ]
      ]))
    ])
    error_message = "Somebody is called when a function has run at its most instances for long."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold : strcontains(above.filter, "disk/utilization") && above.threshold_value < 1
        ]
      ]
    ]))
    error_message = "Somebody is called before the database's disk is full."
  }

  assert {
    condition = alltrue([
      for job in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : anytrue(flatten([
        for policy in google_monitoring_alert_policy.alert : [
          for each in policy.conditions : [
            for above in each.condition_threshold :
            strcontains(above.filter, "completed_execution_count") && strcontains(above.filter, "result = \"failed\"")
            && strcontains(above.filter, "\"${job.name}\"") && above.threshold_value == 0
          ]
        ]
      ]))
    ])
    error_message = "Somebody is called when a job has failed."
  }

  assert {
    condition = alltrue([
      for metric in ["user/orders/oldest_snapshot_seconds", "oldest_transaction_age"] : anytrue(flatten([
        for policy in google_monitoring_alert_policy.alert : [
          for each in policy.conditions : [
            for above in each.condition_threshold : strcontains(above.filter, metric)
          ]
        ]
      ]))
    ])
    error_message = "Somebody is called when a transaction is open for too long, also while no relay runs."
  }

  assert {
    condition = anytrue(flatten([
      for policy in google_monitoring_alert_policy.alert : [
        for each in policy.conditions : [
          for above in each.condition_threshold :
          strcontains(above.filter, "num_backends")
          && above.threshold_value < output.connection_budget.most && above.threshold_value > output.connection_budget.most / 2
        ]
      ]
    ]))
    error_message = "Somebody is called before all connections are taken that the plan allows, and not for what instances take without a deployment."
  }

  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.alert : length(policy.conditions) <= 6])
    error_message = "An alert has no more conditions than Google takes."
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
      length(policy.notification_channels) == length(var.alert_emails)
    ])
    error_message = "Every alert reaches everybody it should."
  }

  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.alert : length(policy.documentation[0].content) > 0])
    error_message = "Every alert says what to do."
  }
}
