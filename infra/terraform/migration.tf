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
          network    = google_compute_network.this.name
          subnetwork = google_compute_subnetwork.functions.name
        }
      }

      containers {
        image   = var.image
        command = ["orderctl"]
        args    = concat(["migrate"], flatten([for name, login in local.logins : ["--grant-to", "${lookup(local.works_for, name, name)}=${login}"]]))

        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }

        dynamic "env" {
          for_each = merge(local.settings_of_all, local.settings_of_database, {
            CLOUD_SQL_IAM_AUTH = "false"
            POSTGRES_USER      = "order_migrations"
            THREADS            = "2"
          })
          content {
            name  = env.key
            value = env.value
          }
        }

        env {
          name = "POSTGRES_PASSWORD"
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.this["order-migrations-password"].secret_id
              version = "latest"
            }
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

  depends_on = [
    google_project_iam_member.migrations,
    google_secret_manager_secret_iam_member.reader,
    google_sql_user.function,
  ]
}
