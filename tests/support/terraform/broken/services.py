"""Copies that break rules, of how processes run."""

ANYWHERE = '"INGRESS_TRAFFIC_ALL" : each.value.ingress'
BROKEN = {
    "item_status is reachable from the internal network only.": [
        (
            "functions.tf",
            "= each.value.ingress",
            f'= each.key == "item_status" ? {ANYWHERE}',
        ),
    ],
    "What only Google's own services call is reachable from the internal network"
    " only.": [
        ("functions.tf", "= each.value.ingress", f'= each.key == "{name}" ? {ANYWHERE}')
        for name in ("approval_handler", "outbox_relay")
    ],
    "Start and life of each instance are probed, without the database.": [
        (
            "functions.tf",
            '= 60\n        http_get {\n          path = "/health/live',
            '= 60\n        http_get {\n          path = "/healthz',
        ),
        (
            "functions.tf",
            '= 3\n        http_get {\n          path = "/health/live',
            '= 3\n        http_get {\n          path = "/health/ready',
        ),
    ],
    "Instances start with more CPU than they run with.": [
        ("functions.tf", "startup_cpu_boost = true", "startup_cpu_boost = false"),
    ],
    "Functions, workers and migrations reach private addresses through the subnet.": [
        (path, "= google_compute_subnetwork.functions.name", '= "default"')
        for path in ("functions.tf", "workers.tf", "migration.tf")
    ],
    "Each function is told that it runs on Cloud Run.": [
        (
            "functions.tf",
            'RUNNING_ON_CLOUDRUN = "true"',
            'RUNNING_ON_CLOUDRUN = "false"',
        ),
    ],
    "What users call is told whose word on them counts; item_status, which the shop"
    " calls past the gateway, takes the header's.": [
        (
            "functions.tf",
            "try(traits.identity_source, var.identity_source)",
            each,
        )
        for each in ("var.identity_source", '"header"')
    ],
}
