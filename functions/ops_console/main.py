"""/ops/: the operators' console, as pages that need no script.

An action takes two requests: a page that shows what will happen, and its form.
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import functions_framework
from flask import Request, Response, request
from werkzeug.datastructures import MultiDict

from common import startup, wiring
from common.console import access, audit, effects, pages, reads
from common.console.access import Form, Operator
from common.console.actions import ACTIONS, Action, check_reason, preview, take_values
from common.console.audit import SentForm
from common.console.templates import Templates
from common.console.timeline import entries
from common.database.engine import connect
from common.domain.events import ANALYTICS
from common.domain.orders import TRANSITIONS
from common.errors import ForbiddenError, NotFoundError
from common.messaging import dead_letters
from common.messaging.pending import Bus
from common.operations import diagnosis, event_log
from common.store import orders, paging, timeline
from common.web.app import create_app, respond
from common.web.problems import PROBLEM_JSON

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:;"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not `no-referrer`: browsers would then leave out a form's origin.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

wiring.start("DATABASE", "EVENT_BUS", "OPS_IDENTITY", "PRODUCT_SERVICE")
app = create_app("ops_console", wiring.CHECKS, headers=HEADERS)
templates = Templates(Path(__file__).parent / "pages")


@app.after_request
def show_problem(response: Response) -> Response:
    """Return a page in place of a problem document; its status stays."""
    if response.mimetype == PROBLEM_JSON and not request.path.startswith("/health/"):
        templates.replace_problem(response, is_write=request.method == "POST")
    return response


@app.get("/")
def root() -> Response:
    """Redirect to the console's own path."""
    return _see_other("/ops/")


@app.get("/ops/console.css")
def style() -> Response:
    """Return the style sheet of all pages, cacheable if its version is named."""
    content, tag = templates.style
    response = Response(content, mimetype="text/css")
    is_current = request.args.get("v") == tag
    caching = "public, max-age=31536000, immutable" if is_current else "no-cache"
    response.headers["Cache-Control"] = caching
    return response


@app.get("/ops")
def home() -> Response:
    """Show what needs attention, the backlog, and charts."""
    operator = _operator()
    served = {*startup.settings().bus, ANALYTICS}
    with connect(wiring.engine()) as connection:
        diagnosed = diagnosis.examine(connection, served)
    return templates.render(
        "home",
        operator,
        here="",
        diagnosis=diagnosed,
        # Without the commands of `orderctl`, which follow a semicolon.
        findings=[line.partition(";")[0] for line in diagnosed.findings],
        max_listed=diagnosis.MAX_LISTED,
    )


@app.get("/ops/charts/<name>.svg")
def draw_chart(name: str) -> Response:
    """Return a chart as an image."""
    _operator()
    chart = _chart(name)
    labels, *series = zip(*chart.rows, strict=True)
    named = zip(("orders", "approvals", "dead letters"), series, strict=True)
    return templates.draw(chart.title, labels, dict(named))


@app.get("/ops/charts/<name>")
def show_chart(name: str) -> Response:
    """Show a chart with its numbers."""
    return templates.render("chart", _operator(), chart=_chart(name))


@app.get("/ops/orders")
def find_orders() -> Response:
    """Find orders; redirect to an order whose id is entered."""
    operator, arguments = _operator(), pages.filled(request.args)
    if "id" in arguments:
        query = paging.parse_query(arguments, {"id": paging.parse_id})
        return _see_other(f"/ops/orders/{query.filters['id']}/")
    query = paging.parse_query(arguments, pages.ORDER_FILTERS)
    with connect(wiring.engine()) as connection:
        page = reads.find(
            connection, query.filters, limit=query.limit, after=query.after
        )
    return templates.render(
        "orders",
        operator,
        here="orders/",
        page=page,
        fields={n: arguments.get(n, "") for n in ("id", *pages.ORDER_FILTERS)},
        older=page.next_after and paging.next_query(query, page.next_after),
    )


@app.get("/ops/orders/<id:order_id>")
def show_order(order_id: int) -> Response:
    """Show one order, even a deleted one, with a page of its timeline."""
    operator = _operator()
    before = paging.parse_query(
        pages.filled(request.args), {"before": paging.parse_id}
    ).filters
    snapshot = None
    with connect(wiring.engine()) as connection:
        page = timeline.read_whole(connection, order_id, **before)
        actions = reads.read_actions_of_order(connection, order_id)
        with suppress(NotFoundError):
            snapshot = orders.load(connection, orders.Target(order_id=order_id))
    return templates.render(
        "order",
        operator,
        id=order_id,
        snapshot=snapshot,
        timeline=entries(page, actions),
        page=page,
        transitions=TRANSITIONS,
    )


@app.get("/ops/events")
def list_events() -> Response:
    """List events that are pending, held or sent."""
    operator = _operator()
    query = pages.events_query(pages.filled(request.args))
    with connect(wiring.engine()) as connection:
        rows = event_log.read_many(connection, query)
    return templates.render("events", operator, here="events/", rows=rows, query=query)


