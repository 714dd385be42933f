# What else processes are told: any setting of docs/configuration.md that is neither a secret
# nor worked out here, and a collector.

locals {
  # Of these Terraform has the value, or a secret.
  own_settings = concat(
    ["DATABASE_URL", "THREADS", "PORT", "EVENT_BUS", "SHOPCART_SERVICE", "PRODUCT_SERVICE", "ANALYTIC_SERVICE"],
    ["IDENTITY_SOURCE", "GATEWAY_JWT_SECRET", "PUBLIC_PATH_PREFIX", "LOG_LEVEL", "LOG_USER_ID_KEY", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    ["OPS_IDENTITY", "OPS_IAP_AUDIENCE", "OPS_OPERATORS", "OPS_USER_URL", "OPS_VIEWERS", "RUNNING_ON_CLOUDRUN"],
  )
  own_prefixes = "^(CLOUD_SQL|POSTGRES|RABBITMQ|PUBSUB|K)_"

  processes = concat(keys(var.packages), ["approval_worker", "orderctl", "relay_worker"])
}

variable "settings" {
  description = "More settings of all processes (docs/configuration.md), such as EVENT_RETENTION_DAYS, STOCK_SETTLE_SECONDS, LOG_USER_IDS."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for name in keys(var.settings) :
      can(regex("^[A-Z][A-Z0-9_]*$", name)) && !can(regex(local.own_prefixes, name)) && !contains(local.own_settings, name)
    ])
    error_message = "settings names what has a variable of its own, or is a secret: ${join(", ", [
      for name in keys(var.settings) : name
      if !can(regex("^[A-Z][A-Z0-9_]*$", name)) || can(regex(local.own_prefixes, name)) || contains(local.own_settings, name)
    ])}."
  }
}

variable "function_settings" {
  description = "More settings of some: function, or relay_worker, approval_worker, orderctl → name → value."
  type        = map(map(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.function_settings) : contains(local.processes, name)])
    error_message = "function_settings names a process that there is none of."
  }
  validation {
    condition = alltrue(flatten([
      for settings in values(var.function_settings) : [
        for name in keys(settings) :
        can(regex("^[A-Z][A-Z0-9_]*$", name)) && !can(regex(local.own_prefixes, name)) && !contains(local.own_settings, name)
      ]
    ]))
    error_message = "function_settings names what has a variable of its own, or is a secret."
  }
}

variable "collector" {
  description = "The image of an OpenTelemetry collector with the exporter googlecloud, beside each function and worker: by digest, or by an exact tag. Unset: traces and metrics are not sent."
  type        = string
  default     = null

  validation {
    condition     = var.collector == null || can(regex("(:[0-9][^:/]*|@sha256:[0-9a-f]{64})$", var.collector))
    error_message = "collector is an image by its digest, or by a tag that is a version."
  }
}
