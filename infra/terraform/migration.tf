# `orderctl migrate` as a job, run by hand or by `make deploy` before new code serves.
# It owns the tables and grants each login what it needs of them.

resource "google_service_account" "migrations" {
  account_id   = "order-migrations"
  display_name = "Migrations of the orders database"

  depends_on = [google_project_service.enabled]
}

resource "google_cloud_run_v2_job" "migrate" {
  name                = "order-migrate"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.migrations.email
      # A large table's index takes its time; a second try would find the first at work.
      timeout     = "3600s"
      max_retries = 0

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

      containers {
        image   = var.image
        command = ["orderctl"]
        args    = concat(["migrate"], flatten([for each in local.grants : ["--grant-to", each]]))

        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }

        dynamic "env" {
          for_each = merge(local.settings_of_all, local.settings_of_database, {
            POSTGRES_USER = local.migrations_login
            THREADS       = "2"
          })
          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "env" {
          for_each = local.passwords["migrations"]
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
      error_message = "image is not set: migrations run it."
    }
  }

  # It is the first that needs the database, so it waits for the way there, too.
  depends_on = [
    google_compute_forwarding_rule.endpoint,
    google_dns_record_set.endpoint,
    google_project_iam_member.database,
    google_secret_manager_secret_iam_member.reader,
    google_sql_user.function,
    google_sql_user.migrations,
  ]
}
