# Access to the operations console: identity-aware access asks people for their Google
# account, and the console verifies its signed assertion.

locals {
  settings_of_console = merge(
    {
      OPS_IDENTITY     = "iap"
      OPS_IAP_AUDIENCE = "/projects/${data.google_project.this.number}/locations/${var.region}/services/ops-console"
    },
    length(var.ops_operators) == 0 ? {} : { OPS_OPERATORS = join(",", var.ops_operators) },
    length(var.ops_viewers) == 0 ? {} : { OPS_VIEWERS = join(",", var.ops_viewers) },
    var.ops_user_url == null ? {} : { OPS_USER_URL = var.ops_user_url },
  )
}

resource "google_iap_web_cloud_run_service_iam_member" "operator" {
  for_each = var.ops_console ? toset(concat(var.ops_operators, var.ops_viewers)) : toset([])

  project                = var.project_id
  location               = var.region
  cloud_run_service_name = google_cloud_run_v2_service.function["ops_console"].name
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = "user:${each.value}"
}
