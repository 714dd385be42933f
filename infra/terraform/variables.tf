# What an environment says of itself; how large it is, is in variables_sizing.tf.

variable "project_id" {
  description = "The Google Cloud project; each environment has one of its own."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is a project's id: 6 to 30 of a-z, 0-9 and -, beginning with a letter."
  }
}

variable "region" {
  description = "Where everything runs, such as europe-west1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region's name, such as europe-west1."
  }
}

variable "environment" {
  description = "staging or production; becomes a label."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment is staging or production."
  }
}

# What is deployed

variable "package_bucket" {
  description = "The bucket that packages are uploaded to; made by hand, see README.md."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.package_bucket))
    error_message = "package_bucket is a bucket's name, without gs://."
  }
}

variable "packages" {
  description = "The package of each function: an object of package_bucket, FUNCTION/SHA256-DATE.zip. Its image has the same tag, without .zip."
  type        = map(string)
  nullable    = false

  validation {
    condition = setunion(keys(var.packages), var.ops_console ? [] : ["ops_console"]) == toset([
      "api_docs", "approval_handler", "create_order_from_cart", "item_status", "ops_console", "orders_crud", "outbox_relay",
    ])
    error_message = "packages names each function once: api_docs, approval_handler, create_order_from_cart, item_status, orders_crud, outbox_relay, and ops_console if that is on."
  }
  validation {
    condition     = alltrue([for name, object in var.packages : can(regex("^${name}/[0-9a-f]{64}(-[0-9]{4}-[0-9]{2}-[0-9]{2})?\\.zip$", object))])
    error_message = "Each of packages is FUNCTION/SHA256-DATE.zip, with that function's name."
  }
}

variable "patched_on" {
  description = "The day whose patches images have, of the base, of Python and of the builder. `make deploy` puts it into their tags: a later day has all of them built anew."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", var.patched_on))
    error_message = "patched_on is a day, such as 2026-12-01."
  }
}

variable "image" {
  description = "The container of workers and migrations, made from infra/Dockerfile, by digest (only the foundation does without): REGION-docker.pkg.dev/PROJECT/order-service/tools@sha256:…"
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^[a-z0-9.-]+/[^@ ]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image is named by its digest: …@sha256: and 64 hexadecimal digits."
  }
}

# Events

variable "event_bus" {
  description = "Where events go: rabbitmq, pubsub, or both with a comma."
  type        = string
  default     = "rabbitmq,pubsub"
  nullable    = false

  validation {
    condition     = contains(["rabbitmq", "pubsub", "rabbitmq,pubsub", "pubsub,rabbitmq"], var.event_bus)
    error_message = "event_bus is rabbitmq, pubsub, or both with a comma and no space."
  }
}

variable "rabbitmq" {
  description = "The siblings' broker, reachable from the network. Its password is a secret."
  type = object({
    host       = string
    port       = optional(number, 5671)
    user       = string
    vhost      = optional(string, "/")
    tls        = optional(bool, true)
    private_ca = optional(bool, false) # the secret rabbitmq-ca has its certificate
  })
  default = null

  validation {
    condition     = var.rabbitmq != null || !strcontains(var.event_bus, "rabbitmq")
    error_message = "rabbitmq is not set, but event_bus names it: host and user at least."
  }
}

# Siblings

variable "siblings" {
  description = "Base URLs of the services that are called. analytics may be left out; then notifications wait in the outbox."
  type = object({
    shopcart  = string
    product   = string
    analytics = optional(string)
  })
  nullable = false

  validation {
    condition     = alltrue([for url in values(var.siblings) : url == null || can(regex("^https?://[^ ?#]+$", url))])
    error_message = "Each of siblings is a base URL, http:// or https://."
  }
}

# Who calls

variable "identity_source" {
  description = "Whose word on the caller counts: header (the platform's own gateway, with its signed token) or apigateway (Google's)."
  type        = string
  default     = "header"
  nullable    = false

  validation {
    condition     = contains(["apigateway", "header"], var.identity_source)
    error_message = "identity_source is apigateway or header."
  }
}

variable "gateway_service_account" {
  description = "The account that the gateway calls with; may invoke create_order_from_cart, orders_crud and api_docs. Unset: nobody may."
  type        = string
  default     = null

  validation {
    condition     = var.gateway_service_account == null || can(regex("^[^@: ]+@[^@: ]+\\.gserviceaccount\\.com$", var.gateway_service_account))
    error_message = "gateway_service_account is a service account's e-mail address."
  }
}

variable "shop_service_account" {
  description = "The account that the shop service calls with; may invoke item_status. Unset: nobody may."
  type        = string
  default     = null

  validation {
    condition     = var.shop_service_account == null || can(regex("^[^@: ]+@[^@: ]+\\.gserviceaccount\\.com$", var.shop_service_account))
    error_message = "shop_service_account is a service account's e-mail address."
  }
}

# Who is on duty

variable "ops_console" {
  description = "Whether there is an operations console, behind identity-aware access."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.ops_console || length(var.ops_operators) > 0
    error_message = "ops_operators names nobody, but ops_console is on."
  }
}

variable "ops_operators" {
  description = "Who may look and act at the console: e-mail addresses of Google accounts."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for email in var.ops_operators : can(regex("^[^@, ]+@[^@, ]+$", email))])
    error_message = "Each of ops_operators is an e-mail address."
  }
}

variable "ops_viewers" {
  description = "Who may only look: e-mail addresses, none of them in ops_operators."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for email in var.ops_viewers : can(regex("^[^@, ]+@[^@, ]+$", email))])
    error_message = "Each of ops_viewers is an e-mail address."
  }
  validation {
    condition     = length(setintersection(var.ops_operators, var.ops_viewers)) == 0
    error_message = "Nobody is both in ops_operators and in ops_viewers."
  }
}

variable "ops_user_url" {
  description = "Where the console links a user to, with {id} for the user's id: https://admin.example/users/{id}."
  type        = string
  default     = null

  validation {
    condition     = var.ops_user_url == null || can(regex("^https?://.*{id}", var.ops_user_url))
    error_message = "ops_user_url is an address that contains {id}."
  }
}

variable "gateway_ingress" {
  description = "Where calls of the gateway may come from. Google's API Gateway comes from outside; the account that may invoke guards it then."
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"
  nullable    = false

  validation {
    condition     = contains(["INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"], var.gateway_ingress)
    error_message = "gateway_ingress is INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY or INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER."
  }
}

variable "public_path_prefix" {
  description = "The gateway's prefix, such as /order, for Location and Link."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.public_path_prefix == "" || can(regex("^(/[A-Za-z0-9._~-]+)+$", var.public_path_prefix))
    error_message = "public_path_prefix begins with / and does not end with one."
  }
}

# Rollout

variable "canary" {
  description = "Of functions whose newest revision gets only some of the requests: how many of 100, and the revision that gets the others (docs/rollout.md)."
  type = map(object({
    percent         = number
    stable_revision = string
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for each in values(var.canary) : each.percent >= 0 && each.percent <= 99 && floor(each.percent) == each.percent])
    error_message = "canary: percent is 0 to 99; for 100 take the function out of canary."
  }
  validation {
    condition     = alltrue([for name, each in var.canary : startswith(each.stable_revision, "${replace(name, "_", "-")}-")])
    error_message = "canary: stable_revision is a revision of that function's service, such as orders-crud-00012-abc."
  }
  validation {
    condition     = alltrue([for name in keys(var.canary) : contains(keys(var.packages), name)])
    error_message = "canary names a function that there is none of."
  }
}
