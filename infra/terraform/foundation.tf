# What must exist before anything can be built: services of Google's, the image
# repository, empty secrets, network, database. The first deployment applies it
# separately, because the rest needs images and secrets' values:
#
#   terraform apply -target=terraform_data.foundation

locals {
  services = toset([
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "dns.googleapis.com",
    "iam.googleapis.com",
    "iap.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "servicenetworking.googleapis.com",
    "sqladmin.googleapis.com",
    "storage.googleapis.com",
  ])

  # Made here without a value: `gcloud secrets versions add` gives them one, and no
  # state ever holds it.
  secrets = toset(concat(
    local.by_socket ? ["orders-password", "order-operator-password", "order-migrations-password"] : [],
    local.has_rabbitmq ? ["rabbitmq-password"] : [],
    keys(local.files_of_bus),
    contains([for each in concat([var.settings], values(var.function_settings)) : lookup(each, "LOG_USER_IDS", "none")], "hashed") ? ["log-user-id-key"] : [],
    var.identity_source == "header" ? ["gateway-jwt-secret"] : [],
  ))

  repository = join("/", [
    "${var.region}-docker.pkg.dev", var.project_id, google_artifact_registry_repository.images.repository_id,
  ])
}

resource "google_project_service" "enabled" {
  for_each = local.services

  service            = each.key
  disable_on_destroy = false
}

data "google_project" "this" {
  project_id = var.project_id
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "order-service"
  location      = var.region
  format        = "DOCKER"
  description   = "An image for each package of a function, and the container of workers and migrations."

  # Tags may be moved, although nobody does, because Google deletes no image that has a
  # tag which may not. Ten of each stay for a roll-back; what serves is among them.
  docker_config {
    immutable_tags = false
  }

  cleanup_policies {
    id     = "keep-the-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }
  cleanup_policies {
    id     = "delete-the-old"
    action = "DELETE"
    condition {
      tag_state  = "ANY"
      older_than = "7776000s" # 90 days
    }
  }

  depends_on = [google_project_service.enabled]
}

resource "google_secret_manager_secret" "this" {
  for_each = local.secrets

  secret_id = each.key

  replication {
    auto {}
  }

  depends_on = [google_project_service.enabled]
}

# The account with which Cloud Build makes the images, and which does nothing else.
resource "google_service_account" "build" {
  account_id   = "order-build"
  display_name = "Builds images of packages"

  depends_on = [google_project_service.enabled]
}

resource "google_project_iam_member" "build_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

resource "google_artifact_registry_repository_iam_member" "build_images" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_storage_bucket_iam_member" "build_packages" {
  bucket = var.package_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member
}

resource "terraform_data" "foundation" {
  depends_on = [
    google_artifact_registry_repository_iam_member.build_images,
    google_logging_metric.signal,
    google_project_iam_member.build_logs,
    google_project_service.enabled,
    google_secret_manager_secret.this,
    google_sql_database.orders,
    google_storage_bucket_iam_member.build_packages,
  ]
}
