# Where processes are in the network, and how siblings reach them. The subnet's range and
# what leaves through it are in variables_sizing.tf.

variable "network" {
  description = "An existing network and a subnet of this region in it, in another project where it is shared. Unset: a network of our own."
  type = object({
    name    = string
    subnet  = string
    project = optional(string)
  })
  default = null

  validation {
    condition     = alltrue([for name in try(values(var.network), []) : name == null || can(regex("^[a-z]([a-z0-9-]*[a-z0-9])?$", name))])
    error_message = "network: name, subnet and project are short names, without projects/ or regions/."
  }
}

variable "peered_networks" {
  description = "Networks of siblings that ours is peered with, by a short name: projects/PROJECT/global/networks/NAME. Their owners make the other half."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for network in values(var.peered_networks) : can(regex("^projects/[a-z0-9:.-]+/global/networks/[a-z][a-z0-9-]*$", network))])
    error_message = "Each of peered_networks is projects/PROJECT/global/networks/NAME."
  }
  validation {
    condition     = length(var.peered_networks) == 0 || try(var.network.project, null) == null
    error_message = "peered_networks: a shared network is peered in the project that it belongs to."
  }
}

variable "private_endpoints" {
  description = "Services that are reached by Private Service Connect, such as a hosted broker, by a short name: the service attachment, and the host name by which it is called."
  type = map(object({
    target = string
    host   = string
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for each in values(var.private_endpoints) : can(regex("^projects/.+/serviceAttachments/[^/]+$", each.target))])
    error_message = "private_endpoints: target is projects/PROJECT/regions/REGION/serviceAttachments/NAME."
  }
  validation {
    condition     = alltrue([for each in values(var.private_endpoints) : can(regex("^[a-z0-9-]+([.][a-z0-9-]+)+$", each.host))])
    error_message = "private_endpoints: host is a host's whole name, without a port."
  }
  validation {
    condition     = !contains(keys(var.private_endpoints), "database")
    error_message = "private_endpoints: the database has one by database.address = \"psc\"."
  }
}

variable "load_balancer" {
  description = "An internal Application Load Balancer for siblings that send no identity token: gateway.DOMAIN and shop.DOMAIN. Unset: none, and callers prove themselves by IAM."
  type = object({
    domain      = optional(string, "orders.internal")
    proxy_range = optional(string) # 10.21.0.0/26 in a network of our own, none in an existing one
  })
  default = null

  validation {
    condition     = var.load_balancer == null || can(regex("^[a-z0-9-]+([.][a-z0-9-]+)+$", var.load_balancer.domain))
    error_message = "load_balancer.domain is a domain of its own, such as orders.internal."
  }
  validation {
    condition     = var.load_balancer == null || var.identity_source == "header"
    error_message = "load_balancer lets everybody in the network call functions, so identity_source must be header: a secret then verifies users' tokens."
  }
  validation {
    condition     = try(var.load_balancer.proxy_range, null) == null || try(var.network.project, null) == null
    error_message = "load_balancer.proxy_range: in a shared network the proxies' subnet is made in the project that it belongs to."
  }
}
