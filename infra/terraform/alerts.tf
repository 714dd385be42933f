# Alerts. Those on the backlog read the numbers of logs.tf; a policy has at most six
# conditions.

locals {
  of_users = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = one_of(${join(", ", [
    for function in local.functions : "\"${function.service}\"" if function.has_users
  ])})"
  of_jobs     = "resource.type = \"cloud_run_job\" AND resource.labels.job_name = one_of(\"${google_cloud_run_v2_job.migrate.name}\", \"${google_cloud_run_v2_job.orderctl.name}\")"
  of_database = "resource.type = \"cloudsql_database\" AND resource.labels.database_id = \"${var.project_id}:${var.database.instance}\""

  signal_filters = {
    for name, metric in google_logging_metric.signal :
    name => "metric.type = \"logging.googleapis.com/user/${metric.name}\" AND ${local.of_relay}"
  }
  requests  = "metric.type = \"run.googleapis.com/request_count\" AND ${local.of_users}"
  latencies = "metric.type = \"run.googleapis.com/request_latencies\" AND ${local.of_users}"

  server_errors = "${local.requests} AND metric.labels.response_code_class = \"5xx\""

  # A share of few requests says nothing, so that there must be some of them, too.
  count_of_five_minutes = { period = 300, aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", group_by = local.of_service, duration = 300 }

  # One line a minute and relay: the mean of two minutes is what they say.
  mean = { period = 120, aligner = "ALIGN_DELTA", reducer = "REDUCE_MEAN", group_by = [] }

  # All instances that there may be take half of the budget, the other half is for
  # deployments: more than a deployment's worth is a leak, or nearly too many.
  alarming_connections = floor(local.most_connections * 0.75)

  alerts = {
    oldest_event = {
      title    = "Orders: events are not sent"
      severity = "CRITICAL"
      advice   = "The oldest event waits too long, or the relay says nothing. `orderctl doctor` tells which destination, and why; `orderctl events list --held` what waits for a decision. Nothing is lost meanwhile."
      conditions = [
        merge(local.mean, {
          title     = "Oldest event"
          filter    = local.signal_filters.oldest_event_seconds
          threshold = var.alert_thresholds.oldest_event_seconds
          duration  = 120
        }),
        # Also of a relay that has never said anything, which no condition on an absent
        # series notices.
        {
          title    = "No word from the relay"
          query    = "absent_over_time(logging_googleapis_com:user_orders_oldest_event_seconds_count{monitored_resource=\"cloud_run_revision\"}[10m])"
          duration = 300
        },
      ]
    }
    dead_letters = {
      title    = "Orders: dead letters"
      severity = "ERROR"
      advice   = "`orderctl dead-letters list` shows them, `show ID` one with its contents. `replay ID` tries it again, `discard ID` gives it up for good."
      conditions = concat(
        [merge(local.mean, {
          title     = "Open dead letters"
          filter    = local.signal_filters.open_dead_letters
          threshold = 0
          duration  = 0
        })],
        # Pub/Sub's own, on their way into our table.
        [for subscription in google_pubsub_subscription.dead_letters : {
          title     = "Dead letters of Pub/Sub that cannot be kept"
          filter    = "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${subscription.name}\""
          threshold = 0
          duration  = 600
          period    = 60
          aligner   = "ALIGN_MAX"
          reducer   = "REDUCE_SUM"
          group_by  = []
        }],
      )
    }
    server_errors = {
      title    = "Orders: requests fail"
      severity = "CRITICAL"
      advice   = "Too many answers are 5xx. Log lines of the service with severity ERROR name the cause; a canary goes back by percent = 0 (docs/rollout.md)."
      combiner = "AND_WITH_MATCHING_RESOURCE"
      conditions = [
        {
          title       = "Share of 5xx"
          filter      = local.server_errors
          denominator = local.requests
          threshold   = var.alert_thresholds.error_ratio
          duration    = 300
          period      = 300
          aligner     = "ALIGN_RATE"
          reducer     = "REDUCE_SUM"
          group_by    = local.of_service
        },
        merge(local.count_of_five_minutes, {
          title     = "Enough of them"
          filter    = local.server_errors
          threshold = var.alert_thresholds.least_errors - 1
        }),
      ]
    }
    latency = {
      title    = "Orders: requests are slow"
      severity = "WARNING"
      advice   = "Look at the dashboard: database and siblings first, then instances at their most (`scaling`)."
      combiner = "AND_WITH_MATCHING_RESOURCE"
      conditions = [
        {
          title     = "95th percentile"
          filter    = local.latencies
          threshold = var.alert_thresholds.p95_milliseconds
          duration  = 300
          period    = 300
          aligner   = "ALIGN_DELTA"
          reducer   = "REDUCE_PERCENTILE_95"
          group_by  = local.of_service
        },
        merge(local.count_of_five_minutes, {
          title     = "Enough requests to tell"
          filter    = local.requests
          threshold = var.alert_thresholds.least_requests - 1
        }),
      ]
    }
    saturation = {
      title    = "Orders: no more instances"
      severity = "ERROR"
      advice   = "Google turns requests away (429, \"no available instance\"), or a function has run at its most instances for ten minutes. Raise `scaling` as far as `terraform output connection_budget` allows, then look for what is slow: database and siblings."
      conditions = concat(
        [merge(local.count_of_five_minutes, {
          title     = "Requests turned away"
          filter    = "metric.type = \"run.googleapis.com/request_count\" AND ${local.of_services} AND metric.labels.response_code = \"429\""
          threshold = 0
          duration  = 0
        })],
        # Of each revision, because at a deployment two have as many each.
        [for name, function in local.functions : {
          title     = "All instances of ${function.service} are busy"
          filter    = "metric.type = \"run.googleapis.com/container/instance_count\" AND resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${function.service}\" AND metric.labels.state = \"active\""
          threshold = function.max_instances - 1
          duration  = 600
          period    = 60
          aligner   = "ALIGN_MAX"
          reducer   = "REDUCE_SUM"
          group_by  = ["resource.label.revision_name"]
        } if function.has_users || name == "approval_handler"],
      )
    }
    approvals = {
      title    = "Orders: approvals are late"
      severity = "ERROR"
      advice   = "Complete orders are not approved in time. `orderctl doctor` names them, `orderctl doctor --fix` approves them. Then look at the approval handler's log, or the approval worker's."
      conditions = concat(
        [merge(local.mean, {
          title     = "Oldest complete order"
          filter    = local.signal_filters.oldest_unapproved_seconds
          threshold = var.alert_thresholds.approval_seconds
          duration  = 0
        })],
        [for subscription in google_pubsub_subscription.approvals : {
          title     = "Oldest trigger"
          filter    = "metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${subscription.name}\""
          threshold = var.alert_thresholds.approval_seconds
          duration  = 120
          period    = 60
          aligner   = "ALIGN_MAX"
          reducer   = "REDUCE_MAX"
          group_by  = []
        }],
      )
    }
    snapshot = {
      title    = "Orders: a snapshot is held"
      severity = "WARNING"
      advice   = "Somebody holds a transaction open, so no dead row can be removed. `orderctl doctor` names whose it is and how to end it, as does `oldest_snapshot_owner` in the relay's line."
      conditions = [
        merge(local.mean, {
          title     = "Oldest snapshot"
          filter    = local.signal_filters.oldest_snapshot_seconds
          threshold = var.alert_thresholds.snapshot_seconds
          duration  = 0
        }),
        # Cloud SQL's own count, in transactions: also while no relay runs, and of what it
        # cannot see. At twice as many PostgreSQL begins to freeze whole tables.
        {
          title     = "Oldest transaction"
          filter    = "metric.type = \"cloudsql.googleapis.com/database/postgresql/vacuum/oldest_transaction_age\" AND ${local.of_database}"
          threshold = 100000000
          duration  = 600
          period    = 60
          aligner   = "ALIGN_MAX"
          reducer   = "REDUCE_MAX"
          group_by  = []
        },
      ]
    }
    database = {
      title    = "Orders: the database is at its limits"
      severity = "ERROR"
      advice   = "See query insights for what runs, docs/capacity.md for what helps."
      conditions = [
        {
          title     = "Connections"
          filter    = "metric.type = \"cloudsql.googleapis.com/database/postgresql/num_backends\" AND ${local.of_database}"
          threshold = local.alarming_connections
          duration  = 300
          period    = 60
          aligner   = "ALIGN_MAX"
          reducer   = "REDUCE_SUM"
          group_by  = []
        },
        {
          title     = "CPU"
          filter    = "metric.type = \"cloudsql.googleapis.com/database/cpu/utilization\" AND ${local.of_database}"
          threshold = 0.85
          duration  = 900
          period    = 60
          aligner   = "ALIGN_MEAN"
          reducer   = "REDUCE_MAX"
          group_by  = []
        },
        # It grows by itself, so this means that it cannot, or not as fast as it fills.
        {
          title     = "Disk"
          filter    = "metric.type = \"cloudsql.googleapis.com/database/disk/utilization\" AND ${local.of_database}"
          threshold = 0.9
          duration  = 600
          period    = 60
          aligner   = "ALIGN_MEAN"
          reducer   = "REDUCE_MAX"
          group_by  = []
        },
      ]
    }
    jobs = {
      title    = "Orders: a job has failed"
      severity = "WARNING"
      advice   = "Migrations have stopped, or `orderctl doctor` or `orderctl audit` has found something, which they report by failing. The job's log says what."
      conditions = [{
        title     = "Failed executions"
        filter    = "metric.type = \"run.googleapis.com/job/completed_execution_count\" AND ${local.of_jobs} AND metric.labels.result = \"failed\""
        threshold = 0
        duration  = 0
        period    = 300
        aligner   = "ALIGN_DELTA"
        reducer   = "REDUCE_SUM"
        group_by  = ["resource.label.job_name"]
      }]
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  type         = "email"
  display_name = each.key
  labels       = { email_address = each.key }

  depends_on = [google_project_service.enabled]
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = local.alerts

  display_name          = each.value.title
  severity              = each.value.severity
  combiner              = try(each.value.combiner, "OR")
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  documentation {
    mime_type = "text/markdown"
    content   = each.value.advice
  }

  dynamic "conditions" {
    for_each = each.value.conditions
    iterator = condition
    content {
      display_name = condition.value.title

      dynamic "condition_prometheus_query_language" {
        for_each = can(condition.value.query) ? [condition.value] : []
        iterator = queried
        content {
          query                     = queried.value.query
          duration                  = "${queried.value.duration}s"
          evaluation_interval       = "60s"
          disable_metric_validation = true
        }
      }

      dynamic "condition_threshold" {
        for_each = can(condition.value.query) ? [] : [condition.value]
        iterator = above
        content {
          filter             = above.value.filter
          denominator_filter = try(above.value.denominator, null)
          comparison         = "COMPARISON_GT"
          threshold_value    = above.value.threshold
          duration           = "${above.value.duration}s"
          aggregations {
            alignment_period     = "${above.value.period}s"
            per_series_aligner   = above.value.aligner
            cross_series_reducer = above.value.reducer
            group_by_fields      = above.value.group_by
          }
          dynamic "denominator_aggregations" {
            for_each = can(above.value.denominator) ? [above.value] : []
            iterator = whole
            content {
              alignment_period     = "${whole.value.period}s"
              per_series_aligner   = whole.value.aligner
              cross_series_reducer = whole.value.reducer
              group_by_fields      = whole.value.group_by
            }
          }
        }
      }
    }
  }
}
