"""Named points at which a test may kill the process, to see what a crash leaves.

No setting or request can arm a point in a deployment. Every statement has points of its
own, `sql <name> before` and `sql <name> after`.
"""

from collections.abc import Callable

# All points other than statements'. Tests visit each of them, so a point that the code
# passes must be listed here.
NAMES = frozenset(
    f"{step} {moment}"
    for step in (
        "commit",  # of an explicit transaction; elsewhere the statement commits
        "publish rabbitmq",  # bytes to the broker …
        "confirm rabbitmq",  # … and its confirm
        "publish pubsub",
        "confirm pubsub",
        "publish http",  # a request and its response: the sink, or analytics
        "call shopcart",
        "call product",
        "acknowledge",  # a message, by the approval worker
    )
    for moment in ("before", "after")
)

_armed: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Call the hook with the point that is passed, if there is a hook."""
    if _armed is not None:
        _armed(name)


def is_armed() -> bool:
    """Return whether there is a hook."""
    return _armed is not None


def arm(hook: Callable[[str], None] | None) -> None:
    """Have `hook` called with the name of every point; None disarms."""
    global _armed  # noqa: PLW0603 one hook a process, and only in tests
    _armed = hook
