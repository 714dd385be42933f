"""The OpenAPI document that configures Google API Gateway; see docs/gateway.md."""
