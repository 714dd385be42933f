# A Cloud Run service for each function: common settings in the resource, others in
# `traits`. Nothing of Cloud Run is protected from deletion, here and in other files: what
# failed at its first apply could not be replaced at the next.

locals {
  # Who calls past the balancer must be in the network.
  gateway_ingress = local.has_balancer ? "INGRESS_TRAFFIC_INTERNAL_ONLY" : var.gateway_ingress

  traits = { for name, traits in local.traits_of_all : name => traits if name != "ops_console" || var.ops_console }

  traits_of_all = {
    create_order_from_cart = {
      siblings      = ["SHOPCART_SERVICE", "PRODUCT_SERVICE"]
      ingress       = local.gateway_ingress
      max_instances = 6
    }
    orders_crud = {
      siblings      = ["PRODUCT_SERVICE"]
      ingress       = local.gateway_ingress
      max_instances = 8
    }
    # Called by the shop service, past any gateway: its X-User-ID is what there is.
    item_status = {
      identity_source = "header"
      ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
      max_instances   = 6
    }
    # Takes messages of up to 32 MiB, several at a time.
    approval_handler = {
      ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
      has_users       = false
      memory          = "1Gi"
      timeout_seconds = 60
      max_instances   = 4
    }
    # One call a minute, which sends to all destinations side by side.
    outbox_relay = {
      siblings        = ["ANALYTIC_SERVICE", "PRODUCT_SERVICE"]
      ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
      has_users       = false
      threads         = 4
      timeout_seconds = 120
      max_instances   = 2
    }
    # Files and a document: no database, no events.
    api_docs = {
      ingress       = local.gateway_ingress
      has_users     = false
      has_database  = false
      has_bus       = false
      memory        = "256Mi"
      max_instances = 2
    }
    # For operators, behind identity-aware access (console.tf). It sends no events: the
    # relay sends those of its changes.
    ops_console = {
      siblings      = ["PRODUCT_SERVICE"]
      ingress       = "INGRESS_TRAFFIC_ALL"
      has_users     = false
      has_iap       = true
      publishes     = false
      threads       = 4
      max_instances = 2
    }
  }

  threads = {
    for name, traits in local.traits :
    name => coalesce(try(var.scaling[name].threads, null), try(traits.threads, 8))
  }

  functions = {
    for name, traits in local.traits : name => {
      service         = replace(name, "_", "-")
      ingress         = traits.ingress
      siblings        = try(traits.siblings, [])
      has_users       = try(traits.has_users, true)
      identity_source = try(traits.identity_source, var.identity_source)
      has_database    = try(traits.has_database, true)
      has_bus         = try(traits.has_bus, true)
      publishes       = try(traits.publishes, traits.has_bus, true)
      has_iap         = try(traits.has_iap, false)
      timeout_seconds = try(traits.timeout_seconds, 30)
      threads         = local.threads[name]
      memory          = coalesce(try(var.scaling[name].memory, null), try(traits.memory, "512Mi"))
      min_instances   = coalesce(try(var.scaling[name].min_instances, null), 0)
      max_instances   = coalesce(try(var.scaling[name].max_instances, null), traits.max_instances)
      cpu_idle        = coalesce(try(var.scaling[name].cpu_idle, null), true)
      image           = "${local.repository}/${replace(name, "_", "-")}:${trimsuffix(basename(var.packages[name]), ".zip")}"
    }
  }

  sibling_urls = {
    SHOPCART_SERVICE = var.siblings.shopcart
    PRODUCT_SERVICE  = var.siblings.product
    ANALYTIC_SERVICE = var.siblings.analytics
  }

  # Settings, as common/config/settings.py reads them. Secrets are never among these.
  settings_of_all = merge(
    { for name, value in var.settings : name => value if name != "LOG_USER_IDS" },
    { RUNNING_ON_CLOUDRUN = "true", LOG_LEVEL = var.log_level },
  )
  settings_of_database = merge(
    {
      CLOUD_SQL_CONNECTION_NAME = google_sql_database_instance.orders.connection_name
      CLOUD_SQL_CONNECT         = var.database.connect
      CLOUD_SQL_IAM_AUTH        = tostring(!local.by_socket)
      POSTGRES_DB               = google_sql_database.orders.name
    },
    local.by_socket ? {} : { CLOUD_SQL_IP_TYPE = local.ip_types[var.database.address] },
  )
  settings_of_bus = merge(
    { EVENT_BUS = var.event_bus },
    local.has_pubsub ? {
      PUBSUB_PROJECT = var.project_id
      PUBSUB_TOPIC   = google_pubsub_topic.order_events[0].name
    } : {},
    local.has_rabbitmq ? {
      RABBITMQ_HOST  = var.rabbitmq.host
      RABBITMQ_PORT  = tostring(var.rabbitmq.port)
      RABBITMQ_USER  = var.rabbitmq.user
      RABBITMQ_VHOST = var.rabbitmq.vhost
      RABBITMQ_TLS   = tostring(var.rabbitmq.tls)
    } : {},
    { for name, path in local.files_of_bus : "RABBITMQ_CA_FILE" => path },
  )
  # Secrets that are files: where each is mounted.
  files_of_bus   = local.has_rabbitmq && try(var.rabbitmq.private_ca, false) ? { "rabbitmq-ca" = "/secrets/rabbitmq/ca.pem" } : {}
  secrets_of_bus = local.has_rabbitmq ? { RABBITMQ_PASS = "rabbitmq-password" } : {}

  settings = {
    for name, function in local.functions : name => merge(
      local.settings_of_all,
      { THREADS = tostring(function.threads) },
      function.has_database ? merge(local.settings_of_database, { POSTGRES_USER = local.logins[name] }) : {},
      function.has_bus ? local.settings_of_bus : {},
      { for sibling in function.siblings : sibling => local.sibling_urls[sibling] if local.sibling_urls[sibling] != null },
      function.has_users ? merge(
        { IDENTITY_SOURCE = function.identity_source },
        var.public_path_prefix == "" ? {} : { PUBLIC_PATH_PREFIX = var.public_path_prefix },
        { for name, value in var.settings : name => value if name == "LOG_USER_IDS" },
      ) : {},
      function.has_iap ? local.settings_of_console : {},
      local.settings_of_collector,
      lookup(var.function_settings, name, {}),
    )
  }

  # Which secret each function's variable comes from; access.tf lets it read just these.
  secret_settings = {
    for name, function in local.functions : name => merge(
      function.has_bus ? local.secrets_of_bus : {},
      function.has_database ? local.passwords[name] : {},
      function.has_users && var.identity_source == "header" ? { GATEWAY_JWT_SECRET = "gateway-jwt-secret" } : {},
      lookup(local.settings[name], "LOG_USER_IDS", "none") == "hashed" ? { LOG_USER_ID_KEY = "log-user-id-key" } : {},
    )
  }
}

