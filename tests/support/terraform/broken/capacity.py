"""Copies that break rules, of what may run at a time."""

BROKEN = {
    "THREADS, which is also the size of a pool, is the number of requests that an"
    " instance takes at a time.": [
        (
            "functions.tf",
            "{ THREADS = tostring(function.threads) }",
            "{ THREADS = tostring(function.threads + 1) }",
        ),
    ],
    "An instance has one CPU: one process of Python is slower on two.": [
        (
            "functions.tf",
            '{ cpu = "1", memory = each.value.memory }',
            '{ cpu = "2", memory = each.value.memory }',
        ),
    ],
    "All instances of functions and workers, twice, with their pools, fit"
    " max_connections without its reserve.": [
        (
            "database.tf",
            "value = tostring(var.database.max_connections)",
            "value = tostring(var.database.max_connections - 100)",
        ),
        (
            "functions.tf",
            "max_instance_count = each.value.max_instances",
            "max_instance_count = each.value.max_instances + 2",
        ),
        (
            "workers.tf",
            "manual_instance_count = each.value.instances",
            "manual_instance_count = each.value.instances + 2",
        ),
    ],
    "Migrations and operators, a process each, fit the reserve of max_connections.": [
        ("migration.tf", 'THREADS            = "2"', 'THREADS            = "80"'),
        (
            "operations.tf",
            "  template {\n    template {",
            "  template {\n    task_count = 20\n    template {",
        ),
    ],
}
