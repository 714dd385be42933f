"""Use the operations console as an operator does: read pages and send forms.

A form is sent with exactly the fields of its page.
"""

from html.parser import HTMLParser
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.service import Service

ORIGIN = "http://localhost"
OPERATOR = "olga@example.com"
Json = dict[str, Any]


class _Page(HTMLParser):
    """What a test asks of a page: its fields, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note fields and links."""
        given = {name: value or "" for name, value in attrs}
        if tag == "input" and "name" in given:
            self.fields[given["name"]] = given.get("value", "")
        if tag == "a":
            self.links.append(given.get("href", ""))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.words += data.split()

    @property
    def text(self) -> str:
        """Return the words of the page, one blank between them."""
        return " ".join(self.words)


def read(response: TestResponse) -> _Page:
    """Return a page, which must be one."""
    assert response.mimetype == "text/html", response.get_data(as_text=True)
    return _Page(response.get_data(as_text=True))


class Console:
    """The console of a service, for one operator with one browser."""

    def __init__(self, service: Service, email: str | None = OPERATOR) -> None:
        self.service = service
        self.headers = {"X-Ops-Operator": email} if email else {}
        loaded = service.client("ops_console")
        self.client: FlaskClient = loaded.application.test_client()

    def get(self, path: str, **headers: str) -> TestResponse:
        """Ask for a page below /ops/."""
        return self.client.get(f"/ops/{path}", headers=self.headers | headers)

    def text(self, path: str) -> str:
        """Return the words of a page."""
        response = self.get(path)
        assert response.status_code == 200, response.get_data(as_text=True)
        return read(response).text

    def ask(self, action: str, **values: object) -> TestResponse:
        """Ask for an action's page."""
        given = {name: str(value) for name, value in values.items()}
        return self.client.get(
            f"/ops/do/{action}/", query_string=given, headers=self.headers
        )

    def form(self, action: str, **values: object) -> dict[str, str]:
        """Ask for an action's page; return the fields of its form."""
        response = self.ask(action, **values)
        assert response.status_code == 200, read(response).text
        return read(response).fields

    def send(
        self,
        action: str,
        fields: dict[str, str],
        reason: str = "a customer called",
        **headers: str,
    ) -> TestResponse:
        """Send a form of `form`."""
        sent = {"Origin": ORIGIN} | headers
        return self.client.post(
            f"/ops/do/{action}/",
            data=fields | {"reason": reason},
            headers=self.headers | {k.replace("_", "-"): v for k, v in sent.items()},
        )

    def act(self, action: str, **values: object) -> TestResponse:
        """Do it as an operator does: page, reason, button."""
        return self.send(action, self.form(action, **values))

    def actions(self) -> list[dict[str, Any]]:
        """Return the entries of `operator_actions`, oldest first."""
        return self.service.rows("SELECT * FROM operator_actions ORDER BY id")

    def version(self, order: dict[str, Any]) -> int:
        """Return an order's version."""
        [row] = self.service.rows(
            "SELECT version FROM orders WHERE id = :id", id=order["id"]
        )
        return int(row["version"])
