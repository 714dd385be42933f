# Cloud SQL: what it is, who reaches it, and that nothing in it is lost.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "database" {
  command = plan

  variables {
    network                   = null
    relay_worker_instances    = 1
    approval_worker_instances = 0
  }

  assert {
    condition     = google_sql_database_instance.orders.database_version == "POSTGRES_16"
    error_message = "The database is PostgreSQL 16."
  }

  assert {
    condition     = google_sql_database_instance.orders.settings[0].ip_configuration[0].server_ca_mode == "GOOGLE_MANAGED_CAS_CA"
    error_message = "The server's certificate is by the region's authority."
  }

  assert {
    condition = alltrue([
      for container in concat(
        [for name, each in google_cloud_run_v2_service.function : each.template[0].containers[0] if name != "api_docs"],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0].containers[0]],
        [for each in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : each.template[0].template[0].containers[0]],
      ) :
      length(setsubtract(
        ["CLOUD_SQL_CONNECT=connector", "CLOUD_SQL_IAM_AUTH=true", "CLOUD_SQL_IP_TYPE=private"],
        [for each in container.env : "${each.name}=${each.value}" if each.value != null],
      )) == 0
      && length(container.volume_mounts) == 0 && !contains([for each in container.env : each.name], "POSTGRES_PASSWORD")
    ])
    error_message = "Every process connects by Google's connector, and as its own account."
  }

  assert {
    condition = (
      google_sql_user.migrations[0].type == "CLOUD_IAM_SERVICE_ACCOUNT"
      && google_sql_user.migrations[0].name == "${google_service_account.migrations.account_id}@${var.project_id}.iam"
      && jsonencode(google_sql_user.migrations[0].database_roles) == jsonencode(["cloudsqlsuperuser"])
      && contains([
        for each in google_cloud_run_v2_job.migrate.template[0].template[0].containers[0].env : "${each.name}=${each.value}" if each.value != null
      ], "POSTGRES_USER=${google_sql_user.migrations[0].name}")
    )
    error_message = "Migrations log in as their own account, which may make tables in the database."
  }

  assert {
    condition     = alltrue([for each in google_sql_user.function : each.database_roles == null])
    error_message = "No other login may do more than it is granted."
  }

  assert {
    condition     = google_sql_database_instance.orders.settings[0].retain_backups_on_delete
    error_message = "Backups outlive the instance."
  }

  assert {
    condition = alltrue([
      for each in google_sql_database_instance.orders.settings[0].ip_configuration :
      each.ipv4_enabled == false && each.private_network == google_compute_network.this[0].id && length(each.authorized_networks) == 0
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

run "socket" {
  command = plan

  variables {
    event_bus                 = "rabbitmq,pubsub"
    relay_worker_instances    = 1
    approval_worker_instances = 1
    ops_console               = true
    ops_operators             = ["olga@example.com"]
    database                  = { tier = "db-custom-4-16384", max_connections = 800, connect = "socket", address = "public" }
  }

  assert {
    condition = alltrue([
      for template in concat(
        [for name, each in google_cloud_run_v2_service.function : each.template[0] if name != "api_docs"],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0]],
        [for each in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : each.template[0].template[0]],
      ) :
      jsonencode(flatten([for each in template.volumes : [for instance in each.cloud_sql_instance : tolist(instance.instances)]]))
      == jsonencode([google_sql_database_instance.orders.connection_name])
      && jsonencode([for each in template.containers[0].volume_mounts : "${each.name} ${each.mount_path}"]) == jsonencode(["${template.volumes[0].name} /cloudsql"])
    ])
    error_message = "By the socket every process mounts the instance."
  }

  assert {
    condition = alltrue([
      for container in concat(
        [for name, each in google_cloud_run_v2_service.function : each.template[0].containers[0] if name != "api_docs"],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0].containers[0]],
        [for each in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : each.template[0].template[0].containers[0]],
      ) :
      length(setsubtract(
        ["CLOUD_SQL_CONNECT=socket", "CLOUD_SQL_IAM_AUTH=false"],
        [for each in container.env : "${each.name}=${each.value}" if each.value != null],
      )) == 0
      && contains([
        for each in container.env : each.value_source[0].secret_key_ref[0].secret if each.name == "POSTGRES_PASSWORD"
      ], "${one([for each in container.env : each.value if each.name == "POSTGRES_USER"])}-password")
    ]) && length(google_sql_user.function) + length(google_sql_user.migrations) == 0
    error_message = "By the socket every process logs in with its login's password, from a secret."
  }

  assert {
    condition = jsonencode(sort(distinct([
      for each in google_secret_manager_secret_iam_member.reader : "${each.secret_id} ${each.member}" if endswith(each.secret_id, "-password") && each.secret_id != "rabbitmq-password"
      ]))) == jsonencode(sort(concat(
      [for name, each in google_service_account.function : "orders-password ${each.member}" if name != "api_docs"],
      [for each in google_service_account.worker : "orders-password ${each.member}"],
      ["order-operator-password ${google_service_account.operator.member}", "order-migrations-password ${google_service_account.migrations.member}"],
    )))
    error_message = "Each process reads the password of its own login, and no other."
  }

  assert {
    condition = jsonencode([
      for each in google_cloud_run_v2_job.migrate.template[0].template[0].containers[0].args : each if each != "--grant-to"
    ]) == jsonencode(["migrate", "orders", "orderctl=order-operator"])
    error_message = "With passwords there is a login for functions and workers, and one for operators."
  }

  assert {
    condition = (
      google_sql_database_instance.orders.settings[0].ip_configuration[0].ipv4_enabled
      && google_sql_database_instance.orders.settings[0].ip_configuration[0].private_network == null
      && length(google_sql_database_instance.orders.settings[0].ip_configuration[0].authorized_networks) == 0
      && google_sql_database_instance.orders.settings[0].connector_enforcement == "REQUIRED"
      && length(google_service_networking_connection.services) == 0
    )
    error_message = "A public address lets in Google's connector and proxy only."
  }
}

