# What costs money without being of use is left out, or can be.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "by_default" {
  command = plan

  assert {
    condition = anytrue([
      for each in google_logging_project_exclusion.lines :
      strcontains(each.filter, "log_id(\"run.googleapis.com/requests\")") && strcontains(each.filter, "severity < WARNING")
    ])
    error_message = "The platform's own line of a request is not kept, unless it failed."
  }

  assert {
    condition     = length(google_logging_project_exclusion.lines) == 1
    error_message = "All lines of our own are kept unless an environment asks for fewer."
  }

  assert {
    condition = alltrue([
      for action in ["KEEP", "DELETE"] : contains([for policy in google_artifact_registry_repository.images.cleanup_policies : policy.action], action)
    ]) && anytrue([for policy in google_artifact_registry_repository.images.cleanup_policies : try(policy.most_recent_versions[0].keep_count, 0) >= 5])
    error_message = "Old images are deleted, and the newest of each stay for a roll-back."
  }

  assert {
    condition     = google_artifact_registry_repository.images.docker_config[0].immutable_tags == false
    error_message = "Images can be deleted: with immutable tags Google keeps them for ever."
  }
}

run "fewer_lines" {
  command = plan

  variables {
    log_level               = "ERROR"
    log_retention_days      = 7
    logged_requests_percent = 10
  }

  assert {
    condition = alltrue([
      for each in google_logging_project_exclusion.lines :
      strcontains(each.filter, "log_id(\"run.googleapis.com/requests\")")
      || (strcontains(each.filter, "logger = \"orders.http\"") && strcontains(each.filter, "status < 400") && endswith(each.filter, "sample(insertId, 0.9)"))
    ]) && length(google_logging_project_exclusion.lines) == 2
    error_message = "Lines of requests that succeeded may be sampled, and no others."
  }

  assert {
    condition     = google_logging_project_bucket_config.default.retention_days == 7 && google_logging_project_bucket_config.default.bucket_id == "_Default"
    error_message = "Lines are kept for as long as an environment asks."
  }

  assert {
    condition = alltrue([
      for service in google_cloud_run_v2_service.function :
      contains([for each in service.template[0].containers[0].env : "${each.name}=${each.value}" if each.value != null], "LOG_LEVEL=ERROR")
    ])
    error_message = "Less than INFO may be logged."
  }
}

run "instances_instead_of_requests" {
  command = plan

  variables {
    scaling = {
      item_status = { cpu_idle = false, threads = 4, max_instances = 2 }
    }
    database = { tier = "db-custom-4-16384", max_connections = 800 }
  }

  assert {
    condition = alltrue([
      for name, service in google_cloud_run_v2_service.function :
      service.template[0].containers[0].resources[0].cpu_idle == (name != "item_status")
    ])
    error_message = "Requests are paid for, or instances where an environment says so."
  }
}
