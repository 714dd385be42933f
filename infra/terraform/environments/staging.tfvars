# Staging: as production, small and cheap. Names are examples: put your own.

project_id     = "acme-orders-staging"
region         = "europe-west1"
environment    = "staging"
package_bucket = "acme-orders-staging-packages"

# Set it to today each month, or for a fix, and deploy: all images are built anew.
patched_on = "2026-12-01"

event_bus = "rabbitmq,pubsub"
rabbitmq = {
  host = "rabbitmq.staging.internal"
  user = "orders"
}

siblings = {
  shopcart  = "https://shopcart.staging.internal"
  product   = "https://product.staging.internal"
  analytics = "https://analytics.staging.internal"
}

# The platform's own gateway and the shop service send no identity token of Google's: they
# call http://gateway.orders.internal and http://shop.orders.internal.
load_balancer = {}

database = {
  tier             = "db-custom-1-3840"
  max_connections  = 150
  is_regional      = false
  retained_backups = 7
}
deletion_protection = false

# 4 × (2 instances × 2 × 4) + 2 × 2 × 4 = 80 connections of the 100 that are allowed.
scaling = {
  create_order_from_cart = { threads = 4, max_instances = 2 }
  orders_crud            = { threads = 4, max_instances = 2 }
  item_status            = { threads = 4, max_instances = 2 }
  approval_handler       = { threads = 4, max_instances = 2 }
  outbox_relay           = { max_instances = 2 }
}
