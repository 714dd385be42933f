# `orderctl` beside the database, which has no public address: a job that an operator
# starts with a command.
#
#   gcloud run jobs execute orderctl --region REGION --wait --args=doctor

resource "google_service_account" "operator" {
  account_id   = "order-operator"
  display_name = "orderctl, started by an operator"

  depends_on = [google_project_service.enabled]
}

resource "google_cloud_run_v2_job" "orderctl" {
  name                = "orderctl"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.operator.email
      timeout         = "3600s"
      max_retries     = 0

      vpc_access {
        egress = var.vpc_egress

        network_interfaces {
          network    = local.network
          subnetwork = local.subnet
        }
      }

      dynamic "volumes" {
        for_each = local.sockets
        content {
          name = "cloudsql"
          cloud_sql_instance {
            instances = [volumes.value]
          }
        }
      }

      dynamic "volumes" {
        for_each = local.files_of_bus
        iterator = file
        content {
          name = file.key
          secret {
            secret = google_secret_manager_secret.this[file.key].secret_id
            items {
              path    = basename(file.value)
              version = "latest"
            }
          }
        }
      }

      containers {
        image   = var.image
        command = ["orderctl"]
        args    = ["doctor"]

        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }

        dynamic "volume_mounts" {
          for_each = local.files_of_bus
          iterator = file
          content {
            name       = file.key
            mount_path = dirname(file.value)
          }
        }

        dynamic "env" {
          for_each = merge(
            local.settings_of_processes,
            local.siblings_of_relay,
            lookup(var.function_settings, "orderctl", {}),
            { POSTGRES_USER = local.logins.operator },
          )
          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "env" {
          for_each = merge(local.secrets_of_bus, local.passwords["operator"])
          content {
            name = env.key
            value_source {
              secret_key_ref {
                secret  = google_secret_manager_secret.this[env.value].secret_id
                version = "latest"
              }
            }
          }
        }

        dynamic "volume_mounts" {
          for_each = local.sockets
          content {
            name       = "cloudsql"
            mount_path = "/cloudsql"
          }
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.image != null
      error_message = "image is not set: orderctl runs in it."
    }
  }

  depends_on = [
    google_project_iam_member.database,
    google_pubsub_topic_iam_member.publisher,
    google_secret_manager_secret_iam_member.reader,
    google_sql_user.function,
  ]
}
