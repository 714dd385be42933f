"""Copies that break rules, of the operations console."""

BROKEN = {
    "There is no console unless an environment asks for one.": [
        ("functions.tf", 'if name != "ops_console" || var.ops_console', "if true"),
    ],
    "The console stands behind identity-aware access.": [
        ("functions.tf", "= each.value.has_iap", "= false"),
    ],
    "No other service asks people for their account.": [
        ("functions.tf", "= each.value.has_iap", "= true"),
    ],
    "The console verifies itself who is there, and knows who may act.": [
        ("functions.tf", "function.has_iap ? local.settings_of_console : {}", "{}"),
        ("console.tf", '= "iap"', '= "header"'),
        ("console.tf", "services/ops-console", "services/orders-crud"),
        ("console.tf", 'join(",", var.ops_viewers)', 'join(",", var.ops_operators)'),
    ],
    "Those who are named may come in, and nobody else.": [
        ("console.tf", '"user:${each.value}"', '"allAuthenticatedUsers"'),
        ("console.tf", '"roles/iap.httpsResourceAccessor"', '"roles/iap.admin"'),
    ],
    "Only identity-aware access may invoke the console.": [
        ("access.tf", "@gcp-sa-iap.iam", "@gcp-sa-pubsub.iam"),
    ],
    "The console publishes nothing itself.": [
        ("functions.tf", "publishes     = false", "publishes     = true"),
    ],
}
