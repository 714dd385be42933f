# Production. Names are examples: put your own.

project_id     = "acme-orders-production"
region         = "europe-west1"
environment    = "production"
package_bucket = "acme-orders-production-packages"

# Set it to today each month, or for a fix, and deploy: all images are built anew.
patched_on = "2026-12-01"

event_bus = "rabbitmq,pubsub"
rabbitmq = {
  host = "rabbitmq.production.internal"
  user = "orders"
}

siblings = {
  shopcart  = "https://shopcart.production.internal"
  product   = "https://product.production.internal"
  analytics = "https://analytics.production.internal"
}

# The platform's own gateway and the shop service send no identity token of Google's: they
# call http://gateway.orders.internal and http://shop.orders.internal.
load_balancer = {}

# Functions may take 400 connections, of 450 that are allowed (functions.tf, database.tf).
database = {
  tier            = "db-custom-4-16384"
  disk_gib        = 100
  max_connections = 500
}

# A first request never waits for a cold start.
scaling = {
  create_order_from_cart = { min_instances = 1 }
  orders_crud            = { min_instances = 1 }
}

alert_emails = ["oncall@example.com"]
