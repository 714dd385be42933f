# What the API would answer is made up, already for a plan: each value another one.

mock_resource "google_artifact_registry_repository" {}

mock_resource "google_artifact_registry_repository_iam_member" {}

mock_resource "google_cloud_run_v2_job" {}

mock_resource "google_cloud_run_v2_service" {}

mock_resource "google_cloud_run_v2_service_iam_member" {}

mock_resource "google_cloud_run_v2_worker_pool" {}

mock_resource "google_cloud_scheduler_job" {}

mock_resource "google_compute_address" {}

mock_resource "google_compute_forwarding_rule" {}

mock_resource "google_compute_global_address" {}

mock_resource "google_compute_network" {}

mock_resource "google_compute_network_peering" {}

mock_resource "google_compute_region_backend_service" {}

mock_resource "google_compute_region_network_endpoint_group" {}

mock_resource "google_compute_region_target_http_proxy" {}

mock_resource "google_compute_region_url_map" {}

mock_resource "google_compute_subnetwork" {}

mock_resource "google_dns_managed_zone" {}

mock_resource "google_dns_record_set" {}

mock_resource "google_iap_web_cloud_run_service_iam_member" {}

mock_resource "google_logging_metric" {}

mock_resource "google_logging_project_bucket_config" {}

mock_resource "google_logging_project_exclusion" {}

mock_resource "google_monitoring_alert_policy" {}

mock_resource "google_monitoring_dashboard" {}

mock_resource "google_monitoring_notification_channel" {}

mock_resource "google_project_iam_member" {}

mock_resource "google_project_service" {}

mock_resource "google_pubsub_subscription" {}

mock_resource "google_pubsub_subscription_iam_member" {}

mock_resource "google_pubsub_topic" {}

mock_resource "google_pubsub_topic_iam_member" {}

mock_resource "google_secret_manager_secret" {}

mock_resource "google_secret_manager_secret_iam_member" {}

mock_resource "google_service_account" {}

mock_resource "google_service_networking_connection" {}

mock_resource "google_sql_database" {}

mock_resource "google_sql_database_instance" {}

mock_resource "google_sql_user" {}

mock_resource "google_storage_bucket_iam_member" {}

mock_data "google_project" {}
