"""Terraform's own checks of `infra/terraform`, without the cloud and its plugin.

Lives here: a stand-in for the Google provider, the schema that it serves, the command
that runs `terraform fmt`, `validate` and `test` on it. Not here: the configuration and
its rules (`infra/terraform`). Surprise: `terraform apply` must never see the stand-in;
it answers nothing but what a check asks for.
"""
