"""Stand-ins for shopcart, product, shop and analytics that behave like the real ones.

They consume events through `infra.local.sandbox.event_sink`, so their state changes
after a checkout.
"""
