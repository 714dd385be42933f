"""Complete, valid variables of deployments, for tests that break one at a time."""

DATABASE_URL = "postgresql://orders:s3cret@db:6432/shop"
POSTGRES = {
    "POSTGRES_HOST": "db",
    "POSTGRES_DB": "shop",
    "POSTGRES_USER": "orders",
    "POSTGRES_PASSWORD": "s3cret",
}
CLOUD_SQL = {
    "CLOUD_SQL_CONNECTION_NAME": "shop-42:europe-west1:orders",
    "POSTGRES_DB": "shop",
    "POSTGRES_USER": "orders@shop-42.iam",
}
RABBITMQ = {
    "RABBITMQ_HOST": "broker",
    "RABBITMQ_USER": "orders",
    "RABBITMQ_PASS": "s3cret",
}
SINK = {"EVENT_SINK_URL": "http://sink:9000/in"}
SERVICES = {
    "SHOPCART_SERVICE": "http://shopcart",
    "PRODUCT_SERVICE": "http://product",
    "ANALYTIC_SERVICE": "http://analytics",
}