@app.get("/ops/events/<id:order_id>/<uuid:event_id>")
def show_event(order_id: int, event_id: UUID) -> Response:
    """Show an event for each of its destinations."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        rows = event_log.read(connection, event_id, order_id)
    return templates.render("event", operator, rows=rows)


LISTED = 50  # dead letters or actions on a page


@app.get("/ops/letters")
def list_dead_letters() -> Response:
    """List dead letters, oldest first."""
    operator = _operator()
    parsers = {"after": paging.parse_id, "all": paging.parse_bool}
    filters = paging.parse_query(pages.filled(request.args), parsers).filters
    with_settled = filters.get("all", False)
    with connect(wiring.engine()) as connection:
        found = dead_letters.read_many(
            connection,
            limit=LISTED,
            with_settled=with_settled,
            after=filters.get("after", 0),
        )
    return templates.render(
        "dead_letters",
        operator,
        here="letters/",
        dead_letters=found,
        with_settled=with_settled,
        after=found[-1].id if len(found) == LISTED else None,
    )


@app.get("/ops/letters/<id:dead_letter_id>")
def show_dead_letter(dead_letter_id: int) -> Response:
    """Show one dead letter, with its headers and body."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        found = dead_letters.read(connection, dead_letter_id)
    return templates.render(
        "dead_letter", operator, dead_letter=found, **pages.contents(found)
    )


@app.get("/ops/actions")
def list_actions() -> Response:
    """List what operators did, newest first."""
    operator = _operator()
    filters = paging.parse_query(
        pages.filled(request.args), {"up_to": paging.parse_id}
    ).filters
    with connect(wiring.engine()) as connection:
        found = reads.read_actions(connection, limit=LISTED + 1, **filters)
    return templates.render(
        "actions",
        operator,
        here="actions/",
        actions=found[:LISTED],
        up_to=found[LISTED].id if len(found) > LISTED else None,
    )


@app.get("/ops/actions/<id:action_id>")
def show_action(action_id: int) -> Response:
    """Show one action, and its outcome."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        found = reads.read_actions(connection, limit=1, up_to=action_id)
    if not found or found[0].id != action_id:
        raise NotFoundError(f"There is no action {action_id}.")
    title = ACTIONS[found[0].action].title if found[0].action in ACTIONS else ""
    return templates.render("action", operator, action=found[0], title=title)


@app.get("/ops/do/<name>")
def confirm(name: str) -> Response:
    """Show what an action will do, and ask for the reason. Nothing is done."""
    operator = _acting_operator()
    action, values = _action(name, request.args)
    cookie = request.cookies.get(_cookie_name())
    is_new = not access.is_cookie(cookie)
    secret = access.new_cookie() if is_new or cookie is None else cookie
    response = templates.render(
        "confirm",
        operator,
        action=action,
        values=values,
        effects=_effects(action, values, operator),
        token=access.sign(Form(operator.email, name, values), secret),
        back=pages.path_back(values),
    )
    if is_new:
        response.set_cookie(
            _cookie_name(),
            secret,
            secure=_cookie_name().startswith("__Host-"),
            httponly=True,
            samesite="Strict",
        )
    return response


@app.post("/ops/do/<name>")
def act(name: str) -> Response:
    """Do the action, once, and redirect to its entry."""
    operator = _acting_operator()
    access.check_origin(request.headers, request.host)
    action, values = _action(name, request.form)
    form_id = access.check(
        request.form.get("token", ""),
        Form(operator.email, name, values),
        request.cookies.get(_cookie_name()),
    )
    form = SentForm(
        form_id=form_id,
        operator=operator.email,
        operator_id=operator.id,
        reason=check_reason(request.form.get("reason", "")),
        values=values,
    )
    engine = wiring.engine()
    if name == "set-quantity" and audit.is_new(engine, form_id):
        _effects(action, values, operator)  # the stock may have changed meanwhile
    entry_id = audit.perform(engine, Bus(startup.settings().bus), action, form)
    return _see_other(f"/ops/actions/{entry_id}/")


@functions_framework.http
def ops_console(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)


def _operator() -> Operator:
    console = startup.settings().console
    assert console is not None, "checked at start"
    return access.identify(request, console)


def _acting_operator() -> Operator:
    """Return the operator; raise ForbiddenError for a viewer."""
    operator = _operator()
    if not operator.may_act:
        raise ForbiddenError(f"{operator.email} may only view.")
    return operator


def _chart(name: str) -> pages.Chart:
    with connect(wiring.engine()) as connection:
        return pages.chart(connection, name, datetime.now(UTC))


def _action(name: str, arguments: MultiDict[str, str]) -> tuple[Action, dict[str, str]]:
    """Return the action and its values; raise NotFoundError or InvalidRequestError."""
    if name not in ACTIONS:
        raise NotFoundError
    return ACTIONS[name], take_values(ACTIONS[name], arguments)


def _effects(action: Action, values: dict[str, str], operator: Operator) -> list[str]:
    """Return what the action would do, a sentence each; raise what it would raise."""
    if action.rule is None:
        with connect(wiring.engine()) as connection:
            return effects.describe_event(connection, values)
    snapshot, change = preview(wiring.engine(), action, values, operator.id)
    if action.name == "set-quantity":
        seconds = startup.settings().upstream_deadline_seconds
        effects.check_stock(snapshot, values, wiring.product(), seconds)
    return effects.describe_change(snapshot, change, startup.settings().bus)


def _cookie_name() -> str:
    console = startup.settings().console
    return "__Host-ops" if console and console.identity == "iap" else "ops"


def _see_other(path: str) -> Response:
    return Response(status=303, headers={"Location": path})
