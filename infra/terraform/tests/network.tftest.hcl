# Where processes are in the network, and what else is in it.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "own" {
  command = plan

  variables {
    network         = null
    peered_networks = { shop = "projects/acme-shop/global/networks/shop" }
    private_endpoints = {
      rabbitmq = {
        target = "projects/broker/regions/europe-west1/serviceAttachments/acme"
        host   = "acme.rabbit.example"
      }
    }
  }

  assert {
    condition     = google_sql_database_instance.orders.settings[0].ip_configuration[0].private_network == google_service_networking_connection.services[0].network
    error_message = "The database's address is in the network by private services access."
  }

  assert {
    condition = (
      google_compute_network_peering.sibling["shop"].network == google_compute_network.this[0].id
      && google_compute_network_peering.sibling["shop"].peer_network == "projects/acme-shop/global/networks/shop"
    )
    error_message = "Networks of siblings are peered with ours."
  }

  assert {
    condition = alltrue([
      for name, endpoint in google_compute_forwarding_rule.endpoint :
      endpoint.target == var.private_endpoints[name].target
      && endpoint.load_balancing_scheme == ""
      && endpoint.ip_address == google_compute_address.endpoint[name].id
      && google_dns_record_set.endpoint[name].name == "${var.private_endpoints[name].host}."
      && one(google_dns_record_set.endpoint[name].rrdatas) == google_compute_address.endpoint[name].address
      && google_dns_managed_zone.endpoint[name].visibility == "private"
    ]) && length(google_compute_forwarding_rule.endpoint) == 1
    error_message = "A service's own name leads to its Private Service Connect endpoint."
  }
}

run "existing" {
  command = plan

  variables {
    network                   = { name = "shared", subnet = "orders", project = "acme-network" }
    relay_worker_instances    = 1
    approval_worker_instances = 0
  }

  assert {
    condition = (
      length(google_compute_network.this) + length(google_compute_subnetwork.functions)
      + length(google_compute_global_address.services) + length(google_service_networking_connection.services)
    ) == 0
    error_message = "In an existing network no network is made, nor its private services access."
  }

  assert {
    condition = alltrue([
      for template in concat(
        [for name, each in google_cloud_run_v2_service.function : each.template[0] if name != "api_docs"],
        [for each in google_cloud_run_v2_worker_pool.worker : each.template[0]],
        [for each in [google_cloud_run_v2_job.migrate, google_cloud_run_v2_job.orderctl] : each.template[0].template[0]],
      ) :
      template.vpc_access[0].network_interfaces[0].network == "projects/acme-network/global/networks/shared"
      && template.vpc_access[0].network_interfaces[0].subnetwork == "projects/acme-network/regions/${var.region}/subnetworks/orders"
    ]) && google_sql_database_instance.orders.settings[0].ip_configuration[0].private_network == "projects/acme-network/global/networks/shared"
    error_message = "Processes and the database are in the existing network, which may be another project's."
  }
}

run "a_shared_network_is_peered_by_its_owner" {
  command = plan

  variables {
    network         = { name = "shared", subnet = "orders", project = "acme-network" }
    peered_networks = { shop = "projects/acme-shop/global/networks/shop" }
  }

  expect_failures = [var.peered_networks]
}
