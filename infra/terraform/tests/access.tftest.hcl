# Who may do what: each process as itself, with what it uses and nothing more.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "accounts" {
  command = plan

  variables {
    event_bus                 = "rabbitmq,pubsub"
    relay_worker_instances    = 1
    approval_worker_instances = 1
    gateway_service_account   = "gateway@acme.iam.gserviceaccount.com"
    shop_service_account      = "shop@acme.iam.gserviceaccount.com"
    identity_source           = "header"
    load_balancer             = null
  }

  assert {
    condition = (
      alltrue([for name, service in google_cloud_run_v2_service.function : service.template[0].service_account == google_service_account.function[name].email])
      && alltrue([for name, pool in google_cloud_run_v2_worker_pool.worker : pool.template[0].service_account == google_service_account.worker[name].email])
      && google_cloud_run_v2_job.migrate.template[0].template[0].service_account == google_service_account.migrations.email
      && google_cloud_run_v2_job.orderctl.template[0].template[0].service_account == google_service_account.operator.email
    )
    error_message = "Every function, worker and job runs as an account of its own."
  }

  # The roles of each account, by its name. What is not here, nobody may.
  assert {
    condition = jsonencode({
      for name, account in merge(
        google_service_account.function,
        google_service_account.worker,
        {
          build      = google_service_account.build
          migrations = google_service_account.migrations
          operator   = google_service_account.operator
          push       = google_service_account.push[0]
          scheduler  = google_service_account.scheduler
        },
      ) :
      name => sort(concat(
        [for each in google_project_iam_member.database : each.role if each.member == account.member],
        [for each in [google_project_iam_member.build_logs] : each.role if each.member == account.member],
        [for each in [google_artifact_registry_repository_iam_member.build_images] : "${each.role} on images" if each.member == account.member],
        [for each in [google_storage_bucket_iam_member.build_packages] : "${each.role} on packages" if each.member == account.member],
        [for each in google_pubsub_topic_iam_member.publisher : "${each.role} on ${each.topic}" if each.member == account.member],
        [for each in google_secret_manager_secret_iam_member.reader : "${each.role} on ${each.secret_id}" if each.member == account.member],
        [for each in google_cloud_run_v2_service_iam_member.invoker : "${each.role} on ${each.name}" if each.member == account.member],
      ))
      }) == jsonencode({
      api_docs = []
      approval_handler = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      approval_worker = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      build = [
        "roles/artifactregistry.writer on images",
        "roles/logging.logWriter",
        "roles/storage.objectViewer on packages",
      ]
      create_order_from_cart = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on gateway-jwt-secret",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      item_status = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on gateway-jwt-secret",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      migrations = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
      ]
      operator = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      orders_crud = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on gateway-jwt-secret",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      outbox_relay = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      push = ["roles/run.invoker on approval-handler"]
      relay_worker = [
        "roles/cloudsql.client",
        "roles/cloudsql.instanceUser",
        "roles/pubsub.publisher on order-events",
        "roles/secretmanager.secretAccessor on rabbitmq-password",
      ]
      scheduler = ["roles/run.invoker on outbox-relay"]
    })
    error_message = "Every account has the roles that it uses, and no other."
  }

  assert {
    condition = alltrue([
      for each in concat(values(google_project_iam_member.database), [google_project_iam_member.build_logs]) :
      contains(["roles/cloudsql.client", "roles/cloudsql.instanceUser", "roles/logging.logWriter"], each.role)
    ])
    error_message = "Nobody edits or owns the project: what can be granted on one thing is not granted on all."
  }

  assert {
    condition = jsonencode(sort([
      for each in google_cloud_run_v2_service_iam_member.invoker : "${each.name} ${each.role} ${each.member}"
      if !contains([google_service_account.push[0].member, google_service_account.scheduler.member], each.member)
      ])) == jsonencode([
      "api-docs roles/run.invoker serviceAccount:gateway@acme.iam.gserviceaccount.com",
      "create-order-from-cart roles/run.invoker serviceAccount:gateway@acme.iam.gserviceaccount.com",
      "item-status roles/run.invoker serviceAccount:shop@acme.iam.gserviceaccount.com",
      "orders-crud roles/run.invoker serviceAccount:gateway@acme.iam.gserviceaccount.com",
    ])
    error_message = "The gateway may invoke what users call, the shop item_status, and nobody else anything."
  }

  assert {
    condition = length(setintersection(
      ["allUsers", "allAuthenticatedUsers"],
      concat(
        [for each in google_cloud_run_v2_service_iam_member.invoker : each.member],
        [for each in google_project_iam_member.database : each.member],
        [for each in google_pubsub_topic_iam_member.publisher : each.member],
        [for each in google_secret_manager_secret_iam_member.reader : each.member],
        [google_project_iam_member.build_logs.member],
        [google_artifact_registry_repository_iam_member.build_images.member, google_storage_bucket_iam_member.build_packages.member],
        [google_pubsub_topic_iam_member.agent_buries[0].member, google_pubsub_subscription_iam_member.agent_acknowledges[0].member],
      ),
    )) == 0
    error_message = "Nothing is granted to everybody."
  }

  assert {
    condition     = alltrue([for service in google_cloud_run_v2_service.function : service.invoker_iam_disabled == false])
    error_message = "Without a load balancer every service asks who calls."
  }

  assert {
    condition = alltrue(flatten([
      for container in concat(
        [for each in google_cloud_run_v2_service.function : each.template[0].containers[0]],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0].containers[0]],
        [for each in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : each.template[0].template[0].containers[0]],
        ) : [
        for each in container.env :
        !can(regex("(PASS|PASSWORD|SECRET|TOKEN|_KEY|CREDENTIALS|DATABASE_URL|RABBITMQ_URL)$", each.name)) && !can(regex("://[^/@]*:[^/@]*@", each.value))
        if length(each.value_source) == 0
      ]
    ]))
    error_message = "No secret stands in the plain environment."
  }

  assert {
    condition = (
      alltrue([
        for container in concat(
          [for name, each in google_cloud_run_v2_service.function : each.template[0].containers[0] if name != "api_docs"],
          [for each in google_cloud_run_v2_worker_pool.worker : each.template[0].containers[0]],
          [google_cloud_run_v2_job.orderctl.template[0].template[0].containers[0]],
        ) :
        contains([for each in container.env : each.name if length(each.value_source) == 1], "RABBITMQ_PASS")
      ])
      && alltrue([
        for name in ["create_order_from_cart", "item_status", "orders_crud"] :
        contains([for each in google_cloud_run_v2_service.function[name].template[0].containers[0].env : each.name if length(each.value_source) == 1], "GATEWAY_JWT_SECRET")
      ])
    )
    error_message = "Every secret that a process needs comes from Secret Manager."
  }
}
