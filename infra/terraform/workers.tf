# Processes that are always on: the consumer of RabbitMQ's queue, and a relay that sends
# events within moments. Off unless they have instances; they stay, with none, so that
# turning one off deletes neither it nor its login. Without RabbitMQ there is no consumer.

locals {
  worker_threads = 4
  workers = {
    for name, worker in {
      relay_worker = {
        instances = var.relay_worker_instances
        script    = "functions/outbox_relay/worker.py"
        siblings  = local.siblings_of_relay
      }
      approval_worker = {
        instances = var.approval_worker_instances
        script    = "functions/approval_handler/worker.py"
        siblings  = {} # an approval waits for nobody
      }
    } : name => worker if name != "approval_worker" || local.has_rabbitmq
  }

  siblings_of_relay = {
    for name in ["ANALYTIC_SERVICE", "PRODUCT_SERVICE"] :
    name => local.sibling_urls[name] if local.sibling_urls[name] != null
  }

  # Of what is no function, yet sends events as they do; each adds its login.
  settings_of_processes = merge(
    local.settings_of_all,
    local.settings_of_database,
    local.settings_of_bus,
    { THREADS = tostring(local.worker_threads) },
  )
}

resource "google_service_account" "worker" {
  for_each = local.workers

  account_id   = replace(each.key, "_", "-")
  display_name = "Worker ${each.key}"

  depends_on = [google_project_service.enabled]
}

resource "google_cloud_run_v2_worker_pool" "worker" {
  for_each = local.workers

  name                = replace(each.key, "_", "-")
  location            = var.region
  deletion_protection = false

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = each.value.instances
  }

  template {
    service_account = google_service_account.worker[each.key].email

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
      name    = "worker"
      image   = var.image
      command = ["python"]
      args    = [each.value.script]

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
          each.value.siblings,
          local.settings_of_collector,
          lookup(var.function_settings, each.key, {}),
          { POSTGRES_USER = local.logins[each.key] },
        )
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = merge(local.secrets_of_bus, local.passwords[each.key])
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

    dynamic "containers" {
      for_each = local.collectors
      iterator = collector
      content {
        name  = "collector"
        image = collector.value.image
        args  = ["--config=env:COLLECTOR_CONFIG"]

        resources {
          limits = { cpu = collector.value.cpu, memory = collector.value.memory }
        }
        env {
          name  = "COLLECTOR_CONFIG"
          value = collector.value.config
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.image != null
      error_message = "image is not set: workers run it."
    }
  }

  depends_on = [
    google_project_iam_member.database,
    google_pubsub_topic_iam_member.publisher,
    google_secret_manager_secret_iam_member.reader,
    google_sql_user.function,
  ]
}
