# The sweep, each minute. One call does all of it, in this order: approve complete orders,
# send pending events, delete expired rows. So there is one job.

resource "google_service_account" "scheduler" {
  account_id   = "order-scheduler"
  display_name = "Cloud Scheduler, calling the relay"

  depends_on = [google_project_service.enabled]
}

resource "google_cloud_scheduler_job" "sweep" {
  name             = "order-outbox-sweep"
  description      = "Approves, relays and tidies up what requests have left behind."
  region           = var.region
  schedule         = "* * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "${local.functions.outbox_relay.timeout_seconds}s"

  # The next minute's call is the retry.
  retry_config {
    retry_count = 0
  }

  http_target {
    http_method = "POST"
    uri         = "${google_cloud_run_v2_service.function["outbox_relay"].uri}/"

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = google_cloud_run_v2_service.function["outbox_relay"].uri
    }
  }

  depends_on = [google_project_service.enabled]
}
