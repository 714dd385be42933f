# Roles and invokers. Nothing is granted to a project's default accounts, and nothing can
# be invoked from outside.

locals {
  # Each process's account, by name; migrations' is a case of its own.
  accounts = merge(google_service_account.function, google_service_account.worker, {
    operator = google_service_account.operator
  })

  with_database = merge({ migrations = google_service_account.migrations.member }, {
    for name, account in local.accounts : name => account.member if try(local.functions[name].has_database, true)
  })
  with_bus = {
    for name, account in local.accounts : name => account.member if try(local.functions[name].publishes, true)
  }
  # To find the instance and open a tunnel to it; and to log in without a password.
  database_roles = local.by_socket ? ["roles/cloudsql.client"] : ["roles/cloudsql.client", "roles/cloudsql.instanceUser"]

  read_secrets = merge(
    {
      for pair in flatten([
        for name, secrets in local.secret_settings : [
          for secret in concat(values(secrets), local.functions[name].has_bus ? keys(local.files_of_bus) : []) : { name = name, secret = secret }
        ]
      ]) : "${pair.name}/${pair.secret}" => { secret = pair.secret, member = google_service_account.function[pair.name].member }
    },
    {
      for pair in flatten([
        for name in concat(keys(local.workers), ["operator"]) : [
          for secret in concat(values(local.secrets_of_bus), keys(local.files_of_bus), values(local.passwords[name])) : { name = name, secret = secret }
        ]
      ]) : "${pair.name}/${pair.secret}" => { secret = pair.secret, member = local.accounts[pair.name].member }
    },
    { for secret in values(local.passwords["migrations"]) : "migrate/${secret}" => { secret = secret, member = google_service_account.migrations.member } },
  )

  invokers = merge(
    var.gateway_service_account == null || local.has_balancer ? {} : {
      for name in ["api_docs", "create_order_from_cart", "orders_crud"] :
      "${name}/gateway" => { function = name, member = "serviceAccount:${var.gateway_service_account}" }
    },
    var.shop_service_account == null || local.has_balancer ? {} : {
      "item_status/shop" = { function = "item_status", member = "serviceAccount:${var.shop_service_account}" }
    },
    local.has_pubsub ? {
      "approval_handler/push" = { function = "approval_handler", member = google_service_account.push[0].member }
    } : {},
    var.ops_console ? {
      "ops_console/iap" = { function = "ops_console", member = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-iap.iam.gserviceaccount.com" }
    } : {},
    { "outbox_relay/scheduler" = { function = "outbox_relay", member = google_service_account.scheduler.member } },
  )
}

resource "google_project_iam_member" "database" {
  for_each = {
    for pair in setproduct(keys(local.with_database), local.database_roles) :
    "${pair[0]}/${pair[1]}" => { member = local.with_database[pair[0]], role = pair[1] }
  }

  project = var.project_id
  role    = each.value.role
  member  = each.value.member
}

resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = local.has_pubsub ? local.with_bus : {}

  topic  = google_pubsub_topic.order_events[0].name
  role   = "roles/pubsub.publisher"
  member = each.value
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.read_secrets

  secret_id = google_secret_manager_secret.this[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value.member
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = local.invokers

  location = var.region
  name     = google_cloud_run_v2_service.function[each.value.function].name
  role     = "roles/run.invoker"
  member   = each.value.member
}
