# A network of our own; the database has a private address in it, and functions send
# into it what is for private addresses: RabbitMQ, siblings, the database.

resource "google_compute_network" "this" {
  name                    = "orders"
  auto_create_subnetworks = false

  depends_on = [google_project_service.enabled]
}

resource "google_compute_subnetwork" "functions" {
  name          = "orders-functions"
  network       = google_compute_network.this.id
  region        = var.region
  ip_cidr_range = var.subnet_range

  # Google's own services stay reachable where all traffic goes through the network.
  private_ip_google_access = true
}

resource "google_compute_global_address" "services" {
  name          = "orders-private-services"
  network       = google_compute_network.this.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.this.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]

  # Google takes days to let go of it after the database is gone.
  deletion_policy = "ABANDON"

  depends_on = [google_project_service.enabled]
}
