# How large an environment is, and when somebody is called. What functions take by
# default is in functions.tf.

variable "scaling" {
  description = "Of functions that differ from their defaults in functions.tf: instances, requests at a time (threads), memory, billing."
  type = map(object({
    min_instances = optional(number)
    max_instances = optional(number)
    threads       = optional(number)
    memory        = optional(string)
    cpu_idle      = optional(bool) # false: instances are paid for, and requests are not
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.scaling) : contains(keys(var.packages), name)])
    error_message = "scaling names a function that there is none of."
  }
  validation {
    condition     = alltrue([for each in values(var.scaling) : each.threads == null || try(each.threads >= 2 && each.threads <= 80, false)])
    error_message = "threads are 2 to 80: a relay needs more than one connection, and a user must leave one free."
  }
}

variable "relay_worker_instances" {
  description = "Relays that are always on, beside the one that the scheduler calls each minute. 0: none."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.relay_worker_instances >= 0 && var.relay_worker_instances <= 10
    error_message = "relay_worker_instances is 0 to 10."
  }
}

variable "approval_worker_instances" {
  description = "Consumers of RabbitMQ's queue order_approval, always on. 0: none; then approvals come by Pub/Sub, or by the sweep within a minute or two."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.approval_worker_instances >= 0 && var.approval_worker_instances <= 10
    error_message = "approval_worker_instances is 0 to 10."
  }
  validation {
    condition     = var.approval_worker_instances == 0 || strcontains(var.event_bus, "rabbitmq")
    error_message = "approval_worker_instances needs RabbitMQ, which event_bus does not name."
  }
}

variable "database" {
  description = "The size of Cloud SQL. What counts against max_connections is in functions.tf."
  type = object({
    tier                 = string
    instance             = optional(string, "orders") # a deleted instance's name is taken for a week
    disk_gib             = optional(number, 20)
    max_connections      = number
    reserved_connections = optional(number, 50)
    is_regional          = optional(bool, true)
    retained_backups     = optional(number, 30)
    keeps_backups        = optional(bool, true)          # when the instance is deleted
    connect              = optional(string, "connector") # or socket
    address              = optional(string, "peering")   # or psc, or public
    version              = optional(string, "POSTGRES_16")
    flags                = optional(map(string), {})
    disk_limit_gib       = optional(number, 0) # 0: it grows without a limit
    server_ca_mode       = optional(string, "GOOGLE_MANAGED_CAS_CA")
  })
  nullable = false

  validation {
    condition     = var.database.max_connections >= 100 && var.database.max_connections <= 1000
    error_message = "database.max_connections is 100 to 1000; beyond, put a pooler before the database (docs/capacity.md)."
  }
  validation {
    condition     = var.database.reserved_connections >= 20
    error_message = "database.reserved_connections is 20 at least: operators, migrations, Cloud SQL's own."
  }
  validation {
    condition     = contains(["connector", "socket"], var.database.connect)
    error_message = "database.connect is connector or socket."
  }
  validation {
    condition     = contains(["peering", "psc", "public"], var.database.address)
    error_message = "database.address is peering, psc or public."
  }
  validation {
    condition     = var.database.connect == "connector" || var.database.address != "psc"
    error_message = "database.connect: the socket that Cloud Run mounts leads to no Private Service Connect endpoint."
  }
  validation {
    condition     = contains(["POSTGRES_16", "POSTGRES_17", "POSTGRES_18"], var.database.version)
    error_message = "database.version is POSTGRES_16, POSTGRES_17 or POSTGRES_18."
  }
  validation {
    condition     = contains(["GOOGLE_MANAGED_CAS_CA", "GOOGLE_MANAGED_INTERNAL_CA"], var.database.server_ca_mode)
    error_message = "database.server_ca_mode is GOOGLE_MANAGED_CAS_CA (an authority for all instances of the region) or GOOGLE_MANAGED_INTERNAL_CA (one for each instance)."
  }
  validation {
    condition     = var.database.disk_limit_gib == 0 || var.database.disk_limit_gib >= var.database.disk_gib
    error_message = "database.disk_limit_gib is 0 (no limit), or not less than disk_gib."
  }
  validation {
    condition     = length(setintersection(keys(var.database.flags), ["cloudsql.iam_authentication", "idle_in_transaction_session_timeout", "max_connections"])) == 0
    error_message = "database.flags: IAM logins, idle transactions and max_connections are set already."
  }
}

variable "deletion_protection" {
  description = "Whether the database refuses to be destroyed."
  type        = bool
  default     = true
  nullable    = false
}

# Network

variable "subnet_range" {
  description = "The subnet's addresses. Each instance takes one, twice as many while a deployment is under way: /24 or larger."
  type        = string
  default     = "10.20.0.0/24"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.subnet_range, 0)) && try(tonumber(split("/", var.subnet_range)[1]) <= 24, false)
    error_message = "subnet_range is a range such as 10.20.0.0/24, or larger."
  }
}

variable "vpc_egress" {
  description = "What leaves through the network: PRIVATE_RANGES_ONLY, or ALL_TRAFFIC where siblings are services that take internal traffic only."
  type        = string
  default     = "PRIVATE_RANGES_ONLY"
  nullable    = false

  validation {
    condition     = contains(["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], var.vpc_egress)
    error_message = "vpc_egress is PRIVATE_RANGES_ONLY or ALL_TRAFFIC."
  }
}

# People

variable "alert_emails" {
  description = "Who hears of alerts."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "Each of alert_emails is an e-mail address."
  }
  validation {
    condition     = length(var.alert_emails) > 0 || var.environment != "production"
    error_message = "alert_emails names nobody: in production somebody must hear of alerts."
  }
}

variable "alert_thresholds" {
  description = "From when on an alert is raised."
  type = object({
    oldest_event_seconds = optional(number, 300)
    approval_seconds     = optional(number, 300)
    snapshot_seconds     = optional(number, 3600)
    error_ratio          = optional(number, 0.01)
    least_errors         = optional(number, 5)
    p95_milliseconds     = optional(number, 1500)
    least_requests       = optional(number, 20)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alert_thresholds.error_ratio > 0 && var.alert_thresholds.error_ratio < 1
    error_message = "alert_thresholds.error_ratio is a share between 0 and 1."
  }
  validation {
    condition     = min(var.alert_thresholds.oldest_event_seconds, var.alert_thresholds.approval_seconds) >= 120
    error_message = "alert_thresholds: seconds are 120 at least, because the sweep comes once a minute."
  }
}

variable "log_level" {
  description = "DEBUG, INFO, WARNING or ERROR. The line that alerts read is written at any of them."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level is DEBUG, INFO, WARNING or ERROR."
  }
}

variable "logged_requests_percent" {
  description = "Of how many of 100 requests that succeed the line is kept; of all others it always is (docs/costs.md)."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.logged_requests_percent >= 0 && var.logged_requests_percent <= 100
    error_message = "logged_requests_percent is 0 to 100."
  }
}

variable "log_retention_days" {
  description = "For how long lines are kept: 30 days cost nothing, more does. The project's whole log bucket _Default."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.log_retention_days >= 1 && var.log_retention_days <= 3650
    error_message = "log_retention_days is 1 to 3650."
  }
}
