# Cloud SQL: what it is, who reaches it, and that nothing in it is lost.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "database" {
  command = plan

  assert {
    condition     = google_sql_database_instance.orders.database_version == "POSTGRES_16"
    error_message = "The database is PostgreSQL 16."
  }

  assert {
    condition = alltrue([
      for each in google_sql_database_instance.orders.settings[0].ip_configuration :
      each.ipv4_enabled == false && each.private_network == google_compute_network.this.id && length(each.authorized_networks) == 0
    ])
    error_message = "The database has a private address only."
  }

  assert {
    condition     = google_sql_database_instance.orders.settings[0].ip_configuration[0].ssl_mode == "ENCRYPTED_ONLY"
    error_message = "The database takes encrypted connections only."
  }

  assert {
    condition = contains(
      [for each in google_sql_database_instance.orders.settings[0].database_flags : "${each.name}=${each.value}"],
      "cloudsql.iam_authentication=on",
    )
    error_message = "Service accounts may log in without a password."
  }

  assert {
    condition     = alltrue([for each in google_sql_user.function : each.type == "CLOUD_IAM_SERVICE_ACCOUNT"])
    error_message = "Functions and workers have no password to log in with."
  }

  assert {
    condition     = alltrue([for each in google_sql_user.function : each.deletion_policy == "ABANDON"])
    error_message = "A login is left behind when its function goes: PostgreSQL does not drop one that has rights."
  }

  assert {
    condition = jsonencode(sort([
      for each in google_cloud_run_v2_job.migrate.template[0].template[0].containers[0].args : each if strcontains(each, "=")
      ])) == jsonencode(sort([
      for name, login in local.logins :
      "${lookup({ operator = "orderctl", relay_worker = "outbox_relay", approval_worker = "approval_handler" }, name, name)}=${login}"
    ]))
    error_message = "Each login gets the rights of its own function, and no others."
  }

  assert {
    condition = contains(
      [for each in google_sql_database_instance.orders.settings[0].database_flags : "${each.name}=${each.value}"],
      "max_connections=${var.database.max_connections}",
    )
    error_message = "max_connections is set, and is what the environment says."
  }

  assert {
    condition = contains(
      [for each in google_sql_database_instance.orders.settings[0].database_flags : "${each.name}=${each.value}"],
      "idle_in_transaction_session_timeout=600000",
    )
    error_message = "A transaction that somebody forgot is ended."
  }

  assert {
    condition     = alltrue([for each in google_sql_database_instance.orders.settings[0].backup_configuration : each.enabled])
    error_message = "The database is backed up each day."
  }

  assert {
    condition     = google_sql_database_instance.orders.settings[0].backup_configuration[0].point_in_time_recovery_enabled
    error_message = "The database can be brought back to any moment of the last days."
  }

  assert {
    condition = var.environment != "production" || (
      google_sql_database_instance.orders.deletion_protection && google_sql_database_instance.orders.settings[0].deletion_protection_enabled
    )
    error_message = "Production's database refuses to be destroyed, by Terraform and by Cloud SQL."
  }

  assert {
    condition     = var.environment != "production" || google_sql_database_instance.orders.settings[0].availability_type == "REGIONAL"
    error_message = "Production's database has a standby in another zone."
  }
}
