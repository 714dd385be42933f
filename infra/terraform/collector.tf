# A collector for traces and metrics: a second container of each function and worker, if an
# environment names its image. `make deploy` then makes packages that can send to it.

locals {
  collectors = var.collector == null ? [] : [{
    image  = var.collector
    config = file("${path.module}/collector.yaml")
    cpu    = "1"
    memory = "512Mi"
  }]

  settings_of_collector = var.collector == null ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT = "http://localhost:4318" }

  # What a collector does in the name of its function: nothing else is granted to it.
  collector_roles = var.collector == null ? [] : ["roles/cloudtrace.agent", "roles/monitoring.metricWriter"]
  with_collector = {
    for name, account in merge(google_service_account.function, google_service_account.worker) : name => account.member
  }
}

resource "google_project_iam_member" "collector" {
  for_each = {
    for pair in setproduct(keys(local.with_collector), local.collector_roles) :
    "${pair[0]}/${pair[1]}" => { member = local.with_collector[pair[0]], role = pair[1] }
  }

  project = var.project_id
  role    = each.value.role
  member  = each.value.member
}
