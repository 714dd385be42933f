# The network: our own, or one that exists and may be another project's. Processes with a
# database send into it what is for private addresses: RabbitMQ, siblings, the database.

locals {
  has_own_network = var.network == null
  network_project = coalesce(try(var.network.project, null), var.project_id)
  network = (
    local.has_own_network ? google_compute_network.this[0].id
    : "projects/${local.network_project}/global/networks/${var.network.name}"
  )
  subnet = (
    local.has_own_network ? google_compute_subnetwork.functions[0].id
    : "projects/${local.network_project}/regions/${var.region}/subnetworks/${var.network.subnet}"
  )

  # Who resolves the names that are made here.
  resolving_networks = concat([local.network], values(var.peered_networks))

  # What is reached by Private Service Connect, and the name by which it is looked up.
  private_endpoints = merge(
    var.private_endpoints,
    var.database.address != "psc" ? {} : {
      database = {
        target = google_sql_database_instance.orders.psc_service_attachment_link
        host   = trimsuffix(google_sql_database_instance.orders.dns_name, ".")
      }
    },
  )
}

resource "google_compute_network" "this" {
  count = local.has_own_network ? 1 : 0

  name                    = "orders"
  auto_create_subnetworks = false

  depends_on = [google_project_service.enabled]
}

resource "google_compute_subnetwork" "functions" {
  count = local.has_own_network ? 1 : 0

  name          = "orders-functions"
  network       = local.network
  region        = var.region
  ip_cidr_range = var.subnet_range

  # Google's own services stay reachable where all traffic goes through the network.
  private_ip_google_access = true
}

# Private services access, by which Cloud SQL has an address in the network. An existing
# network has one for all that is in it, made by whom it belongs to.
resource "google_compute_global_address" "services" {
  count = local.has_own_network && var.database.address == "peering" ? 1 : 0

  name          = "orders-private-services"
  network       = local.network
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "services" {
  count = local.has_own_network && var.database.address == "peering" ? 1 : 0

  network                 = local.network
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services[0].name]

  # Google takes days to let go of it after the database is gone.
  deletion_policy = "ABANDON"

  depends_on = [google_project_service.enabled]
}

# Our half of each peering; the other network's owner makes the other.
resource "google_compute_network_peering" "sibling" {
  for_each = var.peered_networks

  name         = "orders-${each.key}"
  network      = local.network
  peer_network = each.value
}

# Private Service Connect: an address in the subnet that leads to somebody's service.
resource "google_compute_address" "endpoint" {
  for_each = local.private_endpoints

  name         = "orders-${each.key}"
  region       = var.region
  address_type = "INTERNAL"
  subnetwork   = local.subnet

  depends_on = [google_project_service.enabled]
}

resource "google_compute_forwarding_rule" "endpoint" {
  for_each = local.private_endpoints

  name                  = "orders-${each.key}"
  region                = var.region
  load_balancing_scheme = ""
  target                = each.value.target
  network               = local.network
  ip_address            = google_compute_address.endpoint[each.key].id
}

# A certificate is for a name, so each endpoint is found by the one that its service has.
resource "google_dns_managed_zone" "endpoint" {
  for_each = local.private_endpoints

  name        = "orders-${each.key}"
  dns_name    = "${each.value.host}."
  description = "Leads to a Private Service Connect endpoint."
  visibility  = "private"

  private_visibility_config {
    networks {
      network_url = local.network
    }
  }

  depends_on = [google_project_service.enabled]
}

resource "google_dns_record_set" "endpoint" {
  for_each = local.private_endpoints

  managed_zone = google_dns_managed_zone.endpoint[each.key].name
  name         = google_dns_managed_zone.endpoint[each.key].dns_name
  type         = "A"
  ttl          = 300
  rrdatas      = [google_compute_address.endpoint[each.key].address]
}
