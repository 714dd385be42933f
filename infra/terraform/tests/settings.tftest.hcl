# What processes are told beyond what is worked out here, and what they get for it.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "more_settings" {
  command = plan

  variables {
    relay_worker_instances = 1
    settings               = { STOCK_SETTLE_SECONDS = "8", LOG_USER_IDS = "hashed" }
    function_settings = {
      item_status  = { STATUS_REQUIRE_SHOP_CLAIM = "true" }
      relay_worker = { OTEL_SERVICE_NAME = "relay" }
      orderctl     = { LOG_FORMAT = "text" }
    }
  }

  assert {
    condition = alltrue([
      for container in concat(
        [for each in google_cloud_run_v2_service.function : each.template[0].containers[0]],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0].containers[0]],
        [for each in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : each.template[0].template[0].containers[0]],
      ) :
      contains([for each in container.env : "${each.name}=${each.value}" if each.value != null], "STOCK_SETTLE_SECONDS=8")
    ])
    error_message = "A further setting reaches every process."
  }

  assert {
    condition = alltrue([
      for name, setting in {
        for name, container in merge(
          { for name, each in google_cloud_run_v2_service.function : name => each.template[0].containers[0] },
          { for name, each in google_cloud_run_v2_worker_pool.worker : name => each.template[0].containers[0] },
          { orderctl = google_cloud_run_v2_job.orderctl.template[0].template[0].containers[0] },
        ) : name => join(",", [for each in container.env : each.name if contains(["STATUS_REQUIRE_SHOP_CLAIM", "OTEL_SERVICE_NAME", "LOG_FORMAT"], each.name)])
      } :
      setting == lookup({ item_status = "STATUS_REQUIRE_SHOP_CLAIM", relay_worker = "OTEL_SERVICE_NAME", orderctl = "LOG_FORMAT" }, name, "")
    ])
    error_message = "A setting of one process reaches that one, and no other."
  }

  assert {
    condition = alltrue([
      for name, service in google_cloud_run_v2_service.function :
      length([for each in service.template[0].containers[0].env : each if contains(["LOG_USER_IDS", "LOG_USER_ID_KEY"], each.name)])
      == (contains(["create_order_from_cart", "orders_crud", "item_status"], name) ? 2 : 0)
      && alltrue([for each in service.template[0].containers[0].env : each.value == null if each.name == "LOG_USER_ID_KEY"])
    ]) && contains(keys(google_secret_manager_secret.this), "log-user-id-key")
    error_message = "Users are hashed with a key that is a secret, where there are users."
  }
}

run "private_authority" {
  command = plan

  variables {
    event_bus = "rabbitmq,pubsub"
    rabbitmq  = { host = "rabbitmq.internal", user = "orders", private_ca = true }
  }

  assert {
    condition = alltrue([
      for template in concat(
        [for name, each in google_cloud_run_v2_service.function : each.template[0] if name != "api_docs"],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0]],
        [google_cloud_run_v2_job.orderctl.template[0].template[0]],
      ) :
      contains([for each in template.containers[0].env : "${each.name}=${each.value}" if each.value != null], join("/", [
        "RABBITMQ_CA_FILE=${one([for each in template.containers[0].volume_mounts : each.mount_path if each.name == "rabbitmq-ca"])}",
        one(flatten([for each in template.volumes : [for secret in each.secret : secret.items[0].path] if each.name == "rabbitmq-ca"])),
      ]))
    ])
    error_message = "The authority of a private broker is a file from a secret, where the setting says."
  }

  assert {
    condition = alltrue([
      for name in concat(keys(google_cloud_run_v2_worker_pool.worker), ["operator", "orders_crud", "outbox_relay"]) :
      contains(keys(google_secret_manager_secret_iam_member.reader), "${name}/rabbitmq-ca")
    ])
    error_message = "Whoever connects to the broker may read its authority."
  }
}

run "collected" {
  command = plan

  variables {
    collector = "example.dev/otelcol:0.140.0"
  }

  assert {
    condition = alltrue([
      for template in concat(
        [for each in google_cloud_run_v2_service.function : each.template[0]],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0]],
      ) :
      try(template.containers[1].image, "") == "example.dev/otelcol:0.140.0"
      && contains([for each in template.containers[0].env : "${each.name}=${each.value}" if each.value != null], "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318")
    ])
    error_message = "A collector stands beside each function and worker, which send to it."
  }

  assert {
    condition = alltrue([
      for service in google_cloud_run_v2_service.function :
      length(service.template[0].containers[0].ports) == 1 && length(service.template[0].containers[1].ports) == 0
      && contains(service.template[0].containers[0].depends_on, "collector")
    ])
    error_message = "Requests go to the function, which starts after its collector."
  }

  assert {
    condition     = toset([for each in google_project_iam_member.collector : each.role]) == toset(["roles/cloudtrace.agent", "roles/monitoring.metricWriter"])
    error_message = "What is collected may be written, and nothing else."
  }
}