resource "google_service_account" "function" {
  for_each = local.traits

  account_id   = replace(each.key, "_", "-")
  display_name = "Function ${each.key}"

  depends_on = [google_project_service.enabled]
}

resource "google_cloud_run_v2_service" "function" {
  for_each = local.functions

  name                 = each.value.service
  location             = var.region
  ingress              = each.value.ingress
  invoker_iam_disabled = contains(local.balanced, each.key)
  iap_enabled          = each.value.has_iap
  deletion_protection  = false

  template {
    service_account                  = google_service_account.function[each.key].email
    timeout                          = "${each.value.timeout_seconds}s"
    max_instance_request_concurrency = each.value.threads

    scaling {
      min_instance_count = each.value.min_instances
      max_instance_count = each.value.max_instances
    }

    # Without a database there is nothing in the network to reach.
    dynamic "vpc_access" {
      for_each = each.value.has_database ? [var.vpc_egress] : []
      content {
        egress = vpc_access.value

        network_interfaces {
          network    = local.network
          subnetwork = local.subnet
        }
      }
    }

    dynamic "volumes" {
      for_each = each.value.has_database ? local.sockets : []
      content {
        name = "cloudsql"
        cloud_sql_instance { instances = [volumes.value] }
      }
    }

    dynamic "volumes" {
      for_each = each.value.has_bus ? local.files_of_bus : {}
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
      name       = "function"
      image      = each.value.image
      depends_on = [for collector in local.collectors : "collector"]

      # Requests go to the one container that names a port.
      ports { container_port = 8080 }

      dynamic "volume_mounts" {
        for_each = each.value.has_bus ? local.files_of_bus : {}
        iterator = file
        content {
          name       = file.key
          mount_path = dirname(file.value)
        }
      }

      # One CPU: one process of Python is slower on two.
      resources {
        limits            = { cpu = "1", memory = each.value.memory }
        cpu_idle          = each.value.cpu_idle
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.settings[each.key]
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.secret_settings[each.key]
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
        for_each = each.value.has_database ? local.sockets : []
        content {
          name       = "cloudsql"
          mount_path = "/cloudsql"
        }
      }

      # A new instance's way into the network can take a minute, so requests wait until the
      # database has answered, or 45 seconds have passed.
      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 90
        http_get {
          path = "/health/start"
        }
      }
      # An unavailable database is no reason to end a process.
      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 10
        failure_threshold = 3
        http_get {
          path = "/health/live"
        }
      }
    }

    dynamic "containers" {
      for_each = local.collectors
      iterator = collector
      content {
        name  = "collector"
        image = collector.value.image
        args  = ["--config=env:COLLECTOR_CONFIG"]

        resources {
          limits   = { cpu = collector.value.cpu, memory = collector.value.memory }
          cpu_idle = each.value.cpu_idle
        }
        env {
          name  = "COLLECTOR_CONFIG"
          value = collector.value.config
        }
        startup_probe {
          period_seconds    = 1
          failure_threshold = 30
          http_get {
            path = "/"
            port = 13133
          }
        }
      }
    }
  }

  dynamic "traffic" {
    for_each = contains(keys(var.canary), each.key) ? [var.canary[each.key]] : []
    content {
      type     = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
      revision = traffic.value.stable_revision
      percent  = 100 - traffic.value.percent
    }
  }
  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = try(var.canary[each.key].percent, 100)
    tag     = contains(keys(var.canary), each.key) ? "canary" : null
  }

  # A revision must be able to log in, read its secrets and publish from its first request.
  depends_on = [
    google_project_iam_member.database,
    google_pubsub_topic_iam_member.publisher,
    google_secret_manager_secret_iam_member.reader,
    google_sql_user.function,
  ]
}
