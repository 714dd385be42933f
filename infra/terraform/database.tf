# Cloud SQL and its logins. By Google's connector every process logs in as its own
# service account, without a password. The socket that Cloud Run mounts takes passwords
# only; those logins are made by hand, because a password would stay in the state
# (docs/database.md).

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

  by_socket = var.database.connect == "socket"

  # PostgreSQL's name of a service account: Cloud SQL cuts its last part off. With
  # passwords functions and workers share a login, so that there are three to keep.
  logins = {
    for name, account in local.accounts :
    name => local.by_socket ? (name == "operator" ? "order-operator" : "orders") : "${account.account_id}@${var.project_id}.iam"
    if try(local.functions[name].has_database, true)
  }
  migrations_login = local.by_socket ? "order-migrations" : "${google_service_account.migrations.account_id}@${var.project_id}.iam"

  # By what they are called: migrations grant each login the rights of its function.
  grants = local.by_socket ? ["orders", "orderctl=order-operator"] : [
    for name, login in local.logins : "${lookup(local.works_for, name, name)}=${login}"
  ]

  # The secret that holds each process's password, where there is one.
  passwords = {
    for name, login in merge(local.logins, { migrations = local.migrations_login }) :
    name => local.by_socket ? { POSTGRES_PASSWORD = "${login}-password" } : {}
  }

  # Where the socket is mounted, in services, pools and jobs alike.
  sockets = local.by_socket ? [google_sql_database_instance.orders.connection_name] : []

  ip_types = { peering = "private", psc = "psc", public = "public" }
}

resource "google_sql_database_instance" "orders" {
  name                = var.database.instance
  database_version    = var.database.version
  region              = var.region
  deletion_protection = var.deletion_protection

  settings {
    tier                        = var.database.tier
    edition                     = "ENTERPRISE"
    availability_type           = var.database.is_regional ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.database.disk_gib
    disk_autoresize             = true
    disk_autoresize_limit       = var.database.disk_limit_gib
    deletion_protection_enabled = var.deletion_protection
    retain_backups_on_delete    = var.database.keeps_backups

    # Clients without Cloud SQL's connector or its proxy cannot even try to log in.
    connector_enforcement = "REQUIRED"

    ip_configuration {
      ipv4_enabled    = var.database.address == "public"
      private_network = var.database.address == "peering" ? local.network : null
      ssl_mode        = "ENCRYPTED_ONLY"
      server_ca_mode  = var.database.server_ca_mode

      dynamic "psc_config" {
        for_each = var.database.address == "psc" ? [var.project_id] : []
        content {
          psc_enabled               = true
          allowed_consumer_projects = [psc_config.value]
        }
      }
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
    dynamic "database_flags" {
      for_each = var.database.flags
      content {
        name  = database_flags.key
        value = database_flags.value
      }
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
  for_each = local.by_socket ? {} : local.logins

  instance = google_sql_database_instance.orders.name
  name     = each.value
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"

  # PostgreSQL refuses to drop a login that has rights.
  deletion_policy = "ABANDON"
}

# Makes and owns the tables: the database belongs to this role of Cloud SQL's.
resource "google_sql_user" "migrations" {
  count = local.by_socket ? 0 : 1

  instance        = google_sql_database_instance.orders.name
  name            = local.migrations_login
  type            = "CLOUD_IAM_SERVICE_ACCOUNT"
  database_roles  = ["cloudsqlsuperuser"]
  deletion_policy = "ABANDON"
}
