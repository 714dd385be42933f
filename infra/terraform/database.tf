# Cloud SQL and its logins. Functions, workers and operators' orderctl log in as
# their own service accounts, without a password. The migration job's login is made by
# hand, because its password would stay in the state: README.md says how.

locals {
  # A process holds as many connections as it has threads, and during a deployment the
  # old revision's instances are there beside the new one's.
  overlap = 2
  connections = merge(
    {
      for name, function in local.functions :
      name => function.max_instances * local.overlap * function.threads if function.has_database
    },
    {
      # A relay listens on a connection of its own.
      relay_worker    = var.relay_worker_instances * local.overlap * (local.worker_threads + 1)
      approval_worker = var.approval_worker_instances * local.overlap * local.worker_threads
    },
  )
  most_connections    = sum(values(local.connections))
  allowed_connections = var.database.max_connections - var.database.reserved_connections

  # Whose rights a login gets that is no function's own.
  works_for = {
    relay_worker    = "outbox_relay"
    approval_worker = "approval_handler"
    operator        = "orderctl"
  }

  # PostgreSQL's name of a service account: Cloud SQL cuts this ending off.
  logins = {
    for name, account in local.accounts :
    name => "${account.account_id}@${var.project_id}.iam" if try(local.functions[name].has_database, true)
  }
}

resource "google_sql_database_instance" "orders" {
  name                = var.database.instance
  database_version    = "POSTGRES_16"
  region              = var.region
  deletion_protection = var.deletion_protection

  settings {
    tier                        = var.database.tier
    edition                     = "ENTERPRISE"
    availability_type           = var.database.is_regional ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.database.disk_gib
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection

    # Clients without Cloud SQL's connector cannot even try to log in.
    connector_enforcement = "REQUIRED"

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.this.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "02:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = var.database.retained_backups
        retention_unit   = "COUNT"
      }
    }

    # Sunday night; a canary of Google's comes first to the week after's.
    maintenance_window {
      day          = 7
      hour         = 3
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled  = true
      query_string_length     = 4500
      record_application_tags = true
      record_client_address   = false
    }

    database_flags {
      name  = "cloudsql.iam_authentication"
      value = "on"
    }
    database_flags {
      name  = "max_connections"
      value = tostring(var.database.max_connections)
    }
    # Of people's logins: a forgotten BEGIN keeps every dead row. Ours set their own.
    database_flags {
      name  = "idle_in_transaction_session_timeout"
      value = "600000"
    }
  }

  lifecycle {
    # The disk grows by itself.
    ignore_changes = [settings[0].disk_size]

    precondition {
      condition     = local.most_connections <= local.allowed_connections
      error_message = "Functions and workers may take ${local.most_connections} connections, of which database.max_connections without the reserve allows ${local.allowed_connections}: fewer instances or threads, or a higher max_connections."
    }
  }

  depends_on = [google_service_networking_connection.services]
}

resource "google_sql_database" "orders" {
  name     = "orders"
  instance = google_sql_database_instance.orders.name
}

resource "google_sql_user" "function" {
  for_each = local.logins

  instance = google_sql_database_instance.orders.name
  name     = each.value
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"

  # PostgreSQL refuses to drop a login that has rights.
  deletion_policy = "ABANDON"
}
