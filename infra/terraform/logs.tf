# Logs: which numbers are read from them, which lines are not kept, and for how long the
# others are. Numbers come from the line that the relay logs each minute
# (common/operations/lag.py); a test compares the names here with those there. They are
# made with the foundation: Google takes ten minutes to know a new metric, and refuses an
# alert on one that it does not know.

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

# What comes twice, or is sampled. Numbers are read from lines before these are dropped.
locals {
  exclusions = merge(
    {
      # Each of our functions writes a line of its own, with more in it. What failed stays:
      # a request that no instance took is in the platform's log only.
      platform-requests = {
        description = "The platform's own line of a request that succeeded."
        filter      = "log_id(\"run.googleapis.com/requests\") AND ${local.of_services} AND severity < WARNING"
      }
    },
    var.logged_requests_percent == 100 ? {} : {
      sampled-requests = {
        description = "Lines of requests that succeeded, but for ${var.logged_requests_percent} in a hundred."
        filter      = "${local.of_services} AND jsonPayload.logger = \"orders.http\" AND jsonPayload.status < 400 AND severity < WARNING AND sample(insertId, ${(100 - var.logged_requests_percent) / 100})"
      }
    },
  )
}

resource "google_logging_project_exclusion" "lines" {
  for_each = local.exclusions

  name        = "orders-${each.key}"
  description = each.value.description
  filter      = each.value.filter

  depends_on = [google_project_service.enabled]
}

# Google's own bucket for what is not excluded: it is there already, and is only set.
resource "google_logging_project_bucket_config" "default" {
  project        = var.project_id
  location       = "global"
  bucket_id      = "_Default"
  retention_days = var.log_retention_days

  depends_on = [google_project_service.enabled]
}
