"""Named points at which a test may kill the process, to see what a crash leaves.

No variable or request can arm a point in a deployment. Statements have points of their
own, `sql <name> before` and `sql <name> after`.
"""

from collections.abc import Callable

# All points that are not a statement's. What is passed must be named here: a point
# nobody knows would be one that no test visits.
NAMES = frozenset(
    f"{step} {moment}"
    for step in (
        "commit",  # of an explicit transaction; elsewhere the statement commits
        "publish rabbitmq",  # bytes to the broker …
        "confirm rabbitmq",  # … and its word for it
        "publish pubsub",
        "confirm pubsub",
        "publish http",  # a request and its answer: to the sink, or to analytics
        "call shopcart",
        "call product",
        "acknowledge",  # what the approval worker has taken
    )
    for moment in ("before", "after")
)

_armed: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Report the point that is passed to the test that armed the process, if any."""
    if _armed is not None:
        _armed(name)


def is_armed() -> bool:
    """Return whether anybody wants to know."""
    return _armed is not None


def arm(hook: Callable[[str], None] | None) -> None:
    """Have `hook` called with the name of every point; None disarms."""
    global _armed  # noqa: PLW0603 one hook a process, and only in tests
    _armed = hook
