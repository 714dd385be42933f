# Alerts. Those on the backlog read a line that the relay logs each minute
# (common/operations/lag.py); a test compares the names here with those there.

locals {
  # The line's numbers that are followed.
  signals = {
    oldest_event_seconds      = { unit = "s", what = "Age of the oldest event that is still owed" }
    oldest_unapproved_seconds = { unit = "s", what = "Age of the oldest complete order that is not approved" }
    open_dead_letters         = { unit = "1", what = "Dead letters that nobody has dealt with" }
    oldest_snapshot_seconds   = { unit = "s", what = "Age of the oldest snapshot that somebody holds" }
    approved_by_sweep         = { unit = "1", what = "Orders that the sweep approved because no trigger did" }
  }

  of_relay = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${local.functions.outbox_relay.service}\""
  of_users = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = one_of(${join(", ", [
    for function in local.functions : "\"${function.service}\"" if function.has_users
  ])})"
  of_database = "resource.type = \"cloudsql_database\" AND resource.labels.database_id = \"${var.project_id}:${var.database.instance}\""

  signal_filters = {
    for name, metric in google_logging_metric.signal :
    name => "metric.type = \"logging.googleapis.com/user/${metric.name}\" AND ${local.of_relay}"
  }
  requests  = "metric.type = \"run.googleapis.com/request_count\" AND ${local.of_users}"
  latencies = "metric.type = \"run.googleapis.com/request_latencies\" AND ${local.of_users}"

  # One line a minute and relay: the mean of two minutes is what they say.
  mean = { period = 120, aligner = "ALIGN_DELTA", reducer = "REDUCE_MEAN", group_by = [] }

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
        merge(local.mean, {
          title     = "No word from the relay"
          filter    = local.signal_filters.oldest_event_seconds
          is_absent = true
          duration  = 600
        }),
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
      conditions = [{
        title       = "Share of 5xx"
        filter      = "${local.requests} AND metric.labels.response_code_class = \"5xx\""
        denominator = local.requests
        threshold   = var.alert_thresholds.error_ratio
        duration    = 300
        period      = 300
        aligner     = "ALIGN_RATE"
        reducer     = "REDUCE_SUM"
        group_by    = ["resource.label.service_name"]
      }]
    }
    latency = {
      title    = "Orders: requests are slow"
      severity = "WARNING"
      advice   = "Look at the dashboard: database and siblings first, then instances at their most (`scaling`)."
      conditions = [{
        title     = "95th percentile"
        filter    = local.latencies
        threshold = var.alert_thresholds.p95_milliseconds
        duration  = 300
        period    = 300
        aligner   = "ALIGN_DELTA"
        reducer   = "REDUCE_PERCENTILE_95"
        group_by  = ["resource.label.service_name"]
      }]
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
      conditions = [merge(local.mean, {
        title     = "Oldest snapshot"
        filter    = local.signal_filters.oldest_snapshot_seconds
        threshold = var.alert_thresholds.snapshot_seconds
        duration  = 0
      })]
    }
    database = {
      title    = "Orders: the database is at its limits"
      severity = "ERROR"
      advice   = "See query insights for what runs, docs/capacity.md for what helps."
      conditions = [
        {
          title     = "Connections"
          filter    = "metric.type = \"cloudsql.googleapis.com/database/postgresql/num_backends\" AND ${local.of_database}"
          threshold = floor(local.allowed_connections * 0.9)
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
      ]
    }
  }
}

resource "google_logging_metric" "signal" {
  for_each = local.signals

  name            = "orders/${each.key}"
  description     = "${each.value.what}."
  filter          = "${local.of_relay} AND jsonPayload.logger = \"orders.signals\" AND jsonPayload.message = \"backlog\""
  value_extractor = "EXTRACT(jsonPayload.${each.key})"

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = each.value.unit
    display_name = each.value.what
  }

  bucket_options {
    exponential_buckets {
      num_finite_buckets = 40
      growth_factor      = 1.5
      scale              = 1
    }
  }

  depends_on = [google_project_service.enabled]
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
  combiner              = "OR"
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

      dynamic "condition_absent" {
        for_each = try(condition.value.is_absent, false) ? [condition.value] : []
        iterator = absent
        content {
          filter   = absent.value.filter
          duration = "${absent.value.duration}s"
          aggregations {
            alignment_period     = "${absent.value.period}s"
            per_series_aligner   = absent.value.aligner
            cross_series_reducer = absent.value.reducer
          }
        }
      }

      dynamic "condition_threshold" {
        for_each = try(condition.value.is_absent, false) ? [] : [condition.value]
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
