"""Stand-ins for shopcart, product, shop and analytics that behave like the real ones.

They consume events through `infra.local.sandbox.event_sink`, so their state changes
after a checkout.
"""

from infra.local.sandbox.running import Sandbox, running_sandbox
from infra.local.sandbox.traffic import Call, Fault

__all__ = ["Call", "Fault", "Sandbox", "running_sandbox"]
