"""/ops/: the operators' console, as pages that need no script.

An action takes two requests: a page that shows what will happen, and its form.
"""

import itertools
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http.client import INTERNAL_SERVER_ERROR
from pathlib import Path
from uuid import UUID

import functions_framework
from flask import Request, Response, request

from common import startup, wiring
from common.config.settings import Console
from common.console import (
    access,
    audit,
    catalogue,
    effects,
    lists,
    order_page,
)
from common.console.access import Form, Operator
from common.console.actions import (
    ENTERED,
    Action,
    Values,
    at_current_version,
    check_reason,
    take_values,
)
from common.console.audit import SentForm
from common.console.templates import HEADERS, Templates
from common.console.timeline import entries
from common.database.engine import connect
from common.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    ServiceError,
)
from common.messaging import dead_letters
from common.messaging.pending import Bus
from common.operations import diagnosis, event_log
from common.operations.lookup import actions as action_log
from common.operations.lookup import charts, letters, search, takeaway
from common.store import orders, paging, timeline
from common.web.app import create_app, respond
from common.web.problems import PROBLEM_JSON

REFRESH_SECONDS = 30
LISTED = f"any({', '.join(lists.LISTS)})"  # in a path

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
    """Show what needs attention, each destination, and charts; refresh unless told."""
    operator = _operator()
    is_refreshed = request.args.get("refresh") != "off"
    with connect(wiring.engine()) as connection:
        diagnosed = diagnosis.examine(connection)
    response = templates.render(
        "home",
        operator,
        here="",
        diagnosis=diagnosed,
        max_listed=diagnosis.MAX_LISTED,
        charts=charts.TITLES,
        refresh_seconds=REFRESH_SECONDS if is_refreshed else None,
        now=datetime.now(UTC),
    )
    if is_refreshed:
        response.headers["Refresh"] = str(REFRESH_SECONDS)
    return response


@app.get("/ops/search")
def find_anything() -> Response:
    """Find what a number, a UUID or a text names; redirect to a single hit."""
    operator = _operator()
    text = request.args.get("q", "").strip()
    with connect(wiring.engine()) as connection:
        hits = search.search(connection, text)
    if len(hits) == 1:
        return _see_other(f"/ops/{hits[0].path}")
    return templates.render("search", operator, here="search/", text=text, hits=hits)


@app.get("/ops/charts/<name>.svg")
def draw_chart(name: str) -> Response:
    """Return a chart as an image."""
    _operator()
    return templates.draw(charts.chart(wiring.engine(), name))


@app.get("/ops/charts/<name>")
def show_chart(name: str) -> Response:
    """Show a chart with its numbers."""
    return templates.render(
        "chart", _operator(), chart=charts.chart(wiring.engine(), name)
    )


@app.get(f"/ops/<{LISTED}:name>")
def show_list(name: str) -> Response:
    """Show a page of a list: orders, events, dead letters, or what operators did."""
    operator, listing = _operator(), lists.LISTS[name]
    query = listing.query(request.args)
    with connect(wiring.engine()) as connection:
        page = listing.read(connection, query)
        counted = listing.count(connection, query)
        groups = letters.groups(connection) if name == "letters" else []
    return templates.render(
        name,
        operator,
        here=f"{name}/",
        page=page,
        counted=counted,
        groups=groups,
        fields=listing.fields(request.args),
        chosen=paging.filters_query(query),
        next_page=page.next_after and paging.next_query(query, page.next_after),
    )


@app.get(f"/ops/<{LISTED}:name>.<any({', '.join(takeaway.FORMATS)}):form>")
def take_away(name: str, form: str) -> Response:
    """Return a whole list as CSV or as lines of JSON; `resume` is the last id seen."""
    _operator()
    arguments = lists.filled(request.args)
    query = lists.LISTS[name].query(arguments)
    resume = paging.parse_parameters(arguments, {"resume": paging.parse_id})
    text = takeaway.stream(
        wiring.engine(), lists.LISTS[name].take_away(query), form, **resume
    )
    first = next(text)  # which may fail, while there is a status to say so
    kind = "text/csv" if form == "csv" else "application/x-ndjson"
    response = Response(itertools.chain([first], text), mimetype=kind)
    file = f'attachment; filename="{name}.{form}"'
    response.headers["Content-Disposition"] = file
    response.headers["Cache-Control"] = "no-store"
    return response


@app.get("/ops/orders/<id:order_id>")
def show_order(order_id: int) -> Response:
    """Show one order, even a deleted one, with a page of its timeline."""
    operator = _operator()
    before = paging.parse_query(
        lists.filled(request.args), {"before": paging.parse_id}
    ).filters
    snapshot = None
    with connect(wiring.engine()) as connection:
        page = timeline.read_whole(connection, order_id, **before)
        done = action_log.read_of_order(connection, order_id)
        titles = order_page.titles(connection, order_id)
        with suppress(NotFoundError):
            snapshot = orders.load(connection, orders.Target(order_id=order_id))
    return templates.render(
        "order",
        operator,
        id=order_id,
        snapshot=snapshot,
        titles=titles,
        total=snapshot and order_page.total_minor(snapshot),
        choices=snapshot and order_page.choices(snapshot, operator.id),
        timeline=entries(page, done),
        page=page,
        user_url=_console().user_url,
    )


