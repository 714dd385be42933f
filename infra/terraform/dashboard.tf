# The dashboard: latency and errors on top, then the backlog, then resources.

locals {
  of_service  = ["resource.label.service_name"]
  of_services = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = one_of(${join(", ", [for function in local.functions : "\"${function.service}\""])})"

  charts = concat(
    [
      {
        title    = "Requests a second"
        filter   = "metric.type = \"run.googleapis.com/request_count\" AND ${local.of_services}"
        aligner  = "ALIGN_RATE"
        reducer  = "REDUCE_SUM"
        group_by = local.of_service
      },
      {
        title    = "5xx a second"
        filter   = "metric.type = \"run.googleapis.com/request_count\" AND ${local.of_services} AND metric.labels.response_code_class = \"5xx\""
        aligner  = "ALIGN_RATE"
        reducer  = "REDUCE_SUM"
        group_by = local.of_service
      },
      {
        title    = "95th percentile, ms"
        filter   = local.latencies
        aligner  = "ALIGN_DELTA"
        reducer  = "REDUCE_PERCENTILE_95"
        group_by = local.of_service
      },
      {
        title    = "95th percentile by revision, ms"
        filter   = local.latencies
        aligner  = "ALIGN_DELTA"
        reducer  = "REDUCE_PERCENTILE_95"
        group_by = ["resource.label.revision_name"]
      },
    ],
    [
      for name, signal in local.signals :
      {
        title    = signal.what
        filter   = local.signal_filters[name]
        aligner  = local.mean.aligner
        reducer  = local.mean.reducer
        group_by = []
      }
    ],
    [
      for subscription in concat(google_pubsub_subscription.approvals, google_pubsub_subscription.dead_letters) :
      {
        title    = "Messages waiting: ${subscription.name}"
        filter   = "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${subscription.name}\""
        aligner  = "ALIGN_MAX"
        reducer  = "REDUCE_SUM"
        group_by = []
      }
    ],
    [
      {
        title    = "Instances"
        filter   = "metric.type = \"run.googleapis.com/container/instance_count\" AND ${local.of_services}"
        aligner  = "ALIGN_MAX"
        reducer  = "REDUCE_SUM"
        group_by = local.of_service
      },
      {
        title    = "Memory, share of the limit"
        filter   = "metric.type = \"run.googleapis.com/container/memory/utilizations\" AND ${local.of_services}"
        aligner  = "ALIGN_DELTA"
        reducer  = "REDUCE_PERCENTILE_99"
        group_by = local.of_service
      },
      {
        title    = "Database connections, of ${local.allowed_connections}"
        filter   = "metric.type = \"cloudsql.googleapis.com/database/postgresql/num_backends\" AND ${local.of_database}"
        aligner  = "ALIGN_MAX"
        reducer  = "REDUCE_SUM"
        group_by = []
      },
      {
        title    = "Database CPU"
        filter   = "metric.type = \"cloudsql.googleapis.com/database/cpu/utilization\" AND ${local.of_database}"
        aligner  = "ALIGN_MEAN"
        reducer  = "REDUCE_MAX"
        group_by = []
      },
    ],
  )
}

resource "google_monitoring_dashboard" "orders" {
  dashboard_json = jsonencode({
    displayName = "Orders"
    mosaicLayout = {
      columns = 12
      tiles = [
        for index, chart in local.charts : {
          xPos   = index % 2 * 6
          yPos   = floor(index / 2) * 4
          width  = 6
          height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.filter
                    aggregation = {
                      alignmentPeriod    = "60s"
                      perSeriesAligner   = chart.aligner
                      crossSeriesReducer = chart.reducer
                      groupByFields      = chart.group_by
                    }
                  }
                }
              }]
            }
          }
        }
      ]
    }
  })

  depends_on = [google_project_service.enabled]
}
