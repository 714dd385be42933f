"""/ops/: what operators see and do, as pages that need no script.

An action takes two requests: a page that says what will happen, and that page's form.
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import functions_framework
from flask import Request, Response, request
from werkzeug.datastructures import MultiDict

from common import startup, wiring
from common.console import access, audit, reads
from common.console import actions as console_actions
from common.console import pages as console_pages
from common.console.access import Form, Operator
from common.console.actions import ACTIONS, Action
from common.console.audit import Asked
from common.console.timeline import entries
from common.database.engine import connect
from common.domain.orders import TRANSITIONS
from common.errors import ForbiddenError, InvalidRequestError, NotFoundError
from common.messaging import dead_letters
from common.messaging.pending import Bus
from common.operations import diagnosis, event_log
from common.store import orders, paging, timeline
from common.telemetry import logs
from common.web.app import create_app, respond
from common.web.problems import PROBLEM_JSON

LISTED = 50
CHARTS = {"hours": "The last 24 hours", "days": "The last 30 days"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:;"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not `no-referrer`: a browser then says nothing of where a form comes from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

wiring.start("DATABASE", "EVENT_BUS", "OPS_IDENTITY", "PRODUCT_SERVICE")
app = create_app("ops_console", wiring.check_ready, headers=HEADERS)
pages = console_pages.Pages(Path(__file__).parent / "pages")


@app.after_request
def show_problem(response: Response) -> Response:
    """Return a page in place of a problem document; its status stays."""
    if response.mimetype == PROBLEM_JSON and not request.path.startswith("/health/"):
        context = logs.current()
        pages.replace_problem(response, context.request_id if context else "")
    return response


def _operator() -> Operator:
    console = startup.settings().console
    assert console is not None, "config.load has checked it"
    return access.identify(request.headers, console)


def _actor() -> Operator:
    """Return who is at the console; raise ForbiddenError for who may only look."""
    operator = _operator()
    if not operator.may_act:
        raise ForbiddenError(f"{operator.email} may only look.")
    return operator


def _see_other(path: str) -> Response:
    return Response(status=303, headers={"Location": path})


def _given() -> MultiDict[str, str]:
    """Return the query's parameters; a form sends empty ones for what is not asked."""
    filled = [(k, v.strip()) for k, v in request.args.items(multi=True) if v.strip()]
    return MultiDict(filled)


@app.get("/")
def root() -> Response:
    """Lead to the console's own path."""
    return _see_other("/ops/")


@app.get("/ops/console.css")
def style() -> Response:
    """Return the style of all pages, for as long as a page names this version."""
    content, tag = pages.style
    response = Response(content, mimetype="text/css")
    is_this_one = request.args.get("v") == tag
    kept = "public, max-age=31536000, immutable" if is_this_one else "no-cache"
    response.headers["Cache-Control"] = kept
    return response


@app.get("/ops")
def home() -> Response:
    """Show how things stand."""
    operator = _operator()
    served = {*startup.settings().bus, "analytics"}
    with connect(wiring.engine()) as connection:
        found = diagnosis.examine(connection, served)
    complaints = [line.partition(";")[0] for line in found.complaints]
    most = diagnosis.LISTED
    shown = {"found": found, "complaints": complaints, "most": most}
    return pages.render("home", operator, here="", **shown)


def _counted(name: str) -> list[tuple[str, int, int, int]]:
    if name not in CHARTS:
        raise NotFoundError
    with connect(wiring.engine()) as connection:
        return console_pages.counted(connection, name, datetime.now(UTC))


@app.get("/ops/charts/<name>.svg")
def draw_chart(name: str) -> Response:
    """Return a chart as an image."""
    _operator()
    labels, *series = zip(*_counted(name), strict=True)
    named = zip(("orders", "approvals", "dead letters"), series, strict=True)
    return pages.draw(CHARTS[name], labels, dict(named))


@app.get("/ops/charts/<name>")
def show_chart(name: str) -> Response:
    """Show a chart with its numbers."""
    operator = _operator()
    rows = _counted(name)
    return pages.render("chart", operator, chart=name, title=CHARTS[name], rows=rows)


@app.get("/ops/orders")
def find_orders() -> Response:
    """Find orders; an id leads to that order."""
    operator, given = _operator(), _given()
    if "id" in given:
        query = paging.parse_query(given, {"id": paging.parse_id})
        return _see_other(f"/ops/orders/{query.filters['id']}/")
    query = paging.parse_query(given, console_pages.ORDER_FILTERS)
    with connect(wiring.engine()) as connection:
        page = reads.find(
            connection, query.filters, limit=query.limit, after=query.after
        )
    older = None
    if page.next_after is not None:
        older = paging.next_query(given, page.next_after)
    names = ("id", *console_pages.ORDER_FILTERS)
    args = {name: given.get(name, "") for name in names}
    return pages.render(
        "orders", operator, here="orders/", page=page, args=args, older=older
    )