@app.get("/ops/events/<id:order_id>/<uuid:event_id>")
def show_event(order_id: int, event_id: UUID) -> Response:
    """Show an event for each of its destinations."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        rows = event_log.read(connection, event_id, order_id)
    return templates.render("event", operator, rows=rows)


@app.get("/ops/letters/<id:dead_letter_id>")
def show_dead_letter(dead_letter_id: int) -> Response:
    """Show one dead letter, with its headers and body."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        found = dead_letters.read(connection, dead_letter_id)
    return templates.render(
        "dead_letter", operator, dead_letter=found, **lists.contents(found)
    )


@app.get("/ops/actions/<id:action_id>")
def show_action(action_id: int) -> Response:
    """Show one action, and its outcome."""
    operator = _operator()
    with connect(wiring.engine()) as connection:
        query = action_log.Query(limit=1, after=action_id + 1)
        found = action_log.read_page(connection, query).rows
    if not found or found[0].id != action_id:
        raise NotFoundError(f"There is no action {action_id}.")
    return templates.render("action", operator, action=found[0])


@app.get("/ops/do/<name>")
def confirm(name: str) -> Response:
    """Show what an action will do, and ask for the reason. Nothing is done."""
    operator, action = _operator().acting(), catalogue.action(name)
    values = {value: request.args.get(value, "").strip() for value in action.values}
    try:
        values = take_values(action, request.args)
        changes = _effects(action, values, operator)
    except InvalidRequestError as error:
        if not (error.errors or {}).keys() <= set(ENTERED):
            raise
        return _form(operator, action, values, error=error)
    return _form(operator, action, values, changes=changes)


@app.post("/ops/do/<name>")
def act(name: str) -> Response:
    """Do the action, once, and redirect to its entry; else show its form again."""
    operator, action = _operator().acting(), catalogue.action(name)
    access.check_origin(request.headers, request.host)
    values = take_values(action, request.form)
    form_id = access.check(
        request.form.get("token", ""),
        Form(operator.email, name, values),
        request.cookies.get(_cookie_name()),
    )
    try:
        if form_id is None:
            raise ForbiddenError("This form is too old: look again, and send it.")
        form = SentForm(
            form_id=form_id,
            operator=operator.email,
            operator_id=operator.id,
            reason=check_reason(request.form.get("reason", "")),
            values=values,
        )
        engine, added = wiring.engine(), None
        if audit.is_new(engine, form_id):  # the stock may have changed meanwhile
            added = effects.prepare(engine, _siblings(), action, values)
        bus = Bus(startup.settings().bus)
        entry_id = audit.perform(engine, bus, action, form, added)
    except ServiceError as error:
        if error.status >= INTERNAL_SERVER_ERROR:
            raise  # perhaps it was done
        return _form_again(operator, action, values, error)
    return _see_other(f"/ops/actions/{entry_id}/")


@functions_framework.http
def ops_console(request: Request) -> Response:
    """Return the response to one request; the framework's target."""
    return respond(app, request)


def _console() -> Console:
    console = startup.settings().console
    assert console is not None, "checked at start"
    return console


def _operator() -> Operator:
    return access.identify(request, _console())


def _siblings() -> effects.Siblings:
    settings = startup.settings()
    return effects.Siblings(wiring.product(), settings.upstream_deadline_seconds)


def _effects(action: Action, values: Values, operator: Operator) -> list[str]:
    bus = startup.settings().bus
    engine = wiring.engine()
    return effects.describe(engine, _siblings(), bus, action, values, operator.id)


def _form(
    operator: Operator,
    action: Action,
    values: Values,
    changes: Sequence[str] = (),
    error: ServiceError | None = None,
) -> Response:
    """Return the form of an action, which can be sent if its changes are known."""
    return templates.render_form(
        operator,
        action,
        values,
        changes=changes,
        error=error,
        reason=request.form.get("reason", ""),
        cookie=(_cookie_name(), request.cookies.get(_cookie_name())),
    )


def _form_again(
    operator: Operator, action: Action, values: Values, error: ServiceError
) -> Response:
    """Return the form with what was entered, for the order as it is now."""
    if isinstance(error, PreconditionFailedError):
        values = at_current_version(wiring.engine(), values)
    changes: list[str] = []
    with suppress(ServiceError):
        changes = _effects(action, values, operator)
    return _form(operator, action, values, changes, error)


def _cookie_name() -> str:
    return "__Host-ops" if _console().identity == "iap" else "ops"


def _see_other(path: str) -> Response:
    return Response(status=303, headers={"Location": path})
