# The load balancer: by it siblings reach the functions that are theirs to call, and only
# those.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "without" {
  command = plan

  variables {
    load_balancer = null
  }

  assert {
    condition = (
      length(google_compute_forwarding_rule.balancer) + length(google_compute_region_url_map.balancer)
      + length(google_compute_region_backend_service.function) + length(google_compute_region_network_endpoint_group.function)
      + length(google_dns_managed_zone.balancer) + length(google_compute_subnetwork.proxies)
    ) == 0
    error_message = "There is no load balancer unless an environment asks for one."
  }
}

run "balancer" {
  command = plan

  variables {
    event_bus               = "rabbitmq,pubsub"
    identity_source         = "header"
    load_balancer           = {}
    gateway_service_account = "gateway@acme.iam.gserviceaccount.com"
    shop_service_account    = "shop@acme.iam.gserviceaccount.com"
    gateway_ingress         = "INGRESS_TRAFFIC_ALL"
    peered_networks         = { shop = "projects/acme-shop/global/networks/shop" }
  }

  # Host, then paths and the function behind each of its rules, in their order.
  assert {
    condition = jsonencode({
      for host in google_compute_region_url_map.balancer[0].host_rule : one(host.hosts) => flatten([
        for matcher in google_compute_region_url_map.balancer[0].path_matcher : concat(
          [
            for rule in matcher.route_rules : join(" ", concat(
              [tostring(rule.priority)],
              [for match in rule.match_rules : coalesce(match.prefix_match, match.path_template_match)],
              [for name, backend in google_compute_region_backend_service.function : name if backend.id == rule.service],
            ))
          ],
          [for name, backend in google_compute_region_backend_service.function : name if backend.id == matcher.default_service],
        ) if matcher.name == host.path_matcher
      ])
      }) == jsonencode({
      "gateway.orders.internal" = [
        "1 /api/orders-from-shopcart create_order_from_cart",
        "2 /api/orders /api/order-items orders_crud",
        "api_docs",
      ]
      "shop.orders.internal" = [
        "1 /api/order-items/*/status /api/order-items/*/status/** item_status",
        "api_docs",
      ]
    })
    error_message = "The gateway's host leads to each function but item_status, the shop service's to item_status alone."
  }

  assert {
    condition     = google_compute_region_url_map.balancer[0].default_service == google_compute_region_backend_service.function["api_docs"].id
    error_message = "Another host finds documents, and nothing else."
  }

  assert {
    condition = alltrue([
      for name, backend in google_compute_region_backend_service.function :
      one(backend.backend).group == google_compute_region_network_endpoint_group.function[name].id
      && one(backend.backend).capacity_scaler == 1
      && google_compute_region_network_endpoint_group.function[name].network_endpoint_type == "SERVERLESS"
      && google_compute_region_network_endpoint_group.function[name].cloud_run[0].service == google_cloud_run_v2_service.function[name].name
    ])
    error_message = "Each backend is the function that it is called by."
  }

  assert {
    condition = jsonencode([
      for name, service in google_cloud_run_v2_service.function : name if service.invoker_iam_disabled
    ]) == jsonencode(["api_docs", "create_order_from_cart", "item_status", "orders_crud"])
    error_message = "What the load balancer leads to asks for no identity of Google's, and all else does."
  }

  assert {
    condition     = alltrue([for service in google_cloud_run_v2_service.function : service.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"])
    error_message = "With the load balancer nothing is reachable from outside."
  }

  assert {
    condition = alltrue([
      for name in ["create_order_from_cart", "item_status", "orders_crud"] :
      contains([for each in google_cloud_run_v2_service.function[name].template[0].containers[0].env : each.name if length(each.value_source) == 1], "GATEWAY_JWT_SECRET")
      && contains([for each in google_cloud_run_v2_service.function[name].template[0].containers[0].env : "${each.name}=${each.value}" if each.value != null], "IDENTITY_SOURCE=header")
    ])
    error_message = "What everybody in the network may call verifies users' tokens."
  }

  assert {
    condition = length([
      for each in google_cloud_run_v2_service_iam_member.invoker : each.member
      if contains(["serviceAccount:gateway@acme.iam.gserviceaccount.com", "serviceAccount:shop@acme.iam.gserviceaccount.com"], each.member)
    ]) == 0
    error_message = "Who comes by the load balancer is granted nothing besides."
  }

  assert {
    condition = (
      google_compute_forwarding_rule.balancer[0].load_balancing_scheme == "INTERNAL_MANAGED"
      && google_compute_forwarding_rule.balancer[0].allow_global_access
      && google_compute_forwarding_rule.balancer[0].target == google_compute_region_target_http_proxy.balancer[0].id
      && google_compute_region_target_http_proxy.balancer[0].url_map == google_compute_region_url_map.balancer[0].id
      && alltrue([for each in google_compute_region_backend_service.function : each.load_balancing_scheme == "INTERNAL_MANAGED"])
    )
    error_message = "The load balancer is an internal one, called from any region."
  }

  assert {
    condition = (
      google_compute_subnetwork.proxies[0].purpose == "REGIONAL_MANAGED_PROXY"
      && google_compute_subnetwork.proxies[0].role == "ACTIVE"
      && google_compute_subnetwork.proxies[0].network == google_compute_network.this[0].id
    )
    error_message = "Its proxies have a subnet of their own."
  }

  assert {
    condition = (
      google_dns_managed_zone.balancer[0].visibility == "private"
      && jsonencode(sort([for each in google_dns_managed_zone.balancer[0].private_visibility_config[0].networks : each.network_url]))
      == jsonencode(sort([google_compute_network.this[0].id, "projects/acme-shop/global/networks/shop"]))
      && jsonencode([for each in google_dns_record_set.balancer : each.name]) == jsonencode(["gateway.orders.internal.", "shop.orders.internal."])
      && alltrue([for each in google_dns_record_set.balancer : one(each.rrdatas) == google_compute_forwarding_rule.balancer[0].ip_address])
    )
    error_message = "Both hosts are found in the network and in its peers, and nowhere else."
  }
}

run "in_an_existing_network" {
  command = plan

  variables {
    identity_source = "header"
    load_balancer   = { domain = "orders.acme.internal" }
    network         = { name = "shared", subnet = "orders", project = "acme-network" }
  }

  assert {
    condition = (
      length(google_compute_subnetwork.proxies) == 0
      && google_compute_forwarding_rule.balancer[0].network == "projects/acme-network/global/networks/shared"
      && google_compute_forwarding_rule.balancer[0].subnetwork == "projects/acme-network/regions/${var.region}/subnetworks/orders"
    )
    error_message = "In an existing network the proxies' subnet is the one that is there."
  }
}

run "only_where_tokens_are_verified" {
  command = plan

  variables {
    identity_source = "apigateway"
    load_balancer   = {}
  }

  expect_failures = [var.load_balancer]
}
