"""Route paths to functions and the sandbox on one port, as the platform does.

A function sees the caller's whole path, except below the gateway's own prefix, which is
removed.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from infra.local.front_page import front_page

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = "/order"
OPERATOR = "operator@localhost"  # who is at the console of a local run
FUNCTIONS = (
    "create_order_from_cart",
    "orders_crud",
    "item_status",
    "approval_handler",
    "outbox_relay",
    "api_docs",
    "ops_console",
)
ROUTES = (
    (re.compile(r"/api/orders-from-shopcart/?"), "create_order_from_cart"),
    (re.compile(r"/api/order-items/[^/]+/status/?"), "item_status"),
    (re.compile(r"/ops(/.*)?"), "ops_console"),
    (re.compile(r"/openapi\.json/?|/(api/schema|problems)(/.*)?"), "api_docs"),
)
EVERYTHING_ELSE = "orders_crud"


class Gateway:
    """A WSGI app that passes each request on.

    Its parts may be filled in later, as some need to know the port it is served on.
    """

    def __init__(self) -> None:
        self.functions: Mapping[str, WSGIApplication] = {}
        self.sandbox: WSGIApplication = Response(status=503)
        self.traces: WSGIApplication = Response(status=404)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Pass the request on to the function or sandbox that its path belongs to."""
        # A client's own prefix header must not count.
        environ.pop("HTTP_X_FORWARDED_PREFIX", None)
        # In place of identity-aware access, which identifies the console's operator.
        environ["HTTP_X_OPS_OPERATOR"] = OPERATOR
        # Documents link to the front page, and fill in its user.
        environ["HTTP_X_LOCAL_RUN"] = "true"
        path = environ["PATH_INFO"]
        if path == "/":
            return front_page(environ, start_response)
        if re.match(r"/(sandbox|events)(/|$)", path):
            return self.sandbox(environ, start_response)
        if re.match(r"/traces(/|$)", path):
            return self.traces(environ, start_response)
        return self._function(environ)(environ, start_response)

    def _function(self, environ: "WSGIEnvironment") -> "WSGIApplication":
        """Return the function whose path it is; the path loses what is not public."""
        path = environ["PATH_INFO"]
        # Not public on the real platform: what schedulers and triggers call.
        if match := re.fullmatch(r"/functions/(\w+)(/.*)?", path):
            name, rest = match.groups()
            if name in self.functions:
                environ["PATH_INFO"] = rest or "/"
                return self.functions[name]
        if path.startswith(f"{PREFIX}/"):
            path = environ["PATH_INFO"] = path.removeprefix(PREFIX)
            environ["HTTP_X_FORWARDED_PREFIX"] = PREFIX
        return self.functions[function_of(path)]


def function_of(path: str) -> str:
    """Return the name of the function that a public path belongs to."""
    for pattern, name in ROUTES:
        if pattern.fullmatch(path):
            return name
    return EVERYTHING_ELSE


def load_functions(folder: Path) -> Mapping[str, "WSGIApplication"]:
    """Load every function from `folder`, as the platform does, by name.

    Settings are read meanwhile: the environment has to be complete before.
    """
    import functions_framework  # noqa: PLC0415 takes long, and `--help` does not need it

    return {
        name: functions_framework.create_app(  # type: ignore[no-untyped-call]
            name, str(folder / name / "main.py")
        )
        for name in FUNCTIONS
    }
