"""Stand-ins for shopcart, product, shop and analytics that behave like the real ones.

Lives here: the four siblings over real HTTP, their traps included, and what a test
needs to look into them: `with running_sandbox() as sandbox: …`. Not here: the functions
under test. Surprise: they listen to events as well, through the sink in
`infra.local.sandbox.event_sink`, and so change their minds after a checkout.
"""

from infra.local.sandbox.running import Sandbox, running_sandbox
from infra.local.sandbox.traffic import Call, Fault

__all__ = ["Call", "Fault", "Sandbox", "running_sandbox"]
