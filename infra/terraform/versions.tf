# Which Terraform and which provider, and where the state is kept.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }

  # The bucket is named at `terraform init`, see README.md: one state for each environment.
  backend "gcs" {}
}

provider "google" {
  project        = var.project_id
  region         = var.region
  default_labels = { service = "order-service", environment = var.environment }
}