@app.get("/ops/orders/<id:order_id>")
def show_order(order_id: int) -> Response:
    """Show one order, or what is left of it, with a page of its timeline."""
    operator = _operator()
    asked = paging.parse_query(_given(), {"before": paging.parse_id}).filters
    snapshot = None
    with connect(wiring.engine()) as connection:
        page = timeline.read_whole(connection, order_id, **asked)
        actions = reads.read_actions_of_order(connection, order_id)
        with suppress(NotFoundError):
            snapshot = orders.load(connection, orders.Target(order_id=order_id))
    return pages.render(
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
    """List events that wait, are held or were sent."""
    operator, given = _operator(), _given()
    query = console_pages.events_query(given)
    with connect(wiring.engine()) as connection:
        rows = event_log.read_many(connection, query)
    return pages.render("events", operator, here="events/", rows=rows, query=query)


@app.get("/ops/events/<id:order_id>/<uuid:event_id>")
def show_event(order_id: int, event_id: Any) -> Response:  # noqa: ANN401 a UUID
    """Show an event for each of its destinations."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        rows = event_log.read(connection, event_id, order_id)
    return pages.render("event", operator, rows=rows)


@app.get("/ops/letters")
def list_letters() -> Response:
    """List dead letters, oldest first."""
    operator, given = _operator(), _given()
    parsers = {"after": paging.parse_id, "all": paging.parse_bool}
    known = paging.parse_query(given, parsers).filters
    with_settled = known.get("all", False)
    with connect(wiring.engine()) as connection:
        letters = dead_letters.read_many(
            connection,
            limit=LISTED,
            with_settled=with_settled,
            after=known.get("after", 0),
        )
    after = letters[-1].id if len(letters) == LISTED else None
    shown = {"letters": letters, "with_settled": with_settled, "after": after}
    return pages.render("letters", operator, here="letters/", **shown)


@app.get("/ops/letters/<id:letter_id>")
def show_letter(letter_id: int) -> Response:
    """Show one dead letter, with what it says."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        letter = dead_letters.read(connection, letter_id)
    shown = console_pages.contents(letter)
    return pages.render("letter", operator, letter=letter, **shown)


@app.get("/ops/actions")
def list_actions() -> Response:
    """List what operators did, newest first."""
    operator = _operator()
    known = paging.parse_query(_given(), {"up_to": paging.parse_id}).filters
    with connect(wiring.engine()) as connection:
        found = reads.read_actions(connection, limit=LISTED + 1, **known)
    up_to = found[LISTED].id if len(found) > LISTED else None
    shown = {"actions": found[:LISTED], "up_to": up_to}
    return pages.render("actions", operator, here="actions/", **shown)


@app.get("/ops/actions/<id:action_id>")
def show_action(action_id: int) -> Response:
    """Show one action, and how it ended."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        found = reads.read_actions(connection, limit=1, up_to=action_id)
    if not found or found[0].id != action_id:
        raise NotFoundError(f"There is no action {action_id}.")
    title = ACTIONS[found[0].action].title if found[0].action in ACTIONS else ""
    return pages.render("action", operator, one=found[0], title=title)


def _asked_for(name: str, given: MultiDict[str, str]) -> tuple[Action, dict[str, str]]:
    """Return the action and its values; raise NotFoundError or InvalidRequestError."""
    if name not in ACTIONS:
        raise NotFoundError
    action = ACTIONS[name]
    for value in action.values:
        if value not in given:
            raise InvalidRequestError.of(value, "is required")
    return action, {value: given[value].strip() for value in action.values}


def _effects(action: Action, values: dict[str, str], operator: Operator) -> list[str]:
    """Return what would happen, a sentence each; raise what the action would."""
    engine = wiring.engine()
    if action.decide is None:
        with connect(engine) as connection:
            return console_pages.told(connection, values)
    snapshot, change = console_actions.preview(engine, action, values, operator.id)
    if action.name == "set-quantity":
        seconds = startup.settings().upstream_deadline_seconds
        console_pages.check_stock(snapshot, values, wiring.product(), seconds)
    return console_pages.effects(snapshot, change, startup.settings().bus)


def _cookie_name() -> str:
    console = startup.settings().console
    return "__Host-ops" if console and console.identity == "iap" else "ops"


@app.get("/ops/do/<name>")
def ask(name: str) -> Response:
    """Show what an action will do, and ask for the reason. Nothing is done."""
    operator = _actor()
    action, values = _asked_for(name, request.args)
    effects = _effects(action, values, operator)
    cookie = request.cookies.get(_cookie_name())
    is_new = not access.is_cookie(cookie)
    secret = access.new_cookie() if is_new or cookie is None else cookie
    response = pages.render(
        "confirm",
        operator,
        action=action,
        values=values,
        effects=effects,
        token=access.sign(Form(operator.email, name, values), secret),
        back=console_pages.back(values),
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
    """Do it, once, and lead to its entry."""
    operator = _actor()
    access.check_origin(request.headers, request.host)
    action, values = _asked_for(name, request.form)
    form_id = access.check(
        request.form.get("token", ""),
        Form(operator.email, name, values),
        request.cookies.get(_cookie_name()),
    )
    asked = Asked(
        form_id=form_id,
        operator=operator.email,
        operator_id=operator.id,
        reason=console_actions.check_reason(request.form.get("reason", "")),
        values=values,
    )
    engine = wiring.engine()
    if name == "set-quantity" and audit.is_new(engine, form_id):
        _effects(action, values, operator)  # the stock may have changed meanwhile
    bus = Bus(startup.settings().bus)
    id_ = audit.perform(engine, bus, action, asked)
    return _see_other(f"/ops/actions/{id_}/")


@functions_framework.http
def ops_console(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)