run "by_private_service_connect" {
  command = plan

  variables {
    database = {
      tier            = "db-custom-4-16384"
      max_connections = 800
      address         = "psc"
      version         = "POSTGRES_17"
      disk_limit_gib  = 500
      keeps_backups   = false
      server_ca_mode  = "GOOGLE_MANAGED_INTERNAL_CA"
      flags           = { "cloudsql.enable_pgaudit" = "on", "max_wal_size" = "8192" }
    }
  }

  assert {
    condition = alltrue(flatten([
      for each in google_sql_database_instance.orders.settings[0].ip_configuration : [
        each.ipv4_enabled == false && each.private_network == null,
        jsonencode([for psc in each.psc_config : [psc.psc_enabled, tolist(psc.allowed_consumer_projects)]]) == jsonencode([[true, [var.project_id]]]),
        google_compute_forwarding_rule.endpoint["database"].target == google_sql_database_instance.orders.psc_service_attachment_link,
        google_dns_managed_zone.endpoint["database"].dns_name == "${trimsuffix(google_sql_database_instance.orders.dns_name, ".")}.",
        contains([for each in google_cloud_run_v2_job.migrate.template[0].template[0].containers[0].env : "${each.name}=${each.value}" if each.value != null], "CLOUD_SQL_IP_TYPE=psc"),
      ]
    ]))
    error_message = "By Private Service Connect the instance's name leads to an endpoint in our network."
  }

  assert {
    condition = (
      google_sql_database_instance.orders.database_version == "POSTGRES_17"
      && google_sql_database_instance.orders.settings[0].disk_autoresize_limit == 500
      && google_sql_database_instance.orders.settings[0].retain_backups_on_delete == false
      && google_sql_database_instance.orders.settings[0].ip_configuration[0].server_ca_mode == "GOOGLE_MANAGED_INTERNAL_CA"
      && length(setsubtract(
        ["cloudsql.enable_pgaudit=on", "max_wal_size=8192", "max_connections=800", "cloudsql.iam_authentication=on"],
        [for each in google_sql_database_instance.orders.settings[0].database_flags : "${each.name}=${each.value}"],
      )) == 0
    )
    error_message = "An environment chooses version, flags, the disk's limit, authority, and whether backups are kept."
  }
}

run "no_socket_leads_to_an_endpoint" {
  command = plan

  variables {
    database = { tier = "db-custom-4-16384", max_connections = 800, connect = "socket", address = "psc" }
  }

  expect_failures = [var.database]
}
