# How functions, workers and migrations run: who reaches them, what they reach, how they
# start.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "services" {
  command = plan

  variables {
    event_bus                 = "rabbitmq,pubsub"
    network                   = null
    load_balancer             = null
    identity_source           = "apigateway"
    relay_worker_instances    = 1
    approval_worker_instances = 1
  }

  assert {
    condition = jsonencode([
      for name, each in merge(google_cloud_run_v2_service.function, google_cloud_run_v2_worker_pool.worker) : name
      if contains([for variable in each.template[0].containers[0].env : variable.name], "ANALYTIC_SERVICE")
    ]) == jsonencode(["outbox_relay", "relay_worker"])
    error_message = "Only relays know where analytics is, so that nothing else waits for it."
  }

  assert {
    condition     = google_cloud_run_v2_service.function["item_status"].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    error_message = "item_status is reachable from the internal network only."
  }

  assert {
    condition = alltrue([
      for name in ["approval_handler", "outbox_relay"] :
      google_cloud_run_v2_service.function[name].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    ])
    error_message = "What only Google's own services call is reachable from the internal network only."
  }

  assert {
    condition = alltrue([
      for each in concat(
        values(google_cloud_run_v2_service.function),
        values(google_cloud_run_v2_worker_pool.worker),
        [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl],
      ) : each.deletion_protection == false
    ])
    error_message = "What holds no data can be replaced, so that a failed apply can be repeated."
  }

  assert {
    condition = alltrue([
      for service in google_cloud_run_v2_service.function :
      try(service.template[0].containers[0].liveness_probe[0].http_get[0].path, "") == "/health/live"
    ])
    error_message = "An instance's life is probed without the database."
  }

  assert {
    condition = alltrue(flatten([
      for service in google_cloud_run_v2_service.function : [
        for probe in service.template[0].containers[0].startup_probe :
        try(probe.http_get[0].path, "") == "/health/start" && probe.failure_threshold * probe.period_seconds >= 60 && probe.period_seconds == 1
      ]
    ]))
    error_message = "A new instance gets requests once the database has answered, and has a minute for that."
  }

  assert {
    condition = alltrue([
      for service in google_cloud_run_v2_service.function :
      service.template[0].containers[0].resources[0].startup_cpu_boost == true
    ])
    error_message = "Instances start with more CPU than they run with."
  }

  assert {
    condition = alltrue([
      for template in concat(
        [for name, each in google_cloud_run_v2_service.function : each.template[0] if name != "api_docs"],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0]],
        [for each in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : each.template[0].template[0]],
      ) :
      try(template.vpc_access[0].network_interfaces[0].subnetwork, null) == google_compute_subnetwork.functions[0].id
    ])
    error_message = "Functions, workers and migrations reach private addresses through the subnet."
  }

  assert {
    condition     = length(google_cloud_run_v2_service.function["api_docs"].template[0].vpc_access) == 0
    error_message = "Documents wait for no network."
  }

  assert {
    condition = alltrue([
      for service in google_cloud_run_v2_service.function :
      contains([for each in service.template[0].containers[0].env : "${each.name}=${each.value}" if each.value != null], "RUNNING_ON_CLOUDRUN=true")
    ])
    error_message = "Each function is told that it runs on Cloud Run."
  }

  assert {
    condition = alltrue([
      for name, source in {
        create_order_from_cart = var.identity_source
        orders_crud            = var.identity_source
        item_status            = "header"
      } :
      contains([for each in google_cloud_run_v2_service.function[name].template[0].containers[0].env : "${each.name}=${each.value}" if each.value != null], "IDENTITY_SOURCE=${source}")
    ])
    error_message = "What users call is told whose word on them counts; item_status, which the shop calls past the gateway, takes the header's."
  }
}
