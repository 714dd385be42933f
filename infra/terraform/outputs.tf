# What operators and the gateway's document need to know.

output "service_urls" {
  description = "Where each function is; the gateway's document names these."
  value       = { for name, service in google_cloud_run_v2_service.function : name => service.uri }
}

output "image_repository" {
  description = "Where images are pushed to."
  value       = local.repository
}

output "function_images" {
  description = "The image that each function's package must have been built into before it is deployed."
  value       = { for name, function in local.functions : name => function.image }
}

output "connection_name" {
  description = "CLOUD_SQL_CONNECTION_NAME, also for the Cloud SQL Auth Proxy."
  value       = google_sql_database_instance.orders.connection_name
}

output "logins" {
  description = "The database logins of functions, workers and operators, as the migration job grants them their rights."
  value       = local.logins
}

output "topic" {
  description = "The topic of order events, null without Pub/Sub."
  value       = one(google_pubsub_topic.order_events[*].id)
}

output "dead_letter_subscription" {
  description = "What pushes given-up messages to the approval handler, null without Pub/Sub."
  value       = one(google_pubsub_subscription.dead_letters[*].id)
}

output "secrets" {
  description = "Secrets that need a version before functions can start: gcloud secrets versions add NAME --data-file=-"
  value       = local.secrets
}

output "migration_job" {
  description = "gcloud run jobs execute NAME --region REGION --wait"
  value       = google_cloud_run_v2_job.migrate.name
}

output "orderctl_job" {
  description = "gcloud run jobs execute NAME --region REGION --wait --args=doctor"
  value       = google_cloud_run_v2_job.orderctl.name
}

output "connection_budget" {
  description = "Database connections: each process's most, all together, and how many are allowed."
  value = {
    each    = local.connections
    most    = local.most_connections
    allowed = local.allowed_connections
  }
}

output "network" {
  description = "The network that RabbitMQ and siblings must be reachable from."
  value       = local.network
}

output "hosts" {
  description = "Where the gateway and the shop service call, without the load balancer none: http://HOST"
  value       = local.hosts
}
