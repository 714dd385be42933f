# A regional internal Application Load Balancer, for siblings as they are: they send no
# identity token of Google's. Only if an environment asks for it.

locals {
  has_balancer = var.load_balancer != null

  # What is reached by it. Nothing but the shop service's host leads to item_status: the
  # platform's gateway passes on a client's own X-User-ID where there is no token, which
  # item_status believes.
  balanced = local.has_balancer ? toset(["api_docs", "create_order_from_cart", "item_status", "orders_crud"]) : toset([])

  hosts = local.has_balancer ? {
    gateway = "gateway.${var.load_balancer.domain}"
    shop    = "shop.${var.load_balancer.domain}"
  } : {}

  # An existing network may have its proxies' subnet: there is one for each region.
  default_proxy_range = local.has_own_network ? "10.21.0.0/26" : null
  proxy_range         = local.has_balancer ? try(coalesce(var.load_balancer.proxy_range, local.default_proxy_range), null) : null
}

resource "google_compute_subnetwork" "proxies" {
  count = local.proxy_range == null ? 0 : 1

  name          = "orders-proxies"
  network       = local.network
  region        = var.region
  ip_cidr_range = local.proxy_range
  purpose       = "REGIONAL_MANAGED_PROXY"
  role          = "ACTIVE"
}

resource "google_compute_region_network_endpoint_group" "function" {
  for_each = local.balanced

  name                  = google_cloud_run_v2_service.function[each.key].name
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloud_run_v2_service.function[each.key].name
  }
}

resource "google_compute_region_backend_service" "function" {
  for_each = local.balanced

  name                  = google_cloud_run_v2_service.function[each.key].name
  region                = var.region
  load_balancing_scheme = "INTERNAL_MANAGED"
  protocol              = "HTTP"

  backend {
    group           = google_compute_region_network_endpoint_group.function[each.key].id
    balancing_mode  = "UTILIZATION"
    capacity_scaler = 1
  }
}

# Paths keep their last slash or have none, and nothing is redirected. What no rule
# matches is for api_docs, which has the documents, and a 404 for all else.
resource "google_compute_region_url_map" "balancer" {
  count = local.has_balancer ? 1 : 0

  name            = "orders"
  region          = var.region
  default_service = google_compute_region_backend_service.function["api_docs"].id

  host_rule {
    hosts        = [local.hosts.gateway]
    path_matcher = "gateway"
  }
  host_rule {
    hosts        = [local.hosts.shop]
    path_matcher = "shop"
  }

  path_matcher {
    name            = "gateway"
    default_service = google_compute_region_backend_service.function["api_docs"].id

    route_rules {
      priority = 1
      service  = google_compute_region_backend_service.function["create_order_from_cart"].id
      match_rules {
        prefix_match = "/api/orders-from-shopcart"
      }
    }
    # A status is not among its routes: 404.
    route_rules {
      priority = 2
      service  = google_compute_region_backend_service.function["orders_crud"].id
      match_rules {
        prefix_match = "/api/orders"
      }
      match_rules {
        prefix_match = "/api/order-items"
      }
    }
  }

  path_matcher {
    name            = "shop"
    default_service = google_compute_region_backend_service.function["api_docs"].id

    route_rules {
      priority = 1
      service  = google_compute_region_backend_service.function["item_status"].id
      match_rules {
        path_template_match = "/api/order-items/*/status"
      }
      match_rules {
        path_template_match = "/api/order-items/*/status/**"
      }
    }
  }

  # Google runs these at each apply.
  test {
    host    = local.hosts.gateway
    path    = "/api/orders-from-shopcart/"
    service = google_compute_region_backend_service.function["create_order_from_cart"].id
  }
  test {
    host    = local.hosts.gateway
    path    = "/api/order-items/7/status/"
    service = google_compute_region_backend_service.function["orders_crud"].id
  }
  test {
    host    = local.hosts.shop
    path    = "/api/order-items/7/status/"
    service = google_compute_region_backend_service.function["item_status"].id
  }
  test {
    host    = local.hosts.shop
    path    = "/api/orders/"
    service = google_compute_region_backend_service.function["api_docs"].id
  }
}

resource "google_compute_region_target_http_proxy" "balancer" {
  count = local.has_balancer ? 1 : 0

  name    = "orders"
  region  = var.region
  url_map = google_compute_region_url_map.balancer[0].id
}

# Siblings call http://, and from any region.
resource "google_compute_forwarding_rule" "balancer" {
  count = local.has_balancer ? 1 : 0

  name                  = "orders"
  region                = var.region
  load_balancing_scheme = "INTERNAL_MANAGED"
  ip_protocol           = "TCP"
  port_range            = "80"
  target                = google_compute_region_target_http_proxy.balancer[0].id
  network               = local.network
  subnetwork            = local.subnet
  network_tier          = "PREMIUM"
  allow_global_access   = true

  depends_on = [google_compute_subnetwork.proxies]
}

resource "google_dns_managed_zone" "balancer" {
  count = local.has_balancer ? 1 : 0

  name        = "orders"
  dns_name    = "${var.load_balancer.domain}."
  description = "Where the gateway and the shop service find the functions."
  visibility  = "private"

  private_visibility_config {
    dynamic "networks" {
      for_each = local.resolving_networks
      content {
        network_url = networks.value
      }
    }
  }

  depends_on = [google_project_service.enabled]
}

resource "google_dns_record_set" "balancer" {
  for_each = local.hosts

  managed_zone = google_dns_managed_zone.balancer[0].name
  name         = "${each.value}."
  type         = "A"
  ttl          = 300
  rrdatas      = [google_compute_forwarding_rule.balancer[0].ip_address]
}
