# What may run at a time fits the database. Everything that connects is counted here
# once more, from the resources and not from the configuration's own sums.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "capacity" {
  command = plan

  variables {
    relay_worker_instances    = 1
    approval_worker_instances = 1
  }

  assert {
    condition = alltrue([
      for service in google_cloud_run_v2_service.function :
      tonumber(one([for each in service.template[0].containers[0].env : each.value if each.name == "THREADS"])) == service.template[0].max_instance_request_concurrency
    ])
    error_message = "THREADS, which is also the size of a pool, is the number of requests that an instance takes at a time."
  }

  assert {
    condition = alltrue([
      for service in google_cloud_run_v2_service.function :
      service.template[0].containers[0].resources[0].limits.cpu == "1"
    ])
    error_message = "An instance has one CPU: one process of Python is slower on two."
  }

  # During a deployment old instances are there beside the new ones: twice as many. A
  # relay listens on a connection of its own.
  assert {
    condition = sum(concat(
      [
        for service in google_cloud_run_v2_service.function :
        2 * service.template[0].scaling[0].max_instance_count * tonumber(one([for each in service.template[0].containers[0].env : each.value if each.name == "THREADS"]))
        if contains([for each in service.template[0].containers[0].env : each.name], "CLOUD_SQL_CONNECTION_NAME")
      ],
      [
        for name, pool in google_cloud_run_v2_worker_pool.worker :
        2 * pool.scaling[0].manual_instance_count * sum([
          tonumber(one([for each in pool.template[0].containers[0].env : each.value if each.name == "THREADS"])),
          name == "relay_worker" ? 1 : 0,
        ])
      ],
      [var.database.reserved_connections],
    )) <= tonumber(one([for each in google_sql_database_instance.orders.settings[0].database_flags : each.value if each.name == "max_connections"]))
    error_message = "All instances of functions and workers, twice, with their pools, fit max_connections without its reserve."
  }

  assert {
    condition = sum([
      for job in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] :
      max(1, job.template[0].task_count) * tonumber(one([for each in job.template[0].template[0].containers[0].env : each.value if each.name == "THREADS"]))
    ]) <= var.database.reserved_connections
    error_message = "Migrations and operators, a process each, fit the reserve of max_connections."
  }
}
