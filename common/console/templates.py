"""Render the console's templates."""

import functools
import hashlib
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from http.client import INTERNAL_SERVER_ERROR
from pathlib import Path
from typing import Any

import jinja2
from flask import Response, request

from common.console import access
from common.console.access import Operator
from common.console.actions import ENTERED, Action, Values, title
from common.console.catalogue import title_of
from common.console.lists import path_back
from common.domain.model import ItemStatus
from common.errors import ServiceError
from common.operations.lookup.charts import Chart
from common.operations.lookup.find import Count
from common.store.paging import MAX_ROWS_SCANNED
from common.telemetry import logs

HTML = "text/html; charset=utf-8"
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


class Templates:
    """The templates of a folder, and their style sheet."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            trim_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.filters.update(
            moment=_moment,
            iso=datetime.isoformat,
            age=_age,
            price=_price,
            counted=_counted,
            title_of=title_of,
        )
        self._templates.globals["statuses"] = {each: each.label for each in ItemStatus}

    @functools.cached_property
    def style(self) -> tuple[bytes, str]:
        """The style sheet, and a tag of its content."""
        content = (self._folder / "console.css").read_bytes()
        return content, hashlib.sha256(content).hexdigest()[:16]

    def render(
        self,
        name: str,
        operator: Operator | None,
        *,
        here: str | None = None,
        **variables: Any,  # noqa: ANN401 the template's own
    ) -> Response:
        """Return a page; `here` is its path below the console's root, for the menu."""
        context = logs.current()
        request_id = context.request_id if context else ""
        text = self._templates.get_template(f"{name}.html").render(
            variables,
            operator=operator,
            here=here,
            request_id=request_id,
            style_tag=self.style[1],
            has_traces="X-Local-Run" in request.headers,  # a page of its gateway
        )
        headers = {"Cache-Control": "no-store"}
        return Response(text, headers=headers, content_type=HTML)

    def render_form(  # noqa: PLR0913 all that a form shows
        self,
        operator: Operator,
        action: Action,
        values: Values,
        *,
        changes: Sequence[str],
        error: ServiceError | None,
        reason: str,
        cookie: tuple[str, str | None],
    ) -> Response:
        """Return the form of an action, signed for this browser's cookie.

        Without `changes` it cannot be sent, but what was entered can be corrected.
        """
        name, secret = cookie
        is_new = not access.is_cookie(secret)
        if is_new or secret is None:
            secret = access.new_cookie()
        response = self.render(
            "confirm",
            operator,
            action=action,
            title=title(action, values),
            values=values,
            entered=[each for each in action.values if each in ENTERED],
            effects=changes,
            error=error,
            reason=reason,
            token=access.sign(access.Form(operator.email, action.name, values), secret),
            back=path_back(values),
        )
        if error is not None:
            response.status_code = error.status
        if is_new:
            response.set_cookie(
                name,
                secret,
                secure=name.startswith("__Host-"),
                httponly=True,
                samesite="Strict",
            )
        return response

    def draw(self, chart: Chart) -> Response:
        """Return a bar chart as an image, with a bar of each series at each label."""
        labels, values = zip(*chart.rows, strict=True)
        series = dict(zip(chart.series, zip(*values, strict=True), strict=True))
        image = self._templates.get_template("chart.svg").render(
            title=chart.title,
            labels=labels,
            series=series,
            ticks=_ticks(max(map(max, series.values()))),
        )
        headers = {"Cache-Control": "private, max-age=60"}
        return Response(image, headers=headers, mimetype="image/svg+xml")

    def replace_problem(self, response: Response, *, is_write: bool) -> None:
        """Replace the problem document in a response by a page; its status stays.

        A write that fails on our side may have failed after its effect.
        """
        problem = response.get_json()
        page = self.render(
            "error",
            None,
            title=problem["title"],
            detail=problem["detail"],
            is_undone=not is_write or response.status_code < INTERNAL_SERVER_ERROR,
        )
        response.set_data(page.get_data())
        response.headers["Content-Type"] = HTML
        response.headers["Cache-Control"] = "no-store"


def _ticks(most: int) -> range:
    """Return at most six even steps from 0 to `most` or the next step above it."""
    sizes = (unit * 10**power for power in itertools.count() for unit in (1, 2, 5))
    step = next(size for size in sizes if most <= 5 * size)
    return range(0, -(-max(most, 1) // step) * step + 1, step)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _age(seconds: int) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


def _price(minor: int) -> str:
    return f"{minor // 100:,}.{minor % 100:02}"


def _counted(count: Count) -> str:
    """Return how many there are; of a long list, among how many that is."""
    if count.is_whole:
        return f"{count.number:,}"
    if count.number >= MAX_ROWS_SCANNED:
        return f"{count.number:,} or more"
    return f"{count.number:,} among {MAX_ROWS_SCANNED:,}"
