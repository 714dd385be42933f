"""Check `infra/terraform` with Terraform, without the cloud and its provider.

The provider is a stand-in, so `terraform apply` must never be run with it.
"""
